//! The replicated state machine of the simulation: the list of all commands applied, and a digest
//! of it. One kind lives in memory and is rebuilt from the log; the other has a state on disk
//! that lags behind what is applied, and comes back from a crash at that point.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::types::{RequestId, Slot};

/// Where the machine stands; the commands are the first `commands` of the list.
#[derive(Clone, Copy, Debug, Default)]
struct Position {
    slot: Slot,
    commands: usize,
    digest: u64,
}

/// A state machine.
#[derive(Debug)]
pub(super) struct Machine {
    now: Position,
    /// What a crash leaves behind; `None` if the state lives in memory.
    durable: Option<Position>,
    commands: Vec<(RequestId, Bytes)>,
}

impl Machine {
    /// An empty one, with or without a state on disk.
    pub(super) fn new(on_disk: bool) -> Machine {
        let durable = on_disk.then(Position::default);
        Machine { now: Position::default(), durable, commands: Vec::new() }
    }

    /// As [`StateMachine::apply`](crate::port::StateMachine::apply).
    pub(super) fn apply(&mut self, slot: Slot, commands: Vec<(RequestId, Bytes)>) {
        assert!(slot > self.now.slot, "slot {slot} applied after slot {}", self.now.slot);
        self.now.slot = slot;
        for (id, command) in commands {
            let chained = xxh3_64_with_seed(&id.sequence.to_le_bytes(), self.now.digest);
            self.now.digest = xxh3_64_with_seed(&command, chained);
            self.commands.push((id, command));
        }
        self.now.commands = self.commands.len();
    }

    /// As [`StateMachine::applied`](crate::port::StateMachine::applied).
    pub(super) fn applied(&self) -> Slot {
        self.durable.unwrap_or_default().slot
    }

    /// Makes the state durable, if it has a disk.
    pub(super) fn flush(&mut self) {
        self.durable = self.durable.map(|_| self.now);
    }

    /// Falls back to what is durable.
    pub(super) fn crash(&mut self) {
        self.now = self.durable.unwrap_or_default();
        self.commands.truncate(self.now.commands);
    }

    /// Equal states have equal digests.
    pub(super) fn digest(&self) -> u64 {
        self.now.digest
    }

    /// Everything applied, in order.
    pub(super) fn commands(&self) -> &[(RequestId, Bytes)] {
        &self.commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ClientId;

    #[test]
    fn a_crash_falls_back_to_the_durable_state() {
        let id = |sequence| RequestId { client: ClientId { name: 1, epoch: 1 }, sequence };
        let mut machine = Machine::new(true);
        machine.apply(Slot(2), vec![(id(1), Bytes::from_static(b"a"))]);
        machine.flush();
        let digest = machine.digest();
        machine.apply(Slot(5), vec![(id(2), Bytes::from_static(b"b"))]);
        assert_ne!(machine.digest(), digest);
        machine.crash();
        assert_eq!((machine.applied(), machine.digest()), (Slot(2), digest));
        assert_eq!(machine.commands().len(), 1);
    }
}
