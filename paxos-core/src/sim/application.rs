//! What is replicated in a simulation, seen as bytes in and bytes out, and who calls it.

use std::{any::Any, collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;

use super::transcript;
use crate::types::{NodeId, RequestId, Slot};

/// A read: who reads, in which life, under which number.
pub(super) type ReadId = (NodeId, u64, u64);

/// A state machine and what its clients want of it.
pub(super) trait Application: Send + Sync {
    /// A machine in its first state.
    fn start(&self) -> Box<dyn Guest>;

    /// What some client proposes next, given the last answer that any has heard. Padding up to
    /// about `bytes_max` is welcome.
    fn command(&self, rng: &mut fastrand::Rng, bytes_max: usize, heard: Option<&Answer>) -> Bytes;

    /// Judges at the end what the clients have seen.
    fn judge(&self, calls: &Calls) -> Result<(), String>;
}

/// A state machine of one node.
pub(super) trait Guest {
    /// As [`StateMachine::apply`](crate::port::StateMachine::apply): an answer for each command.
    fn apply(&mut self, slot: Slot, commands: Vec<Bytes>) -> Vec<Answer>;

    /// What a read sees that asks this question.
    fn read(&self, question: u64) -> Answer;

    /// The state as bytes.
    fn snapshot(&self) -> Bytes;

    /// Puts the state in the bytes, which is as of `slot`, in place of this one.
    fn restore(&mut self, slot: Slot, snapshot: Bytes);

    /// Equal states have equal digests.
    fn digest(&self) -> u64;

    /// Whether the state is one that may be.
    fn check(&self) -> Result<(), String>;
}

/// What a state machine answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// Equal answers have equal bytes.
    pub(super) bytes: Bytes,
    /// What the machine returned, for who knows its type.
    pub(super) response: Option<Rc<dyn Any>>,
}

impl From<Bytes> for Answer {
    fn from(bytes: Bytes) -> Answer {
        Answer { bytes, response: None }
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question<C> {
    /// To apply this command.
    Command(C),
    /// To read what this number stands for.
    Read(u64),
}

/// A call as its client sees it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) question: Question<Bytes>,
    /// When it began.
    pub(super) began: Duration,
    /// When it was answered, if it was, and with what. A command may be known to have been applied
    /// without its answer being known.
    pub(super) answered: Option<(Duration, Option<Answer>)>,
    /// What the state machines answered, whether the client heard of it or not.
    pub(super) effect: Option<Answer>,
}

impl Call {
    fn begin(question: Question<Bytes>, began: Duration) -> Call {
        Call { question, began, answered: None, effect: None }
    }

    /// When it began and when it was answered, in nanoseconds.
    pub(super) fn times(&self) -> (u64, Option<u64>) {
        let nanos = |at: Duration| u64::try_from(at.as_nanos()).expect("a short run");
        (nanos(self.began), self.answered.as_ref().map(|(at, _)| nanos(*at)))
    }

    /// What its client was answered.
    pub(super) fn answer(&self) -> Option<&Answer> {
        self.answered.as_ref()?.1.as_ref()
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
    pub(super) fn took_effect(&mut self, id: RequestId, answer: &Answer) {
        if let Some(call) = self.commands.get_mut(&id) {
            call.effect.get_or_insert_with(|| answer.clone());
        }
    }

    /// A command has had effect, and the client knows.
    pub(super) fn applied(&mut self, now: Duration, id: RequestId, answer: Option<Answer>) {
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
    pub(super) fn served(&mut self, now: Duration, read: ReadId, answer: Answer) {
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

/// Remembers its commands, which are any bytes. Nobody looks at its answers, and a read sees all of it, as
/// text.
#[derive(Debug, Default)]
pub(super) struct Texts(Vec<Bytes>);

impl Application for Texts {
    fn start(&self) -> Box<dyn Guest> {
        Box::new(Texts::default())
    }

    fn command(&self, _: &mut fastrand::Rng, _: usize, _: Option<&Answer>) -> Bytes {
        Bytes::new()
    }

    fn judge(&self, _: &Calls) -> Result<(), String> {
        Ok(())
    }
}

impl Guest for Texts {
    fn apply(&mut self, _: Slot, commands: Vec<Bytes>) -> Vec<Answer> {
        let answers = vec![Answer::default(); commands.len()];
        self.0.extend(commands);
        answers
    }

    fn read(&self, _: u64) -> Answer {
        Bytes::from(transcript::state(&self.0)).into()
    }

    fn snapshot(&self) -> Bytes {
        postcard::to_stdvec(&self.0).expect("plain data").into()
    }

    fn restore(&mut self, _: Slot, snapshot: Bytes) {
        self.0 = postcard::from_bytes(&snapshot).expect("encoded by this module");
    }

    fn digest(&self) -> u64 {
        0
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
