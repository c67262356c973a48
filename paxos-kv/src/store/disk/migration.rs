//! Brings the tables of earlier formats into the present one, in one transaction, at the first start on them.

use redb::{ReadableTable, TableDefinition};

use super::{
    super::{
        StoreError,
        small::{self, Table},
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
        let mut rows = Rows::open(self, &writing, bytes)?;
        let members = self.table(&writing, MEMBERS)?;
        for row in members.iter().map_err(|error| fail(error.into()))? {
            let (id, attributes) = row.map_err(|error| fail(error.into()))?;
            let key = small::member_key(id.value());
            rows.set_small(Table::Members, &key, Some(attributes.value()))?;
        }
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
