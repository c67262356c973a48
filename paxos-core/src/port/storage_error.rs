//! What may be wrong with a storage.

use crate::types::{ClusterId, NodeId};

/// Why a storage cannot do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The data directory belongs to another node or cluster.
    #[error(
        "the data directory belongs to node {found_node} of cluster {found_cluster}, not to node \
         {node} of cluster {cluster}: start this node with its own directory"
    )]
    WrongIdentity {
        /// The cluster asked for.
        cluster: ClusterId,
        /// The node asked for.
        node: NodeId,
        /// The cluster in the directory.
        found_cluster: ClusterId,
        /// The node in the directory.
        found_node: NodeId,
    },
    /// Somebody has it open.
    #[error("{path} is in use by {}", holder(*.by_this_process))]
    Locked {
        /// The lock file.
        path: String,
        /// Whether it is this process.
        by_this_process: bool,
    },
    /// Written by a newer version.
    #[error("the data has format {found}, this version knows up to {known}: use a newer version")]
    NewerFormat {
        /// Format of the data.
        found: u32,
        /// The newest format this version knows.
        known: u32,
    },
    /// Written by an earlier version, whose format is not understood any more.
    #[error(
        "the data has format {found}, this version begins with {known}: use the version that wrote \
         it, or replace this node as a new member of the cluster"
    )]
    OlderFormat {
        /// Format of the data.
        found: u32,
        /// The oldest format this version knows.
        known: u32,
    },
    /// Something that was written cannot be read back.
    #[error(
        "damaged: {what} in {path}: do not start this node on this data again; replace it as a \
         new member of the cluster, or restore its disk"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is damaged, with its slot if it has one.
        what: String,
    },
    /// No room to start.
    #[error("no space left for {path}: free some, and writing goes on")]
    Full {
        /// The file or directory.
        path: String,
    },
    /// The operating system refused. Final for this process.
    #[error("{operation} {path}: {reason}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// The file or directory.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// An earlier write failed, and nothing may be written after it.
    #[error("an earlier write failed; restart the node once its disk works again")]
    Failed,
}

fn holder(is_this_process: bool) -> &'static str {
    if is_this_process {
        "another node or storage of this process: shut that down and wait for it, or choose another data \
         directory"
    } else {
        "another process: stop it, or choose another data directory"
    }
}
