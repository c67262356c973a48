//! The real store in the simulator: whole clusters of it in virtual time, under faults.
//!
//! Nodes that have applied the same slots must have given the same answers and hold the same keys,
//! with the same revisions and versions; and since every change takes a revision of its own, the
//! revision of a node's store must be one more than the changes that it has answered.

use bytes::Bytes;
use paxos_core::{
    port::StateMachine,
    sim::{Simulated, Simulation},
    types::Slot,
};
use paxos_kv::{
    proto::etcdserverpb::{
        DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op::Request,
    },
    store::{Backend, Command, KvError, Reader, Response, Store},
};
use xxhash_rust::xxh3::xxh3_64;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 30;

/// The keys that clients fight over.
const KEYS: u8 = 6;

struct SimulatedStore {
    store: Store,
    reader: Reader,
    /// Changes that were answered.
    changes: i64,
}

impl SimulatedStore {
    fn open() -> SimulatedStore {
        let store = Store::open(Backend::Memory).expect("a store in memory");
        SimulatedStore { reader: store.reader(), store, changes: 0 }
    }
}

/// How many revisions a command took, by its answer.
fn revisions(answer: &Result<Response, KvError>) -> i64 {
    match answer {
        Ok(Response::Put(_)) => 1,
        Ok(Response::DeleteRange(response)) => i64::from(response.deleted > 0),
        // Each transaction here writes in both of its branches.
        Ok(Response::Txn(_)) => 1,
        _ => 0,
    }
}

fn key(rng: &mut fastrand::Rng) -> Bytes {
    vec![b'a' + rng.u8(..KEYS)].into()
}

fn put(rng: &mut fastrand::Rng) -> PutRequest {
    let value = rng.u32(..).to_le_bytes().to_vec().into();
    PutRequest { key: key(rng), value, prev_kv: rng.bool(), ..PutRequest::default() }
}

impl StateMachine for SimulatedStore {
    type Command = Command;
    type Response = Result<Response, KvError>;

    fn apply(&mut self, slot: Slot, commands: Vec<Command>) -> Vec<Self::Response> {
        let answers = self.store.apply(slot, commands);
        self.changes += answers.iter().map(revisions).sum::<i64>();
        answers
    }
}

impl Simulated for SimulatedStore {
    fn command(rng: &mut fastrand::Rng) -> Command {
        match rng.u8(..8) {
            0 => Command::DeleteRange(DeleteRangeRequest {
                key: key(rng),
                prev_kv: true,
                ..DeleteRangeRequest::default()
            }),
            1 => {
                let both = |rng: &mut fastrand::Rng| RequestOp {
                    request: Some(Request::RequestPut(put(rng))),
                };
                let (success, failure) = (vec![both(rng)], vec![both(rng)]);
                Command::Txn(TxnRequest { compare: Vec::new(), success, failure })
            }
            _ => Command::Put(put(rng)),
        }
    }

    fn digest(&self) -> u64 {
        let start = Bytes::from_static(&[0]);
        let all = RangeRequest { key: start.clone(), range_end: start, ..RangeRequest::default() };
        let found = self.reader.range(&all).expect("all keys, now");
        xxh3_64(format!("{} {:?}", self.reader.revision(), found.kvs).as_bytes())
    }

    fn check(&self) -> Result<(), String> {
        let (revision, changes) = (self.reader.revision(), self.changes);
        if revision == 1 + changes {
            return Ok(());
        }
        Err(format!("revision {revision} after {changes} changes"))
    }
}

#[test]
fn clusters_of_the_store_agree_under_faults() {
    let simulation = Simulation::of(SimulatedStore::open);
    let mut calls = 0;
    for seed in 0..SEEDS {
        let report = simulation.run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        calls += report.calls;
    }
    assert!(calls > 100 * SEEDS, "only {calls} calls in {SEEDS} seeds");
}
