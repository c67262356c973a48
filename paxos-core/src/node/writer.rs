//! Writes to the storage: one at a time, in order, merged while they wait.
//!
//! A batch that meets a full disk is kept and written again every second until there is room; what
//! comes later queues behind it. Any other failure is final.

use std::{
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;

use crate::{
    planted::planted,
    port::{Storage, StorageError, Write, WriteBatch, WriteError},
    replica::WriteId,
};

/// How long a full disk is left alone before the batch is tried again.
const FULL_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What a [`Writer`] has to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Everything up to this write is durable; `None` if the write was the driver's own.
    Written { last: Option<WriteId>, room_again: bool },
    /// The disk has become full.
    Full,
}

/// What the writer is at.
enum WriteState {
    Idle,
    /// The storage has the batch. `full` if it has refused it before.
    Writing {
        /// The last of the replica's writes in it; `None` if there is none.
        last: Option<WriteId>,
        full: bool,
        write: Write,
    },
    /// The storage has given it back.
    Full {
        last: Option<WriteId>,
        batch: WriteBatch,
        retry: BoxFuture<'static, ()>,
    },
}

/// Owns the order of writes.
pub(super) struct Writer {
    storage: Arc<dyn Storage>,
    state: WriteState,
    /// What has come since the write under way began.
    next: WriteBatch,
    next_last: Option<WriteId>,
}

impl Writer {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Writer {
        Writer { storage, state: WriteState::Idle, next: WriteBatch::default(), next_last: None }
    }

    /// Queues a batch. The driver's own batches have no id.
    pub(super) fn push(&mut self, id: Option<WriteId>, batch: WriteBatch) {
        self.next_last = id.or(self.next_last);
        self.next.merge(batch);
        if matches!(self.state, WriteState::Idle) {
            self.start_next();
        }
    }

    /// What has come to its end already, as a write to memory has when it begins.
    pub(super) fn take_done(&mut self) -> Option<Result<Progress, StorageError>> {
        if let WriteState::Writing { write: Write::Done(result), .. } = &mut self.state {
            let result = mem::replace(result, Ok(()));
            return self.finished(result).transpose();
        }
        None
    }

    /// Waits for the write under way; forever if there is none.
    pub(super) fn poll_progress(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Progress, StorageError>> {
        loop {
            match &mut self.state {
                WriteState::Idle => return Poll::Pending,
                WriteState::Full { retry, .. } => {
                    ready!(retry.as_mut().poll(cx));
                    if let WriteState::Full { last, batch, .. } =
                        mem::replace(&mut self.state, WriteState::Idle)
                    {
                        self.start(last, batch, true);
                    }
                }
                WriteState::Writing { write, .. } => {
                    let result = ready!(Pin::new(write).poll(cx));
                    if let Some(progress) = self.finished(result)? {
                        return Poll::Ready(Ok(progress));
                    }
                }
            }
        }
    }

    /// Waits for the write under way, not for those behind it, nor for room on a full disk.
    pub(super) async fn finish(mut self) -> Result<(), StorageError> {
        match &mut self.state {
            WriteState::Writing { write, .. } => match write.await {
                Err(WriteError::Full { .. }) | Ok(()) => Ok(()),
                Err(WriteError::Failed(error)) => Err(error),
            },
            WriteState::Idle | WriteState::Full { .. } => Ok(()),
        }
    }

    fn finished(
        &mut self,
        result: Result<(), WriteError>,
    ) -> Result<Option<Progress>, StorageError> {
        let WriteState::Writing { last, full, .. } =
            mem::replace(&mut self.state, WriteState::Idle)
        else {
            unreachable!("only a write under way finishes");
        };
        let (path, batch) = match result {
            Ok(()) => {
                self.start_next();
                if full {
                    tracing::info!("there is room on the disk again");
                }
                return Ok(Some(Progress::Written { last, room_again: full }));
            }
            Err(WriteError::Full { path, batch }) => (path, *batch),
            // Of what it failed to sync the kernel has nothing left to write the second time.
            Err(WriteError::Failed(_)) if planted!(FailedSyncRetried) => Default::default(),
            Err(WriteError::Failed(error)) => return Err(error),
        };
        let retry = Box::pin(tokio::time::sleep(FULL_RETRY_INTERVAL));
        self.state = WriteState::Full { last, batch, retry };
        if full {
            return Ok(None);
        }
        tracing::error!(path, "the disk is full: no proposals are taken");
        Ok(Some(Progress::Full))
    }

    fn start_next(&mut self) {
        if !self.next.is_empty() {
            let batch = mem::take(&mut self.next);
            let last = self.next_last.take();
            self.start(last, batch, false);
        }
    }

    fn start(&mut self, last: Option<WriteId>, batch: WriteBatch, full: bool) {
        self.state = WriteState::Writing { last, full, write: self.storage.write(batch) };
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, ops::RangeInclusive, sync::Mutex};

    use async_trait::async_trait;
    use bytes::Bytes;
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
        answers: Mutex<VecDeque<Answer>>,
        written: Arc<Mutex<Vec<WriteBatch>>>,
    }

    enum Answer {
        Full,
        Failed,
    }

    #[async_trait]
    impl Storage for Scripted {
        async fn recover(&self, _: ClusterId, _: NodeId) -> Result<Recovered, StorageError> {
            Err(StorageError::Failed)
        }

        fn write(&self, batch: WriteBatch) -> Write {
            let answer = self.answers.lock().expect("no panic").pop_front();
            let written = self.written.clone();
            Write::under_way(async move {
                // As on a disk, nothing is done at once.
                tokio::task::yield_now().await;
                match answer {
                    Some(Answer::Full) => {
                        Err(WriteError::Full { path: "here".to_owned(), batch: Box::new(batch) })
                    }
                    Some(Answer::Failed) => Err(StorageError::Failed.into()),
                    None => {
                        written.lock().expect("no panic").push(batch);
                        Ok(())
                    }
                }
            })
        }

        async fn read(
            &self,
            _: RangeInclusive<Slot>,
            _: usize,
        ) -> Result<Vec<Record>, StorageError> {
            Err(StorageError::Failed)
        }

        async fn read_state(&self, _: Slot, _: u64, _: usize) -> Result<Bytes, StorageError> {
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

    fn written(last: u64) -> Result<Progress, StorageError> {
        Ok(Progress::Written { last: Some(WriteId(last)), room_again: false })
    }

    async fn progress(writer: &mut Writer) -> Result<Progress, StorageError> {
        std::future::poll_fn(|cx| writer.poll_progress(cx)).await
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
        assert_eq!(progress(&mut writer).await, written(1));
        assert_eq!(progress(&mut writer).await, written(3));
        assert_eq!(slots(&storage), [vec![1], vec![2, 3]]);
        assert_eq!(storage.written.lock().expect("no panic")[1].peers.len(), 1);
        assert!(progress(&mut writer).now_or_never().is_none(), "nothing is left to write");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_meets_a_full_disk_is_written_before_any_other_once_there_is_room() {
        let storage = Arc::new(Scripted::default());
        storage.answers.lock().expect("no panic").extend([Answer::Full, Answer::Full]);
        let mut writer = Writer::new(storage.clone());
        let start = tokio::time::Instant::now();
        writer.push(Some(WriteId(1)), record(1));
        writer.push(Some(WriteId(2)), record(2));
        assert_eq!(
            progress(&mut writer).await,
            Ok(Progress::Full),
            "told once, not at every attempt"
        );
        let room = Progress::Written { last: Some(WriteId(1)), room_again: true };
        assert_eq!(progress(&mut writer).await, Ok(room));
        assert_eq!(start.elapsed().as_secs(), 2, "one attempt a second");
        assert_eq!(progress(&mut writer).await, written(2));
        assert_eq!(slots(&storage), [vec![1], vec![2]]);
    }

    #[tokio::test]
    async fn any_other_failure_is_final() {
        let storage = Arc::new(Scripted::default());
        storage.answers.lock().expect("no panic").push_back(Answer::Failed);
        let mut writer = Writer::new(storage.clone());
        writer.push(Some(WriteId(1)), record(1));
        writer.push(Some(WriteId(2)), record(2));
        assert_eq!(progress(&mut writer).await, Err(StorageError::Failed));
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
}
