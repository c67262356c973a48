//! Brings the tables of earlier formats into the present one, in one transaction, at the first start on them.

use redb::{ReadableTable, TableDefinition};

use super::{
    super::{
        StoreError,
        small::{self, Table},
        version::{self, Position, Version},
    },
    Disk, FORMAT, META,
    rows::Rows,
};

/// Before there were small tables: what members say of themselves, by member id.
const MEMBERS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("members");

impl Disk {
    /// `bytes` is what the rows weigh.
    pub(super) fn migrate(&self, bytes: i64) -> Result<(), StoreError> {
        let fail = |error: redb::Error| StoreError::of(&self.path, error);
        tracing::info!(
            path = self.path,
            "the state is of an earlier version: bringing it up to date"
        );
        let writing = self.begin_write()?;
        let mut rows = Rows::open(self, &writing, bytes, i64::MIN)?;
        let members = self.table(&writing, MEMBERS)?;
        for row in members.iter().map_err(|error| fail(error.into()))? {
            let (id, attributes) = row.map_err(|error| fail(error.into()))?;
            let key = small::member_key(id.value());
            rows.set_small(Table::Members, &key, Some(attributes.value()))?;
        }
        rows.fill_feed()?;
        let bytes = rows.bytes();
        drop((rows, members));
        writing.delete_table(MEMBERS).map_err(|error| fail(error.into()))?;
        let mut meta = self.table(&writing, META)?;
        for (name, value) in [("format", FORMAT), ("bytes", bytes)] {
            meta.insert(name, value).map_err(|error| fail(error.into()))?;
        }
        drop(meta);
        writing.commit().map_err(|error| fail(error.into()))
    }
}

impl Rows<'_> {
    /// The feed named the keys that changed: from now on it has what they hold since, and their history says
    /// that it is there.
    fn fill_feed(&mut self) -> Result<(), StoreError> {
        let mut start = Some(Position::default());
        while let Some(from) = start {
            let (keys, next) = self.feed_page(from, i64::MAX)?;
            start = next;
            for (at, key) in keys {
                self.fill_feed_row(at, &key)?;
            }
        }
        Ok(())
    }

    fn fill_feed_row(&mut self, at: Position, key: &[u8]) -> Result<(), StoreError> {
        let held = self.remove_history(key, at)?;
        let is_past = held.is_some();
        let held = match held {
            Some(held) => Some(held),
            None => self.current_at(key, at)?,
        };
        // All that has been taken out of history beside what is in the feed was a deletion at the compacted
        // revision.
        let held = held.unwrap_or_else(|| Version { position: at, live: None }.encode().to_vec());
        if is_past {
            self.add_history(key, at, version::in_feed(&held))?;
        }
        self.remove_feed(at)?;
        self.add_feed(at, key, &held)
    }
}
