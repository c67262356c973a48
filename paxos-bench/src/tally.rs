//! The state machine under test: as little work as a state machine can do.

use std::{io, ops::AddAssign};

use bytes::Bytes;
use paxos_core::{
    port::{Codec, CodecError, StateMachine},
    types::Slot,
};

/// A command of any content. Encoding it copies nothing, and of what it decodes it keeps the length, so
/// that a benchmark measures consensus and not a serializer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    content: Bytes,
    len: usize,
}

impl Payload {
    /// `size` bytes, always the same ones.
    #[must_use]
    pub fn of_size(size: usize) -> Payload {
        // 251 is prime: no two pages or sectors have the same content.
        (0..=250_u8).cycle().take(size).collect::<Bytes>().into()
    }

    /// The bytes, if they were not decoded.
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.content
    }
}

impl From<Bytes> for Payload {
    fn from(content: Bytes) -> Payload {
        Payload { len: content.len(), content }
    }
}

impl Codec for Payload {
    fn encode(&self) -> Result<Bytes, CodecError> {
        Ok(self.content.clone())
    }

    fn into_bytes(self) -> Result<Bytes, CodecError> {
        Ok(self.content)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(Payload { content: Bytes::new(), len: bytes.len() })
    }
}

/// Counts what it is given. Responds with the number of commands so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Commands applied.
    pub commands: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    /// Counts a command.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.commands += 1;
        self.bytes += bytes as u64;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.commands += other.commands;
        self.bytes += other.bytes;
    }
}

impl StateMachine for Tally {
    type Command = Payload;
    type Response = u64;
    type Snapshot = (u64, u64);

    fn apply(&mut self, _slot: Slot, commands: Vec<Payload>) -> Vec<u64> {
        let count = |payload: Payload| {
            self.count(payload.len);
            self.commands
        };
        commands.into_iter().map(count).collect()
    }

    fn snapshot(&self) -> (u64, u64) {
        (self.commands, self.bytes)
    }

    fn restore(&mut self, _: Slot, state: (u64, u64)) -> io::Result<()> {
        (self.commands, self.bytes) = state;
        Ok(())
    }
}
