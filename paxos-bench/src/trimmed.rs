//! A log in memory that forgets what is old, as the peers' logs do in a comparison.
//!
//! It is no storage to run a service on: a node that starts again finds nothing.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{
    message::Record,
    port::{Recovered, Storage, StorageError, Write, WriteBatch, cut_off},
    types::{ClusterId, Identity, NodeId, Slot, StoreId},
};

/// Bytes of values that are kept: as many as the replica itself keeps for peers that lag.
const KEPT_BYTES: usize = paxos_core::limits::CACHE_BYTES_MAX;

/// What errors call it.
const PATH: &str = "the trimmed log";

/// A log that keeps its newest records only.
#[derive(Debug, Default)]
pub(crate) struct TrimmedLog {
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    /// In ascending order of slots, one of each. In memory side by side: almost every record is
    /// appended, and what that costs counts in what is measured.
    newest: VecDeque<Record>,
    bytes: usize,
    /// The last slot that has been forgotten.
    trimmed: Slot,
}

impl Records {
    /// Replaces the record of a slot, if there is one.
    fn insert(&mut self, record: Record) {
        self.bytes += record.value.encoded_len();
        if self.newest.back().is_none_or(|last| last.slot < record.slot) {
            return self.newest.push_back(record);
        }
        match self.newest.binary_search_by_key(&record.slot, |record| record.slot) {
            Ok(place) => {
                let replaced = std::mem::replace(&mut self.newest[place], record);
                self.bytes -= replaced.value.encoded_len();
            }
            Err(place) => self.newest.insert(place, record),
        }
    }

    /// Forgets the lowest slots, as many as are too much.
    fn trim(&mut self) {
        while self.bytes > KEPT_BYTES
            && let Some(oldest) = self.newest.pop_front()
        {
            self.bytes -= oldest.value.encoded_len();
            self.trimmed = self.trimmed.max(oldest.slot);
        }
    }
}

impl TrimmedLog {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for TrimmedLog {
    async fn recover(&self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        Ok(Recovered::first(Identity { cluster, node, store: StoreId(node.0) }))
    }

    fn write(&self, batch: WriteBatch) -> Write {
        let mut records = self.records();
        for record in batch.records {
            records.insert(record);
        }
        records.trim();
        Write::Done(Ok(()))
    }

    async fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        let records = self.records();
        if *slots.start() <= records.trimmed {
            let reason = format!("slot {} is no longer there", slots.start());
            return Err(StorageError::Io { operation: "read", path: PATH.to_owned(), reason });
        }
        let first = records.newest.partition_point(|record| record.slot < *slots.start());
        let found = records.newest.range(first..).take_while(|record| slots.contains(&record.slot));
        cut_off(found.cloned().map(Ok), bytes_max)
    }

    async fn read_state(&self, slot: Slot, _: u64, _: usize) -> Result<Bytes, StorageError> {
        let reason = format!("no states are kept, neither that as of slot {slot}");
        Err(StorageError::Io { operation: "read", path: PATH.to_owned(), reason })
    }

    async fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use paxos_core::types::{Ballot, BatchBuilder, ClientId, RequestId, Value};

    use super::*;

    fn record(slot: u64, size: usize) -> Record {
        let mut builder = BatchBuilder::default();
        let client = ClientId { name: 1, epoch: 1 };
        builder.push(RequestId { client, sequence: slot }, 1, vec![7; size]);
        let value = Value::Batch(builder.build().expect("a command"));
        Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value }
    }

    fn write(log: &TrimmedLog, record: Record) {
        let batch = WriteBatch { records: vec![record], ..WriteBatch::default() };
        assert!(matches!(log.write(batch), Write::Done(Ok(()))));
    }

    async fn slots(log: &TrimmedLog, first: u64, last: u64, bytes_max: usize) -> Vec<u64> {
        let records = log.read(Slot(first)..=Slot(last), bytes_max).await.expect("kept");
        records.iter().map(|record| record.slot.0).collect()
    }

    #[tokio::test]
    async fn it_keeps_the_newest_records_and_says_what_is_gone() {
        let log = TrimmedLog::default();
        for slot in [1, 2, 3, 4, 3, 5] {
            write(&log, record(slot, KEPT_BYTES / 4));
        }
        assert!(log.read(Slot(2)..=Slot(9), 1).await.is_err());
        assert_eq!(slots(&log, 3, 9, usize::MAX).await, [3, 4, 5]);
        assert_eq!(slots(&log, 4, 9, 1).await, [4]);
    }

    #[tokio::test]
    async fn it_finds_slots_in_order_and_the_last_record_of_each() {
        let log = TrimmedLog::default();
        for slot in [1, 7, 3, 5] {
            write(&log, record(slot, 1));
        }
        write(&log, record(3, 2));
        assert_eq!(slots(&log, 1, 9, usize::MAX).await, [1, 3, 5, 7]);
        assert_eq!(slots(&log, 2, 6, usize::MAX).await, [3, 5]);
        assert!(slots(&log, 8, 9, usize::MAX).await.is_empty());
        assert!(slots(&log, 5, 3, usize::MAX).await.is_empty());
        assert_eq!(log.read(Slot(3)..=Slot(3), 1).await, Ok(vec![record(3, 2)]));
        let kept: usize = log.records().newest.iter().map(|it| it.value.encoded_len()).sum();
        assert_eq!(log.records().bytes, kept);
    }
}
