//! Leaders go, and nothing is lost or done twice.

use std::{collections::BTreeSet, time::Duration};

use paxos_core::{Config, Node, node::ProposeError, types::NodeId};
use paxos_transport::{Faults, MemoryNetwork};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::cluster::{Cluster, Ledger};

/// Proposes `commands` one after the other and reports each that is acknowledged, until the node
/// stops.
async fn write(node: Node<Ledger>, commands: std::ops::Range<u64>, acked: mpsc::Sender<u64>) {
    for command in commands {
        match node.propose_within(command, Duration::from_secs(10)).await {
            Ok(_) => acked.send(command).await.expect("the test listens"),
            Err(ProposeError::UnknownOutcome) => (),
            Err(ProposeError::Stopped(_)) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Starts a writer on every node; commands are unique.
fn writers(cluster: &Cluster, count: u64) -> (JoinSet<()>, mpsc::Receiver<u64>) {
    let (sender, acked) = mpsc::channel(1);
    let mut writers = JoinSet::new();
    for (&id, node) in &cluster.nodes {
        writers.spawn(write(node.clone(), id * 1000..id * 1000 + count, sender.clone()));
    }
    (writers, acked)
}

/// Everything acknowledged is there, once, on every node, in the same order. A command of a node
/// that crashed may still be on its way, so a later look may find more than an earlier one.
async fn check(cluster: &Cluster, acked: &BTreeSet<u64>) {
    let mut earlier = Vec::new();
    for &id in cluster.nodes.keys() {
        let entries = cluster.entries(id).await;
        assert!(entries.starts_with(&earlier), "node {id} has another history");
        let once: BTreeSet<_> = entries.iter().copied().collect();
        assert_eq!(once.len(), entries.len(), "something was applied twice");
        assert!(acked.is_subset(&once), "acknowledged and lost: {:?}", acked.difference(&once));
        earlier = entries;
    }
}

/// Meeting a peer gives the replica nothing to do, and what this peer says next is noticed all the
/// same: two of three have no timer that would wake them.
#[tokio::test(start_paused = true)]
async fn what_follows_a_first_meeting_is_noticed_at_once() {
    fn only_the_first_is_impatient(config: &mut Config) {
        if config.id != NodeId(1) {
            config.heartbeat_interval *= 10_000;
            config.election_timeout *= 10_000;
        }
    }
    let start = Instant::now();
    let cluster = Cluster::start_with(3, only_the_first_is_impatient).await;
    cluster.node(1).propose(1).await.expect("a response");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_crashed_leader_is_replaced_and_comes_back() {
    for size in [3, 5] {
        let mut cluster = Cluster::start(size).await;
        let (mut writers, mut receiver) = writers(&cluster, 60);
        let mut acked = BTreeSet::new();
        while acked.len() < 50 {
            acked.insert(receiver.recv().await.expect("the writers write"));
        }
        let leader = cluster.leader_of(1).await;
        cluster.crash(leader);
        let crashed_at = Instant::now();
        while let Some(command) = receiver.recv().await {
            acked.insert(command);
        }
        assert!(crashed_at.elapsed() < Duration::from_secs(4), "one election takes less");
        while let Some(writer) = writers.join_next().await {
            writer.expect("no panic");
        }
        let survivors = usize::try_from(size).expect("small") - 1;
        assert!(acked.len() >= survivors * 60, "the other nodes' writers have had it all");
        cluster.start_node(leader, Ledger::default()).await;
        check(&cluster, &acked).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_is_replaced_and_its_clients_succeed_once_it_is_back() {
    let cluster = Cluster::start(3).await;
    let (mut writers, mut receiver) = writers(&cluster, 60);
    let mut acked = BTreeSet::new();
    while acked.len() < 30 {
        acked.insert(receiver.recv().await.expect("the writers write"));
    }
    let leader = cluster.leader_of(1).await;
    let elsewhere = cluster.other_than(leader);
    cluster.network.isolate(leader);
    let mut leadership = cluster.node(elsewhere).leadership();
    let replaced = |now: &paxos_core::node::Leadership| now.leader.is_some_and(|id| id.0 != leader);
    {
        let waiting = leadership.wait_for(replaced);
        tokio::pin!(waiting);
        loop {
            tokio::select! {
                found = &mut waiting => break drop(found.expect("the node runs")),
                Some(command) = receiver.recv() => drop(acked.insert(command)),
            }
        }
    }
    cluster.network.heal();
    while let Some(command) = receiver.recv().await {
        acked.insert(command);
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("no panic");
    }
    assert_eq!(acked.len(), 180, "every proposal has succeeded within its deadline");
    check(&cluster, &acked).await;
}

#[tokio::test(start_paused = true)]
async fn a_bad_network_and_crashes_of_any_node_lose_nothing_and_do_nothing_twice() {
    for seed in 0..8 {
        let mut cluster = Cluster::new(3, |_| ());
        cluster.network = MemoryNetwork::new(seed);
        cluster.network.set_faults(Faults {
            drop_probability: 0.05,
            duplicate_probability: 0.05,
            delay: Duration::ZERO..=Duration::from_millis(30),
        });
        for id in 1..=3 {
            cluster.start_node(id, Ledger::default()).await;
        }
        let (mut writers, mut receiver) = writers(&cluster, 40);
        let mut acked = BTreeSet::new();
        for crash in 0..3 {
            let enough = acked.len() + 10;
            while acked.len() < enough {
                acked.insert(receiver.recv().await.expect("the writers write"));
            }
            let id = (seed + crash) % 3 + 1;
            cluster.crash(id);
            cluster.start_node(id, Ledger::default()).await;
        }
        while let Some(command) = receiver.recv().await {
            acked.insert(command);
        }
        while let Some(writer) = writers.join_next().await {
            writer.expect("no panic");
        }
        check(&cluster, &acked).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_loses_power_has_everything_acknowledged_when_it_starts_again() {
    let mut cluster = Cluster::start(3).await;
    let mut acked = BTreeSet::new();
    for round in 0..3 {
        let (writers, mut receiver) = writers(&cluster, 900);
        let enough = acked.len() + 50;
        while acked.len() < enough {
            acked.insert(receiver.recv().await.expect("the writers write"));
        }
        for id in 1..=3 {
            cluster.crash(id);
        }
        drop((writers, receiver));
        for id in 1..=3 {
            cluster.start_node(id, Ledger::default()).await;
        }
        let entries = cluster.entries(round % 3 + 1).await;
        let there: BTreeSet<_> = entries.into_iter().collect();
        assert!(acked.is_subset(&there), "lost: {:?}", acked.difference(&there));
        // The next round proposes the same commands anew, and so may enter them once more.
        acked.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn leadership_tells_of_changes_only() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    let follower = cluster.other_than(leader);
    let mut leadership = cluster.node(follower).leadership();
    leadership.borrow_and_update();
    for command in 0..20 {
        cluster.node(follower).propose(command).await.expect("a response");
    }
    assert!(!leadership.has_changed().expect("the node runs"));
    let before = *leadership.borrow();
    cluster.network.isolate(leader);
    let after = leadership.wait_for(|now| now.leader.is_some() && *now != before).await;
    let after = *after.expect("the node runs");
    assert_ne!(after.leader, before.leader);
    assert!(after.ballot > before.ballot);
    assert_eq!(cluster.node(follower).status().ballot, after.ballot);
}

#[tokio::test(start_paused = true)]
async fn a_leader_says_how_long_a_peer_has_been_silent_up_to_the_moment_of_the_question() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    let gone = cluster.other_than(leader);
    cluster.node(leader).propose(1).await.expect("a response");
    cluster.crash(gone);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let silence = || {
        let peers = cluster.node(leader).status().peers;
        peers.iter().find(|peer| peer.id.0 == gone).expect("a voter").silent_for
    };
    for millis in [1, 7, 300] {
        let (before, step) = (silence(), Duration::from_millis(millis));
        tokio::time::advance(step).await;
        assert_eq!(silence(), before + step);
    }
}
