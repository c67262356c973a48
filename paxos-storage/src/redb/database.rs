//! The tables, and what is read from and written to them. Blocking; runs on the storage's threads.
//!
//! | table | key  | value                                 |
//! |-------|------|---------------------------------------|
//! | meta  | name | format (u32 LE); the rest in postcard |
//! | log   | slot | a [record](super::record)             |
//! | peers | node | store id                              |
//!
//! The [checkpoint](super::checkpoint) and its state have tables of their own.

use std::{collections::BTreeMap, ops::RangeInclusive};

use bytes::Bytes;
use paxos_core::{
    message::{Record, Watermark},
    port::{Recovered, StorageError, WriteBatch, cut_off},
    types::{Ballot, ClusterId, Identity, NodeId, Slot, StoreId},
};
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    backend::{Faults, Watched},
    checkpoint::{self, Problem},
    record,
    source::{Opened, Source},
};

/// Format of the tables. A higher one is refused.
const FORMAT: u32 = 3;
/// Pages that redb keeps in memory: the upper levels of the tables and the tail of the log. What
/// lies further back is read once, by a peer that lags, and the operating system caches it too.
const CACHE_BYTES: usize = 32 << 20;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
const PEERS: TableDefinition<u64, u64> = TableDefinition::new("peers");

const KEY_FORMAT: &str = "format";
const KEY_IDENTITY: &str = "identity";
const KEY_INCARNATION: &str = "incarnation";
const KEY_PROMISED: &str = "promised";
const KEY_CHOSEN: &str = "chosen";
const KEY_FLOOR: &str = "floor";

/// An open database and whose it is.
pub(super) struct OpenDatabase {
    database: Database,
    faults: Faults,
    path: String,
    cluster: ClusterId,
    may_be_new: bool,
}

impl OpenDatabase {
    /// Opens the database, checks every page of it and drops an unfinished last write.
    pub(super) fn open(source: &mut Source, cluster: ClusterId) -> Result<Self, StorageError> {
        let path = source.path();
        let Opened { backend, may_be_new } = source.open()?;
        let faults = Faults::default();
        let backend = Watched { inner: backend, faults: faults.clone() };
        let at = path.clone();
        let database = Builder::new()
            .set_cache_size(CACHE_BYTES)
            // Without it, redb trusts a file that was closed properly, and panics on damage.
            .set_check_integrity_on_open(true)
            .set_repair_callback(move |session| {
                if session.progress() > 0.0 && session.progress() < 0.5 {
                    tracing::warn!(path = at, "the last write was unfinished and is dropped");
                }
            })
            .create_with_backend(backend)
            .map_err(|error| explain(error.into(), &faults, &path))?;
        Ok(OpenDatabase { database, faults, path, cluster, may_be_new })
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Closes the database; an error can only be logged, as everything acknowledged is durable.
    pub(super) fn close(self) {
        let OpenDatabase { database, path, .. } = self;
        if let Err(error) = database.close() {
            tracing::warn!(path, %error, "closing the log: the next start checks it as after a crash");
        }
    }

    /// What [`Storage::recover`](paxos_core::port::Storage::recover) does.
    pub(super) fn recover(&self, node: NodeId) -> Result<Recovered, StorageError> {
        let transaction = self.begin_write()?;
        let incarnation = {
            let mut meta = self.redb(transaction.open_table(META))?;
            if self.redb(meta.get(KEY_FORMAT))?.is_none() {
                self.initialise(&transaction, &mut meta, node)?;
            }
            self.check_format(&meta)?;
            self.check_identity(&meta, node)?;
            let incarnation = self.get::<u64>(&meta, KEY_INCARNATION)?.saturating_add(1);
            self.put(&mut meta, KEY_INCARNATION, &incarnation)?;
            incarnation
        };
        self.redb(transaction.commit())?;
        self.start(incarnation)
    }

    fn initialise(
        &self,
        transaction: &WriteTransaction,
        meta: &mut Table<&str, &[u8]>,
        node: NodeId,
    ) -> Result<(), StorageError> {
        if !self.may_be_new {
            return Err(self.damaged("it holds no state of a node".to_owned()));
        }
        self.redb(transaction.open_table(LOG))?;
        self.of_checkpoint(checkpoint::initialise(transaction))?;
        self.redb(transaction.open_table(PEERS))?;
        let store = StoreId(fastrand::u64(1..));
        let identity = Identity { cluster: self.cluster, node, store };
        self.redb(meta.insert(KEY_FORMAT, &FORMAT.to_le_bytes()[..]))?;
        self.put(meta, KEY_IDENTITY, &identity)?;
        self.put(meta, KEY_INCARNATION, &0u64)?;
        self.put(meta, KEY_PROMISED, &Ballot::ZERO)?;
        self.put(meta, KEY_CHOSEN, &Watermark::default())?;
        self.put(meta, KEY_FLOOR, &Slot::ZERO)
    }

    fn check_format(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<(), StorageError> {
        let format = self.redb(meta.get(KEY_FORMAT))?;
        let bytes = format.as_ref().and_then(|format| format.value().try_into().ok());
        match bytes.map(u32::from_le_bytes) {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => {
                Err(StorageError::NewerFormat { found, known: FORMAT })
            }
            Some(found) if found > 0 => Err(StorageError::OlderFormat { found, known: FORMAT }),
            _ => Err(self.damaged("its format is unreadable".to_owned())),
        }
    }

    fn check_identity(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        node: NodeId,
    ) -> Result<(), StorageError> {
        let found: Identity = self.get(meta, KEY_IDENTITY)?;
        if (found.cluster, found.node) == (self.cluster, node) {
            return Ok(());
        }
        Err(StorageError::WrongIdentity {
            cluster: self.cluster,
            node,
            found_cluster: found.cluster,
            found_node: found.node,
        })
    }

    fn start(&self, incarnation: u64) -> Result<Recovered, StorageError> {
        let transaction = self.redb(self.database.begin_read())?;
        let meta = self.redb(transaction.open_table(META))?;
        let chosen: Watermark = self.get(&meta, KEY_CHOSEN)?;
        let above = Slot(chosen.slot.0.saturating_add(1))..=Slot(u64::MAX);
        let records = self.read_in(&transaction, above, usize::MAX)?;
        let floor: Slot = self.get(&meta, KEY_FLOOR)?;
        self.check_chosen(&transaction, floor, chosen.slot, records.len() as u64)?;
        let peers = self.redb(transaction.open_table(PEERS))?;
        let mut known = BTreeMap::new();
        for entry in self.redb(peers.iter())? {
            let (peer, store) = self.redb(entry)?;
            known.insert(NodeId(peer.value()), StoreId(store.value()));
        }
        let (checkpoint, unfinished) = self.of_checkpoint(checkpoint::read(&transaction))?;
        Ok(Recovered {
            identity: self.get(&meta, KEY_IDENTITY)?,
            incarnation,
            promised: self.get(&meta, KEY_PROMISED)?,
            chosen,
            floor,
            records,
            checkpoint,
            unfinished,
            peers: known,
        })
    }

    /// Checks that every chosen slot above the floor has a record, by counting.
    fn check_chosen(
        &self,
        transaction: &ReadTransaction,
        floor: Slot,
        chosen: Slot,
        above: u64,
    ) -> Result<(), StorageError> {
        let log = self.redb(transaction.open_table(LOG))?;
        if self.redb(log.len())?.checked_sub(above) == chosen.0.checked_sub(floor.0) {
            return Ok(());
        }
        let mut expected = floor.next();
        for entry in self.redb(log.range(..=chosen.0))? {
            let (slot, _) = self.redb(entry)?;
            if slot.value() != expected.0 {
                break;
            }
            expected = expected.next();
        }
        Err(self.damaged(format!(
            "the log does not have exactly one record for every chosen slot: {expected} of {chosen} \
             is the first that is missing"
        )))
    }

    /// Writes a batch as one transaction, durably.
    pub(super) fn write(&self, batch: &WriteBatch) -> Result<(), StorageError> {
        let transaction = self.begin_write()?;
        if batch.promised.is_some() || batch.chosen.is_some() || batch.floor.is_some() {
            let mut meta = self.redb(transaction.open_table(META))?;
            if let Some(promised) = &batch.promised {
                self.put(&mut meta, KEY_PROMISED, promised)?;
            }
            if let Some(chosen) = &batch.chosen {
                self.put(&mut meta, KEY_CHOSEN, chosen)?;
            }
            if let Some(floor) = &batch.floor {
                self.put(&mut meta, KEY_FLOOR, floor)?;
            }
        }
        if !batch.records.is_empty() {
            let mut log = self.redb(transaction.open_table(LOG))?;
            for Record { slot, ballot, value } in &batch.records {
                let value = value.encoded();
                let mut place =
                    self.redb(log.insert_reserve(slot.0, record::encoded_len(&value)))?;
                record::encode(self.cluster, *slot, *ballot, &value, place.as_mut());
            }
        }
        self.of_checkpoint(checkpoint::write(self.cluster, &transaction, batch))?;
        if let Some(floor) = batch.floor {
            let mut log = self.redb(transaction.open_table(LOG))?;
            self.redb(log.retain_in(..=floor.0, |_, _| false))?;
        }
        if !batch.peers.is_empty() {
            let mut peers = self.redb(transaction.open_table(PEERS))?;
            for (peer, store) in &batch.peers {
                self.redb(peers.insert(peer.0, store.0))?;
            }
        }
        self.redb(transaction.commit())
    }

    /// Whether everything in `batch` is already so.
    pub(super) fn contains(&self, batch: &WriteBatch) -> Result<bool, StorageError> {
        let transaction = self.redb(self.database.begin_read())?;
        let meta = self.redb(transaction.open_table(META))?;
        let log = self.redb(transaction.open_table(LOG))?;
        let peers = self.redb(transaction.open_table(PEERS))?;
        if let Some(promised) = batch.promised
            && self.get::<Ballot>(&meta, KEY_PROMISED)? != promised
        {
            return Ok(false);
        }
        if let Some(chosen) = batch.chosen
            && self.get::<Watermark>(&meta, KEY_CHOSEN)? != chosen
        {
            return Ok(false);
        }
        // Of several records of a slot, the last is the one that counts.
        let last: BTreeMap<_, _> =
            batch.records.iter().map(|record| (record.slot, record)).collect();
        let floor = batch.floor.unwrap_or_default();
        for (slot, expected) in last.into_iter().filter(|(slot, _)| *slot > floor) {
            let found = self.redb(log.get(slot.0))?;
            let found = found.map(|found| record::decode(self.cluster, slot, found.value()));
            if found.and_then(Result::ok).as_ref() != Some(expected) {
                return Ok(false);
            }
        }
        if let Some(floor) = batch.floor
            && self.get::<Slot>(&meta, KEY_FLOOR)? != floor
        {
            return Ok(false);
        }
        for (peer, store) in &batch.peers {
            if self.redb(peers.get(peer.0))?.is_none_or(|found| found.value() != store.0) {
                return Ok(false);
            }
        }
        self.of_checkpoint(checkpoint::contains(self.cluster, &transaction, batch))
    }

    /// What [`Storage::read`](paxos_core::port::Storage::read) does.
    pub(super) fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        self.read_in(&self.redb(self.database.begin_read())?, slots, bytes_max)
    }

    fn read_in(
        &self,
        transaction: &ReadTransaction,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        let log = self.redb(transaction.open_table(LOG))?;
        let found = self.redb(log.range(slots.start().0..=slots.end().0))?;
        let records = found.map(|entry| {
            let (slot, found) = self.redb(entry)?;
            record::decode(self.cluster, Slot(slot.value()), found.value())
                .map_err(|what| self.damaged(what))
        });
        cut_off(records, bytes_max)
    }

    /// What [`Storage::read_state`](paxos_core::port::Storage::read_state) does.
    pub(super) fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        let transaction = self.redb(self.database.begin_read())?;
        let read = checkpoint::read_state(self.cluster, &transaction, slot, offset, bytes_max);
        self.of_checkpoint(read)
    }

    fn begin_write(&self) -> Result<WriteTransaction, StorageError> {
        let mut transaction = self.redb(self.database.begin_write())?;
        self.redb(transaction.set_durability(Durability::Immediate))?;
        Ok(transaction)
    }

    fn get<T: DeserializeOwned>(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        key: &'static str,
    ) -> Result<T, StorageError> {
        let found = self.redb(meta.get(key))?;
        found
            .and_then(|found| postcard::from_bytes(found.value()).ok())
            .ok_or_else(|| self.damaged(format!("the node's {key} is missing or unreadable")))
    }

    fn put<T: Serialize>(
        &self,
        meta: &mut Table<&str, &[u8]>,
        key: &'static str,
        value: &T,
    ) -> Result<(), StorageError> {
        let bytes = postcard::to_stdvec(value).expect("plain data encodes");
        self.redb(meta.insert(key, &bytes[..]))?;
        Ok(())
    }

    fn redb<T, E: Into<redb::Error>>(&self, result: Result<T, E>) -> Result<T, StorageError> {
        result.map_err(|error| explain(error.into(), &self.faults, &self.path))
    }

    fn of_checkpoint<T>(&self, result: Result<T, Problem>) -> Result<T, StorageError> {
        result.map_err(|problem| match problem {
            Problem::Redb(error) => explain(error, &self.faults, &self.path),
            Problem::Damaged(what) => self.damaged(what),
        })
    }

    fn damaged(&self, what: String) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), what }
    }
}

/// redb's error in terms of the port. What failed underneath says more than redb does.
fn explain(error: redb::Error, faults: &Faults, path: &str) -> StorageError {
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
