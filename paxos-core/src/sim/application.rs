//! What is replicated in a simulation, seen as bytes in and bytes out, and who calls it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use super::history::ReadId;
use crate::types::{RequestId, Slot};

/// A state machine and what its clients want of it.
pub(super) trait Application: Send + Sync {
    /// A machine in its first state.
    fn start(&self) -> Box<dyn Guest>;

    /// What some client proposes next. Padding up to about `bytes_max` is welcome.
    fn command(&self, rng: &mut fastrand::Rng, bytes_max: usize) -> Bytes;

    /// Judges at the end what the clients have seen.
    fn judge(&self, calls: &Calls) -> Result<(), String>;
}

/// A state machine of one node.
pub(super) trait Guest {
    /// As [`StateMachine::apply`](crate::port::StateMachine::apply): an answer for each command.
    /// Equal answers have equal bytes.
    fn apply(&mut self, slot: Slot, commands: Vec<Bytes>) -> Vec<Bytes>;

    /// What a read sees that asks this question.
    fn read(&self, question: u64) -> Bytes;

    /// Equal states have equal digests.
    fn digest(&self) -> u64;

    /// Whether the state is one that may be.
    fn check(&self) -> Result<(), String>;
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// To apply this command.
    Command(Bytes),
    /// To read.
    Read(u64),
}

/// A call as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) question: Question,
    /// When it began.
    pub(super) began: Duration,
    /// When it was answered, if it was, and with what. A command may be known to have been applied
    /// without its answer being known.
    pub(super) answered: Option<(Duration, Option<Bytes>)>,
    /// What the state machines answered, whether the client heard of it or not.
    pub(super) effect: Option<Bytes>,
}

impl Call {
    fn begin(question: Question, began: Duration) -> Call {
        Call { question, began, answered: None, effect: None }
    }
}

/// All calls of a run, but for those that were refused: they have no effect.
#[derive(Debug, Default)]
pub(super) struct Calls {
    commands: BTreeMap<RequestId, Call>,
    reads: BTreeMap<ReadId, Call>,
}

impl Calls {
    /// A client proposes a command. If it did so before, elsewhere, the call began then.
    pub(super) fn proposed(&mut self, now: Duration, id: RequestId, command: &Bytes) {
        let question = Question::Command(command.clone());
        self.commands.entry(id).or_insert(Call::begin(question, now));
    }

    /// A command will never have effect.
    pub(super) fn refused(&mut self, id: RequestId) {
        self.commands.remove(&id);
    }

    /// A command has had effect on some node.
    pub(super) fn took_effect(&mut self, id: RequestId, answer: &Bytes) {
        if let Some(call) = self.commands.get_mut(&id) {
            call.effect.get_or_insert_with(|| answer.clone());
        }
    }

    /// A command has had effect, and the client knows.
    pub(super) fn applied(&mut self, now: Duration, id: RequestId, answer: Option<Bytes>) {
        if let Some(call) = self.commands.get_mut(&id) {
            call.answered.get_or_insert((now, answer));
        }
    }

    /// A client reads.
    pub(super) fn read(&mut self, now: Duration, read: ReadId) {
        let question = Question::Read(question(read));
        self.reads.insert(read, Call::begin(question, now));
    }

    /// A read is answered.
    pub(super) fn served(&mut self, now: Duration, read: ReadId, answer: Bytes) {
        if let Some(call) = self.reads.get_mut(&read) {
            call.answered.get_or_insert((now, Some(answer)));
        }
    }

    /// Every call, in no order of time.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.commands.values().chain(self.reads.values())
    }
}

/// What a read asks: any number will do, as long as it is the same for the same read.
pub(super) fn question((node, incarnation, number): ReadId) -> u64 {
    node.0.wrapping_mul(31).wrapping_add(incarnation).wrapping_mul(31).wrapping_add(number)
}

/// No state machine at all: commands are any bytes, and nobody looks at answers.
pub(super) struct Nothing;

impl Application for Nothing {
    fn start(&self) -> Box<dyn Guest> {
        Box::new(Nothing)
    }

    fn command(&self, _: &mut fastrand::Rng, _: usize) -> Bytes {
        Bytes::new()
    }

    fn judge(&self, _: &Calls) -> Result<(), String> {
        Ok(())
    }
}

impl Guest for Nothing {
    fn apply(&mut self, _: Slot, commands: Vec<Bytes>) -> Vec<Bytes> {
        vec![Bytes::new(); commands.len()]
    }

    fn read(&self, _: u64) -> Bytes {
        Bytes::new()
    }

    fn digest(&self) -> u64 {
        0
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
