//! What a slot decides.
//!
//! A value is encoded once, by the leader that cuts the batch, and travels as those bytes from
//! then on: to the peers, to every log, to every state machine. The same layout stands on the wire
//! and on disk:
//!
//! ```text
//! noop   00
//! batch  01 | commands | header (postcard: runs, command lengths) | header length, u32 LE
//! change 02 | membership (postcard)
//! ```
//!
//! The commands come first, so that they are copied to where they stay while the batch gathers.

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::{Batch, Reconfiguration};

const TAG_NOOP: u8 = 0;
pub(super) const TAG_BATCH: u8 = 1;
pub(super) const TAG_CHANGE: u8 = 2;

/// The value of a slot.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: fills a hole, or gives a new leader a slot of its own ballot.
    Noop,
    /// Commands for the state machine.
    Batch(Batch),
    /// Another membership, which governs slots from some way on.
    Reconfigure(Reconfiguration),
}

/// Bytes that are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The bytes end before the value does.
    #[error("the value is cut short: {have} bytes of at least {need}")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes there would have to be.
        need: usize,
    },
    /// A kind of value that this version does not know.
    #[error("unknown kind of value {0}: written by a newer version?")]
    UnknownKind(u8),
    /// The header of a batch does not decode.
    #[error("the batch header is malformed")]
    Header,
    /// A membership with which no cluster can work, or none at all.
    #[error("the membership makes no sense")]
    Membership,
    /// The parts of a batch contradict each other.
    #[error("the batch contradicts itself: {0}")]
    Inconsistent(&'static str),
}

impl Value {
    /// The encoding, shared and not copied.
    #[must_use]
    pub fn encoded(&self) -> Bytes {
        match self {
            Value::Noop => Bytes::from_static(&[TAG_NOOP]),
            Value::Batch(batch) => batch.encoded().clone(),
            Value::Reconfigure(change) => change.encoded().clone(),
        }
    }

    /// The length of the encoding, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Value::Noop => 1,
            Value::Batch(batch) => batch.encoded().len(),
            Value::Reconfigure(change) => change.encoded().len(),
        }
    }

    /// What it takes up in memory, in bytes, all that it holds included: for a small value far more
    /// than its encoding.
    #[must_use]
    pub fn memory_len(&self) -> usize {
        match self {
            Value::Noop => 0,
            Value::Batch(batch) => batch.memory_len(),
            Value::Reconfigure(change) => change.memory_len(),
        }
    }

    /// A hash of the encoding, computed when the value was made.
    #[must_use]
    pub fn digest(&self) -> u64 {
        match self {
            Value::Noop => xxh3_64(&[TAG_NOOP]),
            Value::Batch(batch) => batch.digest(),
            Value::Reconfigure(change) => change.digest(),
        }
    }

    /// The value that `encoded` holds; its commands are slices of `encoded`, not copies.
    ///
    /// # Errors
    ///
    /// If the bytes are not exactly one value.
    pub fn decode(encoded: Bytes) -> Result<Value, ValueError> {
        match encoded.first() {
            None => Err(ValueError::Truncated { have: 0, need: 1 }),
            Some(&TAG_NOOP) if encoded.len() == 1 => Ok(Value::Noop),
            Some(&TAG_NOOP) => Err(ValueError::Inconsistent("bytes behind a noop")),
            Some(&TAG_BATCH) => Batch::decode(encoded).map(Value::Batch),
            Some(&TAG_CHANGE) => Reconfiguration::decode(encoded).map(Value::Reconfigure),
            Some(&kind) => Err(ValueError::UnknownKind(kind)),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Noop => write!(f, "Noop"),
            Value::Batch(batch) => batch.fmt(f),
            Value::Reconfigure(change) => change.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_unknown_kind_is_refused_by_name() {
        let error = Value::decode(Bytes::from_static(&[7])).expect_err("kind 7");
        assert_eq!(error, ValueError::UnknownKind(7));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = Value::decode(Bytes::from(bytes.clone())) {
                prop_assert_eq!(value.encoded(), Bytes::from(bytes));
            }
        }
    }
}
