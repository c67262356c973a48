//! Disks that are full, fail or are slow; state machines that panic or remember.

use std::time::Duration;

use paxos_core::{
    node::{NodeError, ProposeError},
    port::StorageError,
    types::Slot,
};
use tokio::time::Instant;

use super::cluster::{Cluster, DurableLedger, PANIC};

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_proposals_until_there_is_room_and_loses_nothing() {
    let cluster = Cluster::start(1).await;
    let node = cluster.node(1);
    assert_eq!(node.propose(1).await, Ok(1));
    cluster.disks[&1].set_full(true);
    let (under_way, _) = tokio::join!(node.propose_within(2, Duration::from_secs(30)), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(node.propose(3).await, Err(ProposeError::DiskFull));
        assert!(node.is_disk_full() && node.status().is_disk_full);
        cluster.disks[&1].set_full(false);
    });
    assert_eq!(under_way, Ok(2), "what met the full disk goes on");
    let start = Instant::now();
    while let Err(error) = node.propose(4).await {
        assert_eq!(error, ProposeError::DiskFull);
        assert!(start.elapsed() < Duration::from_secs(5), "there is room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cluster.entries(1).await, [1, 2, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_disk_is_full_makes_way_and_the_cluster_goes_on() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    let elsewhere = cluster.other_than(leader);
    cluster.disks[&leader].set_full(true);
    for command in 0..20 {
        assert!(cluster.node(elsewhere).propose(command).await.is_ok());
    }
    let mut leadership = cluster.node(elsewhere).leadership();
    let replaced = leadership.wait_for(|now| now.leader.is_some_and(|id| id.0 != leader));
    drop(replaced.await.expect("the node runs"));
    cluster.disks[&leader].set_full(false);
    cluster.node(leader).linearize().await.expect("a quorum runs");
    assert_eq!(cluster.entries(leader).await, cluster.entries(elsewhere).await);
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_ends_the_node_and_says_so() {
    let mut cluster = Cluster::start(1).await;
    cluster.node(1).propose(1).await.expect("a response");
    cluster.disks[&1].fail_next_write();
    let reason = match cluster.node(1).propose(2).await {
        Err(ProposeError::Stopped(reason)) => reason,
        other => panic!("{other:?} on a failed disk"),
    };
    assert!(matches!(&reason, NodeError::Storage(StorageError::Io { operation: "sync", .. })));
    assert_eq!(cluster.node(1).stopped().await, Err(reason.clone()));
    assert_eq!(cluster.node(1).shutdown().await, Err(reason.clone()), "it has ended already");
    assert_eq!(cluster.node(1).propose(3).await, Err(ProposeError::Stopped(reason)));
    // The storage was closed, so the disk can be opened again.
    cluster.start_node(1, super::cluster::Ledger::default()).await;
    assert_eq!(cluster.entries(1).await.first(), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn the_panic_of_a_state_machine_ends_the_node_and_nobody_waits_in_vain() {
    let cluster = Cluster::start(1).await;
    let node = cluster.node(1);
    let (panicking, later) = tokio::join!(node.propose(PANIC), node.propose(1));
    let expected = |reason: &NodeError| match reason {
        NodeError::Panicked { task: "state machine", message } => {
            message.contains("this is the end")
        }
        _ => false,
    };
    for result in [panicking, later] {
        assert!(matches!(&result, Err(ProposeError::Stopped(reason)) if expected(reason)));
    }
    assert!(expected(&node.stopped().await.expect_err("it failed")));
}

#[tokio::test(start_paused = true)]
async fn a_leader_with_a_slow_disk_commits_past_it() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    cluster.node(leader).propose(1).await.expect("a response");
    cluster.disks[&leader].hold_writes();
    for command in 2..5 {
        cluster.node(leader).propose(command).await.expect("the others are a quorum");
    }
    cluster.disks[&leader].release_writes();
    assert_eq!(cluster.entries(leader).await, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_before_it_is_durable_on_a_quorum() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    cluster.node(leader).propose(1).await.expect("a response");
    for disk in cluster.disks.values() {
        disk.hold_writes();
    }
    let patience = Duration::from_millis(500);
    let early = cluster.node(leader).propose_within(2, patience).await;
    assert_eq!(early, Err(ProposeError::UnknownOutcome));
    for disk in cluster.disks.values() {
        disk.release_writes();
    }
    assert_eq!(cluster.node(leader).propose(3).await, Ok(3), "behind the one nobody waits for");
}

#[tokio::test(start_paused = true)]
async fn a_durable_state_machine_is_not_given_twice_what_it_has_applied() {
    let mut cluster = Cluster::new(3, |config| config.checkpoint_slots = 8);
    let ledgers: Vec<_> = (1..=3).map(|_| DurableLedger::default()).collect();
    let mut expected = Vec::new();
    for round in 0..4 {
        for (id, ledger) in (1..).zip(&ledgers) {
            cluster.start_node(id, ledger.clone()).await;
        }
        for command in round * 100..round * 100 + 30 {
            let position = cluster.node(command % 3 + 1).propose(command).await;
            expected.push(command);
            assert_eq!(position, Ok(expected.len()));
        }
        for id in 1..=3 {
            if round % 2 == 0 {
                cluster.crash(id);
            } else if let Some(node) = cluster.nodes.remove(&id) {
                node.shutdown().await.expect("a clean end");
            }
        }
    }
    for (id, ledger) in (1..).zip(&ledgers) {
        cluster.start_node(id, ledger.clone()).await;
    }
    for (id, ledger) in (1..).zip(&ledgers) {
        cluster.node(id).linearize().await.expect("a quorum runs");
        assert_eq!(ledger.look(|durable| durable.ledger.entries.clone()), expected);
        assert!(ledger.look(|durable| durable.applied) > Slot(100));
    }
}
