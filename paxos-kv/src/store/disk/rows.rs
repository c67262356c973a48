//! Every change of a row: the one place that knows what all rows add up to.

use std::cmp::Ordering;

use redb::{AccessGuard, ReadableTable, Table, WriteTransaction};

use super::{
    super::{StoreError, small, version, version::Position},
    CURRENT, Disk, FEED, HISTORY, SMALL,
};

/// What a row weighs besides its key and value.
const ROW_OVERHEAD_BYTES: usize = 16;

/// Rows of the feed that are changed in one go: a few ten milliseconds of work.
const PAGE_ROWS: usize = 8192;
/// The same in bytes; one row more may come.
const PAGE_BYTES: usize = 8 << 20;

/// Rows of the feed.
pub(super) type Page = Vec<(Position, Vec<u8>)>;

/// A row of the feed where it lies.
type FeedRow<'a> = AccessGuard<'a, &'static [u8]>;

/// The tables in a transaction.
pub(super) struct Rows<'t> {
    disk: &'t Disk,
    current: Table<'t, &'static [u8], &'static [u8]>,
    history: Table<'t, (&'static [u8], i64, u32), &'static [u8]>,
    feed: Table<'t, (i64, u32), &'static [u8]>,
    small: Table<'t, (u8, &'static [u8]), &'static [u8]>,
    bytes: i64,
    /// The feed has everything from here on, and may lack what was before.
    compacted: i64,
}

impl<'t> Rows<'t> {
    /// Of which there are `bytes` before; the feed may lack what happened before the compacted revision.
    pub(super) fn open(
        disk: &'t Disk,
        writing: &'t WriteTransaction,
        bytes: i64,
        compacted: i64,
    ) -> Result<Rows<'t>, StoreError> {
        Ok(Rows {
            disk,
            current: disk.table(writing, CURRENT)?,
            history: disk.table(writing, HISTORY)?,
            feed: disk.table(writing, FEED)?,
            small: disk.table(writing, SMALL)?,
            bytes,
            compacted,
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
        let replaced = replaced.map_err(|error| fail(self.disk, error))?;
        let replaced = replaced.map(|row| row.value().to_vec());
        if let Some(old) = replaced {
            self.bytes -= row_bytes(key, old.len());
            let at = version::position(&old).ok_or_else(|| self.disk.damaged("a record"))?;
            let is_in_feed = at.revision >= self.compacted || self.feed_row(at)?.is_some();
            let old = if is_in_feed { version::in_feed(&old) } else { &old };
            self.add_history(key, at, old)?;
        }
        if let Some(version) = held {
            self.bytes += row_bytes(key, version.len());
        }
        Ok(())
    }

    /// Adds where the version is that `key` had since a position, or the version.
    pub(super) fn add_history(
        &mut self,
        key: &[u8],
        at: Position,
        held: &[u8],
    ) -> Result<(), StoreError> {
        let added = self.history.insert((key, at.revision, at.index), held);
        added.map_err(|error| fail(self.disk, error))?;
        self.bytes += row_bytes(key, held.len());
        Ok(())
    }

    /// Takes out what is superfluous, as of the compacted revision, because of a change in the feed:
    /// what its key held before, and this very version if that was a deletion or has been replaced by then too.
    /// Of the feed all that was before that revision goes; a version that can still be read is in the
    /// history from then on.
    pub(super) fn clean(&mut self, at: Position, row: &[u8]) -> Result<(), StoreError> {
        let (key, version) =
            version::split_feed_row(row).ok_or_else(|| self.disk.damaged("what a change was"))?;
        let fail = |error| fail(self.disk, error);
        let (mut superfluous, mut is_superseded, mut later) = (Vec::new(), false, None);
        for row in self.history.range((key, 0, 0)..=(key, i64::MAX, u32::MAX)).map_err(fail)? {
            let (row_key, _) = row.map_err(fail)?;
            let (_, revision, index) = row_key.value();
            let position = Position { revision, index };
            match position.cmp(&at) {
                Ordering::Less => superfluous.push(position),
                Ordering::Equal => is_superseded = true,
                Ordering::Greater => later = Some(position),
            }
            if later.is_some() {
                break;
            }
        }
        if is_superseded {
            if later.is_none() {
                let current = self.current.get(key).map_err(fail)?;
                later = current.and_then(|row| version::position(row.value()));
            }
            let is_passed = later.is_some_and(|later| later.revision <= self.compacted);
            if is_passed || version::is_deleted(version) {
                superfluous.push(at);
            } else if at.revision < self.compacted {
                self.remove_history(key, at)?;
                self.add_history(key, at, version)?;
            }
        }
        for position in superfluous {
            self.remove_history(key, position)?;
        }
        if at.revision < self.compacted { self.remove_feed(at) } else { Ok(()) }
    }

    /// Takes out what the history of `key` has of a position.
    pub(super) fn remove_history(
        &mut self,
        key: &[u8],
        at: Position,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let removed = self.history.remove((key, at.revision, at.index));
        let removed = removed.map_err(|error| fail(self.disk, error))?;
        let removed = removed.map(|row| row.value().to_vec());
        if let Some(removed) = &removed {
            self.bytes -= row_bytes(key, removed.len());
        }
        Ok(removed)
    }

    /// What `key` holds now, if that is since a position.
    pub(super) fn current_at(
        &self,
        key: &[u8],
        at: Position,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let held = self.current.get(key).map_err(|error| fail(self.disk, error))?;
        let held = held.filter(|held| version::position(held.value()) == Some(at));
        Ok(held.map(|held| held.value().to_vec()))
    }

    /// Some rows of the feed, from `start` on up to the end of a revision; and where to go on, if there is more.
    pub(super) fn feed_page(
        &self,
        start: Position,
        revision: i64,
    ) -> Result<(Page, Option<Position>), StoreError> {
        let range = (start.revision, start.index)..=(revision, u32::MAX);
        let (mut page, mut bytes) = (Vec::new(), 0);
        for row in self.feed.range(range).map_err(|error| fail(self.disk, error))? {
            let (at, row) = row.map_err(|error| fail(self.disk, error))?;
            let (revision, index) = at.value();
            let at = Position { revision, index };
            if page.len() == PAGE_ROWS || bytes >= PAGE_BYTES {
                return Ok((page, Some(at)));
            }
            bytes += row.value().len();
            page.push((at, row.value().to_vec()));
        }
        Ok((page, None))
    }

    /// Adds that `key` changed, and what it holds since.
    pub(super) fn add_feed(
        &mut self,
        at: Position,
        key: &[u8],
        version: &[u8],
    ) -> Result<(), StoreError> {
        let row = version::feed_row(key, version);
        let added = self.feed.insert((at.revision, at.index), &row[..]);
        added.map_err(|error| fail(self.disk, error))?;
        self.bytes += row_bytes(&row, 0);
        Ok(())
    }

    /// Whether the feed has a version of `key` there of which the history says this.
    pub(super) fn feed_has(
        &self,
        at: Position,
        key: &[u8],
        held: &[u8],
    ) -> Result<bool, StoreError> {
        let row = self.feed_row(at)?;
        let found = row.as_ref().and_then(|row| version::split_feed_row(row.value()));
        Ok(found.is_some_and(|found| found.0 == key && version::in_feed(found.1) == held))
    }

    fn feed_row(&self, at: Position) -> Result<Option<FeedRow<'_>>, StoreError> {
        self.feed.get((at.revision, at.index)).map_err(|error| fail(self.disk, error))
    }

    /// Removes a change.
    pub(super) fn remove_feed(&mut self, at: Position) -> Result<(), StoreError> {
        let removed = self.feed.remove((at.revision, at.index));
        if let Some(row) = removed.map_err(|error| fail(self.disk, error))? {
            self.bytes -= row_bytes(row.value(), 0);
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
