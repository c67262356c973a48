//! Every backend passes the suite, with every fault its disk can have.
#![cfg(all(feature = "memory", feature = "redb"))]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use paxos_core::port::{Storage, StorageError};
use paxos_storage::{
    MemoryStorage, RedbStorage,
    conformance::{self, Disk, Fault, Outcome, Report},
};

use support::SimulatedDisk;

struct MemoryDisk(MemoryStorage);

#[async_trait]
impl Disk for MemoryDisk {
    async fn open(&self) -> Result<Arc<dyn Storage>, StorageError> {
        Ok(Arc::new(self.0.clone()))
    }

    fn inject(&self, fault: Fault) -> bool {
        match fault {
            Fault::PowerCut => self.0.crash(),
            Fault::PowerCutDuringWrite { operations } => {
                self.0.cut_power_during_next_write(operations);
            }
            Fault::Full(full) => self.0.set_full(full),
            Fault::FailedSync { syncs: 0 } => self.0.fail_next_write(),
            // A write has one.
            Fault::FailedSync { .. } => {}
            Fault::Damage(slot) => self.0.damage(slot),
            Fault::Loss(slot) => self.0.lose(slot),
        }
        true
    }
}

fn assert_complete(report: &Report) {
    assert_eq!(report.skipped, [""; 0]);
    assert_eq!(report.passed.len(), 26);
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let report = conformance::check(|| MemoryDisk(MemoryStorage::new())).await;
    assert_complete(&report);
}

#[tokio::test]
async fn redb_keeps_the_contract_on_a_disk_with_faults() {
    let seed = AtomicU64::new(0);
    let new_disk = || SimulatedDisk::new(seed.fetch_add(1, Ordering::Relaxed));
    assert_complete(&conformance::check(new_disk).await);
}

/// Which sectors a power cut spares is a matter of the seed.
#[tokio::test]
async fn redb_writes_are_atomic_whatever_a_power_cut_spares() {
    let seed = AtomicU64::new(1000);
    for _ in 0..30 {
        let new_disk = || SimulatedDisk::new(seed.fetch_add(1, Ordering::Relaxed));
        assert_eq!(conformance::writes_are_atomic(new_disk).await, Outcome::Passed);
    }
}

/// So is what a failed sync spares.
#[tokio::test]
async fn redb_stands_upon_nothing_that_a_failed_sync_has_lost() {
    let seed = AtomicU64::new(2000);
    for _ in 0..30 {
        let new_disk = || SimulatedDisk::new(seed.fetch_add(1, Ordering::Relaxed));
        assert_eq!(conformance::a_failed_sync_is_final(new_disk).await, Outcome::Passed);
    }
}

#[tokio::test]
async fn redb_keeps_the_contract_in_a_directory() {
    let report = conformance::check(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        move || RedbStorage::open(directory.path().join("data"))
    })
    .await;
    assert_eq!(report.passed.len() + report.skipped.len(), 26);
    assert_eq!(report.passed.len(), 18, "{report:?}");
}

/// Storages that break their contract, for the suite to notice.
mod broken {
    use std::ops::RangeInclusive;

    use bytes::Bytes;
    use paxos_core::{
        message::Record,
        port::{Recovered, Write, WriteBatch, WriteError},
        types::{ClusterId, NodeId, Slot},
    };

    use super::*;

    #[derive(Clone, Copy)]
    enum Flaw {
        /// A write begins when somebody waits for it.
        BeginsLate,
        /// What comes back from a full disk has lost its records.
        KeepsRecords,
        /// A checkpoint takes effect with a write of its own.
        InstallsByItself,
        /// Memberships take effect with a write of their own.
        WritesMembershipsByThemselves,
        /// No memberships are not written.
        KeepsMembershipsForNone,
        /// A state that is gone reads as the one that took its place.
        ReadsWhateverIsThere,
    }

    struct Broken(Arc<MemoryStorage>, Flaw);

    #[async_trait]
    impl Storage for Broken {
        async fn recover(
            &self,
            cluster: ClusterId,
            node: NodeId,
        ) -> Result<Recovered, StorageError> {
            self.0.recover(cluster, node).await
        }

        fn write(&self, batch: WriteBatch) -> Write {
            let (storage, flaw) = (self.0.clone(), self.1);
            match flaw {
                Flaw::BeginsLate => Write::under_way(async move { storage.write(batch).await }),
                Flaw::KeepsRecords => match storage.write(batch) {
                    Write::Done(Err(WriteError::Full { path, mut batch })) => {
                        batch.records.clear();
                        Write::Done(Err(WriteError::Full { path, batch }))
                    }
                    write => write,
                },
                Flaw::InstallsByItself if batch.floor.is_none() => storage.write(batch),
                Flaw::InstallsByItself => {
                    let (checkpoint, floor) = (batch.checkpoint.clone(), batch.floor);
                    let first = WriteBatch { checkpoint, floor, ..WriteBatch::default() };
                    let rest = WriteBatch { checkpoint: None, floor: None, ..batch };
                    match storage.write(first) {
                        Write::Done(Ok(())) if !rest.is_empty() => storage.write(rest),
                        write => write,
                    }
                }
                Flaw::WritesMembershipsByThemselves if batch.memberships.is_some() => {
                    let memberships = batch.memberships.clone();
                    let first = WriteBatch { memberships, ..WriteBatch::default() };
                    match storage.write(first) {
                        Write::Done(Ok(())) => {
                            storage.write(WriteBatch { memberships: None, ..batch })
                        }
                        write => write,
                    }
                }
                Flaw::KeepsMembershipsForNone => {
                    let memberships = batch.memberships.clone().filter(|it| !it.is_empty());
                    storage.write(WriteBatch { memberships, ..batch })
                }
                Flaw::WritesMembershipsByThemselves | Flaw::ReadsWhateverIsThere => {
                    storage.write(batch)
                }
            }
        }

        async fn read(
            &self,
            slots: RangeInclusive<Slot>,
            bytes_max: usize,
        ) -> Result<Vec<Record>, StorageError> {
            self.0.read(slots, bytes_max).await
        }

        async fn read_state(
            &self,
            slot: Slot,
            offset: u64,
            bytes_max: usize,
        ) -> Result<Bytes, StorageError> {
            let found = self.0.read_state(slot, offset, bytes_max).await?;
            match self.1 {
                Flaw::ReadsWhateverIsThere if found.is_empty() => {
                    self.0.read_state(Slot(9), offset, bytes_max).await
                }
                _ => Ok(found),
            }
        }

        async fn close(&self) {
            self.0.close().await;
        }
    }

    struct BrokenDisk(MemoryStorage, Flaw);

    #[async_trait]
    impl Disk for BrokenDisk {
        async fn open(&self) -> Result<Arc<dyn Storage>, StorageError> {
            Ok(Arc::new(Broken(Arc::new(self.0.clone()), self.1)))
        }

        fn inject(&self, fault: Fault) -> bool {
            MemoryDisk(self.0.clone()).inject(fault)
        }
    }

    #[tokio::test]
    #[should_panic(expected = "3 (ordered)")]
    async fn a_write_that_begins_late_is_noticed() {
        let new_disk = || BrokenDisk(MemoryStorage::new(), Flaw::BeginsLate);
        let _ = conformance::writes_take_effect_in_order(new_disk).await;
    }

    #[tokio::test]
    #[should_panic(expected = "2 (atomic)")]
    async fn a_checkpoint_that_takes_effect_by_itself_is_noticed() {
        let new_disk = || BrokenDisk(MemoryStorage::new(), Flaw::InstallsByItself);
        let _ = conformance::a_state_is_installed_whole_or_not_at_all(new_disk).await;
    }

    #[tokio::test]
    #[should_panic(expected = "2 (atomic)")]
    async fn memberships_that_take_effect_by_themselves_are_noticed() {
        let new_disk = || BrokenDisk(MemoryStorage::new(), Flaw::WritesMembershipsByThemselves);
        let _ = conformance::writes_are_atomic(new_disk).await;
    }

    #[tokio::test]
    #[should_panic(expected = "4, for memberships")]
    async fn memberships_that_outlive_their_replacement_are_noticed() {
        let new_disk = || BrokenDisk(MemoryStorage::new(), Flaw::KeepsMembershipsForNone);
        let _ = conformance::the_last_memberships_win(new_disk).await;
    }

    #[tokio::test]
    #[should_panic(expected = "5, while a state takes the place of another")]
    async fn a_state_that_reads_as_another_is_noticed() {
        let new_disk = || BrokenDisk(MemoryStorage::new(), Flaw::ReadsWhateverIsThere);
        let _ = conformance::a_state_is_read_while_another_takes_its_place(new_disk).await;
    }

    #[tokio::test]
    #[should_panic(expected = "the batch comes back unchanged")]
    async fn a_batch_that_comes_back_changed_is_noticed() {
        let new_disk = || BrokenDisk(MemoryStorage::new(), Flaw::KeepsRecords);
        let _ = conformance::a_full_disk_is_survived(new_disk).await;
    }
}
