//! The store as of one moment, change by change in the order of revisions: what a backup holds.
//!
//! Of what is compacted, only what can still be read is there: what each key held as of the compacted
//! revision. Those changes are not in the feed any more, so they are gathered key by key and sorted;
//! the later ones come as they are in the feed. A row is in memory at a time.

use std::io;

use bytes::Bytes;

use super::{
    Head, Reader, StoreError,
    feed::{Change, Feed},
    sort::{Sorted, SortedIter, Sorter},
    validate::KeyRange,
    version::Position,
    view::View,
};

/// The store as of one moment, however long it is looked at. It holds on to the tables as they were
/// then: their file cannot reuse the room of what changes meanwhile.
pub(crate) struct Frozen {
    view: View,
    head: Head,
    /// The changes up to the compacted revision.
    base: Sorted,
    /// The leases and how many seconds each lasts, in the order of their ids without a sign.
    leases: Vec<(i64, i64)>,
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
        let mut leases: Vec<_> =
            view.leases()?.into_iter().map(|(id, lease)| (id, lease.ttl)).collect();
        leases.sort_by_key(|(id, _)| id.cast_unsigned());
        Ok(Some(Frozen { view, head, base, leases }))
    }
}

impl Frozen {
    /// How far it goes.
    pub(crate) fn head(&self) -> Head {
        self.head
    }

    /// The leases and how many seconds each lasts, in the order of their ids without a sign.
    pub(crate) fn leases(&self) -> &[(i64, i64)] {
        &self.leases
    }

    /// All changes, from the first on; as often as wanted.
    pub(crate) fn changes(&self) -> Result<Changes<'_>, StoreError> {
        let base = self.base.iter();
        Ok(Changes {
            frozen: self,
            base: base.map_err(|error| StoreError::of_io(&self.view.disk.path, error))?,
            later: self.view.feed(self.head.compacted + 1, self.head.revision)?,
        })
    }
}

/// See [`Frozen::changes`].
pub(crate) struct Changes<'f> {
    frozen: &'f Frozen,
    base: SortedIter<'f>,
    later: Feed,
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
                return Err(disk.damaged("a change is in one table and not in the other"));
            };
            return Ok(Some(Change { position, key, live: found.live }));
        }
        self.later.next()
    }
}

impl StoreError {
    /// Of a file that is no database.
    fn of_io(path: &str, error: io::Error) -> StoreError {
        StoreError::of(path, redb::Error::Io(error))
    }
}
