//! From a backup to a store.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use prost::Message;
use ring::digest::{Context, SHA256};

use super::{
    BackupError, CHECKSUM_BYTES, FINISHED_COMPACTION, KEY_BUCKET, META_BUCKET,
    SCHEDULED_COMPACTION, SECTOR_BYTES, decode_position,
};
use crate::{
    bbolt::{Bucket, Database},
    proto::mvccpb::KeyValue,
    store::{
        feed::Change,
        version::{Live, Position},
    },
};

/// Read of a file at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Whether the checksum of a file has to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HashCheck {
    /// It has to be there and to be right.
    Demanded,
    /// If it is there, it has to be right.
    IfThere,
    /// It is not looked at.
    Skipped,
}

/// What a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupStatus {
    /// CRC-32C of all names of buckets, keys and values, as etcdctl computes it.
    pub hash: u32,
    /// The revision of the store.
    pub revision: i64,
    /// Rows in all buckets, which etcdctl calls keys.
    pub total_keys: u64,
    /// Bytes of the database.
    pub total_size: u64,
}

/// What there is to a change, and what a restore leaves behind of it.
pub(crate) struct Restorable {
    pub(crate) change: Change,
    /// It named a lease.
    pub(crate) had_lease: bool,
}

/// A backup that has been found whole.
pub(crate) struct BackupFile {
    path: PathBuf,
    database: Database<File>,
    buckets: Vec<(Vec<u8>, Bucket)>,
    digest: [u8; CHECKSUM_BYTES],
}

impl BackupFile {
    /// Opens a file and reads it once, to check it.
    pub(crate) fn open(path: &Path, check: HashCheck) -> Result<BackupFile, BackupError> {
        let io = BackupError::io(path);
        let mut file = File::open(path).map_err(&io)?;
        let length = file.metadata().map_err(&io)?.len();
        let has_checksum = length % SECTOR_BYTES == CHECKSUM_BYTES as u64;
        if check == HashCheck::Demanded && !has_checksum {
            return Err(BackupError::NoChecksum { path: path.to_owned() });
        }
        let database_bytes = if has_checksum { length - CHECKSUM_BYTES as u64 } else { length };
        let digest = digest_of(&mut file, database_bytes).map_err(&io)?;
        if has_checksum && check != HashCheck::Skipped {
            let mut checksum = [0; CHECKSUM_BYTES];
            file.seek(SeekFrom::Start(database_bytes)).map_err(&io)?;
            file.read_exact(&mut checksum).map_err(&io)?;
            if checksum != digest {
                return Err(BackupError::WrongChecksum { path: path.to_owned() });
            }
        }
        let fail = BackupError::of(path);
        let mut database = Database::open(file, database_bytes).map_err(&fail)?;
        let buckets = database.buckets().map_err(&fail)?;
        Ok(BackupFile { path: path.to_owned(), database, buckets, digest })
    }

    /// SHA-256 of the database: what tells it from any other.
    pub(crate) fn digest(&self) -> [u8; CHECKSUM_BYTES] {
        self.digest
    }

    /// Reads all of it.
    pub(crate) fn status(&mut self) -> Result<BackupStatus, BackupError> {
        let (mut hash, mut total_keys, mut last_revision) = (0, 0, 1);
        for (name, bucket) in &self.buckets {
            hash = crc32c::crc32c_append(hash, name);
            let mut cursor = self.database.cursor(bucket).map_err(BackupError::of(&self.path))?;
            while let Some((key, value)) = cursor.next().map_err(BackupError::of(&self.path))? {
                hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, key), value);
                total_keys += 1;
                if name == KEY_BUCKET.as_bytes() {
                    let at = decode_position(key).ok_or_else(|| not_a_revision(&self.path))?;
                    last_revision = at.0.revision;
                }
            }
        }
        let revision = last_revision.max(self.compacted()?);
        Ok(BackupStatus { hash, revision, total_keys, total_size: self.database.bytes() })
    }

    /// The compacted revision, whether or not etcd had finished with it; −1 for none.
    pub(crate) fn compacted(&mut self) -> Result<i64, BackupError> {
        let mut compacted = -1;
        let names = [FINISHED_COMPACTION, SCHEDULED_COMPACTION].map(str::as_bytes);
        self.rows(META_BUCKET, |path, key, value| {
            if names.contains(&key) {
                let at = decode_position(value).ok_or_else(|| not_a_revision(path))?;
                compacted = at.0.revision.max(compacted);
            }
            Ok(())
        })?;
        Ok(compacted)
    }

    /// How many rows a bucket has; none if it is not there.
    pub(crate) fn count(&mut self, bucket: &str) -> Result<u64, BackupError> {
        let mut count = 0;
        self.rows(bucket, |_, _, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Hands out the changes in order, and returns the last revision that there is a row of.
    pub(crate) fn changes<E: From<BackupError>>(
        &mut self,
        mut take: impl FnMut(Restorable) -> Result<(), E>,
    ) -> Result<i64, E> {
        let name = KEY_BUCKET.as_bytes();
        if !self.buckets.iter().any(|(bucket, _)| bucket == name) {
            let reason = "there is no bucket of keys in it: it is a database, but none of etcd";
            return Err(BackupError::damaged(&self.path, reason).into());
        }
        let mut last_revision = 1;
        self.rows(KEY_BUCKET, |path, key, value| {
            let change = restorable(path, key, value)?;
            last_revision = change.0.revision;
            change.1.map_or(Ok(()), &mut take)
        })?;
        Ok(last_revision)
    }

    fn rows<E: From<BackupError>>(
        &mut self,
        name: &str,
        mut take: impl FnMut(&Path, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let bucket = self.buckets.iter().find(|(bucket, _)| bucket == name.as_bytes());
        let Some((_, bucket)) = bucket else { return Ok(()) };
        let mut cursor = self.database.cursor(bucket).map_err(BackupError::of(&self.path))?;
        while let Some((key, value)) = cursor.next().map_err(BackupError::of(&self.path))? {
            take(&self.path, key, value)?;
        }
        Ok(())
    }
}

/// The change in a row; nothing if it only says that there was a revision.
fn restorable(
    path: &Path,
    key: &[u8],
    value: &[u8],
) -> Result<(Position, Option<Restorable>), BackupError> {
    let (position, is_deletion) = decode_position(key).ok_or_else(|| not_a_revision(path))?;
    let damaged = |reason: String| {
        let Position { revision, index } = position;
        BackupError::damaged(path, format!("its change {revision}.{index} {reason}"))
    };
    let found = KeyValue::decode(value).map_err(|error| damaged(format!("is none: {error}")))?;
    if found.key.is_empty() {
        return Ok((position, None));
    }
    if is_deletion {
        let change = Change { position, key: found.key, live: None };
        return Ok((position, Some(Restorable { change, had_lease: false })));
    }
    let is_sensible = found.mod_revision == position.revision
        && (1..=found.mod_revision).contains(&found.create_revision)
        && found.version >= 1;
    if !is_sensible {
        return Err(damaged("contradicts itself".to_owned()));
    }
    let live = Live {
        create_revision: found.create_revision,
        version: found.version,
        lease: 0,
        value: found.value,
    };
    let change = Change { position, key: found.key, live: Some(live) };
    Ok((position, Some(Restorable { change, had_lease: found.lease != 0 })))
}

fn not_a_revision(path: &Path) -> BackupError {
    BackupError::damaged(path, "a row of it has no revision")
}

fn digest_of(file: &mut File, length: u64) -> std::io::Result<[u8; CHECKSUM_BYTES]> {
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut rest = file.take(length);
    loop {
        match rest.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}
