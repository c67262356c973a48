//! What clients and state machines see: each slot delivered once and in order, each command with
//! effect at most once and for certain if acknowledged, equal states at equal slots, reads that
//! miss nothing acknowledged or shown before they began.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    application::ReadId,
    check::{Check, Violation, ensure},
    host::verdicts,
    occurrence::{Occurrence, Occurrences},
};
use crate::{
    replica::{Delivery, Verdict},
    types::{ClientId, NodeId, ReadMode, RequestId, Slot, Value},
};

/// The check that fails here.
const CHECK: Check = Check::Clients;

/// The history of a run.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The last slot delivered to each node in its present life.
    delivered: BTreeMap<NodeId, Slot>,
    verdicts: BTreeMap<Slot, Vec<Verdict>>,
    /// Where each command had its effect.
    effects: BTreeMap<RequestId, Slot>,
    acknowledged: BTreeSet<RequestId>,
    /// Requests that were refused and so must never have effect.
    refused: BTreeSet<RequestId>,
    /// The newest state that a client knows of, by an acknowledgement or a read.
    known: Slot,
    /// What each read that somebody waits for has to show, and what it has promised.
    reads: BTreeMap<ReadId, (Slot, ReadMode)>,
    /// The newest state that each node has shown in its present life.
    shown: BTreeMap<NodeId, Slot>,
    /// The digest of the state after each slot.
    states: BTreeMap<Slot, u64>,
}

/// Whether somebody waits for a command, so that it must not expire.
pub(super) trait Waiting {
    /// Whether a live client waits for it.
    fn is_awaited(&self, id: RequestId) -> bool;
}

impl History {
    /// A node starts with a state machine that has applied `applied`.
    pub(super) fn started(&mut self, node: NodeId, applied: Slot) {
        self.delivered.insert(node, applied);
        self.shown.remove(&node);
        self.reads.retain(|&(reader, ..), _| reader != node);
    }

    /// The state machine of a node is to take over the state as of a slot.
    pub(super) fn taken_over(&mut self, node: NodeId, slot: Slot) -> Result<(), Violation> {
        let last = self.delivered.insert(node, slot).unwrap_or_default();
        ensure!(slot >= last, "node {node} takes over the state as of slot {slot}, at slot {last}");
        Ok(())
    }

    /// Checks a delivery and takes note of its verdicts.
    pub(super) fn delivered(
        &mut self,
        node: NodeId,
        delivery: &Delivery,
        waiting: &impl Waiting,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        let last = self.delivered.get(&node).copied().unwrap_or_default();
        let slot = delivery.slot;
        ensure!(slot == last.next(), "node {node} delivers slot {slot} after slot {last}");
        self.delivered.insert(node, slot);
        let verdicts = verdicts(delivery);
        let requests: Vec<RequestId> = match &delivery.value {
            Value::Batch(batch) => batch.requests().map(|(id, _)| id).collect(),
            _ => Vec::new(),
        };
        ensure!(
            verdicts.len() == requests.len(),
            "node {node} gives {} verdicts on the {} commands of slot {slot}",
            verdicts.len(),
            requests.len()
        );
        if let Some(known) = self.verdicts.get(&slot) {
            ensure!(
                *known == verdicts,
                "node {node} finds {verdicts:?} in slot {slot}, another found {known:?}"
            );
            return Ok(());
        }
        for (&id, &verdict) in requests.iter().zip(&verdicts) {
            self.judge(slot, id, verdict, waiting, seen)?;
        }
        self.verdicts.insert(slot, verdicts);
        Ok(())
    }

    fn judge(
        &mut self,
        slot: Slot,
        id: RequestId,
        verdict: Verdict,
        waiting: &impl Waiting,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        let effect = self.effects.get(&id).copied();
        match verdict {
            Verdict::Fresh => {
                ensure!(
                    effect.is_none(),
                    "command {id} has effect in slot {slot} and had it in slot {}",
                    effect.unwrap_or_default()
                );
                ensure!(!self.refused.contains(&id), "command {id} was refused and has effect");
                self.effects.insert(id, slot);
            }
            Verdict::Duplicate => {
                seen.add(Occurrence::DuplicateSuppressed);
                ensure!(
                    effect.is_some(),
                    "command {id} in slot {slot} is called a duplicate and had no effect before"
                );
            }
            Verdict::Expired => {
                seen.add(Occurrence::ExpiredSuppressed);
                ensure!(
                    effect.is_some() || !waiting.is_awaited(id),
                    "command {id} expires in slot {slot} while its client waits for it"
                );
            }
        }
        Ok(())
    }

    /// A client learns that its command had effect, and in which slot, unless it is told that this was before.
    pub(super) fn acknowledge(
        &mut self,
        id: RequestId,
        told: Option<Slot>,
    ) -> Result<(), Violation> {
        let Some(&slot) = self.effects.get(&id) else {
            return Err(Violation::of(
                CHECK,
                format!("command {id} is acknowledged and had no effect"),
            ));
        };
        ensure!(
            told.is_none_or(|told| told == slot),
            "command {id} had effect in slot {slot}, its client is told {told:?}"
        );
        self.acknowledged.insert(id);
        self.known = self.known.max(slot);
        Ok(())
    }

    /// A replica refuses a command for good.
    pub(super) fn refuse(&mut self, id: RequestId) {
        self.refused.insert(id);
    }

    /// Whether a read has to show what clients know when it begins.
    pub(super) fn is_linearizable(mode: ReadMode) -> bool {
        match mode {
            ReadMode::Quorum => true,
            ReadMode::AtLeast(_) | ReadMode::Local => false,
        }
    }

    /// A read begins.
    pub(super) fn read_began(&mut self, read: ReadId, mode: ReadMode) {
        let needed = match mode {
            ReadMode::Quorum => self.known,
            ReadMode::AtLeast(slot) => slot,
            ReadMode::Local => Slot::ZERO,
        };
        self.reads.insert(read, (needed, mode));
    }

    /// A read is not taken, or nobody waits for it any more.
    pub(super) fn read_ended(&mut self, read: ReadId) {
        self.reads.remove(&read);
    }

    /// A read is served from a state that has applied `applied`; says what the read had promised. One that was
    /// given up is free to be served or not.
    ///
    /// Whatever a read has shown, a stale one too, every linearizable read from then on has to show.
    pub(super) fn read_served(
        &mut self,
        read: ReadId,
        applied: Slot,
        seen: &mut Occurrences,
    ) -> Result<Option<ReadMode>, Violation> {
        let Some((needed, mode)) = self.reads.remove(&read) else { return Ok(None) };
        let (node, _, number) = read;
        ensure!(
            applied >= needed,
            "read {number} ({mode:?}) at node {node} shows slot {applied}, and has to show slot {needed}"
        );
        let shown = self.shown.insert(node, applied).unwrap_or_default();
        ensure!(
            applied >= shown,
            "read {number} ({mode:?}) at node {node} shows slot {applied}, an earlier one {shown}"
        );
        if applied < self.known {
            seen.add(Occurrence::ReadStale);
        }
        self.known = self.known.max(applied);
        Ok(Some(mode))
    }

    /// A state machine has applied a slot.
    pub(super) fn applied(
        &mut self,
        node: NodeId,
        slot: Slot,
        digest: u64,
    ) -> Result<(), Violation> {
        let known = *self.states.entry(slot).or_insert(digest);
        ensure!(known == digest, "node {node} has another state than others after slot {slot}");
        Ok(())
    }

    /// At the end: what was acknowledged is in this state, and nothing is in it twice.
    pub(super) fn check_final(
        &self,
        node: NodeId,
        commands: impl Iterator<Item = RequestId>,
    ) -> Result<(), Violation> {
        let mut held = BTreeSet::new();
        for id in commands {
            ensure!(held.insert(id), "the state of node {node} holds command {id} twice");
            ensure!(!self.refused.contains(&id), "node {node} applied {id}, which was refused");
        }
        let lost = self.acknowledged.iter().find(|id| !held.contains(id));
        ensure!(
            lost.is_none(),
            "command {} was acknowledged and is missing in the final state of node {node}",
            lost.copied().unwrap_or(RequestId { client: ClientId::default(), sequence: 0 })
        );
        Ok(())
    }
}
