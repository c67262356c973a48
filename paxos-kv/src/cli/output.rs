//! Results for people, as tables, and for programs, as the JSON that etcdctl writes.

use std::{path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::{Map, Value, json};

use super::endpoint::Answer;
use crate::{
    proto::{
        etcdserverpb::{
            DeleteRangeResponse, MemberListResponse, PutResponse, RangeResponse, ResponseHeader,
            StatusResponse, TxnResponse, response_op::Response,
        },
        mvccpb::KeyValue,
    },
    server::BackupStatus,
};

fn table<const N: usize>(columns: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(columns);
    table
}

/// Bytes as text that cannot disturb a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn key_values_table(kvs: &[KeyValue]) -> String {
    let mut table = table(["KEY", "VALUE", "VERSION", "CREATED AT", "MODIFIED AT"]);
    for kv in kvs {
        table.add_row([
            printable(&kv.key),
            printable(&kv.value),
            kv.version.to_string(),
            kv.create_revision.to_string(),
            kv.mod_revision.to_string(),
        ]);
    }
    table.to_string()
}

pub(super) fn range_table(response: &RangeResponse) -> String {
    let (shown, count) = (response.kvs.len(), response.count);
    let revision = revision(response.header.as_ref());
    if shown == 0 {
        return format!("no key to show ({count} in the range, revision {revision})");
    }
    format!("{}\n{shown} of {count} keys, revision {revision}", key_values_table(&response.kvs))
}

pub(super) fn put_table(response: &PutResponse) -> String {
    let revision = revision(response.header.as_ref());
    match &response.prev_kv {
        None => format!("OK, revision {revision}"),
        Some(kv) => {
            let before = key_values_table(std::slice::from_ref(kv));
            format!("OK, revision {revision}; before:\n{before}")
        }
    }
}

pub(super) fn delete_table(response: &DeleteRangeResponse) -> String {
    let revision = revision(response.header.as_ref());
    let summary = format!("{} deleted, revision {revision}", response.deleted);
    match response.prev_kvs.is_empty() {
        true => summary,
        false => format!("{summary}; before:\n{}", key_values_table(&response.prev_kvs)),
    }
}

pub(super) fn txn_table(response: &TxnResponse) -> String {
    let mut lines = vec![match response.succeeded {
        true => "SUCCESS: the conditions held".to_owned(),
        false => "FAILURE: the conditions did not hold".to_owned(),
    }];
    for operation in &response.responses {
        lines.push(match &operation.response {
            Some(Response::ResponseRange(response)) if response.kvs.is_empty() => {
                format!("get: {} keys", response.count)
            }
            Some(Response::ResponseRange(response)) => {
                format!("get: {} keys\n{}", response.count, key_values_table(&response.kvs))
            }
            Some(Response::ResponsePut(_)) => "put: OK".to_owned(),
            Some(Response::ResponseDeleteRange(response)) => {
                format!("del: {} deleted", response.deleted)
            }
            Some(Response::ResponseTxn(response)) => format!("txn: {}", txn_table(response)),
            None => "an operation of another version".to_owned(),
        });
    }
    if let Some(header) = response.header.as_ref().filter(|header| header.revision != 0) {
        lines.push(format!("revision {}", header.revision));
    }
    lines.join("\n")
}

pub(super) fn members_table(response: &MemberListResponse) -> String {
    let mut table = table(["ID", "STATUS", "NAME", "PEER URLS", "CLIENT URLS", "ROLE"]);
    for member in &response.members {
        let status = if member.client_urls.is_empty() { "unstarted" } else { "started" };
        table.add_row([
            format!("{:x}", member.id),
            status.to_owned(),
            printable(member.name.as_bytes()),
            member.peer_urls.join("\n"),
            member.client_urls.join("\n"),
            if member.is_learner { "learner" } else { "voter" }.to_owned(),
        ]);
    }
    table.to_string()
}

pub(super) fn statuses_table(answers: &[Answer<StatusResponse>]) -> String {
    let mut table = table([
        "ENDPOINT", "ID", "VERSION", "SIZE", "LEADER", "BALLOT", "CHOSEN", "APPLIED", "ERRORS",
    ]);
    for (endpoint, answer) in answers {
        table.add_row(match answer {
            Ok(status) => status_row(endpoint, status),
            Err(reason) => {
                let mut row = vec![endpoint.clone()];
                row.resize(8, "-".to_owned());
                row.push(reason.clone());
                row
            }
        });
    }
    table.to_string()
}

pub(super) fn healths_table(answers: &[Answer<Duration>]) -> String {
    let mut table = table(["ENDPOINT", "HEALTH", "TOOK", "ERROR"]);
    for (endpoint, answer) in answers {
        let (took, error) = match answer {
            Ok(took) => (format!("{took:.1?}"), String::new()),
            Err(reason) => (String::new(), printable(reason.as_bytes())),
        };
        table.add_row([endpoint.clone(), answer.is_ok().to_string(), took, error]);
    }
    table.to_string()
}

fn status_row(endpoint: &str, status: &StatusResponse) -> Vec<String> {
    let id = status.header.as_ref().map_or(0, |header| header.member_id);
    let leader = match status.leader {
        0 => "none".to_owned(),
        leader if leader == id => "this one".to_owned(),
        leader => format!("{leader:x}"),
    };
    vec![
        endpoint.to_owned(),
        format!("{id:x}"),
        status.version.clone(),
        size(status.db_size),
        leader,
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join("\n"),
    ]
}

/// A number of bytes in the largest unit that leaves something before the point.
fn size(bytes: i64) -> String {
    const UNITS: [(&str, i64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, factor) in UNITS {
        if bytes >= factor {
            let tenths = i128::from(bytes) * 10 / i128::from(factor);
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// An object without the fields that hold nothing, as etcd's JSON leaves them out.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let is_something = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_i64() != Some(0),
        Value::String(value) => !value.is_empty(),
        Value::Array(value) => !value.is_empty(),
        Value::Object(_) => true,
    };
    let fields = fields.into_iter().filter(|(_, value)| is_something(value));
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

/// Bytes in base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// An answer whose header etcdctl shows among its own fields, all of which it writes.
pub(super) fn flat<const N: usize>(
    header: Option<&ResponseHeader>,
    fields: [(&str, Value); N],
) -> Value {
    let mut object = match header_json(header) {
        Value::Object(header) => header,
        _ => Map::new(),
    };
    object.extend(fields.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(object)
}

/// An answer that is a header.
pub(super) fn header_only_json(header: Option<&ResponseHeader>) -> Value {
    object([("header", header_json(header))])
}

fn header_json(header: Option<&ResponseHeader>) -> Value {
    header.map_or(Value::Null, |header| {
        object([
            ("cluster_id", json!(header.cluster_id)),
            ("member_id", json!(header.member_id)),
            ("revision", json!(header.revision)),
            ("raft_term", json!(header.raft_term)),
        ])
    })
}

fn key_value_json(kv: &KeyValue) -> Value {
    object([
        ("key", json!(BASE64_STANDARD.encode(&kv.key))),
        ("create_revision", json!(kv.create_revision)),
        ("mod_revision", json!(kv.mod_revision)),
        ("version", json!(kv.version)),
        ("value", json!(BASE64_STANDARD.encode(&kv.value))),
        ("lease", json!(kv.lease)),
    ])
}

fn key_values_json(kvs: &[KeyValue]) -> Value {
    kvs.iter().map(key_value_json).collect()
}

pub(super) fn range_json(response: &RangeResponse) -> Value {
    object([
        ("header", header_json(response.header.as_ref())),
        ("kvs", key_values_json(&response.kvs)),
        ("more", json!(response.more)),
        ("count", json!(response.count)),
    ])
}

pub(super) fn put_json(response: &PutResponse) -> Value {
    object([
        ("header", header_json(response.header.as_ref())),
        ("prev_kv", response.prev_kv.as_ref().map_or(Value::Null, key_value_json)),
    ])
}

pub(super) fn delete_json(response: &DeleteRangeResponse) -> Value {
    object([
        ("header", header_json(response.header.as_ref())),
        ("deleted", json!(response.deleted)),
        ("prev_kvs", key_values_json(&response.prev_kvs)),
    ])
}

pub(super) fn txn_json(response: &TxnResponse) -> Value {
    let operations = response.responses.iter().map(|operation| match &operation.response {
        Some(Response::ResponseRange(response)) => {
            json!({ "response_range": range_json(response) })
        }
        Some(Response::ResponsePut(response)) => json!({ "response_put": put_json(response) }),
        Some(Response::ResponseDeleteRange(response)) => {
            json!({ "response_delete_range": delete_json(response) })
        }
        Some(Response::ResponseTxn(response)) => json!({ "response_txn": txn_json(response) }),
        None => Value::Null,
    });
    object([
        ("header", header_json(response.header.as_ref())),
        ("succeeded", json!(response.succeeded)),
        ("responses", operations.collect()),
    ])
}

pub(super) fn members_json(response: &MemberListResponse) -> Value {
    let members = response.members.iter().map(|member| {
        object([
            ("ID", json!(member.id)),
            ("name", json!(member.name)),
            ("peerURLs", json!(member.peer_urls)),
            ("clientURLs", json!(member.client_urls)),
            ("isLearner", json!(member.is_learner)),
        ])
    });
    object([("header", header_json(response.header.as_ref())), ("members", members.collect())])
}

pub(super) fn statuses_json(answers: &[Answer<StatusResponse>]) -> Value {
    let answers = answers.iter().map(|(endpoint, answer)| match answer {
        Err(reason) => json!({ "Endpoint": endpoint, "Error": reason }),
        Ok(status) => json!({ "Endpoint": endpoint, "Status": status_json(status) }),
    });
    answers.collect()
}

pub(super) fn healths_json(answers: &[Answer<Duration>]) -> Value {
    let answers = answers.iter().map(|(endpoint, answer)| match answer {
        Ok(took) => json!({ "endpoint": endpoint, "health": true, "took": format!("{took:?}") }),
        Err(reason) => json!({ "endpoint": endpoint, "health": false, "error": reason }),
    });
    answers.collect()
}

fn status_json(status: &StatusResponse) -> Value {
    object([
        ("header", header_json(status.header.as_ref())),
        ("version", json!(status.version)),
        ("dbSize", json!(status.db_size)),
        ("leader", json!(status.leader)),
        ("raftIndex", json!(status.raft_index)),
        ("raftTerm", json!(status.raft_term)),
        ("raftAppliedIndex", json!(status.raft_applied_index)),
        ("errors", json!(status.errors)),
        ("dbSizeInUse", json!(status.db_size_in_use)),
        ("isLearner", json!(status.is_learner)),
    ])
}

/// The same of a number that cannot be negative.
pub(super) fn size_of(bytes: u64) -> String {
    size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

pub(super) fn snapshot_table(status: &BackupStatus) -> String {
    let mut table = table(["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE"]);
    table.add_row([
        format!("{:x}", status.hash),
        status.revision.to_string(),
        status.total_keys.to_string(),
        size_of(status.total_size),
    ]);
    table.to_string()
}

pub(super) fn snapshot_json(status: &BackupStatus) -> Value {
    json!({
        "hash": status.hash,
        "revision": status.revision,
        "totalKey": status.total_keys,
        "totalSize": status.total_size,
    })
}

pub(super) fn saved_json(path: &Path, bytes: u64) -> Value {
    json!({ "file": path.to_string_lossy(), "bytes": bytes })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn answer() -> RangeResponse {
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            value: Bytes::from_static(b"a\x1b[31m"),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            lease: 0,
        };
        let header = ResponseHeader { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        RangeResponse { header: Some(header), kvs: vec![kv], more: false, count: 1 }
    }

    #[test]
    fn json_has_the_fields_that_etcdctl_writes() {
        let header = json!({ "cluster_id": 1, "member_id": 2, "revision": 3, "raft_term": 4 });
        let kv = json!({
            "key": "aw==", "create_revision": 2, "mod_revision": 3, "version": 2,
            "value": "YRtbMzFt",
        });
        let expected = json!({ "header": header, "kvs": [kv], "count": 1 });
        assert_eq!(range_json(&answer()), expected);
    }

    #[test]
    fn a_table_holds_no_control_characters() {
        let table = range_table(&answer());
        assert!(table.contains("a\\u{1b}[31m"), "{table}");
        assert_eq!(printable(b"\xff\0"), "\\xff\\x00");
        assert_eq!(printable("größe".as_bytes()), "größe");
    }

    #[test]
    fn sizes_are_in_readable_units() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
    }

    #[test]
    fn an_endpoint_that_fails_has_its_row() {
        let table = statuses_table(&[
            ("a:1".to_owned(), Ok(StatusResponse { leader: 0, ..StatusResponse::default() })),
            ("b:2".to_owned(), Err("no answer".to_owned())),
        ]);
        assert!(table.contains("none") && table.contains("no answer"), "{table}");
    }
}
