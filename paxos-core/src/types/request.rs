//! At-most-once request ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who numbers the requests.
///
/// Of one name only the newest epoch is kept: a newer one supersedes it, and what still arrives
/// from an older one is refused. A node uses its own id as the name and its incarnation (which
/// its data directory keeps, and which grows at every start) as the epoch.
///
/// Of clients that come and go, epochs have to be taken from one clock or counter: nodes remember some
/// thousands of clients, and of one that they have forgotten no more than that its epoch is no higher than
/// the highest of those. Whoever begins at or below that is refused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClientId {
    /// Who: a node id, or a number of the embedder's outside the node ids of the cluster.
    pub name: u64,
    /// Which life of it.
    pub epoch: u64,
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}e{}", self.name, self.epoch)
    }
}

/// Names one command, so that however often it is proposed it has effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// Who numbered it.
    pub client: ClientId,
    /// Counts from 1 for each [`ClientId`]. The last is 2⁶⁴ − 2, as a [`Run`] has an end behind it.
    pub sequence: u64,
}

impl RequestId {
    /// Whether its sequence number is one of those that count commands.
    #[must_use]
    pub fn is_countable(self) -> bool {
        self.sequence > 0 && self.sequence < u64::MAX
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.client, self.sequence)
    }
}

/// Consecutive requests of one client: what a batch stores instead of an id per command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    /// Who numbered the requests.
    pub client: ClientId,
    /// The sequence number of the first.
    pub first: u64,
    /// How many; at least one.
    pub count: u32,
    /// Every sequence number below this is settled for the client: it has its answer or has given
    /// up. The session table forgets them and refuses what still arrives.
    pub open_from: u64,
}

impl Run {
    /// The sequence number after the last one of the run.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count))
    }
}
