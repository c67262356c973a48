//! Random requests over few keys, so that they have to do with each other.

use std::collections::BTreeMap;

use bytes::Bytes;
use paxos_kv::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, compare::TargetUnion,
    request_op,
};
use tonic::Code;

use super::answer::Answer;

const KEYS: [&[u8]; 9] = [b"a", b"aa", b"ab", b"b", b"c", b"ca", b"d", b"\0", b"\xff\xff"];
const ENDS: [&[u8]; 8] = [b"\0", b"b", b"ab", b"c", b"d\0", b"\xff", b"a", b"\0\0"];
const VALUES: [&[u8]; 6] = [b"", b"1", b"2", b"10", b"\0", b"\xfe\xff"];
/// More than a request may have.
const TOO_MANY_BYTES: usize = 3 << 19;
/// More than a list of a transaction may have.
const TOO_MANY_OPERATIONS: usize = 129;

/// Times of leases: none is over before the run is, and some are too long.
const TTLS: [i64; 4] = [1000, 2000, 9_000_000_000, 9_000_000_001];

/// A request to the KV or the Lease service.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    KeepAlive(i64),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
}

impl Request {
    /// Whether its answer may be stale.
    pub(crate) fn is_serializable(&self) -> bool {
        match self {
            Request::Range(request) => request.serializable,
            Request::Txn(request) => is_serializable(request),
            _ => false,
        }
    }
}

/// As in etcd: if it has no operation that is not, hence without any operation at all.
fn is_serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(request_op::Request::RequestRange(range)) => range.serializable,
        Some(request_op::Request::RequestTxn(txn)) => is_serializable(txn),
        _ => false,
    })
}

/// Whether a transaction deletes everything from some key on. etcd does not notice that such a
/// deletion and a put are about one key, and dies of a put that keeps the value of a key which the
/// transaction has just deleted.
fn deletes_to_the_end(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|operation| match &operation.request {
        Some(request_op::Request::RequestDeleteRange(delete)) => delete.range_end[..] == *b"\0",
        Some(request_op::Request::RequestTxn(txn)) => deletes_to_the_end(txn),
        _ => false,
    })
}

fn ignore_nothing(request: &mut TxnRequest) {
    for operation in request.success.iter_mut().chain(&mut request.failure) {
        match &mut operation.request {
            Some(request_op::Request::RequestPut(put)) => {
                put.ignore_value = false;
                put.ignore_lease = false;
            }
            Some(request_op::Request::RequestTxn(txn)) => ignore_nothing(txn),
            _ => (),
        }
    }
}

/// Makes requests, and remembers what came of them.
pub(crate) struct Generator {
    random: fastrand::Rng,
    revision: i64,
    compacted: i64,
    /// Whether the request in the making has a large value: with two it would be refused as a
    /// message, in the words of the gRPC library.
    large: bool,
    /// How often each kind of answer was given.
    answers: BTreeMap<String, usize>,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Generator {
        Generator {
            random: fastrand::Rng::with_seed(seed),
            revision: 1,
            compacted: 0,
            large: false,
            answers: BTreeMap::new(),
        }
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.usize(..bound)
    }

    pub(crate) fn request(&mut self) -> Request {
        self.large = false;
        let mut request = self.any_request();
        if let Request::Txn(txn) = &mut request
            && deletes_to_the_end(txn)
        {
            ignore_nothing(txn);
        }
        request
    }

    fn any_request(&mut self) -> Request {
        match self.below(100) {
            0..24 => Request::Range(self.range()),
            24..30 => self.lease_request(),
            30..55 => Request::Put(self.put()),
            55..65 => Request::DeleteRange(self.delete_range()),
            65..97 => Request::Txn(self.txn(2)),
            97 => Request::Txn(self.large_txn()),
            _ => Request::Compact(CompactionRequest {
                revision: self.compaction(),
                physical: self.one_in(2),
            }),
        }
    }

    fn lease_request(&mut self) -> Request {
        let id = self.lease();
        match self.below(10) {
            0..3 => {
                // Without an id etcd makes one up.
                let id = if id == 0 { 3 } else { id };
                Request::Grant(LeaseGrantRequest { id, ttl: TTLS[self.below(TTLS.len())] })
            }
            3 => Request::Revoke(LeaseRevokeRequest { id }),
            4..6 => Request::KeepAlive(id),
            6..9 => Request::TimeToLive(LeaseTimeToLiveRequest { id, keys: self.one_in(2) }),
            _ => Request::Leases,
        }
    }

    fn lease(&mut self) -> i64 {
        self.random.i64(-1..4)
    }

    /// Takes in what a real etcd answered.
    pub(crate) fn learn(&mut self, request: &Request, answer: &Answer) {
        self.revision = answer.revision().unwrap_or(self.revision);
        if let (Request::Compact(request), Answer::Compact(_)) = (request, answer) {
            self.compacted = request.revision;
        }
        let kind = match (request, answer) {
            (_, Answer::Error(code, message)) => format!("{code:?} {message}"),
            (Request::Range(_), _) => "range".to_owned(),
            (Request::Put(_), _) => "put".to_owned(),
            (Request::DeleteRange(_), _) => "delete".to_owned(),
            (Request::Txn(_), _) => "txn".to_owned(),
            (Request::Compact(_), _) => "compact".to_owned(),
            (Request::Grant(_), _) => "grant".to_owned(),
            (Request::Revoke(_), _) => "revoke".to_owned(),
            (Request::KeepAlive(_), _) => "keep-alive".to_owned(),
            (Request::TimeToLive(_), _) => "time to live".to_owned(),
            (Request::Leases, _) => "leases".to_owned(),
        };
        *self.answers.entry(kind).or_default() += 1;
    }

    pub(crate) fn summary(&self) -> String {
        let lines = self.answers.iter().map(|(kind, count)| format!("{count:6} {kind}\n"));
        lines.collect()
    }

    /// Asserts that a run of the usual length has seen every kind of answer.
    pub(crate) fn assert_variety(&self) {
        let total: usize = self.answers.values().sum();
        if total < 5000 {
            return;
        }
        let lease = ["grant", "revoke", "keep-alive", "time to live", "leases"];
        for kind in ["range", "put", "delete", "txn", "compact"].into_iter().chain(lease) {
            assert!(self.answers.contains_key(kind), "no {kind} in {}", self.summary());
        }
        for (code, text) in [
            (Code::InvalidArgument, "key is not provided"),
            (Code::InvalidArgument, "key not found"),
            (Code::InvalidArgument, "value is provided"),
            (Code::InvalidArgument, "lease is provided"),
            (Code::InvalidArgument, "too many operations in txn request"),
            (Code::InvalidArgument, "duplicate key given in txn request"),
            (Code::InvalidArgument, "request is too large"),
            (Code::OutOfRange, "mvcc: required revision has been compacted"),
            (Code::OutOfRange, "mvcc: required revision is a future revision"),
            (Code::NotFound, "requested lease not found"),
            (Code::FailedPrecondition, "lease already exists"),
            (Code::OutOfRange, "too large lease TTL"),
        ] {
            let kind = format!("{code:?} etcdserver: {text}");
            assert!(self.answers.contains_key(&kind), "no {kind} in {}", self.summary());
        }
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn choose<'a>(&mut self, from: &[&'a [u8]]) -> &'a [u8] {
        from[self.below(from.len())]
    }

    fn key(&mut self) -> Bytes {
        if self.one_in(80) { Bytes::new() } else { Bytes::copy_from_slice(self.choose(&KEYS)) }
    }

    fn range_end(&mut self) -> Bytes {
        if self.one_in(2) { Bytes::new() } else { Bytes::copy_from_slice(self.choose(&ENDS)) }
    }

    fn value(&mut self) -> Bytes {
        if !self.large && self.one_in(300) {
            self.large = true;
            return vec![b'x'; TOO_MANY_BYTES].into();
        }
        Bytes::copy_from_slice(self.choose(&VALUES))
    }

    /// A revision to read at: mostly one that is there, sometimes compacted, yet to come or none.
    fn read_revision(&mut self) -> i64 {
        match self.below(20) {
            0..10 => 0,
            10..17 => self.random.i64(self.compacted..=self.revision),
            17 => self.random.i64(self.compacted - 5..=self.compacted),
            18 => self.revision + self.random.i64(1..4),
            _ => -self.random.i64(1..10),
        }
    }

    fn compaction(&mut self) -> i64 {
        match self.below(4) {
            0 => self.random.i64(-2..=self.compacted),
            1 => self.revision + self.random.i64(0..3),
            _ => self.random.i64(self.compacted..=self.revision),
        }
    }

    fn small(&mut self, zero_in: usize) -> i64 {
        if self.one_in(zero_in) { self.random.i64(-1..4) } else { 0 }
    }

    /// A bound for revisions; mostly none.
    fn bound(&mut self) -> i64 {
        if self.one_in(10) { self.random.i64(-1..=self.revision) } else { 0 }
    }

    fn range(&mut self) -> RangeRequest {
        RangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            limit: self.small(3),
            revision: self.read_revision(),
            sort_order: self.random.i32(0..3),
            sort_target: if self.one_in(2) { 0 } else { self.random.i32(0..5) },
            serializable: self.one_in(4),
            keys_only: self.one_in(4),
            count_only: self.one_in(8),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.one_in(10);
        let keeps = ignore_value && !self.one_in(4);
        PutRequest {
            key: self.key(),
            value: if keeps { Bytes::new() } else { self.value() },
            lease: if self.one_in(10) { self.lease() } else { 0 },
            prev_kv: self.one_in(2),
            ignore_value,
            ignore_lease: self.one_in(15),
        }
    }

    fn delete_range(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.range_end(), prev_kv: self.one_in(2) }
    }

    fn compare(&mut self) -> Compare {
        let target = self.random.i32(0..5);
        let revision = self.random.i64(-1..=self.revision);
        // Now and then not of the kind of the target, or nothing at all.
        let kind = if self.one_in(20) { self.random.i32(0..6) } else { target };
        let with = match kind {
            0 => Some(TargetUnion::Version(self.random.i64(-1..5))),
            1 => Some(TargetUnion::CreateRevision(revision)),
            2 => Some(TargetUnion::ModRevision(revision)),
            3 => Some(TargetUnion::Value(Bytes::copy_from_slice(self.choose(&VALUES)))),
            4 => Some(TargetUnion::Lease(self.lease())),
            _ => None,
        };
        let unknown = self.one_in(40);
        Compare {
            result: if unknown { 7 } else { self.random.i32(0..4) },
            target: if self.one_in(60) { 8 } else { target },
            key: self.key(),
            range_end: if self.one_in(4) { self.range_end() } else { Bytes::new() },
            target_union: with,
        }
    }

    fn txn(&mut self, depth: usize) -> TxnRequest {
        let compares = self.below(3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.operations(depth),
            failure: self.operations(depth),
        }
    }

    fn operations(&mut self, depth: usize) -> Vec<RequestOp> {
        let count = self.below(5);
        let read_only = self.one_in(4);
        (0..count).map(|_| self.operation(depth, read_only)).collect()
    }

    fn operation(&mut self, depth: usize, read_only: bool) -> RequestOp {
        let request = match self.below(if read_only { 30 } else { 100 }) {
            0..30 => Some(request_op::Request::RequestRange(self.range_of_txn())),
            30..60 => Some(request_op::Request::RequestPut(self.put())),
            60..78 => Some(request_op::Request::RequestDeleteRange(self.delete_range())),
            78..99 if depth > 0 => Some(request_op::Request::RequestTxn(self.txn(depth - 1))),
            78..99 => Some(request_op::Request::RequestPut(self.put())),
            _ => None,
        };
        RequestOp { request }
    }

    /// Mostly at the latest revision, or few transactions would get further than that.
    fn range_of_txn(&mut self) -> RangeRequest {
        let mut request = self.range();
        if !self.one_in(8) {
            request.revision = 0;
        }
        request
    }

    /// As long as it may be, or longer.
    fn large_txn(&mut self) -> TxnRequest {
        let count = TOO_MANY_OPERATIONS - self.below(3);
        let operations: Vec<_> = (0..count).map(|_| self.operation(0, true)).collect();
        let nested = match self.below(3) {
            0 => self.txn(0),
            _ => TxnRequest::default(),
        };
        let nested = RequestOp { request: Some(request_op::Request::RequestTxn(nested)) };
        match self.below(3) {
            0 => TxnRequest { success: operations, ..TxnRequest::default() },
            1 => TxnRequest { failure: operations, ..TxnRequest::default() },
            _ => {
                let operations = operations.into_iter().skip(2).chain([nested]);
                TxnRequest { success: operations.collect(), ..TxnRequest::default() }
            }
        }
    }
}
