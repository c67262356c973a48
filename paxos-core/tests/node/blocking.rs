//! State machines that block: nobody loses the leadership by it, and nobody waits for longer than
//! they want to. On threads and a clock that are real, since nothing else blocks.

use std::{
    io,
    ops::RangeInclusive,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{
    Config,
    message::{Message, Record},
    node::{NodeError, ProposeError},
    port::{
        Event, Recovered, StateMachine, Storage, StorageError, Transport, TransportError, Write,
        WriteBatch,
    },
    types::{ClusterId, Identity, NodeId, Peer, Slot},
};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryTransport;
use tokio::{sync::Notify, task};

use super::cluster::Cluster;

/// The command at which a [`Turnstile`] blocks.
const BLOCK: u64 = 1;

/// The command over which a [`Turnstile`] takes its time, less than a heartbeat.
const DAWDLE: u64 = 2;

const ELECTION_TIMEOUT: Duration = Duration::from_millis(500);

fn configure(config: &mut Config) {
    config.election_timeout = ELECTION_TIMEOUT;
    config.heartbeat_interval = ELECTION_TIMEOUT / 20;
}

/// Stands still at a command until it is let go; counts commands.
#[derive(Clone, Default)]
struct Turnstile {
    open: Arc<(Mutex<Gate>, Condvar)>,
    count: usize,
}

#[derive(Default)]
struct Gate {
    is_blocked: bool,
    is_open: bool,
}

impl Turnstile {
    fn let_go(&self) {
        self.open.0.lock().expect("no panic").is_open = true;
        self.open.1.notify_all();
    }

    fn is_blocked(&self) -> bool {
        self.open.0.lock().expect("no panic").is_blocked
    }
}

impl StateMachine for Turnstile {
    type Command = u64;
    type Response = usize;
    type Snapshot = u64;

    fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<usize> {
        let pass = |command| {
            if command == DAWDLE {
                thread::sleep(ELECTION_TIMEOUT / 50);
            }
            if command == BLOCK {
                let mut gate = self.open.0.lock().expect("no panic");
                gate.is_blocked = true;
                drop(self.open.1.wait_while(gate, |gate| !gate.is_open).expect("no panic"));
            }
            self.count += 1;
            self.count
        };
        commands.into_iter().map(pass).collect()
    }

    fn snapshot(&self) -> u64 {
        self.count as u64
    }

    fn restore(&mut self, _: Slot, count: u64) -> io::Result<()> {
        self.count = usize::try_from(count).expect("few");
        Ok(())
    }
}

/// The turnstile of node `id`. The others are not stopped: they would count as one that blocks each.
fn only_closed(turnstiles: &[Turnstile], id: u64) -> &Turnstile {
    let turnstile = &turnstiles[usize::try_from(id).expect("small") - 1];
    let others = turnstiles.iter().filter(|other| !Arc::ptr_eq(&other.open, &turnstile.open));
    others.for_each(Turnstile::let_go);
    turnstile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_state_machine_that_blocks_unannounced_costs_nobody_the_leadership() {
    let mut cluster = Cluster::new(3, configure);
    let turnstiles: Vec<_> = (1..=3).map(|_| Turnstile::default()).collect();
    for (id, turnstile) in (1..).zip(&turnstiles) {
        cluster.start_node(id, turnstile.clone()).await;
    }
    let leader = cluster.leader_of(1).await;
    let turnstile = only_closed(&turnstiles, leader);
    let node = cluster.node(leader).clone();
    assert_eq!(node.propose(7).await, Ok(1));
    let ballot = node.status().ballot;

    let blocked = tokio::spawn({
        let node = node.clone();
        async move { node.propose_within(BLOCK, 60 * ELECTION_TIMEOUT).await }
    });
    while !turnstile.is_blocked() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Whoever does not want to wait for the state machine does not.
    let early = node.propose_within(8, ELECTION_TIMEOUT).await;
    assert_eq!(early, Err(ProposeError::UnknownOutcome));
    tokio::time::sleep(3 * ELECTION_TIMEOUT).await;
    for id in 1..=3 {
        let status = cluster.node(id).status();
        assert_eq!((status.leader.map(|id| id.0), status.ballot), (Some(leader), ballot));
    }
    // The command that nobody waited for is chosen, and applied elsewhere.
    assert_eq!(cluster.node(cluster.other_than(leader)).propose(9).await, Ok(4));

    turnstile.let_go();
    assert_eq!(blocked.await.expect("no panic"), Ok(2));
    assert_eq!(node.propose(10).await, Ok(5), "on a thread of its own");
    assert_eq!(node.status().ballot, ballot);
    for id in 1..=3 {
        assert_eq!(cluster.node(id).shutdown().await, Ok(()));
    }
}

/// Wakes a task at every call of `send`, as a transport with connections does.
struct Lane {
    inner: MemoryTransport,
    calls: Arc<Calls>,
}

#[derive(Default)]
struct Calls {
    made: AtomicUsize,
    /// So many had been made when the task last ran.
    seen: AtomicUsize,
    more: Notify,
}

impl Calls {
    async fn watch(self: Arc<Self>) {
        loop {
            self.more.notified().await;
            self.seen.store(self.made.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
}

#[async_trait]
impl Transport for Lane {
    async fn start(&self, identity: Identity, peers: Vec<Peer>) -> Result<(), TransportError> {
        tokio::spawn(Arc::clone(&self.calls).watch());
        self.inner.start(identity, peers).await
    }

    fn update_peers(&self, peers: Vec<Peer>) -> Result<(), TransportError> {
        self.inner.update_peers(peers)
    }

    fn send(&self, to: &[NodeId], messages: &mut Vec<Message>) {
        self.inner.send(to, messages);
        self.calls.made.fetch_add(1, Ordering::SeqCst);
        self.calls.more.notify_one();
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        events: &mut Vec<Event>,
        limit: usize,
    ) -> Poll<usize> {
        self.inner.poll_recv(cx, events, limit)
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_sent_right_before_a_slow_state_machine_blocks_goes_out() {
    let mut cluster = Cluster::new(3, configure);
    let turnstiles: Vec<_> = (1..=3).map(|_| Turnstile::default()).collect();
    let lanes: Vec<_> = (1..=3).map(|_| Arc::new(Calls::default())).collect();
    for ((id, turnstile), calls) in (1..).zip(&turnstiles).zip(&lanes) {
        let lane = Lane { inner: cluster.network.join(id), calls: Arc::clone(calls) };
        cluster.start_node_on(cluster.disks[&id].clone(), lane, id, turnstile.clone()).await;
    }
    let leader = cluster.leader_of(1).await;
    let turnstile = only_closed(&turnstiles, leader);
    let calls = &lanes[usize::try_from(leader).expect("small") - 1];
    // The leader tells another node, in the step that has its own state machine apply it.
    let elsewhere = cluster.node(cluster.other_than(leader)).clone();
    for command in 100..140 {
        elsewhere.propose(command).await.expect("a response");
    }
    elsewhere.propose(DAWDLE).await.expect("a response");
    let blocked = tokio::spawn(async move { elsewhere.propose(BLOCK).await });
    while !turnstile.is_blocked() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let made = calls.made.load(Ordering::SeqCst);
    let gone = async {
        while calls.seen.load(Ordering::SeqCst) < made {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let gone = tokio::time::timeout(4 * ELECTION_TIMEOUT, gone).await;
    turnstile.let_go();
    assert_eq!(gone, Ok(()), "the task that sends stands behind the state machine");
    assert_eq!(blocked.await.expect("no panic"), Ok(42));
    for id in 1..=3 {
        assert_eq!(cluster.node(id).shutdown().await, Ok(()));
    }
}

/// Sleeps for as many milliseconds as it is told; says in which task.
struct Sleeper;

impl StateMachine for Sleeper {
    type Command = u64;
    type Response = task::Id;
    type Snapshot = ();

    fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<task::Id> {
        let sleep = |millis| {
            thread::sleep(Duration::from_millis(millis));
            task::id()
        };
        commands.into_iter().map(sleep).collect()
    }

    fn snapshot(&self) {}

    fn restore(&mut self, _: Slot, _state: ()) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn blocking_once_is_forgiven_and_blocking_again_is_not() {
    // A heartbeat for which no busy machine stops the process.
    let mut cluster = Cluster::new(1, |config| {
        config.heartbeat_interval = ELECTION_TIMEOUT / 2;
        config.election_timeout = 3 * ELECTION_TIMEOUT;
    });
    cluster.start_node(1, Sleeper).await;
    let node = cluster.node(1);
    let before = node.propose(0).await;
    // Three heartbeats.
    assert_eq!(node.propose(750).await, before);
    let after = node.propose(0).await;
    assert_ne!(before, after, "another task has the driver");
    assert_eq!(node.propose(0).await, after);
    assert_eq!(node.propose(750).await, after);
    let moved = node.propose(0).await;
    assert_ne!(node.propose(0).await, moved, "each job is a task");
    assert_eq!(node.shutdown().await, Ok(()));
}

/// Whoever starts the node anew would have two of them at work.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_has_not_stopped_while_its_state_machine_is_at_work() {
    let mut cluster = Cluster::new(1, configure);
    let turnstile = Turnstile::default();
    cluster.start_node(1, turnstile.clone()).await;
    let (node, disk) = (cluster.node(1).clone(), cluster.disks[&1].clone());
    let blocked = tokio::spawn({
        let node = node.clone();
        async move { node.propose(BLOCK).await }
    });
    while !turnstile.is_blocked() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // By then another task goes on with the driver, which the disk stops.
    tokio::time::sleep(ELECTION_TIMEOUT).await;
    disk.fail_next_write();
    let failed = tokio::spawn({
        let node = node.clone();
        async move { node.propose(7).await }
    });
    let stopped = tokio::spawn({
        let node = node.clone();
        async move { node.stopped().await }
    });
    tokio::time::sleep(ELECTION_TIMEOUT).await;
    let is_early = stopped.is_finished();
    turnstile.let_go();
    assert!(!is_early, "the state machine is still at work");
    assert!(matches!(stopped.await, Ok(Err(NodeError::Storage(_)))), "the disk stopped it");
    assert!(matches!(failed.await, Ok(Err(ProposeError::Stopped(_)))));
    assert!(blocked.await.expect("no panic").is_err());
}

/// Blocks its caller for longer than a heartbeat.
struct BlockingDisk(MemoryStorage);

#[async_trait]
impl Storage for BlockingDisk {
    async fn recover(&self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        self.0.recover(cluster, node).await
    }

    fn write(&self, batch: WriteBatch) -> Write {
        thread::sleep(ELECTION_TIMEOUT / 16);
        self.0.write(batch)
    }

    async fn read(
        &self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
    ) -> Result<Vec<Record>, StorageError> {
        self.0.read(slots, bytes_max).await
    }

    async fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        self.0.read_state(slot, offset, bytes_max).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

#[tokio::test]
async fn what_is_slow_before_the_state_machine_in_a_turn_is_not_taken_for_it() {
    let mut cluster = Cluster::new(1, configure);
    let (disk, transport) = (BlockingDisk(cluster.disks[&1].clone()), cluster.network.join(1));
    cluster.start_node_on(disk, transport, 1, Sleeper).await;
    let node = cluster.node(1);
    let driver = node.propose(0).await;
    for _ in 0..24 {
        assert_eq!(node.propose(0).await, driver);
    }
    assert_eq!(node.shutdown().await, Ok(()));
}
