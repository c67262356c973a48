//! What every change moves on, so that members can tell whether their states are the same.
//!
//! The state of a slot has two sums of hashes, which do not depend on the order of the rows: of what stands,
//! and of every change there has been. A command takes a row that it replaces out of the first as it
//! **finds** it: what another one has left there, or what memory or a disk has made of it, so whoever has
//! another row there has another sum from then on. The second keeps what has differed once for good, after
//! the rows have become the same again too.
//!
//! Both are of exactly the slots applied: they belong to the head, and the tables have those of the slot that
//! they go up to. They know nothing of what differs between members: how far changes are in the tables, and
//! which old versions have been cleaned up. Who takes over a state goes on with its sums, once the rows that
//! came add up to them.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    Head,
    small::Table,
    version::{self, Version},
};

/// Tells rows of small tables from keys, and from each other.
const ROW_SEED: u64 = 1 << 8;
const ROW_GONE_SEED: u64 = 2 << 8;

/// See the module. They wrap around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Of what keys hold, and rows of small tables.
    pub(super) rows: u64,
    /// Of every change of these.
    pub(super) changes: u64,
}

impl Sums {
    /// A row comes, in place of another one if there was one. Both are known by their hashes.
    pub(super) fn put(&mut self, row: u64, replaced: Option<u64>) {
        self.rows = self.rows.wrapping_add(row).wrapping_sub(replaced.unwrap_or(0));
        self.changes = self.changes.wrapping_add(row);
    }

    /// A row goes.
    pub(super) fn delete(&mut self, deletion: u64, replaced: u64) {
        self.rows = self.rows.wrapping_sub(replaced);
        self.changes = self.changes.wrapping_add(deletion);
    }
}

impl Head {
    /// A digest of the state; nothing if it comes from a version that had no sums.
    pub(super) fn digest(&self) -> Option<u64> {
        let Sums { rows, changes } = self.sums?;
        let revisions = [self.revision, self.compacted].map(i64::cast_unsigned);
        let words = [rows, changes, revisions[0], revisions[1], self.rules.0.into()];
        Some(xxh3_64(words.map(u64::to_le_bytes).as_flattened()))
    }
}

/// The hash of a key with a version of it.
pub(super) fn of_version(key: &[u8], version: &Version) -> u64 {
    let (header, length) = version.header();
    let value = version.live.as_ref().map_or(&[][..], |live| &live.value);
    of_parts(key, &header[..length], value)
}

/// The same of an encoded version.
pub(super) fn of_encoded(key: &[u8], encoded: &[u8]) -> u64 {
    let (header, value) = version::split(encoded);
    of_parts(key, header, value)
}

/// The hash of a row of a small table.
pub(super) fn of_row(table: Table, key: &[u8], held: &[u8]) -> u64 {
    xxh3_64_with_seed(held, xxh3_64_with_seed(key, ROW_SEED + table as u64))
}

/// The same of one that goes.
pub(super) fn of_row_gone(table: Table, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, ROW_GONE_SEED + table as u64)
}

fn of_parts(key: &[u8], header: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64_with_seed(header, xxh3_64(key)))
}
