//! Three servers in one process, in memory, over TCP: the API and its HTTP side, with a quorum and
//! without one.

#[path = "in_process/leases.rs"]
mod leases;
#[path = "common/ports.rs"]
mod ports;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use paxos_kv::{
    Keys,
    proto::etcdserverpb::{
        AlarmRequest, CompactionRequest, Compare, DefragmentRequest, MemberListRequest, PutRequest,
        RangeRequest, RequestOp, SnapshotRequest, StatusRequest, TxnRequest,
        cluster_client::ClusterClient, kv_client::KvClient, maintenance_client::MaintenanceClient,
        request_op,
    },
    server::{
        Server,
        config::{ClusterMap, ServerConfig, StorageKind, Url},
    },
    store::{RequestLimits, Rules},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::{Code, Request, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

struct Cluster {
    servers: Vec<Server>,
    channels: Vec<Channel>,
}

impl Cluster {
    async fn start() -> Cluster {
        Cluster::start_with(RequestLimits::default()).await
    }

    async fn start_with(limits: RequestLimits) -> Cluster {
        let names = ["a", "b", "c"];
        let urls: Vec<_> =
            names.iter().map(|_| Url::new("http", "127.0.0.1", ports::free_port())).collect();
        let members = names.iter().map(|name| (*name).to_owned()).zip(urls.clone());
        let cluster = ClusterMap::by_name(members, "in-process").expect("three members");
        let starts = names.iter().zip(urls).map(|(name, url)| {
            Server::start(ServerConfig {
                storage: StorageKind::Memory,
                limits,
                ..ServerConfig::member(name, cluster.clone(), "nowhere", url)
            })
        });
        let servers: Result<Vec<_>, _> = join_all(starts).await.into_iter().collect();
        let servers = servers.expect("they start");
        for server in &servers {
            let mut leadership = server.leadership();
            let led = leadership.wait_for(|leadership| leadership.leader.is_some());
            led.await.expect("the node runs");
        }
        let channels = join_all(servers.iter().map(|server| async {
            let url = server.client_urls()[0].to_string();
            Channel::from_shared(url).expect("a URL").connect().await.expect("it serves")
        }));
        Cluster { channels: channels.await, servers }
    }

    fn kv(&self, server: usize) -> KvClient<Channel> {
        KvClient::new(self.channels[server].clone()).max_encoding_message_size(usize::MAX)
    }

    /// Asks a server over HTTP/1.1; returns status and body.
    async fn http(&self, server: usize, path: &str) -> (u16, String) {
        let address = self.servers[server].client_urls()[0].address();
        let mut stream = TcpStream::connect(address).await.expect("it serves");
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (status, body.to_owned())
    }

    /// Waits until the health service of gRPC says so: it follows the leadership at once, yet
    /// behind it.
    async fn becomes(&self, server: usize, expected: ServingStatus) {
        let mut health = HealthClient::new(self.channels[server].clone());
        let expected = i32::from(expected);
        let becomes = async {
            loop {
                let answer = health.check(HealthCheckRequest::default()).await;
                if answer.expect("it answers").into_inner().status == expected {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), becomes).await.expect("its status changes");
    }
}

fn put(key: &'static str, value: impl Into<bytes::Bytes>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..RangeRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_serves_reads_and_writes() {
    let cluster = Cluster::start().await;
    for writer in 0..3 {
        let value = format!("from {writer}");
        let answer = cluster.kv(writer).put(put("k", value.clone())).await.expect("it works");
        let header = answer.into_inner().header.expect("every answer has one");
        assert_eq!(header.revision, 2 + i64::try_from(writer).expect("a small number"));
        assert_eq!(header.member_id, cluster.servers[writer].node().identity().node.0);
        assert!(header.cluster_id != 0 && header.raft_term > 0);
        for reader in 0..3 {
            let answer = cluster.kv(reader).range(range("k")).await.expect("it works").into_inner();
            assert_eq!(answer.kvs[0].value, value, "read from {reader}");
            assert_eq!(answer.header.expect("it has one").revision, header.revision);
        }
    }
}

/// As large as users of etcd raise its limit to, by any member.
#[tokio::test(flavor = "multi_thread")]
async fn requests_of_ten_mebibytes_can_be_allowed() {
    let request_bytes_max = 10 << 20;
    let limits = RequestLimits { request_bytes_max, ..RequestLimits::default() };
    let cluster = Cluster::start_with(limits).await;
    let value = vec![b'x'; request_bytes_max - 100];
    for writer in 0..3 {
        cluster.kv(writer).put(put("large", value.clone())).await.expect("a quorum");
        let mut reader = cluster.kv((writer + 1) % 3).max_decoding_message_size(usize::MAX);
        let found = reader.range(range("large")).await.expect("a quorum").into_inner();
        assert_eq!(
            (found.kvs[0].value.len(), found.kvs[0].version),
            (value.len(), writer as i64 + 1)
        );
    }
    let larger = put("large", vec![b'x'; request_bytes_max + 1]);
    let refused = cluster.kv(0).put(larger).await.expect_err("it is too large");
    assert_eq!(refused.message(), "etcdserver: request is too large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_only_reads_changes_nothing_and_is_linearizable() {
    let cluster = Cluster::start().await;
    cluster.kv(0).put(put("k", "v")).await.expect("it works");
    let before = cluster.servers[0].node().status().chosen;
    let read = RequestOp { request: Some(request_op::Request::RequestRange(range("k"))) };
    let txn = TxnRequest { success: vec![read], ..TxnRequest::default() };
    for server in 0..3 {
        let answer = cluster.kv(server).txn(txn.clone()).await.expect("it works").into_inner();
        assert!(answer.succeeded && answer.responses.len() == 1);
        assert_eq!(answer.header.expect("it has one").revision, 2);
    }
    // The members may still be publishing their names, but nothing else takes up slots.
    let after = cluster.servers[0].node().status().chosen;
    assert!(after.0 <= before.0 + 3, "reads took up slots: {before} and then {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_members_are_listed_once_they_have_started() {
    let cluster = Cluster::start().await;
    let mut client = ClusterClient::new(cluster.channels[1].clone());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let members = loop {
        let request = MemberListRequest { linearizable: true };
        let answer = client.member_list(request).await.expect("it works").into_inner();
        assert_eq!(answer.header.expect("it has one").revision, 0);
        if answer.members.iter().all(|member| !member.client_urls.is_empty()) {
            break answer.members;
        }
        assert!(tokio::time::Instant::now() < deadline, "not all members are published");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c"]);
    for member in &members {
        let server =
            cluster.servers.iter().find(|server| server.node().identity().node.0 == member.id);
        let url = server.expect("a member is one of the servers").client_urls()[0].to_string();
        assert_eq!(member.client_urls, [url]);
        assert!(member.peer_urls[0].starts_with("http://127.0.0.1:"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_leader_slots_and_size() {
    let cluster = Cluster::start().await;
    cluster.kv(0).put(put("k", "v")).await.expect("it works");
    let mut client = MaintenanceClient::new(cluster.channels[0].clone());
    let status = client.status(StatusRequest {}).await.expect("it works").into_inner();
    let ids: Vec<_> =
        cluster.servers.iter().map(|server| server.node().identity().node.0).collect();
    assert!(ids.contains(&status.leader));
    assert!(status.raft_index > 0 && status.raft_applied_index > 0 && status.raft_term > 0);
    assert!(status.db_size > 0 && status.db_size_in_use > 0);
    assert!(status.version.starts_with("3.5."));
    assert_eq!(status.header.expect("it has one").revision, 2);
    let alarms = client.alarm(AlarmRequest::default()).await.expect("it works").into_inner();
    assert!(alarms.alarms.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_in_etcds_words() {
    let cluster = Cluster::start().await;
    let mut kv = cluster.kv(0);
    let large = kv.put(put("k", vec![0; 1_600_000])).await.expect_err("it is too large");
    assert_eq!(large.code(), Code::InvalidArgument);
    assert_eq!(large.message(), "etcdserver: request is too large");
    kv.put(put("k", vec![0; 1_500_000])).await.expect("it is not too large");
    let huge = kv.put(put("k", vec![0; 8 << 20])).await.expect_err("it is far too large");
    assert_ne!(huge.code(), Code::Unavailable);
    let empty = kv.put(put("", "v")).await.expect_err("it has no key");
    assert_eq!(empty.message(), "etcdserver: key is not provided");
    let future = kv.compact(CompactionRequest { revision: 99, physical: false }).await;
    let future = future.expect_err("there is no such revision");
    assert_eq!(future.code(), Code::OutOfRange);
    assert_eq!(future.message(), "etcdserver: mvcc: required revision is a future revision");
    kv.range(range("k")).await.expect("the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_end_their_connection_and_nothing_else() {
    let cluster = Cluster::start().await;
    let address = cluster.servers[0].client_urls()[0].address();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff";
    let endless_header = [b"GET / HTTP/1.1\r\nx: ".to_vec(), vec![b'x'; 1 << 20]].concat();
    for bytes in [&b"\0\x01\x02 nonsense\r\n\r\n"[..], preface, &endless_header] {
        let mut stream = TcpStream::connect(&address).await.expect("it serves");
        // It may close the connection before all is written.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let closed = stream.read_to_end(&mut answer);
        let closed = tokio::time::timeout(Duration::from_secs(20), closed).await;
        assert!(closed.is_ok(), "the connection stays open");
    }
    cluster.kv(0).put(put("k", "v")).await.expect("the others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_version_are_served_on_the_same_port() {
    let cluster = Cluster::start().await;
    let healthy = (200, r#"{"health":"true","reason":""}"#.to_owned());
    for server in 0..3 {
        assert_eq!(cluster.http(server, "/health").await, healthy);
        assert_eq!(cluster.http(server, "/livez").await, (200, "ok\n".to_owned()));
        assert_eq!(cluster.http(server, "/readyz").await, (200, "ok\n".to_owned()));
        cluster.becomes(server, ServingStatus::Serving).await;
    }
    let (status, body) = cluster.http(0, "/readyz?verbose").await;
    assert_eq!(status, 200);
    assert!(body.contains("[+]linearizable_read ok"), "{body}");
    let (status, body) = cluster.http(0, "/version").await;
    let version: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    let numbers = version["etcdserver"].as_str().expect("a version").split('.');
    assert_eq!(numbers.map(|number| number.parse::<u32>().is_ok()).collect::<Vec<_>>(), [true; 3]);
    assert_eq!((status, &version["etcdcluster"]), (200, &serde_json::json!("3.5.0")));
    assert_eq!(cluster.http(0, "/nothing").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_clients_are_told() {
    let cluster = Cluster::start().await;
    cluster.kv(0).put(put("k", "v")).await.expect("it works");
    cluster.servers[1].shutdown().await.expect("it stops");
    cluster.servers[2].shutdown().await.expect("it stops");
    let mut leadership = cluster.servers[0].leadership();
    let lost = leadership.wait_for(|leadership| leadership.leader.is_none());
    lost.await.expect("the node runs");

    let (status, body) = cluster.http(0, "/health").await;
    assert_eq!((status, body.contains("RAFT NO LEADER")), (503, true), "{body}");
    assert_eq!(cluster.http(0, "/health?serializable=true").await.0, 200);
    assert_eq!(cluster.http(0, "/livez").await.0, 200);
    let serializable = RangeRequest { serializable: true, ..range("k") };
    let local = cluster.kv(0).range(serializable.clone()).await.expect("it is served locally");
    assert_eq!(local.into_inner().kvs[0].value, "v");

    let read = |range| RequestOp { request: Some(request_op::Request::RequestRange(range)) };
    let txn = |success| TxnRequest { success, ..TxnRequest::default() };
    let local = cluster.kv(0).txn(txn(vec![read(serializable.clone())])).await;
    assert_eq!(local.expect("it is served locally").into_inner().responses.len(), 1);

    let mut wants_leader = Request::new(serializable.clone());
    wants_leader.metadata_mut().insert("hasleader", "true".parse().expect("a value"));
    let refused = cluster.kv(0).range(wants_leader).await.expect_err("there is no leader");
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));

    // What is about conditions alone, or has one read that must be up to date, is not served locally.
    let condition = Compare { key: "k".into(), ..Compare::default() };
    let conditions = TxnRequest { compare: vec![condition], ..TxnRequest::default() };
    let within = |txn| RequestOp { request: Some(request_op::Request::RequestTxn(txn)) };
    let undemanding = read(serializable);
    let demanding = [
        conditions.clone(),
        txn(vec![undemanding.clone(), within(conditions)]),
        txn(vec![within(txn(vec![undemanding, read(range("k"))]))]),
    ];
    let demanding = demanding.map(|txn| {
        let mut kv = cluster.kv(0);
        async move { kv.txn(txn).await.map(drop) }
    });

    let (mut reader, mut writer) = (cluster.kv(0), cluster.kv(0));
    let (read, written, txns) =
        tokio::join!(reader.range(range("k")), writer.put(put("k", "w")), join_all(demanding));
    for refused in [read.map(drop), written.map(drop)].into_iter().chain(txns) {
        let refused = refused.expect_err("there is no quorum");
        assert_eq!(refused.code(), Code::Unavailable);
        assert_eq!(refused.message(), "etcdserver: request timed out");
    }
    cluster.becomes(0, ServingStatus::NotServing).await;
    let (status, body) = cluster.http(0, "/readyz").await;
    assert_eq!((status, body.contains("[-]linearizable_read failed")), (503, true), "{body}");
}

/// Writes that are under way at the others have their effect, once each.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_leader_costs_clients_time_and_no_errors() {
    const WRITERS: usize = 16;
    const WRITES: usize = 40;
    let cluster = Cluster::start().await;
    let leader = cluster.servers[0].leadership().borrow().leader.expect("there is one");
    let is_leader = |server: &Server| server.node().identity().node == leader;
    let place = cluster.servers.iter().position(is_leader).expect("it is one of them");
    let written = Arc::new(AtomicUsize::new(0));
    let writers = (0..WRITERS).map(|writer| {
        let mut kv = cluster.kv((place + 1 + writer % 2) % 3);
        let written = written.clone();
        tokio::spawn(async move {
            for number in 0..WRITES {
                let key = format!("{writer}/{number}").into();
                let put = PutRequest { key, value: "v".into(), ..PutRequest::default() };
                kv.put(put).await.expect("clients see no error");
                written.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    while written.load(Ordering::Relaxed) < WRITERS * WRITES / 4 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    cluster.servers[place].shutdown().await.expect("it stops");
    join_all(writers).await.into_iter().for_each(|ended| ended.expect("no error"));
    let found = cluster.servers[(place + 1) % 3].client().range(Keys::all()).await;
    let found = found.expect("the others go on").kvs;
    assert_eq!(found.len(), WRITERS * WRITES);
    assert!(found.iter().all(|kv| kv.version == 1), "one has had its effect twice");
}

/// Whoever says how long it waits is told then, and nobody works on for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_clients_own_deadline_is_respected() {
    const SOON: Duration = Duration::from_millis(200);
    let cluster = Cluster::start().await;
    let mut kv = cluster.kv(0);
    let with_deadline = |message| {
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(20));
        request
    };
    kv.put(with_deadline(put("k", "v"))).await.expect("there is time enough");
    cluster.servers[1].shutdown().await.expect("it stops");
    cluster.servers[2].shutdown().await.expect("it stops");
    let began = std::time::Instant::now();
    // Not by the client's own clock: it says how long it waits, and waits longer.
    let mut request = Request::new(put("k", "w"));
    request.metadata_mut().insert("grpc-timeout", "200m".parse().expect("text"));
    let mut by_hand = KvClient::new(cluster.servers[0].local());
    let refused = by_hand.put(request).await.expect_err("there is no quorum");
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    assert_eq!(refused.message(), "context deadline exceeded");
    let took = began.elapsed();
    assert!(took >= SOON && took < Duration::from_secs(5), "{took:?}");
    let mut request = Request::new(range("k"));
    request.metadata_mut().insert("grpc-timeout", "soon".parse().expect("text"));
    let refused = by_hand.range(request).await.expect_err("it is no time");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

/// What clients in other processes can do, without a socket.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_in_the_same_process_needs_no_socket() {
    let config = ServerConfig {
        storage: StorageKind::Memory,
        listen_client_urls: Vec::new(),
        ..ServerConfig::single("nowhere")
    };
    let server = Server::start(config).await.expect("it starts");
    server.joined().await;
    assert!(server.client_urls().is_empty());
    let client = server.client();
    for key in ["a/1", "a/2", "b"] {
        client.put(key, "value").await.expect("it is put");
    }
    let found = client.get("a/1").await.expect("it is read").expect("it is there");
    assert_eq!((&found.value[..], found.mod_revision), (&b"value"[..], 2));
    assert_eq!(client.get("c").await.expect("it is read"), None);
    let first = RangeRequest { limit: 1, ..Keys::prefix("a/").into() };
    let first = client.range(first).await.expect("it is read");
    assert_eq!((first.kvs.len(), first.count, first.more), (1, 2, true));
    assert_eq!(client.delete(Keys::prefix("a/")).await.expect("they are deleted"), 2);
    let revision = client.range(Keys::all()).await.expect("it is read").header;
    let revision = revision.expect("every answer has one").revision;
    client.compact(revision).await.expect("there is such a revision");
    let compacted = RangeRequest { revision: revision - 1, ..Keys::one("b").into() };
    let refused = client.range(compacted).await.expect_err("it is compacted");
    assert_eq!(refused.code(), Code::OutOfRange);
    let large = client.put("large", vec![0; 8 << 20]).await.expect_err("it is too large");
    assert_eq!(large.code(), Code::ResourceExhausted);
    assert!(large.message().contains("larger than max (8388"), "{large}");
    let mut members = ClusterClient::new(server.local());
    let listed = members.member_list(MemberListRequest::default());
    assert_eq!(listed.await.expect("it is listed").into_inner().members.len(), 1);
    server.shutdown().await.expect("it stops");
    let stopped = client.put("k", "v").await.expect_err("it has stopped");
    assert_eq!(stopped.message(), "etcdserver: server stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dropped_gives_its_ports_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let server = Server::start(ServerConfig::single(directory.path())).await.expect("it starts");
    let node = server.node().clone();
    let url = server.client_urls()[0].clone();
    drop(server);
    let freed = async {
        while TcpStream::connect(url.address()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), freed).await.expect("nobody listens any more");
    node.shutdown().await.expect("it stops");
    let again = Server::start(ServerConfig::single(directory.path())).await;
    again.expect("the data is free").shutdown().await.expect("it stops");
}

/// Written to while it is sent: what is sent is of one moment, in pieces as long as etcd's, each with
/// what is left, and the last one is the checksum.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_comes_in_pieces_while_writes_go_on() {
    let cluster = Cluster::start().await;
    for key in ["a", "b", "c"] {
        cluster.kv(0).put(put(key, vec![7; 1 << 20])).await.expect("it is put");
    }
    let mut maintenance = MaintenanceClient::new(cluster.channels[0].clone());
    let snapshot = maintenance.snapshot(SnapshotRequest {}).await.expect("it begins");
    let mut pieces = snapshot.into_inner();
    let first = pieces.message().await.expect("it comes").expect("there is one");
    let total = first.blob.len() as u64 + first.remaining_bytes;
    assert!(total > 3 << 20 && total.is_multiple_of(4096), "{total}");
    cluster.kv(0).put(put("later", "1")).await.expect("writes go on");
    let mut file = first.blob.to_vec();
    let mut last = first;
    while let Some(piece) = pieces.message().await.expect("it comes") {
        assert!(piece.header.is_none(), "etcd leaves it out");
        let rest = total - (file.len() + piece.blob.len()).min(total as usize) as u64;
        assert_eq!(piece.remaining_bytes, rest);
        file.extend_from_slice(&piece.blob);
        last = piece;
    }
    assert_eq!(file.len() as u64, total + 32);
    let database = &file[..file.len() - 32];
    assert_eq!(last.blob, ring::digest::digest(&ring::digest::SHA256, database).as_ref());
    assert!(!database.windows(5).any(|word| word == b"later"), "it came later");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_snapshots_at_a_time_are_enough() {
    let cluster = Cluster::start().await;
    for key in ["a", "b", "c"] {
        cluster.kv(0).put(put(key, vec![7; 1 << 20])).await.expect("it is put");
    }
    let mut maintenance = MaintenanceClient::new(cluster.channels[0].clone());
    let first = maintenance.snapshot(SnapshotRequest {}).await.expect("it begins");
    let second = maintenance.snapshot(SnapshotRequest {}).await.expect("it begins");
    let refused = maintenance.snapshot(SnapshotRequest {}).await.expect_err("it is one too many");
    assert_eq!(refused.message(), "etcdserver: too many requests");
    // One that is given up makes room.
    drop(first);
    let again = async {
        while maintenance.snapshot(SnapshotRequest {}).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("there is room again");
    drop(second);
    for server in &cluster.servers {
        server.shutdown().await.expect("a snapshot under way holds nothing up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn defragmenting_is_done_at_once() {
    let cluster = Cluster::start().await;
    let mut maintenance = MaintenanceClient::new(cluster.channels[0].clone());
    let answer = maintenance.defragment(DefragmentRequest {}).await.expect("it is done");
    assert_eq!(answer.into_inner().header.expect("it has one").revision, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_come_into_force_once_all_members_know_them() {
    let cluster = Cluster::start().await;
    let in_force = async |server: &Server| {
        let rules = server.node().read(|store| store.reader().rules()).await;
        rules.expect("a quorum")
    };
    let raised = async {
        while in_force(&cluster.servers[0]).await < Rules::KNOWN {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), raised).await.expect("all members are of today");
    for server in &cluster.servers {
        assert_eq!(in_force(server).await, Rules::KNOWN);
    }
}
