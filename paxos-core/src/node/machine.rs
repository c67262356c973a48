//! Where the state machine works: in the driver's own turn, or on a thread of its own.
//!
//! A state machine that does not block is applied in the turn in which its slot was chosen, which
//! costs no hop between tasks. One that blocks for long (it waits for a disk) would hold up the driver,
//! and with it the heartbeats. The embedder says so; or it is noticed, the first time that a piece of
//! work takes longer than a heartbeat, and said in the log.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{
    applier::{Applier, Position, Responses, Work},
    error::NodeError,
    lifecycle::joined,
};
use crate::port::StateMachine;

/// What became of a piece of work on another thread.
struct Done<S: StateMachine> {
    applier: Applier<S>,
    responses: VecDeque<Responses<S::Response>>,
    result: Result<Option<Position>, NodeError>,
}

enum Place<S: StateMachine> {
    Here(Box<Applier<S>>),
    /// At work on a thread.
    Away(JoinHandle<Done<S>>),
    /// It has panicked.
    Gone,
}

/// The state machine, wherever it is, and what waits for it.
pub(super) struct Machine<S: StateMachine> {
    place: Place<S>,
    /// Whether it works on a thread of its own.
    blocks: bool,
    /// Longer than this it must not take here.
    patience: Duration,
    waiting: Work<S>,
    responses: VecDeque<Responses<S::Response>>,
}

impl<S: StateMachine> Machine<S> {
    pub(super) fn new(state_machine: S, blocks: bool, patience: Duration) -> Self {
        Machine {
            place: Place::Here(Box::new(Applier::new(state_machine))),
            blocks,
            patience,
            waiting: Work::default(),
            responses: VecDeque::new(),
        }
    }

    /// What is to be done next; [`start`](Machine::start) begins it.
    pub(super) fn waiting(&mut self) -> &mut Work<S> {
        &mut self.waiting
    }

    /// Begins what waits, unless other work is under way. Work that does not block is done when
    /// this returns.
    pub(super) fn start(&mut self) -> Result<Option<Position>, NodeError> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        match std::mem::replace(&mut self.place, Place::Gone) {
            Place::Here(mut applier) if !self.blocks => {
                let began = Instant::now();
                let position = applier.work(&mut self.waiting, &mut self.responses);
                self.place = Place::Here(applier);
                self.notice(began.elapsed());
                position
            }
            Place::Here(applier) => {
                let work = std::mem::take(&mut self.waiting);
                self.place = Place::Away(tokio::task::spawn_blocking(|| away(*applier, work)));
                Ok(None)
            }
            place => {
                self.place = place;
                Ok(None)
            }
        }
    }

    fn notice(&mut self, took: Duration) {
        if took > self.patience {
            self.blocks = true;
            tracing::warn!(
                ?took,
                "the state machine blocks: from now on it works on a thread of its own; say so \
                 with NodeBuilder::blocking_state_machine"
            );
        }
    }

    /// Whether work is under way on another thread.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.place, Place::Away(_))
    }

    /// Waits for the work under way on another thread.
    pub(super) fn poll_done(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Position>, NodeError>> {
        let Place::Away(handle) = &mut self.place else { return Poll::Pending };
        let Poll::Ready(joined_result) = Pin::new(handle).poll(cx) else { return Poll::Pending };
        self.place = Place::Gone;
        Poll::Ready(joined("state machine", joined_result).and_then(|done| {
            let Done { applier, mut responses, result } = done;
            self.place = Place::Here(Box::new(applier));
            self.responses.append(&mut responses);
            result
        }))
    }

    /// The responses of slots that have been applied and not asked for.
    pub(super) fn responses(&mut self) -> &mut VecDeque<Responses<S::Response>> {
        &mut self.responses
    }

    /// Does what is left to do and makes the state durable.
    pub(super) async fn finish(mut self) -> Result<(), NodeError> {
        loop {
            self.start()?;
            if !self.is_away() {
                break;
            }
            std::future::poll_fn(|cx| self.poll_done(cx)).await?;
        }
        match self.place {
            Place::Here(mut applier) if self.blocks => {
                let flushed = tokio::task::spawn_blocking(move || applier.flush()).await;
                joined("state machine", flushed)?
            }
            Place::Here(mut applier) => applier.flush(),
            Place::Away(_) | Place::Gone => Ok(()),
        }
    }
}

fn away<S: StateMachine>(mut applier: Applier<S>, mut work: Work<S>) -> Done<S> {
    let mut responses = VecDeque::new();
    let result = applier.work(&mut work, &mut responses);
    Done { applier, responses, result }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, thread};

    use super::*;
    use crate::{
        replica::{Delivery, Verdict},
        types::{BatchBuilder, ClientId, RequestId, Slot, Value},
    };

    /// Says on which thread it works; sleeps as long as it is told.
    struct Sleeper;

    impl StateMachine for Sleeper {
        type Command = u64;
        type Response = thread::ThreadId;

        fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<thread::ThreadId> {
            let sleep = |millis| {
                thread::sleep(Duration::from_millis(millis));
                thread::current().id()
            };
            commands.into_iter().map(sleep).collect()
        }
    }

    fn delivery(slot: u64, millis: u64) -> Delivery {
        let client = ClientId { name: 1, epoch: 1 };
        let mut builder = BatchBuilder::default();
        let command = crate::port::Codec::encode(&millis);
        builder.push(RequestId { client, sequence: slot }, 1, command);
        let value = Value::Batch(builder.build().expect("a command"));
        Delivery {
            slot: Slot(slot),
            value,
            verdicts: [(0..1, Verdict::Fresh)].into_iter().collect(),
        }
    }

    async fn apply(machine: &mut Machine<Sleeper>, delivery: Delivery) -> thread::ThreadId {
        let slot = delivery.slot;
        machine.waiting().deliveries.push(delivery);
        let mut position = machine.start().expect("it works");
        if machine.is_away() {
            position = poll_fn(|cx| machine.poll_done(cx)).await.expect("it works");
        }
        assert_eq!(position.map(|position| position.applied), Some(slot));
        let mut responses = machine.responses().pop_front().expect("of the slot");
        responses.take(0, false).expect("not of before").expect("a response")
    }

    #[tokio::test]
    async fn a_state_machine_that_blocks_is_noticed_and_works_on_another_thread_from_then_on() {
        let patience = Duration::from_millis(20);
        let mut machine = Machine::new(Sleeper, false, patience);
        let here = thread::current().id();
        assert_eq!(apply(&mut machine, delivery(1, 0)).await, here);
        assert_eq!(apply(&mut machine, delivery(2, 40)).await, here);
        assert_ne!(apply(&mut machine, delivery(3, 0)).await, here);
        assert!(machine.finish().await.is_ok());
    }

    #[tokio::test]
    async fn one_that_is_said_to_block_never_works_here() {
        let mut machine = Machine::new(Sleeper, true, Duration::from_secs(1));
        assert_ne!(apply(&mut machine, delivery(1, 0)).await, thread::current().id());
    }
}
