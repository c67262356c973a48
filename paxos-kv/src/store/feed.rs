//! What has changed, in the order in which it did: the feed of the tables, then of the layers over them.
//!
//! It is read in one go, from any revision that can still be read: a table in its own order, in which every change
//! stands with what the key holds since, and what is in memory.

use std::{collections::VecDeque, ops::Bound};

use bytes::Bytes;

use super::{
    StoreError,
    disk::Snapshot,
    layer::Layer,
    version::{self, Live, Position, Version},
    view::View,
};

/// Changes copied out of a layer at a time.
const PAGE_CHANGES: usize = 256;

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// When it happened.
    pub(crate) position: Position,
    /// What changed.
    pub(crate) key: Bytes,
    /// What the key holds since; nothing if it was deleted.
    pub(crate) live: Option<Live>,
}

/// Changes one after the other, up to a revision.
pub(crate) struct Feed {
    view: View,
    last_revision: i64,
    rows: redb::Range<'static, (i64, u32), &'static [u8]>,
    /// Those to come, each with its change to go on with.
    layers: VecDeque<(Layer, usize)>,
    page: VecDeque<Change>,
}

impl View {
    /// The changes of some revisions, the first of which is not below the compacted one.
    pub(super) fn feed(&self, first: i64, last: i64) -> Result<Feed, StoreError> {
        let rows = self.disk.feed.range((Bound::Included((first, 0)), Bound::Unbounded));
        let place = |layer: &Layer| {
            layer.with(|changes| changes.feed.partition_point(|(at, _)| at.revision < first))
        };
        let layers = [self.frozen.as_ref(), Some(&self.active)];
        let layers = layers.into_iter().flatten().map(|layer| (layer.clone(), place(layer)));
        Ok(Feed {
            view: self.clone(),
            last_revision: last,
            rows: rows.map_err(|error| StoreError::of(&self.disk.path, error))?,
            layers: layers.collect(),
            page: VecDeque::new(),
        })
    }
}

impl Feed {
    /// The next change.
    pub(crate) fn next(&mut self) -> Result<Option<Change>, StoreError> {
        if let Some(row) = self.rows.next() {
            let disk = &*self.view.disk;
            let (_, row) = row.map_err(|error| StoreError::of(&disk.path, error))?;
            let change = change_of(disk, row.value())?;
            return Ok(Some(change).filter(|change| change.position.revision <= self.last_revision));
        }
        while self.page.is_empty() {
            let Some((layer, next)) = self.layers.front_mut() else { return Ok(None) };
            self.page = page_of(layer, *next, self.last_revision);
            *next += self.page.len();
            if self.page.is_empty() {
                self.layers.pop_front();
            }
        }
        Ok(self.page.pop_front())
    }
}

fn change_of(disk: &Snapshot, row: &[u8]) -> Result<Change, StoreError> {
    let (key, encoded) =
        version::split_feed_row(row).ok_or_else(|| disk.damaged("a change makes no sense"))?;
    let Version { position, live } = Version::decode(&disk.path, encoded)?;
    Ok(Change { position, key: Bytes::copy_from_slice(key), live })
}

/// Changes of a layer up to a revision, from one on.
fn page_of(layer: &Layer, first: usize, last_revision: i64) -> VecDeque<Change> {
    layer.with(|changes| {
        let feed = changes.feed.iter().skip(first).take(PAGE_CHANGES);
        let feed = feed.take_while(|(at, _)| at.revision <= last_revision);
        let change = |(position, key): &(Position, Bytes)| {
            let live = changes.at(key, *position).live.clone();
            Change { position: *position, key: key.clone(), live }
        };
        feed.map(change).collect()
    })
}
