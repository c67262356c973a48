//! The tables: what is durable of the store.
//!
//! Five tables, changed together or not at all: what each key holds now, what changed at which revision,
//! what each key held before (which is an index into that), the rows of all small tables, and how far all that
//! goes. Opening reads the last one only.
//!
//! So a look-up of what a key holds is one in one table; whoever follows the changes reads one table in order; and
//! a range as of an earlier revision passes over what its keys held otherwise, without looking at it.

mod migration;
mod owner;
mod restore;
mod rows;
mod tables;

#[cfg(unix)]
use std::os::unix::fs::OpenOptionsExt;
use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use paxos_core::types::Slot;
use redb::{
    Database, Durability, ReadOnlyTable, ReadableDatabase, StorageBackend, Table, TableDefinition,
    WriteTransaction,
    backends::{FileBackend, InMemoryBackend},
};

use super::{
    Backend, Head, Rules, StoreError,
    blocks::{Blocks, plain},
    failure::Failure,
    layer::Changes,
    patient::{Patient, Room},
    sums::Sums,
    version::{self, Position},
};

pub use owner::Owner;
pub(super) use restore::RestoreError;
pub(super) use tables::{Past, Row, SmallRows, Snapshot};

use rows::Rows;

/// What a key that exists holds: one look-up.
type CurrentTable = TableDefinition<'static, &'static [u8], &'static [u8]>;
/// What a key held before, and its deletions, by the position since when: where that is in the feed, or, once it
/// is not there any more, the version itself.
type HistoryTable = TableDefinition<'static, (&'static [u8], i64, u32), &'static [u8]>;
/// What changed at a position: the key, and what it holds since. From the compacted revision on.
type FeedTable = TableDefinition<'static, (i64, u32), &'static [u8]>;

const CURRENT: CurrentTable = TableDefinition::new("current");
const HISTORY: HistoryTable = TableDefinition::new("history");
const FEED: FeedTable = TableDefinition::new("feed");
/// The rows of all small tables, behind the number of theirs.
type SmallTable = TableDefinition<'static, (u8, &'static [u8]), &'static [u8]>;
const SMALL: SmallTable = TableDefinition::new("small");
const META: TableDefinition<&str, i64> = TableDefinition::new("meta");

/// The layout of the tables. Format 1 did not say whose they are, formats 1 and 2 had no sums; before format 4 members
/// had a table of their own, and the feed named keys alone.
const FORMAT: i64 = 4;
/// The rows of the [`Sums`]; both or none.
const KEY_ROWS: &str = "sum of rows";
const KEY_CHANGES: &str = "sum of changes";
/// Pages the database keeps in memory.
const CACHE_BYTES: usize = 128 << 20;

/// The database.
pub(super) struct Disk {
    database: Database,
    /// The file; none for a database in memory.
    file: Option<PathBuf>,
    /// Whose state it is to be; nobody's in memory.
    owner: Option<Owner>,
    /// Whether the tables say so.
    is_named: AtomicBool,
    /// What errors call it.
    path: String,
    /// Whether it has room.
    pub(super) room: Arc<Room>,
    /// Why it cannot be used any more.
    pub(super) failure: Failure,
}

/// How far the tables go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Everything up to here is in them.
    pub(super) head: Head,
    /// What compaction up to here made superfluous is gone.
    pub(super) cleaned: i64,
    /// Keys and values, in bytes, with what it takes to store them.
    pub(super) bytes: i64,
}

impl Disk {
    pub(super) fn open(backend: Backend) -> Result<Disk, StoreError> {
        match backend {
            Backend::Memory => {
                let path = "the store in memory".to_owned();
                Disk::on(Box::new(InMemoryBackend::new()), path, None, CACHE_BYTES)
            }
            Backend::Redb { file, owner } => {
                let path = file.display().to_string();
                plain::replace(&file)?;
                let opened = open_private(&file).map_err(|error| StoreError::of(&path, error))?;
                let inner =
                    FileBackend::new(opened).map_err(|error| StoreError::of(&path, error))?;
                let blocks = Blocks::on(Box::new(inner), path.clone());
                Disk::on(Box::new(blocks), path, Some((file, owner)), CACHE_BYTES)
            }
        }
    }

    /// Opens the tables on a backend, which errors call `path`, with so much of it in memory.
    pub(super) fn on(
        inner: Box<dyn StorageBackend>,
        path: String,
        file: Option<(PathBuf, Owner)>,
        cache_bytes: usize,
    ) -> Result<Disk, StoreError> {
        let room = Arc::new(Room::default());
        let failure = Failure::none();
        let backend =
            Patient { inner, path: path.clone(), room: room.clone(), failure: failure.clone() };
        let database = Database::builder()
            .set_cache_size(cache_bytes)
            .create_with_backend(backend)
            .map_err(|error| StoreError::of(&path, error))?;
        let (file, owner) = file.unzip();
        let is_named = false.into();
        let disk = Disk { database, file, owner, is_named, path, room, failure };
        disk.initialise()?;
        // Whoever starts a server wants to be told that there is no room; later it can wait.
        disk.room.wait();
        Ok(disk)
    }

    /// Makes the tables if this is the first start; refuses those of a newer version or another
    /// member. Writes nothing if they are there.
    fn initialise(&self) -> Result<(), StoreError> {
        let fail = |error: redb::Error| StoreError::of(&self.path, error);
        let reading = self.database.begin_read().map_err(|error| fail(error.into()))?;
        match reading.open_table(META) {
            Ok(meta) => {
                let found = self.meta(&meta, "format")?;
                if found > FORMAT {
                    return Err(StoreError::NewerFormat {
                        path: self.path.clone(),
                        found: found.unsigned_abs(),
                        known: FORMAT.unsigned_abs(),
                    });
                }
                self.rules(&meta)?.check_known(&self.path)?;
                self.check_owner(&meta)?;
                return if found < FORMAT {
                    self.migrate(self.meta(&meta, "bytes")?)
                } else {
                    Ok(())
                };
            }
            Err(redb::TableError::TableDoesNotExist(_)) => (),
            Err(error) => return Err(fail(error.into())),
        }
        let writing = self.begin_write()?;
        self.table(&writing, META)?.insert("format", FORMAT).map_err(|error| fail(error.into()))?;
        self.table(&writing, CURRENT)?;
        self.table(&writing, HISTORY)?;
        self.table(&writing, FEED)?;
        self.table(&writing, SMALL)?;
        self.write_extent(&writing, Extent { head: Head::FRESH, cleaned: -1, bytes: 0 })?;
        writing.commit().map_err(|error| fail(error.into()))
    }

    /// The tables as they are now.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let fail = |error: redb::Error| StoreError::of(&self.path, error);
        let reading = self.database.begin_read().map_err(|error| fail(error.into()))?;
        let meta = reading.open_table(META).map_err(|error| fail(error.into()))?;
        let applied = self.meta(&meta, "applied")?;
        Ok(Snapshot {
            current: reading.open_table(CURRENT).map_err(|error| fail(error.into()))?,
            history: reading.open_table(HISTORY).map_err(|error| fail(error.into()))?,
            feed: reading.open_table(FEED).map_err(|error| fail(error.into()))?,
            small: reading.open_table(SMALL).map_err(|error| fail(error.into()))?,
            extent: Extent {
                head: Head {
                    revision: self.meta(&meta, "revision")?,
                    compacted: self.meta(&meta, "compacted")?,
                    applied: Slot(applied.cast_unsigned()),
                    sums: self.sums(&meta)?,
                    rules: self.rules(&meta)?,
                },
                cleaned: self.meta(&meta, "cleaned")?,
                bytes: self.meta(&meta, "bytes")?,
            },
            path: self.path.clone(),
        })
    }

    /// Writes what a layer holds; durable when it returns.
    pub(super) fn flush(
        &self,
        changes: &Changes,
        head: Head,
        before: Extent,
    ) -> Result<(), StoreError> {
        let writing = self.begin_write()?;
        let mut rows = Rows::open(self, &writing, before.bytes, before.head.compacted)?;
        for (key, versions) in &changes.keys {
            let (last, earlier) = versions.split_last().expect("a key with a change");
            let held = last.live.is_some().then(|| last.encode());
            rows.supersede(key, held.as_deref())?;
            for version in earlier.iter().chain(last.live.is_none().then_some(last)) {
                rows.add_history(key, version.position, version::in_feed(&version.encode()))?;
            }
        }
        for (at, key) in &changes.feed {
            rows.add_feed(*at, key, &changes.at(key, *at).encode())?;
        }
        for ((table, key), held) in &changes.rows {
            rows.set_small(*table, key, held.as_deref())?;
        }
        let bytes = rows.bytes();
        drop(rows);
        self.write_extent(&writing, Extent { head, bytes, cleaned: before.cleaned })?;
        self.write_owner(&writing)?;
        writing.commit().map_err(|error| StoreError::of(&self.path, error))?;
        self.is_named_now();
        Ok(())
    }

    /// Removes some of what compaction made superfluous, from `start` on: every version that a later
    /// one at or before the compacted revision replaced, and deletions. Returns where to go on, or
    /// nothing if all is done. The feed of the compacted revision itself stays, deletions included: it can
    /// still be watched from.
    pub(super) fn clean(
        &self,
        start: Position,
        before: Extent,
    ) -> Result<Option<Position>, StoreError> {
        let compacted = before.head.compacted;
        let writing = self.begin_write()?;
        let mut rows = Rows::open(self, &writing, before.bytes, compacted)?;
        let (page, next) = rows.feed_page(start, compacted)?;
        for (at, row) in page {
            rows.clean(at, &row)?;
        }
        let bytes = rows.bytes();
        drop(rows);
        let cleaned = if next.is_none() { compacted } else { before.cleaned };
        self.write_extent(&writing, Extent { bytes, cleaned, ..before })?;
        writing.commit().map_err(|error| StoreError::of(&self.path, error))?;
        Ok(next)
    }

    /// The size of the file; none for a database in memory.
    pub(super) fn file_bytes(&self) -> Option<u64> {
        let file: &Path = self.file.as_ref()?;
        std::fs::metadata(file).ok().map(|metadata| metadata.len())
    }

    /// Whether no disk is ever waited for.
    pub(super) fn is_in_memory(&self) -> bool {
        self.file.is_none()
    }

    /// The directory of the file; none for a database in memory.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        let directory = self.file.as_ref()?.parent()?;
        Some(if directory.as_os_str().is_empty() { ".".into() } else { directory.to_owned() })
    }

    /// A write whose recovery after a crash needs no scan, and that is committed in two phases: nothing refers
    /// to what is not durable ([`blocks`](super::blocks)).
    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        let fail = |error: redb::Error| StoreError::of(&self.path, error);
        let mut writing = self.database.begin_write().map_err(|error| fail(error.into()))?;
        writing.set_durability(Durability::Immediate).map_err(|error| fail(error.into()))?;
        writing.set_two_phase_commit(true);
        writing.set_quick_repair(true);
        Ok(writing)
    }

    fn table<'t, K: redb::Key + 'static, V: redb::Value + 'static>(
        &self,
        writing: &'t WriteTransaction,
        definition: TableDefinition<'static, K, V>,
    ) -> Result<Table<'t, K, V>, StoreError> {
        writing.open_table(definition).map_err(|error| StoreError::of(&self.path, error))
    }

    fn meta(&self, meta: &ReadOnlyTable<&'static str, i64>, name: &str) -> Result<i64, StoreError> {
        self.find_meta(meta, name)?.ok_or_else(|| self.damaged(name))
    }

    fn find_meta(
        &self,
        meta: &ReadOnlyTable<&'static str, i64>,
        name: &str,
    ) -> Result<Option<i64>, StoreError> {
        let found = meta.get(name).map_err(|error| StoreError::of(&self.path, error))?;
        Ok(found.map(|row| row.value()))
    }

    fn sums(&self, meta: &ReadOnlyTable<&'static str, i64>) -> Result<Option<Sums>, StoreError> {
        let sum = |name| Ok(self.find_meta(meta, name)?.map(i64::cast_unsigned));
        match (sum(KEY_ROWS)?, sum(KEY_CHANGES)?) {
            (Some(rows), Some(changes)) => Ok(Some(Sums { rows, changes })),
            (None, None) => Ok(None),
            _ => Err(self.damaged("one half of its sums")),
        }
    }

    /// The rules in force. Before rules had numbers, they were the first.
    fn rules(&self, meta: &ReadOnlyTable<&'static str, i64>) -> Result<Rules, StoreError> {
        let Some(found) = self.find_meta(meta, "rules")? else { return Ok(Rules::FIRST) };
        u32::try_from(found).map(Rules).map_err(|_| self.damaged("what the rules are"))
    }

    fn write_extent(&self, writing: &WriteTransaction, extent: Extent) -> Result<(), StoreError> {
        let mut meta = self.table(writing, META)?;
        let rows = [
            ("applied", extent.head.applied.0.cast_signed()),
            ("revision", extent.head.revision),
            ("compacted", extent.head.compacted),
            ("cleaned", extent.cleaned),
            ("bytes", extent.bytes),
            ("rules", extent.head.rules.0.into()),
        ];
        for (name, value) in rows {
            meta.insert(name, value).map_err(|error| StoreError::of(&self.path, error))?;
        }
        let sums = extent.head.sums;
        for (name, sum) in
            [(KEY_ROWS, sums.map(|sums| sums.rows)), (KEY_CHANGES, sums.map(|sums| sums.changes))]
        {
            let written = match sum {
                Some(sum) => meta.insert(name, sum.cast_signed()).map(drop),
                None => meta.remove(name).map(drop),
            };
            written.map_err(|error| StoreError::of(&self.path, error))?;
        }
        Ok(())
    }

    /// Changes the row of a key in a way that leaves every checksum right.
    #[cfg(test)]
    pub(super) fn damage(&self, key: &[u8], change: impl Fn(&mut [u8])) {
        let writing = self.begin_write().expect("a write");
        let mut current = self.table(&writing, CURRENT).expect("the table");
        let held = redb::ReadableTable::get(&current, key).expect("a read");
        let held = held.map(|row| row.value().to_vec());
        let mut held = held.expect("a key in the tables");
        change(&mut held);
        current.insert(key, &held[..]).expect("a write");
        drop(current);
        writing.commit().expect("a commit");
    }

    /// There is no room.
    pub(super) fn full(&self) -> StoreError {
        StoreError::Full { path: self.path.clone() }
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason: format!("{what} is missing") }
    }
}

/// Opens a file that nobody else may read, making it if there is none.
pub(super) fn open_private(file: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    options.mode(0o600);
    options.open(file)
}
