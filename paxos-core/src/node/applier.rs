//! Owns the state machine: applies what is chosen, answers, and serves reads in between.
//!
//! Deliveries and confirmed reads come in one queue, so a read sees every delivery before it. The
//! queue needs no bound of its own: the replica stops delivering while `delivery_bytes_max` are not
//! applied, and takes `READS_MAX` reads.
//!
//! The state machine runs inside an async task, which costs no hop between threads. One that blocks
//! for long (it waits for a disk) holds up the other tasks of its thread meanwhile, so the builder
//! can be told that it does; then, on a runtime with several threads, the others move elsewhere.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{
    error::{NodeError, ProposeError},
    request::{ReadTask, Reply},
};
use crate::{
    port::{Codec, StateMachine},
    replica::{Delivery, Verdict},
    types::{Batch, Slot, Value},
};

/// Between two lines in the log about commands that do not decode.
const MALFORMED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Who waits for a command of a batch.
pub(super) struct Answer<R> {
    /// Where the command stands in the batch.
    pub(super) index: usize,
    pub(super) reply: Reply<R>,
}

/// A chosen slot and those who wait for it, in the order of its commands.
pub(super) struct Work<R> {
    pub(super) delivery: Delivery,
    pub(super) answers: Vec<Answer<R>>,
}

/// What one step of the replica means for the state machine.
pub(super) struct Packet<S: StateMachine> {
    /// The slots that hold commands, in order.
    pub(super) work: Vec<Work<S::Response>>,
    /// The last slot delivered, with or without commands; `None` if none was.
    pub(super) through: Option<Slot>,
    /// Reads to be served afterwards.
    pub(super) reads: Vec<ReadTask<S>>,
}

/// How far the state machine is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// The last slot applied.
    pub(super) slot: Slot,
    /// The last one that would survive a crash.
    pub(super) durable: Slot,
}

/// The task.
pub(super) struct Applier<S: StateMachine> {
    state_machine: S,
    packets: mpsc::UnboundedReceiver<Packet<S>>,
    local_reads: mpsc::Receiver<ReadTask<S>>,
    applied: watch::Sender<Applied>,
    /// What the state machine had applied when the node started: not to be applied again.
    recovered: Slot,
    /// Whether the thread is to be left to others while the state machine works.
    blocking: bool,
    malformed_logged: Option<tokio::time::Instant>,
}

impl<S: StateMachine> Applier<S> {
    pub(super) fn new(
        state_machine: S,
        packets: mpsc::UnboundedReceiver<Packet<S>>,
        local_reads: mpsc::Receiver<ReadTask<S>>,
        applied: watch::Sender<Applied>,
        blocking: bool,
    ) -> Self {
        let recovered = state_machine.applied();
        Applier {
            state_machine,
            packets,
            local_reads,
            applied,
            recovered,
            blocking,
            malformed_logged: None,
        }
    }

    /// Works until the driver has gone and everything it delivered is applied.
    pub(super) async fn run(mut self) -> Result<(), NodeError> {
        loop {
            tokio::select! {
                packet = self.packets.recv() => match packet {
                    Some(packet) => self.packet(packet).await?,
                    None => break,
                },
                Some(read) = self.local_reads.recv() => self.work(|applier| {
                    read(Ok(&applier.state_machine));
                }),
            }
        }
        self.work(|applier| applier.state_machine.flush());
        Ok(())
    }

    async fn packet(&mut self, packet: Packet<S>) -> Result<(), NodeError> {
        for work in packet.work {
            self.work(|applier| applier.apply(work))?;
            tokio::task::consume_budget().await;
        }
        if let Some(slot) = packet.through {
            let durable = self.state_machine.applied();
            self.applied.send_replace(Applied { slot, durable });
        }
        for read in packet.reads {
            self.work(|applier| read(Ok(&applier.state_machine)));
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    /// Has the state machine do something.
    fn work<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        if self.blocking { tokio::task::block_in_place(|| work(self)) } else { work(self) }
    }

    fn apply(&mut self, Work { delivery, answers }: Work<S::Response>) -> Result<(), NodeError> {
        let slot = delivery.slot;
        if slot <= self.recovered {
            return if answers.is_empty() {
                Ok(())
            } else {
                Err(NodeError::StateMachineAhead { slot })
            };
        }
        let Value::Batch(batch) = &delivery.value else { return Ok(()) };
        let (commands, replies) = self.decode(slot, batch, &delivery.verdicts, answers);
        if commands.is_empty() {
            return Ok(());
        }
        let count = commands.len();
        let responses = self.state_machine.apply(slot, commands);
        if responses.len() != count {
            let responses = responses.len();
            return Err(NodeError::Responses { slot, commands: count, responses });
        }
        let mut replies = replies.into_iter().peekable();
        for (position, response) in responses.into_iter().enumerate() {
            if let Some((_, reply)) = replies.next_if(|(of, _)| *of == position) {
                // Whoever has stopped waiting does not hear the response.
                drop(reply.send(Ok(response)));
            }
        }
        Ok(())
    }

    /// The commands of a batch that are to be applied, and who waits for which of them.
    ///
    /// A command that does not decode is left out: its bytes are the same on every node, and so a
    /// node that stopped because of it would stop again at every start, and all others with it.
    #[allow(clippy::type_complexity, reason = "a pair of lists, named right here")]
    fn decode(
        &mut self,
        slot: Slot,
        batch: &Batch,
        verdicts: &[(std::ops::Range<usize>, Verdict)],
        answers: Vec<Answer<S::Response>>,
    ) -> (Vec<S::Command>, Vec<(usize, Reply<S::Response>)>) {
        let mut commands = Vec::with_capacity(batch.len());
        let mut replies = Vec::with_capacity(answers.len());
        let mut answers = answers.into_iter().peekable();
        let fresh = verdicts.iter().filter(|(_, verdict)| *verdict == Verdict::Fresh);
        for index in fresh.flat_map(|(range, _)| range.clone()) {
            let reply = answers.next_if(|answer| answer.index == index).map(|answer| answer.reply);
            match S::Command::decode(batch.command(index)) {
                Ok(command) => {
                    replies.extend(reply.map(|reply| (commands.len(), reply)));
                    commands.push(command);
                }
                Err(error) => {
                    self.log_malformed(slot, index, &error);
                    if let Some(reply) = reply {
                        drop(reply.send(Err(ProposeError::Malformed)));
                    }
                }
            }
        }
        (commands, replies)
    }

    fn log_malformed(&mut self, slot: Slot, index: usize, error: &crate::port::CodecError) {
        let now = tokio::time::Instant::now();
        let is_due = self
            .malformed_logged
            .is_none_or(|last| now.duration_since(last) >= MALFORMED_LOG_INTERVAL);
        if is_due {
            self.malformed_logged = Some(now);
            tracing::error!(
                %slot, index, %error,
                "a chosen command does not decode and is skipped: check that every node runs the \
                 same version"
            );
        }
    }
}
