//! What redb writes to, watched: which operation failed first, and how.
//!
//! redb reports that something failed. Whether a write failed for lack of room, after which there
//! is a way on, or a sync did, after which there is none, only the backend sees.

use std::{
    io,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
};

use paxos_core::port::StorageError;
use redb::{BackendError, StorageBackend};

/// The first failure of a backend.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    operation: &'static str,
    kind: io::ErrorKind,
    reason: String,
}

/// Where a [`Watched`] backend leaves its first failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(Arc<Mutex<Option<Fault>>>);

impl Faults {
    /// The first failure in terms of the port; `None` if no operation has failed.
    pub(super) fn first(&self, path: &str) -> Option<StorageError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|fault| fault.at(path))
    }

    fn note(&self, operation: &'static str, error: &io::Error) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| Fault {
            operation,
            kind: error.kind(),
            reason: error.to_string(),
        });
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
    pub(super) inner: Box<dyn StorageBackend>,
    pub(super) faults: Faults,
}

impl Watched {
    fn watch<T>(&self, operation: &'static str, result: io::Result<T>) -> io::Result<T> {
        result.inspect_err(|error| self.faults.note(operation, error))
    }
}

impl StorageBackend for Watched {
    fn len(&self) -> io::Result<u64> {
        self.watch("look at", self.inner.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watch("read", self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch("resize", self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch("sync", self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
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
        redb::Error::DatabaseAlreadyOpen => StorageError::Locked { path },
        error => StorageError::Io { operation: "use", path, reason: error.to_string() },
    }
}
