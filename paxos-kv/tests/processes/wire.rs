//! Requests of the history as requests of etcd's API, and their answers back.

use std::{error::Error, io, time::Duration};

use paxos_kv::proto::{
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
        ResponseHeader, StatusRequest, StatusResponse, TxnRequest,
        compare::{CompareResult, CompareTarget, TargetUnion},
        kv_client::KvClient,
        maintenance_client::MaintenanceClient,
        request_op, response_op,
    },
    mvccpb::KeyValue,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::history::{Answer, Found, Outcome, Request, prefix};

/// A connection to one server, made when it is first used, and again if it is lost.
pub(crate) fn connect(endpoint: &str) -> Channel {
    Endpoint::from_shared(format!("http://{endpoint}"))
        .expect("an endpoint")
        .connect_timeout(Duration::from_secs(1))
        .connect_lazy()
}

/// Sends a request and waits for the outcome, until the deadline at most.
pub(crate) async fn perform(channel: &Channel, request: &Request, deadline: Duration) -> Outcome {
    match tokio::time::timeout(deadline, send(channel, request)).await {
        Ok(Ok(answer)) => Outcome::Answered(answer),
        Ok(Err(status)) if has_no_effect(&status) => Outcome::Failed(text(&status)),
        Ok(Err(status)) => Outcome::Unknown(text(&status)),
        Err(_) => Outcome::Unknown("no answer within the client's deadline".to_owned()),
    }
}

/// How a server is doing.
pub(crate) async fn status(channel: &Channel, deadline: Duration) -> Option<StatusResponse> {
    let mut client = MaintenanceClient::new(channel.clone());
    let answer = tokio::time::timeout(deadline, client.status(StatusRequest {})).await;
    Some(answer.ok()?.ok()?.into_inner())
}

/// All keys, at a revision if it is not 0; with it, the revision of the store.
pub(crate) async fn everything(
    channel: &Channel,
    revision: i64,
) -> Result<(i64, Vec<KeyValue>), Status> {
    let zero = vec![0];
    let request = RangeRequest {
        key: zero.clone().into(),
        range_end: zero.into(),
        revision,
        ..RangeRequest::default()
    };
    let mut client = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let response = client.range(request).await?.into_inner();
    Ok((revision_of(response.header.as_ref()), response.kvs))
}

async fn send(channel: &Channel, request: &Request) -> Result<Answer, Status> {
    let mut client = KvClient::new(channel.clone());
    match request {
        Request::Put { key, value } => {
            let response = client.put(put(key, value)).await?.into_inner();
            Ok(Answer { revision: revision_of(response.header.as_ref()), ..Answer::default() })
        }
        Request::Get { key, serializable } => {
            let request = RangeRequest { serializable: *serializable, ..get(key) };
            let response = client.range(request).await?.into_inner();
            let revision = revision_of(response.header.as_ref());
            Ok(Answer { revision, found: found(response.kvs), ..Answer::default() })
        }
        Request::Range { group } => {
            let response = client.range(range(&prefix(*group))).await?.into_inner();
            let revision = revision_of(response.header.as_ref());
            Ok(Answer { revision, found: found(response.kvs), ..Answer::default() })
        }
        Request::Delete { key } => {
            let response = client.delete_range(delete(key)).await?.into_inner();
            let revision = revision_of(response.header.as_ref());
            Ok(Answer { revision, deleted: response.deleted, ..Answer::default() })
        }
        Request::Compact { revision } => {
            let request = CompactionRequest { revision: *revision, physical: false };
            let response = client.compact(request).await?.into_inner();
            Ok(Answer { revision: revision_of(response.header.as_ref()), ..Answer::default() })
        }
        Request::CompareAndSwap { key, expected, value } => {
            let success = vec![operation(request_op::Request::RequestPut(put(key, value)))];
            let failure = vec![operation(request_op::Request::RequestRange(get(key)))];
            let compare = vec![compare(key, expected.as_deref())];
            transact(&mut client, TxnRequest { compare, success, failure }).await
        }
        Request::Move { from, to, value } => {
            let is_there =
                Compare { result: CompareResult::NotEqual.into(), ..compare(from, None) };
            let success = vec![
                operation(request_op::Request::RequestDeleteRange(delete(from))),
                operation(request_op::Request::RequestPut(put(to, value))),
            ];
            let failure = vec![operation(request_op::Request::RequestPut(put(from, value)))];
            transact(&mut client, TxnRequest { compare: vec![is_there], success, failure }).await
        }
    }
}

async fn transact(client: &mut KvClient<Channel>, request: TxnRequest) -> Result<Answer, Status> {
    let response = client.txn(request).await?.into_inner();
    let mut answer = Answer {
        revision: revision_of(response.header.as_ref()),
        succeeded: response.succeeded,
        ..Answer::default()
    };
    for response in response.responses {
        match response.response {
            Some(response_op::Response::ResponseRange(range)) => {
                answer.found.extend(found(range.kvs))
            }
            Some(response_op::Response::ResponseDeleteRange(delete)) => {
                answer.deleted += delete.deleted;
            }
            _ => {}
        }
    }
    Ok(answer)
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

fn revision_of(header: Option<&ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
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

/// Whether the server says that it has not even begun, or was never reached.
fn has_no_effect(status: &Status) -> bool {
    let message = status.message();
    match status.code() {
        Code::Unknown => message.contains("too many requests"),
        Code::ResourceExhausted => message.contains("database space exceeded"),
        // Somebody else compacted further meanwhile.
        Code::OutOfRange => message.contains("has been compacted"),
        _ => was_refused(status),
    }
}

/// Whether nobody listened when a connection was to be made.
fn was_refused(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        let error_of_system = error.downcast_ref::<io::Error>();
        if error_of_system.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn text(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
