//! What can keep a benchmark from running.

use paxos_core::{
    node::{NodeError, ProposeError, ReadError, StartError},
    port::{StorageError, TransportError},
    types::{MembershipError, NodeId},
};

use crate::Tally;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum HarnessError {
    /// The membership is refused.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// A transport cannot be set up.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// A storage cannot be set up.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A node does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A node has ended by itself.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A command has no result.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// A read has no result.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody leads.
    #[error("no leader within {0} s: the machine is too busy to measure anything")]
    NoLeader(u64),
    /// Another node leads than the one that is to be measured.
    #[error("another process leads: the machine is too busy, or the network was; run it again")]
    OtherLeader,
    /// A node in a process of its own does not do what it should.
    #[error("the process of node {id}: {problem}")]
    Child {
        /// The node.
        id: u64,
        /// What is wrong.
        problem: String,
    },
    /// Nodes in processes of their own would not reach each other.
    #[error("nodes in processes of their own need --transport tcp or quic, compiled in")]
    NoTransport,
    /// The nodes do not hold the same state.
    #[error("node {node} holds {found:?}, the first one {expected:?}: replicas have diverged")]
    Diverged {
        /// The node.
        node: NodeId,
        /// What it holds.
        found: Tally,
        /// What the first node holds.
        expected: Tally,
    },
    /// A file or socket of the harness itself.
    #[error("{operation}: {source}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A replica that is driven by hand does not go on.
    #[error("a replica does not go on: {0}")]
    Replica(String),
    /// A client's task has died.
    #[error("a client has died: {0}")]
    Client(#[from] tokio::task::JoinError),
}

impl HarnessError {
    /// Says what was attempted when the operating system refused.
    pub(crate) fn io(operation: &'static str) -> impl FnOnce(std::io::Error) -> HarnessError {
        move |source| HarnessError::Io { operation, source }
    }
}
