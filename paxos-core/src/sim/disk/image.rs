//! What a disk holds.

use std::collections::BTreeMap;

use crate::{
    message::{Record, Watermark},
    port::{Checkpoint, States, WriteBatch},
    types::{Ballot, NodeId, Slot, StoreId},
};

/// What stands on the platter.
#[derive(Clone, Debug, Default)]
pub(in crate::sim) struct Image {
    pub(in crate::sim) promised: Ballot,
    pub(in crate::sim) chosen: Watermark,
    pub(in crate::sim) records: BTreeMap<Slot, Record>,
    pub(in crate::sim) floor: Slot,
    pub(in crate::sim) states: States,
    pub(in crate::sim) checkpoint: Checkpoint,
    pub(in crate::sim) peers: BTreeMap<NodeId, StoreId>,
}

impl Image {
    /// Takes in a batch, as a write of it leaves the platter.
    pub(super) fn apply(&mut self, batch: &WriteBatch) {
        self.promised = batch.promised.unwrap_or(self.promised);
        self.chosen = batch.chosen.unwrap_or(self.chosen);
        for record in &batch.records {
            self.records.insert(record.slot, record.clone());
        }
        self.states.apply(batch, &self.checkpoint);
        if let Some(checkpoint) = &batch.checkpoint {
            self.checkpoint = checkpoint.clone();
        }
        if let Some(floor) = batch.floor {
            self.floor = floor;
            self.records = self.records.split_off(&floor.next());
        }
        self.peers.extend(batch.peers.iter().map(|(&peer, &store)| (peer, store)));
    }
}
