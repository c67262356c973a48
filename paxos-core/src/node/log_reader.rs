//! Reads of the log, a few at a time, so that catching up does not crowd out the writes.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use crate::{
    message::Record,
    port::{Storage, StorageError},
    replica::{LogRead, LogReadId},
};

/// Reads under way at once: each may return a page and a value beyond it.
const READS_AT_ONCE_MAX: usize = 4;

type LogReadAnswer = Result<(LogReadId, Vec<Record>), StorageError>;

/// Owns the reads of the log. How many may wait is the replica's affair: it asks once per peer that
/// catches up, and again when it has the answer.
pub(super) struct LogReader {
    storage: Arc<dyn Storage>,
    waiting: VecDeque<LogRead>,
    under_way: FuturesUnordered<BoxFuture<'static, LogReadAnswer>>,
}

impl LogReader {
    pub(super) fn new(storage: Arc<dyn Storage>) -> LogReader {
        LogReader { storage, waiting: VecDeque::new(), under_way: FuturesUnordered::new() }
    }

    pub(super) fn push(&mut self, read: LogRead) {
        self.waiting.push_back(read);
        self.start();
    }

    /// Waits for the next answer, in any order; forever if nothing was asked.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<LogReadAnswer> {
        if self.under_way.is_empty() {
            return Poll::Pending;
        }
        match self.under_way.poll_next_unpin(cx) {
            Poll::Ready(Some(outcome)) => {
                self.start();
                Poll::Ready(outcome)
            }
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn start(&mut self) {
        while self.under_way.len() < READS_AT_ONCE_MAX {
            let Some(LogRead { id, slots, bytes_max }) = self.waiting.pop_front() else { return };
            let storage = Arc::clone(&self.storage);
            self.under_way.push(Box::pin(async move {
                let records = storage.read(slots, bytes_max).await?;
                Ok((id, records))
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        ops::RangeInclusive,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures::FutureExt;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::{
        port::{Recovered, Write, WriteBatch},
        types::{ClusterId, NodeId, Slot},
    };

    /// A storage whose reads wait for a permit each.
    struct Gated {
        permits: Semaphore,
        begun: AtomicUsize,
    }

    #[async_trait]
    impl Storage for Gated {
        async fn recover(&self, _: ClusterId, _: NodeId) -> Result<Recovered, StorageError> {
            Err(StorageError::Failed)
        }

        fn write(&self, _: WriteBatch) -> Write {
            Write::Done(Err(StorageError::Failed.into()))
        }

        async fn read(
            &self,
            _: RangeInclusive<Slot>,
            _: usize,
        ) -> Result<Vec<Record>, StorageError> {
            self.begun.fetch_add(1, Ordering::Relaxed);
            self.permits.acquire().await.expect("not closed").forget();
            Ok(Vec::new())
        }

        async fn read_state(&self, _: Slot, _: u64, _: usize) -> Result<Bytes, StorageError> {
            Err(StorageError::Failed)
        }

        async fn close(&self) {}
    }

    async fn next(reader: &mut LogReader) -> LogReadAnswer {
        std::future::poll_fn(|cx| reader.poll_next(cx)).await
    }

    #[tokio::test]
    async fn a_few_reads_are_under_way_and_the_others_follow() {
        let storage = Arc::new(Gated { permits: Semaphore::new(0), begun: AtomicUsize::new(0) });
        let mut reader = LogReader::new(storage.clone());
        for id in 0..6 {
            reader.push(LogRead { id: LogReadId(id), slots: Slot(1)..=Slot(2), bytes_max: 1 });
        }
        assert!(next(&mut reader).now_or_never().is_none());
        assert_eq!(storage.begun.load(Ordering::Relaxed), READS_AT_ONCE_MAX);
        storage.permits.add_permits(6);
        let mut answered = Vec::new();
        for _ in 0..6 {
            let (LogReadId(id), records) = next(&mut reader).await.expect("a read");
            assert_eq!(records, []);
            answered.push(id);
        }
        answered.sort_unstable();
        assert_eq!(answered, [0, 1, 2, 3, 4, 5]);
        assert!(next(&mut reader).now_or_never().is_none(), "nothing is left to read");
    }
}
