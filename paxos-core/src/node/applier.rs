//! Applies what is chosen to the state machine.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{
    error::{NodeError, ProposeError},
    inside::NodeKey,
    lifecycle::panicked,
    reads::Read,
};
use crate::{
    message::StateDigest,
    planted::planted,
    port::{Codec, CodecError, Snapshot, StateMachine},
    replica::{Delivery, SnapshotId, Task, Verdict},
    types::{Slot, Value},
};

/// Between two lines in the log about commands that do not decode.
const MALFORMED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What the state machine is to do, in this order.
pub(super) struct Work<S> {
    pub(super) tasks: Vec<Task>,
    /// Reads that see all of them.
    pub(super) reads: Vec<Read<S>>,
}

impl<S> Default for Work<S> {
    fn default() -> Self {
        Work { tasks: Vec::new(), reads: Vec::new() }
    }
}

impl<S> Work<S> {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.reads.is_empty()
    }

    /// Whether it has to read a disk.
    pub(super) fn blocks(&self) -> bool {
        self.tasks.iter().any(|task| matches!(task, Task::Restore(_)))
    }
}

/// How far the state machine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The last slot applied.
    pub(super) applied: Slot,
    /// The last one that would survive a crash, if the state machine keeps itself.
    pub(super) durable: Option<Slot>,
}

/// What has come of a piece of work.
pub(super) struct Results<S: StateMachine> {
    /// What the state machine answered, in the order of slots.
    pub(super) responses: VecDeque<Responses<S::Response>>,
    /// The snapshots taken.
    pub(super) snapshots: Vec<(SnapshotId, S::Snapshot)>,
    /// What it gave as digests of its state.
    pub(super) digests: Vec<StateDigest>,
}

impl<S: StateMachine> Default for Results<S> {
    fn default() -> Self {
        Results { responses: VecDeque::new(), snapshots: Vec::new(), digests: Vec::new() }
    }
}

/// Opens the state that the storage has as of a slot, for a thread that may block.
pub(super) type OpenState = Box<dyn Fn(Slot) -> Box<dyn io::Read + Send> + Send>;

/// What the state machine answered to the commands of a slot.
#[derive(Debug)]
pub(super) struct Responses<R> {
    slot: Slot,
    given: std::vec::IntoIter<R>,
    /// Where in the batch the next response belongs, and which places have none.
    next: usize,
    without: VecDeque<usize>,
    /// The state machine had applied the slot before this start.
    is_passed_over: bool,
}

impl<R> Responses<R> {
    fn passed_over(slot: Slot) -> Responses<R> {
        let (given, without) = (Vec::new().into_iter(), VecDeque::new());
        Responses { slot, given, next: 0, without, is_passed_over: true }
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// The response to the command at `index`; they are asked for in ascending order. `is_named`
    /// says whether the command has a name of the embedder's.
    pub(super) fn take(
        &mut self,
        index: usize,
        is_named: bool,
    ) -> Result<Result<R, ProposeError>, NodeError> {
        if self.is_passed_over {
            // Nothing that this node has numbered since can be in such a slot; what an embedder's
            // client proposes again can.
            let slot = self.slot;
            return if is_named {
                Ok(Err(ProposeError::AlreadyApplied))
            } else {
                Err(NodeError::StateMachineAhead { slot })
            };
        }
        assert!(self.next <= index, "the response to command {index} has been given away");
        loop {
            let place = self.next;
            self.next += 1;
            let is_without = self.without.pop_front_if(|next| *next == place).is_some();
            let response = if is_without { None } else { self.given.next() };
            if place == index {
                return Ok(response.ok_or(ProposeError::Malformed));
            }
        }
    }
}

/// Owns the state machine.
pub(super) struct Applier<S> {
    /// The node's.
    key: NodeKey,
    state_machine: S,
    /// What the state machine had applied when the node started: not to be applied again.
    recovered: Slot,
    open_state: OpenState,
    malformed_logged: Option<tokio::time::Instant>,
}

impl<S: StateMachine> Applier<S> {
    pub(super) fn new(key: NodeKey, state_machine: S, open_state: OpenState) -> Self {
        let recovered = state_machine.durable().unwrap_or_default();
        Applier { key, state_machine, recovered, open_state, malformed_logged: None }
    }

    /// Does the work; returns how far the state machine has come, if it has come any further.
    ///
    /// # Errors
    ///
    /// If the state machine fails, panics, breaks its contract or cannot take over a state.
    pub(super) fn work(
        &mut self,
        work: &mut Work<S>,
        results: &mut Results<S>,
    ) -> Result<Option<Position>, NodeError> {
        let done = catch_unwind(AssertUnwindSafe(|| self.key.enter(|| self.do_all(work, results))));
        done.unwrap_or_else(|panic| Err(panicked("state machine", panic)))
    }

    fn do_all(
        &mut self,
        work: &mut Work<S>,
        results: &mut Results<S>,
    ) -> Result<Option<Position>, NodeError> {
        let mut applied = None;
        for task in work.tasks.drain(..) {
            match task {
                Task::Apply(delivery) => {
                    applied = Some(delivery.slot);
                    results.responses.extend(self.apply(&delivery)?);
                }
                Task::Freeze(id) => results.snapshots.push((id, self.state_machine.snapshot())),
                Task::Digest(slot) => results.digests.extend(self.digest(slot)),
                Task::Restore(slot) => {
                    applied = Some(slot);
                    self.restore(slot)?;
                }
            }
        }
        for read in work.reads.drain(..) {
            read.task.run(&self.state_machine);
        }
        let position = |applied| Position { applied, durable: self.state_machine.durable() };
        Ok(applied.map(position))
    }

    /// The digest of the state after `slot`, which is the last one handed over; one that has been ahead of
    /// its log is of no use to anybody.
    fn digest(&self, slot: Slot) -> Option<StateDigest> {
        let digest = (slot >= self.recovered).then(|| self.state_machine.digest()).flatten()?;
        Some(StateDigest { slot, digest })
    }

    /// Puts the state in place that the storage has as of `slot`, unless there is a newer one.
    fn restore(&mut self, slot: Slot) -> Result<(), NodeError> {
        if slot <= self.recovered {
            return Ok(());
        }
        let began = tokio::time::Instant::now();
        let snapshot = S::Snapshot::from_reader((self.open_state)(slot));
        let restored = snapshot.and_then(|snapshot| self.state_machine.restore(slot, snapshot));
        restored.map_err(|error| NodeError::Restore { slot, reason: error.to_string() })?;
        // A peer's state may be ahead of the log that it comes with.
        self.recovered = self.recovered.max(self.state_machine.durable().unwrap_or_default());
        let took = began.elapsed();
        tracing::info!(%slot, ?took, "the state machine has taken over a state");
        Ok(())
    }

    /// Makes a state on disk durable.
    pub(super) fn flush(&mut self) -> Result<(), NodeError> {
        let key = self.key;
        let flushed = catch_unwind(AssertUnwindSafe(|| {
            key.enter(|| self.state_machine.flush());
            self.check()
        }));
        flushed.unwrap_or_else(|panic| Err(panicked("state machine", panic)))
    }

    /// Whether the state machine can go on.
    fn check(&self) -> Result<(), NodeError> {
        self.state_machine.failure().map_or(Ok(()), |reason| Err(NodeError::StateMachine(reason)))
    }

    fn apply(&mut self, delivery: &Delivery) -> Result<Option<Responses<S::Response>>, NodeError> {
        let slot = delivery.slot;
        if slot <= self.recovered && !planted!(DoubleApply) {
            return Ok(Some(Responses::passed_over(slot)));
        }
        let (commands, without) = self.decode(delivery)?;
        if commands.is_empty() && without.is_empty() {
            return Ok(None);
        }
        let count = commands.len();
        let given =
            if commands.is_empty() { Vec::new() } else { self.state_machine.apply(slot, commands) };
        self.check()?;
        if given.len() != count {
            let responses = given.len();
            return Err(NodeError::Responses { slot, commands: count, responses });
        }
        let given = given.into_iter();
        Ok(Some(Responses { slot, given, next: 0, without, is_passed_over: false }))
    }

    /// The commands of a slot that are to be applied, and the places of the others.
    ///
    /// A command that does not decode is left out: its bytes are the same on every node, and so a
    /// node that stopped because of it would stop again at every start, and all others with it. Unless
    /// it is in another format or of a newer version: then it is a command to others, and the state would go on
    /// without it.
    fn decode(
        &mut self,
        delivery: &Delivery,
    ) -> Result<(Vec<S::Command>, VecDeque<usize>), NodeError> {
        let Value::Batch(batch) = &delivery.value else { return Ok(Default::default()) };
        let mut commands = Vec::with_capacity(batch.len());
        let mut without = VecDeque::new();
        for (range, verdict) in &delivery.verdicts {
            if *verdict != Verdict::Fresh {
                without.extend(range.clone());
                continue;
            }
            for index in range.clone() {
                match S::Command::decode(batch.command_bytes(index)) {
                    Ok(command) => commands.push(command),
                    Err(reason @ (CodecError::OtherFormat { .. } | CodecError::Newer { .. })) => {
                        return Err(NodeError::OtherFormat { slot: delivery.slot, index, reason });
                    }
                    Err(error) => {
                        self.log_malformed(delivery.slot, index, &error);
                        without.push_back(index);
                    }
                }
            }
        }
        Ok((commands, without))
    }

    fn log_malformed(&mut self, slot: Slot, index: usize, error: &CodecError) {
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
