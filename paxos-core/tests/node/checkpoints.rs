//! Logs that end: what a restart replays, and how a node gets what its peers have compacted.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use paxos_core::{
    Config, Node, node::StartError, port::StateMachine, replica::ReplicaError, types::Slot,
};
use tokio::time::Instant;

use super::{
    cluster::{Cluster, DurableLedger, Ledger},
    states::let_snapshots_be_read,
};

const CHECKPOINT_SLOTS: u64 = 10;

/// What a log holds at most: two checkpoints' worth, and what has come while the last one was written.
const RECORDS_MAX: usize = 3 * CHECKPOINT_SLOTS as usize;

fn configure(config: &mut Config) {
    config.checkpoint_slots = CHECKPOINT_SLOTS;
    // A state of some thousand bytes takes many of them.
    config.piece_bytes_max = 100;
}

/// Adds up in memory, and counts how many commands it has been given in this life.
#[derive(Clone, Default)]
struct Counter {
    total: u64,
    applied: Arc<AtomicUsize>,
}

impl StateMachine for Counter {
    type Command = u64;
    type Response = u64;
    type Snapshot = u64;

    fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<u64> {
        self.applied.fetch_add(commands.len(), Ordering::Relaxed);
        let add = |number| {
            self.total += number;
            self.total
        };
        commands.into_iter().map(add).collect()
    }

    fn snapshot(&self) -> u64 {
        self.total
    }

    fn restore(&mut self, _: Slot, total: u64) -> io::Result<()> {
        self.total = total;
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_in_memory_survives_and_a_restart_replays_little() {
    let mut cluster = Cluster::new(3, configure);
    for id in 1..=3 {
        cluster.start_node(id, Counter::default()).await;
    }
    for number in 1..=300 {
        cluster.node(number % 3 + 1).propose(1).await.expect("a response");
        let_snapshots_be_read().await;
        for disk in cluster.disks.values() {
            assert!(disk.record_count() <= RECORDS_MAX, "{} records", disk.record_count());
        }
    }
    for id in 1..=3 {
        cluster.crash(id);
    }
    let applied: Vec<_> = (1..=3).map(|_| Arc::<AtomicUsize>::default()).collect();
    for (id, applied) in (1..).zip(&applied) {
        let counter = Counter { total: 0, applied: Arc::clone(applied) };
        cluster.start_node(id, counter).await;
    }
    for (id, applied) in (1..).zip(&applied) {
        assert_eq!(cluster.node(id).read(|counter| counter.total).await, Ok(300));
        let replayed = applied.load(Ordering::Relaxed);
        assert!(replayed <= RECORDS_MAX, "node {id} has replayed {replayed} commands");
    }
    assert_eq!(cluster.node(1).propose(1).await, Ok(301), "and it goes on");
}

/// Commands one after the other, each from one of the first two nodes, until `done`; none waits long.
async fn propose_until<S>(nodes: [Node<S>; 2], done: Arc<AtomicUsize>) -> Vec<u64>
where
    S: StateMachine<Command = u64, Response = usize>,
{
    let mut proposed = Vec::new();
    while done.load(Ordering::Relaxed) == 0 {
        let command = 1_000_000 + proposed.len() as u64;
        let begun = Instant::now();
        nodes[proposed.len() % 2].propose(command).await.expect("two of three are a quorum");
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(100), "it took {took:?}");
        proposed.push(command);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proposed
}

/// Has node 3 miss far more than the others keep, and come back while they go on; returns what all of
/// them hold in the end.
async fn overslept<S>(cluster: &mut Cluster<S>, machines: [S; 4]) -> Vec<u64>
where
    S: StateMachine<Command = u64, Response = usize>,
{
    let [one, two, three, again] = machines;
    for (id, machine) in (1..).zip([one, two, three]) {
        cluster.start_node(id, machine).await;
    }
    let mut expected: Vec<u64> = (0..20).collect();
    for command in 0..20 {
        cluster.node(command % 3 + 1).propose(command).await.expect("a response");
    }
    cluster.crash(3);
    for command in 20..2000 {
        expected.push(command);
        cluster.node(command % 2 + 1).propose(command).await.expect("two are a quorum");
        let_snapshots_be_read().await;
    }
    assert!(cluster.disks[&1].record_count() + cluster.disks[&2].record_count() < 500);
    cluster.start_node(3, again).await;
    let done = Arc::new(AtomicUsize::new(0));
    let nodes = [cluster.node(1).clone(), cluster.node(2).clone()];
    let proposing = tokio::spawn(propose_until(nodes, Arc::clone(&done)));
    tokio::time::timeout(Duration::from_secs(60), async {
        // It has caught up with those who go on: it lags by no more than what is on its way.
        while cluster.node(3).status().applied.0 + 5 < cluster.node(1).status().applied.0
            || cluster.node(3).status().applied < Slot(1000)
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it catches up");
    done.store(1, Ordering::Relaxed);
    expected.extend(proposing.await.expect("no proposal waits for long"));
    cluster.node(3).linearize().await.expect("a quorum runs");
    expected
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_takes_over_a_state_in_memory_while_commands_go_on() {
    let mut cluster = Cluster::new(3, configure);
    let expected = overslept(&mut cluster, Default::default()).await;
    for id in 1..=3 {
        assert!(cluster.entries(id).await == expected, "node {id}");
    }
    // What it has taken over is its own from now on.
    cluster.crash(3);
    cluster.start_node(3, Ledger::default()).await;
    assert!(cluster.entries(3).await == expected);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_away_takes_over_a_state_that_keeps_itself_while_commands_go_on() {
    let mut cluster = Cluster::new(3, configure);
    let ledgers: [DurableLedger; 3] = Default::default();
    let [one, two, three] = ledgers.clone();
    let machines = [one, two, three.clone(), three];
    let expected = overslept(&mut cluster, machines).await;
    for (id, ledger) in (1..).zip(&ledgers) {
        cluster.node(id).linearize().await.expect("a quorum runs");
        assert!(ledger.look(|durable| durable.ledger.entries == expected), "node {id}");
    }
}

/// The slots before the checkpoint are in the log no more, and the state never was in the storage.
#[tokio::test(start_paused = true)]
async fn a_state_that_has_been_lost_is_no_empty_one() {
    let mut cluster = Cluster::new(1, configure);
    cluster.start_node(1, DurableLedger::default()).await;
    for command in 0..40 {
        cluster.node(1).propose(command).await.expect("a response");
    }
    cluster.node(1).shutdown().await.expect("a clean end");
    let builder = || {
        Node::builder(1, cluster.membership.clone())
            .storage(cluster.disks[&1].clone())
            .transport(cluster.network.join(1))
    };
    // Neither does it help to keep the state in memory from now on.
    let errors = [
        builder().start(DurableLedger::default()).await.expect_err("it is lost"),
        builder().start(Ledger::default()).await.expect_err("it is lost"),
    ];
    for error in errors {
        let StartError::Replica(ReplicaError::StateMissing { durable, checkpoint }) = error else {
            panic!("{error}")
        };
        assert!((durable, checkpoint.0 >= 2 * CHECKPOINT_SLOTS) == (Slot::ZERO, true));
    }
}
