//! The tables, and what is read from and written to them. Blocking; runs on the storage's threads.
//!
//! | table   | key         | value                                                    |
//! |---------|-------------|----------------------------------------------------------|
//! | meta    | name        | format (u32 LE); identity and incarnation (postcard)     |
//! | groups  | group       | promise, watermark and floor (postcard)                  |
//! | records | group, slot | a [record](super::record)                                |
//! | peers   | node        | store id                                                 |
//!
//! The [checkpoint](super::checkpoint), its state and the [memberships](super::memberships) have tables
//! of their own. What belongs to the directory has no group: a node is the same in all of them.

use std::{collections::BTreeMap, ops::RangeInclusive};

use bytes::Bytes;
use paxos_core::{
    limits::INCARNATION_STEP_MAX,
    message::Record,
    port::{Recovered, StorageError, WriteBatch, cut_off},
    types::{ClusterId, Identity, NodeId, Slot, StoreId},
};
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, Table, TableDefinition, WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    backend::{Faults, Watched, explain},
    checkpoint::{self, Problem},
    group::{GroupState, LogId},
    memberships, migration, record,
    source::{Opened, Source},
};

/// Format of the tables. A higher one is refused.
const FORMAT: u32 = 5;
/// The first format that is understood still: it is brought to the present one at the start.
const FORMAT_MIN: u32 = migration::FORMAT_MIN;
/// Pages that redb keeps in memory: the upper levels of the tables and the tail of the log. What
/// lies further back is read once, by a peer that lags, and the operating system caches it too.
const CACHE_BYTES: usize = 32 << 20;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const GROUPS: TableDefinition<u32, &[u8]> = TableDefinition::new("groups");
pub(super) const RECORDS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("records");
const PEERS: TableDefinition<u64, u64> = TableDefinition::new("peers");

const KEY_FORMAT: &str = "format";
const KEY_IDENTITY: &str = "identity";
const KEY_INCARNATION: &str = "incarnation";

/// An open database and whose it is.
pub(super) struct OpenDatabase {
    database: Database,
    faults: Faults,
    path: String,
    log: LogId,
    may_be_new: bool,
}

impl OpenDatabase {
    /// Opens the database, checks every page of it and drops an unfinished last write.
    pub(super) fn open(source: &mut Source, cluster: ClusterId) -> Result<Self, StorageError> {
        let path = source.path();
        let Opened { backend, may_be_new, doubtful, unsynced } = source.open()?;
        let faults = Faults::default();
        let backend = Watched::new(backend, faults.clone(), doubtful, unsynced);
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
        Ok(OpenDatabase { database, faults, path, log: LogId::of(cluster), may_be_new })
    }

    pub(super) fn cluster(&self) -> ClusterId {
        self.log.cluster
    }

    /// Where the failures are, of what is still done until it is dropped too.
    pub(super) fn faults(&self) -> Faults {
        self.faults.clone()
    }

    /// Closes the database, and says whether all of it is durable. An error can only be logged, as
    /// everything acknowledged is.
    pub(super) fn close(self) -> bool {
        let OpenDatabase { database, faults, path, .. } = self;
        let closed = database.close();
        if let Err(error) = &closed {
            tracing::warn!(path, %error, "closing the log: the next start is as after a crash");
        }
        closed.is_ok() && faults.first(&path).is_none()
    }

    /// What [`Storage::recover`](paxos_core::port::Storage::recover) does.
    pub(super) fn recover(&self, node: NodeId) -> Result<Recovered, StorageError> {
        let transaction = self.begin_write()?;
        let lives = {
            let mut meta = self.redb(transaction.open_table(META))?;
            if self.redb(meta.get(KEY_FORMAT))?.is_none() {
                self.initialise(&transaction, &mut meta, node)?;
            }
            let format = self.format(&meta)?;
            self.check_identity(&meta, node)?;
            if format < FORMAT {
                self.of_tables(migration::run(format, self.log, &transaction, &mut meta))?;
                self.redb(meta.insert(KEY_FORMAT, &FORMAT.to_le_bytes()[..]))?;
                tracing::info!(path = self.path, format, "the log is of format {FORMAT} now");
            }
            let last = self.get::<u64>(&meta, KEY_INCARNATION)?;
            let step = if last == 0 { 1 } else { fastrand::u64(1..=INCARNATION_STEP_MAX) };
            let incarnation = last.saturating_add(step);
            self.put(&mut meta, KEY_INCARNATION, &incarnation)?;
            (last, incarnation)
        };
        self.redb(transaction.commit())?;
        self.start(lives)
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
        self.redb(transaction.open_table(RECORDS))?;
        self.of_tables(checkpoint::initialise(transaction))?;
        self.of_tables(memberships::write(self.log, transaction, &[]))?;
        self.redb(transaction.open_table(PEERS))?;
        let store = StoreId(fastrand::u64(1..));
        let identity = Identity { cluster: self.log.cluster, node, store };
        self.redb(meta.insert(KEY_FORMAT, &FORMAT.to_le_bytes()[..]))?;
        self.put(meta, KEY_IDENTITY, &identity)?;
        self.put(meta, KEY_INCARNATION, &0u64)?;
        let mut groups = self.redb(transaction.open_table(GROUPS))?;
        self.put_group(&mut groups, &GroupState::default())
    }

    /// The format of the tables, which is one that is understood.
    fn format(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
    ) -> Result<u32, StorageError> {
        let format = self.redb(meta.get(KEY_FORMAT))?;
        let bytes = format.as_ref().and_then(|format| format.value().try_into().ok());
        match bytes.map(u32::from_le_bytes) {
            Some(found @ FORMAT_MIN..=FORMAT) => Ok(found),
            Some(found) if found > FORMAT => {
                Err(StorageError::NewerFormat { found, known: FORMAT })
            }
            Some(found) if found > 0 => Err(StorageError::OlderFormat { found, known: FORMAT_MIN }),
            _ => Err(self.damaged("its format is unreadable".to_owned())),
        }
    }

    fn check_identity(
        &self,
        meta: &impl ReadableTable<&'static str, &'static [u8]>,
        node: NodeId,
    ) -> Result<(), StorageError> {
        let found: Identity = self.get(meta, KEY_IDENTITY)?;
        if (found.cluster, found.node) == (self.log.cluster, node) {
            return Ok(());
        }
        Err(StorageError::WrongIdentity {
            cluster: self.log.cluster,
            node,
            found_cluster: found.cluster,
            found_node: found.node,
        })
    }

    fn start(
        &self,
        (last_incarnation, incarnation): (u64, u64),
    ) -> Result<Recovered, StorageError> {
        let transaction = self.redb(self.database.begin_read())?;
        let meta = self.redb(transaction.open_table(META))?;
        let group = self.group(&self.redb(transaction.open_table(GROUPS))?)?;
        let GroupState { promised, chosen, floor } = group;
        let above = Slot(chosen.slot.0.saturating_add(1))..=Slot(u64::MAX);
        let records = self.read_in(&transaction, above, usize::MAX)?;
        self.check_chosen(&transaction, floor, chosen.slot, records.len() as u64)?;
        let peers = self.redb(transaction.open_table(PEERS))?;
        let mut known = BTreeMap::new();
        for entry in self.redb(peers.iter())? {
            let (peer, store) = self.redb(entry)?;
            known.insert(NodeId(peer.value()), StoreId(store.value()));
        }
        let (checkpoint, unfinished) = self.of_tables(checkpoint::read(self.log, &transaction))?;
        Ok(Recovered {
            identity: self.get(&meta, KEY_IDENTITY)?,
            incarnation,
            last_incarnation,
            promised,
            chosen,
            floor,
            records,
            checkpoint,
            unfinished,
            peers: known,
            memberships: self.of_tables(memberships::read(self.log, &transaction))?,
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
        let records = self.redb(transaction.open_table(RECORDS))?;
        // All there are, which are this group's.
        if self.redb(records.len())?.checked_sub(above) == chosen.0.checked_sub(floor.0) {
            return Ok(());
        }
        let mut expected = floor.next();
        for entry in self.redb(records.range(self.places(Slot::ZERO..=chosen)))? {
            let (place, _) = self.redb(entry)?;
            if place.value().1 != expected.0 {
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
            let mut groups = self.redb(transaction.open_table(GROUPS))?;
            let group = self.group(&groups)?.after(batch);
            self.put_group(&mut groups, &group)?;
        }
        if !batch.records.is_empty() {
            let mut records = self.redb(transaction.open_table(RECORDS))?;
            for Record { slot, ballot, value } in &batch.records {
                let value = value.encoded();
                let place = (self.log.group, slot.0);
                let length = record::encoded_len(&value);
                let mut stored = self.redb(records.insert_reserve(place, length))?;
                record::encode(self.log, *slot, *ballot, &value, stored.as_mut());
            }
        }
        self.of_tables(checkpoint::write(self.log, &transaction, batch))?;
        if let Some(floor) = batch.floor {
            let mut records = self.redb(transaction.open_table(RECORDS))?;
            self.redb(records.retain_in(self.places(Slot::ZERO..=floor), |_, _| false))?;
        }
        if !batch.peers.is_empty() {
            let mut peers = self.redb(transaction.open_table(PEERS))?;
            for (peer, store) in &batch.peers {
                self.redb(peers.insert(peer.0, store.0))?;
            }
        }
        if let Some(memberships) = &batch.memberships {
            self.of_tables(memberships::write(self.log, &transaction, memberships))?;
        }
        self.redb(transaction.commit())
    }

    /// Whether everything in `batch` is already so.
    pub(super) fn contains(&self, batch: &WriteBatch) -> Result<bool, StorageError> {
        let transaction = self.redb(self.database.begin_read())?;
        let records = self.redb(transaction.open_table(RECORDS))?;
        let peers = self.redb(transaction.open_table(PEERS))?;
        let group = self.group(&self.redb(transaction.open_table(GROUPS))?)?;
        if group.after(batch) != group {
            return Ok(false);
        }
        // Of several records of a slot, the last is the one that counts.
        let last: BTreeMap<_, _> =
            batch.records.iter().map(|record| (record.slot, record)).collect();
        let floor = batch.floor.unwrap_or_default();
        for (slot, expected) in last.into_iter().filter(|(slot, _)| *slot > floor) {
            let found = self.redb(records.get((self.log.group, slot.0)))?;
            let found = found.map(|found| record::decode(self.log, slot, found.value()));
            if found.and_then(Result::ok).as_ref() != Some(expected) {
                return Ok(false);
            }
        }
        for (peer, store) in &batch.peers {
            if self.redb(peers.get(peer.0))?.is_none_or(|found| found.value() != store.0) {
                return Ok(false);
            }
        }
        if let Some(expected) = &batch.memberships
            && self.of_tables(memberships::read(self.log, &transaction))? != *expected
        {
            return Ok(false);
        }
        self.of_tables(checkpoint::contains(self.log, &transaction, batch))
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
        let records = self.redb(transaction.open_table(RECORDS))?;
        let found = self.redb(records.range(self.places(slots)))?;
        let records = found.map(|entry| {
            let (place, found) = self.redb(entry)?;
            record::decode(self.log, Slot(place.value().1), found.value())
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
        let read = checkpoint::read_state(self.log, &transaction, slot, offset, bytes_max);
        self.of_tables(read)
    }

    fn begin_write(&self) -> Result<WriteTransaction, StorageError> {
        let mut transaction = self.redb(self.database.begin_write())?;
        self.redb(transaction.set_durability(Durability::Immediate))?;
        Ok(transaction)
    }

    /// Where the records of these slots lie.
    fn places(&self, slots: RangeInclusive<Slot>) -> RangeInclusive<(u32, u64)> {
        (self.log.group, slots.start().0)..=(self.log.group, slots.end().0)
    }

    fn group(
        &self,
        groups: &impl ReadableTable<u32, &'static [u8]>,
    ) -> Result<GroupState, StorageError> {
        let found = self.redb(groups.get(self.log.group))?;
        found.and_then(|found| postcard::from_bytes(found.value()).ok()).ok_or_else(|| {
            self.damaged("the node's promise and watermark are missing or unreadable".to_owned())
        })
    }

    fn put_group(
        &self,
        groups: &mut Table<u32, &[u8]>,
        group: &GroupState,
    ) -> Result<(), StorageError> {
        self.redb(groups.insert(self.log.group, &encode(group)[..]))?;
        Ok(())
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
        self.redb(meta.insert(key, &encode(value)[..]))?;
        Ok(())
    }

    fn redb<T, E: Into<redb::Error>>(&self, result: Result<T, E>) -> Result<T, StorageError> {
        result.map_err(|error| explain(error.into(), &self.faults, &self.path))
    }

    fn of_tables<T>(&self, result: Result<T, Problem>) -> Result<T, StorageError> {
        result.map_err(|problem| match problem {
            Problem::Redb(error) => explain(error, &self.faults, &self.path),
            Problem::Damaged(what) => self.damaged(what),
        })
    }

    fn damaged(&self, what: String) -> StorageError {
        StorageError::Damaged { path: self.path.clone(), what }
    }
}

pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data encodes")
}
