//! Requests of the history as requests of etcd's API, and their answers back.

use paxos_kv::proto::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse,
        PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader,
        TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op, response_op,
    },
    mvccpb::KeyValue,
};

use super::history::{Answer, Found, Request, prefix};

/// A request as it is sent.
pub(crate) enum Sent {
    Put(PutRequest),
    Range(RangeRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
}

impl From<&Request> for Sent {
    fn from(request: &Request) -> Sent {
        match request {
            Request::Put { key, value } => Sent::Put(put(key, value)),
            Request::Get { key, serializable } => {
                Sent::Range(RangeRequest { serializable: *serializable, ..get(key) })
            }
            Request::Range { group } => Sent::Range(range(&prefix(*group))),
            Request::Delete { key } => Sent::DeleteRange(delete(key)),
            Request::Compact { revision } => {
                Sent::Compact(CompactionRequest { revision: *revision, physical: false })
            }
            Request::CompareAndSwap { key, expected, value } => {
                let success = vec![operation(request_op::Request::RequestPut(put(key, value)))];
                let failure = vec![operation(request_op::Request::RequestRange(get(key)))];
                let compare = vec![compare(key, expected.as_deref())];
                Sent::Txn(TxnRequest { compare, success, failure })
            }
            Request::Move { from, to, value } => {
                let is_there =
                    Compare { result: CompareResult::NotEqual.into(), ..compare(from, None) };
                let success = vec![
                    operation(request_op::Request::RequestDeleteRange(delete(from))),
                    operation(request_op::Request::RequestPut(put(to, value))),
                ];
                let failure = vec![operation(request_op::Request::RequestPut(put(from, value)))];
                Sent::Txn(TxnRequest { compare: vec![is_there], success, failure })
            }
        }
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..Default::default() }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() }
}

fn range(prefix: &str) -> RangeRequest {
    let mut range_end = prefix.as_bytes().to_vec();
    *range_end.last_mut().expect("a prefix is not empty") += 1;
    RangeRequest { range_end: range_end.into(), ..get(prefix) }
}

fn operation(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Holds if the key has the value, or is absent if none is given.
fn compare(key: &str, expected: Option<&str>) -> Compare {
    let (target, union) = match expected {
        Some(value) => (CompareTarget::Value, TargetUnion::Value(value.to_owned().into())),
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.to_owned().into(),
        target_union: Some(union),
        ..Compare::default()
    }
}

impl From<PutResponse> for Answer {
    fn from(response: PutResponse) -> Answer {
        Answer::at(response.header)
    }
}

impl From<CompactionResponse> for Answer {
    fn from(response: CompactionResponse) -> Answer {
        Answer::at(response.header)
    }
}

impl From<RangeResponse> for Answer {
    fn from(response: RangeResponse) -> Answer {
        Answer { found: found(response.kvs), ..Answer::at(response.header) }
    }
}

impl From<DeleteRangeResponse> for Answer {
    fn from(response: DeleteRangeResponse) -> Answer {
        Answer { deleted: response.deleted, ..Answer::at(response.header) }
    }
}

impl From<TxnResponse> for Answer {
    fn from(response: TxnResponse) -> Answer {
        let succeeded = response.succeeded;
        let mut answer = Answer { succeeded, ..Answer::at(response.header) };
        for response in response.responses {
            match response.response {
                Some(response_op::Response::ResponseRange(range)) => {
                    answer.found.extend(found(range.kvs));
                }
                Some(response_op::Response::ResponseDeleteRange(delete)) => {
                    answer.deleted += delete.deleted;
                }
                _ => {}
            }
        }
        answer
    }
}

impl Answer {
    /// An answer that says nothing but at which revision it is true.
    fn at(header: Option<ResponseHeader>) -> Answer {
        let revision = header.expect("every answer has a header").revision;
        Answer { revision, ..Answer::default() }
    }
}

fn found(kvs: Vec<KeyValue>) -> Vec<Found> {
    kvs.into_iter().map(Found::from).collect()
}

impl From<KeyValue> for Found {
    fn from(kv: KeyValue) -> Found {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Found {
            key: text(&kv.key),
            value: text(&kv.value),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
        }
    }
}
