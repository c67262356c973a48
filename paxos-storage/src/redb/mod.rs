//! A storage in a [redb](https://docs.rs/redb) database: a B-tree with copy on write, in one file.
//!
//! A batch is one transaction, durable with one sync. Two threads do the blocking work, one writes
//! and one reads, so that neither a reader waits for a sync nor the executor for the disk.
//!
//! What a start trusts: redb checks every page of the file against its checksum, and drops a last
//! transaction that a crash left unfinished. Every record has a checksum of its own besides, which
//! is checked whenever the record is read. Measured, a start checks 0.7 to 2 GB a second.
//!
//! What is read may be in the page cache alone: after a sync that has failed, or has gone down with
//! its process, the operating system may call pages clean that no disk has. So of a log that was not
//! closed properly what the last sync was about is written again, page by page, and synced, before redb
//! looks at it. A file `unsynced` beside the database says what that is, which is little; without it, and
//! after a sync that has failed, it is the whole file. A start after a proper end writes next to nothing, which it
//! knows by a file `closed`. A process that has seen a sync fail writes nothing more, not even that.
//!
//! What it cannot tell apart, like every log with one sync per write: after a crash, a last
//! transaction that was never finished and one that was and has decayed since. It is dropped, with
//! a warning where redb reports it. After a proper end, damage anywhere is an error.

mod backend;
mod checkpoint;
mod database;
mod directory;
mod group;
mod lock;
mod memberships;
mod migration;
mod record;
mod source;
mod unsynced;
mod worker;

use std::{fmt, io, ops::RangeInclusive, path::Path};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{
    message::Record,
    port::{Recovered, Storage, StorageError, Write, WriteBatch},
    types::{ClusterId, NodeId, Slot},
};
use redb::StorageBackend;

pub use self::directory::create_directory;
use self::{source::Source, worker::Workers};

/// A storage in a redb database.
///
/// Dropping it waits for the work under way, one sync at most, and releases the directory.
///
/// It works in real time: under a paused clock of tokio (`start_paused`) every deadline passes before the first sync
/// is done, and all proposals of its node end with an unknown outcome. There, take a `MemoryStorage`.
pub struct RedbStorage {
    path: String,
    workers: Workers,
}

impl fmt::Debug for RedbStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStorage").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RedbStorage {
    /// Takes the directory, which is created if it is missing, for this storage alone. The data in
    /// it is looked at when the node starts, by [`recover`](Storage::recover).
    ///
    /// # Errors
    ///
    /// [`StorageError::Locked`] if another process has it, or another storage of this one; otherwise what
    /// the operating system says.
    pub fn open(directory: impl AsRef<Path>) -> Result<RedbStorage, StorageError> {
        RedbStorage::start(Source::directory(directory.as_ref())?)
    }

    /// Whether there is a log in the directory: whether a node has ever been started on it.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn has_log(directory: impl AsRef<Path>) -> Result<bool, StorageError> {
        source::has_file(directory.as_ref())
    }

    /// As [`open`](RedbStorage::open) on a backend of the embedder's, which errors call `name`. `open` is called when the
    /// node starts, and again after the backend ran out of room: redb gives up a backend that has
    /// failed, and another one has to show the same data. Every start writes all of it again, since
    /// nobody says how it ended. Excluding other processes is up to the
    /// backend's locks, and a backend without any bytes is a fresh start.
    ///
    /// # Errors
    ///
    /// If the operating system starts no threads.
    pub fn with_backend<B: StorageBackend>(
        name: impl Into<String>,
        mut open: impl FnMut() -> io::Result<B> + Send + 'static,
    ) -> Result<RedbStorage, StorageError> {
        let open = Box::new(move || open().map(|backend| Box::new(backend) as _));
        RedbStorage::start(Source::backend(name.into(), open))
    }

    fn start(source: Source) -> Result<RedbStorage, StorageError> {
        Ok(RedbStorage { path: source.path(), workers: Workers::start(source)? })
    }
}

#[async_trait]
impl Storage for RedbStorage {
    async fn recover(&self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        self.workers.recover(cluster, node).await
    }

    fn write(&self, batch: WriteBatch) -> Write {
        self.workers.write(batch)
    }

    async fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        self.workers.read(slots, bytes_max).await
    }

    async fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        self.workers.read_state(slot, offset, bytes_max).await
    }

    async fn close(&self) {
        self.workers.close().await;
    }
}
