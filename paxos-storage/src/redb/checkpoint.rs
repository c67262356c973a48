//! The checkpoint and the states on disk, within a transaction.
//!
//! | table       | key                 | value                                               |
//! |-------------|---------------------|-----------------------------------------------------|
//! | checkpoints | group               | slot, hash, summary of the state, sessions (postcard) |
//! | pieces      | group, slot, offset | CRC-32, u32 LE, and a piece of the state            |
//!
//! The checksum is of cluster (u64 LE), group (u32 LE), slot and offset (both u64 LE), and the piece.

use std::{collections::BTreeSet, ops::RangeInclusive};

use bytes::Bytes;
use paxos_core::{
    message::Watermark,
    port::{Checkpoint, StateChunk, StateSummary, WriteBatch},
    types::Slot,
};
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::group::{CHECKSUM_BYTES, LogId};

/// Group, slot and offset.
pub(super) type Place = (u32, u64, u64);

pub(super) const CHECKPOINTS: TableDefinition<'static, u32, &'static [u8]> =
    TableDefinition::new("checkpoints");
pub(super) const PIECES: TableDefinition<'static, Place, &'static [u8]> =
    TableDefinition::new("pieces");

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
    transaction.open_table(CHECKPOINTS)?;
    transaction.open_table(PIECES)?;
    Ok(())
}

/// Writes what a batch has of a state, and its checkpoint.
pub(super) fn write(
    log: LogId,
    transaction: &WriteTransaction,
    batch: &WriteBatch,
) -> Result<(), Problem> {
    if batch.state.is_empty() && batch.checkpoint.is_none() {
        return Ok(());
    }
    let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
    let mut pieces = transaction.open_table(PIECES)?;
    // A batch may hold the checkpoint of one state and the beginning of the next.
    let before = newest(&checkpoints, log)?;
    let kept =
        [&before, batch.checkpoint.as_ref().unwrap_or(&before)].map(Checkpoint::slot_of_state);
    for StateChunk { slot, offset, bytes } in &batch.state {
        if *offset == 0 {
            drop_all_but(&mut pieces, log, kept.map(|kept| kept.filter(|kept| kept != slot)))?;
        }
        if end_of_state(&pieces, log, *slot)? != *offset {
            return Err(Problem::Damaged(format!("a piece of the state as of {slot} is missing")));
        }
        let place = (log.group, slot.0, *offset);
        let mut stored = pieces.insert_reserve(place, CHECKSUM_BYTES + bytes.len())?;
        seal(log, *slot, *offset, bytes, stored.as_mut());
    }
    if let Some(checkpoint) = &batch.checkpoint {
        let kept_from = checkpoint.slot_of_state().unwrap_or(checkpoint.at.slot.next());
        pieces.retain_in((log.group, 0, 0)..(log.group, kept_from.0, 0), |_, _| false)?;
        checkpoints.insert(log.group, &encode(checkpoint)[..])?;
    }
    Ok(())
}

/// The newest checkpoint, and the state that is not finished.
pub(super) fn read(
    log: LogId,
    transaction: &ReadTransaction,
) -> Result<(Checkpoint, Option<(Slot, u64)>), Problem> {
    let checkpoint = newest(&transaction.open_table(CHECKPOINTS)?, log)?;
    let pieces = transaction.open_table(PIECES)?;
    let mut all = pieces.range(states(log, Slot::ZERO..=Slot(u64::MAX)))?;
    // There are two states at most.
    let ends = [all.next().transpose()?, all.next_back().transpose()?];
    let mut slots = ends.into_iter().flatten().map(|(place, _)| Slot(place.value().1));
    let unfinished = slots.find(|slot| Some(*slot) != checkpoint.slot_of_state());
    let end = unfinished.map(|slot| end_of_state(&pieces, log, slot)).transpose()?;
    Ok((checkpoint, unfinished.zip(end)))
}

/// The rest of the piece that holds `offset`, `bytes_max` of it at most.
pub(super) fn read_state(
    log: LogId,
    transaction: &ReadTransaction,
    slot: Slot,
    offset: u64,
    bytes_max: usize,
) -> Result<Bytes, Problem> {
    let pieces = transaction.open_table(PIECES)?;
    let up_to = (log.group, slot.0, 0)..=(log.group, slot.0, offset);
    let Some(found) = pieces.range(up_to)?.next_back() else {
        return Ok(Bytes::new());
    };
    let (key, value) = found?;
    let (_, _, start) = key.value();
    let piece = piece_of(log, slot, start, value.value())?;
    let skipped = usize::try_from(offset - start).unwrap_or(usize::MAX).min(piece.len());
    let rest = &piece[skipped..];
    Ok(Bytes::copy_from_slice(&rest[..rest.len().min(bytes_max.max(1))]))
}

/// Whether what a batch has of these is already so.
pub(super) fn contains(
    log: LogId,
    transaction: &ReadTransaction,
    batch: &WriteBatch,
) -> Result<bool, Problem> {
    if let Some(expected) = &batch.checkpoint
        && newest(&transaction.open_table(CHECKPOINTS)?, log)? != *expected
    {
        return Ok(false);
    }
    let pieces = transaction.open_table(PIECES)?;
    let left = left_behind(batch);
    for StateChunk { slot, offset, bytes } in left.iter().copied() {
        let found = pieces.get((log.group, slot.0, *offset))?;
        let found = found.map(|found| Bytes::copy_from_slice(found.value()));
        let piece = found.as_deref().map(|found| piece_of(log, *slot, *offset, found));
        if !piece.is_some_and(|piece| piece.is_ok_and(|piece| piece == bytes)) {
            return Ok(false);
        }
        let last = left.iter().rfind(|chunk| chunk.slot == *slot);
        let end = last.map_or(0, |last| last.offset + last.bytes.len() as u64);
        if end_of_state(&pieces, log, *slot)? != end {
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
    pieces: &mut Table<'_, Place, &'static [u8]>,
    log: LogId,
    kept: [Option<Slot>; 2],
) -> Result<(), Problem> {
    let kept: BTreeSet<Slot> = kept.into_iter().flatten().collect();
    let mut next = Slot::ZERO;
    for slot in kept {
        pieces.retain_in((log.group, next.0, 0)..(log.group, slot.0, 0), |_, _| false)?;
        next = slot.next();
    }
    pieces.retain_in(states(log, next..=Slot(u64::MAX)), |_, _| false)?;
    Ok(())
}

/// Where the states as of these slots lie.
fn states(log: LogId, slots: RangeInclusive<Slot>) -> RangeInclusive<Place> {
    (log.group, slots.start().0, 0)..=(log.group, slots.end().0, u64::MAX)
}

/// How many bytes there are of the state as of `slot`.
fn end_of_state(
    pieces: &impl ReadableTable<Place, &'static [u8]>,
    log: LogId,
    slot: Slot,
) -> Result<u64, Problem> {
    let last = pieces.range(states(log, slot..=slot))?.next_back().transpose()?;
    Ok(last.map_or(0, |(place, piece)| {
        let len = piece.value().len().saturating_sub(CHECKSUM_BYTES);
        place.value().2.saturating_add(len as u64)
    }))
}

fn newest(
    table: &impl ReadableTable<u32, &'static [u8]>,
    log: LogId,
) -> Result<Checkpoint, Problem> {
    let Some(stored) = table.get(log.group)? else { return Ok(Checkpoint::default()) };
    let (at, state, sessions) =
        postcard::from_bytes::<(Watermark, Option<StateSummary>, &[u8])>(stored.value())
            .map_err(|_| Problem::Damaged("the checkpoint is unreadable".to_owned()))?;
    Ok(Checkpoint { at, sessions: Bytes::copy_from_slice(sessions), state })
}

pub(super) fn encode(Checkpoint { at, sessions, state }: &Checkpoint) -> Vec<u8> {
    postcard::to_stdvec(&(at, state, &sessions[..])).expect("plain data encodes")
}

/// Writes a piece into `target`, with its checksum.
pub(super) fn seal(log: LogId, slot: Slot, offset: u64, piece: &[u8], target: &mut [u8]) {
    log.seal(&[slot.0, offset], piece, target);
}

fn piece_of(log: LogId, slot: Slot, offset: u64, stored: &[u8]) -> Result<&[u8], Problem> {
    log.unseal(&[slot.0, offset], stored).ok_or_else(|| {
        let what = format!("the state as of slot {slot} is unreadable from byte {offset} on");
        Problem::Damaged(what)
    })
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
