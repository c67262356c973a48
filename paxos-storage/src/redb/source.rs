//! Where the database lies: a file in a locked directory, or a backend of the embedder's.
//!
//! The file appears under its name only once it holds an identity. So an empty or foreign file of
//! that name is damage, never a fresh start.
//!
//! A file `closed` beside it says that the last process brought everything to the disk before it
//! ended. Without, a sync may have failed, whether anybody came to know of it or not, and what can be
//! read is [doubtful](Opened::is_doubtful).

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use paxos_core::port::StorageError;
use redb::{StorageBackend, backends::FileBackend};

use super::backend::Fault;

const FILE: &str = "log.redb";
const LOCK_FILE: &str = "lock";
const CLOSED_FILE: &str = "closed";
/// What a free disk must have beyond the batch itself: pages of indexes and of the free list.
const ROOM_BYTES: usize = 128 << 10;

type OpenBackend = Box<dyn FnMut() -> io::Result<Box<dyn StorageBackend>> + Send>;

/// Opens the place where the database lies, as often as needed.
pub(super) struct Source {
    place: Place,
    /// Whether this process has made certain that all of it is on the disk.
    is_certain: bool,
}

enum Place {
    /// A directory, locked for as long as this lives.
    Directory { directory: PathBuf, _lock: File },
    /// Made by the embedder.
    Backend { name: String, open: OpenBackend },
}

/// An opened place.
pub(super) struct Opened {
    pub(super) backend: Box<dyn StorageBackend>,
    /// Whether there may be nothing in it yet.
    pub(super) may_be_new: bool,
    /// Whether what can be read may be in the page cache alone.
    pub(super) is_doubtful: bool,
}

impl Source {
    /// Creates the directory if need be and locks it.
    pub(super) fn directory(directory: &Path) -> Result<Source, StorageError> {
        create_directory(directory)?;
        let path = directory.join(LOCK_FILE);
        let lock = private_file()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed("open", &path, &error))?;
        match lock.try_lock() {
            Ok(()) => {
                let place = Place::Directory { directory: directory.to_owned(), _lock: lock };
                Ok(Source { place, is_certain: false })
            }
            Err(TryLockError::WouldBlock) => {
                Err(StorageError::Locked { path: path.display().to_string() })
            }
            Err(TryLockError::Error(error)) => Err(failed("lock", &path, &error)),
        }
    }

    /// What an embedder opens. How it ended, nobody has written down: it is doubtful every time.
    pub(super) fn backend(name: String, open: OpenBackend) -> Source {
        Source { place: Place::Backend { name, open }, is_certain: false }
    }

    /// What errors call it.
    pub(super) fn path(&self) -> String {
        match &self.place {
            Place::Directory { directory, .. } => directory.join(FILE).display().to_string(),
            Place::Backend { name, .. } => name.clone(),
        }
    }

    /// Opens it. What is new has to be [published](Self::publish) once it holds an identity.
    pub(super) fn open(&mut self) -> Result<Opened, StorageError> {
        match &mut self.place {
            Place::Directory { directory, .. } => {
                let was_closed = self.is_certain || take_closed(directory)?;
                let (backend, may_be_new) = open_file(directory)?;
                Ok(Opened { backend, may_be_new, is_doubtful: !was_closed && !may_be_new })
            }
            Place::Backend { name, open } => {
                let backend = open().map_err(|error| Fault::new("open", &error).at(name))?;
                Ok(Opened { backend, may_be_new: true, is_doubtful: !self.is_certain })
            }
        }
    }

    /// Gives a new file its name, durably. What is there is certain from here on.
    pub(super) fn publish(&mut self) -> Result<(), StorageError> {
        if let Place::Directory { directory, .. } = &self.place {
            let (from, to) = (unfinished(directory), directory.join(FILE));
            if from.exists() {
                fs::rename(&from, &to).map_err(|error| failed("rename", &from, &error))?;
                sync_directory(directory)?;
            }
        }
        self.is_certain = true;
        Ok(())
    }

    /// Writes down that everything is durable, and nothing more will be written.
    pub(super) fn close(self) {
        let Place::Directory { directory, .. } = &self.place else { return };
        let path = directory.join(CLOSED_FILE);
        // It need not be durable: without it the next start takes longer.
        if let Err(error) = private_file().create(true).truncate(true).open(&path) {
            tracing::debug!(path = %path.display(), %error, "the next start is as after a crash");
        }
    }

    /// Whether there seems to be room for `bytes` again. Trying it out on a file of its own spares
    /// a database that would have to be opened again, and checked, after every attempt.
    pub(super) fn probe_room(&self, bytes: usize) -> Result<(), StorageError> {
        let Place::Directory { directory, .. } = &self.place else { return Ok(()) };
        let path = directory.join("room");
        let try_out = || {
            let mut file = private_file().create(true).truncate(true).open(&path)?;
            let zeros = vec![0; 1 << 16];
            for _ in 0..(bytes.saturating_mul(2).saturating_add(ROOM_BYTES)).div_ceil(zeros.len()) {
                file.write_all(&zeros)?;
            }
            file.sync_data()
        };
        let tried = try_out();
        // Gone before anything else is reported: it takes the room that it was to find.
        let removed = fs::remove_file(&path);
        match tried.and(removed) {
            Ok(()) => Ok(()),
            Err(error) => Err(Fault::new("write", &error).at(&self.path())),
        }
    }
}

/// Whether the file is there, and so holds an identity.
pub(super) fn has_file(directory: &Path) -> Result<bool, StorageError> {
    let path = directory.join(FILE);
    path.try_exists().map_err(|error| failed("look for", &path, &error))
}

/// Whether the last process has closed what is there, which this one opens. Every entry of the
/// directory is durable afterwards, the file's name too.
fn take_closed(directory: &Path) -> Result<bool, StorageError> {
    let path = directory.join(CLOSED_FILE);
    let was_closed = match fs::remove_file(&path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(failed("remove", &path, &error)),
    };
    sync_directory(directory)?;
    Ok(was_closed)
}

/// The file, and whether it is a new one.
fn open_file(directory: &Path) -> Result<(Box<dyn StorageBackend>, bool), StorageError> {
    let path = directory.join(FILE);
    let opened = private_file().open(&path);
    let (file, may_be_new) = match opened {
        Ok(file) => (file, false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // What an interrupted start left there was never anybody's state.
            let path = unfinished(directory);
            let file = private_file().create(true).truncate(true).open(&path);
            (file.map_err(|error| failed("create", &path, &error))?, true)
        }
        Err(error) => return Err(failed("open", &path, &error)),
    };
    let length = file.metadata().map_err(|error| failed("look at", &path, &error))?.len();
    if length == 0 && !may_be_new {
        let what = "the file is empty".to_owned();
        return Err(StorageError::Damaged { path: path.display().to_string(), what });
    }
    let backend = FileBackend::new(file).map_err(|error| StorageError::Io {
        operation: "open",
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    Ok((Box::new(backend), may_be_new))
}

fn unfinished(directory: &Path) -> PathBuf {
    directory.join(format!("{FILE}.new"))
}

/// Options to open a file that nobody else may read, once it is created.
fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Creates `directory`, with its parents, for nobody else, and makes every new entry durable.
fn create_directory(directory: &Path) -> Result<(), StorageError> {
    let missing: Vec<&Path> = directory
        .ancestors()
        .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
        .collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| failed("create", directory, &error))?;
    for path in missing {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent)?,
            _ => sync_directory(Path::new("."))?,
        }
    }
    warn_if_open_to_others(directory);
    Ok(())
}

#[cfg(unix)]
fn warn_if_open_to_others(directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    if let Ok(metadata) = directory.metadata()
        && metadata.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(
            directory = %directory.display(),
            mode = format!("{:o}", metadata.permissions().mode() & 0o777),
            "other users can look into the data directory: chmod 700 it",
        );
    }
}

#[cfg(not(unix))]
fn warn_if_open_to_others(_directory: &Path) {}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> Result<(), StorageError> {
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| failed("sync", directory, &error))
}

/// Directories cannot be opened as files here; their entries are durable with the file.
#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> Result<(), StorageError> {
    Ok(())
}

fn failed(operation: &'static str, path: &Path, error: &io::Error) -> StorageError {
    Fault::new(operation, error).at(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_closed_is_doubtful_until_it_is_certain() {
        let parent = tempfile::tempdir().expect("a temporary directory");
        let directory = parent.path().join("data");
        let is_doubtful = |source: &mut Source| {
            let opened = source.open().expect("a directory of ours");
            opened.backend.set_len(1).expect("there is room");
            opened.is_doubtful
        };
        let source = || Source::directory(&directory).expect("a free directory");
        let mut first = source();
        assert!(!is_doubtful(&mut first), "it is new");
        first.publish().expect("a new name");
        first.close();
        let mut closed = source();
        assert!(!is_doubtful(&mut closed));
        drop(closed);
        let mut interrupted = source();
        assert!(is_doubtful(&mut interrupted), "it was opened and never closed");
        assert!(is_doubtful(&mut interrupted), "and nothing has become of it yet");
        interrupted.publish().expect("it has its name already");
        assert!(!is_doubtful(&mut interrupted), "this process has written it again");
        drop(interrupted);
        assert!(is_doubtful(&mut source()), "it was not closed");
        let backend = || Ok(Box::new(redb::backends::InMemoryBackend::new()) as _);
        let mut backend = Source::backend("memory".to_owned(), Box::new(backend));
        assert!(is_doubtful(&mut backend), "nobody knows");
        backend.publish().expect("no name");
        assert!(!is_doubtful(&mut backend));
    }
}
