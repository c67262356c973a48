//! States as bytes: snapshots that are read a piece at a time, and what the storage keeps.
//!
//! Whatever is read is read on a thread that may block, so a state that takes long to encode holds up
//! nobody.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{
    error::NodeError,
    lifecycle::{joined, panicked},
};
use crate::{
    limits::{PAGE_BYTES_MAX, TRANSFER_TOLD_INTERVAL},
    port::{Snapshot, Storage},
    replica::{SnapshotId, StateRead, StateReadId, StateSource},
    types::Slot,
};

/// A snapshot, and how far it has been read.
enum Held<S> {
    Whole(S),
    Read(Box<dyn Read + Send>),
}

/// What has been read.
struct Piece<S> {
    id: StateReadId,
    bytes: Bytes,
    /// Of which snapshot, with what is left of it.
    rest: Option<(SnapshotId, Held<S>)>,
}

/// Owns the snapshots of the state machine, and the reads of states.
pub(super) struct StateReader<S> {
    storage: Arc<dyn Storage>,
    /// Those that are not being read.
    snapshots: BTreeMap<SnapshotId, Held<S>>,
    /// Reads of snapshots that are yet to be taken.
    waiting: BTreeMap<SnapshotId, StateRead>,
    /// Those that nobody wants any more, and that are yet to be taken or being read.
    let_go: BTreeSet<SnapshotId>,
    under_way: FuturesUnordered<BoxFuture<'static, Result<Piece<S>, NodeError>>>,
}

impl<S: Snapshot> StateReader<S> {
    pub(super) fn new(storage: Arc<dyn Storage>) -> StateReader<S> {
        StateReader {
            storage,
            snapshots: BTreeMap::new(),
            waiting: BTreeMap::new(),
            let_go: BTreeSet::new(),
            under_way: FuturesUnordered::new(),
        }
    }

    /// A snapshot has been taken.
    pub(super) fn add(&mut self, id: SnapshotId, snapshot: S) {
        if self.let_go.remove(&id) {
            return;
        }
        self.snapshots.insert(id, Held::Whole(snapshot));
        if let Some(read) = self.waiting.remove(&id) {
            self.push(read);
        }
    }

    /// Nobody wants a snapshot any more.
    pub(super) fn let_go(&mut self, id: SnapshotId) {
        self.waiting.remove(&id);
        if self.snapshots.remove(&id).is_none() {
            self.let_go.insert(id);
        }
    }

    pub(super) fn push(&mut self, read: StateRead) {
        match read.source {
            StateSource::Stored { slot, offset } => {
                let storage = Arc::clone(&self.storage);
                self.under_way.push(Box::pin(async move {
                    let bytes = storage.read_state(slot, offset, read.bytes_max).await?;
                    Ok(Piece { id: read.id, bytes, rest: None })
                }));
            }
            StateSource::Snapshot(snapshot) => match self.snapshots.remove(&snapshot) {
                Some(held) => {
                    let piece = move || held.read(snapshot, &read);
                    let piece = spawn_blocking(piece);
                    let piece = async { joined("state machine", piece.await).flatten() };
                    self.under_way.push(Box::pin(piece));
                }
                None => drop(self.waiting.insert(snapshot, read)),
            },
        }
    }

    /// Waits for the next piece, in any order; for ever if nothing was asked.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(StateReadId, Bytes), NodeError>> {
        if self.under_way.is_empty() {
            return Poll::Pending;
        }
        match self.under_way.poll_next_unpin(cx) {
            Poll::Ready(Some(piece)) => {
                let Piece { id, bytes, rest } = piece?;
                if let Some((snapshot, held)) = rest
                    && !self.let_go.remove(&snapshot)
                {
                    self.snapshots.insert(snapshot, held);
                }
                Poll::Ready(Ok((id, bytes)))
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: Snapshot> Held<S> {
    fn read(self, snapshot: SnapshotId, read: &StateRead) -> Result<Piece<S>, NodeError> {
        let piece = catch_unwind(AssertUnwindSafe(|| {
            let mut reader = match self {
                Held::Whole(snapshot) => snapshot.into_reader()?,
                Held::Read(reader) => reader,
            };
            let mut bytes = Vec::new();
            reader.by_ref().take(read.bytes_max as u64).read_to_end(&mut bytes)?;
            let rest = Some((snapshot, Held::Read(reader)));
            Ok(Piece { id: read.id, bytes: bytes.into(), rest })
        }));
        match piece {
            Ok(piece) => piece.map_err(|error: io::Error| NodeError::Snapshot(error.to_string())),
            Err(panic) => Err(panicked("state machine", panic)),
        }
    }
}

/// The state that the storage keeps as of a slot, read on a thread that may block.
pub(super) struct StoredState {
    storage: Arc<dyn Storage>,
    runtime: Handle,
    slot: Slot,
    offset: u64,
    /// What has been read of the storage, and not of this.
    buffer: Bytes,
    /// When it was said last how far it is.
    told: tokio::time::Instant,
}

impl StoredState {
    pub(super) fn new(storage: Arc<dyn Storage>, runtime: Handle, slot: Slot) -> StoredState {
        let told = tokio::time::Instant::now();
        StoredState { storage, runtime, slot, offset: 0, buffer: Bytes::new(), told }
    }
}

impl Read for StoredState {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.buffer.is_empty() {
            let piece = self.storage.read_state(self.slot, self.offset, PAGE_BYTES_MAX);
            self.buffer = self.runtime.block_on(piece).map_err(io::Error::other)?;
            self.offset += self.buffer.len() as u64;
            if self.told.elapsed() >= TRANSFER_TOLD_INTERVAL {
                self.told = tokio::time::Instant::now();
                let (slot, bytes) = (self.slot, self.offset);
                tracing::info!(%slot, bytes, "the state machine is taking over a state");
            }
        }
        let count = self.buffer.len().min(into.len());
        self.buffer.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}
