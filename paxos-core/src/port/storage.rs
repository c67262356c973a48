//! The durable half of a node: its promise, its log, its identity.

use std::{collections::BTreeMap, ops::RangeInclusive};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Checkpoint, Image, StorageError, Write, WriteBatch};
use crate::{
    message::{Record, Watermark},
    types::{Ballot, ClusterId, Identity, NodeId, Slot, StoreId},
};

/// Where a node keeps what it must not forget.
///
/// An implementation guarantees:
///
/// 1. **Durable.** When a [`write`](Storage::write) ends with `Ok`, the whole batch survives a crash
///    of the machine at any later time. So does what [`recover`](Storage::recover) has found, even if
///    the process before saw its last sync fail.
/// 2. **Atomic.** After a crash, of every batch either everything is there or nothing.
/// 3. **Ordered.** Batches take effect in the order in which `write` was called, whether and in
///    whatever order the [`Write`]s are polled, and even if they are dropped; if one is there after
///    a crash, so is every earlier one that was not refused.
/// 4. **Last record wins.** A record replaces an earlier one of the same slot; promise, watermark,
///    checkpoint, floor and memberships replace the earlier ones; peers are added to.
/// 5. **Read your writes.** [`read`](Storage::read) and [`read_state`](Storage::read_state) see every
///    batch whose `write` has ended.
/// 6. **Unreadable is an error, never empty.** A record, promise, identity, checkpoint, piece of a
///    state or list of memberships that was written and cannot be read back is
///    [`StorageError::Damaged`]. Only an unfinished last batch, which was never acknowledged, is
///    dropped silently; an implementation that cannot tell it from a finished one which has decayed
///    since says so in its documentation.
/// 7. **Bound to one node.** [`recover`](Storage::recover) refuses a directory of another cluster
///    or node; opening refuses a directory that another process has open.
/// 8. **Failure is final.** After a `write` has ended with [`WriteError::Failed`], every later
///    `write` does so too: a failed sync is never retried.
/// 9. **Full is survivable.** A `write` that ends with [`WriteError::Full`] has changed nothing and
///    gives its batch back unchanged, to be written again when there is room. Later batches may
///    have been written meanwhile, if their `write` was called before it ended.
/// 10. **What is compacted is gone, and nothing else.** Records up to the floor are not returned by
///     a read that begins after its write has ended; those above it are untouched, whatever becomes
///     of a compaction that a crash cuts short. Neither does a state take room that belongs to no
///     checkpoint and is not being written.
///
/// [`WriteError::Failed`]: super::WriteError::Failed
/// [`WriteError::Full`]: super::WriteError::Full
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Opens the state for `node` of `cluster`, or starts it if there is none, and moves the
    /// incarnation on, durably. Called once, before anything else.
    ///
    /// # Errors
    ///
    /// If the state belongs to somebody else, is damaged, or was written by a newer version.
    async fn recover(&self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError>;

    /// Begins to make a batch durable: the write has begun when this returns, and waiting for what
    /// it returns is all that is left to do. Never blocks. A node has one write under way; its next
    /// batch gathers meanwhile.
    ///
    /// What is durable at once, as in memory, is [`Write::Done`] and costs no allocation. For the
    /// errors see guarantees 8 and 9.
    fn write(&self, batch: WriteBatch) -> Write;

    /// The records of `slots` in ascending order, without those that were never written, cut off
    /// after the record with which their encoded values reach `bytes_max`. So there is at least
    /// one record if there is any. [`cut_off`](super::cut_off) does the latter half.
    ///
    /// # Errors
    ///
    /// If a record that was written cannot be read.
    async fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError>;

    /// What there is of the state as of `slot`, from `offset` on: at least one byte if there is any,
    /// `bytes_max` at most. Nothing at its end, or if there is no such state.
    ///
    /// # Errors
    ///
    /// If a piece that was written cannot be read.
    async fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError>;

    /// Releases files and locks after the last write has ended. Dropping does the same, but
    /// cannot be waited for.
    async fn close(&self);
}

/// What a node finds when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Cluster, node and data directory.
    pub identity: Identity,
    /// Which life of the node this is: 1 the first time, and higher each time, by a random number up to
    /// [`INCARNATION_STEP_MAX`](crate::limits::INCARNATION_STEP_MAX). So no life of a directory that was put
    /// back from an older copy has the incarnation of one that followed the copy. (What cannot be put back,
    /// as memory, may count.)
    pub incarnation: u64,
    /// The incarnation of the life before, 0 if this is the first. Of what lies between, this directory knows
    /// nothing: if the log does, the directory was put back from an older copy.
    pub last_incarnation: u64,
    /// The acceptor's promise.
    pub promised: Ballot,
    /// How far the log is known to be chosen. Every slot up to here, above `floor`, has a record.
    pub chosen: Watermark,
    /// Every slot up to here has been compacted away.
    pub floor: Slot,
    /// The records above the watermark, in ascending order of slots: at most a window of them.
    pub records: Vec<Record>,
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// A state that no checkpoint has yet: as of which slot, and how many bytes of it there are.
    pub unfinished: Option<(Slot, u64)>,
    /// The data directories of the peers met so far.
    pub peers: BTreeMap<NodeId, StoreId>,
    /// The memberships that govern slots above the checkpoint, as the replica encoded them when they were
    /// last written; empty if they never were.
    pub memberships: Bytes,
}

impl Recovered {
    /// What a node finds when it starts for the first time: it has promised and accepted nothing.
    #[must_use]
    pub fn first(identity: Identity) -> Recovered {
        Image::default().recovered(identity, 1)
    }
}
