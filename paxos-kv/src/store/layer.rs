//! The changes that are not in the tables yet.
//!
//! A layer only grows: versions are added behind the ones there are, never changed, so whoever
//! reads at a revision finds the same at any time, however far the layer has grown meanwhile. Once
//! it is frozen it does not even grow.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    small::Table,
    validate::upper_bound,
    version::{Position, Version},
};

/// Versions copied out of a layer at a time: what a reader may make the writer wait for.
const PAGE_KEYS: usize = 256;
/// What a key takes up besides its bytes, with its first version: its place in the map, which is two
/// thirds full, and who counts the owners of its bytes.
const KEY_BYTES: usize = (size_of::<Bytes>() + size_of::<Versions>()) * 3 / 2 + SHARED_BYTES;
/// The same of a row of a small table.
const ROW_BYTES: usize =
    (size_of::<(Table, Bytes)>() + size_of::<Option<Bytes>>()) * 3 / 2 + SHARED_BYTES;
/// What every further version of a key takes up, in a list that doubles.
const VERSION_BYTES: usize = size_of::<Version>() * 3 / 2;
/// The place of a version in the feed, which doubles too.
const FEED_BYTES: usize = size_of::<(Position, Bytes)>() * 3 / 2;
/// Beside bytes that have several owners.
const SHARED_BYTES: usize = 32;

/// The versions of a key. Mostly there is one.
type Versions = SmallVec<[Version; 1]>;

/// A layer that readers and the writer share.
#[derive(Clone, Default)]
pub(super) struct Layer(Arc<RwLock<Changes>>);

/// What a layer holds.
#[derive(Default)]
pub(super) struct Changes {
    /// Every version of every key changed, in ascending order of positions.
    pub(super) keys: BTreeMap<Bytes, Versions>,
    /// Which key changed when, in order.
    pub(super) feed: Vec<(Position, Bytes)>,
    /// What rows of small tables hold; nothing of those that are gone.
    pub(super) rows: BTreeMap<(Table, Bytes), Option<Bytes>>,
    /// About how much memory it takes up.
    bytes: usize,
}

impl Layer {
    /// Adds a version of a key, later than every one there is.
    pub(super) fn insert(&self, key: Bytes, version: Version) {
        let mut changes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let value_bytes = version.live.as_ref().map_or(0, |live| live.value.len() + SHARED_BYTES);
        // A key that is there already is kept twice, as it came both times.
        changes.bytes += FEED_BYTES + key.len() + value_bytes;
        changes.feed.push((version.position, key.clone()));
        let versions = changes.keys.entry(key).or_default();
        let is_first = versions.is_empty();
        versions.push(version);
        changes.bytes += if is_first { KEY_BYTES } else { VERSION_BYTES };
    }

    /// Changes what a row of a small table holds; nothing if it goes.
    pub(super) fn insert_row(&self, table: Table, key: Bytes, held: Option<Bytes>) {
        let mut changes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let held_bytes = |held: &Bytes| held.len() + SHARED_BYTES;
        changes.bytes += held.as_ref().map_or(0, held_bytes);
        let key_bytes = ROW_BYTES + key.len();
        match changes.rows.insert((table, key), held) {
            None => changes.bytes += key_bytes,
            Some(before) => changes.bytes -= before.as_ref().map_or(0, held_bytes),
        }
    }

    /// What a row holds, or that it is gone, if it says so.
    pub(super) fn row(&self, table: Table, key: &Bytes) -> Option<Option<Bytes>> {
        self.with(|changes| changes.rows.get(&(table, key.clone())).cloned())
    }

    /// The newest version of `key` up to a position.
    pub(super) fn get(&self, key: &[u8], until: Position) -> Option<Version> {
        self.with(|changes| as_of(changes.keys.get(key)?, until).cloned())
    }

    /// Every key from `start` up to `end` that has a version up to a position, with the newest one.
    pub(super) fn scan(&self, start: Bytes, end: Option<Bytes>, until: Position) -> LayerScan {
        LayerScan {
            layer: self.clone(),
            next: Some(Bound::Included(start)),
            end,
            until,
            page: VecDeque::new(),
        }
    }

    /// About how much memory it takes up, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.with(|changes| changes.bytes)
    }

    /// Reads what it holds; the writer waits meanwhile, unless the layer is frozen.
    pub(super) fn with<R>(&self, read: impl FnOnce(&Changes) -> R) -> R {
        read(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Changes {
    /// What `key` has held since a position of the feed.
    pub(super) fn at(&self, key: &Bytes, position: Position) -> &Version {
        let versions = &self.keys[key];
        let place = versions.binary_search_by_key(&position, |version| version.position);
        &versions[place.expect("the feed names what is there")]
    }
}

/// What a deletion takes up in a layer, about, if its key is in the tables alone.
pub(super) fn deletion_bytes(key_bytes: usize) -> usize {
    KEY_BYTES + FEED_BYTES + key_bytes
}

/// The newest of a key's versions up to a position.
fn as_of(versions: &[Version], until: Position) -> Option<&Version> {
    let newer = versions.partition_point(|version| version.position <= until);
    versions[..newer].last()
}

/// A scan of a layer that holds its lock for a page at a time.
pub(super) struct LayerScan {
    layer: Layer,
    /// Where the next page begins; nothing behind the last one.
    next: Option<Bound<Bytes>>,
    end: Option<Bytes>,
    until: Position,
    page: VecDeque<(Bytes, Version)>,
}

impl LayerScan {
    fn fill(&mut self, start: &Bound<Bytes>) {
        let lower = start.as_ref().map(|key| &key[..]);
        let upper = upper_bound(self.end.as_ref());
        let (page, until) = (&mut self.page, self.until);
        self.next = self.layer.with(|changes| {
            let keys = changes.keys.range::<[u8], _>((lower, upper)).take(PAGE_KEYS);
            let mut seen = 0;
            let mut last = None;
            for (key, versions) in keys {
                seen += 1;
                last = Some(key);
                if let Some(version) = as_of(versions, until) {
                    page.push_back((key.clone(), version.clone()));
                }
            }
            last.filter(|_| seen == PAGE_KEYS).cloned().map(Bound::Excluded)
        });
    }
}

impl Iterator for LayerScan {
    type Item = (Bytes, Version);

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() {
            let start = self.next.take()?;
            self.fill(&start);
        }
        self.page.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::version::Live, *};

    fn deleted(revision: i64) -> Version {
        Version { position: Position { revision, index: 0 }, live: None }
    }

    #[test]
    fn what_it_weighs_is_what_is_allocated_for_it() {
        for (keys, versions, value_bytes) in
            [(5000, 1, 1), (5000, 1, 300), (10, 500, 1), (500, 4, 9)]
        {
            let layer = Layer::default();
            let allocated = allocation_counter::measure(|| {
                for revision in 0..keys * versions {
                    let value = Bytes::from(vec![7; value_bytes]);
                    // Whoever reads it shares it.
                    drop(value.clone());
                    let live = Live { create_revision: 1, version: 1, lease: 0, value };
                    let position = Position { revision, index: 0 };
                    let key = Bytes::from(format!("key {:07}", revision % keys));
                    layer.insert(key, Version { position, live: Some(live) });
                }
            });
            let allocated = usize::try_from(allocated.bytes_current).expect("it is still there");
            let counted = layer.bytes();
            assert!(
                counted >= allocated * 3 / 4 && counted <= allocated * 4 / 3,
                "{keys} keys, {versions} versions, {value_bytes}: {allocated}, {counted} counted"
            );
        }
    }

    #[test]
    fn a_scan_over_pages_yields_every_key_once_and_nothing_newer() {
        let layer = Layer::default();
        let key = |number: usize| Bytes::from(format!("{number:05}"));
        for number in 0..3 * PAGE_KEYS {
            layer.insert(key(number), deleted(5));
            layer.insert(key(number), deleted(if number % 2 == 0 { 6 } else { 9 }));
        }
        layer.insert("10000".into(), deleted(9));
        let found: Vec<_> = layer.scan(key(1), None, Position::end_of(8)).collect();
        let expected: Vec<_> = (1..3 * PAGE_KEYS)
            .map(|number| (key(number), deleted(if number % 2 == 0 { 6 } else { 5 })))
            .collect();
        assert_eq!(found, expected);
        let found = layer.scan(key(1), Some(key(PAGE_KEYS + 9)), Position::end_of(8)).count();
        assert_eq!(found, PAGE_KEYS + 8);
        assert_eq!(layer.scan(key(1), Some(key(4)), Position::end_of(4)).count(), 0);
    }
}
