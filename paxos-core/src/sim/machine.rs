//! The state machine of a node: the guest that applies commands, a list of all that were applied, and a
//! digest of both. One kind lives in memory and is gone with its process; the other has a state on disk
//! that lags behind what is applied, and comes back from a crash at that point.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::application::{Answer, Application, Guest};
use crate::types::{RequestId, Slot};

/// Where the machine stands; what has been applied are the first `commands` of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    slot: Slot,
    commands: usize,
    digest: u64,
}

/// A state as bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Saved {
    /// So that equal states have other bytes on other nodes.
    filler: Vec<u8>,
    position: Position,
    applied: Vec<RequestId>,
    guest: Bytes,
}

/// A state machine.
pub(super) struct Machine {
    application: Arc<dyn Application>,
    guest: Box<dyn Guest>,
    now: Position,
    /// What a crash leaves behind; `None` if the state lives in memory.
    durable: Option<Position>,
    /// Everything applied, in order.
    applied: Vec<RequestId>,
    /// The state that was taken over last, and what has been applied since.
    base: (Position, Option<Bytes>),
    commands: Vec<(Slot, RequestId, Bytes)>,
    filler: usize,
}

impl Machine {
    /// One in its first state, with or without a state on disk. Its snapshots have `filler` bytes more
    /// than they need.
    pub(super) fn new(on_disk: bool, filler: usize, application: Arc<dyn Application>) -> Machine {
        Machine {
            guest: application.start(),
            application,
            now: Position::default(),
            durable: on_disk.then(Position::default),
            applied: Vec::new(),
            base: (Position::default(), None),
            commands: Vec::new(),
            filler,
        }
    }

    /// As [`StateMachine::apply`](crate::port::StateMachine::apply).
    pub(super) fn apply(&mut self, slot: Slot, commands: Vec<(RequestId, Bytes)>) -> Vec<Answer> {
        assert!(slot > self.now.slot, "slot {slot} applied after slot {}", self.now.slot);
        let first = self.commands.len();
        self.commands.extend(commands.into_iter().map(|(id, command)| (slot, id, command)));
        let answers = apply(&mut *self.guest, slot, &self.commands[first..]);
        for ((_, id, command), answer) in self.commands[first..].iter().zip(&answers) {
            self.applied.push(*id);
            for fact in [&id.sequence.to_le_bytes()[..], command, &answer.bytes] {
                self.now.digest = xxh3_64_with_seed(fact, self.now.digest);
            }
        }
        self.now.slot = slot;
        self.now.commands = self.applied.len();
        answers
    }

    /// As [`StateMachine::durable`](crate::port::StateMachine::durable).
    pub(super) fn durable(&self) -> Option<Slot> {
        self.durable.map(|position| position.slot)
    }

    /// Makes the state durable, if it has a disk.
    pub(super) fn flush(&mut self) {
        self.durable = self.durable.map(|_| self.now);
    }

    /// As [`StateMachine::snapshot`](crate::port::StateMachine::snapshot), as bytes.
    pub(super) fn snapshot(&self) -> Bytes {
        let saved = Saved {
            filler: vec![0; self.filler],
            position: self.now,
            applied: self.applied.clone(),
            guest: self.guest.snapshot(),
        };
        postcard::to_stdvec(&saved).expect("plain data encodes").into()
    }

    /// As [`StateMachine::restore`](crate::port::StateMachine::restore); returns the slot that the state is
    /// as of.
    ///
    /// # Panics
    ///
    /// If it is no state.
    pub(super) fn restore(&mut self, slot: Slot, snapshot: &[u8]) -> Slot {
        let saved: Saved = postcard::from_bytes(snapshot).expect("a state is what was saved");
        let Saved { filler: _, position, applied, guest } = saved;
        // It has seen no slots without commands, and may have been ahead of its log.
        let slot = position.slot.max(slot);
        (self.now, self.applied) = (Position { slot, ..position }, applied);
        self.guest = self.application.start();
        self.guest.restore(slot, guest.clone());
        self.base = (self.now, Some(guest));
        self.commands.clear();
        self.flush();
        slot
    }

    /// Falls back to what is durable. The guest comes back by applying that again.
    pub(super) fn crash(&mut self) {
        self.guest = self.application.start();
        let Some(durable) = self.durable else {
            self.now = Position::default();
            self.base = (Position::default(), None);
            self.applied.clear();
            self.commands.clear();
            return;
        };
        self.now = durable;
        self.applied.truncate(durable.commands);
        let (base, guest) = &self.base;
        self.commands.truncate(durable.commands - base.commands);
        if let Some(guest) = guest {
            self.guest.restore(base.slot, guest.clone());
        }
        for slot in self.commands.chunk_by(|one, next| one.0 == next.0) {
            apply(&mut *self.guest, slot[0].0, slot);
        }
    }

    /// Nothing is left.
    pub(super) fn lose_disk(&mut self) {
        let is_on_disk = self.durable.take().is_some();
        self.crash();
        self.durable = is_on_disk.then(Position::default);
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
    pub(super) fn applied(&self) -> impl Iterator<Item = RequestId> {
        self.applied.iter().copied()
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
    use crate::{sim::application::Texts, types::ClientId};

    #[test]
    fn a_crash_falls_back_to_the_durable_state() {
        let id = |sequence| RequestId { client: ClientId { name: 1, epoch: 1 }, sequence };
        let mut machine = Machine::new(true, 0, Arc::new(Texts::default()));
        machine.apply(Slot(2), vec![(id(1), Bytes::from_static(b"a"))]);
        machine.flush();
        let digest = machine.digest();
        machine.apply(Slot(5), vec![(id(2), Bytes::from_static(b"b"))]);
        assert_ne!(machine.digest(), digest);
        machine.crash();
        assert_eq!((machine.durable(), machine.digest()), (Some(Slot(2)), digest));
        assert_eq!(machine.applied().count(), 1);
    }

    #[test]
    fn a_state_taken_over_is_the_same_and_outlives_a_crash_on_disk() {
        let id = |sequence| RequestId { client: ClientId { name: 1, epoch: 1 }, sequence };
        let mut one = Machine::new(false, 3, Arc::new(Texts::default()));
        one.apply(Slot(2), vec![(id(1), Bytes::from_static(b"a"))]);
        for (on_disk, left) in [(true, 1), (false, 0)] {
            let mut other = Machine::new(on_disk, 0, Arc::new(Texts::default()));
            other.apply(Slot(1), Vec::new());
            other.restore(Slot(2), &one.snapshot());
            assert_eq!((other.digest(), other.applied().collect()), (one.digest(), vec![id(1)]));
            other.apply(Slot(3), vec![(id(2), Bytes::from_static(b"b"))]);
            other.crash();
            assert_eq!(other.applied().count(), left);
            assert_eq!(other.durable(), on_disk.then_some(Slot(2)));
        }
    }
}
