//! All nodes of a cluster in this process.

use std::{path::Path, time::Duration};

use clap::ValueEnum;
use paxos_core::{
    Node,
    types::{Membership, NodeId},
};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::timeout};

use crate::{HarnessError, Payload, StorageKind, Tally, TransportKind};

/// How long a cluster may take to find its first leader, with a busy machine in mind.
const LEADER_MAX: Duration = Duration::from_secs(30);

/// Nodes that replicate a [`Tally`], over backends chosen at run time.
///
/// - Made by [`start`](Cluster::start), with a leader.
/// - Work: [`entry`](Cluster::entry) names the nodes to propose at.
/// - The end: [`shutdown`](Cluster::shutdown), which checks that all nodes agree.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node<Tally>>,
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
        std::fs::create_dir_all(directory).map_err(HarnessError::io("create the directory"))?;
        let directory = TempDir::with_prefix_in("cluster-", directory)
            .map_err(HarnessError::io("create a directory for the cluster"))?;
        let transports = transport.bind(nodes as u64).await?;
        let addresses = transports.iter().map(|(address, _)| address.clone());
        let membership = Membership::new((1..).zip(addresses))?;
        let mut nodes = Vec::new();
        for (id, (_, transport)) in (1..).zip(transports) {
            let builder = Node::builder(id, membership.clone())
                .transport_arc(transport)
                .storage_arc(storage.open(directory.path(), id)?);
            nodes.push(builder.start(Tally::default()).await?);
        }
        let cluster = Cluster { nodes, _directory: directory };
        for node in &cluster.nodes {
            let mut leadership = node.leadership();
            let known = leadership.wait_for(|leadership| leadership.leader.is_some());
            match timeout(LEADER_MAX, known).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => node.stopped().await?,
                Err(_) => return Err(HarnessError::NoLeader(LEADER_MAX.as_secs())),
            }
        }
        cluster.nodes[0].propose(Payload::of_size(0)).await?;
        Ok(cluster)
    }

    /// The nodes at which clients of this kind propose; client `i` at number `i`, counted
    /// cyclically. Never empty.
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
        for node in &self.nodes[1..] {
            let found = node.read(|tally| *tally).await?;
            if found != expected {
                let node = node.identity().node;
                return Err(HarnessError::Diverged { node, found, expected });
            }
        }
        Ok(expected)
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
        Ok(agreed)
    }
}
