//! The tables as of one commit, to be read for as long as one likes.

use bytes::Bytes;
use redb::{AccessGuard, ReadOnlyTable, ReadableTable};

use super::{
    super::{
        StoreError,
        small::Table,
        sums,
        version::{self, Position},
    },
    Extent,
};

/// An encoded version where it lies.
pub(in crate::store) struct Row {
    guard: AccessGuard<'static, &'static [u8]>,
    /// What comes before it there.
    offset: usize,
}

impl Row {
    pub(in crate::store) fn value(&self) -> &[u8] {
        &self.guard.value()[self.offset..]
    }
}

/// What the history has of a version.
pub(in crate::store) enum Past {
    /// The version.
    Here(Row),
    /// It is in the feed, and a deletion or not.
    InFeed { is_deleted: bool },
}

impl From<AccessGuard<'static, &'static [u8]>> for Row {
    fn from(guard: AccessGuard<'static, &'static [u8]>) -> Row {
        Row { guard, offset: 0 }
    }
}

impl From<AccessGuard<'static, &'static [u8]>> for Past {
    fn from(held: AccessGuard<'static, &'static [u8]>) -> Past {
        if version::is_in_feed(held.value()) {
            Past::InFeed { is_deleted: version::is_deleted(held.value()) }
        } else {
            Past::Here(held.into())
        }
    }
}

/// See the module.
pub(in crate::store) struct Snapshot {
    pub(in crate::store) current: ReadOnlyTable<&'static [u8], &'static [u8]>,
    pub(in crate::store) history: ReadOnlyTable<(&'static [u8], i64, u32), &'static [u8]>,
    pub(in crate::store) feed: ReadOnlyTable<(i64, u32), &'static [u8]>,
    pub(in crate::store) small: ReadOnlyTable<(u8, &'static [u8]), &'static [u8]>,
    pub(in crate::store) extent: Extent,
    pub(in crate::store) path: String,
}

impl Snapshot {
    pub(in crate::store) fn damaged(&self, reason: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason: reason.to_owned() }
    }

    /// What a row of a small table holds.
    pub(in crate::store) fn row(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<Bytes>, StoreError> {
        let found = self.small.get((table as u8, key));
        let found = found.map_err(|error| StoreError::of(&self.path, error))?;
        Ok(found.map(|row| Bytes::copy_from_slice(row.value())))
    }

    /// The rows of a small table whose keys begin with `prefix`, in order.
    pub(in crate::store) fn rows(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<SmallRows, StoreError> {
        let rows = self.small.range((table as u8, prefix)..);
        let rows = rows.map_err(|error| StoreError::of(&self.path, error))?;
        let prefix = Bytes::copy_from_slice(prefix);
        Ok(SmallRows { rows, table, prefix, path: self.path.clone() })
    }

    /// What all that keys hold adds up to. Takes as long as it takes to read it.
    pub(in crate::store) fn sum_of_current(&self) -> Result<u64, StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        let rows = self.current.iter().map_err(fail)?;
        rows.map(|row| {
            let (key, version) = row.map_err(fail)?;
            Ok(sums::of_encoded(key.value(), version.value()))
        })
        .try_fold(0, |sum: u64, row| Ok(sum.wrapping_add(row?)))
    }

    /// The newest version of `key` up to a position.
    pub(in crate::store) fn get(
        &self,
        key: &[u8],
        until: Position,
    ) -> Result<Option<Row>, StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        if let Some(row) = self.current.get(key).map_err(fail)? {
            let at = version::position(row.value());
            let at = at.ok_or_else(|| self.damaged("a record is cut short"))?;
            if at <= until {
                return Ok(Some(row.into()));
            }
        }
        if until >= Position::end_of(self.extent.head.revision) {
            return Ok(None);
        }
        let Some((at, past)) = self.past(key, until)? else { return Ok(None) };
        match past {
            Past::Here(row) => Ok(Some(row)),
            Past::InFeed { .. } => self.in_feed(key, at).map(Some),
        }
    }

    /// The newest version of `key` up to a position that has been replaced since, or was a deletion.
    pub(in crate::store) fn past(
        &self,
        key: &[u8],
        until: Position,
    ) -> Result<Option<(Position, Past)>, StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        let last = (key, until.revision, until.index);
        let mut older = self.history.range((key, 0, 0)..=last).map_err(fail)?;
        let row = older.next_back().transpose().map_err(fail)?;
        Ok(row.map(|(place, held)| {
            let (_, revision, index) = place.value();
            (Position { revision, index }, held.into())
        }))
    }

    /// What the feed has at a position, which has to be of `key`.
    pub(in crate::store) fn in_feed(&self, key: &[u8], at: Position) -> Result<Row, StoreError> {
        let row = self.feed.get((at.revision, at.index));
        let row = row.map_err(|error| StoreError::of(&self.path, error))?;
        let length = |row: &[u8]| {
            let (found, version) = version::split_feed_row(row)?;
            (found == key && version::position(version) == Some(at)).then_some(version.len())
        };
        let found = row.and_then(|guard| {
            let offset = guard.value().len() - length(guard.value())?;
            Some(Row { guard, offset })
        });
        found.ok_or_else(|| self.damaged("a change is in one table and not in the other"))
    }
}

/// See [`Snapshot::rows`].
pub(in crate::store) struct SmallRows {
    rows: redb::Range<'static, (u8, &'static [u8]), &'static [u8]>,
    table: Table,
    prefix: Bytes,
    path: String,
}

impl SmallRows {
    /// The next key and what its row holds.
    pub(in crate::store) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        let row = self.rows.next().transpose();
        let row = row.map_err(|error| StoreError::of(&self.path, error))?;
        Ok(row.and_then(|(place, held)| {
            let (table, key) = place.value();
            let is_wanted = table == self.table as u8 && key.starts_with(&self.prefix);
            is_wanted.then(|| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(held.value())))
        }))
    }
}
