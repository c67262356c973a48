//! Counting votes. A [`Quorum`] is the proof that enough nodes have voted, and only a [`Tally`] or
//! [`Promisers`] make one.

use std::{marker::PhantomData, sync::Arc};

use smallvec::SmallVec;

use crate::{
    limits,
    message::{Accepted, Promise},
    planted::planted,
    types::{Membership, NodeId, Phase, Slot},
};

/// Some voters of a membership. Whoever adds or looks up hands in that membership, the same each
/// time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Voters {
    /// A bit for each voter, in the membership's order.
    bits: u16,
}

const _: () = assert!(limits::VOTERS_MAX <= u16::BITS as usize, "a bit for each voter");

impl Voters {
    /// Returns whether `node` was added: it is a voter, and was not there before.
    pub(super) fn insert(&mut self, node: NodeId, membership: &Membership) -> bool {
        let bit = Voters::bit_of(node, membership);
        let is_new = bit & !self.bits != 0;
        self.bits |= bit;
        is_new
    }

    pub(super) fn contains(self, node: NodeId, membership: &Membership) -> bool {
        self.bits & Voters::bit_of(node, membership) != 0
    }

    pub(super) fn len(self) -> usize {
        self.bits.count_ones() as usize
    }

    /// No bit if `node` is no voter.
    fn bit_of(node: NodeId, membership: &Membership) -> u16 {
        let votes = |id: &NodeId| membership.is_voter(*id) || planted!(LearnerCounted);
        let mut voters = membership.members().map(|(id, _)| id).filter(votes);
        voters.position(|voter| voter == node).map_or(0, |index| 1 << index)
    }
}

/// Proof that a quorum has voted.
#[derive(Debug)]
pub(super) struct Quorum<V>(PhantomData<V>);

/// Those who have voted for the value of a slot: each time by the membership that governs it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    voted: Voters,
}

impl Tally {
    /// Counts `node` once, however often it votes, and not at all if it is no voter.
    pub(super) fn add(
        &mut self,
        node: NodeId,
        membership: &Membership,
    ) -> Option<Quorum<Accepted>> {
        let needed = membership.quorum_size(Phase::Two)
            - usize::from(planted!(VoteCountedTwice) && self.has_voted(node, membership))
            - usize::from(planted!(PhaseTwoQuorumMinusOne));
        self.voted.insert(node, membership);
        (self.voted.len() >= needed).then_some(Quorum(PhantomData))
    }

    pub(super) fn has_voted(&self, node: NodeId, membership: &Membership) -> bool {
        self.voted.contains(node, membership)
    }
}

/// Those who have promised a ballot, for the slots of every membership.
#[derive(Clone, Debug, Default)]
pub(super) struct Promisers {
    nodes: SmallVec<[NodeId; limits::VOTERS_MAX]>,
}

impl Promisers {
    /// Counts `node` once, however often it promises; a quorum is one of each of the `memberships`.
    pub(super) fn add(
        &mut self,
        node: NodeId,
        memberships: &[Arc<Membership>],
    ) -> Option<Quorum<Promise>> {
        if !self.contains(node) || planted!(VoteCountedTwice) {
            self.nodes.push(node);
        }
        let are_quorum = memberships.iter().all(|membership| self.are_quorum(membership));
        are_quorum.then_some(Quorum(PhantomData))
    }

    pub(super) fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// Whether they are a phase-1 quorum of a membership.
    pub(super) fn are_quorum(&self, membership: &Membership) -> bool {
        let count = self.nodes.iter().filter(|node| membership.is_voter(**node)).count();
        let missing = usize::from(planted!(PhaseOneQuorumMinusOne));
        count + missing >= membership.quorum_size(Phase::One)
    }
}

/// Proof that the value a leader proposed for a slot is chosen.
#[derive(Debug)]
pub(super) struct Chosen {
    slot: Slot,
}

impl Chosen {
    /// A quorum has accepted the same ballot's value for `slot`.
    pub(super) fn by(_: &Quorum<Accepted>, slot: Slot) -> Chosen {
        Chosen { slot }
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_node_counts_once_however_often_it_votes() {
        let membership = Membership::new((1..=5).map(|id| (id, ""))).expect("five voters");
        let mut tally = Tally::default();
        for node in [1, 1, 2, 2, 1] {
            assert!(tally.add(NodeId(node), &membership).is_none());
        }
        assert!(tally.has_voted(NodeId(2), &membership));
        assert!(!tally.has_voted(NodeId(3), &membership));
        assert!(tally.add(NodeId(3), &membership).is_some());
    }

    /// Phase 1 of a change: each membership has its own quorum among those who have promised.
    #[test]
    fn promises_are_counted_under_every_membership() {
        let of = |ids: [u64; 3]| Arc::new(Membership::new(ids.map(|id| (id, ""))).expect("three"));
        let both = [of([1, 2, 3]), of([1, 4, 5])];
        for (promising, expected) in [
            (&[1, 2][..], false),
            (&[1, 1, 1, 2, 2], false),
            (&[1, 2, 3], false),
            (&[2, 4, 5], false),
            (&[1, 2, 4], true),
            (&[2, 3, 4, 5], true),
            (&[6, 7, 8, 9], false),
        ] {
            let mut promisers = Promisers::default();
            let quorums = promising.iter().map(|&id| promisers.add(NodeId(id), &both).is_some());
            assert_eq!(quorums.last(), Some(expected), "{promising:?}");
        }
    }

    proptest! {
        /// The bits agree with a set of those that have voted.
        #[test]
        fn agrees_with_a_set_of_voters(
            voters in prop::collection::btree_set(1..30u64, 1..=limits::VOTERS_MAX),
            votes in prop::collection::vec(0..31u64, 0..40),
        ) {
            let membership = Membership::new(voters.iter().map(|&id| (id, ""))).expect("voters");
            let needed = membership.quorum_size(Phase::Two);
            let mut tally = Tally::default();
            let mut set = BTreeSet::new();
            for vote in votes {
                if voters.contains(&vote) {
                    set.insert(vote);
                }
                let quorum = tally.add(NodeId(vote), &membership);
                prop_assert_eq!(quorum.is_some(), set.len() >= needed);
                for &voter in &voters {
                    let has_voted = tally.has_voted(NodeId(voter), &membership);
                    prop_assert_eq!(has_voted, set.contains(&voter));
                }
            }
        }
    }
}
