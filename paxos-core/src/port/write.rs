//! A batch on its way to the disk.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::StorageError;
use crate::{
    message::{Record, Watermark},
    types::{Ballot, NodeId, Slot, StoreId},
};

/// What a node can start from instead of the log up to a slot. The default is the start of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last slot that is in it, and the hash of the chosen prefix up to there.
    pub at: Watermark,
    /// The session table as of that slot, encoded by the replica; empty for an empty one.
    pub sessions: Bytes,
    /// The state as of that slot, if the storage has it. A state machine that keeps itself on disk has
    /// its own.
    pub state: Option<StateSummary>,
}

impl Checkpoint {
    /// The slot as of which the storage has its state.
    #[must_use]
    pub fn slot_of_state(&self) -> Option<Slot> {
        self.state.map(|_| self.at.slot)
    }
}

/// What tells one state from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateSummary {
    /// How many bytes it has.
    pub bytes: u64,
    /// XXH3 of them.
    pub hash: u64,
}

/// Makes the summary of a state that comes in pieces.
#[derive(Clone, Default)]
pub struct StateHasher {
    bytes: u64,
    hash: Xxh3,
}

impl StateHasher {
    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.hash.update(piece);
    }

    /// How many bytes it has taken in.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The summary of what it has taken in.
    #[must_use]
    pub fn summary(&self) -> StateSummary {
        StateSummary { bytes: self.bytes, hash: self.hash.digest() }
    }
}

impl fmt::Debug for StateHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StateHasher").field(&self.summary()).finish()
    }
}

/// A piece of the state that a checkpoint has or is going to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChunk {
    /// The slot of the checkpoint.
    pub slot: Slot,
    /// Where in the state it begins: where the piece before it ends. The one at 0 begins the state anew,
    /// in place of any other that no checkpoint has.
    pub offset: u64,
    /// At least one byte.
    pub bytes: Bytes,
}

/// Changes to the durable state, written together.
///
/// Neither the checkpoint nor the floor sinks from one batch to a later one; a record lies above the
/// floor, a piece of a state above the checkpoint of the batches before. So batches that are merged leave
/// behind what they do one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// A new promise.
    pub promised: Option<Ballot>,
    /// A new chosen watermark.
    pub chosen: Option<Watermark>,
    /// Accepted or learned values.
    pub records: Vec<Record>,
    /// Pieces of a state that a checkpoint is going to have, each where the one before it ends.
    pub state: Vec<StateChunk>,
    /// A new checkpoint, in place of the one before; every state up to its slot but its own goes with
    /// that.
    pub checkpoint: Option<Checkpoint>,
    /// Every record up to this slot is to go. It never sinks, and never exceeds the checkpoint.
    pub floor: Option<Slot>,
    /// Data directories of peers met for the first time.
    pub peers: BTreeMap<NodeId, StoreId>,
    /// The memberships that govern slots above the checkpoint, as of the chosen watermark, encoded by the
    /// replica; replaces the earlier ones.
    pub memberships: Option<Bytes>,
}

impl WriteBatch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.promised.is_none()
            && self.chosen.is_none()
            && self.records.is_empty()
            && self.state.is_empty()
            && self.checkpoint.is_none()
            && self.floor.is_none()
            && self.peers.is_empty()
            && self.memberships.is_none()
    }

    /// Appends a later batch, so that one write carries both.
    pub fn merge(&mut self, later: WriteBatch) {
        self.promised = later.promised.or(self.promised);
        self.chosen = later.chosen.or(self.chosen);
        if self.records.is_empty() {
            self.records = later.records;
        } else {
            self.records.extend(later.records);
        }
        self.state.extend(later.state);
        self.checkpoint = later.checkpoint.or(self.checkpoint.take());
        self.floor = later.floor.or(self.floor);
        self.peers.extend(later.peers);
        self.memberships = later.memberships.or(self.memberships.take());
    }
}

/// A write that has begun: [`Storage::write`](super::Storage::write).
///
/// A future, for those who wait for any write in the same way. It may be dropped; the write goes on
/// all the same.
#[must_use = "a batch is durable only once its write has ended with Ok"]
pub enum Write {
    /// It has ended already.
    Done(Result<(), WriteError>),
    /// It ends when this does.
    UnderWay(Pin<Box<dyn Future<Output = Result<(), WriteError>> + Send>>),
}

impl Write {
    /// A write that ends when `end` does.
    pub fn under_way(end: impl Future<Output = Result<(), WriteError>> + Send + 'static) -> Write {
        Write::UnderWay(Box::pin(end))
    }
}

impl Future for Write {
    type Output = Result<(), WriteError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            // Whoever polls it again is told nothing good.
            Write::Done(result) => {
                Poll::Ready(std::mem::replace(result, Err(StorageError::Failed.into())))
            }
            Write::UnderWay(end) => end.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Write::Done(result) => f.debug_tuple("Done").field(result).finish(),
            Write::UnderWay(_) => f.write_str("UnderWay"),
        }
    }
}

/// Why a batch is not durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No room. Nothing has changed, and writing goes on when there is room.
    #[error("no space left for {path}: free some, and writing goes on")]
    Full {
        /// The file or directory.
        path: String,
        /// What was to be written, unchanged.
        batch: Box<WriteBatch>,
    },
    /// Anything else, never [`StorageError::Full`]. Whether the batch is there after a restart is
    /// unknown, and nothing may be written before that.
    #[error(transparent)]
    Failed(#[from] StorageError),
}

/// Without the batch that found no room.
impl From<WriteError> for StorageError {
    fn from(error: WriteError) -> StorageError {
        match error {
            WriteError::Full { path, .. } => StorageError::Full { path },
            WriteError::Failed(error) => error,
        }
    }
}
