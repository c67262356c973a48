//! The store as of one moment, change by change in the order of revisions: what a backup holds.
//!
//! Of what is compacted, only what can still be read is there: what each key held as of the compacted
//! revision. Those changes are not in the feed any more, so they are gathered key by key and sorted;
//! the later ones come as they are in the feed. A row is in memory at a time.

use std::{collections::VecDeque, io, ops::Bound};

use bytes::Bytes;

use super::{
    Head, Reader, StoreError,
    disk::Snapshot,
    layer::Layer,
    sort::{Sorted, SortedIter, Sorter},
    validate::KeyRange,
    version::{self, Position, Version},
    view::View,
};

/// Changes copied out of a layer at a time.
const PAGE_CHANGES: usize = 256;

/// The store as of one moment, however long it is looked at. It holds on to the tables as they were
/// then: their file cannot reuse the room of what changes meanwhile.
pub(crate) struct Frozen {
    view: View,
    head: Head,
    /// The changes up to the compacted revision.
    base: Sorted,
}

/// A change of a key.
pub(crate) struct Change {
    /// When it happened.
    pub(crate) position: Position,
    /// What changed.
    pub(crate) key: Bytes,
    /// What the key holds since; nothing if it was deleted.
    pub(crate) live: Option<version::Live>,
}

impl Reader {
    /// The store as it is now; nothing if it is not wanted any more before that is ready. Takes as
    /// long as it takes to look at every key if something is compacted.
    pub(crate) fn freeze(
        &self,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Option<Frozen>, StoreError> {
        let (view, head) = self.now();
        let directory = self.inner.disk.directory();
        let shown = directory.as_ref().map_or("memory".to_owned(), |it| it.display().to_string());
        let mut sorter = Sorter::new(directory);
        if head.compacted >= 0 {
            let all = KeyRange::Many { start: Bytes::new(), end: None };
            let mut keys = view.scan(&all, Position::end_of(head.compacted))?;
            while let Some(entry) = keys.next_entry()? {
                if !is_wanted() {
                    return Ok(None);
                }
                let pushed = sorter.push(entry.position, entry.key);
                pushed.map_err(|error| StoreError::of_io(&shown, error))?;
            }
        }
        let base = sorter.finish().map_err(|error| StoreError::of_io(&shown, error))?;
        Ok(Some(Frozen { view, head, base }))
    }
}

impl Frozen {
    /// How far it goes.
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// All changes, from the first on; as often as wanted.
    pub(crate) fn changes(&self) -> Result<Changes<'_>, StoreError> {
        let disk = &*self.view.disk;
        let start = (self.head.compacted + 1, 0);
        let fail = |error| StoreError::of(&disk.path, error);
        let feed = disk.feed.range::<(i64, u32)>((Bound::Included(start), Bound::Unbounded));
        let first = |layer: &Layer| {
            layer.with(|it| it.feed.partition_point(|(at, _)| at.revision <= self.head.compacted))
        };
        let layers = [self.view.frozen.as_ref(), Some(&self.view.active)];
        let layers = layers.into_iter().flatten().map(|layer| (layer, first(layer)));
        Ok(Changes {
            frozen: self,
            base: self.base.iter().map_err(|error| StoreError::of_io(&disk.path, error))?,
            feed: feed.map_err(fail)?,
            layers: layers.collect(),
            page: VecDeque::new(),
        })
    }
}

/// See [`Frozen::changes`].
pub(crate) struct Changes<'f> {
    frozen: &'f Frozen,
    base: SortedIter<'f>,
    feed: redb::Range<'static, (i64, u32), &'static [u8]>,
    /// Those to come, each with its change to go on with.
    layers: VecDeque<(&'f Layer, usize)>,
    page: VecDeque<Change>,
}

impl Changes<'_> {
    /// The next change.
    pub(crate) fn next(&mut self) -> Result<Option<Change>, StoreError> {
        let Frozen { view, head, .. } = self.frozen;
        let disk = &*view.disk;
        let base = self.base.next().map_err(|error| StoreError::of_io(&disk.path, error))?;
        if let Some((position, key)) = base {
            let found = view.version(&key, Position::end_of(head.compacted))?;
            let Some(found) = found.filter(|found| found.position == position) else {
                return Err(inconsistent(disk));
            };
            return Ok(Some(Change { position, key, live: found.live }));
        }
        if let Some(row) = self.feed.next() {
            let (at, key) = row.map_err(|error| StoreError::of(&disk.path, error))?;
            let (revision, index) = at.value();
            let position = Position { revision, index };
            let key = Bytes::copy_from_slice(key.value());
            let Some(found) = disk.at(&key, position)? else { return Err(inconsistent(disk)) };
            return Ok(Some(Change { position, key, live: found.live }));
        }
        while self.page.is_empty() {
            let Some((layer, next)) = self.layers.front_mut() else { return Ok(None) };
            let page = page_of(layer, *next, head.revision);
            if page.is_empty() {
                self.layers.pop_front();
                continue;
            }
            *next += page.len();
            self.page = page;
        }
        Ok(self.page.pop_front())
    }
}

/// Changes of a layer up to a revision, from one on.
fn page_of(layer: &Layer, first: usize, revision: i64) -> VecDeque<Change> {
    layer.with(|changes| {
        let feed = changes.feed.iter().skip(first).take(PAGE_CHANGES);
        let feed = feed.take_while(|(at, _)| at.revision <= revision);
        let change = |(position, key): &(Position, Bytes)| {
            let versions = &changes.keys[key];
            let place = versions.binary_search_by_key(position, |version| version.position);
            let Version { live, .. } = &versions[place.expect("the feed names what is there")];
            Change { position: *position, key: key.clone(), live: live.clone() }
        };
        feed.map(change).collect()
    })
}

fn inconsistent(disk: &Snapshot) -> StoreError {
    StoreError::Damaged {
        path: disk.path.clone(),
        reason: "a change is in one table and not in the other".to_owned(),
    }
}

impl Snapshot {
    /// The version of `key` that came at a position.
    fn at(&self, key: &[u8], at: Position) -> Result<Option<Version>, StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        let current = self.current.get(key).map_err(fail)?;
        if let Some(row) = current.filter(|row| version::position(row.value()) == Some(at)) {
            return Version::decode(&self.path, row.value()).map(Some);
        }
        let row = self.history.get((key, at.revision, at.index)).map_err(fail)?;
        row.map(|row| Version::decode(&self.path, row.value())).transpose()
    }
}

impl StoreError {
    /// Of a file that is no database.
    fn of_io(path: &str, error: io::Error) -> StoreError {
        StoreError::of(path, redb::Error::Io(error))
    }
}
