//! Who votes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NodeId, Phase, Quorums, QuorumsError, StoreId};
use crate::limits;

/// The voters of the cluster, where they are reached, and how they count.
///
/// The same on every node. `window` belongs to it because it is Lamport's α: how far proposals may
/// run ahead of what is chosen, and so how far ahead a membership is fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    voters: BTreeMap<NodeId, String>,
    quorums: Quorums,
    window: u64,
}

/// Another node, as a transport needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which node.
    pub id: NodeId,
    /// Where it listens; what the text means is the transport's affair.
    pub address: String,
    /// Its data directory, if it has been met before. Another one means that the node was wiped.
    pub store: Option<StoreId>,
}

/// A membership that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Nobody votes, or too many.
    #[error("a cluster has 1 to {max} voters, not {0}", max = limits::VOTERS_MAX)]
    Size(usize),
    /// Node id 0 is reserved.
    #[error("0 is no node id: number the nodes from 1")]
    ZeroId,
    /// A node is named twice.
    #[error("node id {0} is given to two voters: number each node differently")]
    DuplicateId(NodeId),
    /// The quorums do not fit.
    #[error(transparent)]
    Quorums(#[from] QuorumsError),
    /// The window is out of bounds.
    #[error("a window is 1 to {max} slots, not {0}", max = limits::WINDOW_SLOTS_MAX)]
    Window(u64),
}

impl Membership {
    /// The membership of `voters` (node id and address), counting by majority, with the default
    /// window.
    ///
    /// # Errors
    ///
    /// If there are no voters, too many, two with one id, or one with id 0.
    pub fn new<A: Into<String>>(
        voters: impl IntoIterator<Item = (u64, A)>,
    ) -> Result<Membership, MembershipError> {
        let given = voters.into_iter().map(|(id, address)| (NodeId(id), address.into()));
        let mut voters = BTreeMap::new();
        for (id, address) in given {
            if voters.insert(id, address).is_some() {
                return Err(MembershipError::DuplicateId(id));
            }
        }
        if voters.is_empty() || voters.len() > limits::VOTERS_MAX {
            return Err(MembershipError::Size(voters.len()));
        }
        if voters.contains_key(&NodeId(0)) {
            return Err(MembershipError::ZeroId);
        }
        let window = limits::WINDOW_SLOTS_DEFAULT;
        Ok(Membership { voters, quorums: Quorums::Majority, window })
    }

    /// The same voters with another quorum system.
    ///
    /// # Errors
    ///
    /// If its quorums need not intersect among these voters.
    pub fn with_quorums(mut self, quorums: Quorums) -> Result<Membership, MembershipError> {
        quorums.check(self.voters.len())?;
        self.quorums = quorums;
        Ok(self)
    }

    /// The same voters with another window, in slots.
    ///
    /// # Errors
    ///
    /// If it is zero or above the limit.
    pub fn with_window(mut self, window: u64) -> Result<Membership, MembershipError> {
        if window == 0 || window > limits::WINDOW_SLOTS_MAX {
            return Err(MembershipError::Window(window));
        }
        self.window = window;
        Ok(self)
    }

    /// The voters' ids, in order.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.keys().copied()
    }

    /// Whether `node` votes.
    #[must_use]
    #[inline]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.contains_key(&node)
    }

    /// Where `node` is reached.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<&str> {
        self.voters.get(&node).map(String::as_str)
    }

    /// Everyone but `node`.
    pub fn peers_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.voters().filter(move |&voter| voter != node)
    }

    /// How many slots may be undecided at once.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window
    }

    /// The quorum system.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// How many votes make a quorum of `phase`.
    #[must_use]
    pub fn quorum_size(&self, phase: Phase) -> usize {
        self.quorums.size(phase, self.voters.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1, 1, 3 would make a cluster of two.
    #[test]
    fn every_voter_has_an_id_of_its_own() {
        let twice = Membership::new([(1, "a"), (1, "b"), (3, "c")]);
        assert_eq!(twice, Err(MembershipError::DuplicateId(NodeId(1))));
        assert!(Membership::new([(1, "a"), (2, "b"), (3, "c")]).is_ok());
    }
}
