//! The learner: what is chosen, and delivering it in order.
//!
//! A slot is known to be chosen in one of three ways: a quorum's votes (the leader), a peer that
//! knows it chosen (catching up), or the leader's watermark over a slot accepted *at that leader's
//! ballot*. A slot accepted at any other ballot proves nothing, whatever the watermark says; and a
//! leader that learns from a peer of a value it did not propose stops being one, because its
//! watermark would prove nothing either.
//!
//! The watermark is the end of the chosen prefix; its hash chains the values, so that replicas with
//! equal watermarks can tell that they agree.

use std::collections::VecDeque;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    acceptor::Acceptor, effect::Delivery, membership::Memberships, sessions::SessionTable,
    slots::Slots, tally::Chosen,
};
use crate::{
    limits,
    message::Watermark,
    planted::planted,
    types::{Ballot, Membership, NodeId, Slot, Value},
};

/// What a slot in delivery occupies besides its value, so that noops are bounded too.
const DELIVERY_OVERHEAD_BYTES: usize = 64;

/// Another node has another log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// The hash of this node's chosen prefix up to a slot.
    pub(super) own: Watermark,
    /// Who has another one there.
    pub(super) from: NodeId,
    /// And which.
    pub(super) hash: u64,
}

/// What this node knows to be chosen, and how far it has been delivered and applied.
#[derive(Clone, Debug)]
pub(super) struct Learner {
    chosen: Watermark,
    /// Slots above the watermark that a quorum has chosen at this node's ballot.
    above: Slots<()>,
    /// The newest leader's ballot and watermark.
    leader_watermark: (Ballot, Watermark),
    /// Earlier watermarks, to compare with what leaders say.
    hashes: VecDeque<Watermark>,
    /// The last slot handed to the state machine, and the hash of the chosen prefix up to there.
    delivered: Watermark,
    sessions: SessionTable,
    /// Slots delivered and not yet applied, with their size.
    in_delivery: VecDeque<(Slot, usize)>,
    bytes_in_delivery: usize,
    applied: Slot,
}

impl Learner {
    /// Delivery goes on behind `delivered`, which is what `sessions` are as of; the state machine has applied
    /// every slot up to `applied`, or will have by then.
    pub(super) fn recovered(
        chosen: Watermark,
        delivered: Watermark,
        applied: Slot,
        sessions: SessionTable,
    ) -> Learner {
        assert_eq!(delivered.slot, sessions.slot(), "both are of one checkpoint");
        Learner {
            chosen,
            above: Slots::default(),
            leader_watermark: (Ballot::ZERO, Watermark::default()),
            hashes: VecDeque::from([chosen]),
            delivered,
            sessions,
            in_delivery: VecDeque::new(),
            bytes_in_delivery: 0,
            applied,
        }
    }

    /// The end of the chosen prefix.
    pub(super) fn chosen(&self) -> Watermark {
        self.chosen
    }

    /// The last slot handed to the state machine.
    pub(super) fn delivered(&self) -> Slot {
        self.delivered.slot
    }

    /// As [`delivered`](Learner::delivered), with the hash of the chosen prefix up to there.
    pub(super) fn delivered_at(&self) -> Watermark {
        self.delivered
    }

    /// The last slot the state machine has applied.
    pub(super) fn applied(&self) -> Slot {
        self.applied
    }

    pub(super) fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    /// The ballot at which the leader's watermark makes accepted slots chosen, and the watermark.
    pub(super) fn leader_watermark(&self) -> (Ballot, Watermark) {
        self.leader_watermark
    }

    /// Takes in a leader's watermark. Those of older leaders, or late ones, say nothing new.
    #[inline]
    pub(super) fn on_watermark(
        &mut self,
        ballot: Ballot,
        watermark: Watermark,
    ) -> Option<Difference> {
        let (leader_ballot, leader_watermark) = self.leader_watermark;
        if (ballot, watermark.slot) > (leader_ballot, leader_watermark.slot) {
            self.leader_watermark = (ballot, watermark);
        }
        self.compare(ballot.node, watermark)
    }

    /// A quorum has accepted the value of a slot.
    pub(super) fn on_chosen(&mut self, chosen: &Chosen) {
        if chosen.slot() > self.chosen.slot {
            self.above.insert(chosen.slot(), ());
        }
    }

    /// Moves the watermark over every slot that is now known to be chosen.
    ///
    /// A membership that is chosen on the way counts from then on.
    pub(super) fn advance(
        &mut self,
        acceptor: &Acceptor,
        memberships: &mut Memberships,
    ) -> Option<Difference> {
        let (leader_ballot, leader_watermark) = self.leader_watermark;
        let before = self.chosen;
        if memberships.are_unknown() {
            return None;
        }
        loop {
            let slot = self.chosen.slot.next();
            let Some((ballot, value)) = acceptor.log().get(slot) else { break };
            let vouched = ballot == leader_ballot || planted!(WatermarkOfAnotherBallot);
            let by_watermark = vouched && slot <= leader_watermark.slot;
            if !(self.above.remove(slot).is_some() || ballot == Ballot::CHOSEN || by_watermark) {
                break;
            }
            self.chosen = Watermark { slot, hash: chain(self.chosen.hash, slot, value) };
            if let Value::Reconfigure(change) = value {
                memberships.on_chosen(slot, change.membership());
            }
            if self.hashes.len() == limits::CHAIN_HASHES_KEPT {
                self.hashes.pop_front();
            }
            self.hashes.push_back(self.chosen);
        }
        if self.chosen == before {
            return None;
        }
        memberships.advance(self.chosen.slot);
        assert_eq!(self.hashes.back(), Some(&self.chosen), "the last hash is the watermark's");
        assert!(
            self.above.first().is_none_or(|first| first > self.chosen.slot),
            "what is chosen above the watermark is above it"
        );
        self.compare(leader_ballot.node, leader_watermark)
    }

    /// The hash of the chosen prefix up to `slot`, if it is still known.
    #[inline]
    pub(super) fn watermark_at(&self, slot: Slot) -> Option<Watermark> {
        let oldest = self.hashes.front()?.slot;
        let index = usize::try_from(slot.0.checked_sub(oldest.0)?).ok()?;
        self.hashes.get(index).copied()
    }

    /// Compares a node's watermark with the own one at the same slot, if that is still known.
    #[inline]
    pub(super) fn compare(&self, from: NodeId, watermark: Watermark) -> Option<Difference> {
        Learner::difference(self.watermark_at(watermark.slot)?, from, watermark.hash)
    }

    /// Whether `from` has another hash than this node where this node has `own`.
    #[inline]
    pub(super) fn difference(own: Watermark, from: NodeId, hash: u64) -> Option<Difference> {
        (own.hash != hash).then_some(Difference { own, from, hash })
    }

    /// Whether the state machine may be given more.
    #[inline]
    pub(super) fn wants_delivery(&self, bytes_max: usize) -> bool {
        self.delivered() < self.chosen.slot && self.bytes_in_delivery < bytes_max
    }

    /// The delivery of `value`, chosen for the next slot.
    pub(super) fn deliver(&mut self, value: Value, memberships: &Memberships) -> Delivery {
        let slot = self.delivered().next();
        assert!(slot <= self.chosen.slot, "slot {slot} is not known to be chosen");
        let batch = match &value {
            Value::Batch(batch) => Some(batch),
            Value::Noop | Value::Reconfigure(_) => None,
        };
        let verdicts = self.sessions.take_in(slot, batch);
        if let Some(membership) = memberships.chosen_at(slot) {
            self.sessions.on_membership(membership);
        }
        self.delivered = Watermark { slot, hash: chain(self.delivered.hash, slot, &value) };
        assert!(
            slot < self.chosen.slot || self.delivered.hash == self.chosen.hash,
            "what is delivered up to slot {slot} is not what is chosen"
        );
        assert!(
            self.in_delivery.back().is_none_or(|&(last, _)| last.next() == slot),
            "invariant 6: slots are delivered in order, each once"
        );
        self.is_in_delivery(slot, value.memory_len());
        Delivery { slot, value, verdicts }
    }

    fn is_in_delivery(&mut self, slot: Slot, bytes: usize) {
        let bytes = bytes + DELIVERY_OVERHEAD_BYTES;
        self.in_delivery.push_back((slot, bytes));
        self.bytes_in_delivery += bytes;
    }

    /// This node, which has joined, gets to know the first membership.
    pub(super) fn begin(&mut self, first: &Membership) {
        assert_eq!(self.chosen.slot, Slot::ZERO, "nothing is chosen before it is known by whom");
        self.sessions.on_membership(first);
    }

    /// A checkpoint takes the place of the chosen prefix up to its slot, which this node has not got:
    /// delivery goes on behind it, once the state machine has the state.
    pub(super) fn install(&mut self, at: Watermark, sessions: SessionTable) {
        assert!(
            at.slot > self.chosen.slot || planted!(OlderStateInstalled),
            "a checkpoint of slot {}, and {} is chosen",
            at.slot,
            self.chosen.slot
        );
        assert_eq!(at.slot, sessions.slot(), "both are of one checkpoint");
        (self.chosen, self.delivered, self.sessions) = (at, at, sessions);
        self.hashes = VecDeque::from([at]);
        while let Some(slot) = self.above.first().filter(|slot| *slot <= at.slot) {
            self.above.remove(slot);
        }
        self.is_in_delivery(at.slot, 0);
    }

    /// The state machine has applied every slot up to `slot`.
    #[inline]
    pub(super) fn on_applied(&mut self, slot: Slot) {
        assert!(slot <= self.delivered(), "slot {slot} was applied before it was delivered");
        self.applied = self.applied.max(slot);
        while let Some(&(delivered, bytes)) = self.in_delivery.front()
            && delivered <= slot
        {
            self.in_delivery.pop_front();
            self.bytes_in_delivery -= bytes;
        }
        assert_eq!(
            self.in_delivery.is_empty(),
            self.bytes_in_delivery == 0,
            "what is in delivery has bytes"
        );
    }

    /// Bytes delivered and not yet applied.
    pub(super) fn bytes_in_delivery(&self) -> usize {
        self.bytes_in_delivery
    }
}

/// The hash of the chosen prefix up to `slot`, from the one before it.
pub(super) fn chain(previous: u64, slot: Slot, value: &Value) -> u64 {
    let link = [slot.0.to_le_bytes(), value.digest().to_le_bytes()];
    xxh3_64_with_seed(link.as_flattened(), previous)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_everything_before() {
        let empty = Value::Noop;
        let first = chain(0, Slot(1), &empty);
        assert_ne!(first, chain(1, Slot(1), &empty));
        assert_ne!(first, chain(0, Slot(2), &empty));
        let mut builder = crate::types::BatchBuilder::default();
        let client = crate::types::ClientId { name: 1, epoch: 1 };
        builder.push(crate::types::RequestId { client, sequence: 1 }, 1, bytes::Bytes::new());
        assert_ne!(first, chain(0, Slot(1), &Value::Batch(builder.build().expect("a command"))));
    }
}
