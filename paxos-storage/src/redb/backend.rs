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
    /// What is there has still to be written again.
    is_doubtful: Mutex<bool>,
}

impl Watched {
    /// Watches `inner`. What `is_doubtful` may be in the page cache alone, and is written again
    /// before anything of it is read.
    pub(super) fn new(
        inner: Box<dyn StorageBackend>,
        faults: Faults,
        is_doubtful: bool,
    ) -> Watched {
        Watched { inner, faults, is_doubtful: Mutex::new(is_doubtful) }
    }

    /// Makes certain that what can be read is on the disk, by writing all of it again and syncing.
    ///
    /// After a failed sync the operating system may call pages clean that no disk has: they are read
    /// as they were written, no later sync writes them, and a power cut takes them away. redb would
    /// build upon such pages and leave them as they are, since it writes to new ones, until nothing on
    /// the disk is whole. Which pages it were, nobody knows; so it is all of them. A power cut in the
    /// middle leaves some of what the failed sync was to write, as one during that sync might have:
    /// what was durable before is written over with the same bytes.
    ///
    /// redb looks at the length first, and has locked the backend by then.
    fn write_again(&self) -> io::Result<()> {
        let mut is_doubtful = self.is_doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_doubtful {
            return Ok(());
        }
        let length = self.watch("look at", self.inner.len())?;
        if length > 0 {
            tracing::info!(bytes = length, "nobody has closed the log: writing all of it again");
        }
        let mut buffer = vec![0; CHUNK_BYTES];
        for offset in (0..length).step_by(CHUNK_BYTES) {
            let rest = usize::try_from(length - offset).unwrap_or(usize::MAX);
            let chunk = &mut buffer[..rest.min(CHUNK_BYTES)];
            self.watch("read", self.inner.read(offset, chunk))?;
            self.watch("write", self.inner.write(offset, chunk))?;
        }
        self.watch("sync", self.inner.sync_data())?;
        *is_doubtful = false;
        Ok(())
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
        redb::Error::DatabaseAlreadyOpen => StorageError::Locked { path, by_this_process: false },
        error => StorageError::Io { operation: "use", path, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was done to a backend of this many bytes, and whether its next sync fails.
    #[derive(Clone, Debug, Default)]
    struct Noting(Arc<Mutex<(Vec<String>, bool)>>, u64);

    impl Noting {
        fn note(&self, what: String) {
            self.0.lock().expect("no panic while locked").0.push(what);
        }

        fn taken(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().expect("no panic while locked").0)
        }
    }

    impl StorageBackend for Noting {
        fn len(&self) -> io::Result<u64> {
            Ok(self.1)
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.note(format!("read {} at {offset}", out.len()));
            out.fill(7);
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.note("sync".to_owned());
            let fails = std::mem::take(&mut self.0.lock().expect("no panic while locked").1);
            if fails { Err(io::Error::other("it fails")) } else { Ok(()) }
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            assert!(data.iter().all(|byte| *byte == 7), "what was read");
            self.note(format!("write {} at {offset}", data.len()));
            Ok(())
        }
    }

    #[test]
    fn what_is_doubtful_is_written_again_before_anything_is_read() {
        let noting = Noting(Arc::default(), CHUNK_BYTES as u64 + 10);
        let faults = Faults::default();
        let watched = Watched::new(Box::new(noting.clone()), faults.clone(), true);
        noting.0.lock().expect("no panic while locked").1 = true;
        watched.len().expect_err("a failed sync");
        assert!(faults.sync_has_failed());
        let again = ["read 1048576 at 0", "write 1048576 at 0"];
        let rest = ["read 10 at 1048576", "write 10 at 1048576", "sync"];
        let all = [&again[..], &rest].concat();
        assert_eq!(noting.taken(), all, "nothing but that");
        watched.read(3, &mut [0; 5]).expect("a sound backend");
        assert_eq!(
            noting.taken(),
            [&all[..], &["read 5 at 3"]].concat(),
            "once more, and as a whole"
        );
        watched.read(3, &mut [0; 5]).expect("a sound backend");
        assert_eq!(watched.len().expect("a sound backend"), noting.1);
        assert_eq!(noting.taken(), ["read 5 at 3"], "never again");
        let closed = Watched::new(Box::new(noting.clone()), Faults::default(), false);
        closed.read(3, &mut [0; 5]).expect("a sound backend");
        assert_eq!(noting.taken(), ["read 5 at 3"]);
    }

    /// A full disk is survivable, and a sync that fails after it is not.
    #[test]
    fn the_first_failure_is_told_and_a_failed_sync_is_never_overlooked() {
        let faults = Faults::default();
        faults.note("write", &io::ErrorKind::StorageFull.into());
        assert!(!faults.sync_has_failed());
        faults.note("sync", &io::ErrorKind::StorageFull.into());
        assert_eq!(faults.first("it"), Some(StorageError::Full { path: "it".to_owned() }));
        assert!(faults.sync_has_failed());
    }
}
