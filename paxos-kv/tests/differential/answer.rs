//! What a server answers, and what of it has to be the same everywhere.

use paxos_kv::proto::{
    etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, PutResponse, RangeRequest, RangeResponse,
        RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, kv_client::KvClient,
        range_request::SortTarget, request_op, response_op,
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
    Error(Code, String),
}

impl Answer {
    pub(crate) async fn get(client: &mut KvClient<Channel>, request: &Request) -> Answer {
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
