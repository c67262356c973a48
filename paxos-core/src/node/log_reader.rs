//! Reads of the log, a few at a time, so that catching up does not crowd out the writes.

use std::{collections::VecDeque, sync::Arc};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use crate::{
    message::Record,
    port::{Storage, StorageError},
    replica::{LogRead, LogReadId},
};

/// Reads under way at once: each may return a page and a value beyond it.
const READS_AT_ONCE_MAX: usize = 4;

type Outcome = Result<(LogReadId, Vec<Record>), StorageError>;

/// Owns the reads of the log. How many may wait is the replica's affair: it asks once per peer that
/// catches up, and again when it has the answer.
pub(super) struct LogReader {
    storage: Arc<dyn Storage>,
    waiting: VecDeque<LogRead>,
    under_way: FuturesUnordered<BoxFuture<'static, Outcome>>,
}

impl LogReader {
    pub(super) fn new(storage: Arc<dyn Storage>) -> LogReader {
        LogReader { storage, waiting: VecDeque::new(), under_way: FuturesUnordered::new() }
    }

    pub(super) fn push(&mut self, read: LogRead) {
        self.waiting.push_back(read);
        self.start();
    }

    /// Waits for the next answer, in any order; forever if nothing was asked. Cancel safe.
    pub(super) async fn next(&mut self) -> Outcome {
        match self.under_way.next().await {
            Some(outcome) => {
                self.start();
                outcome
            }
            None => std::future::pending().await,
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
