//! What is written in the run that is recorded.

use std::collections::BTreeMap;

use paxos_core::{
    message::{Record, Watermark},
    port::{Checkpoint, StateSummary, WriteBatch},
    types::{NodeId, Slot, StoreId},
};

use super::super::{ballot, checkpoint, chunk, full_batch, memberships, value};

/// Batches as a node writes them, no two states after them alike: the first changes everything
/// there is, the others a random part of it. Records come in order of slots, those above the
/// watermark are at times written again with another value.
pub(super) fn batches(seed: u64, count: usize) -> Vec<WriteBatch> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut batches = vec![full_batch(1, 1)];
    let (mut chosen, mut last, mut floor, mut marked) = (5, 10, 0, 4);
    // The state that is being written, and how many bytes there are of it.
    let mut unfinished = Some((5, 50));
    for round in 2..=count as u64 {
        let mut batch = WriteBatch::default();
        if random.u8(..3) == 0 {
            batch.promised = Some(ballot(round));
        }
        if random.u8(..4) == 0 && chosen < last {
            batch.records.push(record(random.u64(chosen + 1..=last), round, 100));
        }
        // A promise alone is one write in four, and so is a value that fills several pages.
        let bytes = if random.u8(..4) == 0 { 20_000 } else { 100 };
        for _ in 0..[0, 1, 1, 5][random.usize(..4)] {
            last += 1;
            batch.records.push(record(last, round, bytes));
        }
        if random.bool() && chosen < last {
            chosen = random.u64(chosen + 1..=last);
            batch.chosen = Some(Watermark { slot: Slot(chosen), hash: round });
        }
        if random.u8(..3) == 0 && chosen > marked {
            // One state goes on where it ends, another is begun in its place.
            let (slot, offset) = unfinished.filter(|_| random.bool()).unwrap_or((chosen, 0));
            let bytes = 1 + usize::from(random.bool()) * 5000;
            batch.state = vec![chunk(slot, offset, round, bytes)];
            unfinished = Some((slot, offset + bytes as u64));
        }
        if random.u8(..4) == 0 && chosen > marked {
            let state = unfinished.filter(|(slot, _)| *slot > marked && random.bool());
            marked = state.map_or(chosen, |(slot, _)| slot);
            let state = state.map(|(_, bytes)| StateSummary { bytes, hash: round });
            batch.checkpoint = Some(Checkpoint { state, ..checkpoint(marked, round, 5000) });
            unfinished = unfinished.filter(|(slot, _)| *slot > marked);
            floor = random.u64(floor..=marked);
            batch.floor = Some(Slot(floor));
        }
        if random.u8(..4) == 0 {
            batch.peers = BTreeMap::from([(NodeId(100 + round), StoreId(round))]);
        }
        if random.u8(..4) == 0 {
            batch.memberships = Some(memberships(round, [0, 60, 600][random.usize(..3)]));
        }
        if batch.is_empty() {
            batch.promised = Some(ballot(round));
        }
        batches.push(batch);
    }
    batches
}

fn record(slot: u64, round: u64, bytes: usize) -> Record {
    Record { slot: Slot(slot), ballot: ballot(round), value: value(round << 32 | slot, bytes) }
}
