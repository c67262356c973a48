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
            Fault::FailedSync => self.0.fail_next_write(),
            Fault::Damage(slot) => self.0.damage(slot),
            Fault::Loss(slot) => self.0.lose(slot),
        }
        true
    }
}

fn assert_complete(report: &Report) {
    assert_eq!(report.skipped, [""; 0]);
    assert_eq!(report.passed.len(), 18);
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

#[tokio::test]
async fn redb_keeps_the_contract_in_a_directory() {
    let report = conformance::check(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        move || RedbStorage::open(directory.path().join("data"))
    })
    .await;
    assert_eq!(report.passed.len() + report.skipped.len(), 18);
    assert_eq!(report.passed.len(), 12, "{report:?}");
}
