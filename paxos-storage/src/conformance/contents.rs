//! What is written is what is found: guarantees 1 and 3 to 5, and the limits of a read.

use bytes::Bytes;
use paxos_core::{
    message::{Record, Watermark},
    port::WriteBatch,
    types::{Ballot, NodeId, Slot, StoreId, Value},
};

use super::{
    CLUSTER, Disk, NODE, Outcome, ballot, checkpoint, expect_state, full_batch, image_after,
    log_of, memberships, read_all, record, records, restart, start, value,
};

/// A new storage promises nothing, has no log and bears the names it was given.
pub async fn starts_empty<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, recovered) = start(&disk).await;
    expect_state(&recovered, &[], "a new storage is empty");
    assert_eq!(recovered.incarnation, 1, "incarnations count from 1");
    assert_eq!((recovered.identity.cluster, recovered.identity.node), (CLUSTER, NODE));
    assert_eq!(read_all(&*storage).await, [], "a new log is empty");
    storage.write(WriteBatch::default()).await.expect("an empty batch can be written");
    let (_storage, recovered) = restart(&disk, storage).await;
    expect_state(&recovered, &[], "an empty batch changes nothing");
    Outcome::Passed
}

/// Guarantee 1, for everything a batch can hold.
pub async fn everything_survives_a_restart<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    let (first, second) = (full_batch(1, 1), full_batch(11, 2));
    storage.write(first.clone()).await.expect("1: a write");
    storage.write(second.clone()).await.expect("1: a write");
    let (storage, recovered) = restart(&disk, storage).await;
    expect_state(&recovered, &[&first, &second], "1 (durable)");
    let expected = log_of(&image_after([&first, &second]));
    let log = read_all(&*storage).await;
    assert_eq!(log, expected, "1 (durable): the log below the watermark");
    Outcome::Passed
}

/// Guarantee 3: in the order of the calls, whoever waits for what.
pub async fn writes_take_effect_in_order<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    // All of them write the same slots, in any order.
    let batches = [1, 2, 3, 4, 5].map(|seed| {
        let (state, checkpoint) = (Vec::new(), None);
        WriteBatch { state, checkpoint, ..full_batch(1, seed) }
    });
    let [first, second, third, fourth, fifth] = batches.clone().map(|batch| storage.write(batch));
    drop(third);
    fifth.await.expect("3 (ordered): a write that is waited for first");
    let read = read_all(&*storage).await;
    let expected = log_of(&image_after(&batches));
    assert_eq!(read, expected, "3 (ordered): the last one that was begun is there");
    second.await.expect("3 (ordered): a write that is waited for later");
    first.await.expect("3 (ordered): a write that is waited for last");
    let (_storage, recovered) = restart(&disk, storage).await;
    // The peers tell whether any of them is missing.
    expect_state(&recovered, &batches.each_ref(), "3 (ordered), one that was never waited for");
    drop(fourth);
    Outcome::Passed
}

/// Guarantee 4, within a batch, across batches and across restarts.
pub async fn the_last_record_wins<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    let noop = Record { slot: Slot(3), ballot: Ballot::CHOSEN, value: Value::Noop };
    let twice = WriteBatch {
        promised: Some(ballot(9)),
        records: vec![record(2, 1), record(3, 1), record(2, 2)],
        checkpoint: Some(checkpoint(4, 1, 10)),
        peers: [(NodeId(2), StoreId(2)), (NodeId(3), StoreId(3))].into(),
        ..WriteBatch::default()
    };
    let again = WriteBatch {
        records: vec![noop.clone()],
        // A lower promise: judging it is the replica's affair.
        promised: Some(ballot(8)),
        checkpoint: Some(checkpoint(9, 2, 20)),
        peers: [(NodeId(3), StoreId(33))].into(),
        ..WriteBatch::default()
    };
    storage.write(twice.clone()).await.expect("a write");
    let read = read_all(&*storage).await;
    assert_eq!(read, [record(2, 2), record(3, 1)], "4 (last record wins) within a batch");
    storage.write(again.clone()).await.expect("a write");
    let read = read_all(&*storage).await;
    assert_eq!(read, [record(2, 2), noop], "4 (last record wins) across batches");
    let (_storage, recovered) = restart(&disk, storage).await;
    expect_state(&recovered, &[&twice, &again], "4 (last record wins) across a restart");
    Outcome::Passed
}

/// Guarantee 4, for memberships: those of the last batch that has any, even if these are none.
pub async fn the_last_memberships_win<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (mut storage, recovered) = start(&disk).await;
    assert_eq!(recovered.memberships, Bytes::new(), "a new storage has no memberships");
    let long = memberships(2, 9000);
    let of = |memberships| WriteBatch { memberships, ..WriteBatch::default() };
    let other = WriteBatch { memberships: None, ..full_batch(1, 1) };
    for (batch, expected) in [
        (of(Some(memberships(1, 60))), &memberships(1, 60)),
        (other, &memberships(1, 60)),
        (of(Some(long.clone())), &long),
        (WriteBatch::default(), &long),
        (of(Some(memberships(3, 1))), &memberships(3, 1)),
        (of(Some(Bytes::new())), &Bytes::new()),
        (of(Some(memberships(4, 60))), &memberships(4, 60)),
    ] {
        storage.write(batch.clone()).await.expect("a write");
        let (again, recovered) = restart(&disk, storage).await;
        storage = again;
        assert!(recovered.memberships == *expected, "4, for memberships, after {batch:?}");
    }
    Outcome::Passed
}

/// Guarantee 5.
pub async fn reads_see_every_write<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    for slot in 1..=50 {
        let batch = WriteBatch { records: vec![record(slot, slot)], ..WriteBatch::default() };
        storage.write(batch).await.expect("a write");
        let read = storage.read(Slot(slot)..=Slot(slot), 1).await.expect("a read");
        assert_eq!(read, [record(slot, slot)], "5 (read your writes)");
    }
    Outcome::Passed
}

/// The limits of a read: slots in order, without holes' ghosts, and bytes with one record at least.
pub async fn reads_are_cut_off_by_bytes<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    let odd: Vec<Record> = (1..=19).step_by(2).map(|slot| record(slot, 1)).collect();
    // Written in descending order, found in ascending order.
    let batch = WriteBatch { records: odd.iter().rev().cloned().collect(), ..Default::default() };
    storage.write(batch).await.expect("a write");
    let one = odd[0].value.encoded_len();
    for (first, last, bytes_max, expected) in [
        (1, 19, usize::MAX, &odd[..]),
        (0, u64::MAX, usize::MAX, &odd[..]),
        (2, 6, usize::MAX, &odd[1..3]),
        (2, 2, usize::MAX, &[]),
        (20, u64::MAX, usize::MAX, &[]),
        (1, 19, 0, &odd[..1]),
        (1, 19, one, &odd[..1]),
        (1, 19, one + 1, &odd[..2]),
        (4, 19, 3 * one, &odd[2..5]),
    ] {
        let read = storage.read(Slot(first)..=Slot(last), bytes_max).await.expect("a read");
        assert_eq!(read, expected, "slots {first} to {last}, cut off at {bytes_max} bytes");
    }
    let (from, to) = (Slot(9), Slot(3));
    assert_eq!(storage.read(from..=to, 1).await, Ok(vec![]), "an empty range has no records");
    Outcome::Passed
}

/// A value as large as a command may be, and a large session table.
pub async fn large_values_survive<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    let sizes = [1, 1 << 20, (1 << 20) + 1, paxos_core::limits::COMMAND_BYTES_MAX];
    let large = sizes.iter().zip(1..).map(|(&bytes, slot)| Record {
        slot: Slot(slot),
        ballot: ballot(1),
        value: value(slot, bytes),
    });
    let batch = WriteBatch {
        records: large.collect(),
        checkpoint: Some(checkpoint(1, 9, 3 << 20)),
        ..WriteBatch::default()
    };
    storage.write(batch.clone()).await.expect("a large write");
    assert_eq!(read_all(&*storage).await, batch.records, "5: large values");
    let (_storage, recovered) = restart(&disk, storage).await;
    expect_state(&recovered, &[&batch], "1: large values");
    Outcome::Passed
}

/// Thousands of records, of which a start gets only those above the watermark.
pub async fn many_records_survive<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    const COUNT: u64 = 5000;
    let disk = new_disk();
    let (mut storage, _) = start(&disk).await;
    let mut first = 1;
    while first <= COUNT {
        let batch = WriteBatch {
            chosen: Some(Watermark { slot: Slot(first + 489), hash: first }),
            records: records(first..=first + 499, 1),
            ..WriteBatch::default()
        };
        storage.write(batch.clone()).await.expect("a write");
        first += 500;
        let (again, recovered) = restart(&disk, storage).await;
        storage = again;
        assert_eq!(recovered.chosen.slot, Slot(first - 11), "1: the watermark");
        let open = &batch.records[490..];
        assert_eq!(recovered.records, open, "a start gets the records above the watermark");
    }
    assert_eq!(read_all(&*storage).await, records(1..=COUNT, 1), "1: every record");
    Outcome::Passed
}

/// Guarantee 10, for records.
pub async fn compacted_records_are_gone<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    let written = WriteBatch {
        chosen: Some(Watermark { slot: Slot(600), hash: 1 }),
        records: records(1..=700, 1),
        checkpoint: Some(checkpoint(600, 1, 10)),
        ..WriteBatch::default()
    };
    let mut batches = vec![written.clone()];
    storage.write(written).await.expect("a write");
    let (mut storage, _) = restart(&disk, storage).await;
    for floor in [1, 255, 256, 300, 600] {
        let batch = WriteBatch { floor: Some(Slot(floor)), ..WriteBatch::default() };
        batches.push(batch.clone());
        storage.write(batch).await.expect("a compaction");
        let expected = records(floor + 1..=700, 1);
        assert_eq!(read_all(&*storage).await, expected, "10: above {floor}, and no others");
        let read = storage.read(Slot(1)..=Slot(floor), usize::MAX).await;
        assert_eq!(read, Ok(vec![]), "10: nothing up to {floor}, and no damage");
        let (again, recovered) = restart(&disk, storage).await;
        storage = again;
        expect_state(&recovered, &batches.iter().collect::<Vec<_>>(), "10, across a restart");
        assert_eq!(read_all(&*storage).await, expected, "10, across a restart");
    }
    Outcome::Passed
}
