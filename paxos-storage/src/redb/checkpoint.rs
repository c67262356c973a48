//! The checkpoint and the states on disk, within a transaction.
//!
//! | table      | key          | value                                                         |
//! |------------|--------------|---------------------------------------------------------------|
//! | checkpoint | slot         | hash, summary of the state, session table (postcard); only one |
//! | states     | slot, offset | CRC-32 of cluster, slot, offset and piece, u32 LE, and the piece |

use std::collections::BTreeSet;

use bytes::Bytes;
use paxos_core::{
    message::Watermark,
    port::{Checkpoint, StateChunk, StateSummary, WriteBatch},
    types::{ClusterId, Slot},
};
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

type Rows = TableDefinition<'static, u64, &'static [u8]>;
type Pieces = TableDefinition<'static, (u64, u64), &'static [u8]>;

const CHECKPOINT: Rows = TableDefinition::new("checkpoint");
const STATES: Pieces = TableDefinition::new("states");

/// What stands before a piece.
const CHECKSUM_BYTES: usize = 4;

/// What cannot be read or written.
pub(super) enum Problem {
    /// redb says so.
    Redb(redb::Error),
    /// It is there, and is not what was written.
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for Problem {
    fn from(error: E) -> Problem {
        Problem::Redb(error.into())
    }
}

/// Makes the tables of a new database.
pub(super) fn initialise(transaction: &WriteTransaction) -> Result<(), Problem> {
    transaction.open_table(CHECKPOINT)?;
    transaction.open_table(STATES)?;
    Ok(())
}

/// Writes what a batch has of a state, and its checkpoint.
pub(super) fn write(
    cluster: ClusterId,
    transaction: &WriteTransaction,
    batch: &WriteBatch,
) -> Result<(), Problem> {
    if batch.state.is_empty() && batch.checkpoint.is_none() {
        return Ok(());
    }
    let mut checkpoints = transaction.open_table(CHECKPOINT)?;
    let mut states = transaction.open_table(STATES)?;
    // A batch may hold the checkpoint of one state and the beginning of the next.
    let before = newest(&checkpoints)?;
    let kept =
        [&before, batch.checkpoint.as_ref().unwrap_or(&before)].map(Checkpoint::slot_of_state);
    for StateChunk { slot, offset, bytes } in &batch.state {
        if *offset == 0 {
            drop_all_but(&mut states, kept.map(|kept| kept.filter(|kept| kept != slot)))?;
        }
        if end_of_state(&states, *slot)? != *offset {
            return Err(Problem::Damaged(format!("a piece of the state as of {slot} is missing")));
        }
        let mut place = states.insert_reserve((slot.0, *offset), CHECKSUM_BYTES + bytes.len())?;
        let (checksum, piece) = place.as_mut().split_at_mut(CHECKSUM_BYTES);
        checksum.copy_from_slice(&checksum_of(cluster, *slot, *offset, bytes).to_le_bytes());
        piece.copy_from_slice(bytes);
    }
    if let Some(checkpoint) = &batch.checkpoint {
        let slot = checkpoint.at.slot.0;
        let kept_from = if checkpoint.state.is_some() { slot } else { slot.saturating_add(1) };
        states.retain_in(..(kept_from, 0), |_, _| false)?;
        checkpoints.retain(|_, _| false)?;
        checkpoints.insert(slot, &encode(checkpoint)[..])?;
    }
    Ok(())
}

/// The newest checkpoint, and the state that is not finished.
pub(super) fn read(
    transaction: &ReadTransaction,
) -> Result<(Checkpoint, Option<(Slot, u64)>), Problem> {
    let checkpoint = newest(&transaction.open_table(CHECKPOINT)?)?;
    let states = transaction.open_table(STATES)?;
    let kept = checkpoint.slot_of_state().map(|slot| slot.0);
    // There are two states at most.
    let ends = [states.first()?, states.last()?].map(|end| end.map(|(key, _)| key.value().0));
    let unfinished = ends.into_iter().flatten().find(|slot| Some(*slot) != kept).map(Slot);
    let end = unfinished.map(|slot| end_of_state(&states, slot)).transpose()?;
    Ok((checkpoint, unfinished.zip(end)))
}

/// The rest of the piece that holds `offset`, `bytes_max` of it at most.
pub(super) fn read_state(
    cluster: ClusterId,
    transaction: &ReadTransaction,
    slot: Slot,
    offset: u64,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let states = transaction.open_table(STATES)?;
    let Some(found) = states.range((slot.0, 0)..=(slot.0, offset))?.next_back() else {
        return Ok(Bytes::new());
    };
    let (key, value) = found?;
    let (_, start) = key.value();
    let piece = piece_of(cluster, slot, start, value.value())?;
    let skipped = usize::try_from(offset - start).unwrap_or(usize::MAX).min(piece.len());
    let rest = &piece[skipped..];
    Ok(Bytes::copy_from_slice(&rest[..rest.len().min(bytes_max.max(1))]))
}

/// Whether what a batch has of these is already so.
pub(super) fn contains(
    cluster: ClusterId,
    transaction: &ReadTransaction,
    batch: &WriteBatch,
) -> Result<bool, Problem> {
    if let Some(expected) = &batch.checkpoint
        && newest(&transaction.open_table(CHECKPOINT)?)? != *expected
    {
        return Ok(false);
    }
    let states = transaction.open_table(STATES)?;
    let left = left_behind(batch);
    for StateChunk { slot, offset, bytes } in left.iter().copied() {
        let found = states.get((slot.0, *offset))?;
        let found = found.map(|found| Bytes::copy_from_slice(found.value()));
        let piece = found.as_deref().map(|found| piece_of(cluster, *slot, *offset, found));
        if !piece.is_some_and(|piece| piece.is_ok_and(|piece| piece == bytes)) {
            return Ok(false);
        }
        let last = left.iter().rfind(|chunk| chunk.slot == *slot);
        let end = last.map_or(0, |last| last.offset + last.bytes.len() as u64);
        if end_of_state(&states, *slot)? != end {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The pieces of a batch that are still there after it.
fn left_behind(batch: &WriteBatch) -> Vec<&StateChunk> {
    let checkpoint = batch.checkpoint.as_ref();
    let kept = checkpoint.and_then(Checkpoint::slot_of_state);
    let mut left: Vec<&StateChunk> = Vec::new();
    for chunk in &batch.state {
        if chunk.offset == 0 {
            left.retain(|other| Some(other.slot) == kept && other.slot != chunk.slot);
        }
        left.push(chunk);
    }
    left.retain(|chunk| {
        let is_behind = |checkpoint: &Checkpoint| chunk.slot > checkpoint.at.slot;
        checkpoint.is_none_or(is_behind) || Some(chunk.slot) == kept
    });
    left
}

/// Drops every state but these, without looking at what it keeps.
fn drop_all_but(
    states: &mut Table<'_, (u64, u64), &'static [u8]>,
    kept: [Option<Slot>; 2],
) -> Result<(), Problem> {
    let kept: BTreeSet<Slot> = kept.into_iter().flatten().collect();
    let mut next = 0;
    for slot in kept {
        states.retain_in((next, 0)..(slot.0, 0), |_, _| false)?;
        next = slot.0.saturating_add(1);
    }
    states.retain_in((next, 0).., |_, _| false)?;
    Ok(())
}

/// How many bytes there are of the state as of `slot`.
fn end_of_state(
    states: &impl ReadableTable<(u64, u64), &'static [u8]>,
    slot: Slot,
) -> Result<u64, Problem> {
    let last = states.range((slot.0, 0)..=(slot.0, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(0, |(key, piece)| {
        let len = piece.value().len().saturating_sub(CHECKSUM_BYTES);
        key.value().1.saturating_add(len as u64)
    }))
}

fn newest(table: &impl ReadableTable<u64, &'static [u8]>) -> Result<Checkpoint, Problem> {
    let Some((slot, value)) = table.last()? else { return Ok(Checkpoint::default()) };
    let slot = Slot(slot.value());
    let (hash, state, sessions) = postcard::from_bytes::<(u64, Option<StateSummary>, &[u8])>(
        value.value(),
    )
    .map_err(|_| Problem::Damaged(format!("the checkpoint of slot {slot} is unreadable")))?;
    let at = Watermark { slot, hash };
    Ok(Checkpoint { at, sessions: Bytes::copy_from_slice(sessions), state })
}

fn encode(Checkpoint { at, sessions, state }: &Checkpoint) -> Vec<u8> {
    postcard::to_stdvec(&(at.hash, state, &sessions[..])).expect("plain data encodes")
}

fn piece_of(cluster: ClusterId, slot: Slot, offset: u64, stored: &[u8]) -> Result<&[u8], Problem> {
    let (checksum, piece) = stored.split_first_chunk::<CHECKSUM_BYTES>().unzip();
    let is_sound = |piece: &&[u8]| {
        checksum.map(|bytes| u32::from_le_bytes(*bytes))
            == Some(checksum_of(cluster, slot, offset, piece))
    };
    piece.filter(is_sound).ok_or_else(|| {
        let what = format!("the state as of slot {slot} is unreadable from byte {offset} on");
        Problem::Damaged(what)
    })
}

fn checksum_of(cluster: ClusterId, slot: Slot, offset: u64, piece: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [cluster.0, slot.0, offset] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(piece);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a batch is there is asked when the disk was full in the midst of it.
    #[test]
    fn what_a_batch_supersedes_itself_is_not_looked_for() {
        let chunk = |slot, offset| StateChunk {
            slot: Slot(slot),
            offset,
            bytes: Bytes::from_static(b"piece"),
        };
        let checkpoint = |slot, state| Checkpoint {
            at: Watermark { slot: Slot(slot), hash: 1 },
            sessions: Bytes::new(),
            state,
        };
        let state = Some(StateSummary { bytes: 10, hash: 1 });
        for (pieces, checkpoint, expected) in [
            (&[(5, 0), (5, 5)][..], None, &[(5, 0), (5, 5)][..]),
            (&[(5, 5), (5, 0)], None, &[(5, 0)]),
            (&[(5, 0), (5, 5), (7, 0)], None, &[(7, 0)]),
            (&[(5, 0), (5, 5), (7, 0)], Some(checkpoint(5, state)), &[(5, 0), (5, 5), (7, 0)]),
            (&[(5, 0), (5, 5), (7, 0)], Some(checkpoint(5, None)), &[(7, 0)]),
            (&[(5, 0), (7, 0)], Some(checkpoint(7, state)), &[(7, 0)]),
        ] {
            let state = pieces.iter().map(|&(slot, offset)| chunk(slot, offset)).collect();
            let batch = WriteBatch { state, checkpoint, ..WriteBatch::default() };
            let left = left_behind(&batch);
            let left: Vec<_> = left.iter().map(|chunk| (chunk.slot.0, chunk.offset)).collect();
            assert_eq!(left, expected, "of {pieces:?}");
        }
    }
}
