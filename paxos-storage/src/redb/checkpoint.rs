//! The checkpoint and the states on disk, within a transaction.
//!
//! | table      | key          | value                                                         |
//! |------------|--------------|---------------------------------------------------------------|
//! | checkpoint | slot         | hash, summary of the state, session table (postcard); only one |
//! | states     | slot, offset | CRC-32 of cluster, slot, offset and piece, u32 LE, and the piece |

use bytes::Bytes;
use paxos_core::{
    message::Watermark,
    port::{Checkpoint, StateChunk, StateSummary, WriteBatch},
    types::{ClusterId, Slot},
};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

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
    let kept = [&before, batch.checkpoint.as_ref().unwrap_or(&before)].map(slot_of_state);
    for StateChunk { slot, offset, bytes } in &batch.state {
        if *offset == 0 {
            states.retain(|(other, _), _| other != slot.0 && kept.contains(&Some(Slot(other))))?;
        }
        let mut place = states.insert_reserve((slot.0, *offset), CHECKSUM_BYTES + bytes.len())?;
        let (checksum, piece) = place.as_mut().split_at_mut(CHECKSUM_BYTES);
        checksum.copy_from_slice(&checksum_of(cluster, *slot, *offset, bytes).to_le_bytes());
        piece.copy_from_slice(bytes);
    }
    if let Some(checkpoint) = &batch.checkpoint {
        let slot = checkpoint.at.slot.0;
        states.retain_in(..(slot, 0), |_, _| false)?;
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
    let kept = slot_of_state(&checkpoint).map(|slot| slot.0);
    let mut unfinished = None;
    for piece in states.iter()? {
        let (key, value) = piece?;
        let (slot, offset) = key.value();
        if Some(slot) != kept {
            let len = value.value().len().saturating_sub(CHECKSUM_BYTES);
            unfinished = Some((Slot(slot), offset + len as u64));
        }
    }
    Ok((checkpoint, unfinished))
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
    for StateChunk { slot, offset, bytes } in &batch.state {
        let found = states.get((slot.0, *offset))?;
        let found = found.map(|found| Bytes::copy_from_slice(found.value()));
        let piece = found.as_deref().map(|found| piece_of(cluster, *slot, *offset, found));
        if !piece.is_some_and(|piece| piece.is_ok_and(|piece| piece == bytes)) {
            return Ok(false);
        }
    }
    Ok(true)
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

fn slot_of_state(checkpoint: &Checkpoint) -> Option<Slot> {
    checkpoint.state.map(|_| checkpoint.at.slot)
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
