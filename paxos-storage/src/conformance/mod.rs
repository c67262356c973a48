//! The contract of [`Storage`] as a suite that any backend can run in one line.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use paxos_storage::{MemoryStorage, conformance};
//!
//! let report = conformance::check(|| {
//!     let disk = MemoryStorage::new();
//!     move || Ok(disk.clone())
//! })
//! .await;
//! assert!(report.passed.contains(&"everything_survives_a_restart"));
//! # }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```
//!
//! A closure that opens the same storage again and again is a [`Disk`] already. A disk that can
//! also lose power, fill up and decay on request has the rest of the contract checked: what it
//! cannot do is [skipped](Report::skipped).
//!
//! A storage that can be opened on a [`Medium`] has every crash of it tried by [`power_loss`], every
//! failed sync by [`sync_failure`], and decay by [`rot`].

mod contents;
mod failures;
mod ownership;
mod power_loss;
mod states;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{
    message::{Record, Watermark},
    port::{
        Checkpoint, Image, Recovered, StateChunk, StateSummary, Storage, StorageError, WriteBatch,
    },
    types::{Ballot, BatchBuilder, ClientId, ClusterId, NodeId, RequestId, Slot, StoreId, Value},
};

pub use contents::{
    compacted_records_are_gone, everything_survives_a_restart, large_values_survive,
    many_records_survive, reads_are_cut_off_by_bytes, reads_see_every_write, starts_empty,
    the_last_memberships_win, the_last_record_wins, writes_take_effect_in_order,
};
pub use failures::{
    a_damaged_record_is_an_error, a_failed_sync_is_final, a_full_disk_is_survived,
    a_missing_record_is_an_error, acknowledged_writes_survive_a_power_cut, writes_are_atomic,
};
pub use ownership::{
    a_second_opening_is_refused, another_node_is_refused, every_recovery_is_counted,
    stores_have_names_of_their_own,
};
pub use power_loss::{Counts, Extent, Medium, Operation, RotCounts, power_loss, rot, sync_failure};
pub use states::{
    a_state_is_installed_whole_or_not_at_all, a_state_is_read_while_another_takes_its_place,
    a_state_is_resumed_where_it_ends, a_state_waits_until_there_is_room,
    states_are_read_as_written, states_that_nobody_needs_are_gone,
};

/// Where one storage keeps its data: what is there when the process is gone.
#[async_trait]
pub trait Disk: Send + Sync {
    /// Opens the storage on it, as a process that starts does.
    async fn open(&self) -> Result<Arc<dyn Storage>, StorageError>;

    /// Brings about a fault; `false` if the disk cannot.
    fn inject(&self, fault: Fault) -> bool {
        let _ = fault;
        false
    }
}

/// What can happen to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power fails now: what is not durable may be lost, in whole or in part, and what is open
    /// can do nothing more. The power is back for the next opening.
    PowerCut,
    /// The power fails during the next write, after so many of the disk's operations; not at all
    /// if the write is over sooner.
    PowerCutDuringWrite {
        /// Operations that still happen.
        operations: u64,
    },
    /// There is no room left, or there is again.
    Full(bool),
    /// A sync fails, after some that do not. What it was to write can still be read, and is lost with
    /// the power, in whole or in part, unless it is written again: a later sync takes it for done.
    FailedSync {
        /// Syncs that still succeed.
        syncs: u64,
    },
    /// The record of a slot can no longer be read. Only while nothing is open.
    Damage(Slot),
    /// The record of a slot is gone. Only while nothing is open.
    Loss(Slot),
}

#[async_trait]
impl<F, S> Disk for F
where
    F: Fn() -> Result<S, StorageError> + Send + Sync,
    S: Storage,
{
    async fn open(&self) -> Result<Arc<dyn Storage>, StorageError> {
        Ok(Arc::new(self()?))
    }
}

/// Whether a check could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// It was, and nothing was wrong.
    Passed,
    /// The disk does not know the fault.
    Skipped,
}

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Report {
    /// The checks that passed.
    pub passed: Vec<&'static str>,
    /// The checks that need a fault which the disk cannot bring about.
    pub skipped: Vec<&'static str>,
}

macro_rules! run {
    ($new_disk:expr, $($check:ident,)*) => {{
        let mut report = Report::default();
        $(match $check($new_disk).await {
            Outcome::Passed => report.passed.push(stringify!($check)),
            Outcome::Skipped => report.skipped.push(stringify!($check)),
        })*
        report
    }};
}

/// Checks everything, each check on a disk of its own.
///
/// # Panics
///
/// If the storage breaks its contract, with the number of the guarantee.
pub async fn check<D: Disk>(new_disk: impl Fn() -> D) -> Report {
    run!(
        &new_disk,
        starts_empty,
        everything_survives_a_restart,
        writes_take_effect_in_order,
        the_last_record_wins,
        the_last_memberships_win,
        reads_see_every_write,
        reads_are_cut_off_by_bytes,
        large_values_survive,
        many_records_survive,
        compacted_records_are_gone,
        states_are_read_as_written,
        states_that_nobody_needs_are_gone,
        a_state_is_resumed_where_it_ends,
        a_state_is_read_while_another_takes_its_place,
        every_recovery_is_counted,
        stores_have_names_of_their_own,
        another_node_is_refused,
        a_second_opening_is_refused,
        acknowledged_writes_survive_a_power_cut,
        writes_are_atomic,
        a_failed_sync_is_final,
        a_full_disk_is_survived,
        a_state_is_installed_whole_or_not_at_all,
        a_state_waits_until_there_is_room,
        a_damaged_record_is_an_error,
        a_missing_record_is_an_error,
    )
}

const CLUSTER: ClusterId = ClusterId(0xc1);
const NODE: NodeId = NodeId(1);
/// More of a disk's operations than any single write may take.
const OPERATIONS_MAX: u64 = 10_000;

/// Opens a disk that has to be sound.
async fn start<D: Disk>(disk: &D) -> (Arc<dyn Storage>, Recovered) {
    let storage = disk.open().await.expect("7: nobody else has the disk open");
    let recovered = storage.recover(CLUSTER, NODE).await.expect("a sound disk recovers");
    (storage, recovered)
}

/// Stops the storage properly and starts it again.
async fn restart<D: Disk>(disk: &D, storage: Arc<dyn Storage>) -> (Arc<dyn Storage>, Recovered) {
    storage.close().await;
    drop(storage);
    start(disk).await
}

/// A ballot that differs for every `round`.
fn ballot(round: u64) -> Ballot {
    Ballot { round, node: NodeId(round % 3 + 1) }
}

/// A value of one command of `bytes` bytes that nothing else produces, so that a mix-up shows.
fn value(seed: u64, bytes: usize) -> Value {
    let mut random = fastrand::Rng::with_seed(seed);
    let command: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
    let mut builder = BatchBuilder::default();
    let client = ClientId { name: seed, epoch: 1 };
    builder.push(RequestId { client, sequence: 1 }, 1, Bytes::from(command));
    Value::Batch(builder.build().expect("one command"))
}

/// A record of `slot` that differs for every `seed`.
fn record(slot: u64, seed: u64) -> Record {
    Record { slot: Slot(slot), ballot: ballot(seed), value: value(seed << 32 | slot, 100) }
}

fn records(slots: std::ops::RangeInclusive<u64>, seed: u64) -> Vec<Record> {
    slots.map(|slot| record(slot, seed)).collect()
}

/// A checkpoint as of a slot, with a session table of `bytes` bytes.
fn checkpoint(slot: u64, seed: u64, bytes: usize) -> Checkpoint {
    let at = Watermark { slot: Slot(slot), hash: seed };
    Checkpoint { at, sessions: value(seed, bytes).encoded(), state: None }
}

/// A piece of a state that differs for every `seed`.
fn chunk(slot: u64, offset: u64, seed: u64, bytes: usize) -> StateChunk {
    let bytes = value(seed, bytes).encoded().slice(..bytes);
    StateChunk { slot: Slot(slot), offset, bytes }
}

/// Memberships, as the replica might encode them, that differ for every `seed`.
fn memberships(seed: u64, bytes: usize) -> Bytes {
    value(seed, bytes).encoded().slice(..bytes)
}

/// A batch that changes everything there is, with ten records. Those before them go.
fn full_batch(first: u64, seed: u64) -> WriteBatch {
    let state = Some(StateSummary { bytes: 700, hash: seed });
    // Of batches with the same records, each checkpoint is behind the one before.
    let slot = first + 2 + seed;
    WriteBatch {
        promised: Some(ballot(seed)),
        chosen: Some(Watermark { slot: Slot(first + 4), hash: seed }),
        records: records(first..=first + 9, seed),
        state: vec![
            chunk(slot, 0, seed, 300),
            chunk(slot, 300, seed + 1, 400),
            chunk(slot + 1, 0, seed, 50),
        ],
        checkpoint: Some(Checkpoint { state, ..checkpoint(slot, seed, 5000) }),
        floor: Some(Slot(first - 1)),
        peers: [(NodeId(100 + seed), StoreId(seed))].into(),
        memberships: Some(memberships(seed, 60)),
    }
}

/// What a storage has to hold after some batches.
fn image_after<'a>(batches: impl IntoIterator<Item = &'a WriteBatch>) -> Image {
    let mut image = Image::default();
    batches.into_iter().for_each(|batch| image.apply(batch));
    image
}

/// Whether a node finds exactly this when it starts, whoever it is.
fn is_found(image: &Image, recovered: &Recovered) -> bool {
    let Recovered { identity, incarnation, last_incarnation, .. } = *recovered;
    *recovered == Recovered { last_incarnation, ..image.recovered(identity, incarnation) }
}

/// The whole log.
fn log_of(image: &Image) -> Vec<Record> {
    image.records.values().cloned().collect()
}

/// What a node that wrote `batches` has to find, identity aside.
fn expect_state(recovered: &Recovered, batches: &[&WriteBatch], guarantee: &str) {
    assert!(holds(recovered, batches), "{guarantee}: {recovered:?} is not {batches:?}");
}

/// Whether a node finds exactly what `batches` leave behind.
fn holds(recovered: &Recovered, batches: &[&WriteBatch]) -> bool {
    is_found(&image_after(batches.iter().copied()), recovered)
}

/// All of the state as of `slot`, read in pieces of `bytes_max`.
async fn read_state(storage: &dyn Storage, slot: Slot, bytes_max: usize) -> Vec<u8> {
    let mut state = Vec::new();
    loop {
        let piece = storage.read_state(slot, state.len() as u64, bytes_max).await;
        let piece = piece.expect("6: every piece is sound");
        assert!(piece.len() <= bytes_max, "a read of a state is within its limit");
        if piece.is_empty() {
            return state;
        }
        state.extend_from_slice(&piece);
    }
}

/// Every record there is.
async fn read_all(storage: &dyn Storage) -> Vec<Record> {
    let read = storage.read(Slot(1)..=Slot(u64::MAX), usize::MAX).await;
    read.expect("6: every record is sound")
}
