//! Starts that are refused, and every way to stop.

use paxos_core::{
    Config, ConfigError, Node,
    node::{NodeError, ProposeError, ReadError, StartError},
    port::StorageError,
    replica::ReplicaError,
    types::{ClusterId, Membership, NodeId},
};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;

use super::cluster::{Cluster, DurableLedger, Ledger};

#[tokio::test(start_paused = true)]
async fn a_restart_finds_what_was_acknowledged() {
    let mut cluster = Cluster::start(3).await;
    let identity = cluster.node(2).identity();
    for command in 0..30 {
        cluster.node(command % 3 + 1).propose(command).await.expect("a response");
    }
    for id in 1..=3 {
        cluster.node(id).shutdown().await.expect("a clean end");
    }
    for id in 1..=3 {
        cluster.start_node(id, Ledger::default()).await;
    }
    assert_eq!(cluster.entries(3).await, (0..30).collect::<Vec<_>>());
    assert_eq!(cluster.node(2).identity(), identity);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_flushes_tells_those_who_wait_and_lets_go_of_everything() {
    let mut cluster = Cluster::new(3, |_| ());
    let ledgers: Vec<_> = (1..=3).map(|_| DurableLedger::default()).collect();
    for (id, ledger) in (1..).zip(&ledgers) {
        cluster.start_node(id, ledger.clone()).await;
    }
    cluster.node(1).propose(1).await.expect("a response");
    cluster.network.isolate(1);
    let node = cluster.node(1).clone();
    let (proposal, read, end) = tokio::join!(node.propose(2), node.linearize(), async {
        tokio::task::yield_now().await;
        node.shutdown().await
    });
    assert_eq!(end, Ok(()));
    assert_eq!(proposal, Err(ProposeError::Stopped(NodeError::ShutDown)));
    assert_eq!(read, Err(ReadError::Stopped(NodeError::ShutDown)));
    assert_eq!(ledgers[0].look(|durable| durable.flushes), 1);
    assert_eq!(node.shutdown().await, Ok(()), "a second time is no harm");
    assert_eq!(node.stopped().await, Ok(()));
    let late = node.read_local(|_| ()).await;
    assert_eq!(late, Err(ReadError::Stopped(NodeError::ShutDown)));
    // Its disk and its address are free again.
    cluster.network.heal();
    cluster.start_node(1, ledgers[0].clone()).await;
    assert!(cluster.node(1).propose(3).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_node_ends_with_its_last_handle() {
    let mut cluster = Cluster::start(1).await;
    let node = cluster.nodes.remove(&1).expect("it runs");
    let mut leadership = node.leadership();
    drop(node.clone());
    node.propose(1).await.expect("a clone was dropped, not the last handle");
    leadership.borrow_and_update();
    drop(node);
    assert!(leadership.changed().await.is_err(), "nobody is left to tell of changes");
    // The disk is let go of a moment later.
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    cluster.start_node(1, Ledger::default()).await;
    assert_eq!(cluster.entries(1).await, [1]);
}

/// So whoever watches over it need not keep it running.
#[tokio::test(start_paused = true)]
async fn a_weak_handle_does_not_keep_its_node_running() {
    let mut cluster = Cluster::start(1).await;
    let node = cluster.nodes.remove(&1).expect("it runs");
    let weak = node.downgrade();
    let strong = weak.upgrade().expect("it runs");
    drop(node);
    assert_eq!(strong.propose(1).await, Ok(1));
    let stopped = tokio::spawn({
        let weak = weak.clone();
        async move { weak.stopped().await }
    });
    tokio::task::yield_now().await;
    assert!(!stopped.is_finished());
    drop(strong);
    assert_eq!(stopped.await.expect("no panic"), Ok(()));
    assert!(weak.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_transport_closed_under_the_node_ends_it() {
    let cluster = Cluster::start(1).await;
    // Another node takes over its address.
    let _usurper = cluster.network.join(1);
    assert_eq!(cluster.node(1).stopped().await, Err(NodeError::TransportClosed));
}

#[test]
fn a_node_whose_runtime_has_ended_says_so() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().expect("a runtime")
    };
    let first = runtime();
    let cluster = first.block_on(Cluster::start(1));
    drop(first);
    let node = cluster.node(1);
    assert_eq!(runtime().block_on(node.stopped()), Err(NodeError::RuntimeEnded));
    let proposal = runtime().block_on(node.propose(1));
    assert_eq!(proposal, Err(ProposeError::Stopped(NodeError::RuntimeEnded)));
}

#[tokio::test(start_paused = true)]
async fn starts_that_cannot_work_are_refused() {
    let membership = || Membership::new([(1, "a"), (2, "b")]).expect("a membership");
    let network = MemoryNetwork::new(1);
    let builder = |id: u64| Node::builder(id, membership());

    let error = builder(1).transport(network.bind("a")).start(Ledger::default()).await;
    assert_eq!(error.expect_err("no storage"), StartError::Missing("storage"));
    let error = builder(1).storage(MemoryStorage::new()).start(Ledger::default()).await;
    assert_eq!(error.expect_err("no transport"), StartError::Missing("transport"));
    let stranger = builder(3).storage(MemoryStorage::new()).transport(network.bind("a"));
    let error = stranger.start(Ledger::default()).await;
    let expected = StartError::Replica(ConfigError::NotAVoter(NodeId(3)).into());
    assert_eq!(error.expect_err("no voter"), expected);

    for (name, adjust) in [
        ("queue_bytes_max", (|config| config.queue_bytes_max = 100) as fn(&mut Config)),
        ("outstanding_bytes_max", |config| config.outstanding_bytes_max = 100),
    ] {
        let narrow = builder(1).storage(MemoryStorage::new()).transport(network.bind("a"));
        let error = narrow.configure(adjust).start(Ledger::default()).await;
        let error = error.expect_err("no room for a command").to_string();
        assert!(error.contains(name) && error.contains("command_bytes_max"), "{error}");
    }

    let disk = MemoryStorage::new();
    let node = builder(1)
        .cluster_id(ClusterId(7))
        .storage(disk.clone())
        .transport(network.bind("a"))
        .start(Ledger::default())
        .await
        .expect("a node");
    assert_eq!(node.identity().cluster, ClusterId(7));
    node.shutdown().await.expect("a clean end");
    let error =
        builder(1).storage(disk).transport(network.bind("a")).start(Ledger::default()).await;
    let error = error.expect_err("another cluster's disk");
    assert!(matches!(error, StartError::Storage(StorageError::WrongIdentity { .. })), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_state_machine_that_has_lost_its_data_is_refused() {
    let mut cluster = Cluster::new(1, |config| config.checkpoint_slots = 4);
    cluster.start_node(1, DurableLedger::default()).await;
    for command in 0..20 {
        cluster.node(1).propose(command).await.expect("a response");
    }
    cluster.node(1).shutdown().await.expect("a clean end");
    let error = Node::builder(1, cluster.membership.clone())
        .storage(cluster.disks[&1].clone())
        .transport(cluster.network.join(1))
        .start(DurableLedger::default())
        .await
        .expect_err("its commands would be taken for duplicates");
    assert!(matches!(error, StartError::Replica(ReplicaError::StateMissing { .. })), "{error}");
}
