//! The lock of a directory: one storage at a time, in this process or another.
//!
//! The file that is locked also says whether the directory has ever had a log, which a log that is missing
//! cannot say itself.

use std::{
    collections::BTreeSet,
    fs::{File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use paxos_core::port::StorageError;

use super::directory::{failed, private_file};

const FILE: &str = "lock";
/// What is in the file once the directory has had a log.
const MARK: &[u8] = b"this directory has a log\n";

/// The directories that this process has locked: the operating system does not say who holds a lock.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn held() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory that nobody else has, for as long as this lives.
pub(super) struct Lock {
    path: PathBuf,
    /// As others may name it, too.
    directory: PathBuf,
    /// `None` once it is let go of.
    file: Option<File>,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Lock, StorageError> {
        let path = directory.join(FILE);
        let resolved =
            directory.canonicalize().map_err(|error| failed("look at", directory, &error))?;
        let locked = |by_this_process| StorageError::Locked {
            path: path.display().to_string(),
            by_this_process,
        };
        let mut held = held();
        if held.contains(&resolved) {
            return Err(locked(true));
        }
        let file = private_file()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("open", &path, &error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(locked(false)),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, &error)),
        }
        held.insert(resolved.clone());
        Ok(Lock { path, directory: resolved, file: Some(file) })
    }

    fn file(&self) -> &File {
        self.file.as_ref().expect("let go of by drop only")
    }

    /// Whether the directory has had a log.
    pub(super) fn is_marked(&self) -> Result<bool, StorageError> {
        let length = self.file().metadata().map(|metadata| metadata.len());
        length.map(|length| length > 0).map_err(|error| failed("look at", &self.path, &error))
    }

    /// The directory has a log from now on.
    pub(super) fn mark(&mut self) -> Result<(), StorageError> {
        if self.is_marked()? {
            return Ok(());
        }
        let write = |mut file: &File| -> io::Result<()> {
            file.write_all(MARK)?;
            file.sync_all()
        };
        write(self.file()).map_err(|error| failed("write", &self.path, &error))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // In this order: whoever finds that this process does not hold it takes it for another's.
        let mut held = held();
        self.file = None;
        held.remove(&self.directory);
    }
}
