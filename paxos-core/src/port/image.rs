//! What batches leave behind.

use std::collections::BTreeMap;

use super::{Checkpoint, Recovered, States, WriteBatch};
use crate::{
    message::{Record, Watermark},
    types::{Ballot, Identity, NodeId, Slot, StoreId},
};

/// What a storage holds after the batches that it was given, in memory: for storages that live there,
/// and to hold others against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The acceptor's promise.
    pub promised: Ballot,
    /// How far the log is known to be chosen.
    pub chosen: Watermark,
    /// The log above the floor.
    pub records: BTreeMap<Slot, Record>,
    /// The state of the checkpoint, and the one that is being written.
    pub states: States,
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// Every record up to here is gone.
    pub floor: Slot,
    /// The data directories of the peers met so far.
    pub peers: BTreeMap<NodeId, StoreId>,
}

impl Image {
    /// Takes in a batch, all of it.
    ///
    /// # Panics
    ///
    /// As [`States::apply`] does.
    pub fn apply(&mut self, batch: &WriteBatch) {
        self.promised = batch.promised.unwrap_or(self.promised);
        self.chosen = batch.chosen.unwrap_or(self.chosen);
        let records = batch.records.iter().map(|record| (record.slot, record.clone()));
        self.records.extend(records);
        self.states.apply(batch, &self.checkpoint);
        if let Some(checkpoint) = &batch.checkpoint {
            self.checkpoint = checkpoint.clone();
        }
        if let Some(floor) = batch.floor {
            self.floor = floor;
            self.records = self.records.split_off(&floor.next());
        }
        self.peers.extend(&batch.peers);
    }

    /// What a node finds that starts from this.
    #[must_use]
    pub fn recovered(&self, identity: Identity, incarnation: u64) -> Recovered {
        let open = self.records.range(self.chosen.slot.next()..);
        Recovered {
            identity,
            incarnation,
            promised: self.promised,
            chosen: self.chosen,
            floor: self.floor,
            records: open.map(|(_, record)| record.clone()).collect(),
            checkpoint: self.checkpoint.clone(),
            unfinished: self.states.unfinished(&self.checkpoint),
            peers: self.peers.clone(),
        }
    }
}
