//! Where the state machine works: in the driver's own turn, or on a thread of its own.
//!
//! A state machine that does not block is applied in the turn in which its slot was chosen, which
//! costs no hop between tasks. One that blocks for long (it waits for a disk) would hold up the driver,
//! and with it the heartbeats: it works on a thread of its own. The embedder says that it does; or it
//! is noticed when pieces of work take longer than a heartbeat (see [`suspicion`](super::suspicion) and
//! [`desk`](super::desk)), and said in the log.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    sync::oneshot,
    task::{JoinHandle, block_in_place, spawn_blocking},
};
use tracing::Span;

use super::{
    applier::{Applier, Position, Responses, Results, Work},
    error::NodeError,
    reads::{self, AtWork, Read},
    suspicion::{Finding, Suspicion},
};
use crate::{
    message::StateDigest,
    port::StateMachine,
    replica::{SnapshotId, Task},
    types::{Instant, earliest},
};

/// The state machine and what it is to do, to be done anywhere.
pub(super) struct Job<S: StateMachine> {
    applier: Box<Applier<S>>,
    work: Work<S>,
    results: Results<S>,
}

/// What became of a [`Job`].
pub(super) struct Done<S: StateMachine> {
    job: Job<S>,
    result: Result<Option<Position>, NodeError>,
}

impl<S: StateMachine> Job<S> {
    pub(super) fn run(mut self) -> Done<S> {
        let result = self.applier.work(&mut self.work, &mut self.results);
        Done { job: self, result }
    }

    /// As [`run`](Job::run), on a worker of the runtime; if the job `may_block`, the worker goes on
    /// with everything else meanwhile, on a thread that takes this one's place.
    pub(super) fn run_aside(self, may_block: bool) -> Done<S> {
        if may_block { block_in_place(|| self.run()) } else { self.run() }
    }
}

enum Place<S: StateMachine> {
    Here(Box<Applier<S>>),
    /// At work: here, as long as the driver waits for it, or on another thread.
    Away(Option<oneshot::Receiver<Done<S>>>),
}

/// The state machine, wherever it is, and what waits for it.
pub(super) struct Machine<S: StateMachine> {
    place: Place<S>,
    /// Whether it works on a thread of its own.
    blocks: bool,
    suspicion: Suspicion,
    /// The node's, for what is said on other threads.
    span: Span,
    waiting: Work<S>,
    /// Of what has been done, and not asked for.
    results: Results<S>,
    at_work: AtWork<S>,
    /// No read that was given to it has an earlier deadline.
    earliest: Option<Instant>,
}

impl<S: StateMachine> Machine<S> {
    /// One that does not block may work for as long as `patience` in the driver's turn.
    pub(super) fn new(applier: Applier<S>, blocks: bool, patience: Duration, span: Span) -> Self {
        Machine {
            place: Place::Here(Box::new(applier)),
            blocks,
            suspicion: Suspicion::new(patience),
            span,
            waiting: Work::default(),
            results: Results::default(),
            at_work: AtWork::new(),
            earliest: None,
        }
    }

    /// What is to be done next.
    pub(super) fn tasks(&mut self) -> &mut Vec<Task> {
        &mut self.waiting.tasks
    }

    /// A read that sees all that is to be done next.
    pub(super) fn read(&mut self, read: Read<S>) {
        self.earliest = earliest([self.earliest, Some(read.deadline)]);
        self.waiting.reads.push(read);
    }

    /// When the first read has waited for long enough, if the state machine is elsewhere.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.earliest.filter(|_| matches!(self.place, Place::Away(_)))
    }

    /// Tells those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.earliest.is_some_and(|earliest| earliest <= now) {
            let lists = [self.at_work.list(), &mut self.waiting.reads];
            self.earliest = earliest(lists.map(|list| reads::expire(list, now)));
        }
    }

    pub(super) fn responses(&mut self) -> &mut VecDeque<Responses<S::Response>> {
        &mut self.results.responses
    }

    /// The snapshots taken since this was asked last.
    pub(super) fn snapshots(&mut self) -> std::vec::Drain<'_, (SnapshotId, S::Snapshot)> {
        self.results.snapshots.drain(..)
    }

    /// The digests of its state since this was asked last.
    pub(super) fn digests(&mut self) -> std::vec::Drain<'_, StateDigest> {
        self.results.digests.drain(..)
    }

    /// Takes out what waits, to be done at once and given to [`finish`](Machine::finish). What is to be
    /// done on a thread of its own is begun there, unless other work is under way.
    pub(super) fn next_job(&mut self) -> Option<Job<S>> {
        if self.waiting.is_empty() || matches!(self.place, Place::Away(_)) {
            return None;
        }
        let Place::Here(applier) = std::mem::replace(&mut self.place, Place::Away(None)) else {
            unreachable!("looked at it just now");
        };
        let work = std::mem::take(&mut self.waiting);
        self.at_work.add(&work.reads);
        let results = std::mem::take(&mut self.results);
        let blocks = self.blocks || work.blocks();
        let job = Job { applier, work, results };
        if !blocks {
            return Some(job);
        }
        let (sender, receiver) = oneshot::channel();
        self.place = Place::Away(Some(receiver));
        // If nobody waits for it any more, the node has ended.
        in_background(&self.span, || drop(sender.send(job.run())));
        None
    }

    /// Takes a job back; says how far the state machine has come, if anything was delivered to it.
    pub(super) fn finish(&mut self, done: Done<S>) -> Result<Option<Position>, NodeError> {
        let Done { job: Job { applier, mut work, results }, result } = done;
        assert!(matches!(self.place, Place::Away(_)), "there is one state machine");
        self.place = Place::Here(applier);
        self.at_work.clear();
        self.earliest = self.waiting.reads.iter().map(|read| read.deadline).min();
        if self.waiting.is_empty() {
            // Empty lists with room.
            std::mem::swap(&mut self.waiting, &mut work);
        }
        let later = std::mem::replace(&mut self.results, results);
        self.results.responses.extend(later.responses);
        self.results.snapshots.extend(later.snapshots);
        self.results.digests.extend(later.digests);
        result
    }

    /// The job that was taken out goes on without the driver, on the thread where it has blocked for so
    /// long already.
    pub(super) fn let_go(&mut self, done: oneshot::Receiver<Done<S>>, took: Duration) {
        assert!(matches!(self.place, Place::Away(None)), "the job was to be done at once");
        self.place = Place::Away(Some(done));
        let finding = self.suspicion.blocked();
        self.found(finding, took);
    }

    /// Whether a job that is done at once is to be done with precautions, and timed by itself.
    pub(super) fn is_suspected(&self) -> bool {
        self.suspicion.is_raised()
    }

    /// A job that was done at once has taken so long; with the turn before it, unless it was a suspect's.
    pub(super) fn notice(&mut self, took: Duration) {
        if let Some(finding) = self.suspicion.note(took) {
            self.found(finding, took);
        }
    }

    /// Says which setting would have helped.
    fn found(&mut self, finding: Finding, took: Duration) {
        let consequence = match finding {
            Finding::Suspected => "if it does so again soon, it will work on a thread of its own",
            Finding::Blocks => "from now on it works on a thread of its own",
        };
        self.blocks = finding == Finding::Blocks;
        tracing::warn!(
            ?took,
            "the state machine blocks: {consequence}; say so with NodeBuilder::blocking_state_machine"
        );
    }

    /// Waits for the job on another thread; for ever if there is none.
    pub(super) fn poll_done(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Position>, NodeError>> {
        let Place::Away(Some(receiver)) = &mut self.place else { return Poll::Pending };
        match Pin::new(receiver).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(done)) => Poll::Ready(self.finish(done)),
            Poll::Ready(Err(_)) => Poll::Ready(Err(NodeError::RuntimeEnded)),
        }
    }

    /// Does what is left to do and makes the state durable, on a thread of its own: it may never come back.
    pub(super) async fn end(mut self) -> Result<(), NodeError> {
        self.blocks = true;
        loop {
            let none = self.next_job();
            assert!(none.is_none(), "nothing is done here any more");
            let Place::Here(mut applier) = self.place else {
                poll_fn(|cx| self.poll_done(cx)).await?;
                continue;
            };
            let flushed = in_background(&self.span, move || applier.flush()).await;
            return flushed.unwrap_or(Err(NodeError::RuntimeEnded));
        }
    }

    /// Waits for what it is at, if anything.
    pub(super) async fn halt(mut self) {
        if matches!(self.place, Place::Away(Some(_))) {
            // The node ends for another reason already.
            drop(poll_fn(|cx| self.poll_done(cx)).await);
        }
    }
}

/// Works on a thread of its own, whose lines in the log are in this span.
fn in_background<R: Send + 'static>(
    span: &Span,
    work: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    let span = span.clone();
    spawn_blocking(move || span.in_scope(work))
}

#[cfg(test)]
mod tests {
    use std::{io, thread};

    use super::*;
    use crate::{
        node::inside::NodeKey,
        replica::{Delivery, Verdict},
        types::{BatchBuilder, ClientId, RequestId, Slot, Value},
    };

    const PATIENCE: Duration = Duration::from_millis(20);

    /// Says on which thread it works; sleeps as long as it is told.
    struct Sleeper;

    impl StateMachine for Sleeper {
        type Command = u64;
        type Response = thread::ThreadId;
        type Snapshot = ();

        fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<thread::ThreadId> {
            let sleep = |millis| {
                thread::sleep(Duration::from_millis(millis));
                thread::current().id()
            };
            commands.into_iter().map(sleep).collect()
        }

        fn snapshot(&self) {}

        fn restore(&mut self, _: Slot, _state: ()) -> io::Result<()> {
            Ok(())
        }
    }

    fn delivery(slot: u64, millis: u64) -> Delivery {
        let client = ClientId { name: 1, epoch: 1 };
        let mut builder = BatchBuilder::default();
        let command = crate::port::Codec::encode(&millis).expect("a number");
        builder.push(RequestId { client, sequence: slot }, 1, command);
        let value = Value::Batch(builder.build().expect("a command"));
        Delivery {
            slot: Slot(slot),
            value,
            verdicts: [(0..1, Verdict::Fresh)].into_iter().collect(),
        }
    }

    fn machine(blocks: bool) -> Machine<Sleeper> {
        let applier = Applier::new(NodeKey::new(), Sleeper, Box::new(|_| Box::new(io::empty())));
        Machine::new(applier, blocks, PATIENCE, Span::none())
    }

    async fn apply(machine: &mut Machine<Sleeper>, delivery: Delivery) -> thread::ThreadId {
        let slot = delivery.slot;
        machine.tasks().push(Task::Apply(delivery));
        let position = match machine.next_job() {
            Some(job) => machine.finish(job.run()).expect("it works"),
            None => poll_fn(|cx| machine.poll_done(cx)).await.expect("it works"),
        };
        assert_eq!(position.map(|position| position.applied), Some(slot));
        let mut responses = machine.responses().pop_front().expect("of the slot");
        responses.take(0, false).expect("not of before").expect("a response")
    }

    #[tokio::test]
    async fn a_state_machine_that_takes_long_twice_works_on_another_thread_from_then_on() {
        let mut machine = machine(false);
        let here = thread::current().id();
        for took in [Duration::ZERO, PATIENCE, 2 * PATIENCE, 2 * PATIENCE] {
            assert_eq!(apply(&mut machine, delivery(1, 0)).await, here);
            machine.notice(took);
        }
        assert_ne!(apply(&mut machine, delivery(2, 0)).await, here);
        assert!(machine.end().await.is_ok());
    }

    #[tokio::test]
    async fn one_that_is_said_to_block_never_works_here() {
        let mut machine = machine(true);
        assert_ne!(apply(&mut machine, delivery(1, 0)).await, thread::current().id());
    }
}
