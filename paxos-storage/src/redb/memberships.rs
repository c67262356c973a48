//! The memberships that govern slots above the checkpoint, on disk, within a transaction.
//!
//! | table       | key   | value                                            |
//! |-------------|-------|--------------------------------------------------|
//! | memberships | group | CRC-32, u32 LE, and what the replica has encoded |
//!
//! The checksum is of cluster (u64 LE), group (u32 LE) and those bytes. A log that was given none has
//! a row with none of them: one that is missing is damage.

use bytes::Bytes;
use redb::{ReadTransaction, TableDefinition, WriteTransaction};

use super::{checkpoint::Problem, group::LogId};

const MEMBERSHIPS: TableDefinition<'static, u32, &'static [u8]> =
    TableDefinition::new("memberships");

/// What stands before the memberships.
const CHECKSUM_BYTES: usize = 4;

/// Replaces the memberships that are there.
pub(super) fn write(
    log: LogId,
    transaction: &WriteTransaction,
    memberships: &[u8],
) -> Result<(), Problem> {
    let mut table = transaction.open_table(MEMBERSHIPS)?;
    let mut stored = table.insert_reserve(log.group, CHECKSUM_BYTES + memberships.len())?;
    let (checksum, rest) = stored.as_mut().split_at_mut(CHECKSUM_BYTES);
    checksum.copy_from_slice(&checksum_of(log, memberships).to_le_bytes());
    rest.copy_from_slice(memberships);
    Ok(())
}

/// The memberships that were written last.
pub(super) fn read(log: LogId, transaction: &ReadTransaction) -> Result<Bytes, Problem> {
    let stored = transaction.open_table(MEMBERSHIPS)?.get(log.group)?;
    let sound = stored.as_ref().and_then(|stored| {
        let (checksum, memberships) = stored.value().split_first_chunk::<CHECKSUM_BYTES>()?;
        let is_sound = u32::from_le_bytes(*checksum) == checksum_of(log, memberships);
        is_sound.then(|| Bytes::copy_from_slice(memberships))
    });
    sound.ok_or_else(|| Problem::Damaged("the memberships are missing or unreadable".to_owned()))
}

fn checksum_of(log: LogId, memberships: &[u8]) -> u32 {
    let mut hasher = log.checksum_at(&[]);
    hasher.update(memberships);
    hasher.finalize()
}
