//! The state machine of a node: the list of all commands applied, the guest that applies them, and a
//! digest of both. One kind lives in memory and is rebuilt from the log; the other has a state on
//! disk that lags behind what is applied, and comes back from a crash at that point.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::application::{Answer, Application, Guest};
use crate::types::{RequestId, Slot};

/// Where the machine stands; the commands are the first `commands` of the list.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    slot: Slot,
    commands: usize,
    digest: u64,
}

/// A state machine.
pub(super) struct Machine {
    application: Arc<dyn Application>,
    guest: Box<dyn Guest>,
    now: Position,
    /// What a crash leaves behind; `None` if the state lives in memory.
    durable: Option<Position>,
    /// Everything applied, in order, and where.
    commands: Vec<(Slot, RequestId, Bytes)>,
}

impl Machine {
    /// One in its first state, with or without a state on disk.
    pub(super) fn new(on_disk: bool, application: Arc<dyn Application>) -> Machine {
        let durable = on_disk.then(Position::default);
        let guest = application.start();
        Machine { application, guest, now: Position::default(), durable, commands: Vec::new() }
    }

    /// As [`StateMachine::apply`](crate::port::StateMachine::apply).
    pub(super) fn apply(&mut self, slot: Slot, commands: Vec<(RequestId, Bytes)>) -> Vec<Answer> {
        assert!(slot > self.now.slot, "slot {slot} applied after slot {}", self.now.slot);
        let first = self.commands.len();
        self.commands.extend(commands.into_iter().map(|(id, command)| (slot, id, command)));
        let answers = apply(&mut *self.guest, slot, &self.commands[first..]);
        for ((_, id, command), answer) in self.commands[first..].iter().zip(&answers) {
            for fact in [&id.sequence.to_le_bytes()[..], command, &answer.bytes] {
                self.now.digest = xxh3_64_with_seed(fact, self.now.digest);
            }
        }
        self.now.slot = slot;
        self.now.commands = self.commands.len();
        answers
    }

    /// As [`StateMachine::durable`](crate::port::StateMachine::durable).
    pub(super) fn durable(&self) -> Slot {
        self.durable.unwrap_or_default().slot
    }

    /// Makes the state durable, if it has a disk.
    pub(super) fn flush(&mut self) {
        self.durable = self.durable.map(|_| self.now);
    }

    /// Falls back to what is durable. The guest comes back by applying that again.
    pub(super) fn crash(&mut self) {
        self.now = self.durable.unwrap_or_default();
        self.commands.truncate(self.now.commands);
        self.guest = self.application.start();
        for slot in self.commands.chunk_by(|one, next| one.0 == next.0) {
            apply(&mut *self.guest, slot[0].0, slot);
        }
    }

    /// Nothing is left.
    pub(super) fn lose_disk(&mut self) {
        self.durable = self.durable.map(|_| Position::default());
        self.crash();
    }

    /// Equal states, reached by equal answers, have equal digests.
    pub(super) fn digest(&self) -> u64 {
        self.now.digest ^ self.guest.digest()
    }

    /// What a read sees.
    pub(super) fn read(&self, question: u64) -> Answer {
        self.guest.read(question)
    }

    /// Whether the state is one that may be.
    pub(super) fn check(&self) -> Result<(), String> {
        self.guest.check()
    }

    /// Everything applied, in order.
    pub(super) fn commands(&self) -> impl Iterator<Item = (RequestId, &Bytes)> {
        self.commands.iter().map(|(_, id, command)| (*id, command))
    }
}

fn apply(guest: &mut dyn Guest, slot: Slot, commands: &[(Slot, RequestId, Bytes)]) -> Vec<Answer> {
    let answers = guest.apply(slot, commands.iter().map(|(.., command)| command.clone()).collect());
    let (asked, answered) = (commands.len(), answers.len());
    assert_eq!(answered, asked, "the state machine answers {answered} of {asked} commands");
    answers
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("now", &self.now).field("durable", &self.durable).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sim::application::Nothing, types::ClientId};

    #[test]
    fn a_crash_falls_back_to_the_durable_state() {
        let id = |sequence| RequestId { client: ClientId { name: 1, epoch: 1 }, sequence };
        let mut machine = Machine::new(true, Arc::new(Nothing));
        machine.apply(Slot(2), vec![(id(1), Bytes::from_static(b"a"))]);
        machine.flush();
        let digest = machine.digest();
        machine.apply(Slot(5), vec![(id(2), Bytes::from_static(b"b"))]);
        assert_ne!(machine.digest(), digest);
        machine.crash();
        assert_eq!((machine.durable(), machine.digest()), (Slot(2), digest));
        assert_eq!(machine.commands().count(), 1);
    }
}
