//! A batch on its way to the disk.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::StorageError;
use crate::{
    message::{Record, Watermark},
    types::{Ballot, NodeId, Slot, StoreId},
};

/// The session table as of a slot, encoded by the replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionCheckpoint {
    /// The last slot whose requests it contains.
    pub slot: Slot,
    /// The table; empty for an empty one.
    pub table: Bytes,
}

/// Changes to the durable state, written together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    /// A new promise.
    pub promised: Option<Ballot>,
    /// A new chosen watermark.
    pub chosen: Option<Watermark>,
    /// Accepted or learned values.
    pub records: Vec<Record>,
    /// A new session checkpoint.
    pub sessions: Option<SessionCheckpoint>,
    /// Data directories of peers met for the first time.
    pub peers: BTreeMap<NodeId, StoreId>,
}

impl WriteBatch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.promised.is_none()
            && self.chosen.is_none()
            && self.records.is_empty()
            && self.sessions.is_none()
            && self.peers.is_empty()
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
        self.sessions = later.sessions.or(self.sessions.take());
        self.peers.extend(later.peers);
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
