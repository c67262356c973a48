//! What a slot decides.
//!
//! A value is encoded once, by the leader that cuts the batch, and travels as those bytes from
//! then on: to the peers, to every log, to every state machine. The same layout stands on the wire
//! and on disk:
//!
//! ```text
//! noop   00
//! batch  01 | header length, u32 LE | header (postcard: runs, command lengths) | commands
//! ```

use std::{fmt, ops::Range, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{RequestId, Run};

const TAG_NOOP: u8 = 0;
const TAG_BATCH: u8 = 1;
/// Tag and header length.
const PREFIX_BYTES: usize = 5;

/// The value of a slot.
///
/// Not exhaustive: a change of membership will be a value too.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing: fills a hole, or gives a new leader a slot of its own ballot.
    Noop,
    /// Commands for the state machine.
    Batch(Batch),
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
            Value::Batch(batch) => batch.0.encoded.clone(),
        }
    }

    /// The length of the encoding, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Value::Noop => 1,
            Value::Batch(batch) => batch.0.encoded.len(),
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
            Some(&kind) => Err(ValueError::UnknownKind(kind)),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Noop => write!(f, "Noop"),
            Value::Batch(batch) => batch.fmt(f),
        }
    }
}

/// Commands in order, each with its request id. Never empty; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    encoded: Bytes,
    runs: Vec<Run>,
    /// Where each command lies in `encoded`.
    commands: Vec<Range<usize>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    runs: Vec<Run>,
    lengths: Vec<u32>,
}

impl Batch {
    /// The request ids, as runs of consecutive ones, in the order of the commands.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.0.runs
    }

    /// How many commands.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.0.commands.len()
    }

    /// The command at `index`, a slice of the batch's encoding.
    ///
    /// # Panics
    ///
    /// If there is no such command.
    #[must_use]
    pub fn command(&self, index: usize) -> Bytes {
        self.0.encoded.slice(self.0.commands[index].clone())
    }

    /// Every command with its request id.
    pub fn requests(&self) -> impl Iterator<Item = (RequestId, Bytes)> + '_ {
        let ids = self.0.runs.iter().flat_map(|run| {
            (run.first..run.end()).map(|sequence| RequestId { client: run.client, sequence })
        });
        ids.zip((0..self.len()).map(|index| self.command(index)))
    }

    fn decode(encoded: Bytes) -> Result<Batch, ValueError> {
        let truncated = |need| ValueError::Truncated { have: encoded.len(), need };
        let prefix = encoded.get(1..PREFIX_BYTES).ok_or(truncated(PREFIX_BYTES))?;
        let header_len = u32::from_le_bytes(prefix.try_into().expect("four bytes")) as usize;
        let payload = PREFIX_BYTES + header_len;
        let header = encoded.get(PREFIX_BYTES..payload).ok_or(truncated(payload))?;
        let (header, rest): (Header, _) =
            postcard::take_from_bytes(header).map_err(|_| ValueError::Header)?;
        if !rest.is_empty() {
            return Err(ValueError::Inconsistent("bytes behind the header"));
        }
        let requests: u64 = header.runs.iter().map(|run| u64::from(run.count)).sum();
        if header.runs.is_empty() || requests != header.lengths.len() as u64 {
            return Err(ValueError::Inconsistent("as many request ids as commands, at least one"));
        }
        if header
            .runs
            .iter()
            .any(|run| run.count == 0 || run.first == 0 || run.open_from > run.first)
        {
            return Err(ValueError::Inconsistent("an impossible run of request ids"));
        }
        if header.runs.iter().any(|run| run.first.checked_add(u64::from(run.count)).is_none()) {
            return Err(ValueError::Inconsistent("a run past the last request id"));
        }
        let mut end = payload;
        let mut commands = Vec::with_capacity(header.lengths.len());
        for length in header.lengths {
            let start = end;
            end = end.checked_add(length as usize).ok_or(ValueError::Header)?;
            commands.push(start..end);
        }
        if end != encoded.len() {
            return Err(ValueError::Inconsistent("command lengths do not add up"));
        }
        Ok(Batch(Arc::new(Inner { encoded, runs: header.runs, commands })))
    }
}

impl fmt::Debug for Batch {
    /// Request ids and sizes; never the commands, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch[")?;
        for (index, run) in self.0.runs.iter().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(f, "{separator}{}#{}", run.client, run.first)?;
            if run.count > 1 {
                write!(f, "..{}", run.end() - 1)?;
            }
        }
        write!(f, "]")
    }
}

/// Gathers commands into a [`Batch`].
#[derive(Debug, Default)]
pub struct BatchBuilder {
    runs: Vec<Run>,
    commands: Vec<Bytes>,
    bytes: usize,
}

impl BatchBuilder {
    /// Appends a command. `open_from` is its client's lowest unsettled sequence number, as in
    /// [`Run::open_from`].
    ///
    /// # Panics
    ///
    /// If the sequence number is none that counts commands, or below `open_from`: the caller checks
    /// both when a request comes in.
    pub fn push(&mut self, id: RequestId, open_from: u64, command: Bytes) {
        assert!(id.is_countable() && open_from <= id.sequence, "{id} with open_from {open_from}");
        self.bytes += command.len();
        self.commands.push(command);
        match self.runs.last_mut() {
            Some(run) if run.client == id.client && run.end() == id.sequence => {
                run.count += 1;
                run.open_from = run.open_from.max(open_from).min(run.first);
            }
            _ => self.runs.push(Run { client: id.client, first: id.sequence, count: 1, open_from }),
        }
    }

    /// Bytes of the commands so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many commands so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Copies the commands into one buffer, the last time that anything copies them; `None` if
    /// there are none.
    ///
    /// # Panics
    ///
    /// If the commands exceed 4 GiB, which the limits on a batch exclude.
    #[must_use]
    pub fn build(self) -> Option<Batch> {
        if self.commands.is_empty() {
            return None;
        }
        let length = |bytes: &Bytes| u32::try_from(bytes.len()).expect("a command is below 4 GiB");
        let header =
            Header { runs: self.runs, lengths: self.commands.iter().map(length).collect() };
        let encoded_header = postcard::to_stdvec(&header).expect("plain data encodes");
        let payload = PREFIX_BYTES + encoded_header.len();
        let mut buffer = BytesMut::with_capacity(payload + self.bytes);
        buffer.put_u8(TAG_BATCH);
        buffer.put_u32_le(u32::try_from(encoded_header.len()).expect("a header is below 4 GiB"));
        buffer.put_slice(&encoded_header);
        let mut commands = Vec::with_capacity(self.commands.len());
        for command in &self.commands {
            commands.push(buffer.len()..buffer.len() + command.len());
            buffer.put_slice(command);
        }
        Some(Batch(Arc::new(Inner { encoded: buffer.freeze(), runs: header.runs, commands })))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::ClientId;

    fn id(name: u64, sequence: u64) -> RequestId {
        RequestId { client: ClientId { name, epoch: 1 }, sequence }
    }

    #[test]
    fn consecutive_requests_of_a_client_share_a_run() {
        let mut builder = BatchBuilder::default();
        for (name, sequence) in [(1, 4), (1, 5), (2, 9), (1, 6)] {
            builder.push(id(name, sequence), sequence, Bytes::from_static(b"x"));
        }
        let batch = builder.build().expect("four commands");
        let runs: Vec<_> = batch.runs().iter().map(|run| (run.first, run.count)).collect();
        assert_eq!(runs, [(4, 2), (9, 1), (6, 1)]);
        assert_eq!(format!("{batch:?}"), "Batch[1e1#4..5 2e1#9 1e1#6]");
    }

    #[test]
    fn an_unknown_kind_is_refused_by_name() {
        let error = Value::decode(Bytes::from_static(&[7])).expect_err("kind 7");
        assert_eq!(error, ValueError::UnknownKind(7));
    }

    proptest! {
        #[test]
        fn what_is_built_decodes_to_the_same(
            requests in prop::collection::vec((1..4u64, 1..9u64, ".{0,20}"), 1..20),
        ) {
            let mut builder = BatchBuilder::default();
            for (name, sequence, command) in &requests {
                builder.push(id(*name, *sequence), 1, Bytes::from(command.clone()));
            }
            let batch = Value::Batch(builder.build().expect("not empty"));
            let decoded = Value::decode(batch.encoded()).expect("our own encoding");
            prop_assert_eq!(&decoded, &batch);
            let Value::Batch(decoded) = decoded else { panic!("a batch") };
            let commands: Vec<_> = decoded.requests().collect();
            let expected: Vec<_> = requests
                .into_iter()
                .map(|(name, sequence, command)| (id(name, sequence), Bytes::from(command)))
                .collect();
            prop_assert_eq!(commands, expected);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = Value::decode(Bytes::from(bytes.clone())) {
                prop_assert_eq!(value.encoded(), Bytes::from(bytes));
            }
        }
    }
}
