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
    planted::planted,
    port::{Codec, StateMachine},
    replica::{Delivery, Verdict},
    types::{Batch, ClientId, RequestId, Slot, Value},
};

/// Between two lines in the log about commands that do not decode.
const MALFORMED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Who waits for a command of a batch.
pub(super) struct Answer<R> {
    /// Where the command stands in the batch.
    pub(super) index: usize,
    pub(super) id: RequestId,
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
    /// Under whose name this node numbers its own requests.
    client: ClientId,
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
        client: ClientId,
        packets: mpsc::UnboundedReceiver<Packet<S>>,
        local_reads: mpsc::Receiver<ReadTask<S>>,
        applied: watch::Sender<Applied>,
        blocking: bool,
    ) -> Self {
        let recovered = state_machine.applied();
        Applier {
            state_machine,
            client,
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

    /// A slot that the state machine had applied before this start. Nothing that this node has
    /// proposed since can be in it; what an embedder's client proposes again can.
    fn pass_over(&self, slot: Slot, answers: Vec<Answer<S::Response>>) -> Result<(), NodeError> {
        if answers.iter().any(|answer| answer.id.client == self.client) {
            return Err(NodeError::StateMachineAhead { slot });
        }
        for answer in answers {
            // Whoever has stopped waiting does not hear it.
            drop(answer.reply.send(Err(ProposeError::AlreadyApplied)));
        }
        Ok(())
    }

    fn apply(&mut self, Work { delivery, answers }: Work<S::Response>) -> Result<(), NodeError> {
        let slot = delivery.slot;
        if slot <= self.recovered && !planted!(DoubleApply) {
            return self.pass_over(slot, answers);
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::types::BatchBuilder;

    /// Adds up what it is given, and remembers in which slots.
    #[derive(Default)]
    struct Sum {
        total: u64,
        slots: Vec<u64>,
        recovered: Slot,
        forgets_responses: bool,
    }

    impl StateMachine for Sum {
        type Command = u64;
        type Response = u64;

        fn apply(&mut self, slot: Slot, commands: Vec<u64>) -> Vec<u64> {
            self.slots.push(slot.0);
            let responses = commands.into_iter().map(|command| {
                self.total += command;
                self.total
            });
            let responses: Vec<_> = responses.collect();
            if self.forgets_responses { Vec::new() } else { responses }
        }

        fn applied(&self) -> Slot {
            self.recovered
        }
    }

    type Receiver = oneshot::Receiver<Result<u64, ProposeError>>;

    struct Bench {
        packets: mpsc::UnboundedSender<Packet<Sum>>,
        local_reads: mpsc::Sender<ReadTask<Sum>>,
        applied: watch::Receiver<Applied>,
        applier: Applier<Sum>,
    }

    fn bench(sum: Sum) -> Bench {
        let (packets, packet_receiver) = mpsc::unbounded_channel();
        let (local_reads, local_read_receiver) = mpsc::channel(1);
        let (applied_sender, applied) = watch::channel(Applied::default());
        let applier =
            Applier::new(sum, CLIENT, packet_receiver, local_read_receiver, applied_sender, false);
        Bench { packets, local_reads, applied, applier }
    }

    /// A slot with these commands, all fresh, each waited for.
    const CLIENT: ClientId = ClientId { name: 1, epoch: 1 };

    fn work(slot: u64, commands: &[Bytes]) -> (Work<u64>, Vec<Receiver>) {
        work_of(CLIENT, slot, commands)
    }

    fn work_of(client: ClientId, slot: u64, commands: &[Bytes]) -> (Work<u64>, Vec<Receiver>) {
        let mut builder = BatchBuilder::default();
        let (mut answers, mut receivers) = (Vec::new(), Vec::new());
        for (index, command) in commands.iter().enumerate() {
            let id = RequestId { client, sequence: index as u64 + 1 };
            builder.push(id, 1, command.clone());
            let (reply, receiver) = oneshot::channel();
            answers.push(Answer { index, id, reply });
            receivers.push(receiver);
        }
        let value = Value::Batch(builder.build().expect("some commands"));
        let verdicts = [(0..commands.len(), Verdict::Fresh)].into();
        (Work { delivery: Delivery { slot: Slot(slot), value, verdicts }, answers }, receivers)
    }

    fn packet(work: Vec<Work<u64>>, through: u64) -> Packet<Sum> {
        Packet { work, through: Some(Slot(through)), reads: Vec::new() }
    }

    fn total() -> (ReadTask<Sum>, oneshot::Receiver<u64>) {
        let (reply, receiver) = oneshot::channel();
        let task: ReadTask<Sum> = Box::new(|state| {
            reply.send(state.expect("served").total).expect("the test waits");
        });
        (task, receiver)
    }

    #[tokio::test]
    async fn commands_are_applied_and_answered_before_the_reads_behind_them_are_served() {
        let Bench { packets, applied, applier, .. } = bench(Sum::default());
        let (first, mut answers) = work(1, &[3u64.encode(), 4u64.encode()]);
        let (second, more) = work(3, &[5u64.encode()]);
        answers.extend(more);
        let (read, seen) = total();
        let mut all = packet(vec![first, second], 4);
        all.reads.push(read);
        assert!(packets.send(all).is_ok());
        drop(packets);
        assert_eq!(applier.run().await, Ok(()));
        let mut responses = Vec::new();
        for answer in answers {
            responses.push(answer.await.expect("an answer"));
        }
        assert_eq!(responses, [Ok(3), Ok(7), Ok(12)]);
        assert_eq!(seen.await, Ok(12));
        // A slot without commands counts as applied.
        assert_eq!(*applied.borrow(), Applied { slot: Slot(4), durable: Slot::ZERO });
    }

    #[tokio::test]
    async fn a_command_that_does_not_decode_has_no_effect_and_the_others_have_theirs() {
        let Bench { packets, applier, .. } = bench(Sum::default());
        let garbage = Bytes::from_static(&[0xff; 3]);
        let (work, answers) = work(1, &[1u64.encode(), garbage, 2u64.encode()]);
        assert!(packets.send(packet(vec![work], 1)).is_ok());
        drop(packets);
        assert_eq!(applier.run().await, Ok(()));
        let mut responses = Vec::new();
        for answer in answers {
            responses.push(answer.await.expect("an answer"));
        }
        assert_eq!(responses, [Ok(1), Err(ProposeError::Malformed), Ok(3)]);
    }

    #[tokio::test]
    async fn what_a_durable_state_machine_has_applied_is_not_applied_again() {
        let sum = Sum { total: 10, recovered: Slot(2), ..Sum::default() };
        let Bench { packets, applied, applier, .. } = bench(sum);
        let replayed = (1..=3).map(|slot| {
            let mut work = work(slot, &[1u64.encode()]).0;
            work.answers.clear();
            work
        });
        let (read, seen) = total();
        let mut all = packet(replayed.collect(), 3);
        all.reads.push(read);
        assert!(packets.send(all).is_ok());
        drop(packets);
        assert_eq!(applier.run().await, Ok(()));
        assert_eq!(seen.await, Ok(11));
        assert_eq!(*applied.borrow(), Applied { slot: Slot(3), durable: Slot(2) });
    }

    #[tokio::test]
    async fn a_state_machine_of_another_log_stops_the_node() {
        let Bench { packets, applier, .. } = bench(Sum { recovered: Slot(9), ..Sum::default() });
        let (work, _answers) = work(5, &[1u64.encode()]);
        assert!(packets.send(packet(vec![work], 5)).is_ok());
        assert_eq!(applier.run().await, Err(NodeError::StateMachineAhead { slot: Slot(5) }));
    }

    #[tokio::test]
    async fn what_a_client_proposes_again_may_have_been_applied_before_the_start() {
        let Bench { packets, applier, .. } = bench(Sum { recovered: Slot(9), ..Sum::default() });
        let client = ClientId { name: 77, epoch: 1 };
        let (work, answers) = work_of(client, 5, &[1u64.encode()]);
        assert!(packets.send(packet(vec![work], 5)).is_ok());
        drop(packets);
        assert_eq!(applier.run().await, Ok(()));
        for answer in answers {
            assert_eq!(answer.await, Ok(Err(ProposeError::AlreadyApplied)));
        }
    }

    #[tokio::test]
    async fn a_state_machine_that_forgets_responses_stops_the_node() {
        let sum = Sum { forgets_responses: true, ..Sum::default() };
        let Bench { packets, applier, .. } = bench(sum);
        let (work, _answers) = work(1, &[1u64.encode()]);
        assert!(packets.send(packet(vec![work], 1)).is_ok());
        let error = NodeError::Responses { slot: Slot(1), commands: 1, responses: 0 };
        assert_eq!(applier.run().await, Err(error));
    }

    #[tokio::test]
    async fn a_local_read_waits_for_no_delivery() {
        let Bench { packets, local_reads, applier, .. } = bench(Sum { total: 4, ..Sum::default() });
        let running = tokio::spawn(applier.run());
        let (read, seen) = total();
        assert!(local_reads.send(read).await.is_ok());
        assert_eq!(seen.await, Ok(4));
        drop(packets);
        assert_eq!(running.await.expect("no panic"), Ok(()));
    }
}
