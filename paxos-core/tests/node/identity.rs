//! Nodes that come back on an empty disk under their old id.

use std::time::Duration;

use paxos_core::node::ProposeError;
use paxos_storage::MemoryStorage;

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
    assert_eq!(refused, Err(ProposeError::UnknownOutcome));
    cluster.crash(3);
    let alone = cluster.node(2).propose_within(4, PATIENCE).await;
    assert_eq!(alone, Err(ProposeError::UnknownOutcome), "an empty node is no help");
    assert_eq!(cluster.node(1).status().applied.0, 0);
    cluster.start_node(3, Ledger::default()).await;
    assert_eq!(cluster.entries(3).await[..2], [1, 2]);
}
