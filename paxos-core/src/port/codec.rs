//! How a command becomes bytes.
//!
//! Two encodings of whatever serde can encode: a [self-describing](self_describing) one, which everything
//! has that does not say otherwise, and a [compact](compact) one to be chosen. Both begin with a byte that
//! says which it is, so that a log is never read as something else; and of both a command is read back
//! before it is proposed, so that what does not survive takes no slot.

mod compact;
pub(super) mod self_describing;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

pub use compact::Compact;

/// How a command becomes bytes. Implemented for everything that implements serde's traits, with an encoding
/// in which every field and every variant has its name: so all of serde's data model can be proposed, tagged
/// and untagged enums, flattened and skipped fields included. [`Compact`] is an encoding without names.
///
/// What comes back from its own encoding as something else is refused in `propose`: fields that are not
/// read back, say, or 128-bit integers in an untagged enum, which serde does not support. What serde
/// itself cannot tell apart nobody else can: two variants of an untagged enum that look the same.
///
/// An implementation of one's own encodes what it likes. Begin the bytes with the number of their format:
/// whoever meets another one can say so, with [`CodecError::OtherFormat`].
///
/// ```
/// use bytes::Bytes;
/// use paxos_core::port::{Codec, CodecError};
///
/// /// Commands of 8 bytes.
/// #[derive(Debug, PartialEq)]
/// struct Add(i64);
///
/// impl Codec for Add {
///     fn encode(&self) -> Result<Bytes, CodecError> {
///         Ok(Bytes::copy_from_slice(&self.0.to_le_bytes()))
///     }
///
///     fn decode(bytes: &[u8]) -> Result<Add, CodecError> {
///         let bytes = bytes.try_into().map_err(|_| CodecError::Malformed("not 8 bytes".to_owned()))?;
///         Ok(Add(i64::from_le_bytes(bytes)))
///     }
/// }
///
/// assert_eq!(Add::decode(&Add(3).encode()?)?, Add(3));
/// # Ok::<(), CodecError>(())
/// ```
pub trait Codec: Sized {
    /// The command as bytes.
    ///
    /// # Errors
    ///
    /// If it has no encoding, or none from which it comes back as it is. It is not proposed then.
    fn encode(&self) -> Result<Bytes, CodecError>;

    /// As [`encode`](Codec::encode), of a command that is needed no more: one that is bytes already
    /// need not share them.
    ///
    /// # Errors
    ///
    /// As for [`encode`](Codec::encode).
    fn into_bytes(self) -> Result<Bytes, CodecError> {
        self.encode()
    }

    /// The command in the bytes. They are a part of a batch, and so what the state machine keeps of
    /// them is a copy: a small value does not hold on to a large batch.
    ///
    /// Every node has to come to the same result, so a new kind of command may be proposed only
    /// once every node runs a version that knows it. A command that says which version it is of is met by an
    /// older one with [`CodecError::Newer`].
    ///
    /// # Errors
    ///
    /// If the bytes are no command. It then has no effect, on any node. If they are in another format, or of a
    /// newer version, the node stops.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;
}

/// A command that cannot be encoded, or bytes that are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The command has no encoding, or comes back from it as another one. It is not proposed.
    #[error("the command does not survive its own encoding: {0}")]
    Unencodable(String),
    /// The bytes are no command of this state machine. They are passed over, on every node.
    #[error("not a command of this state machine: {0}")]
    Malformed(String),
    /// The bytes are in another format, and may well be a command in that. The node stops, since it would
    /// go on without what others may have applied.
    #[error(
        "the command is in another encoding: it begins with byte {found:#04x} in place of {expected:#04x}; \
         use the Codec that it was proposed with (Compact, or what serde has by default; what was proposed \
         before encodings had numbers is read by a Codec of your own that calls postcard::from_bytes)"
    )]
    OtherFormat {
        /// The first byte.
        found: u8,
        /// What it would be.
        expected: u8,
    },
    /// The command says that only a later version of the program can carry it out. The node stops, since those
    /// that can have applied it.
    #[error(
        "the command is of version {found}, and this program knows up to {known}: start a newer version of \
         the program, which goes on where this one has stopped"
    )]
    Newer {
        /// The version that the command is of.
        found: u32,
        /// The newest one that this program knows.
        known: u32,
    },
}

impl<T: Serialize + DeserializeOwned> Codec for T {
    fn encode(&self) -> Result<Bytes, CodecError> {
        let encoded = self_describing::encode(self).map_err(unencodable)?;
        let arrived = self_describing::decode(&encoded).map_err(unencodable)?;
        check_arrival::<T>(&encoded, &arrived)?;
        Ok(encoded.into())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        check_format(bytes, self_describing::FORMAT)?;
        self_describing::decode(bytes).map_err(malformed)
    }
}

fn unencodable(reason: impl ToString) -> CodecError {
    CodecError::Unencodable(reason.to_string())
}

fn malformed(reason: impl ToString) -> CodecError {
    CodecError::Malformed(reason.to_string())
}

fn check_format(bytes: &[u8], expected: u8) -> Result<(), CodecError> {
    match bytes.first() {
        None => Err(malformed("no bytes at all")),
        Some(&found) if found != expected => Err(CodecError::OtherFormat { found, expected }),
        Some(_) => Ok(()),
    }
}

/// Compares what has arrived with what was sent, by names and values: `sent` is self-describing.
fn check_arrival<T: Serialize>(sent: &[u8], arrived: &T) -> Result<(), CodecError> {
    let arrived = self_describing::encode(arrived).map_err(unencodable)?;
    // A hash map or set may come back in another order, and is the same.
    if arrived == sent || census(&arrived) == census(sent) {
        return Ok(());
    }
    Err(unencodable(
        "it comes back as another one; see that fields which are not written need not be read, and that what \
         is written in another form (a time in seconds, say) has nothing that gets lost in it",
    ))
}

/// How often each byte occurs.
fn census(bytes: &[u8]) -> [usize; 256] {
    let mut counts = [0; 256];
    for &byte in bytes {
        counts[usize::from(byte)] += 1;
    }
    counts
}
