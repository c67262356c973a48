//! The store as of a moment: the tables and the layers over them, newest first.
//!
//! A view stays complete for every revision up to the head it was published with, however far the
//! store moves on: layers only grow, tables are read as of one commit.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    StoreError,
    disk::{Row, Snapshot},
    layer::Layer,
    past::PastScan,
    sums,
    validate::{KeyRange, upper_bound},
    version::{self, Position, Version},
};
use crate::proto::mvccpb::KeyValue;

/// The tables and the layers over them.
#[derive(Clone)]
pub(super) struct View {
    /// Where changes go.
    pub(super) active: Layer,
    /// On its way into the tables.
    pub(super) frozen: Option<Layer>,
    /// The tables.
    pub(super) disk: Arc<Snapshot>,
}

impl View {
    /// The newest version of `key` up to a position.
    pub(super) fn version(
        &self,
        key: &Bytes,
        until: Position,
    ) -> Result<Option<Version>, StoreError> {
        let entry = self.entry(key, until)?;
        entry.map(|entry| entry.version(&self.disk.path, Version::decode)).transpose()
    }

    /// The same as it lies there, unless the key did not exist.
    pub(super) fn existing(
        &self,
        key: &Bytes,
        until: Position,
    ) -> Result<Option<Entry>, StoreError> {
        Ok(self.entry(key, until)?.filter(|entry| !entry.is_deleted()))
    }

    fn entry(&self, key: &Bytes, until: Position) -> Result<Option<Entry>, StoreError> {
        let key = key.clone();
        if let Some(version) = self.version_in_memory(&key, until) {
            let (position, held) = (version.position, Held::Memory(version));
            return Ok(Some(Entry { key, position, held }));
        }
        let row = self.disk.get(&key, until)?;
        row.map(|row| Entry::on_disk(key, row, &self.disk.path)).transpose()
    }

    /// The newest version of `key` up to a position, if it is so new that no table has to be asked.
    pub(super) fn version_in_memory(&self, key: &Bytes, until: Position) -> Option<Version> {
        let layers = [Some(&self.active), self.frozen.as_ref()];
        layers.into_iter().flatten().find_map(|layer| layer.get(key, until))
    }

    /// The keys selected that existed up to a position, in order.
    pub(super) fn scan(&self, range: &KeyRange, until: Position) -> Result<Scan, StoreError> {
        let (start, end) = match range {
            KeyRange::One(key) => {
                let found = self.existing(key, until)?;
                return Ok(Scan { found: Found::One(found), disk: self.disk.clone() });
            }
            KeyRange::Many { start, end } => (start, end),
        };
        let mut sources: Vec<Source> = Vec::with_capacity(4);
        for layer in [Some(&self.active), self.frozen.as_ref()].into_iter().flatten() {
            let scan = layer.scan(start.clone(), end.clone(), until);
            sources.push(Box::new(scan.map(|(key, version)| {
                Ok(Entry { key, position: version.position, held: Held::Memory(version) })
            })));
        }
        sources.push(self.current(start, end.as_ref(), until)?);
        if until < Position::end_of(self.disk.extent.head.revision) {
            sources.push(self.history(start, end.as_ref(), until)?);
        }
        let found = Found::Many(Merge::new(sources)?);
        Ok(Scan { found, disk: self.disk.clone() })
    }

    fn current(
        &self,
        start: &Bytes,
        end: Option<&Bytes>,
        until: Position,
    ) -> Result<Source, StoreError> {
        let disk = self.disk.clone();
        let bounds = (std::ops::Bound::Included(&start[..]), upper_bound(end));
        let rows = disk.current.range::<&[u8]>(bounds);
        let rows = rows.map_err(|error| StoreError::of(&disk.path, error))?;
        let entries = rows.map(move |row| {
            let (key, held) = row.map_err(|error| StoreError::of(&disk.path, error))?;
            Entry::on_disk(Bytes::copy_from_slice(key.value()), held.into(), &disk.path)
        });
        Ok(Box::new(entries.filter(move |entry| match entry {
            Ok(entry) => entry.position <= until,
            Err(_) => true,
        })))
    }

    fn history(
        &self,
        start: &Bytes,
        end: Option<&Bytes>,
        until: Position,
    ) -> Result<Source, StoreError> {
        let scan = PastScan::new(self.disk.clone(), start, end, until)?;
        Ok(Box::new(
            scan.map(|found| found.map(|(key, position, held)| Entry { key, position, held })),
        ))
    }
}

/// Keys in order, each at most once, with the newest version that one place has of it.
type Source = Box<dyn Iterator<Item = Result<Entry, StoreError>>>;

/// A key and its version, the value not copied yet.
pub(super) struct Entry {
    pub(super) key: Bytes,
    pub(super) position: Position,
    held: Held,
}

/// A version where it lies.
pub(super) enum Held {
    Memory(Version),
    Disk(Row),
    /// At its position in the feed, and a deletion or not.
    Feed {
        disk: Arc<Snapshot>,
        is_deleted: bool,
    },
}

impl Entry {
    fn on_disk(key: Bytes, held: Row, path: &str) -> Result<Entry, StoreError> {
        let position = version::position(held.value()).ok_or_else(|| StoreError::Damaged {
            path: path.to_owned(),
            reason: "a record is cut short".to_owned(),
        })?;
        Ok(Entry { key, position, held: Held::Disk(held) })
    }

    fn is_deleted(&self) -> bool {
        match &self.held {
            Held::Memory(version) => version.live.is_none(),
            Held::Disk(held) => version::is_deleted(held.value()),
            Held::Feed { is_deleted, .. } => *is_deleted,
        }
    }

    /// What it counts for in the [`Sums`](super::Sums).
    pub(super) fn sum(&self) -> Result<u64, StoreError> {
        Ok(match &self.held {
            Held::Memory(version) => sums::of_version(&self.key, version),
            Held::Disk(held) => sums::of_encoded(&self.key, held.value()),
            Held::Feed { disk, .. } => {
                sums::of_encoded(&self.key, disk.in_feed(&self.key, self.position)?.value())
            }
        })
    }

    /// What it says, `path` being where the tables are.
    pub(super) fn version(self, path: &str, decode: Decode) -> Result<Version, StoreError> {
        match self.held {
            Held::Memory(version) => Ok(version),
            Held::Disk(held) => decode(path, held.value()),
            Held::Feed { disk, .. } => {
                decode(path, disk.in_feed(&self.key, self.position)?.value())
            }
        }
    }
}

/// [`Version::decode`] or [`Version::decode_without_value`].
type Decode = fn(&str, &[u8]) -> Result<Version, StoreError>;

/// A scan under way.
pub(super) struct Scan {
    found: Found,
    disk: Arc<Snapshot>,
}

enum Found {
    /// A single key.
    One(Option<Entry>),
    /// What several sources have.
    Many(Merge),
}

impl Scan {
    /// The next key.
    pub(super) fn next(&mut self) -> Result<Option<KeyValue>, StoreError> {
        self.next_by(Version::decode)
    }

    /// The next key; its value, if the tables have it, is left out.
    pub(super) fn next_without_value(&mut self) -> Result<Option<KeyValue>, StoreError> {
        self.next_by(Version::decode_without_value)
    }

    fn next_by(&mut self, decode: Decode) -> Result<Option<KeyValue>, StoreError> {
        let Some(entry) = self.next_entry()? else { return Ok(None) };
        let key = entry.key.clone();
        Ok(entry.version(&self.disk.path, decode)?.into_key_value(key))
    }

    /// The next key and where its version is, without a copy of the value.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, StoreError> {
        match &mut self.found {
            Found::One(found) => Ok(found.take()),
            Found::Many(merge) => merge.next(),
        }
    }
}

/// Merges sources: of a key that several have, the newest version counts.
struct Merge {
    sources: Vec<Source>,
    heads: Vec<Option<Entry>>,
}

impl Merge {
    fn new(mut sources: Vec<Source>) -> Result<Merge, StoreError> {
        let heads = sources.iter_mut().map(|source| source.next().transpose());
        let heads = heads.collect::<Result<Vec<_>, _>>()?;
        Ok(Merge { sources, heads })
    }

    /// The next key that was not deleted.
    fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        loop {
            let heads = self.heads.iter().flatten();
            let Some(key) = heads.map(|entry| &entry.key).min().cloned() else { return Ok(None) };
            let mut newest: Option<Entry> = None;
            for (source, head) in self.sources.iter_mut().zip(&mut self.heads) {
                if head.as_ref().is_none_or(|entry| entry.key != key) {
                    continue;
                }
                let entry = std::mem::replace(head, source.next().transpose()?);
                if newest.as_ref().map(|newest| newest.position)
                    < entry.as_ref().map(|entry| entry.position)
                {
                    newest = entry;
                }
            }
            if let Some(entry) = newest.filter(|entry| !entry.is_deleted()) {
                return Ok(Some(entry));
            }
        }
    }
}
