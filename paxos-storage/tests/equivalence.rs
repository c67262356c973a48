//! Whatever a node does, redb and memory remember the same.
#![cfg(all(feature = "memory", feature = "redb"))]

mod support;

use bytes::Bytes;
use paxos_core::{
    message::{Record, Watermark},
    port::{Checkpoint, Recovered, Storage, WriteBatch},
    types::{
        Ballot, Batch, BatchBuilder, ClientId, ClusterId, NodeId, RequestId, Slot, StoreId, Value,
    },
};
use paxos_storage::MemoryStorage;
use proptest::prelude::*;
use support::SimulatedDisk;

#[derive(Clone, Debug)]
enum Step {
    Write(Box<WriteBatch>),
    Read { first: u64, last: u64, bytes_max: usize },
    Restart,
}

const SLOTS: u64 = 12;

fn batch(seed: u64, command: Vec<u8>) -> Batch {
    let mut builder = BatchBuilder::default();
    let client = ClientId { name: seed, epoch: 1 };
    builder.push(RequestId { client, sequence: 1 }, 1, Bytes::from(command));
    builder.build().expect("one command")
}

prop_compose! {
    fn ballots()(round in 1..5u64, node in 1..4u64) -> Ballot {
        Ballot { round, node: NodeId(node) }
    }
}

fn values() -> impl Strategy<Value = Value> {
    let command = prop::collection::vec(any::<u8>(), 0..600);
    prop_oneof![
        Just(Value::Noop),
        (0..9u64, command).prop_map(|(seed, command)| Value::Batch(batch(seed, command))),
    ]
}

prop_compose! {
    fn batches()(
        promised in prop::option::of(ballots()),
        chosen in prop::option::of((0..SLOTS, any::<u64>())),
        records in prop::collection::vec((1..=SLOTS, ballots(), values()), 0..8),
        checkpoint in prop::option::of((0..9u64, prop::collection::vec(any::<u8>(), 0..40))),
        peers in prop::collection::btree_map(1..5u64, 1..9u64, 0..3),
        memberships in prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
    ) -> WriteBatch {
        WriteBatch {
            promised,
            chosen: chosen.map(|(slot, hash)| Watermark { slot: Slot(slot), hash }),
            records: records
                .into_iter()
                .map(|(slot, ballot, value)| Record { slot: Slot(slot), ballot, value })
                .collect(),
            checkpoint: checkpoint.map(|(slot, sessions)| Checkpoint {
                at: Watermark { slot: Slot(slot), hash: slot },
                sessions: sessions.into(),
                state: None,
            }),
            peers: peers.into_iter().map(|(node, store)| (NodeId(node), StoreId(store))).collect(),
            memberships: memberships.map(Bytes::from),
            ..WriteBatch::default()
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => batches().prop_map(|batch| Step::Write(Box::new(batch))),
        2 => (0..=SLOTS + 1, 0..=SLOTS + 1, 0..2000usize)
            .prop_map(|(first, last, bytes_max)| Step::Read { first, last, bytes_max }),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..25)
}

/// A watermark may only cover slots that have a record: every slot gets one at first.
fn groundwork() -> WriteBatch {
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let record = |slot| Record { slot: Slot(slot), ballot, value: Value::Noop };
    WriteBatch { records: (1..=SLOTS).map(record).collect(), ..WriteBatch::default() }
}

async fn recover(storage: &dyn Storage) -> Recovered {
    let mut recovered = storage.recover(ClusterId(1), NodeId(1)).await.expect("a sound storage");
    // The one thing that is random.
    recovered.identity.store = StoreId(1);
    recovered
}

async fn run(steps: Vec<Step>) {
    let disk = SimulatedDisk::new(0);
    let (mut memory, mut redb) = (MemoryStorage::new(), disk.storage());
    assert_eq!(recover(&memory).await, recover(&redb).await);
    for storage in [&memory as &dyn Storage, &redb] {
        storage.write(groundwork()).await.expect("a write");
    }
    for step in steps.into_iter().chain([Step::Restart]) {
        match step {
            Step::Write(batch) => {
                memory.write(WriteBatch::clone(&batch)).await.expect("a write");
                redb.write(*batch).await.expect("a write");
            }
            Step::Read { first, last, bytes_max } => {
                let slots = Slot(first)..=Slot(last);
                let expected = memory.read(slots.clone(), bytes_max).await.expect("a read");
                assert_eq!(redb.read(slots, bytes_max).await, Ok(expected));
            }
            Step::Restart => {
                redb.close().await;
                memory.close().await;
                (memory, redb) = (memory.clone(), disk.storage());
                let (expected, found) = (recover(&memory).await, recover(&redb).await);
                // Which is for each to choose.
                let Recovered { incarnation, last_incarnation, .. } = expected;
                assert_eq!(Recovered { incarnation, last_incarnation, ..found }, expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn redb_and_memory_remember_the_same(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(run(steps));
    }
}
