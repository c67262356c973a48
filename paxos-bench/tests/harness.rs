//! The harness measures what it says: every command counts once, on every pair of backends.

use std::path::Path;

use paxos_bench::{
    Background, Cluster, Entry, Fixture, Payload, StorageKind, TransportKind, drive,
    matrix::backends,
};

const DIRECTORY: &str = env!("CARGO_TARGET_TMPDIR");

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_backends_applies_every_command_once_on_all_nodes() {
    for (transport, storage) in backends() {
        let cluster = Cluster::start(3, transport, storage, Path::new(DIRECTORY)).await;
        let cluster = cluster.unwrap_or_else(|error| panic!("{transport}/{storage}: {error}"));
        let before = cluster.agreed().await.expect("agreement");
        let payload = Payload::of_size(100);
        for (entry, in_flight) in [(Entry::Leader, 1), (Entry::Leader, 7), (Entry::Everywhere, 9)] {
            let time = drive(&cluster.entry(entry), &payload, in_flight, 50).await;
            assert!(!time.expect("results").is_zero());
        }
        let after = cluster.shutdown().await.expect("agreement and a clean end");
        assert_eq!(after.commands - before.commands, 150, "{transport}/{storage}");
        assert_eq!(after.bytes - before.bytes, 15_000, "{transport}/{storage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_background_counts_its_commands_and_stops() {
    let directory = Path::new(DIRECTORY);
    let cluster = Cluster::start(3, TransportKind::Memory, StorageKind::Memory, directory).await;
    let cluster = cluster.expect("a cluster");
    let before = cluster.agreed().await.expect("agreement");
    let nodes = cluster.entry(Entry::Everywhere);
    let background = Background::start(&nodes, &Payload::of_size(10), 5).await.expect("results");
    let commands = background.stop().await.expect("results");
    assert!(commands >= 5, "each client has had a result");
    let after = cluster.shutdown().await.expect("agreement");
    assert_eq!(after.commands - before.commands, commands);
}

#[test]
fn a_fixture_keeps_its_cluster_until_the_log_is_long() {
    let directory = Path::new(DIRECTORY);
    let fixture = Fixture::new(TransportKind::Memory, StorageKind::Memory, directory);
    let mut fixture = fixture.expect("a runtime");
    let first = fixture.prepare(Entry::Leader).expect("a cluster")[0].identity().store;
    let nodes = fixture.prepare(Entry::Everywhere).expect("a cluster");
    assert!(nodes.iter().any(|node| node.identity().store == first), "it is the same cluster");
    let payload = Payload::of_size(1 << 20);
    fixture.throughput(&nodes, &payload, 4, 65).expect("results");
    let nodes = fixture.prepare(Entry::Everywhere).expect("a cluster");
    assert!(nodes.iter().all(|node| node.identity().store != first), "it is another cluster");
    fixture.latency(&nodes[0], &payload, 2).expect("results");
    fixture.close().expect("a clean end");
}
