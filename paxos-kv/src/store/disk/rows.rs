//! Every change of a row: the one place that knows what all rows add up to.

use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    super::{StoreError, small, version, version::Position},
    CURRENT, Disk, FEED, HISTORY, SMALL,
};

/// What a row weighs besides its key and value.
const ROW_OVERHEAD_BYTES: usize = 16;

/// The tables in a transaction.
pub(super) struct Rows<'t> {
    disk: &'t Disk,
    current: Table<'t, &'static [u8], &'static [u8]>,
    history: Table<'t, (&'static [u8], i64, u32), &'static [u8]>,
    feed: Table<'t, (i64, u32), &'static [u8]>,
    small: Table<'t, (u8, &'static [u8]), &'static [u8]>,
    bytes: i64,
}

impl<'t> Rows<'t> {
    /// Of which there are `bytes` before.
    pub(super) fn open(
        disk: &'t Disk,
        writing: &'t WriteTransaction,
        bytes: i64,
    ) -> Result<Rows<'t>, StoreError> {
        Ok(Rows {
            disk,
            current: disk.table(writing, CURRENT)?,
            history: disk.table(writing, HISTORY)?,
            feed: disk.table(writing, FEED)?,
            small: disk.table(writing, SMALL)?,
            bytes,
        })
    }

    /// Keys and values, in bytes, with what it takes to store them.
    pub(super) fn bytes(&self) -> i64 {
        self.bytes
    }

    /// From now on `key` holds this, or nothing; what it held before goes into its history.
    pub(super) fn supersede(&mut self, key: &[u8], held: Option<&[u8]>) -> Result<(), StoreError> {
        let replaced = match held {
            Some(version) => self.current.insert(key, version),
            None => self.current.remove(key),
        };
        if let Some(replaced) = replaced.map_err(|error| fail(self.disk, error))? {
            let old = replaced.value();
            let at = version::position(old).ok_or_else(|| self.disk.damaged("a record"))?;
            let row = (key, at.revision, at.index);
            self.history.insert(row, old).map_err(|error| fail(self.disk, error))?;
        }
        if let Some(version) = held {
            self.bytes += row_bytes(key, version.len());
        }
        Ok(())
    }

    /// Adds what `key` held since a position.
    pub(super) fn add_history(
        &mut self,
        key: &[u8],
        at: Position,
        version: &[u8],
    ) -> Result<(), StoreError> {
        let added = self.history.insert((key, at.revision, at.index), version);
        added.map_err(|error| fail(self.disk, error))?;
        self.bytes += row_bytes(key, version.len());
        Ok(())
    }

    /// Removes what `key` held before `at`, and its deletion if that is what happened then.
    pub(super) fn remove_history(&mut self, key: &[u8], at: Position) -> Result<(), StoreError> {
        let fail = |error| fail(self.disk, error);
        let mut superfluous = Vec::new();
        for row in self.history.range((key, 0, 0)..=(key, at.revision, at.index)).map_err(fail)? {
            let (row_key, row_value) = row.map_err(fail)?;
            let (_, revision, index) = row_key.value();
            let position = Position { revision, index };
            if position < at || version::is_deleted(row_value.value()) {
                superfluous.push(position);
            }
        }
        for position in superfluous {
            let row = (key, position.revision, position.index);
            if let Some(removed) = self.history.remove(row).map_err(fail)? {
                self.bytes -= row_bytes(key, removed.value().len());
            }
        }
        Ok(())
    }

    /// Adds that `key` changed.
    pub(super) fn add_feed(&mut self, at: Position, key: &[u8]) -> Result<(), StoreError> {
        let added = self.feed.insert((at.revision, at.index), key);
        added.map_err(|error| fail(self.disk, error))?;
        self.bytes += row_bytes(key, 0);
        Ok(())
    }

    /// The first so many changes from `start` on, up to the end of a revision.
    pub(super) fn feed(
        &self,
        start: Position,
        revision: i64,
        rows_max: usize,
    ) -> Result<Vec<(Position, Vec<u8>)>, StoreError> {
        let range = (start.revision, start.index)..=(revision, u32::MAX);
        let rows = self.feed.range(range).map_err(|error| fail(self.disk, error))?;
        let rows = rows.take(rows_max).map(|row| {
            let (at, key) = row.map_err(|error| fail(self.disk, error))?;
            let (revision, index) = at.value();
            Ok((Position { revision, index }, key.value().to_vec()))
        });
        rows.collect()
    }

    /// Removes what is said of a change.
    pub(super) fn remove_feed(&mut self, at: Position) -> Result<(), StoreError> {
        let removed = self.feed.remove((at.revision, at.index));
        if let Some(key) = removed.map_err(|error| fail(self.disk, error))? {
            self.bytes -= row_bytes(key.value(), 0);
        }
        Ok(())
    }

    /// From now on a row of a small table holds this, or is gone.
    pub(super) fn set_small(
        &mut self,
        table: small::Table,
        key: &[u8],
        held: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let place = (table as u8, key);
        let replaced = match held {
            Some(held) => self.small.insert(place, held),
            None => self.small.remove(place),
        };
        if let Some(replaced) = replaced.map_err(|error| fail(self.disk, error))? {
            self.bytes -= row_bytes(key, replaced.value().len());
        }
        if let Some(held) = held {
            self.bytes += row_bytes(key, held.len());
        }
        Ok(())
    }
}

fn fail(disk: &Disk, error: redb::StorageError) -> StoreError {
    StoreError::of(&disk.path, error)
}

fn row_bytes(key: &[u8], value_bytes: usize) -> i64 {
    i64::try_from(key.len() + value_bytes + ROW_OVERHEAD_BYTES).expect("a row is below 8 EiB")
}
