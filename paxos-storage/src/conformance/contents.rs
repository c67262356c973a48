//! What is written is what is found: guarantees 1 and 3 to 5, and the limits of a read.

use paxos_core::{
    message::{Record, Watermark},
    port::{SessionCheckpoint, WriteBatch},
    types::{Ballot, NodeId, Slot, StoreId, Value},
};

use super::{
    CLUSTER, Disk, NODE, Outcome, ballot, expect_state, full_batch, read_all, record, records,
    restart, start, value,
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
    let all: Vec<Record> = first.records.into_iter().chain(second.records).collect();
    assert_eq!(read_all(&*storage).await, all, "1 (durable): the log below the watermark");
    Outcome::Passed
}

/// Guarantee 3: in the order of the calls, whoever waits for what.
pub async fn writes_take_effect_in_order<D: Disk>(new_disk: impl Fn() -> D) -> Outcome {
    let disk = new_disk();
    let (storage, _) = start(&disk).await;
    // All of them write the same slots.
    let batches = [1, 2, 3, 4, 5].map(|seed| full_batch(1, seed));
    let [first, second, third, fourth, fifth] = batches.clone().map(|batch| storage.write(batch));
    drop(third);
    fifth.await.expect("3 (ordered): a write that is waited for first");
    let read = read_all(&*storage).await;
    assert_eq!(read, batches[4].records, "3 (ordered): the last one that was begun is there");
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
        sessions: Some(SessionCheckpoint { slot: Slot(9), table: value(1, 10).encoded() }),
        peers: [(NodeId(2), StoreId(2)), (NodeId(3), StoreId(3))].into(),
        ..WriteBatch::default()
    };
    let again = WriteBatch {
        records: vec![noop.clone()],
        // An older slot and a lower promise: judging them is the replica's affair.
        promised: Some(ballot(8)),
        sessions: Some(SessionCheckpoint { slot: Slot(4), table: value(2, 20).encoded() }),
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
        sessions: Some(SessionCheckpoint { slot: Slot(1), table: value(9, 3 << 20).encoded() }),
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
