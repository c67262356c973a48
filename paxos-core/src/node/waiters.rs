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
                Verdict::Fresh => answers.push(Answer { index, reply }),
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
