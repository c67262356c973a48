//! A new cluster out of a backup: the data directory of one of its members.
//!
//! Every member is restored from the same file. Its state is that of the backup, as of slot 1; its log
//! begins with a checkpoint there, whose hash is one of the backup. So members that were restored from
//! different files do not get along from the first moment on, instead of answering differently ever
//! after.
//!
//! All of it is made beside its place and put there as a whole at the end: what a crash leaves behind
//! is a directory of another name.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use paxos_core::{
    message::Watermark,
    port::{Checkpoint, StorageError, WriteBatch},
    types::Slot,
};
use tempfile::TempDir;
use xxhash_rust::xxh3::Xxh3;

use super::{
    ServerError,
    backends::{make_directory, open_log},
    config::{ClusterMap, ConfigError, Member},
    node::STATE_FILE,
};
use crate::{
    backup::{BackupError, BackupFile, HashCheck, Restorable},
    store::{Owner, StoreError, import::Import},
};

/// The slot that a restored cluster begins behind.
const SLOT: Slot = Slot(1);

/// What to make a member's data of.
#[derive(Clone, Debug)]
pub struct Restore {
    /// The backup.
    pub snapshot: PathBuf,
    /// The member's name; one of `cluster`.
    pub name: String,
    /// The new cluster.
    pub cluster: ClusterMap,
    /// Where its data is to be. There must be nothing yet.
    pub data_dir: PathBuf,
    /// Where its log is to be; mostly `log` in the data directory.
    pub log_dir: PathBuf,
    /// How far the revision is raised above that of the backup.
    pub bump_revision: u64,
    /// Whether all revisions up to the new one count as compacted, so that whoever has watched the old
    /// cluster is told to read everything anew.
    pub mark_compacted: bool,
    /// Do without the checksum of the backup.
    pub skip_hash_check: bool,
}

/// What has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The revision of the new store.
    pub revision: i64,
    /// Revisions below cannot be read; −1 if all can be.
    pub compacted: i64,
    /// Puts and deletions taken over.
    pub changes: u64,
    /// Puts among them whose key had a lease, which is not taken over.
    pub without_lease: u64,
    /// Users and roles that are not taken over.
    pub users_and_roles: u64,
}

/// Why a directory is not restored. What there was is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// There is something already.
    #[error("{path} is not empty: name another --data-dir or --wal-dir, or remove it first")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// A directory cannot be put there as a whole.
    #[error(
        "{path} is a link or a mount point, in whose place no directory can be put: name one within it"
    )]
    NoPlace {
        /// The link or mount point.
        path: PathBuf,
    },
    /// The revision would not fit.
    #[error("--bump-revision {0} is too much: some thousand millions are enough for any cluster")]
    Bump(u64),
    /// No room.
    #[error("no space left for {path}: free some, and restore again")]
    Full {
        /// The file or directory.
        path: String,
    },
    /// The operating system refused.
    #[error("{path}: {reason}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What it says.
        reason: io::Error,
    },
    /// The settings, the log or the state.
    #[error(transparent)]
    Server(#[from] ServerError),
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> RestoreError {
        match error {
            StoreError::Full { path } => RestoreError::Full { path },
            error => ServerError::State(error).into(),
        }
    }
}

impl From<StorageError> for RestoreError {
    fn from(error: StorageError) -> RestoreError {
        match error {
            StorageError::Full { path } => RestoreError::Full { path },
            error => ServerError::Log(error).into(),
        }
    }
}

impl RestoreError {
    fn io(path: &Path) -> impl Fn(io::Error) -> RestoreError {
        move |reason| RestoreError::Io { path: path.to_owned(), reason }
    }
}

impl Restore {
    /// Makes the data directory.
    ///
    /// # Errors
    ///
    /// If the backup cannot be read, something is in the directory, or there is no room.
    pub async fn run(&self) -> Result<Restored, RestoreError> {
        let member = self.cluster.named(&self.name).ok_or_else(|| {
            let reason = format!("there is no member of the name {:?}", self.name);
            ServerError::from(ConfigError::InitialCluster(reason))
        })?;
        check_place(&self.data_dir)?;
        check_place(&self.log_dir)?;
        let data = beside(&self.data_dir)?;
        let log_within = self.log_dir.strip_prefix(&self.data_dir).ok();
        let log = match log_within {
            Some(_) => None,
            None => Some(beside(&self.log_dir)?),
        };
        let log_path = match (&log, log_within) {
            (Some(log), _) => log.path().to_owned(),
            (None, within) => data.path().join(within.unwrap_or(Path::new("log"))),
        };
        let (restored, hash) = self.fill_store(data.path(), member)?;
        self.fill_log(&log_path, member, hash).await?;
        // In between, a member does not start: it misses its state.
        if let Some(log) = log {
            put_in_place(log, &self.log_dir)?;
        }
        put_in_place(data, &self.data_dir)?;
        Ok(restored)
    }

    /// Makes the state; the second part is the hash that the log begins with.
    fn fill_store(
        &self,
        directory: &Path,
        member: &Member,
    ) -> Result<(Restored, u64), RestoreError> {
        let check = match self.skip_hash_check {
            true => HashCheck::Skipped,
            false => HashCheck::Demanded,
        };
        let mut backup = BackupFile::open(&self.snapshot, check)?;
        let owner = Owner { cluster: self.cluster.id(), member: member.id };
        let mut import = Import::begin(directory.join(STATE_FILE), owner)?;
        let (mut changes, mut without_lease) = (0, 0);
        let last_revision = backup.changes(|Restorable { change, had_lease }| {
            changes += 1;
            without_lease += u64::from(had_lease);
            import.add(change).map_err(RestoreError::from)
        })?;
        let too_much = || RestoreError::Bump(self.bump_revision);
        let compacted = backup.compacted()?;
        let bump = i64::try_from(self.bump_revision).map_err(|_| too_much())?;
        let revision = last_revision.max(compacted).checked_add(bump).ok_or_else(too_much)?;
        // As far again has to be left for the changes to come.
        if revision > i64::MAX / 2 {
            return Err(too_much());
        }
        let compacted = if self.mark_compacted { revision } else { compacted };
        import.finish(revision, compacted, SLOT)?;
        let mut hash = Xxh3::new();
        hash.update(&backup.digest());
        hash.update(&revision.to_le_bytes());
        hash.update(&compacted.to_le_bytes());
        let users_and_roles = backup.count("authUsers")? + backup.count("authRoles")?;
        let restored = Restored { revision, compacted, changes, without_lease, users_and_roles };
        Ok((restored, hash.digest()))
    }

    /// Makes the log.
    async fn fill_log(
        &self,
        directory: &Path,
        member: &Member,
        hash: u64,
    ) -> Result<(), RestoreError> {
        make_directory(directory)?;
        let storage = open_log(directory)?;
        storage.recover(self.cluster.id(), member.id).await?;
        let at = Watermark { slot: SLOT, hash };
        let batch = WriteBatch {
            chosen: Some(at),
            checkpoint: Some(Checkpoint { at, ..Checkpoint::default() }),
            floor: Some(SLOT),
            ..WriteBatch::default()
        };
        storage.write(batch).await.map_err(StorageError::from)?;
        storage.close().await;
        sync(directory)
    }
}

/// Checks that a directory can be put there: that nothing is there, or an empty one.
fn check_place(path: &Path) -> Result<(), RestoreError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RestoreError::io(path)(error)),
    };
    let parent = fs::metadata(parent_of(path)).map_err(RestoreError::io(path))?;
    if found.is_symlink() || found.dev() != parent.dev() {
        return Err(RestoreError::NoPlace { path: path.to_owned() });
    }
    let is_empty =
        found.is_dir() && fs::read_dir(path).map_err(RestoreError::io(path))?.next().is_none();
    if is_empty { Ok(()) } else { Err(RestoreError::Occupied { path: path.to_owned() }) }
}

/// A directory that is gone again unless it is put in place, on the same file system as `path`.
fn beside(path: &Path) -> Result<TempDir, RestoreError> {
    let parent = parent_of(path);
    make_directory(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let directory = tempfile::Builder::new()
        .prefix(&format!(".{name}-restoring-"))
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(parent);
    directory.map_err(RestoreError::io(parent))
}

/// Moves a directory to its place, durably, where there is nothing or an empty one.
fn put_in_place(directory: TempDir, path: &Path) -> Result<(), RestoreError> {
    let parent = parent_of(path);
    sync(directory.path())?;
    fs::rename(directory.path(), path).map_err(RestoreError::io(path))?;
    // There is nothing left to remove.
    let _ = directory.keep();
    sync(parent)
}

fn sync(directory: &Path) -> Result<(), RestoreError> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(RestoreError::io(directory))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests;
