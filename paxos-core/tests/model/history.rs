//! What an onlooker has seen who sees every disk: which votes were ever durable, and which values
//! were handed to state machines. No node knows it, and it decides nothing; the properties are
//! about it.

use std::collections::{BTreeMap, BTreeSet};

use paxos_core::types::{Ballot, NodeId, Slot, Value};

use super::disk::Vote;

/// Of three.
const MAJORITY: usize = 2;

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Who has voted in a slot at a ballot, durably, and for what.
    votes: BTreeMap<(Slot, Ballot), (Value, BTreeSet<NodeId>)>,
    /// What state machines were given. Of two values for a slot both are here.
    delivered: BTreeMap<Slot, Vec<Value>>,
    /// The first rule that was broken.
    pub(crate) broken: Option<String>,
}

impl History {
    pub(crate) fn on_broken(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub(crate) fn on_vote(&mut self, vote: &Vote) {
        let Vote { node, slot, ballot, ref value } = *vote;
        let entry = self.votes.entry((slot, ballot));
        let (known, voters) = entry.or_insert_with(|| (value.clone(), BTreeSet::new()));
        if known == value {
            voters.insert(node);
        } else {
            self.on_broken(format!("two values in slot {slot} at ballot {ballot}"));
        }
    }

    pub(crate) fn on_delivered(&mut self, slot: Slot, value: Value) {
        let delivered = self.delivered.entry(slot).or_default();
        if !delivered.contains(&value) {
            delivered.push(value);
        }
    }

    /// What has been voted for.
    pub(crate) fn votes(&self) -> impl Iterator<Item = (Slot, Ballot, &Value)> {
        self.votes.iter().map(|(&(slot, ballot), (value, _))| (slot, ballot, value))
    }

    /// What is chosen, by slot and ballot: a majority has voted for it at that ballot.
    pub(crate) fn chosen(&self) -> impl Iterator<Item = (Slot, Ballot, &Value)> {
        let chosen = self.votes.iter().filter(|(_, (_, voters))| voters.len() >= MAJORITY);
        chosen.map(|(&(slot, ballot), (value, _))| (slot, ballot, value))
    }

    pub(crate) fn is_chosen(&self, slot: Slot, value: &Value) -> bool {
        self.chosen().any(|(in_slot, _, chosen)| in_slot == slot && chosen == value)
    }

    pub(crate) fn delivered(&self) -> impl Iterator<Item = (Slot, &Value)> {
        self.delivered.iter().flat_map(|(&slot, values)| values.iter().map(move |v| (slot, v)))
    }
}
