//! Small tables: what a cluster remembers beside its keys.
//!
//! Their rows are a key and a value, both of them bytes, and have neither revisions nor history: only what they
//! hold now counts. What that means is known to whoever writes and reads a table. To the rest of the store all of
//! them are alike: rows wait in the same layers as the keys' versions, go into the tables with them, come along in
//! a state that is sent, and are part of the digest. So a new small table is a line of [`Table`], and one that says
//! which of its rows make sense.

use std::{collections::VecDeque, ops::Bound};

use bytes::Bytes;
use prost::Message;

use super::{
    MemberAttributes, StoreError, disk::SmallRows, layer::Layer, lease, lease::Lease, view::View,
};

/// Which table. The numbers stand on disks and in states that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Table {
    /// What a member says of itself, by its id.
    Members = 1,
    /// The leases, by their ids.
    Leases = 2,
    /// Which keys a lease has: its id and the key. There is nothing in them.
    LeaseKeys = 3,
}

impl Table {
    const ALL: [Table; 3] = [Table::Members, Table::Leases, Table::LeaseKeys];

    /// The table of a number.
    pub(super) fn numbered(number: u8) -> Option<Table> {
        Table::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// Whether a row that comes from elsewhere makes sense.
    pub(super) fn is_sound(self, key: &[u8], value: &[u8]) -> bool {
        match self {
            Table::Members => MemberAttributes::decode(value)
                .is_ok_and(|attributes| member_key(attributes.member_id) == key),
            Table::Leases => {
                key.len() == lease::ID_BYTES && Lease::decode(value).is_ok_and(|it| it.is_sound())
            }
            Table::LeaseKeys => key.len() > lease::ID_BYTES && value.is_empty(),
        }
    }
}

/// The key of a member's row.
pub(super) fn member_key(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// Rows copied out of a layer at a time.
const PAGE_ROWS: usize = 256;

impl View {
    /// What a row holds.
    pub(super) fn row(&self, table: Table, key: &Bytes) -> Result<Option<Bytes>, StoreError> {
        let layers = [Some(&self.active), self.frozen.as_ref()];
        match layers.into_iter().flatten().find_map(|layer| layer.row(table, key)) {
            Some(held) => Ok(held),
            None => self.disk.row(table, key),
        }
    }

    /// The rows of a table whose keys begin with `prefix`, in order. Each is as it is when it is read.
    pub(super) fn rows(&self, table: Table, prefix: &[u8]) -> Result<RowScan, StoreError> {
        let layers = [Some(&self.active), self.frozen.as_ref()];
        let layers = layers.into_iter().flatten();
        Ok(RowScan {
            layers: layers.map(|layer| LayerRows::new(layer, table, prefix)).collect(),
            disk: self.disk.rows(table, prefix)?,
            on_disk: None,
        })
    }

    /// What the members have said of themselves, by member id.
    pub(super) fn members(&self) -> Result<Vec<MemberAttributes>, StoreError> {
        let mut members = Vec::new();
        let mut rows = self.rows(Table::Members, &[])?;
        while let Some((_, value)) = rows.next()? {
            let attributes = MemberAttributes::decode(value);
            members.push(attributes.map_err(|_| self.disk.damaged("a member's attributes"))?);
        }
        Ok(members)
    }
}

/// Rows of a table as the layers and the tables have them: the newest of each.
pub(super) struct RowScan {
    /// The newest first.
    layers: Vec<LayerRows>,
    disk: SmallRows,
    /// The next row of the tables, once it has been looked at.
    on_disk: Option<(Bytes, Bytes)>,
}

impl RowScan {
    /// The next row.
    pub(super) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, StoreError> {
        loop {
            if self.on_disk.is_none() {
                self.on_disk = self.disk.next()?;
            }
            let heads = self.layers.iter_mut().filter_map(|layer| layer.head().cloned());
            let on_disk = self.on_disk.as_ref().map(|(key, _)| key.clone());
            let Some(key) = heads.chain(on_disk).min() else { return Ok(None) };
            let on_disk = self.on_disk.take_if(|(other, _)| *other == key).map(|(_, held)| held);
            let mut held = None;
            for layer in &mut self.layers {
                let found = layer.take(&key);
                held = held.or(found);
            }
            // A layer may say that the row is gone.
            if let Some(held) = held.unwrap_or(on_disk) {
                return Ok(Some((key, held)));
            }
        }
    }
}

/// Rows of a layer, which is locked for a page at a time.
struct LayerRows {
    layer: Layer,
    table: Table,
    prefix: Bytes,
    /// Where the next page begins; nothing behind the last one.
    next: Option<Bound<Bytes>>,
    page: VecDeque<(Bytes, Option<Bytes>)>,
}

impl LayerRows {
    fn new(layer: &Layer, table: Table, prefix: &[u8]) -> LayerRows {
        let prefix = Bytes::copy_from_slice(prefix);
        let next = Some(Bound::Included(prefix.clone()));
        LayerRows { layer: layer.clone(), table, prefix, next, page: VecDeque::new() }
    }

    fn head(&mut self) -> Option<&Bytes> {
        if self.page.is_empty()
            && let Some(start) = self.next.take()
        {
            let (table, prefix, page) = (self.table, &self.prefix, &mut self.page);
            self.layer.with(|changes| {
                let rows = changes.rows.range((start.map(|key| (table, key)), Bound::Unbounded));
                let rows =
                    rows.take_while(|((of, key), _)| *of == table && key.starts_with(prefix));
                page.extend(
                    rows.take(PAGE_ROWS).map(|((_, key), held)| (key.clone(), held.clone())),
                );
            });
            let last = self.page.back().filter(|_| self.page.len() == PAGE_ROWS);
            self.next = last.map(|(key, _)| Bound::Excluded(key.clone()));
        }
        self.page.front().map(|(key, _)| key)
    }

    /// What it has of this row, which is not behind the next one.
    fn take(&mut self, key: &Bytes) -> Option<Option<Bytes>> {
        let (_, held) = self.page.pop_front_if(|(other, _)| other == key)?;
        Some(held)
    }
}

#[cfg(test)]
mod tests;
