//! Applies what is chosen to the state machine.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use super::{
    error::{NodeError, ProposeError},
    lifecycle::panicked,
    request::ReadTask,
};
use crate::{
    planted::planted,
    port::{Codec, CodecError, StateMachine},
    replica::{Delivery, Verdict},
    types::{Slot, Value},
};

/// Between two lines in the log about commands that do not decode.
const MALFORMED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What the state machine is to do, in this order.
pub(super) struct Work<S> {
    pub(super) deliveries: Vec<Delivery>,
    /// Reads that see all of them.
    pub(super) reads: Vec<ReadTask<S>>,
}

impl<S> Default for Work<S> {
    fn default() -> Self {
        Work { deliveries: Vec::new(), reads: Vec::new() }
    }
}

impl<S> Work<S> {
    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.reads.is_empty()
    }
}

/// How far the state machine has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The last slot applied.
    pub(super) applied: Slot,
    /// The last one that would survive a crash.
    pub(super) durable: Slot,
}

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
    state_machine: S,
    /// What the state machine had applied when the node started: not to be applied again.
    recovered: Slot,
    malformed_logged: Option<tokio::time::Instant>,
}

impl<S: StateMachine> Applier<S> {
    pub(super) fn new(state_machine: S) -> Self {
        let recovered = state_machine.durable().unwrap_or_default();
        Applier { state_machine, recovered, malformed_logged: None }
    }

    /// Does the work; returns the responses and, if anything was delivered, how far the state
    /// machine has come.
    ///
    /// # Errors
    ///
    /// If the state machine panics or breaks its contract.
    pub(super) fn work(
        &mut self,
        work: &mut Work<S>,
        responses: &mut VecDeque<Responses<S::Response>>,
    ) -> Result<Option<Position>, NodeError> {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let applied = work.deliveries.last().map(|delivery| delivery.slot);
            for delivery in work.deliveries.drain(..) {
                responses.extend(self.apply(&delivery)?);
            }
            for read in work.reads.drain(..) {
                read(Ok(&self.state_machine));
            }
            let durable = applied.map(|_| self.state_machine.durable().unwrap_or_default());
            Ok(applied.zip(durable).map(|(applied, durable)| Position { applied, durable }))
        }));
        done.unwrap_or_else(|panic| Err(panicked("state machine", panic)))
    }

    /// Makes a state on disk durable.
    pub(super) fn flush(&mut self) -> Result<(), NodeError> {
        catch_unwind(AssertUnwindSafe(|| self.state_machine.flush()))
            .map_err(|panic| panicked("state machine", panic))
    }

    fn apply(&mut self, delivery: &Delivery) -> Result<Option<Responses<S::Response>>, NodeError> {
        let slot = delivery.slot;
        if slot <= self.recovered && !planted!(DoubleApply) {
            return Ok(Some(Responses::passed_over(slot)));
        }
        let (commands, without) = self.decode(delivery);
        if commands.is_empty() && without.is_empty() {
            return Ok(None);
        }
        let count = commands.len();
        let given =
            if commands.is_empty() { Vec::new() } else { self.state_machine.apply(slot, commands) };
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
    /// node that stopped because of it would stop again at every start, and all others with it.
    fn decode(&mut self, delivery: &Delivery) -> (Vec<S::Command>, VecDeque<usize>) {
        let Value::Batch(batch) = &delivery.value else { return Default::default() };
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
                    Err(error) => {
                        self.log_malformed(delivery.slot, index, &error);
                        without.push_back(index);
                    }
                }
            }
        }
        (commands, without)
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
