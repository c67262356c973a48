//! A log in memory that forgets what is old, as the peers' logs do in a comparison.
//!
//! It is no storage to run a service on: a node that starts again finds nothing.

use std::{
    collections::VecDeque,
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use paxos_core::{
    message::{Record, Watermark},
    port::{Recovered, SessionCheckpoint, Storage, StorageError, Write, WriteBatch},
    types::{Ballot, ClusterId, Identity, NodeId, Slot, StoreId},
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
    newest: VecDeque<Record>,
    bytes: usize,
    /// The last slot that has been forgotten.
    trimmed: Slot,
}

impl TrimmedLog {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for TrimmedLog {
    async fn recover(&self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        Ok(Recovered {
            identity: Identity { cluster, node, store: StoreId(node.0) },
            incarnation: 1,
            promised: Ballot::ZERO,
            chosen: Watermark::default(),
            floor: Slot::ZERO,
            records: Vec::new(),
            sessions: SessionCheckpoint::default(),
            peers: [].into(),
        })
    }

    fn write(&self, batch: WriteBatch) -> Write {
        let mut records = self.records();
        for record in batch.records {
            records.bytes += record.value.encoded_len();
            records.newest.push_back(record);
        }
        while records.bytes > KEPT_BYTES
            && let Some(oldest) = records.newest.pop_front()
        {
            records.bytes -= oldest.value.encoded_len();
            records.trimmed = records.trimmed.max(oldest.slot);
        }
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
        // Of a slot that was written twice, the later record counts.
        let mut newest: Vec<&Record> =
            records.newest.iter().filter(|record| slots.contains(&record.slot)).collect();
        newest.reverse();
        newest.sort_by_key(|record| record.slot);
        newest.dedup_by_key(|record| record.slot);
        let mut bytes = 0;
        let fits = |record: &&Record| {
            let is_first_beyond = bytes < bytes_max;
            bytes += record.value.encoded_len();
            is_first_beyond
        };
        Ok(newest.into_iter().take_while(fits).cloned().collect())
    }

    async fn close(&self) {}
}

#[cfg(test)]
mod tests {
    use paxos_core::types::{BatchBuilder, ClientId, RequestId, Value};

    use super::*;

    fn record(slot: u64, size: usize) -> Record {
        let mut builder = BatchBuilder::default();
        let client = ClientId { name: 1, epoch: 1 };
        builder.push(RequestId { client, sequence: slot }, 1, vec![7; size]);
        let value = Value::Batch(builder.build().expect("a command"));
        Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value }
    }

    #[tokio::test]
    async fn it_keeps_the_newest_records_and_says_what_is_gone() {
        let log = TrimmedLog::default();
        let size = KEPT_BYTES / 4;
        for slot in [1, 2, 3, 4, 3, 5] {
            let batch = WriteBatch { records: vec![record(slot, size)], ..WriteBatch::default() };
            assert!(matches!(log.write(batch), Write::Done(Ok(()))));
        }
        assert!(log.read(Slot(2)..=Slot(9), 1).await.is_err());
        let slots = |records: Vec<Record>| records.iter().map(|r| r.slot.0).collect::<Vec<_>>();
        assert_eq!(slots(log.read(Slot(4)..=Slot(9), usize::MAX).await.expect("kept")), [4, 5]);
        assert_eq!(slots(log.read(Slot(4)..=Slot(9), 1).await.expect("kept")), [4]);
    }
}
