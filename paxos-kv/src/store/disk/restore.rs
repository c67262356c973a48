//! Puts other rows in place of all there are, in one transaction.

use std::io::{self, Read};

use paxos_core::types::Slot;

use super::{
    super::{
        Head, StoreError,
        snapshot::rows::{Row, Rows, refuse},
        version,
    },
    CURRENT, Disk, Extent, FEED, HISTORY, SMALL,
};

/// Why the tables are as they were.
pub(in crate::store) enum RestoreError {
    /// What was to be put in their place cannot be read or makes no sense.
    Stream(io::Error),
    /// They cannot be written.
    Store(StoreError),
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> RestoreError {
        RestoreError::Stream(error)
    }
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> RestoreError {
        RestoreError::Store(error)
    }
}

impl Disk {
    /// Puts the state in `stream` in place of what the tables hold; durable when it returns, with the slot
    /// that it is as of. Whatever goes wrong, and if it is a crash, leaves them as they were.
    ///
    /// A store has seen no slots but those with commands, so the stream may say less than `slot`; and one
    /// that is ahead of its log says more.
    pub(in crate::store) fn restore(
        &self,
        slot: Slot,
        stream: impl Read,
    ) -> Result<Slot, RestoreError> {
        let mut rows = Rows::begin(stream)?;
        let (head, cleaned) = (rows.head(), rows.cleaned());
        let head = Head { applied: head.applied.max(slot), ..head };
        let fail = |error: redb::Error| StoreError::of(&self.path, error);
        let writing = self.begin_write()?;
        writing.delete_table(CURRENT).map_err(|error| fail(error.into()))?;
        writing.delete_table(HISTORY).map_err(|error| fail(error.into()))?;
        writing.delete_table(FEED).map_err(|error| fail(error.into()))?;
        writing.delete_table(SMALL).map_err(|error| fail(error.into()))?;
        let mut tables = super::Rows::open(self, &writing, 0, head.compacted)?;
        while let Some(row) = rows.next()? {
            match row {
                Row::Current { key, version } => tables.supersede(key, Some(version))?,
                Row::Feed { at, key, version } => tables.add_feed(at, key, version)?,
                Row::History { key, at, held } => {
                    if version::is_in_feed(held) && !tables.feed_has(at, key, held)? {
                        return Err(refuse("a version is not where its history says").into());
                    }
                    tables.add_history(key, at, held)?;
                }
                Row::Small { table, key, held } => tables.set_small(table, key, Some(held))?,
            }
        }
        let bytes = tables.bytes();
        drop(tables);
        self.write_extent(&writing, Extent { head, cleaned, bytes })?;
        self.write_owner(&writing)?;
        writing.commit().map_err(|error| fail(error.into()))?;
        self.is_named_now();
        Ok(head.applied)
    }
}
