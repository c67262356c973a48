//! Why a server cannot start, or stopped by itself.

use paxos_core::{
    node::{NodeError, StartError},
    port::{StorageError, TransportError},
    types::{MembershipError, Slot},
};

use super::config::ConfigError;
use crate::store::StoreError;

/// Why a server cannot start, or stopped by itself; each text names the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The settings make no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster cannot work.
    #[error("--initial-cluster: {0}")]
    Membership(#[from] MembershipError),
    /// The data directory cannot be made.
    #[error("the data directory {path}: {reason}")]
    DataDirectory {
        /// The directory.
        path: String,
        /// What the operating system says.
        reason: String,
    },
    /// An existing member was asked for and there is none.
    #[error(
        "{path} holds no data of a member, and --initial-cluster-state is 'existing': correct --data-dir; \
         only a member of a new cluster starts without data, with 'new', and one that joins a cluster, with \
         'existing' and --join: add it first, `paxos-kv member add` says how it is started"
    )]
    NoData {
        /// The directory.
        path: String,
    },
    /// No member tells who this one is.
    #[error(
        "no member answers that --join names ({reasons}): name client URLs of members that run, as \
         `paxos-kv member list` shows them"
    )]
    JoinUnanswered {
        /// Who was asked, and what came of it.
        reasons: String,
    },
    /// The cluster has no such member.
    #[error(
        "{asked} knows of no member at {url}, which is where {name} is in --initial-cluster: add it first, \
         with `paxos-kv member add {name} --peer-urls {url} --endpoints {asked}`"
    )]
    NotAdded {
        /// What it is called.
        name: String,
        /// Its peer URL.
        url: String,
        /// Who was asked.
        asked: String,
    },
    /// The cluster has such a member, and it is not new.
    #[error(
        "member {id} at {url} has been started before, and this data directory is empty: correct --data-dir. \
         If its data is lost, what it promised is lost too: `paxos-kv member remove {id}`, then add a new one; \
         the URL may be the same"
    )]
    StartedBefore {
        /// Its id.
        id: String,
        /// Its peer URL.
        url: String,
    },
    /// This member is none any more.
    #[error(
        "this member has been removed from the cluster: {path} is of no use any more, delete it; to come back \
         it is added as a new member, with `paxos-kv member add`"
    )]
    Removed {
        /// Its data directory.
        path: String,
    },
    /// The log is gone and the state is still there.
    #[error(
        "{state} holds the state of a member up to slot {applied}, but there is no log in {log}: this \
         is a member whose log was removed and whose state was kept. Put the log back or correct \
         --wal-dir; if it is lost, what this member promised is lost too: replace it as a new member \
         of the cluster, with an empty --data-dir"
    )]
    LogRemoved {
        /// The file of the state.
        state: String,
        /// The directory of the log.
        log: String,
        /// The last slot in the state.
        applied: Slot,
    },
    /// The process may not open enough files and sockets.
    #[error(
        "this process may open {limit} files and sockets and needs {needed}, most of them for its \
         peers and its data: raise the limit with `ulimit -n`, or LimitNOFILE= of its systemd unit"
    )]
    Descriptors {
        /// How many it may open.
        limit: usize,
        /// How many it needs to serve a few clients.
        needed: usize,
    },
    /// Clients cannot be served there.
    #[error(
        "cannot serve clients on {url}: {reason}: stop what uses the address, or choose another \
         --listen-client-urls"
    )]
    Listen {
        /// The URL.
        url: String,
        /// What the operating system says.
        reason: String,
    },
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] StorageError),
    /// The state cannot be opened.
    #[error(transparent)]
    State(#[from] StoreError),
    /// The peers cannot be reached from here.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The node cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node failed.
    #[error("the server has stopped: {0}")]
    Node(#[from] NodeError),
}
