//! Counting votes. A [`Quorum`] is the proof that enough nodes have voted, and only a [`Tally`]
//! makes one.

use std::marker::PhantomData;

use crate::{
    limits,
    message::{Accepted, Promise},
    planted::planted,
    types::{Membership, NodeId, Phase, Slot},
};

/// Something that is counted: which phase's quorum it takes.
pub(super) trait Vote {
    const PHASE: Phase;
}

impl Vote for Promise {
    const PHASE: Phase = Phase::One;
}

impl Vote for Accepted {
    const PHASE: Phase = Phase::Two;
}

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
        membership.voters().position(|voter| voter == node).map_or(0, |index| 1 << index)
    }
}

/// The voters that have voted so far.
#[derive(Clone, Debug)]
pub(super) struct Tally<V> {
    voted: Voters,
    vote: PhantomData<V>,
}

/// Proof that a quorum has voted.
#[derive(Debug)]
pub(super) struct Quorum<V>(PhantomData<V>);

impl<V: Vote> Tally<V> {
    pub(super) fn new() -> Tally<V> {
        Tally { voted: Voters::default(), vote: PhantomData }
    }

    /// Counts `node` once, however often it votes, and not at all if it is no voter.
    pub(super) fn add(&mut self, node: NodeId, membership: &Membership) -> Option<Quorum<V>> {
        let needed = membership.quorum_size(V::PHASE)
            - usize::from(planted!(VoteCountedTwice) && self.has_voted(node, membership))
            - usize::from(planted!(PhaseOneQuorumMinusOne) && V::PHASE == Phase::One)
            - usize::from(planted!(PhaseTwoQuorumMinusOne) && V::PHASE == Phase::Two);
        self.voted.insert(node, membership);
        (self.voted.len() >= needed).then_some(Quorum(PhantomData))
    }

    pub(super) fn has_voted(&self, node: NodeId, membership: &Membership) -> bool {
        self.voted.contains(node, membership)
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
        let mut tally = Tally::<Accepted>::new();
        for node in [1, 1, 2, 2, 1] {
            assert!(tally.add(NodeId(node), &membership).is_none());
        }
        assert!(tally.has_voted(NodeId(2), &membership));
        assert!(!tally.has_voted(NodeId(3), &membership));
        assert!(tally.add(NodeId(3), &membership).is_some());
    }

    proptest! {
        /// The bits agree with a set of those that have voted.
        #[test]
        fn agrees_with_a_set_of_voters(
            voters in prop::collection::btree_set(1..30u64, 1..=limits::VOTERS_MAX),
            votes in prop::collection::vec(0..31u64, 0..40),
        ) {
            let membership = Membership::new(voters.iter().map(|&id| (id, ""))).expect("voters");
            let needed = membership.quorum_size(Phase::One);
            let mut tally = Tally::<Promise>::new();
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
