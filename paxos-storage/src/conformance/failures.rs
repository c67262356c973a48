//! What a storage does when the disk fails it: guarantees 1 to 3, 6, 8 and 9.

use std::sync::Arc;

use paxos_core::{
    message::Watermark,
    port::{Storage, StorageError, WriteBatch, WriteError},
    types::Slot,
};

use super::{
    CLUSTER, Disk, Fault, NODE, OPERATIONS_MAX, Outcome, expect_state, full_batch, holds,
    memberships, read_all, record, records, restart, start,
};

/// Guarantee 1 against a power cut instead of a proper end.
pub async fn acknowledged_writes_survive_a_power_cut<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (mut storage, first) = start(&disk).await;
    let mut written = Vec::new();
    let mut incarnation = first.incarnation;
    for round in 0..8 {
        let batch = full_batch(round * 10 + 1, round + 1);
        storage.write(batch.clone()).await.expect("a write");
        written.push(batch);
        if !disk.inject(Fault::PowerCut) {
            return Outcome::Skipped;
        }
        let dead = storage.write(full_batch(1, 99)).await;
        assert!(dead.is_err(), "what was open before a power cut cannot write after it");
        drop(storage);
        let (again, recovered) = start(&disk).await;
        let all: Vec<&WriteBatch> = written.iter().collect();
        expect_state(&recovered, &all, "1 (durable) across power cuts");
        assert!(recovered.incarnation > incarnation, "the incarnation survives power cuts");
        incarnation = recovered.incarnation;
        storage = again;
    }
    Outcome::Passed
}

/// Guarantees 2 and 3: the power fails after every single operation of a write.
pub async fn writes_are_atomic<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let (first, second) = (full_batch(1, 1), full_batch(6, 2));
    let (mut lost, mut kept) = (0, 0);
    for operations in 0..OPERATIONS_MAX {
        let disk = new_disk();
        let (storage, _) = start(&disk).await;
        storage.write(first.clone()).await.expect("a write");
        if !disk.inject(Fault::PowerCutDuringWrite { operations }) {
            return Outcome::Skipped;
        }
        let acknowledged = storage.write(second.clone()).await.is_ok();
        let cut = disk.inject(Fault::PowerCut);
        assert!(cut, "a disk that fails during a write also fails after it");
        drop(storage);
        let (storage, recovered) = start(&disk).await;
        let complete = holds(&recovered, &[&first, &second]);
        if acknowledged {
            assert!(complete, "1 (durable): a write of {operations} operations is lost");
            assert!(lost > 0, "the power never failed before a write was durable");
            tracing::debug!(lost, kept, "power cuts during a write");
            return Outcome::Passed;
        }
        if complete {
            kept += 1;
        } else {
            lost += 1;
            expect_state(&recovered, &[&first], "2 (atomic): half a write after a power cut");
        }
        // Whatever the cut left behind must not be in the way of what follows.
        let third = full_batch(11, 3);
        storage.write(third.clone()).await.expect("a write after a power cut");
        let (_storage, recovered) = restart(&disk, storage).await;
        assert_eq!(recovered.promised, super::ballot(3), "1: a write after a power cut");
    }
    panic!("a single write takes more than {OPERATIONS_MAX} operations");
}

/// Guarantee 8, for every sync of a write; and guarantee 1 for what is found after it, which may have
/// been in the page cache alone.
pub async fn a_failed_sync_is_final<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let (first, second, third) = (full_batch(1, 1), full_batch(11, 2), full_batch(21, 3));
    for syncs in 0..OPERATIONS_MAX {
        let disk = new_disk();
        let (storage, _) = start(&disk).await;
        storage.write(first.clone()).await.expect("a write");
        if !disk.inject(Fault::FailedSync { syncs }) {
            return Outcome::Skipped;
        }
        let failed = storage.write(second.clone()).await;
        if failed.is_ok() {
            assert!(syncs > 0, "8: a failed sync is not reported");
            return Outcome::Passed;
        }
        assert!(
            matches!(failed, Err(WriteError::Failed(StorageError::Io { .. }))),
            "8: a failed sync is reported as one: {failed:?}"
        );
        for _ in 0..3 {
            let refused = storage.write(second.clone()).await;
            let refused = refused.expect_err("8 (failure is final): a write after a failed sync");
            assert!(matches!(refused, WriteError::Failed(_)), "8: {refused}");
        }
        let (storage, recovered) = restart(&disk, storage).await;
        let mut there = vec![&first];
        if holds(&recovered, &[&first, &second]) {
            there.push(&second);
        }
        expect_state(&recovered, &there, "2 (atomic) after a failed sync");
        let storage = restart_without_power(&disk, storage, &there).await;
        storage.write(third.clone()).await.expect("8: after a restart, writing goes on");
        there.push(&third);
        restart_without_power(&disk, storage, &there).await;
    }
    panic!("a single write takes more than {OPERATIONS_MAX} syncs");
}

/// Cuts the power, if the disk can, and expects `there` all the same.
async fn restart_without_power<D: Disk>(
    disk: &D,
    storage: Arc<dyn Storage>,
    there: &[&WriteBatch],
) -> Arc<dyn Storage> {
    disk.inject(Fault::PowerCut);
    drop(storage);
    let (storage, recovered) = start(disk).await;
    expect_state(&recovered, there, "1 (durable): what was found or written after a failed sync");
    storage
}

/// Guarantee 9: a full disk, twice, and room again; the batch refused may be written or not.
pub async fn a_full_disk_is_survived<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    let (first, second, third) = (full_batch(1, 1), full_batch(11, 2), full_batch(21, 3));
    storage.write(first.clone()).await.expect("a write");
    let of_memberships =
        WriteBatch { memberships: Some(memberships(9, 60)), ..WriteBatch::default() };
    let fourth = WriteBatch { memberships: None, ..full_batch(31, 4) };
    // The first batch refused is written in the end; of the others nothing may be left.
    for (refused, written) in
        [(&second, &second), (&full_batch(16, 4), &third), (&of_memberships, &fourth)]
    {
        if !disk.inject(Fault::Full(true)) {
            return Outcome::Skipped;
        }
        let before = read_all(&*storage).await;
        let mut batch = refused.clone();
        for _ in 0..3 {
            match storage.write(batch).await {
                Err(WriteError::Full { batch: back, .. }) => batch = *back,
                other => panic!("9 (full): {other:?}"),
            }
            assert_eq!(&batch, refused, "9 (full): the batch comes back unchanged");
            let read = read_all(&*storage).await;
            assert_eq!(read, before, "9 (full): a refused write changes nothing");
        }
        disk.inject(Fault::Full(false));
        storage.write(written.clone()).await.expect("9 (full): writing goes on when there is room");
    }
    storage.close().await;
    drop(storage);
    disk.inject(Fault::Full(true));
    let storage = disk.open().await.expect("9 (full): opening needs no room");
    let started = storage.recover(CLUSTER, NODE).await;
    assert!(
        matches!(started, Ok(_) | Err(StorageError::Full { .. })),
        "9 (full): a start without room says so: {started:?}"
    );
    disk.inject(Fault::Full(false));
    let (_storage, recovered) = restart(&disk, storage).await;
    expect_state(&recovered, &[&first, &second, &third, &fourth], "9 (full)");
    Outcome::Passed
}

/// Guarantee 6 for a record that cannot be read.
pub async fn a_damaged_record_is_an_error<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let batch = WriteBatch {
        chosen: Some(Watermark { slot: Slot(5), hash: 1 }),
        records: records(1..=8, 1),
        ..WriteBatch::default()
    };
    for slot in [3, 7] {
        let disk = new_disk();
        let (storage, _) = start(&disk).await;
        storage.write(batch.clone()).await.expect("a write");
        storage.close().await;
        drop(storage);
        if !disk.inject(Fault::Damage(Slot(slot))) {
            return Outcome::Skipped;
        }
        let error = match disk.open().await {
            Err(error) => error,
            Ok(storage) => match storage.recover(CLUSTER, NODE).await {
                Err(error) => error,
                Ok(_) => {
                    assert!(slot <= 5, "6: a start notices damage above the watermark");
                    let sound = storage.read(Slot(1)..=Slot(2), usize::MAX).await;
                    assert_eq!(sound, Ok(records(1..=2, 1)), "6: sound records can be read");
                    let read = storage.read(Slot(1)..=Slot(5), usize::MAX).await;
                    read.expect_err("6 (unreadable is an error): a read of a damaged record")
                }
            },
        };
        expect_damage(&error, slot);
    }
    Outcome::Passed
}

/// Guarantee 6 for a chosen record that is not there any more.
pub async fn a_missing_record_is_an_error<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    for slot in [1, 3, 5] {
        let disk = new_disk();
        let (storage, _) = start(&disk).await;
        let batch = WriteBatch {
            chosen: Some(Watermark { slot: Slot(5), hash: 1 }),
            records: vec![record(9, 1)].into_iter().chain(records(1..=5, 1)).collect(),
            ..WriteBatch::default()
        };
        storage.write(batch).await.expect("a write");
        storage.close().await;
        drop(storage);
        if !disk.inject(Fault::Loss(Slot(slot))) {
            return Outcome::Skipped;
        }
        let started = match disk.open().await {
            Err(error) => Err(error),
            Ok(storage) => storage.recover(CLUSTER, NODE).await,
        };
        let error = started.expect_err("6 (unreadable is an error): a start on a log with a hole");
        expect_damage(&error, slot);
    }
    Outcome::Passed
}

fn expect_damage(error: &StorageError, slot: u64) {
    let StorageError::Damaged { what, .. } = error else {
        panic!("6 (unreadable is an error): not as damage, but as {error:?}");
    };
    assert!(what.contains(&slot.to_string()), "6: the error does not name slot {slot}: {what}");
}
