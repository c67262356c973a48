//! From earlier formats to the present one.
//!
//! Format 4 had no memberships: it gets a row that holds none. Format 3 knew of no groups besides:
//!
//! | table      | key          | value                                                            |
//! |------------|--------------|------------------------------------------------------------------|
//! | meta       | name         | as now, and promised, chosen, floor (postcard)                   |
//! | log        | slot         | as now, but that the checksum is of cluster, slot, ballot, value |
//! | checkpoint | slot         | hash, summary of the state, session table (postcard); only one   |
//! | states     | slot, offset | as now, but that the checksum is of cluster, slot, offset, piece |
//!
//! It is one transaction, that of the recovery: a crash leaves the one or the other. Meanwhile
//! there has to be room for both.

use bytes::Bytes;
use paxos_core::{
    message::Watermark,
    port::{Checkpoint, StateSummary},
    types::{ClusterId, Slot},
};
use redb::{Key, ReadableTable, Table, TableDefinition, TableHandle, Value, WriteTransaction};
use serde::de::DeserializeOwned;

use super::{
    checkpoint::{self, CHECKPOINTS, PIECES, Problem},
    database::{GROUPS, RECORDS, encode},
    group::{CHECKSUM_BYTES, GroupState, LogId},
    memberships,
    record::{self, CHECKSUM, HEADER_BYTES},
};

/// The first format that is understood here.
pub(super) const FORMAT_MIN: u32 = WITHOUT_GROUPS;

const WITHOUT_GROUPS: u32 = 3;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const CHECKPOINT: TableDefinition<u64, &[u8]> = TableDefinition::new("checkpoint");
const STATES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("states");

/// Moves everything to where it lies now, and adds what `format` did not have.
pub(super) fn run(
    format: u32,
    log: LogId,
    transaction: &WriteTransaction,
    meta: &mut Table<&str, &[u8]>,
) -> Result<(), Problem> {
    if format == WITHOUT_GROUPS {
        move_into_group(log, transaction, meta)?;
    }
    memberships::write(log, transaction, &[])
}

fn move_into_group(
    log: LogId,
    transaction: &WriteTransaction,
    meta: &mut Table<&str, &[u8]>,
) -> Result<(), Problem> {
    let group = GroupState {
        promised: take(meta, "promised")?,
        chosen: take(meta, "chosen")?,
        floor: take(meta, "floor")?,
    };
    transaction.open_table(GROUPS)?.insert(log.group, &encode(&group)[..])?;
    move_records(log, transaction)?;
    move_checkpoint(log, transaction)?;
    move_states(log, transaction)
}

fn take<T: DeserializeOwned>(
    meta: &mut Table<&str, &[u8]>,
    key: &'static str,
) -> Result<T, Problem> {
    let found = meta.remove(key)?;
    found
        .and_then(|found| postcard::from_bytes(found.value()).ok())
        .ok_or_else(|| Problem::Damaged(format!("the node's {key} is missing or unreadable")))
}

fn move_records(log: LogId, transaction: &WriteTransaction) -> Result<(), Problem> {
    let before = existing(transaction, LOG)?;
    let mut records = transaction.open_table(RECORDS)?;
    for entry in before.iter()? {
        let (slot, found) = entry?;
        let (slot, found) = (Slot(slot.value()), found.value());
        let is_sound = found.split_at_checked(HEADER_BYTES).is_some_and(|(header, value)| {
            let covered = [&header[..CHECKSUM.start], value];
            header[CHECKSUM] == checksum(log.cluster, &[slot.0], covered)
        });
        if !is_sound {
            let what = format!("the record of slot {slot} does not match its checksum");
            return Err(Problem::Damaged(what));
        }
        let mut stored = records.insert_reserve((log.group, slot.0), found.len())?;
        stored.as_mut().copy_from_slice(found);
        record::seal(log, slot, stored.as_mut());
    }
    drop(before);
    transaction.delete_table(LOG)?;
    Ok(())
}

fn move_checkpoint(log: LogId, transaction: &WriteTransaction) -> Result<(), Problem> {
    let before = existing(transaction, CHECKPOINT)?;
    let mut checkpoints = transaction.open_table(CHECKPOINTS)?;
    if let Some((slot, found)) = before.last()? {
        let slot = Slot(slot.value());
        let (hash, state, sessions) = postcard::from_bytes::<(u64, Option<StateSummary>, &[u8])>(
            found.value(),
        )
        .map_err(|_| Problem::Damaged(format!("the checkpoint of slot {slot} is unreadable")))?;
        let at = Watermark { slot, hash };
        let checkpoint = Checkpoint { at, sessions: Bytes::copy_from_slice(sessions), state };
        checkpoints.insert(log.group, &checkpoint::encode(&checkpoint)[..])?;
    }
    drop(before);
    transaction.delete_table(CHECKPOINT)?;
    Ok(())
}

fn move_states(log: LogId, transaction: &WriteTransaction) -> Result<(), Problem> {
    let before = existing(transaction, STATES)?;
    let mut pieces = transaction.open_table(PIECES)?;
    for entry in before.iter()? {
        let (place, found) = entry?;
        let ((slot, offset), found) = (place.value(), found.value());
        let sound = found.split_at_checked(CHECKSUM_BYTES).filter(|(stored, piece)| {
            *stored == checksum(log.cluster, &[slot, offset], [piece, &[]])
        });
        let Some((_, piece)) = sound else {
            let what = format!("the state as of slot {slot} is unreadable from byte {offset} on");
            return Err(Problem::Damaged(what));
        };
        let mut stored = pieces.insert_reserve((log.group, slot, offset), found.len())?;
        checkpoint::seal(log, Slot(slot), offset, piece, stored.as_mut());
    }
    drop(before);
    transaction.delete_table(STATES)?;
    Ok(())
}

/// Opens a table, and does not make it if it is missing.
fn existing<'a, K: Key + 'static, V: Value + 'static>(
    transaction: &'a WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Table<'a, K, V>, Problem> {
    if !transaction.list_tables()?.any(|found| found.name() == table.name()) {
        return Err(Problem::Damaged(format!("the table {:?} is missing", table.name())));
    }
    Ok(transaction.open_table(table)?)
}

/// The checksum of something at `place`, as it was before there were groups.
fn checksum(cluster: ClusterId, place: &[u64], covered: [&[u8]; 2]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&cluster.0.to_le_bytes());
    place.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
    covered.iter().for_each(|bytes| hasher.update(bytes));
    hasher.finalize().to_le_bytes()
}
