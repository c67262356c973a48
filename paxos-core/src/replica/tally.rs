//! Counting votes. A [`Quorum`] is the proof that enough nodes have voted, and only a [`Tally`]
//! makes one.

use std::{collections::BTreeSet, marker::PhantomData};

use crate::{
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

/// The nodes that have voted so far.
#[derive(Clone, Debug)]
pub(super) struct Tally<V> {
    voted: BTreeSet<NodeId>,
    needed: usize,
    vote: PhantomData<V>,
}

/// Proof that a quorum has voted.
#[derive(Debug)]
pub(super) struct Quorum<V>(PhantomData<V>);

impl<V: Vote> Tally<V> {
    pub(super) fn new(membership: &Membership) -> Tally<V> {
        let needed = membership.quorum_size(V::PHASE)
            - usize::from(planted!(PhaseOneQuorumMinusOne) && V::PHASE == Phase::One)
            - usize::from(planted!(PhaseTwoQuorumMinusOne) && V::PHASE == Phase::Two);
        Tally { voted: BTreeSet::new(), needed, vote: PhantomData }
    }

    /// Counts `node` once, however often it votes.
    pub(super) fn add(&mut self, node: NodeId) -> Option<Quorum<V>> {
        let is_repeated = !self.voted.insert(node);
        self.needed -= usize::from(planted!(VoteCountedTwice) && is_repeated);
        (self.voted.len() >= self.needed).then_some(Quorum(PhantomData))
    }

    pub(super) fn has_voted(&self, node: NodeId) -> bool {
        self.voted.contains(&node)
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
    use super::*;

    #[test]
    fn a_node_counts_once_however_often_it_votes() {
        let membership = Membership::new((1..=5).map(|id| (id, ""))).expect("five voters");
        let mut tally = Tally::<Accepted>::new(&membership);
        for node in [1, 1, 2, 2, 1] {
            assert!(tally.add(NodeId(node)).is_none());
        }
        assert!(tally.has_voted(NodeId(2)) && !tally.has_voted(NodeId(3)));
        assert!(tally.add(NodeId(3)).is_some());
    }
}
