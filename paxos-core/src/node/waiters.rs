//! Who waits for what, and until when.
//!
//! Every waiter has a deadline, so that one whose caller has gone is let go in bounded time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    applier::Answer,
    error::{ProposeError, ReadError},
    request::{ReadTask, Reply, TIMEOUT_MAX},
};
use crate::{
    port::StateMachine,
    replica::{Delivery, Input, Verdict},
    types::{Batch, ClientId, Instant, RequestId, Value},
};

/// What a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    Proposal(RequestId),
    Read(u64),
}

struct Proposal<R> {
    deadline: Instant,
    reply: Reply<R>,
}

struct Read<S> {
    deadline: Instant,
    task: ReadTask<S>,
}

/// The proposals and reads of this node that wait.
pub(super) struct Waiters<S: StateMachine> {
    /// By client, so that one look-up tells that nobody here waits for a run of requests.
    proposals: HashMap<ClientId, BTreeMap<u64, Proposal<S::Response>>>,
    reads: HashMap<u64, Read<S>>,
    deadlines: BTreeSet<(Instant, Waiting)>,
}

impl<S: StateMachine> Waiters<S> {
    pub(super) fn new() -> Self {
        Waiters { proposals: HashMap::new(), reads: HashMap::new(), deadlines: BTreeSet::new() }
    }

    /// Whether somebody waits for `id`.
    pub(super) fn is_waiting(&self, id: RequestId) -> bool {
        self.proposals.get(&id.client).is_some_and(|waiting| waiting.contains_key(&id.sequence))
    }

    /// Somebody waits for `id`, for whom nobody waits yet.
    pub(super) fn add_proposal(
        &mut self,
        id: RequestId,
        reply: Reply<S::Response>,
        now: Instant,
        timeout: std::time::Duration,
    ) {
        let deadline = now.after(timeout.min(TIMEOUT_MAX));
        self.deadlines.insert((deadline, Waiting::Proposal(id)));
        let waiting = self.proposals.entry(id.client).or_default();
        let before = waiting.insert(id.sequence, Proposal { deadline, reply });
        assert!(before.is_none(), "two waiters for request {id}");
    }

    /// Somebody waits for the read `number`, which is new.
    pub(super) fn add_read(
        &mut self,
        number: u64,
        task: ReadTask<S>,
        now: Instant,
        timeout: std::time::Duration,
    ) {
        let deadline = now.after(timeout.min(TIMEOUT_MAX));
        self.deadlines.insert((deadline, Waiting::Read(number)));
        let before = self.reads.insert(number, Read { deadline, task });
        assert!(before.is_none(), "two waiters for read {number}");
    }

    /// Ends the wait for `id`, if there is one.
    pub(super) fn take_proposal(&mut self, id: RequestId) -> Option<Reply<S::Response>> {
        let waiting = self.proposals.get_mut(&id.client)?;
        let Proposal { deadline, reply } = waiting.remove(&id.sequence)?;
        if waiting.is_empty() {
            self.proposals.remove(&id.client);
        }
        self.deadlines.remove(&(deadline, Waiting::Proposal(id)));
        Some(reply)
    }

    /// Ends the wait for a read, if there is one.
    pub(super) fn take_read(&mut self, number: u64) -> Option<ReadTask<S>> {
        let Read { deadline, task } = self.reads.remove(&number)?;
        self.deadlines.remove(&(deadline, Waiting::Read(number)));
        Some(task)
    }

    /// Ends the waits that a delivery settles: those for commands to be applied are returned, in
    /// the order of the commands; the others are told at once.
    pub(super) fn settle(&mut self, delivery: &Delivery) -> Vec<Answer<S::Response>> {
        let Value::Batch(batch) = &delivery.value else { return Vec::new() };
        let mut answers = Vec::new();
        let mut verdicts = delivery.verdicts.iter();
        let mut current = verdicts.next();
        for (index, id) in self.waiting_in(batch) {
            while current.is_some_and(|(covered, _)| covered.end <= index) {
                current = verdicts.next();
            }
            let (_, verdict) = current.expect("the verdicts cover every command");
            let Some(reply) = self.take_proposal(id) else { continue };
            // Whoever has stopped waiting does not hear the answer: nothing is lost by it.
            match verdict {
                Verdict::Fresh => answers.push(Answer { index, id, reply }),
                Verdict::Duplicate => drop(reply.send(Err(ProposeError::AlreadyApplied))),
                Verdict::Expired => drop(reply.send(Err(ProposeError::Expired))),
            }
        }
        answers
    }

    /// Which commands of `batch` somebody here waits for: where they stand, in order, and their ids.
    fn waiting_in(&self, batch: &Batch) -> Vec<(usize, RequestId)> {
        let mut found = Vec::new();
        let mut start = 0;
        for run in batch.runs() {
            if let Some(waiting) = self.proposals.get(&run.client) {
                found.extend(waiting.range(run.first..run.end()).map(|(&sequence, _)| {
                    let offset = usize::try_from(sequence - run.first).expect("a count fits");
                    (start + offset, RequestId { client: run.client, sequence })
                }));
            }
            start += run.count as usize;
        }
        found
    }

    /// When the next wait ends for want of a result.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends the waits whose time has come, and says so to the replica.
    pub(super) fn expire(&mut self, now: Instant, inputs: &mut Vec<Input>) {
        while self.next_deadline().is_some_and(|deadline| deadline <= now) {
            match self.deadlines.pop_first() {
                Some((_, Waiting::Proposal(id))) => {
                    if let Some(reply) = self.take_proposal(id) {
                        drop(reply.send(Err(ProposeError::UnknownOutcome)));
                    }
                    inputs.push(Input::GiveUp(id));
                }
                Some((_, Waiting::Read(number))) => {
                    if let Some(task) = self.take_read(number) {
                        task(Err(ReadError::Timeout));
                    }
                    inputs.push(Input::GiveUpRead { number });
                }
                None => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::types::{BatchBuilder, Slot};

    type Receiver = oneshot::Receiver<Result<(), ProposeError>>;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(name: u64, sequence: u64) -> RequestId {
        RequestId { client: ClientId { name, epoch: 1 }, sequence }
    }

    fn wait_for(waiters: &mut Waiters<()>, id: RequestId, timeout: Duration) -> Receiver {
        let (reply, receiver) = oneshot::channel();
        waiters.add_proposal(id, reply, Instant::ZERO, timeout);
        receiver
    }

    fn delivery(ids: &[RequestId], verdicts: &[(std::ops::Range<usize>, Verdict)]) -> Delivery {
        let mut builder = BatchBuilder::default();
        for &id in ids {
            builder.push(id, 1, Bytes::new());
        }
        let batch = builder.build().expect("some commands");
        Delivery { slot: Slot(1), value: Value::Batch(batch), verdicts: verdicts.into() }
    }

    #[test]
    fn a_delivery_settles_the_waits_for_its_commands_by_their_verdicts() {
        let mut waiters = Waiters::new();
        let mut fresh = wait_for(&mut waiters, id(1, 5), SECOND);
        let mut duplicate = wait_for(&mut waiters, id(2, 9), SECOND);
        let mut expired = wait_for(&mut waiters, id(1, 8), SECOND);
        let mut elsewhere = wait_for(&mut waiters, id(1, 6), SECOND);
        // Nobody waits for the first two.
        let ids = [id(3, 1), id(1, 4), id(1, 5), id(2, 9), id(1, 8)];
        let verdicts =
            [(0..3, Verdict::Fresh), (3..4, Verdict::Duplicate), (4..5, Verdict::Expired)];
        let answers = waiters.settle(&delivery(&ids, &verdicts));
        assert_eq!(answers.iter().map(|answer| answer.index).collect::<Vec<_>>(), [2]);
        assert!(fresh.try_recv().is_err(), "answered once the command is applied");
        assert_eq!(duplicate.try_recv(), Ok(Err(ProposeError::AlreadyApplied)));
        assert_eq!(expired.try_recv(), Ok(Err(ProposeError::Expired)));
        assert!(elsewhere.try_recv().is_err() && waiters.is_waiting(id(1, 6)));
        assert_eq!(waiters.deadlines.len(), 1);
    }

    #[test]
    fn a_command_that_stands_twice_in_a_batch_is_answered_once_by_its_first_place() {
        let mut waiters = Waiters::new();
        let _receiver = wait_for(&mut waiters, id(1, 5), SECOND);
        let verdicts = [(0..1, Verdict::Fresh), (1..2, Verdict::Duplicate)];
        let answers = waiters.settle(&delivery(&[id(1, 5), id(1, 5)], &verdicts));
        assert_eq!(answers.iter().map(|answer| answer.index).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_the_replica_is_told() {
        let mut waiters = Waiters::new();
        let mut first = wait_for(&mut waiters, id(1, 1), SECOND);
        let mut second = wait_for(&mut waiters, id(1, 2), SECOND * 2);
        let (sender, mut read) = oneshot::channel();
        let task: ReadTask<()> = Box::new(|state| drop(sender.send(state.map(|&()| ()))));
        waiters.add_read(7, task, Instant::ZERO, SECOND);
        assert_eq!(waiters.next_deadline(), Some(Instant::ZERO.after(SECOND)));

        let mut inputs = Vec::new();
        waiters.expire(Instant::ZERO.after(SECOND), &mut inputs);
        assert!(matches!(
            inputs[..],
            [Input::GiveUp(given_up), Input::GiveUpRead { number: 7 }] if given_up == id(1, 1)
        ));
        assert_eq!(first.try_recv(), Ok(Err(ProposeError::UnknownOutcome)));
        assert_eq!(read.try_recv(), Ok(Err(ReadError::Timeout)));
        assert!(second.try_recv().is_err());
        assert_eq!(waiters.next_deadline(), Some(Instant::ZERO.after(SECOND * 2)));
    }

    #[test]
    fn no_wait_is_longer_than_the_limit() {
        let mut waiters = Waiters::new();
        let _receiver = wait_for(&mut waiters, id(1, 1), Duration::MAX);
        assert_eq!(waiters.next_deadline(), Some(Instant::ZERO.after(TIMEOUT_MAX)));
    }
}
