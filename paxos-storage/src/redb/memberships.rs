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

use super::{
    checkpoint::Problem,
    group::{CHECKSUM_BYTES, LogId},
};

const MEMBERSHIPS: TableDefinition<'static, u32, &'static [u8]> =
    TableDefinition::new("memberships");

/// Replaces the memberships that are there.
pub(super) fn write(
    log: LogId,
    transaction: &WriteTransaction,
    memberships: &[u8],
) -> Result<(), Problem> {
    let mut table = transaction.open_table(MEMBERSHIPS)?;
    let mut stored = table.insert_reserve(log.group, CHECKSUM_BYTES + memberships.len())?;
    log.seal(&[], memberships, stored.as_mut());
    Ok(())
}

/// The memberships that were written last.
pub(super) fn read(log: LogId, transaction: &ReadTransaction) -> Result<Bytes, Problem> {
    let stored = transaction.open_table(MEMBERSHIPS)?.get(log.group)?;
    let sound = stored.as_ref().and_then(|stored| log.unseal(&[], stored.value()));
    let memberships = sound.map(Bytes::copy_from_slice);
    let damaged = || Problem::Damaged("the memberships are missing or unreadable".to_owned());
    memberships.ok_or_else(damaged)
}
