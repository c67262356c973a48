//! Writes to the storage: one at a time, in order, merged while they wait.
//!
//! A batch that meets a full disk is kept and written again every second until there is room; what
//! comes later queues behind it. Any other failure is final.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{
    port::{Storage, StorageError, WriteBatch},
    replica::WriteId,
};

/// How long a full disk is left alone before the batch is tried again.
const FULL_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Bytes that may wait for the disk before the node lets messages with values go by.
pub(super) const BACKLOG_BYTES_MAX: usize = 64 << 20;

/// What a record takes beyond its value.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// What a [`Writer`] has to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Everything up to this write is durable; `None` if the write was the driver's own.
    Written { last: Option<WriteId>, room_again: bool },
    /// The disk has become full.
    Full,
}

#[derive(Default)]
struct Pending {
    last: Option<WriteId>,
    batch: WriteBatch,
    bytes: usize,
}

enum State {
    Idle,
    Writing { pending: Pending, full: bool, write: BoxFuture<'static, Result<(), StorageError>> },
    Full { pending: Pending, retry: BoxFuture<'static, ()> },
}

/// Owns the order of writes.
pub(super) struct Writer {
    storage: Arc<dyn Storage>,
    state: State,
    /// What has come since the write under way began.
    next: Pending,
    backlog_bytes: usize,
}

impl Writer {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Writer {
        Writer { storage, state: State::Idle, next: Pending::default(), backlog_bytes: 0 }
    }

    /// Queues a batch. The driver's own batches have no id.
    pub(super) fn push(&mut self, id: Option<WriteId>, batch: WriteBatch) {
        let bytes = size(&batch);
        self.backlog_bytes += bytes;
        self.next.bytes += bytes;
        self.next.last = id.or(self.next.last);
        self.next.batch.merge(batch);
        if matches!(self.state, State::Idle) {
            self.start_next();
        }
    }

    /// Whether so much waits that nothing more should be taken in.
    pub(super) fn is_overloaded(&self) -> bool {
        self.backlog_bytes > BACKLOG_BYTES_MAX
    }

    /// Waits for the write under way; forever if there is none. Cancel safe.
    pub(super) async fn progress(&mut self) -> Result<Progress, StorageError> {
        loop {
            match &mut self.state {
                State::Idle => std::future::pending().await,
                State::Full { retry, .. } => {
                    retry.as_mut().await;
                    if let State::Full { pending, .. } =
                        std::mem::replace(&mut self.state, State::Idle)
                    {
                        self.start(pending, true);
                    }
                }
                State::Writing { write, .. } => {
                    let result = write.as_mut().await;
                    if let Some(progress) = self.finished(result)? {
                        return Ok(progress);
                    }
                }
            }
        }
    }

    /// Waits for the write under way, not for those behind it, nor for room on a full disk.
    pub(super) async fn finish(mut self) -> Result<(), StorageError> {
        match &mut self.state {
            State::Writing { write, .. } => match write.as_mut().await {
                Err(StorageError::Full { .. }) | Ok(()) => Ok(()),
                Err(error) => Err(error),
            },
            State::Idle | State::Full { .. } => Ok(()),
        }
    }

    fn finished(
        &mut self,
        result: Result<(), StorageError>,
    ) -> Result<Option<Progress>, StorageError> {
        let State::Writing { pending, full, .. } = std::mem::replace(&mut self.state, State::Idle)
        else {
            unreachable!("only a write under way finishes");
        };
        match result {
            Ok(()) => {
                self.backlog_bytes -= pending.bytes;
                self.start_next();
                if full {
                    tracing::info!("there is room on the disk again");
                }
                Ok(Some(Progress::Written { last: pending.last, room_again: full }))
            }
            Err(error @ StorageError::Full { .. }) => {
                let retry = Box::pin(tokio::time::sleep(FULL_RETRY_INTERVAL));
                self.state = State::Full { pending, retry };
                if full {
                    return Ok(None);
                }
                tracing::error!(%error, "the disk is full: no proposals are taken");
                Ok(Some(Progress::Full))
            }
            Err(error) => Err(error),
        }
    }

    fn start_next(&mut self) {
        if !self.next.batch.is_empty() {
            let pending = std::mem::take(&mut self.next);
            self.start(pending, false);
        }
    }

    fn start(&mut self, pending: Pending, full: bool) {
        let storage = Arc::clone(&self.storage);
        let batch = pending.batch.clone();
        let write = Box::pin(async move { storage.write(batch).await });
        self.state = State::Writing { pending, full, write };
    }
}

fn size(batch: &WriteBatch) -> usize {
    let record = |value: usize| value + RECORD_OVERHEAD_BYTES;
    let records: usize = batch.records.iter().map(|entry| record(entry.value.encoded_len())).sum();
    records + batch.sessions.as_ref().map_or(0, |sessions| sessions.table.len())
}
