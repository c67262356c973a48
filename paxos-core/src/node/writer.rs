//! Writes to the storage: one at a time, in order, merged while they wait.
//!
//! A batch that meets a full disk is kept and written again every second until there is room; what
//! comes later queues behind it. Any other failure is final.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::{
    planted::planted,
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
            Err(error)
                if matches!(error, StorageError::Full { .. }) || planted!(FailedSyncRetried) =>
            {
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

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, ops::RangeInclusive, sync::Mutex};

    use async_trait::async_trait;
    use futures::FutureExt;

    use super::*;
    use crate::{
        message::Record,
        port::Recovered,
        types::{Ballot, ClusterId, NodeId, Slot, StoreId, Value},
    };

    /// Answers each write from a script, `Ok` after its end, and remembers what was written.
    #[derive(Default)]
    struct Scripted {
        answers: Mutex<VecDeque<StorageError>>,
        written: Mutex<Vec<WriteBatch>>,
    }

    #[async_trait]
    impl Storage for Scripted {
        async fn recover(&self, _: ClusterId, _: NodeId) -> Result<Recovered, StorageError> {
            Err(StorageError::Failed)
        }

        async fn write(&self, batch: WriteBatch) -> Result<(), StorageError> {
            // As on a disk, nothing is done at once.
            tokio::task::yield_now().await;
            match self.answers.lock().expect("no panic").pop_front() {
                Some(error) => Err(error),
                None => {
                    self.written.lock().expect("no panic").push(batch);
                    Ok(())
                }
            }
        }

        async fn read(
            &self,
            _: RangeInclusive<Slot>,
            _: usize,
        ) -> Result<Vec<Record>, StorageError> {
            Err(StorageError::Failed)
        }

        async fn close(&self) {}
    }

    fn record(slot: u64) -> WriteBatch {
        let record = Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value: Value::Noop };
        WriteBatch { records: vec![record], ..WriteBatch::default() }
    }

    fn slots(storage: &Scripted) -> Vec<Vec<u64>> {
        let written = storage.written.lock().expect("no panic");
        written.iter().map(|batch| batch.records.iter().map(|r| r.slot.0).collect()).collect()
    }

    fn full() -> StorageError {
        StorageError::Full { path: "here".to_owned() }
    }

    fn written(last: u64) -> Result<Progress, StorageError> {
        Ok(Progress::Written { last: Some(WriteId(last)), room_again: false })
    }

    #[tokio::test]
    async fn what_comes_during_a_write_is_merged_into_the_next_one() {
        let storage = Arc::new(Scripted::default());
        let mut writer = Writer::new(storage.clone());
        for id in 1..=3 {
            writer.push(Some(WriteId(id)), record(id));
        }
        let peers = [(NodeId(2), StoreId(7))].into();
        writer.push(None, WriteBatch { peers, ..WriteBatch::default() });
        assert_eq!(writer.progress().await, written(1));
        assert_eq!(writer.progress().await, written(3));
        assert_eq!(slots(&storage), [vec![1], vec![2, 3]]);
        assert_eq!(storage.written.lock().expect("no panic")[1].peers.len(), 1);
        assert!(writer.progress().now_or_never().is_none(), "nothing is left to write");
        assert_eq!(writer.backlog_bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_meets_a_full_disk_is_written_before_any_other_once_there_is_room() {
        let storage = Arc::new(Scripted::default());
        storage.answers.lock().expect("no panic").extend([full(), full()]);
        let mut writer = Writer::new(storage.clone());
        let start = tokio::time::Instant::now();
        writer.push(Some(WriteId(1)), record(1));
        writer.push(Some(WriteId(2)), record(2));
        assert_eq!(writer.progress().await, Ok(Progress::Full), "told once, not at every attempt");
        let room = Progress::Written { last: Some(WriteId(1)), room_again: true };
        assert_eq!(writer.progress().await, Ok(room));
        assert_eq!(start.elapsed().as_secs(), 2, "one attempt a second");
        assert_eq!(writer.progress().await, written(2));
        assert_eq!(slots(&storage), [vec![1], vec![2]]);
    }

    #[tokio::test]
    async fn any_other_failure_is_final() {
        let storage = Arc::new(Scripted::default());
        storage.answers.lock().expect("no panic").push_back(StorageError::Failed);
        let mut writer = Writer::new(storage.clone());
        writer.push(Some(WriteId(1)), record(1));
        writer.push(Some(WriteId(2)), record(2));
        assert_eq!(writer.progress().await, Err(StorageError::Failed));
        assert_eq!(slots(&storage), [[]; 0], "nothing is written after it");
    }

    #[tokio::test]
    async fn the_end_waits_for_the_write_under_way_only() {
        let storage = Arc::new(Scripted::default());
        let mut writer = Writer::new(storage.clone());
        writer.push(Some(WriteId(1)), record(1));
        writer.push(Some(WriteId(2)), record(2));
        assert_eq!(writer.finish().await, Ok(()));
        assert_eq!(slots(&storage), [vec![1]]);
    }

    #[tokio::test]
    async fn a_slow_disk_overloads_until_it_has_caught_up() {
        let mut writer = Writer::new(Arc::new(Scripted::default()));
        let sessions = crate::port::SessionCheckpoint {
            slot: Slot(1),
            table: vec![0; BACKLOG_BYTES_MAX + 1].into(),
        };
        writer.push(Some(WriteId(1)), WriteBatch { sessions: Some(sessions), ..record(1) });
        assert!(writer.is_overloaded());
        assert_eq!(writer.progress().await, written(1));
        assert!(!writer.is_overloaded());
    }
}
