//! A disk in memory below redb that loses power, fills up and fails on request.
//!
//! What has not been synced when the power fails is there or not, sector by sector, as a seeded
//! random choice decides.
#![allow(dead_code, reason = "every test uses a part of it")]

use std::{
    io,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use paxos_core::{
    port::{Storage, StorageError},
    types::Slot,
};
use paxos_storage::{
    RedbStorage,
    conformance::{Disk, Fault},
};
use redb::{BackendError, Database, StorageBackend, TableDefinition};

const SECTOR_BYTES: usize = 512;
/// The records of the storage under test, by group and slot.
pub(crate) const RECORDS: TableDefinition<(u32, u64), &[u8]> = TableDefinition::new("records");

/// The disk; clones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What has been synced.
    durable: Vec<u8>,
    /// What a read sees.
    current: Vec<u8>,
    unsynced: Vec<Operation>,
    /// Counts the power cuts; a handle from before one is dead.
    life: u64,
    handles: u64,
    lock: Option<u64>,
    full: bool,
    fail_sync_after: Option<u64>,
    cut_after: Option<u64>,
    random: fastrand::Rng,
}

#[derive(Clone, Debug)]
enum Operation {
    Write { offset: usize, data: Vec<u8> },
    SetLen(usize),
}

/// An opening of the disk.
#[derive(Debug)]
pub(crate) struct Handle {
    disk: SimulatedDisk,
    life: u64,
    number: u64,
}

impl SimulatedDisk {
    pub(crate) fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk(Arc::new(Mutex::new(State {
            durable: Vec::new(),
            current: Vec::new(),
            unsynced: Vec::new(),
            life: 0,
            handles: 0,
            lock: None,
            full: false,
            fail_sync_after: None,
            cut_after: None,
            random: fastrand::Rng::with_seed(seed),
        })))
    }

    pub(crate) fn handle(&self) -> Handle {
        let mut state = self.state();
        state.handles += 1;
        Handle { disk: self.clone(), life: state.life, number: state.handles }
    }

    /// A disk that holds `contents`.
    pub(crate) fn holding(contents: &[u8]) -> SimulatedDisk {
        let disk = SimulatedDisk::new(0);
        disk.state().current = contents.to_vec();
        disk.state().durable = contents.to_vec();
        disk
    }

    /// What is on the disk.
    pub(crate) fn contents(&self) -> Vec<u8> {
        self.state().durable.clone()
    }

    /// A storage on it.
    pub(crate) fn storage(&self) -> RedbStorage {
        let disk = self.clone();
        let storage = RedbStorage::with_backend("the simulated disk", move || Ok(disk.handle()));
        storage.expect("threads can be started")
    }

    /// Opens the database itself, past the storage.
    pub(crate) fn database(&self) -> Database {
        redb::Builder::new().create_with_backend(self.handle()).expect("a sound database")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while locked")
    }

    fn edit_record(&self, slot: Slot, edit: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        let database = self.database();
        let transaction = database.begin_write().expect("a transaction");
        {
            let mut records = transaction.open_table(RECORDS).expect("a log");
            let place = (0, slot.0);
            let old = records.remove(place).expect("a look-up").expect("a record").value().to_vec();
            if let Some(new) = edit(old) {
                records.insert(place, &new[..]).expect("an insertion");
            }
        }
        transaction.commit().expect("a commit");
    }
}

impl State {
    fn cut_power(&mut self) {
        self.spare_some();
        self.current = self.durable.clone();
        self.life += 1;
        self.lock = None;
        self.full = false;
        self.fail_sync_after = None;
        self.cut_after = None;
    }

    /// Brings some of what is not synced to the disk, and forgets that the rest is not there.
    fn spare_some(&mut self) {
        // Often nearly everything has reached the disk, or nearly nothing.
        let odds = [0.0, 0.05, 0.5, 0.95, 1.0][self.random.usize(..5)];
        for operation in std::mem::take(&mut self.unsynced) {
            match operation {
                Operation::SetLen(len) if self.random.f64() < odds => self.durable.resize(len, 0),
                Operation::SetLen(_) => {}
                Operation::Write { offset, data } => {
                    for (index, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                        if self.random.f64() < odds {
                            put(&mut self.durable, offset + index * SECTOR_BYTES, sector);
                        }
                    }
                }
            }
        }
    }

    fn apply(&mut self, operation: Operation) {
        operation.apply(&mut self.current);
        self.unsynced.push(operation);
    }
}

impl Operation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Operation::Write { offset, data } => put(bytes, *offset, data),
            Operation::SetLen(len) => bytes.resize(*len, 0),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

impl Handle {
    /// The state, while the power that this handle was opened with is on.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life == self.life { Ok(state) } else { Err(io::Error::other("no power")) }
    }

    /// The same for an operation that changes something, before which the power may fail.
    fn state_to_change(
        &self,
        in_flight: impl FnOnce(&mut State),
    ) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state()?;
        match &mut state.cut_after {
            Some(0) => {
                in_flight(&mut state);
                state.cut_power();
                return Err(io::Error::other("the power fails"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(state)
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state()?;
        let start = usize::try_from(offset).expect("a small disk");
        let bytes = state.current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).expect("a small disk");
        let operation = Operation::SetLen(len);
        let in_flight = operation.clone();
        self.state_to_change(|state| state.unsynced.push(in_flight))?.apply(operation);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state_to_change(|_| {})?;
        match &mut state.fail_sync_after {
            Some(0) => {
                state.fail_sync_after = None;
                state.spare_some();
                return Err(io::Error::other("the sync fails"));
            }
            Some(left) => *left -= 1,
            None => {}
        }
        for operation in std::mem::take(&mut state.unsynced) {
            operation.apply(&mut state.durable);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).expect("a small disk");
        let operation = Operation::Write { offset, data: data.to_vec() };
        let in_flight = operation.clone();
        let mut state = self.state_to_change(|state| state.unsynced.push(in_flight))?;
        // The first page, which is overwritten in place, has its room for good.
        if state.full && offset >= 4096 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.apply(operation);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.lock == Some(self.number) {
            state.lock = None;
        }
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        let mut state = self.state()?;
        Ok(*state.lock.get_or_insert(self.number) == self.number)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

#[async_trait]
impl Disk for SimulatedDisk {
    async fn open(&self) -> Result<Arc<dyn Storage>, StorageError> {
        Ok(Arc::new(self.storage()))
    }

    fn inject(&self, fault: Fault) -> bool {
        match fault {
            Fault::PowerCut => self.state().cut_power(),
            Fault::PowerCutDuringWrite { operations } => self.state().cut_after = Some(operations),
            Fault::Full(full) => self.state().full = full,
            Fault::FailedSync { syncs } => self.state().fail_sync_after = Some(syncs),
            Fault::Damage(slot) => self.edit_record(slot, |mut record| {
                let last = record.last_mut().expect("not empty");
                *last ^= 1;
                Some(record)
            }),
            Fault::Loss(slot) => self.edit_record(slot, |_| None),
        }
        true
    }
}
