//! Requests of the history, sent to a server, and what comes of them.

use std::{error::Error, io, time::Duration};

use paxos_kv::proto::{
    etcdserverpb::{
        RangeRequest, StatusRequest, StatusResponse, kv_client::KvClient,
        maintenance_client::MaintenanceClient,
    },
    mvccpb::KeyValue,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::{
    api::Sent,
    history::{Answer, Outcome, Request},
};

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
    all_keys(channel, RangeRequest { revision, ..RangeRequest::default() }).await
}

/// All keys, whichever ones the request names; with them, the revision of the store.
pub(crate) async fn all_keys(
    channel: &Channel,
    request: RangeRequest,
) -> Result<(i64, Vec<KeyValue>), Status> {
    let zero = vec![0];
    let request = RangeRequest { key: zero.clone().into(), range_end: zero.into(), ..request };
    let mut client = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let response = client.range(request).await?.into_inner();
    let header = response.header.expect("every answer has a header");
    Ok((header.revision, response.kvs))
}

async fn send(channel: &Channel, request: &Request) -> Result<Answer, Status> {
    let mut client = KvClient::new(channel.clone());
    Ok(match Sent::from(request) {
        Sent::Put(request) => client.put(request).await?.into_inner().into(),
        Sent::Range(request) => client.range(request).await?.into_inner().into(),
        Sent::DeleteRange(request) => client.delete_range(request).await?.into_inner().into(),
        Sent::Txn(request) => client.txn(request).await?.into_inner().into(),
        Sent::Compact(request) => client.compact(request).await?.into_inner().into(),
    })
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
