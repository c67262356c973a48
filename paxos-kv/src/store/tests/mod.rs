//! Tests of the store as its users see it.

mod costs;
mod durability;
mod feed;
mod fuzz;
mod lease;
mod model;
mod owner;
mod semantics;
mod snapshot;
mod sums;

use std::{
    io::{self, Cursor, Read},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use paxos_core::{
    port::{Snapshot, StateMachine},
    types::{ClusterId, NodeId, Slot},
};

use super::{
    Answer, Backend, Command, KvError, MemberAttributes, Owner, Reader, Response, Rules, Store,
    StoreSnapshot, disk::Disk, flusher, patient::tests::Small,
};
use crate::proto::{
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse,
        RequestOp, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
    },
    mvccpb::KeyValue,
};

/// A store with a slot for every command.
pub(in crate::store) struct Fixture {
    pub(in crate::store) store: Store,
    pub(in crate::store) reader: Reader,
    pub(in crate::store) slot: Slot,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::open(Backend::Memory, flusher::Limits::default())
    }

    pub(in crate::store) fn open(backend: Backend, limits: flusher::Limits) -> Fixture {
        Fixture::of(flusher::Shared::open(backend, limits).expect("a store that opens"))
    }

    pub(in crate::store) fn of(shared: flusher::Shared) -> Fixture {
        let store = Store { shared };
        let (reader, slot) = (store.reader(), store.shared.durable());
        Fixture { store, reader, slot }
    }

    pub(in crate::store) fn apply(&mut self, command: Command) -> Result<Response, KvError> {
        self.apply_all(vec![command]).pop().expect("an answer for every command")
    }

    pub(in crate::store) fn apply_all(
        &mut self,
        commands: Vec<Command>,
    ) -> Vec<Result<Response, KvError>> {
        self.apply_unread(commands).into_iter().map(|answer| answer?.response()).collect()
    }

    fn apply_under(&mut self, rules: Rules, command: Command) -> Result<Response, KvError> {
        self.slot = self.slot.next();
        let mut answers = self.store.apply(self.slot, vec![command.under(rules)]);
        answers.pop().expect("an answer for every command")?.response()
    }

    /// Nothing is read yet that is only answered.
    fn apply_unread(&mut self, commands: Vec<Command>) -> Vec<Result<Answer, KvError>> {
        self.slot = self.slot.next();
        let commands = commands.into_iter().map(|command| command.under(Rules::KNOWN));
        self.store.apply(self.slot, commands.collect())
    }

    pub(in crate::store) fn put(&mut self, key: &str, value: &str) {
        self.apply(Command::Put(put(key, value))).expect("a put");
    }

    pub(in crate::store) fn delete(&mut self, key: &str, range_end: &str) -> i64 {
        match self.apply(Command::DeleteRange(delete(key, range_end))) {
            Ok(Response::DeleteRange(response)) => response.deleted,
            answer => panic!("{answer:?}"),
        }
    }

    fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, KvError> {
        match self.apply(Command::Txn(request)) {
            Ok(Response::Txn(response)) => Ok(response),
            Ok(response) => panic!("{response:?}"),
            Err(error) => Err(error),
        }
    }

    pub(in crate::store) fn compact(&mut self, revision: i64) -> Result<(), KvError> {
        let request = CompactionRequest { revision, physical: false };
        self.apply(Command::Compact(request)).map(|_| ())
    }

    pub(in crate::store) fn range(&self, request: RangeRequest) -> Result<RangeResponse, KvError> {
        self.reader.range(&request)
    }

    fn get(&self, key: &str) -> Option<KeyValue> {
        self.range(range(key, "")).expect("a read").kvs.pop()
    }

    /// The state as it is sent.
    fn stream(&self) -> Vec<u8> {
        read_out(self.store.snapshot())
    }

    /// Takes the state that a store had after `slot`.
    fn restore(&mut self, slot: Slot, stream: Vec<u8>) -> io::Result<()> {
        let snapshot = StoreSnapshot::from_reader(Box::new(Cursor::new(stream)))?;
        self.store.restore(slot, snapshot)?;
        self.slot = slot;
        Ok(())
    }

    /// Keys and values as of a revision, `key=value`.
    pub(in crate::store) fn all_at(&self, revision: i64) -> Result<Vec<String>, KvError> {
        let request = RangeRequest { revision, ..range("\0", "\0") };
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let pair = |found: &KeyValue| format!("{}={}", text(&found.key), text(&found.value));
        Ok(self.range(request)?.kvs.iter().map(pair).collect())
    }
}

/// A store on a disk that can be full.
fn on_a_small_disk(limits: flusher::Limits) -> (Small, Fixture) {
    let small = Small::default();
    let store = reopened(&small, limits);
    (small, store)
}

fn reopened(small: &Small, limits: flusher::Limits) -> Fixture {
    let disk = Disk::on(Box::new(small.clone()), "a small disk".to_owned(), None, 1 << 20);
    Fixture::of(flusher::Shared::on(disk.expect("a disk"), limits).expect("a store"))
}

/// Of what another thread does at once, or every half second.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        thread::yield_now();
    }
}

fn owner(member: u64) -> Owner {
    Owner { cluster: ClusterId(7), member: NodeId(member) }
}

/// A file of member 1.
pub(in crate::store) fn in_file(file: &Path) -> Backend {
    Backend::Redb { file: file.to_owned(), owner: owner(1) }
}

fn read_out(snapshot: StoreSnapshot) -> Vec<u8> {
    let mut stream = Vec::new();
    let read = snapshot.into_reader().and_then(|mut reader| reader.read_to_end(&mut stream));
    read.expect("a state that can be read");
    stream
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() }
}

fn delete(key: &str, range_end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(range_end), prev_kv: false }
}

pub(in crate::store) fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(range_end), ..RangeRequest::default() }
}

fn compare(key: &str, target: CompareTarget, result: CompareResult, with: TargetUnion) -> Compare {
    Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        range_end: Bytes::new(),
        target_union: Some(with),
    }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put_operation(key: &str, value: &str) -> RequestOp {
    operation(Request::RequestPut(put(key, value)))
}

fn delete_operation(key: &str, range_end: &str) -> RequestOp {
    operation(Request::RequestDeleteRange(delete(key, range_end)))
}

fn range_operation(request: RangeRequest) -> RequestOp {
    operation(Request::RequestRange(request))
}

fn txn_operation(request: TxnRequest) -> RequestOp {
    operation(Request::RequestTxn(request))
}

/// A transaction without a condition.
fn always(success: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: Vec::new(), success, failure: Vec::new() }
}
