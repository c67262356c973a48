//! Where the database lies: a file in a locked directory, or a backend of the embedder's.
//!
//! The file appears under its name only once it holds an identity. So an empty or foreign file of
//! that name is damage, never a fresh start; and neither is none at all where the
//! [lock](super::lock) says that there has been one.
//!
//! A file `closed` beside it says that the last process brought everything to the disk before it
//! ended. Without, a sync may have failed, whether anybody came to know of it or not, and [some](super::unsynced)
//! of what can be read is [doubtful](Opened::doubtful).

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use paxos_core::port::StorageError;
use redb::{StorageBackend, backends::FileBackend};

use super::{
    backend::Fault,
    directory::{create_directory, failed, private_file, sync_directory},
    lock::Lock,
    unsynced::{self, EVERYTHING, Part, Unsynced},
};

const FILE: &str = "log.redb";
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
    Directory { directory: PathBuf, lock: Lock },
    /// Made by the embedder.
    Backend { name: String, open: OpenBackend },
}

/// An opened place.
pub(super) struct Opened {
    pub(super) backend: Box<dyn StorageBackend>,
    /// Whether there may be nothing in it yet.
    pub(super) may_be_new: bool,
    /// What of it may be in the page cache alone.
    pub(super) doubtful: Vec<Part>,
    /// Where that is written down from now on.
    pub(super) unsynced: Option<Unsynced>,
}

impl Source {
    /// Creates the directory if need be and locks it.
    pub(super) fn directory(directory: &Path) -> Result<Source, StorageError> {
        create_directory(directory)?;
        let lock = Lock::take(directory)?;
        let place = Place::Directory { directory: directory.to_owned(), lock };
        Ok(Source { place, is_certain: false })
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
            Place::Directory { directory, lock } => {
                let was_closed = self.is_certain || take_closed(directory)?;
                let (backend, may_be_new) = open_file(directory)?;
                if may_be_new && lock.is_marked()? {
                    let path = directory.join(FILE).display().to_string();
                    let what = "the file is missing, and the directory has had one".to_owned();
                    return Err(StorageError::Damaged { path, what });
                }
                let unsynced = Unsynced::open(directory)
                    .map_err(|error| failed("remove", &directory.join(unsynced::FILE), &error))?;
                let is_doubtful = !was_closed && !may_be_new;
                let doubtful = if is_doubtful { unsynced.parts() } else { Vec::new() };
                Ok(Opened { backend, may_be_new, doubtful, unsynced: Some(unsynced) })
            }
            Place::Backend { name, open } => {
                let backend = open().map_err(|error| Fault::new("open", &error).at(name))?;
                let doubtful = if self.is_certain { Vec::new() } else { vec![EVERYTHING] };
                Ok(Opened { backend, may_be_new: true, doubtful, unsynced: None })
            }
        }
    }

    /// Gives a new file its name, durably. What is there is certain from here on.
    pub(super) fn publish(&mut self) -> Result<(), StorageError> {
        if let Place::Directory { directory, lock } = &mut self.place {
            let (from, to) = (unfinished(directory), directory.join(FILE));
            if from.exists() {
                fs::rename(&from, &to).map_err(|error| failed("rename", &from, &error))?;
                sync_directory(directory)?;
            }
            lock.mark()?;
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

    /// Whether there seems to be room for `bytes` again; [`StorageError::Full`] if not, or if that cannot be
    /// found out. Trying it out on a file of its own spares a database that would have to be opened again,
    /// and checked, after every attempt.
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
            Err(error) => {
                let full = StorageError::Full { path: self.path() };
                if Fault::new("write", &error).at(&self.path()) != full {
                    // It says nothing of the log, which has not been touched; the next attempt may.
                    tracing::warn!(path = %path.display(), %error, "whether there is room cannot be tried");
                }
                Err(full)
            }
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
            !opened.doubtful.is_empty()
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
