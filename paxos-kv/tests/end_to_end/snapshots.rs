//! Backups between real processes: ours and those of etcd, in every direction.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use paxos_kv::proto::{
    etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
        SnapshotRequest, TxnRequest, kv_client::KvClient, maintenance_client::MaintenanceClient,
        request_op::Request,
    },
    mvccpb::KeyValue,
};
use serde_json::Value;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::common::{
    Cluster, client,
    etcdctl::{self, RealEtcd},
};

/// What can be read of a server: every revision, with all keys as of it.
#[derive(Debug, PartialEq)]
struct Contents {
    revisions: Vec<(i64, Vec<KeyValue>)>,
}

impl Contents {
    async fn of(endpoint: &str) -> Contents {
        let channel = client::connect(endpoint);
        let at = |revision| range(channel.clone(), revision);
        let (last, latest) = at(0).await.expect("the latest revision can be read");
        let mut revisions = vec![(last, latest)];
        for revision in (1..last).rev() {
            match at(revision).await {
                Ok((_, found)) => revisions.push((revision, found)),
                Err(status) => {
                    assert!(status.message().contains("compacted"), "{status}");
                    break;
                }
            }
        }
        Contents { revisions }
    }

    fn revision(&self) -> i64 {
        self.revisions[0].0
    }

    /// Whether what is compacted cannot be read, and there is history.
    fn is_interesting(&self) -> bool {
        let first = self.revisions.last().map_or(0, |(revision, _)| *revision);
        first > 1 && self.revisions.len() > 10 && !self.revisions[0].1.is_empty()
    }
}

async fn range(channel: Channel, revision: i64) -> Result<(i64, Vec<KeyValue>), tonic::Status> {
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    let mut kv = KvClient::new(channel).max_decoding_message_size(usize::MAX);
    let found = kv.range(RangeRequest { revision, ..all }).await?.into_inner();
    Ok((found.header.expect("it has one").revision, found.kvs))
}

fn put(key: &str, value: impl Into<bytes::Bytes>) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.into(), ..PutRequest::default() }
}

fn delete(key: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() }
}

/// Gives a server history: versions, deletions, several changes in one revision, a value of many
/// pages, and a compaction in the middle.
async fn fill(endpoint: &str) {
    let mut kv = KvClient::new(client::connect(endpoint));
    for number in 0..30 {
        let (key, value) = (format!("k{}", number % 7), format!("{number}"));
        kv.put(put(&key, value)).await.expect("it is put");
    }
    kv.delete_range(delete("k3")).await.expect("it is deleted");
    let compacted = range(client::connect(endpoint), 0).await.expect("it can be read").0 - 5;
    kv.put(put("large", vec![7; 1 << 20])).await.expect("it is put");
    let operation = |request| RequestOp { request: Some(request) };
    let success = vec![
        operation(Request::RequestPut(put("t1", "1"))),
        operation(Request::RequestDeleteRange(delete("k1"))),
        operation(Request::RequestPut(put("t2", "2"))),
    ];
    kv.txn(TxnRequest { success, ..TxnRequest::default() }).await.expect("it is done");
    let request = CompactionRequest { revision: compacted, physical: true };
    kv.compact(request).await.expect("it is compacted");
    for number in 0..10 {
        kv.put(put("k3", format!("again {number}"))).await.expect("it is put");
    }
    kv.delete_range(delete("k4")).await.expect("it is deleted");
}

/// Holds of etcd's stream as of ours: every piece but the last is as long as the others, but for the
/// one before it, and says how much of the file is left; the last one is the checksum.
async fn assert_stream(endpoint: &str) {
    let mut maintenance = MaintenanceClient::new(client::connect(endpoint));
    let snapshot = maintenance.snapshot(SnapshotRequest {}).await.expect("it begins");
    let mut stream = snapshot.into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await.expect("it comes") {
        assert_eq!(piece.header, None);
        pieces.push((piece.blob.len() as u64, piece.remaining_bytes));
    }
    assert_eq!(pieces.pop(), Some((32, 0)), "the checksum");
    let mut rest: u64 = pieces.iter().map(|(length, _)| length).sum();
    let (_, full) = pieces.split_last().expect("there are others");
    assert!(full.iter().all(|(length, _)| *length == 32 << 10), "{full:?}");
    for (length, remaining) in &pieces {
        rest -= length;
        assert_eq!(*remaining, rest);
    }
}

/// What our program writes.
fn ours(arguments: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_paxos-kv"));
    let output = program.env_clear().args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("it writes text")
}

fn save(endpoint: &str, file: &Path) {
    let file = file.display().to_string();
    let said = ours(&["snapshot", "save", &file, "--endpoints", endpoint]);
    assert_eq!(said, format!("Snapshot saved at {file}\n"));
}

fn status(file: &Path) -> Value {
    let status = ours(&["snapshot", "status", &file.display().to_string(), "-w", "json"]);
    serde_json::from_str(&status).expect("it is JSON")
}

/// A cluster of three whose members are restored, each from its file.
async fn restored(files: [&Path; 3]) -> Cluster {
    let cluster = unsettled(files).await;
    cluster.settled().await;
    cluster
}

async fn unsettled(files: [&Path; 3]) -> Cluster {
    let token = "restored";
    let flags = vec![format!("--initial-cluster-token={token}")];
    let mut cluster = Cluster::stopped("http", flags).await;
    for (index, file) in files.into_iter().enumerate() {
        let [file, data] =
            [file.to_owned(), cluster.data(index)].map(|it| it.display().to_string());
        ours(&[
            "snapshot",
            "restore",
            &file,
            "--name",
            &cluster.servers[index].name,
            "--initial-cluster",
            &cluster.initial_cluster(),
            "--initial-cluster-token",
            token,
            "--data-dir",
            &data,
        ]);
    }
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster
}

/// Everything is there on every member, and what is done goes on from there.
async fn holds(mut cluster: Cluster, expected: &Contents) {
    for endpoint in cluster.endpoints() {
        assert_eq!(&Contents::of(&endpoint).await, expected, "of {endpoint}");
    }
    let channel = client::connect(&cluster.endpoints()[0]);
    let revision = client::put(&channel, "new", "1").await.expect("it is put");
    assert_eq!(revision, expected.revision() + 1);
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.restart(leader);
    cluster.settled().await;
    for index in 0..3 {
        assert!(cluster.terminate(index), "a server did not end cleanly");
        cluster.restart(index);
    }
    cluster.settled().await;
    for endpoint in cluster.endpoints() {
        let found = client::get(&client::connect(&endpoint), "new").await.expect("it is read");
        assert_eq!(found.expect("it is there").mod_revision, revision);
    }
}

fn directory() -> (TempDir, impl Fn(&str) -> PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_owned();
    (directory, move |name| path.join(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_makes_a_new_cluster() {
    let (_directory, file) = directory();
    let (backup, later) = (file("backup.db"), file("later.db"));
    let cluster = Cluster::start("http").await;
    let endpoints = cluster.endpoints();
    fill(&endpoints[0]).await;
    let expected = Contents::of(&endpoints[0]).await;
    assert!(expected.is_interesting());
    // The state of any member that has caught up is the same.
    cluster.settled().await;
    save(&endpoints[1], &backup);
    let mut kv = KvClient::new(client::connect(&endpoints[0]));
    kv.put(put("later", "1")).await.expect("it is put");
    save(&endpoints[0], &later);
    drop(cluster);
    assert_eq!(status(&backup)["revision"], expected.revision());
    holds(restored([&backup; 3]).await, &expected).await;

    // Those that were restored from another file notice that they do not belong together.
    let cluster = unsettled([&backup, &backup, &later]).await;
    cluster.logged_by_any("the chosen log differs").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcdctl and etcd: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn a_real_etcd_goes_on_from_our_backup() {
    let (_directory, file) = directory();
    let cluster = Cluster::start("http").await;
    let endpoint = &cluster.endpoints()[0];
    fill(endpoint).await;
    assert_stream(endpoint).await;
    let expected = Contents::of(endpoint).await;
    assert!(expected.is_interesting());
    let own = file("ours.db");
    save(endpoint, &own);
    for (number, program) in etcdctl::programs().iter().enumerate() {
        let theirs = file(&format!("{number}.db"));
        etcdctl::run(program, endpoint, &["snapshot", "save", &theirs.display().to_string()]);
        for backup in [&own, &theirs] {
            let text = backup.display().to_string();
            let found = etcdctl::run(program, "", &["snapshot", "status", &text, "-w", "json"]);
            let found: Value = serde_json::from_str(&found).expect("it is JSON");
            assert_eq!(found, status(backup), "{program} and ours of {text}");
            let etcd = RealEtcd::restored(program, backup).await;
            assert_eq!(Contents::of(&etcd.endpoint()).await, expected, "by {program}");
            let channel = client::connect(&etcd.endpoint());
            let revision = client::put(&channel, "new", "1").await.expect("it is put");
            assert_eq!(revision, expected.revision() + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcdctl and etcd: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn our_servers_go_on_from_the_backup_of_a_real_etcd() {
    let (_directory, file) = directory();
    let etcd = RealEtcd::start().await;
    let endpoint = etcd.endpoint();
    let programs = etcdctl::programs();
    fill(&endpoint).await;
    assert_stream(&endpoint).await;
    let granted = etcdctl::run(&programs[0], &endpoint, &["lease", "grant", "3600"]);
    let lease = granted.split(' ').nth(1).expect("lease ID granted with TTL");
    let attached = ["put", "leased", "1", "--lease", lease];
    etcdctl::run(&programs[0], &endpoint, &attached);
    etcdctl::run(&programs[0], &endpoint, &["role", "add", "r"]);
    let mut expected = Contents::of(&endpoint).await;
    for program in &programs {
        let backup = file(&format!("{}.db", program.replace('/', "-")));
        let text = backup.display().to_string();
        etcdctl::run(program, &endpoint, &["snapshot", "save", &text]);
        let found = etcdctl::run(program, "", &["snapshot", "status", &text, "-w", "json"]);
        let found: Value = serde_json::from_str(&found).expect("it is JSON");
        assert_eq!(found, status(&backup));
        // Our client takes the same file from a real etcd.
        let own = file("own.db");
        save(&endpoint, &own);
        assert_eq!(status(&own), found);
        // A key that had a lease stays without it.
        for key_value in expected.revisions.iter_mut().flat_map(|(_, found)| found) {
            key_value.lease = 0;
        }
        holds(restored([&backup; 3]).await, &expected).await;
    }
}
