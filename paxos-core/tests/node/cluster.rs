//! A cluster in one process.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use paxos_core::{
    Config, Node,
    port::{StateMachine, Storage, Transport},
    types::{Membership, NodeId, Slot},
};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;

/// The command at which a [`Ledger`] panics.
pub(crate) const PANIC: u64 = u64::MAX;

/// Remembers every command, in order; responds with how many there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: Vec<u64>,
}

impl StateMachine for Ledger {
    type Command = u64;
    type Response = usize;
    type Snapshot = Vec<u64>;

    fn apply(&mut self, _slot: Slot, commands: Vec<u64>) -> Vec<usize> {
        let enter = |command| {
            assert_ne!(command, PANIC, "this is the end");
            self.entries.push(command);
            self.entries.len()
        };
        commands.into_iter().map(enter).collect()
    }

    fn snapshot(&self) -> Vec<u64> {
        self.entries.clone()
    }

    fn restore(&mut self, _: Slot, entries: Vec<u64>) -> io::Result<()> {
        self.entries = entries;
        Ok(())
    }
}

/// A ledger that outlives its node, as one on disk does.
#[derive(Clone, Debug, Default)]
pub(crate) struct DurableLedger(Arc<Mutex<Durable>>);

#[derive(Debug, Default)]
pub(crate) struct Durable {
    pub(crate) ledger: Ledger,
    pub(crate) applied: Slot,
    pub(crate) flushes: usize,
}

impl DurableLedger {
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Durable) -> R) -> R {
        look(&self.0.lock().expect("no panic"))
    }
}

impl StateMachine for DurableLedger {
    type Command = u64;
    type Response = usize;
    type Snapshot = Vec<u64>;

    fn apply(&mut self, slot: Slot, commands: Vec<u64>) -> Vec<usize> {
        let mut durable = self.0.lock().expect("no panic");
        assert!(slot > durable.applied, "slot {slot} comes after slot {}", durable.applied);
        durable.applied = slot;
        durable.ledger.apply(slot, commands)
    }

    fn durable(&self) -> Option<Slot> {
        Some(self.look(|durable| durable.applied))
    }

    fn flush(&mut self) {
        self.0.lock().expect("no panic").flushes += 1;
    }

    fn snapshot(&self) -> Vec<u64> {
        self.look(|durable| durable.ledger.snapshot())
    }

    fn restore(&mut self, slot: Slot, entries: Vec<u64>) -> io::Result<()> {
        let mut durable = self.0.lock().expect("no panic");
        durable.applied = slot;
        durable.ledger.entries = entries;
        Ok(())
    }
}

/// Nodes over a network and disks that fail on request.
pub(crate) struct Cluster<S: StateMachine = Ledger> {
    pub(crate) network: MemoryNetwork,
    pub(crate) membership: Membership,
    pub(crate) disks: BTreeMap<u64, MemoryStorage>,
    pub(crate) nodes: BTreeMap<u64, Node<S>>,
    configure: fn(&mut Config),
}

impl Cluster {
    /// `size` running nodes, numbered from 1.
    pub(crate) async fn start(size: u64) -> Cluster {
        Cluster::start_with(size, |_| ()).await
    }

    /// As `start`, with settings of its own.
    pub(crate) async fn start_with(size: u64, configure: fn(&mut Config)) -> Cluster {
        let mut cluster = Cluster::new(size, configure);
        for id in 1..=size {
            cluster.start_node(id, Ledger::default()).await;
        }
        cluster
    }
}

impl<S: StateMachine> Cluster<S> {
    /// Empty disks, and nothing running yet.
    pub(crate) fn new(size: u64, configure: fn(&mut Config)) -> Cluster<S> {
        let voters = (1..=size).map(|id| (id, format!("node-{id}")));
        Cluster {
            network: MemoryNetwork::new(1),
            membership: Membership::new(voters).expect("a membership"),
            disks: (1..=size).map(|id| (id, MemoryStorage::new())).collect(),
            nodes: BTreeMap::new(),
            configure,
        }
    }

    /// Starts node `id` on its disk.
    pub(crate) async fn start_node(&mut self, id: u64, state_machine: S) {
        let (storage, transport) = (self.disks[&id].clone(), self.network.join(id));
        self.start_node_on(storage, transport, id, state_machine).await;
    }

    /// As `start_node`, with other adapters.
    pub(crate) async fn start_node_on(
        &mut self,
        storage: impl Storage,
        transport: impl Transport,
        id: u64,
        state_machine: S,
    ) {
        let node = Node::builder(id, self.membership.clone())
            .storage(storage)
            .transport(transport)
            .configure(|config| config.seed = id)
            .configure(self.configure)
            .start(state_machine)
            .await
            .expect("the node starts");
        self.nodes.insert(id, node);
    }

    /// An empty disk for a node that is to join.
    pub(crate) fn new_disk(&mut self, id: u64) -> MemoryStorage {
        self.disks.entry(id).or_default().clone()
    }

    /// Node `id`, which runs.
    pub(crate) fn node(&self, id: u64) -> &Node<S> {
        &self.nodes[&id]
    }

    /// Cuts the power of node `id`.
    pub(crate) fn crash(&mut self, id: u64) {
        self.disks[&id].crash();
        self.nodes.remove(&id);
    }

    /// Waits until node `id` knows of a leader, and names it.
    pub(crate) async fn leader_of(&self, id: u64) -> u64 {
        let mut leadership = self.node(id).leadership();
        let known = leadership.wait_for(|leadership| leadership.leader.is_some());
        let NodeId(leader) = known.await.expect("the node runs").leader.expect("just seen");
        leader
    }

    /// A node other than `id`.
    pub(crate) fn other_than(&self, id: u64) -> u64 {
        *self.nodes.keys().find(|other| **other != id).expect("there is another node")
    }
}

impl Cluster {
    /// What node `id` holds, once it holds everything acknowledged.
    pub(crate) async fn entries(&self, id: u64) -> Vec<u64> {
        self.node(id).read(|ledger| ledger.entries.clone()).await.expect("a quorum runs")
    }
}
