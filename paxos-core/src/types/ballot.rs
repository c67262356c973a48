//! Ballots: who may propose, totally ordered.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::NodeId;

/// The number of an attempt to lead: totally ordered by round, then owner.
///
/// A ballot has one owner, the node in it, and is never reused: its owner's acceptor promises it
/// durably before the first Prepare leaves (Lamport 2001, section 2.5: "each proposer remembers,
/// in stable storage, the highest-numbered proposal it has tried to issue").
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ballot {
    /// Grows with every attempt. Zero only in [`Ballot::ZERO`].
    pub round: u64,
    /// The owner.
    pub node: NodeId,
}

impl Ballot {
    /// Below every ballot that a proposer uses.
    pub const ZERO: Ballot = Ballot { round: 0, node: NodeId(0) };

    /// Above every ballot that a proposer uses: marks a log record whose value is known to be
    /// chosen although this acceptor never voted for it (it was learned from a peer). A chosen
    /// value outranks whatever any ballot accepted.
    pub const CHOSEN: Ballot = Ballot { round: u64::MAX, node: NodeId(u64::MAX) };

    /// The lowest ballot of `node` above this one.
    ///
    /// # Panics
    ///
    /// On [`Ballot::CHOSEN`], above which there is none.
    #[must_use]
    pub fn next_of(self, node: NodeId) -> Ballot {
        Ballot { round: self.round.checked_add(1).expect("no ballot above CHOSEN"), node }
    }

    /// Whether a proposer may use this ballot, as opposed to the two marks.
    #[must_use]
    #[inline]
    pub fn is_proposable(self) -> bool {
        self.round > 0 && self.round < u64::MAX
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Ballot::CHOSEN => write!(f, "chosen"),
            Ballot { round, node } => write!(f, "{round}.{node}"),
        }
    }
}
