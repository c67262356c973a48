//! Commands that share a slot, and how they are put together.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    RequestId, Run,
    value::{TAG_BATCH, ValueError},
};

/// What counts the owners of a batch, and of its encoding.
const SHARED_BYTES: usize = 48;

/// Before the commands of a batch.
const TAG_BYTES: usize = 1;
/// Spare room at the end of a batch that is not worth a reallocation.
const SPARE_BYTES: usize = 64;
/// At its end: the length of the header.
const TRAILER_BYTES: usize = 4;

/// Commands in order, each with its request id. Never empty; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch(Arc<Inner>);

#[derive(PartialEq, Eq)]
struct Inner {
    /// XXH3 of the encoding: what the hash chain takes, on every replica of a process.
    digest: u64,
    encoded: Bytes,
    runs: SmallVec<[Run; 1]>,
    /// Where each command ends in `encoded`.
    ends: SmallVec<[u32; 6]>,
}

/// What stands behind the commands.
#[derive(Deserialize)]
struct Header {
    runs: Vec<Run>,
    lengths: Vec<u32>,
}

/// Appends a [`Header`], as postcard encodes it: every number in groups of seven bits, the lowest
/// first.
fn push_header(encoded: &mut Vec<u8>, runs: &[Run], ends: &[u32]) {
    push_number(encoded, runs.len() as u64);
    for Run { client, first, count, open_from } in runs {
        for number in [client.name, client.epoch, *first, u64::from(*count), *open_from] {
            push_number(encoded, number);
        }
    }
    push_number(encoded, ends.len() as u64);
    let mut start = TAG_BYTES as u32;
    for end in ends {
        push_number(encoded, u64::from(end - start));
        start = *end;
    }
}

fn push_number(encoded: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        encoded.push(number as u8 | 0x80);
        number >>= 7;
    }
    encoded.push(number as u8);
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
        self.0.ends.len()
    }

    /// The command at `index`, a slice of the batch's encoding.
    ///
    /// # Panics
    ///
    /// If there is no such command.
    #[must_use]
    pub fn command(&self, index: usize) -> Bytes {
        self.0.encoded.slice(self.range(index))
    }

    /// The bytes of the command at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such command.
    #[must_use]
    pub fn command_bytes(&self, index: usize) -> &[u8] {
        &self.0.encoded[self.range(index)]
    }

    fn range(&self, index: usize) -> Range<usize> {
        let ends = &self.0.ends;
        let start = index.checked_sub(1).map_or(TAG_BYTES, |before| ends[before] as usize);
        start..ends[index] as usize
    }

    pub(super) fn encoded(&self) -> &Bytes {
        &self.0.encoded
    }

    pub(super) fn memory_len(&self) -> usize {
        let Inner { digest: _, encoded, runs, ends } = &*self.0;
        let runs = if runs.spilled() { runs.capacity() * size_of::<Run>() } else { 0 };
        let ends = if ends.spilled() { ends.capacity() * size_of::<u32>() } else { 0 };
        SHARED_BYTES + size_of::<Inner>() + encoded.len() + runs + ends
    }

    pub(super) fn digest(&self) -> u64 {
        self.0.digest
    }

    /// Every command with its request id.
    pub fn requests(&self) -> impl Iterator<Item = (RequestId, Bytes)> + '_ {
        let ids = self.0.runs.iter().flat_map(|run| {
            (run.first..run.end()).map(|sequence| RequestId { client: run.client, sequence })
        });
        ids.zip((0..self.len()).map(|index| self.command(index)))
    }

    pub(super) fn decode(encoded: Bytes) -> Result<Batch, ValueError> {
        let truncated = |need| ValueError::Truncated { have: encoded.len(), need };
        let shortest = TAG_BYTES + TRAILER_BYTES;
        let trailer = encoded.get(TAG_BYTES..).and_then(<[u8]>::last_chunk);
        let trailer = trailer.ok_or(truncated(shortest))?;
        let header_len = u32::from_le_bytes(*trailer) as usize;
        let header_end = encoded.len() - TRAILER_BYTES;
        let commands_end = header_end.checked_sub(header_len).filter(|&end| end >= TAG_BYTES);
        let commands_end = commands_end.ok_or(truncated(shortest + header_len))?;
        let (header, rest): (Header, _) =
            postcard::take_from_bytes(&encoded[commands_end..header_end])
                .map_err(|_| ValueError::Header)?;
        if !rest.is_empty() {
            return Err(ValueError::Inconsistent("bytes behind the header"));
        }
        let Header { runs, lengths } = header;
        check_runs(&runs, lengths.len())?;
        // Each length makes room for where its command ends.
        let mut ends = lengths;
        let mut end = TAG_BYTES as u32;
        for length in &mut ends {
            end = end.checked_add(*length).ok_or(ValueError::Header)?;
            *length = end;
        }
        if end as usize != commands_end {
            return Err(ValueError::Inconsistent("command lengths do not add up"));
        }
        Ok(Batch::new(encoded, runs.into(), ends.into()))
    }

    fn new(encoded: Bytes, runs: SmallVec<[Run; 1]>, ends: SmallVec<[u32; 6]>) -> Batch {
        debug_assert_eq!(check_runs(&runs, ends.len()), Ok(()));
        let digest = xxh3_64(&encoded);
        Batch(Arc::new(Inner { digest, encoded, runs, ends }))
    }
}

/// Whether runs of request ids are possible, and name as many commands as there are.
fn check_runs(runs: &[Run], commands: usize) -> Result<(), ValueError> {
    let requests: u64 = runs.iter().map(|run| u64::from(run.count)).sum();
    if runs.is_empty() || requests != commands as u64 {
        return Err(ValueError::Inconsistent("as many request ids as commands, at least one"));
    }
    if runs.iter().any(|run| run.count == 0 || run.first == 0 || run.open_from > run.first) {
        return Err(ValueError::Inconsistent("an impossible run of request ids"));
    }
    if runs.iter().any(|run| run.first.checked_add(u64::from(run.count)).is_none()) {
        return Err(ValueError::Inconsistent("a run past the last request id"));
    }
    Ok(())
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

/// Gathers commands into a [`Batch`], in the buffer that will be its encoding.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    runs: SmallVec<[Run; 1]>,
    ends: SmallVec<[u32; 6]>,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::with_capacity(0, 0)
    }
}

impl BatchBuilder {
    /// One with room for so many commands of so many bytes together.
    #[must_use]
    pub fn with_capacity(commands: usize, bytes: usize) -> BatchBuilder {
        // Behind them a run takes up to 45 bytes, a length up to 5; mostly it is half of that.
        let mut buffer = Vec::with_capacity(TAG_BYTES + bytes + 36 + 3 * commands);
        buffer.push(TAG_BATCH);
        BatchBuilder { buffer, runs: SmallVec::new(), ends: SmallVec::with_capacity(commands) }
    }

    /// Appends a command. `open_from` is its client's lowest unsettled sequence number, as in
    /// [`Run::open_from`].
    ///
    /// # Panics
    ///
    /// If the sequence number is none that counts commands, or below `open_from`: the caller checks
    /// both when a request comes in. If the commands exceed 4 GiB, which the limits on a batch
    /// exclude.
    pub fn push(&mut self, id: RequestId, open_from: u64, command: impl AsRef<[u8]>) {
        assert!(id.is_countable() && open_from <= id.sequence, "{id} with open_from {open_from}");
        self.buffer.extend_from_slice(command.as_ref());
        self.ends.push(u32::try_from(self.buffer.len()).expect("a batch has less than 4 GiB"));
        let RequestId { client, sequence: first } = id;
        match self.runs.last_mut() {
            Some(run) if run.client == client && run.end() == first => {
                run.count += 1;
                run.open_from = run.open_from.max(open_from).min(run.first);
            }
            _ => self.runs.push(Run { client, first, count: 1, open_from }),
        }
    }

    /// Bytes of the commands so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len() - TAG_BYTES
    }

    /// How many commands so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The batch; `None` if there are no commands.
    ///
    /// # Panics
    ///
    /// If the batch exceeds 4 GiB, which the limits exclude.
    #[must_use]
    pub fn build(self) -> Option<Batch> {
        let BatchBuilder { buffer: mut encoded, runs, ends } = self;
        if ends.is_empty() {
            return None;
        }
        let commands_end = encoded.len();
        push_header(&mut encoded, &runs, &ends);
        let header_len = u32::try_from(encoded.len() - commands_end);
        let header_len = header_len.expect("a header is below 4 GiB");
        encoded.extend_from_slice(&header_len.to_le_bytes());
        if encoded.capacity() > encoded.len() + encoded.len() / 4 + SPARE_BYTES {
            encoded.shrink_to_fit();
        }
        Some(Batch::new(encoded.into(), runs, ends))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{ClientId, Value};

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
    fn what_it_takes_up_is_what_is_allocated_for_it() {
        for (commands, size) in [(1, 0), (1, 1), (1, 300), (6, 20), (7, 20), (40, 1), (900, 256)] {
            let mut batch = None;
            let allocated = allocation_counter::measure(|| {
                let mut builder = BatchBuilder::default();
                for number in 1..=commands {
                    builder.push(id(number % 3 + 1, number), 1, vec![7; size]);
                }
                batch = builder.build().map(Value::Batch);
            });
            let allocated = usize::try_from(allocated.bytes_current).expect("it is still there");
            let counted = batch.expect("it has commands").memory_len();
            assert!(
                counted >= allocated - allocated / 4 && counted <= allocated + allocated / 4 + 64,
                "{commands} commands of {size} bytes: {allocated} allocated, {counted} counted"
            );
        }
    }

    #[test]
    fn the_layout_is_as_documented() {
        let mut builder = BatchBuilder::default();
        builder.push(id(7, 4), 2, "ab");
        builder.push(id(7, 5), 3, "");
        builder.push(id(8, 1), 1, "c");
        let batch = Value::Batch(builder.build().expect("three commands"));
        let header = [2, 7, 1, 4, 2, 3, 8, 1, 1, 1, 1, 3, 2, 0, 1];
        let expected = [&b"\x01abc"[..], &header, &[15, 0, 0, 0]].concat();
        assert_eq!(batch.encoded()[..], expected);
        assert_eq!(batch.digest(), xxh3_64(&expected));
        assert_eq!(Value::Noop.digest(), xxh3_64(&Value::Noop.encoded()));
    }

    /// Each of these is the batch of one command `x`, with something wrong.
    #[test]
    fn a_batch_that_contradicts_itself_is_refused() {
        let sound = |run: [u8; 5], lengths: &[u8]| {
            let mut bytes = vec![TAG_BATCH, b'x', 1];
            bytes.extend(run);
            bytes.push(u8::try_from(lengths.len()).expect("a few"));
            bytes.extend(lengths);
            let header_len = u8::try_from(bytes.len() - 2).expect("short");
            bytes.extend([header_len, 0, 0, 0]);
            bytes
        };
        let error = |bytes: Vec<u8>| Value::decode(bytes.into()).err();
        let usual @ [client, epoch, first, count, open_from] = [7, 1, 4, 1, 4];
        assert_eq!(error(sound(usual, &[1])), None);
        for (run, lengths) in [
            (usual, &[][..]),
            (usual, &[0]),
            (usual, &[2]),
            (usual, &[1, 0]),
            ([client, epoch, first, 2, open_from], &[1]),
            ([client, epoch, first, 0, open_from], &[1]),
            ([client, epoch, 0, count, 0], &[1]),
            ([client, epoch, first, count, first + 1], &[1]),
        ] {
            let error = error(sound(run, lengths));
            assert!(matches!(error, Some(ValueError::Inconsistent(_))), "{run:?}: {error:?}");
        }
        let truncated = |bytes: &[u8], need| {
            let expected = Some(ValueError::Truncated { have: bytes.len(), need });
            assert_eq!(error(bytes.to_vec()), expected, "{bytes:?}");
        };
        truncated(&[TAG_BATCH, 0, 0, 0], 5);
        truncated(&[TAG_BATCH, 1, 0, 0, 0], 6);
        let mut longer = sound(usual, &[1]);
        longer.splice(longer.len() - 4.., [9, 9, 0, 0, 0]);
        assert_eq!(error(longer), Some(ValueError::Inconsistent("bytes behind the header")));
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
    }
}
