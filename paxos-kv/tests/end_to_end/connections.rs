//! Connections of clients that behave badly, or as no library lets them: those of others do not suffer,
//! and neither does what else is under way on the same one.

use std::{io, time::Duration};

use paxos_kv::proto::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
use prost::Message;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tonic::{Code, Request, Status};

use super::{
    SOME,
    common::{
        Cluster, client,
        etcdctl::RealEtcd,
        frames::{answer, call, call_to, cancel, greeting, message},
        workload::Workload,
    },
};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A value that takes many frames.
const LARGE_BYTES: usize = 1 << 20;

/// Keys with such a value.
const LARGE_KEYS: usize = 4;

/// A connection that has begun to read all of them on stream 1.
async fn reads_much(endpoint: &str) -> TcpStream {
    let channel = client::connect(endpoint);
    let value = "x".repeat(LARGE_BYTES);
    for number in 0..LARGE_KEYS {
        client::put(&channel, &format!("large/{number}"), &value).await.expect("it is served");
    }
    let mut connection = TcpStream::connect(endpoint).await.expect("it listens");
    let range = RangeRequest {
        key: "large/".into(),
        range_end: "large0".into(),
        ..RangeRequest::default()
    };
    let range = message(1, &range.encode_to_vec());
    let begun = [greeting(), call(1, "/etcdserverpb.KV/Range", &[]), range].concat();
    connection.write_all(&begun).await.expect("it is open");
    connection
}

/// Expects the answer to that.
async fn is_answered(connection: &mut TcpStream) {
    let answered = timeout(PATIENCE, answer(connection, 1)).await.expect("an answer comes");
    let bytes = answered.expect("the connection stays");
    assert!(bytes > LARGE_KEYS * LARGE_BYTES, "{bytes} bytes are not all");
}

async fn cancelled_requests_leave_the_others_alone(endpoint: &str) {
    let mut connection = reads_much(endpoint).await;
    let streams = (3..).step_by(2).take(1000);
    let cancelled = streams
        .flat_map(|stream| [call(stream, "/etcdserverpb.KV/Put", &[]), cancel(stream)].concat());
    connection.write_all(&cancelled.collect::<Vec<_>>()).await.expect("it is open");
    is_answered(&mut connection).await;
}

/// A write with so much metadata.
async fn put_with_metadata(endpoint: &str, bytes: usize) -> Result<(), Status> {
    let mut request = Request::new(PutRequest { key: "k".into(), ..PutRequest::default() });
    let value = "x".repeat(bytes).parse().expect("text is metadata");
    request.metadata_mut().insert("x-large", value);
    let put =
        timeout(
            PATIENCE,
            async move { KvClient::new(client::connect(endpoint)).put(request).await },
        );
    put.await.expect("an answer comes").map(drop)
}

async fn metadata_is_taken(endpoint: &str) {
    for bytes in [15 << 10, 17 << 10, 63 << 10, 65 << 10, 900 << 10] {
        let put = put_with_metadata(endpoint, bytes).await;
        put.unwrap_or_else(|status| panic!("{bytes} bytes: {status}"));
    }
}

/// What clients write that have no authority to name.
async fn authorities_that_are_none_are_served(endpoint: &str) {
    let mut connection = TcpStream::connect(endpoint).await.expect("it listens");
    connection.write_all(&greeting()).await.expect("it is open");
    let authorities = [
        "#initially=[http://127.0.0.1:2379]",
        "http://127.0.0.1:2379",
        "/var/run/etcd.sock",
        "",
        "not a host",
    ];
    for (authority, stream) in authorities.iter().zip((1..).step_by(2)) {
        let status = call_to(authority, stream, "/etcdserverpb.Maintenance/Status", &[]);
        let request = [status, message(stream, &[])].concat();
        connection.write_all(&request).await.expect("it is open");
        let answered = timeout(PATIENCE, answer(&mut connection, stream)).await;
        let bytes = answered.expect("an answer comes");
        let bytes = bytes.unwrap_or_else(|error| panic!("{authority:?}: {error}"));
        assert!(bytes > 20, "{authority:?} has no answer of {bytes} bytes");
    }
}

/// Messages that are longer than gRPC lets pass: they are refused by themselves.
async fn long_messages_are_refused(endpoint: &str) {
    for (bytes, code, text) in [
        (1 << 20, Code::Ok, ""),
        ((3 << 19) + 1000, Code::InvalidArgument, "etcdserver: request is too large"),
        (3 << 20, Code::ResourceExhausted, "larger than max"),
    ] {
        let value = vec![b'x'; bytes].into();
        let put = PutRequest { key: "k".into(), value, ..PutRequest::default() };
        let put =
            timeout(PATIENCE, async { KvClient::new(client::connect(endpoint)).put(put).await });
        let status = match put.await.expect("an answer comes") {
            Ok(_) => Status::ok(""),
            Err(status) => status,
        };
        assert_eq!(status.code(), code, "{bytes} bytes: {status}");
        assert!(status.message().contains(text), "{bytes} bytes: {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_requests_and_long_metadata_are_a_matter_of_their_own() {
    let cluster = Cluster::start("http").await;
    let endpoint = cluster.servers[0].endpoint();
    authorities_that_are_none_are_served(&endpoint).await;
    long_messages_are_refused(&endpoint).await;
    cancelled_requests_leave_the_others_alone(&endpoint).await;
    metadata_is_taken(&endpoint).await;
    let refused = put_with_metadata(&endpoint, 2 << 20).await.expect_err("it is too much");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");

    let mut connection = reads_much(&endpoint).await;
    let metadata = "x".repeat(2 << 20);
    let too_much = call(3, "/etcdserverpb.KV/Put", &[("x-large", &metadata)]);
    connection.write_all(&too_much).await.expect("it is open");
    is_answered(&mut connection).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn a_real_etcd_takes_cancelled_requests_and_long_metadata() {
    let etcd = RealEtcd::start().await;
    authorities_that_are_none_are_served(&etcd.endpoint()).await;
    long_messages_are_refused(&etcd.endpoint()).await;
    cancelled_requests_leave_the_others_alone(&etcd.endpoint()).await;
    metadata_is_taken(&etcd.endpoint()).await;
}

/// Connections that have introduced themselves and want nothing.
async fn crowd(endpoint: &str, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = TcpStream::connect(endpoint).await?;
        connection.write_all(&greeting()).await?;
        connections.push(connection);
    }
    Ok(connections)
}

/// More clients than there are descriptors, and a member that has to come back meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn clients_leave_the_descriptors_to_peers_that_these_need() {
    const LIMIT: u32 = 220;
    /// More than clients get of the limit, and few enough for the system to hold the others back.
    const CROWD: usize = 150;
    const FULL: &str = "all places for clients are taken";
    const LEADER: &str = "the cluster has a leader";

    let mut cluster = Cluster::stopped("http", Vec::new()).await;
    cluster.descriptors_max = Some(LIMIT);
    cluster.start_all().await;
    let follower = (cluster.leader().await + 1) % 3;
    let mut crowds = Vec::new();
    for (index, endpoint) in cluster.endpoints().iter().enumerate() {
        crowds.push(crowd(endpoint, CROWD).await.expect("the system takes them"));
        cluster.logged(index, FULL).await;
    }
    let before = [LEADER, FULL].map(|text| cluster.lines(follower, text));
    cluster.kill(follower);
    cluster.restart(follower);
    let endpoint = cluster.servers[follower].endpoint();
    let returned = async {
        loop {
            if let Ok(crowd) = crowd(&endpoint, CROWD).await {
                break crowd;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    crowds[follower] = timeout(PATIENCE, returned).await.expect("the port is open again");
    cluster.logged_after(follower, FULL, before[1]).await;
    cluster.logged_after(follower, LEADER, before[0]).await;
    // Not ten lines a second.
    assert!((0..3).all(|index| cluster.lines(index, FULL) <= 6));

    drop(crowds);
    cluster.settled().await;
    let workload = Workload::start(&cluster.endpoints());
    workload.progress(SOME).await;
    workload.finish(&cluster.endpoints()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_descriptors_are_refused_at_the_start() {
    let mut cluster = Cluster::stopped("http", Vec::new()).await;
    cluster.descriptors_max = Some(190);
    cluster.restart(0);
    cluster.logged(0, "raise the limit with `ulimit -n`").await;
    assert!(!cluster.terminate(0), "it runs all the same");
}

/// Asks a server that listens on all addresses on one of each family.
async fn both_families_are_served(port: u16) {
    for host in ["127.0.0.1", "[::1]"] {
        if TcpListener::bind(format!("{host}:0")).await.is_ok() {
            let status = client::status(&format!("{host}:{port}")).await;
            status.unwrap_or_else(|failed| panic!("{host}: {failed:?}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn a_real_etcd_serves_both_families_of_all_addresses() {
    let etcd = RealEtcd::start_with(&["--listen-client-urls=http://0.0.0.0:CLIENT_PORT"]).await;
    both_families_are_served(etcd.client_port).await;
}

/// Clients and peers alike: the members know each other by addresses of different families.
#[tokio::test(flavor = "multi_thread")]
async fn both_families_of_all_addresses_are_served() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        println!("there is no IPv6 here");
        return;
    }
    for scheme in ["http", "quic"] {
        let cluster = Cluster::start_everywhere(scheme).await;
        for server in &cluster.servers {
            both_families_are_served(server.client_port).await;
        }
    }
}
