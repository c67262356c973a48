//! Requests of clients, each with a deadline.

use std::{future::Future, time::Duration};

use paxos_kv::proto::{
    etcdserverpb::{
        Member, MemberListRequest, PutRequest, RangeRequest, RangeResponse, StatusRequest,
        StatusResponse, cluster_client::ClusterClient, kv_client::KvClient,
        maintenance_client::MaintenanceClient,
    },
    mvccpb::KeyValue,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

/// How long a client waits: longer than the server does by default, so that its answer is seen.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The request has no answer: whether it has effect is unknown.
#[derive(Clone, Debug)]
pub(crate) struct Failed(pub String);

/// A connection to one server, which is made when it is first used, and again if it is lost.
pub(crate) fn connect(endpoint: &str) -> Channel {
    Endpoint::from_shared(format!("http://{endpoint}"))
        .expect("an endpoint")
        .connect_timeout(Duration::from_secs(1))
        .connect_lazy()
}

/// Waits for an answer, [`TIMEOUT`] at most.
async fn within<T>(
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Failed> {
    match tokio::time::timeout(TIMEOUT, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Failed(status.to_string())),
        Err(_) => Err(Failed(format!("no answer within {TIMEOUT:?}"))),
    }
}

/// How a server is doing; one second at most.
pub(crate) async fn status(endpoint: &str) -> Result<StatusResponse, Failed> {
    let mut client = MaintenanceClient::new(connect(endpoint));
    let answer = within(client.status(StatusRequest {}));
    let answer = tokio::time::timeout(Duration::from_secs(1), answer).await;
    answer.unwrap_or_else(|_| Err(Failed("no answer within a second".to_owned())))
}

/// The members, as a server lists them.
pub(crate) async fn members(endpoint: &str) -> Result<Vec<Member>, Failed> {
    let mut client = ClusterClient::new(connect(endpoint));
    let answer = within(client.member_list(MemberListRequest { linearizable: false })).await?;
    Ok(answer.members)
}

/// Writes a key; returns the revision.
pub(crate) async fn put(channel: &Channel, key: &str, value: &str) -> Result<i64, Failed> {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    };
    let response = within(KvClient::new(channel.clone()).put(request)).await?;
    Ok(response.header.expect("every answer has a header").revision)
}

/// A key as it is, linearizable.
pub(crate) async fn get(channel: &Channel, key: &str) -> Result<Option<KeyValue>, Failed> {
    let request = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
    let mut response = within(KvClient::new(channel.clone()).range(request)).await?;
    Ok(response.kvs.pop())
}

/// All keys that begin with `prefix`, at a revision if it is not 0.
pub(crate) async fn get_prefix(
    channel: &Channel,
    prefix: &str,
    revision: i64,
) -> Result<RangeResponse, Failed> {
    let mut range_end = prefix.as_bytes().to_vec();
    *range_end.last_mut().expect("a prefix is not empty") += 1;
    let request = RangeRequest {
        key: prefix.to_owned().into(),
        range_end: range_end.into(),
        revision,
        ..RangeRequest::default()
    };
    let mut client = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    within(client.range(request)).await
}
