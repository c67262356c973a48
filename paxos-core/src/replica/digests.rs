//! Whose state is another one than that of the others.
//!
//! Nodes that have applied the same slots have the same state (invariant 6): unless a state machine is not
//! deterministic, or memory or a disk has changed it behind its back, which nothing in the log shows. Where
//! the state machine gives a digest of its state, each node tells all others its own every so many slots,
//! at slots that are the same on all of them. As with the log, **who differs from a quorum stops**. A digest
//! that is lost is not missed: the next one differs too.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Replica,
    context::Context,
    divergence::{Finding, finding},
    effect::{Halt, Task},
    surroundings,
};
use crate::{
    limits,
    message::{Message, StateDigest},
    planted::planted,
    types::{Instant, NodeId, Slot},
};

/// The latest digests of each node, this one included: others may be ahead of it, or behind.
#[derive(Clone, Debug, Default)]
pub(super) struct Digests {
    said: BTreeMap<NodeId, VecDeque<StateDigest>>,
}

impl Digests {
    fn on_said(&mut self, node: NodeId, digest: StateDigest) {
        let said = self.said.entry(node).or_default();
        if said.len() == limits::DIGESTS_KEPT {
            said.pop_front();
        }
        said.push_back(digest);
    }

    /// Nobody else has a say any more.
    fn keep(&mut self, is_member: impl Fn(NodeId) -> bool) {
        self.said.retain(|node, _| is_member(*node));
    }

    /// What `node` has said last of the state after `slot`.
    fn of(&self, node: NodeId, slot: Slot) -> Option<u64> {
        let said = self.said.get(&node)?;
        said.iter().rev().find(|said| said.slot == slot).map(|said| said.digest)
    }

    /// What is known of the state of `node` after `slot`; `None` if it is not known itself.
    fn finding(&self, node: NodeId, slot: Slot, members: usize) -> Option<Finding> {
        let own = self.of(node, slot)?;
        let said = self.said.keys().filter_map(|&node| self.of(node, slot));
        Some(finding(own, said, members))
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.said.values().map(VecDeque::len).sum()
    }
}

impl<W> Replica<W> {
    /// Whoever applies `slot` is to say what the state is then, if the others do so at this slot too.
    pub(super) fn ask_for_digest(&mut self, slot: Slot) {
        if slot.0.is_multiple_of(self.config.digest_slots) {
            let tasks = &mut self.out.effects().tasks;
            let place = tasks.len() - usize::from(planted!(DigestOfAnotherSlot));
            tasks.insert(place, Task::Digest(slot));
        }
    }

    /// The digest of this node's own state after a slot.
    pub(super) fn on_digested(&mut self, now: Instant, digest: StateDigest) {
        surroundings!(self, now).broadcast(Message::StateDigest(digest));
        self.on_digest(self.config.id, digest);
    }

    /// The digest of a node's state after a slot.
    pub(super) fn on_digest(&mut self, from: NodeId, digest: StateDigest) {
        let StateDigest { slot, .. } = digest;
        if !self.memberships.newest().is_member(from) {
            return;
        }
        self.digests.keep(|node| self.memberships.newest().is_member(node));
        self.digests.on_said(from, digest);
        let own = self.digests.of(self.config.id, slot);
        if own.is_some_and(|own| own != digest.digest) {
            tracing::error!(
                node = %self.config.id, %from, %slot,
                "the states after the same slot differ; whoever differs from a quorum stops"
            );
        }
        let members = self.memberships.newest().members().count();
        match self.digests.finding(self.config.id, slot, members) {
            Some(Finding::Wrong) if !planted!(StateDivergedIgnored) => {
                self.out.halt(Some(Halt::StateDiverged { slot }));
            }
            _ => {}
        }
    }
}
