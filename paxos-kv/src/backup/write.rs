//! From a store to a backup.

use std::io::{self, Write};

use prost::Message;
use ring::digest::{Context, SHA256};

use super::{
    CHECKSUM_BYTES, CONSISTENT_INDEX, FINISHED_COMPACTION, KEY_BUCKET, META_BUCKET,
    SCHEDULED_COMPACTION, TERM, TOMBSTONE, WriteError, encode_position,
};
use crate::{
    bbolt::{FileWriter, Layout},
    proto::mvccpb::KeyValue,
    store::{export::Frozen, feed::Change, version::Position},
};

/// The buckets that etcd makes at its start and does not expect to be missing.
const EMPTY_BUCKETS_BEFORE: [&str; 5] = ["alarm", "auth", "authRoles", "authUsers", "cluster"];
const EMPTY_BUCKETS_BETWEEN: [&str; 2] = ["members", "members_removed"];
const LEASE_BUCKET: &str = "lease";

/// A lease as etcd writes it.
#[derive(Clone, PartialEq, Message)]
struct WrittenLease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

/// A backup that is ready to be written.
pub(crate) struct Backup {
    store: Frozen,
    /// The round of the leader's ballot.
    term: u64,
    layout: Layout,
}

impl Backup {
    /// Goes through the store once. `pulse` is written to meanwhile, though nothing of use: an error
    /// of it ends the work.
    pub(crate) fn prepare(
        store: Frozen,
        term: u64,
        pulse: impl Write,
    ) -> Result<Backup, WriteError> {
        let mut backup = Backup { store, term, layout: Layout::default() };
        backup.layout = backup.write_database(pulse)?;
        Ok(backup)
    }

    /// How long it is without its checksum.
    pub(crate) fn bytes(&self) -> u64 {
        self.layout.bytes()
    }

    /// Writes all but the checksum, and returns that.
    pub(crate) fn write(&self, out: impl Write) -> Result<[u8; CHECKSUM_BYTES], WriteError> {
        let mut out = Hashing { out, hash: Context::new(&SHA256) };
        let layout = self.write_database(&mut out)?;
        if layout != self.layout {
            let reason = "the store has changed under the backup, which is a mistake in it";
            return Err(io::Error::other(reason).into());
        }
        Ok(out.hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    fn write_database(&self, out: impl Write) -> Result<Layout, WriteError> {
        let mut file = FileWriter::begin(out, self.layout)?;
        for bucket in EMPTY_BUCKETS_BEFORE {
            file.bucket(bucket).finish()?;
        }
        self.write_keys(&mut file)?;
        let mut bucket = file.bucket(LEASE_BUCKET);
        for &(id, ttl) in self.store.leases() {
            bucket.put(&id.to_be_bytes(), &WrittenLease { id, ttl }.encode_to_vec())?;
        }
        bucket.finish()?;
        for bucket in EMPTY_BUCKETS_BETWEEN {
            file.bucket(bucket).finish()?;
        }
        self.write_meta(&mut file)?;
        Ok(file.finish()?)
    }

    fn write_keys<W: Write>(&self, file: &mut FileWriter<W>) -> Result<(), WriteError> {
        let head = self.store.head();
        let mut bucket = file.bucket(KEY_BUCKET);
        let mut last_revision = head.compacted;
        let mut value = Vec::new();
        let mut changes = self.store.changes()?;
        while let Some(change) = changes.next()? {
            last_revision = last_revision.max(change.position.revision);
            let mut key = encode_position(change.position).to_vec();
            if change.live.is_none() {
                key.push(TOMBSTONE);
            }
            value.clear();
            let encoded = key_value(change).encode(&mut value);
            encoded.expect("a list of bytes grows");
            bucket.put(&key, &value)?;
        }
        // A restore may have raised the revision above the last change. Like etcd's does, the file
        // says so by a row without a key.
        if last_revision < head.revision && head.revision > 1 {
            let position = Position { revision: head.revision, index: 0 };
            bucket.put(&encode_position(position), &[])?;
        }
        Ok(bucket.finish()?)
    }

    fn write_meta<W: Write>(&self, file: &mut FileWriter<W>) -> Result<(), WriteError> {
        let head = self.store.head();
        let mut bucket = file.bucket(META_BUCKET);
        bucket.put(CONSISTENT_INDEX.as_bytes(), &head.applied.0.to_be_bytes())?;
        if head.compacted >= 0 {
            let compacted = encode_position(Position { revision: head.compacted, index: 0 });
            bucket.put(FINISHED_COMPACTION.as_bytes(), &compacted)?;
            bucket.put(SCHEDULED_COMPACTION.as_bytes(), &compacted)?;
        }
        bucket.put(TERM.as_bytes(), &self.term.to_be_bytes())?;
        Ok(bucket.finish()?)
    }
}

/// A change as etcd writes it: of a deletion, only the key.
fn key_value(change: Change) -> KeyValue {
    let Change { position, key, live } = change;
    live.map_or(KeyValue { key: key.clone(), ..KeyValue::default() }, |live| KeyValue {
        key,
        create_revision: live.create_revision,
        mod_revision: position.revision,
        version: live.version,
        value: live.value,
        lease: live.lease,
    })
}

/// Hashes what passes.
struct Hashing<W> {
    out: W,
    hash: Context,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
