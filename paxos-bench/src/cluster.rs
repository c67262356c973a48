//! The nodes of a cluster, in this process or in processes of their own.

use std::{path::Path, time::Duration};

use clap::ValueEnum;
use paxos_core::{
    Node,
    types::{Membership, NodeId},
};
use paxos_transport::MemoryNetwork;
use tempfile::TempDir;
use tokio::{sync::Mutex, task::JoinSet, time::timeout};

use crate::{HarnessError, Payload, StorageKind, Tally, TransportKind, child::Child};

/// How long a cluster may take to find its first leader, with a busy machine in mind.
const LEADER_MAX: Duration = Duration::from_secs(30);

/// Nodes that replicate a [`Tally`], over backends chosen at run time.
///
/// - Made by [`start`](Cluster::start) or [`start_processes`](Cluster::start_processes), with a
///   leader.
/// - Work: [`entry`](Cluster::entry) names the nodes to propose at.
/// - The end: [`shutdown`](Cluster::shutdown), which checks that all nodes agree.
#[derive(Debug)]
pub struct Cluster {
    /// Those in this process.
    nodes: Vec<Node<Tally>>,
    /// The others.
    children: Mutex<Vec<Child>>,
    /// Deleted with the cluster.
    _directory: TempDir,
}

/// Where clients propose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Entry {
    /// At the leader.
    Leader,
    /// At every node in turn: all but the leader's share of the commands is forwarded.
    Everywhere,
}

impl Cluster {
    /// Starts so many empty nodes and waits until all of them know a leader. What they keep on disk
    /// is in a new directory below `directory`, which is created if it is missing.
    ///
    /// # Errors
    ///
    /// If a node does not start, or none leads.
    pub async fn start(
        nodes: usize,
        transport: TransportKind,
        storage: StorageKind,
        directory: &Path,
    ) -> Result<Cluster, HarnessError> {
        let directory = new_directory(directory)?;
        let network = MemoryNetwork::new(0);
        let (mut addresses, mut transports) = (Vec::new(), Vec::new());
        for id in 1..=nodes as u64 {
            let (address, transport) = transport.bind(id, &network).await?;
            addresses.push(address);
            transports.push(transport);
        }
        let membership = Membership::new((1..).zip(addresses))?;
        let mut nodes = Vec::new();
        for (id, transport) in (1..).zip(transports) {
            let builder = Node::builder(id, membership.clone())
                .transport_arc(transport)
                .storage_arc(storage.open(directory.path(), id)?);
            nodes.push(builder.start(Tally::default()).await?);
        }
        let children = Mutex::default();
        let cluster = Cluster { nodes, children, _directory: directory };
        for node in &cluster.nodes {
            know_leader(node).await?;
        }
        cluster.nodes[0].propose(Payload::of_size(0)).await?;
        Ok(cluster)
    }

    /// As [`start`](Cluster::start), but only the first node, which leads, is in this process, as it
    /// would be in an embedder's: each other one is in a process of its own, a child that runs
    /// `program`, this crate's own, and ends with this one.
    ///
    /// # Errors
    ///
    /// If a node does not start, or another than the first one leads.
    pub async fn start_processes(
        program: &Path,
        nodes: usize,
        transport: TransportKind,
        storage: StorageKind,
        directory: &Path,
    ) -> Result<Cluster, HarnessError> {
        if !transport.leaves_the_process() {
            return Err(HarnessError::NoTransport);
        }
        let directory = new_directory(directory)?;
        let (address, own) = transport.bind(1, &MemoryNetwork::new(0)).await?;
        let (mut addresses, mut children) = (vec![address], Vec::new());
        for id in 2..=nodes as u64 {
            let started = Child::start(program, id, transport, storage, directory.path());
            let (child, address) = started.await?;
            addresses.push(address);
            children.push(child);
        }
        for child in &mut children {
            child.join(&addresses.join(" ")).await?;
        }
        let builder = Node::builder(1, Membership::new((1..).zip(addresses))?)
            .transport_arc(own)
            .storage_arc(storage.open(directory.path(), 1)?);
        let node = builder.start(Tally::default()).await?;
        know_leader(&node).await?;
        node.propose(Payload::of_size(0)).await?;
        let (nodes, children) = (vec![node], Mutex::new(children));
        let cluster = Cluster { nodes, children, _directory: directory };
        cluster.leads()?;
        Ok(cluster)
    }

    /// Checks that the leader is in this process.
    pub(crate) fn leads(&self) -> Result<(), HarnessError> {
        self.leader().map(drop).ok_or(HarnessError::OtherLeader)
    }

    /// The nodes of this process at which clients of this kind propose; client `i` at number `i`,
    /// counted cyclically. Never empty.
    #[must_use]
    pub fn entry(&self, entry: Entry) -> Vec<Node<Tally>> {
        match (entry, self.leader()) {
            (Entry::Leader, Some(leader)) => vec![leader.clone()],
            // A node without a leader forwards once there is one again.
            (Entry::Leader, None) => vec![self.nodes[0].clone()],
            (Entry::Everywhere, _) => self.nodes.clone(),
        }
    }

    fn leader(&self) -> Option<&Node<Tally>> {
        let leads = |node: &&Node<Tally>| {
            let id: NodeId = node.identity().node;
            node.leadership().borrow().leader == Some(id)
        };
        self.nodes.iter().find(leads)
    }

    /// The state that all nodes hold, by a linearizable read on each of them. To be called while
    /// nobody proposes.
    ///
    /// # Errors
    ///
    /// If they do not hold the same one, or do not answer.
    pub async fn agreed(&self) -> Result<Tally, HarnessError> {
        let expected = self.nodes[0].read(|tally| *tally).await?;
        let mut others = Vec::new();
        for node in &self.nodes[1..] {
            others.push((node.identity().node, node.read(|tally| *tally).await?));
        }
        for child in self.children.lock().await.iter_mut() {
            others.push((NodeId(child.id()), child.state().await?));
        }
        match others.into_iter().find(|(_, found)| *found != expected) {
            Some((node, found)) => Err(HarnessError::Diverged { node, found, expected }),
            None => Ok(expected),
        }
    }

    /// Checks that all nodes agree, stops them, and deletes their files.
    ///
    /// # Errors
    ///
    /// If they do not agree, or one had failed.
    pub async fn shutdown(self) -> Result<Tally, HarnessError> {
        let agreed = self.agreed().await?;
        let mut stopping: JoinSet<_> =
            self.nodes.iter().cloned().map(|node| async move { node.shutdown().await }).collect();
        while let Some(stopped) = stopping.join_next().await {
            stopped??;
        }
        for child in self.children.into_inner() {
            child.end().await?;
        }
        Ok(agreed)
    }
}

/// A new directory below this one.
fn new_directory(directory: &Path) -> Result<TempDir, HarnessError> {
    std::fs::create_dir_all(directory).map_err(HarnessError::io("create the directory"))?;
    TempDir::with_prefix_in("cluster-", directory)
        .map_err(HarnessError::io("create a directory for the cluster"))
}

/// Waits until a node knows a leader.
async fn know_leader(node: &Node<Tally>) -> Result<(), HarnessError> {
    let mut leadership = node.leadership();
    let known = leadership.wait_for(|leadership| leadership.leader.is_some());
    match timeout(LEADER_MAX, known).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Ok(node.stopped().await?),
        Err(_) => Err(HarnessError::NoLeader(LEADER_MAX.as_secs())),
    }
}
