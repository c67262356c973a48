//! The log and the vote of a node, in memory.

use std::{
    collections::VecDeque,
    fmt::Debug,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::openraft::{
    Entry, LogId, LogState, OptionalSend, RaftLogReader, StorageError, Vote,
    storage::{LogFlushed, RaftLogStorage},
};

use super::Types;

/// A handle; clones stand for the same log.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// Without gaps, by index.
    entries: VecDeque<Entry<Types>>,
    purged: Option<LogId<u64>>,
    vote: Option<Vote<u64>>,
}

impl Inner {
    /// The index of the first entry that is there, or would be.
    fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    /// How many entries are below this index.
    fn below(&self, index: u64) -> usize {
        let below = usize::try_from(index.saturating_sub(self.first())).unwrap_or(usize::MAX);
        below.min(self.entries.len())
    }
}

impl Log {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError<u64>> {
        let inner = self.inner();
        let from = match range.start_bound() {
            Bound::Included(index) => inner.below(*index),
            Bound::Excluded(index) => inner.below(index + 1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => inner.below(index + 1),
            Bound::Excluded(index) => inner.below(*index),
            Bound::Unbounded => inner.entries.len(),
        };
        Ok(inner.entries.range(from..to.max(from)).cloned().collect())
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<u64>> {
        let inner = self.inner();
        let last = inner.entries.back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: last.or(inner.purged) })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        self.inner().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        Ok(self.inner().vote)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.inner().entries.extend(entries);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let mut inner = self.inner();
        let kept = inner.below(log_id.index);
        inner.entries.truncate(kept);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let mut inner = self.inner();
        let purged = inner.below(log_id.index + 1);
        inner.entries.drain(..purged);
        inner.purged = Some(log_id);
        Ok(())
    }
}
