//! Reads see what was acknowledged, wherever they are served.

use std::time::Duration;

use paxos_core::{
    node::{ProposeOptions, ReadError},
    types::{ReadMode, Slot},
};
use paxos_transport::Faults;

use super::cluster::Cluster;

#[tokio::test(start_paused = true)]
async fn a_read_on_any_node_sees_what_any_other_has_acknowledged() {
    let cluster = Cluster::start(3).await;
    let delay = Duration::ZERO..=Duration::from_millis(30);
    cluster.network.set_faults(Faults { delay, ..Faults::default() });
    for command in 0..60 {
        let (writer, reader) = (command % 3 + 1, command / 3 % 3 + 1);
        let position = cluster.node(writer).propose(command).await.expect("a response");
        let seen = cluster.node(reader).read(|ledger| ledger.entries.len()).await;
        assert!(seen.expect("a quorum runs") >= position);
    }
}

#[tokio::test(start_paused = true)]
async fn linearize_waits_for_what_is_acknowledged_so_that_a_local_read_sees_it() {
    let cluster = Cluster::start(3).await;
    let delay = Duration::from_millis(1)..=Duration::from_millis(30);
    cluster.network.set_faults(Faults { delay, ..Faults::default() });
    let leader = cluster.leader_of(1).await;
    let follower = cluster.other_than(leader);
    for command in 0..10 {
        let position = cluster.node(leader).propose(command).await.expect("a response");
        cluster.node(follower).linearize().await.expect("a quorum runs");
        let seen = cluster.node(follower).read_local(|ledger| ledger.entries.len()).await;
        assert!(seen.expect("the node runs") >= position);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_quorum_a_linearizable_read_times_out_and_a_local_one_is_served() {
    let cluster = Cluster::start(3).await;
    assert_eq!(cluster.node(1).propose(7).await, Ok(1));
    let leader = cluster.leader_of(1).await;
    cluster.network.isolate(leader);
    let node = cluster.node(leader);
    let patience = Duration::from_secs(1);
    assert_eq!(node.linearize_within(patience).await, Err(ReadError::Timeout));
    assert_eq!(node.read_within(|_| (), patience).await, Err(ReadError::Timeout));
    assert_eq!(node.read_local(|ledger| ledger.entries.clone()).await, Ok(vec![7]));
    cluster.network.heal();
    assert_eq!(node.linearize().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_deposed_leader_serves_no_read_without_asking() {
    let cluster = Cluster::start(3).await;
    assert_eq!(cluster.node(1).propose(7).await, Ok(1));
    let old = cluster.leader_of(1).await;
    let elsewhere = cluster.other_than(old);
    cluster.network.isolate(old);
    assert_eq!(cluster.node(elsewhere).propose(8).await, Ok(2));
    let stale = cluster.node(old).read_within(|_| (), Duration::from_secs(2)).await;
    assert_eq!(stale, Err(ReadError::Timeout));
    cluster.network.heal();
    assert_eq!(cluster.entries(old).await, [7, 8]);
}

#[tokio::test(start_paused = true)]
async fn the_panic_of_a_read_is_its_caller_s_and_the_node_goes_on() {
    let cluster = Cluster::start(1).await;
    let node = cluster.node(1).clone();
    let reading = tokio::spawn(async move { node.read(|_| panic!("not here")).await });
    assert!(reading.await.expect_err("it panicked").is_panic());
    assert_eq!(cluster.node(1).propose(1).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_written_at_one_node_is_read_at_another_without_a_quorum() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    let options = ProposeOptions::default();
    let mut slots = Vec::new();
    for command in [7, 8] {
        let node = cluster.node(command - 6);
        let applied = node.propose_with(command, options).await.expect("a quorum runs");
        assert_eq!(applied.response as u64, command - 6);
        slots.push(applied.slot);
    }
    assert!(slots[0] < slots[1]);
    let reader = cluster.node(cluster.other_than(leader)).clone();
    let patience = Duration::from_secs(1);
    let entries = |mode| reader.read_with(mode, patience, |ledger| ledger.entries.clone());
    assert_eq!(entries(ReadMode::AtLeast(slots[1])).await, Ok(vec![7, 8]));
    cluster.network.isolate(cluster.other_than(leader));
    assert_eq!(entries(ReadMode::AtLeast(slots[1])).await, Ok(vec![7, 8]));
    assert_eq!(entries(ReadMode::AtLeast(Slot::ZERO)).await, Ok(vec![7, 8]));
    assert_eq!(entries(ReadMode::Local).await, Ok(vec![7, 8]));
    assert_eq!(entries(ReadMode::Quorum).await, Err(ReadError::Timeout));
    // What is not there yet is waited for.
    let next = ReadMode::AtLeast(slots[1].next());
    assert_eq!(entries(next).await, Err(ReadError::Timeout));
    let (proposed, read) = tokio::join!(cluster.node(leader).propose(9), async {
        tokio::time::sleep(patience / 2).await;
        cluster.network.heal();
        entries(next).await
    });
    assert_eq!((proposed, read), (Ok(3), Ok(vec![7, 8, 9])));
}
