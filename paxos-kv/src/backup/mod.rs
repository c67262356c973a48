//! Backups: files as etcd writes them, so that people and programs can come and leave with them.
//!
//! What it guarantees:
//!
//! - A backup is the store of one moment, with all revisions that can still be read: `etcdctl snapshot
//!   status` and `restore`, and a real etcd, take it for one of their own.
//! - It is written from the first byte to the last in bounded memory and without room on the disk but
//!   for the keys of what is compacted. bbolt's first pages name the last ones, so the rows are gone
//!   through twice, over the same frozen store: to count, then to send. A temporary file would do with
//!   once, at the cost of as much room as the store takes; a backup that fills the disk of a member
//!   is worse than one that reads twice.
//! - What is read is checked before it is believed, by its checksum and row by row.
//!
//! A file is a database of bbolt (`bbolt`), behind it the SHA-256 of all its bytes:
//!
//! | bucket | key | value |
//! |---|---|---|
//! | `key` | revision, `_`, place within it, big-endian; `t` behind it for a deletion | a `KeyValue` |
//! | `meta` | `finishedCompactRev`, `scheduledCompactRev` | a revision, as a key above |
//! | | `consistent_index`, `term` | how far the log was, big-endian |
//! | the others that etcd has | | nothing |
//!
//! Of a file that a real etcd has written, the keys are taken over with all their revisions. Leases,
//! users, roles and alarms are not: a key that had a lease stays until it is deleted.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};

use crate::{
    bbolt::BboltError,
    store::{StoreError, version::Position},
};

pub use read::BackupStatus;
pub(crate) use read::{BackupFile, HashCheck, Restorable};
pub(crate) use write::Backup;

/// What stands behind the database.
pub(crate) const CHECKSUM_BYTES: usize = 32;
/// What a database is long in: pages are larger on every machine.
const SECTOR_BYTES: u64 = 512;

const KEY_BUCKET: &str = "key";
const META_BUCKET: &str = "meta";
const FINISHED_COMPACTION: &str = "finishedCompactRev";
const SCHEDULED_COMPACTION: &str = "scheduledCompactRev";
const CONSISTENT_INDEX: &str = "consistent_index";
const TERM: &str = "term";

/// Why a backup cannot be read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The operating system refused.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it says.
        reason: std::io::Error,
    },
    /// It makes no sense.
    #[error("{path} cannot be read: {reason}: use another snapshot")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to check it by.
    #[error(
        "{path} has no checksum: use a file that `snapshot save` has written; if this is the \
         database of a stopped etcd, copied from its directory, say --skip-hash-check"
    )]
    NoChecksum {
        /// The file.
        path: PathBuf,
    },
    /// It is not as it was written.
    #[error(
        "{path} is not as it was written, its checksum is wrong: use another snapshot, or restore \
         what can be read of this one with --skip-hash-check"
    )]
    WrongChecksum {
        /// The file.
        path: PathBuf,
    },
}

impl BackupError {
    fn io(path: &Path) -> impl Fn(std::io::Error) -> BackupError {
        move |reason| BackupError::Io { path: path.to_owned(), reason }
    }

    fn damaged(path: &Path, reason: impl Into<String>) -> BackupError {
        BackupError::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    fn of(path: &Path) -> impl Fn(BboltError) -> BackupError {
        move |error| match error {
            BboltError::Io(reason) => BackupError::io(path)(reason),
            error => BackupError::damaged(path, error.to_string()),
        }
    }
}

/// Why a backup ends before it is whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be written; nobody waits for it any more, mostly.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Between the revision and the place within it.
const SEPARATOR: u8 = b'_';
/// Behind the key of a deletion.
const TOMBSTONE: u8 = b't';
const REVISION_BYTES: usize = 8 + 1 + 8;

/// A position as etcd writes it.
fn encode_position(at: Position) -> [u8; REVISION_BYTES] {
    let mut bytes = [SEPARATOR; REVISION_BYTES];
    bytes[..8].copy_from_slice(&at.revision.to_be_bytes());
    bytes[9..].copy_from_slice(&u64::from(at.index).to_be_bytes());
    bytes
}

/// The position in a key, and whether it is that of a deletion.
fn decode_position(bytes: &[u8]) -> Option<(Position, bool)> {
    let (position, rest) = bytes.split_first_chunk::<REVISION_BYTES>()?;
    let is_deletion = match rest {
        [] => false,
        [TOMBSTONE] => true,
        _ => return None,
    };
    let number = |at: usize| position[at..at + 8].try_into().map(u64::from_be_bytes).ok();
    let revision = i64::try_from(number(0)?).ok()?;
    let index = u32::try_from(number(9)?).ok()?;
    let is_one = position[8] == SEPARATOR;
    is_one.then_some((Position { revision, index }, is_deletion))
}
