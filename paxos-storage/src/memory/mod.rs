//! A storage in memory, with the faults of a disk on request.
//!
//! A [`MemoryStorage`] is a handle on a disk that all its clones share; the first that recovers
//! locks it until it is closed or dropped. A write is durable at once, without a thread or a task
//! in between, unless the test holds writes back: then they are pending, and a crash loses them.

mod records;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{
    message::{Record, Watermark},
    port::{
        Checkpoint, Recovered, States, Storage, StorageError, Write, WriteBatch, WriteError,
        cut_off,
    },
    types::{Ballot, ClusterId, Identity, NodeId, Slot, StoreId},
};
use tokio::sync::{Notify, oneshot};

use records::Records;

/// What errors call the disk.
const PATH: &str = "the memory storage";
/// A handle that has not recovered yet.
const NOT_OPEN: u64 = 0;
/// A handle that has been closed.
const CLOSED: u64 = u64::MAX;

/// A storage in memory. Clones are handles on the same disk, as if opened on the same directory.
///
/// A node that restarts on its data gets a new clone:
///
/// ```
/// # use paxos_core::{port::{Storage, WriteBatch}, types::{Ballot, ClusterId, NodeId}};
/// # use paxos_storage::MemoryStorage;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), paxos_core::port::StorageError> {
/// let disk = MemoryStorage::new();
/// let before = disk.clone();
/// before.recover(ClusterId(1), NodeId(1)).await?;
/// let promised = Some(Ballot { round: 1, node: NodeId(1) });
/// before.write(WriteBatch { promised, ..WriteBatch::default() }).await?;
/// disk.crash();
///
/// let after = disk.clone().recover(ClusterId(1), NodeId(1)).await?;
/// assert_eq!(Some(after.promised), promised);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryStorage {
    disk: Arc<Disk>,
    /// Which opening of the disk this handle is.
    session: AtomicU64,
}

#[derive(Debug, Default)]
struct Disk {
    state: Mutex<State>,
    /// Rung when a write is held back.
    held: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// What has survived so far; `None` for an empty disk.
    image: Option<Image>,
    /// The handle that has the lock.
    owner: Option<u64>,
    /// Handles opened so far.
    opened: u64,
    /// Writes not yet durable, in order, while writes are held back.
    held: Option<VecDeque<HeldWrite>>,
    full: bool,
    fail_next: bool,
    failed: bool,
    cut_at: Option<u64>,
    damaged: BTreeSet<Slot>,
}

#[derive(Debug)]
struct HeldWrite {
    batch: WriteBatch,
    done: oneshot::Sender<()>,
}

/// The durable state.
#[derive(Debug)]
struct Image {
    identity: Identity,
    incarnation: u64,
    promised: Ballot,
    chosen: Watermark,
    floor: Slot,
    checkpoint: Checkpoint,
    states: States,
    peers: BTreeMap<NodeId, StoreId>,
    memberships: Bytes,
    records: Records,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        MemoryStorage::new()
    }
}

impl Clone for MemoryStorage {
    /// Another handle on the same disk, not open yet.
    fn clone(&self) -> Self {
        MemoryStorage { disk: Arc::clone(&self.disk), session: AtomicU64::new(NOT_OPEN) }
    }
}

impl Drop for MemoryStorage {
    fn drop(&mut self) {
        self.release_lock();
    }
}

impl MemoryStorage {
    /// A handle on an empty disk of its own.
    #[must_use]
    pub fn new() -> MemoryStorage {
        MemoryStorage { disk: Arc::default(), session: AtomicU64::new(NOT_OPEN) }
    }

    /// Cuts the power: writes that are held back are lost, and whoever has the disk open can do
    /// nothing with it any more. The next handle finds what was durable. Held writes, a full disk
    /// and other faults end with it.
    pub fn crash(&self) {
        self.crash_keeping(0);
    }

    /// Like [`crash`](Self::crash), but the first `count` of the writes held back have reached the
    /// disk, although they were never acknowledged.
    pub fn crash_keeping(&self, count: usize) {
        let mut state = self.disk.lock();
        for held in state.held.take().into_iter().flatten().take(count) {
            state.apply(held.batch);
        }
        state.power_off();
    }

    /// From now on writes stay pending until [`release_writes`](Self::release_writes).
    pub fn hold_writes(&self) {
        self.disk.lock().held.get_or_insert_default();
    }

    /// Makes the writes held back durable, in order, and holds back no more.
    pub fn release_writes(&self) {
        let mut state = self.disk.lock();
        for held in state.held.take().into_iter().flatten() {
            state.apply(held.batch);
            // Whoever waited for it may have been dropped; the write counts all the same.
            let _ = held.done.send(());
        }
    }

    /// Waits until at least `count` writes are held back.
    pub async fn wait_for_held(&self, count: usize) {
        loop {
            let rung = self.disk.held.notified();
            tokio::pin!(rung);
            // Listen before looking, so that no write slips in between.
            rung.as_mut().enable();
            if self.disk.lock().held.as_ref().map_or(0, VecDeque::len) >= count {
                return;
            }
            rung.await;
        }
    }

    /// While `full`, writes fail with [`WriteError::Full`].
    pub fn set_full(&self, full: bool) {
        self.disk.lock().full = full;
    }

    /// The next write fails like a failed sync: for good, until the disk is opened again.
    pub fn fail_next_write(&self) {
        self.disk.lock().fail_next = true;
    }

    /// Cuts the power during the next write: at step 0 before it is durable, at step 1 after, but
    /// before it is acknowledged. From step 2 on the write is over sooner, and nothing happens.
    pub fn cut_power_during_next_write(&self, step: u64) {
        self.disk.lock().cut_at = Some(step);
    }

    /// Makes the record of `slot` unreadable until it is written again.
    pub fn damage(&self, slot: Slot) {
        self.disk.lock().damaged.insert(slot);
    }

    /// Makes a batch durable, or holds it back.
    fn submit(&self, batch: WriteBatch) -> Result<Write, WriteError> {
        let mut state = self.open_state("write")?;
        if state.failed {
            return Err(StorageError::Failed.into());
        }
        if state.full {
            return Err(WriteError::Full { path: PATH.to_owned(), batch: Box::new(batch) });
        }
        if std::mem::take(&mut state.fail_next) {
            state.failed = true;
            return Err(refused("sync", "a fault was asked for").into());
        }
        match state.cut_at.take() {
            Some(0) => state.power_off(),
            Some(1) => {
                state.apply(batch);
                state.power_off();
            }
            _ => {
                let Some(held) = &mut state.held else {
                    state.apply(batch);
                    return Ok(Write::Done(Ok(())));
                };
                let (done, waiting) = oneshot::channel();
                held.push_back(HeldWrite { batch, done });
                self.disk.held.notify_waiters();
                return Ok(Write::under_way(async {
                    waiting.await.map_err(|_| crashed("write").into())
                }));
            }
        }
        Err(crashed("write").into())
    }

    /// Makes the record of `slot` vanish.
    pub fn lose(&self, slot: Slot) {
        if let Some(image) = &mut self.disk.lock().image {
            image.records.remove(slot);
        }
    }

    /// How many records of the log it holds. What has been compacted is not among them.
    #[must_use]
    pub fn record_count(&self) -> usize {
        let records = |image: &Image| image.records.range(Slot::ZERO..=Slot(u64::MAX)).count();
        self.disk.lock().image.as_ref().map_or(0, records)
    }

    /// Lets the next handle in. What was held back for this one is lost: nobody waits for it.
    fn release_lock(&self) {
        let session = self.session.swap(CLOSED, Ordering::AcqRel);
        let mut state = self.disk.lock();
        if state.owner == Some(session) {
            state.owner = None;
            state.failed = false;
            if let Some(held) = &mut state.held {
                held.clear();
            }
        }
    }

    /// The state, if this handle has the disk open.
    fn open_state(&self, operation: &'static str) -> Result<MutexGuard<'_, State>, StorageError> {
        let state = self.disk.lock();
        match self.session.load(Ordering::Acquire) {
            NOT_OPEN => Err(refused(operation, "recover() comes first")),
            CLOSED => Err(refused(operation, "it has been closed: open another handle by clone()")),
            session if state.owner == Some(session) => Ok(state),
            _ => Err(crashed(operation)),
        }
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    async fn recover(&self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        let mut state = self.disk.lock();
        match self.session.load(Ordering::Acquire) {
            NOT_OPEN if state.owner.is_none() => {}
            NOT_OPEN => {
                return Err(StorageError::Locked { path: PATH.to_owned(), by_this_process: true });
            }
            _ => return Err(refused("recover", "a handle recovers once: clone() it")),
        }
        let recovered = state.recover(cluster, node)?;
        state.opened += 1;
        state.owner = Some(state.opened);
        self.session.store(state.opened, Ordering::Release);
        Ok(recovered)
    }

    fn write(&self, batch: WriteBatch) -> Write {
        self.submit(batch).unwrap_or_else(|error| Write::Done(Err(error)))
    }

    async fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        self.open_state("read")?.read(slots, bytes_max)
    }

    async fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        let state = self.open_state("read")?;
        let read = |image: &Image| image.states.read(slot, offset, bytes_max);
        Ok(state.image.as_ref().map(read).unwrap_or_default())
    }

    async fn close(&self) {
        self.release_lock();
    }
}

impl Disk {
    /// No method leaves the state half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn recover(&mut self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        let image = self.image.get_or_insert_with(|| Image::new(cluster, node));
        let identity = image.identity;
        if (identity.cluster, identity.node) != (cluster, node) {
            return Err(StorageError::WrongIdentity {
                cluster,
                node,
                found_cluster: identity.cluster,
                found_node: identity.node,
            });
        }
        image.incarnation += 1;
        let (incarnation, promised, chosen) = (image.incarnation, image.promised, image.chosen);
        let (floor, checkpoint) = (image.floor, image.checkpoint.clone());
        let (peers, memberships) = (image.peers.clone(), image.memberships.clone());
        let unfinished = image.states.unfinished(&checkpoint);
        let missing = floor.next().through(chosen.slot).find(|slot| !image.records.contains(*slot));
        if let Some(slot) = missing {
            return Err(damaged(format!("the record of slot {slot}, which is chosen, is missing")));
        }
        let records = self.read(chosen.slot.next()..=Slot(u64::MAX), usize::MAX)?;
        Ok(Recovered {
            identity,
            incarnation,
            last_incarnation: incarnation - 1,
            promised,
            chosen,
            floor,
            records,
            checkpoint,
            unfinished,
            peers,
            memberships,
        })
    }

    fn apply(&mut self, batch: WriteBatch) {
        let image = self.image.as_mut().expect("only an open disk is written");
        // First, since it panics if the batch is against the rules.
        image.states.apply(&batch, &image.checkpoint);
        image.promised = batch.promised.unwrap_or(image.promised);
        image.chosen = batch.chosen.unwrap_or(image.chosen);
        image.checkpoint =
            batch.checkpoint.unwrap_or_else(|| std::mem::take(&mut image.checkpoint));
        image.peers.extend(batch.peers);
        if let Some(memberships) = batch.memberships {
            image.memberships = memberships;
        }
        for Record { slot, ballot, value } in batch.records {
            self.damaged.remove(&slot);
            image.records.insert(slot, ballot, value);
        }
        if let Some(floor) = batch.floor {
            image.floor = floor;
            image.records.remove_through(floor);
        }
    }

    fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.image.iter().flat_map(|image| image.records.range(slots.clone()));
        let records = found.map(|(slot, ballot, value)| {
            if self.damaged.contains(&slot) {
                return Err(damaged(format!("the record of slot {slot} is unreadable")));
            }
            Ok(Record { slot, ballot, value: value.clone() })
        });
        cut_off(records, bytes_max)
    }

    /// Ends every fault and every handle.
    fn power_off(&mut self) {
        self.owner = None;
        self.held = None;
        self.full = false;
        self.fail_next = false;
        self.failed = false;
        self.cut_at = None;
    }
}

impl Image {
    fn new(cluster: ClusterId, node: NodeId) -> Image {
        Image {
            identity: Identity { cluster, node, store: StoreId(fastrand::u64(1..)) },
            incarnation: 0,
            promised: Ballot::ZERO,
            chosen: Watermark::default(),
            floor: Slot::ZERO,
            checkpoint: Checkpoint::default(),
            states: States::default(),
            peers: BTreeMap::new(),
            memberships: Bytes::new(),
            records: Records::default(),
        }
    }
}

fn damaged(what: String) -> StorageError {
    StorageError::Damaged { path: PATH.to_owned(), what }
}

fn refused(operation: &'static str, reason: &str) -> StorageError {
    StorageError::Io { operation, path: PATH.to_owned(), reason: reason.to_owned() }
}

fn crashed(operation: &'static str) -> StorageError {
    refused(operation, "the machine has crashed")
}

#[cfg(test)]
mod tests;
