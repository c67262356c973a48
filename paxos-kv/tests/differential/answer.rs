//! What a server answers, and what of it has to be the same everywhere.

use paxos_kv::proto::{
    etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseKeepAliveRequest,
        LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeResponse,
        LeaseTimeToLiveResponse, PutResponse, RangeRequest, RangeResponse, RequestOp,
        ResponseHeader, ResponseOp, TxnRequest, TxnResponse, kv_client::KvClient,
        lease_client::LeaseClient, range_request::SortTarget, request_op, response_op,
    },
    mvccpb::KeyValue,
};
use tonic::{Code, Status, transport::Channel};

use super::generator::Request;

/// An answer without who gave it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    Grant(LeaseGrantResponse),
    Revoke(LeaseRevokeResponse),
    KeepAlive(LeaseKeepAliveResponse),
    TimeToLive(LeaseTimeToLiveResponse),
    Leases(LeaseLeasesResponse),
    Error(Code, String),
}

/// The services of a server.
pub(crate) struct Clients {
    pub(crate) kv: KvClient<Channel>,
    pub(crate) lease: LeaseClient<Channel>,
}

impl Answer {
    pub(crate) async fn get(clients: &mut Clients, request: &Request) -> Answer {
        let Clients { kv: client, lease } = clients;
        let answer = match request.clone() {
            Request::Range(request) => client.range(request).await.map(|response| {
                let mut response = response.into_inner();
                anonymous(&mut response.header);
                Answer::Range(response)
            }),
            Request::Put(request) => client.put(request).await.map(|response| {
                let mut response = response.into_inner();
                anonymous(&mut response.header);
                Answer::Put(response)
            }),
            Request::DeleteRange(request) => client.delete_range(request).await.map(|response| {
                let mut response = response.into_inner();
                anonymous(&mut response.header);
                Answer::DeleteRange(response)
            }),
            Request::Txn(request) => client.txn(request).await.map(|response| {
                let mut response = response.into_inner();
                anonymous(&mut response.header);
                Answer::Txn(response)
            }),
            Request::Compact(request) => client.compact(request).await.map(|response| {
                let mut response = response.into_inner();
                anonymous(&mut response.header);
                Answer::Compact(response)
            }),
            Request::Grant(request) => lease.lease_grant(request).await.map(|response| {
                let mut response = response.into_inner();
                anonymous(&mut response.header);
                Answer::Grant(response)
            }),
            Request::Revoke(request) => lease.lease_revoke(request).await.map(|response| {
                let mut response = response.into_inner();
                anonymous(&mut response.header);
                Answer::Revoke(response)
            }),
            Request::KeepAlive(id) => keep_alive(lease, id).await.map(|mut response| {
                anonymous(&mut response.header);
                Answer::KeepAlive(response)
            }),
            Request::TimeToLive(request) => {
                lease.lease_time_to_live(request).await.map(|response| {
                    let mut response = response.into_inner();
                    anonymous(&mut response.header);
                    // Of so long a time, nearly all is left; etcd gives keys in any order.
                    assert!(response.ttl < 0 || response.granted_ttl - response.ttl < 600);
                    response.ttl = response.ttl.signum();
                    response.keys.sort();
                    Answer::TimeToLive(response)
                })
            }
            Request::Leases => lease.lease_leases(LeaseLeasesRequest {}).await.map(|response| {
                let mut response = response.into_inner();
                anonymous(&mut response.header);
                response.leases.sort_by_key(|lease| lease.id);
                Answer::Leases(response)
            }),
        };
        answer.unwrap_or_else(|status: Status| {
            Answer::Error(status.code(), status.message().to_owned())
        })
    }

    /// The revision it reports, if it does.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Answer::Range(response) => &response.header,
            Answer::Put(response) => &response.header,
            Answer::DeleteRange(response) => &response.header,
            Answer::Txn(response) => &response.header,
            Answer::Compact(response) => &response.header,
            Answer::Grant(response) => &response.header,
            Answer::Revoke(response) => &response.header,
            Answer::KeepAlive(response) => &response.header,
            Answer::TimeToLive(response) => &response.header,
            Answer::Leases(response) => &response.header,
            Answer::Error(..) => return None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// What has to be the same for everybody who answers this request: all of it but the order of
    /// keys that compare equal, which etcd leaves to chance.
    pub(crate) fn comparable(&self, request: &Request) -> Answer {
        let mut answer = self.clone();
        match (request, &mut answer) {
            (Request::Range(request), Answer::Range(response)) => order_ties(request, response),
            (Request::Txn(request), Answer::Txn(response)) => order_txn_ties(request, response),
            _ => (),
        }
        answer
    }
}

/// Renews a lease once.
async fn keep_alive(
    client: &mut LeaseClient<Channel>,
    id: i64,
) -> Result<LeaseKeepAliveResponse, Status> {
    let once = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut answers = client.lease_keep_alive(once).await?.into_inner();
    let answer = answers.message().await?;
    answer.ok_or_else(|| Status::unknown("the stream has ended without an answer"))
}

/// Takes out who answers, and when in its own counting.
fn anonymous(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        assert!(header.member_id != 0 && header.cluster_id != 0, "{header:?}");
        *header = ResponseHeader { revision: header.revision, ..ResponseHeader::default() };
    }
}

fn order_txn_ties(request: &TxnRequest, response: &mut TxnResponse) {
    let taken = if response.succeeded { &request.success } else { &request.failure };
    for (operation, answer) in taken.iter().zip(&mut response.responses) {
        order_operation_ties(operation, answer);
    }
}

fn order_operation_ties(operation: &RequestOp, answer: &mut ResponseOp) {
    match (&operation.request, &mut answer.response) {
        (
            Some(request_op::Request::RequestRange(request)),
            Some(response_op::Response::ResponseRange(response)),
        ) => order_ties(request, response),
        (
            Some(request_op::Request::RequestTxn(request)),
            Some(response_op::Response::ResponseTxn(response)),
        ) => order_txn_ties(request, response),
        _ => (),
    }
}

/// Puts keys that compare equal in order. Of those at the end that a limit has chosen from among
/// equals, only what they compare by remains.
fn order_ties(request: &RangeRequest, response: &mut RangeResponse) {
    let target = request.sort_target();
    if target == SortTarget::Key {
        return;
    }
    let same = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key == b.key,
        SortTarget::Version => a.version == b.version,
        SortTarget::Create => a.create_revision == b.create_revision,
        SortTarget::Mod => a.mod_revision == b.mod_revision,
        // Without its value nothing tells what a key was sorted by.
        SortTarget::Value => request.keys_only || a.value == b.value,
    };
    let more = response.more;
    let mut left = &mut response.kvs[..];
    while let Some(first) = left.first().cloned() {
        let equal = left.iter().take_while(|found| same(found, &first)).count();
        let (group, rest) = left.split_at_mut(equal);
        group.sort_by(|a, b| a.key.cmp(&b.key));
        if rest.is_empty() && more {
            for found in group {
                *found = KeyValue {
                    version: if target == SortTarget::Version { found.version } else { 0 },
                    create_revision: match target {
                        SortTarget::Create => found.create_revision,
                        _ => 0,
                    },
                    mod_revision: if target == SortTarget::Mod { found.mod_revision } else { 0 },
                    value: match target {
                        SortTarget::Value => found.value.clone(),
                        _ => Default::default(),
                    },
                    ..KeyValue::default()
                };
            }
        }
        left = rest;
    }
}
