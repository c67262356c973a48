//! What redb writes to, watched: which operation failed first, and how.
//!
//! redb reports that something failed. Whether a write failed for lack of room, after which there
//! is a way on, or a sync did, after which there is none, only the backend sees.
//!
//! And what redb reads is [on the disk](Watched::write_again), not only in the page cache.

use std::{
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use paxos_core::port::StorageError;
use redb::{BackendError, StorageBackend};

use super::unsynced::{Part, Unsynced};

/// The first failure of a backend.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    operation: &'static str,
    kind: io::ErrorKind,
    reason: String,
}

/// How much is written again at once.
const CHUNK_BYTES: usize = 1 << 20;

/// Where a [`Watched`] backend leaves its first failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    first: Option<Fault>,
    sync_has_failed: bool,
}

impl Faults {
    /// The first failure in terms of the port; `None` if no operation has failed.
    pub(super) fn first(&self, path: &str) -> Option<StorageError> {
        self.noted().first.as_ref().map(|fault| fault.at(path))
    }

    /// Whether a sync has failed, first or not: then what can be read may be on no disk.
    pub(super) fn sync_has_failed(&self) -> bool {
        self.noted().sync_has_failed
    }

    fn note(&self, operation: &'static str, error: &io::Error) {
        let mut noted = self.noted();
        noted.sync_has_failed |= operation == "sync";
        noted.first.get_or_insert_with(|| Fault::new(operation, error));
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    /// A failure to open, create or look at a file.
    pub(super) fn new(operation: &'static str, error: &io::Error) -> Fault {
        Fault { operation, kind: error.kind(), reason: error.to_string() }
    }

    /// The failure in terms of the port.
    pub(super) fn at(&self, path: &str) -> StorageError {
        let path = path.to_owned();
        match (self.operation, self.kind) {
            // A sync that fails, for whatever reason, leaves unknown what is on the disk.
            (operation, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
                if operation != "sync" =>
            {
                StorageError::Full { path }
            }
            ("read", io::ErrorKind::UnexpectedEof) => {
                StorageError::Damaged { path, what: "the file ends too soon".to_owned() }
            }
            (operation, _) => StorageError::Io { operation, path, reason: self.reason.clone() },
        }
    }
}

/// A backend that leaves its first failure in [`Faults`].
#[derive(Debug)]
pub(super) struct Watched {
    inner: Box<dyn StorageBackend>,
    faults: Faults,
    /// What is there and has still to be written again.
    doubtful: Mutex<Vec<Part>>,
    /// What is written and not synced, for the next process.
    unsynced: Option<Mutex<Unsynced>>,
}

impl Watched {
    /// Watches `inner`. What is `doubtful` may be in the page cache alone, and is written again
    /// before anything is read. What is written from now on is written down in `unsynced` until it is synced.
    pub(super) fn new(
        inner: Box<dyn StorageBackend>,
        faults: Faults,
        doubtful: Vec<Part>,
        unsynced: Option<Unsynced>,
    ) -> Watched {
        let (doubtful, unsynced) = (Mutex::new(doubtful), unsynced.map(Mutex::new));
        Watched { inner, faults, doubtful, unsynced }
    }

    /// Makes certain that what can be read is on the disk, by writing what is doubtful again and syncing.
    ///
    /// After a failed sync the operating system may call pages clean that no disk has: they are read
    /// as they were written, no later sync writes them, and a power cut takes them away. redb would
    /// build upon such pages and leave them as they are, since it writes to new ones, until nothing on
    /// the disk is whole. A power cut in the
    /// middle leaves some of what the failed sync was to write, as one during that sync might have:
    /// what was durable before is written over with the same bytes.
    ///
    /// redb looks at the length first, and has locked the backend by then.
    fn write_again(&self) -> io::Result<()> {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        if doubtful.is_empty() {
            return Ok(());
        }
        let length = self.watch("look at", self.inner.len())?;
        let parts = doubtful.iter().map(|part| {
            part.offset.min(length)..part.offset.saturating_add(part.length).min(length)
        });
        let bytes: u64 = parts.clone().map(|part| part.end - part.start).sum();
        if bytes > 0 {
            tracing::info!(
                bytes,
                of = length,
                "nobody has closed the log: writing again what may be on no disk"
            );
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        for part in parts {
            for offset in part.clone().step_by(CHUNK_BYTES) {
                let rest = usize::try_from(part.end - offset).unwrap_or(usize::MAX);
                let chunk = &mut buffer[..rest.min(CHUNK_BYTES)];
                self.watch("read", self.inner.read(offset, chunk))?;
                self.watch("write", self.inner.write(offset, chunk))?;
            }
        }
        self.sync()?;
        doubtful.clear();
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.watch("sync", self.inner.sync_data());
        let Some(unsynced) = &self.unsynced else { return synced };
        let mut unsynced = unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        match &synced {
            Ok(()) => unsynced.synced(),
            Err(_) => {
                if let Err(error) = unsynced.sync_failed() {
                    tracing::error!(%error, "the next start cannot be told that a sync has failed");
                }
            }
        }
        synced
    }

    fn watch<T>(&self, operation: &'static str, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.faults.note(operation, error))
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.write_again()?;
        self.watch("look at", self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.write_again()?;
        self.watch("read", self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch("resize", self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(unsynced) = &self.unsynced {
            let mut unsynced = unsynced.lock().unwrap_or_else(PoisonError::into_inner);
            self.watch("write", unsynced.note(offset, data.len()))?;
        }
        self.watch("write", self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// redb's error in terms of the port. What failed underneath says more than redb does.
pub(super) fn explain(error: redb::Error, faults: &Faults, path: &str) -> StorageError {
    if let Some(fault) = faults.first(path) {
        return fault;
    }
    let path = path.to_owned();
    match error {
        redb::Error::Corrupted(what) => StorageError::Damaged { path, what },
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            StorageError::Damaged { path, what: error.to_string() }
        }
        redb::Error::TableDoesNotExist(table) => {
            StorageError::Damaged { path, what: format!("the table {table:?} is missing") }
        }
        error @ (redb::Error::TableTypeMismatch { .. }
        | redb::Error::TableIsMultimap(_)
        | redb::Error::TypeDefinitionChanged { .. }) => {
            StorageError::Damaged { path, what: error.to_string() }
        }
        redb::Error::DatabaseAlreadyOpen => StorageError::Locked { path, by_this_process: false },
        error => StorageError::Io { operation: "use", path, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests;
