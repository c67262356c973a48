//! Nodes that come back on an empty disk under their old id.

use std::time::Duration;

use paxos_core::{
    Node,
    node::{ProposeError, ReadError},
};
use paxos_storage::MemoryStorage;
use tokio::time::Instant;

use super::cluster::{Cluster, Ledger};

/// More than any election takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// It has forgotten its promises, so those who have met it do without it, for good.
#[tokio::test(start_paused = true)]
async fn an_empty_node_takes_part_in_nothing() {
    let mut cluster = Cluster::start(3).await;
    cluster.node(1).propose(1).await.expect("a response");
    cluster.entries(3).await;
    cluster.crash(1);
    cluster.disks.insert(1, MemoryStorage::new());
    cluster.start_node(1, Ledger::default()).await;
    cluster.node(2).propose(2).await.expect("two of three are a quorum");
    let refused = cluster.node(1).propose_within(3, PATIENCE).await;
    assert!(matches!(refused, Err(ProposeError::Refused { .. })), "{refused:?}");
    cluster.crash(3);
    let alone = cluster.node(2).propose_within(4, PATIENCE).await;
    assert!(
        matches!(alone, Err(ProposeError::Refused { .. })),
        "an empty node is no help: {alone:?}"
    );
    assert_eq!(cluster.node(1).status().applied.0, 0);
    cluster.start_node(3, Ledger::default()).await;
    assert_eq!(cluster.entries(3).await[..2], [1, 2]);
}

fn refused(node: &Node<Ledger>) -> Vec<u64> {
    node.status().refusals.iter().map(|refused| refused.peer.0).collect()
}

/// It is not only in the log: status and a watch say so, and nobody waits for the same answer twice.
#[tokio::test(start_paused = true)]
async fn who_is_refused_and_why_is_told_to_whoever_asks() {
    let mut cluster = Cluster::start(3).await;
    cluster.node(1).propose(1).await.expect("a response");
    cluster.entries(3).await;
    assert_eq!(refused(cluster.node(1)), [0; 0]);
    cluster.crash(1);
    let disk = cluster.disks.insert(1, MemoryStorage::new()).expect("it had one");
    cluster.start_node(1, Ledger::default()).await;
    let node = cluster.node(1).clone();
    let mut watch = node.refusals();
    let all = watch.wait_for(|refusals| refusals.len() == 2).await.expect("it runs").clone();
    assert_eq!(refused(&node), [2, 3]);
    assert!(
        all.iter().all(|refused| refused.reason.contains("replace it as a new member")),
        "{all:?}"
    );
    let others =
        cluster.node(2).refusals().wait_for(|refusals| !refusals.is_empty()).await.map(drop);
    assert!(others.is_ok() && refused(cluster.node(2)) == [1], "on both sides");

    let began = Instant::now();
    let Err(ProposeError::Refused { reason }) = node.propose(2).await else {
        panic!("it is refused")
    };
    assert!(reason.contains("node 2: ") && reason.contains("node 3: "), "{reason}");
    assert!(matches!(node.propose_batch(vec![2, 3]).await, Err(ProposeError::Refused { .. })));
    assert!(matches!(node.linearize().await, Err(ReadError::Refused { .. })));
    assert!(node.read_local(|_| ()).await.is_ok(), "that needs nobody");
    assert_eq!(began.elapsed(), Duration::ZERO, "at once");
    assert!(cluster.node(2).propose(2).await.is_ok(), "the others go on");

    // On its own disk it is one of them again, and nobody is refused any more.
    drop(node);
    cluster.crash(1);
    cluster.disks.insert(1, disk);
    cluster.start_node(1, Ledger::default()).await;
    assert!(cluster.node(1).propose(3).await.is_ok());
    let over = cluster.node(2).refusals().wait_for(Vec::is_empty).await.map(drop);
    assert!(over.is_ok() && refused(cluster.node(2)) == [0; 0]);
}
