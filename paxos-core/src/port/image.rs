//! What batches leave behind.

use std::collections::BTreeMap;

use bytes::Bytes;

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
    /// The memberships that govern slots above the checkpoint, encoded by the replica.
    pub memberships: Bytes,
}

impl Image {
    /// Takes in a batch, all of it.
    ///
    /// # Panics
    ///
    /// As [`States::apply`] does; if the checkpoint or the floor sinks, or a record lies below it.
    pub fn apply(&mut self, batch: &WriteBatch) {
        self.promised = batch.promised.unwrap_or(self.promised);
        self.chosen = batch.chosen.unwrap_or(self.chosen);
        let is_above = |record: &Record| record.slot > self.floor;
        assert!(batch.records.iter().all(is_above), "no record comes back from below the floor");
        let records = batch.records.iter().map(|record| (record.slot, record.clone()));
        self.records.extend(records);
        self.states.apply(batch, &self.checkpoint);
        if let Some(checkpoint) = &batch.checkpoint {
            assert!(checkpoint.at.slot >= self.checkpoint.at.slot, "a checkpoint never sinks");
            self.checkpoint = checkpoint.clone();
        }
        if let Some(floor) = batch.floor {
            assert!(floor >= self.floor, "the floor never sinks");
            self.floor = floor;
            self.records = self.records.split_off(&floor.next());
        }
        self.peers.extend(&batch.peers);
        if let Some(memberships) = &batch.memberships {
            self.memberships = memberships.clone();
        }
    }

    /// What a node finds that starts from this.
    #[must_use]
    pub fn recovered(&self, identity: Identity, incarnation: u64) -> Recovered {
        let open = self.records.range(self.chosen.slot.next()..);
        Recovered {
            identity,
            incarnation,
            last_incarnation: incarnation.saturating_sub(1),
            promised: self.promised,
            chosen: self.chosen,
            floor: self.floor,
            records: open.map(|(_, record)| record.clone()).collect(),
            checkpoint: self.checkpoint.clone(),
            unfinished: self.states.unfinished(&self.checkpoint),
            peers: self.peers.clone(),
            memberships: self.memberships.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        port::{StateChunk, StateSummary},
        types::Value,
    };

    /// What a node may do next, by the rules of a [`WriteBatch`].
    fn batches() -> impl Strategy<Value = Vec<WriteBatch>> {
        let memberships = prop::option::of(prop::collection::vec(any::<u8>(), 0..3));
        let step = (0..8u8, 1..4u64, any::<bool>(), memberships);
        prop::collection::vec(step, 1..40).prop_map(|steps| {
            let (mut batches, mut image) = (Vec::new(), Image::default());
            for (kind, number, is_kept, memberships) in steps {
                let memberships = memberships.map(Bytes::from);
                let mut batch = WriteBatch { memberships, ..WriteBatch::default() };
                let (marked, floor) = (image.checkpoint.at.slot, image.floor);
                let unfinished = image.states.unfinished(&image.checkpoint);
                let slot = marked.plus(number);
                match kind {
                    0..=2 => {
                        let ballot = Ballot { round: number, node: NodeId(1) };
                        let slot = floor.plus(number);
                        batch.records.push(Record { slot, ballot, value: Value::Noop });
                    }
                    3 => batch.floor = Some(floor.plus(number).min(marked).max(floor)),
                    4 | 5 => {
                        let (slot, offset) = unfinished.filter(|_| is_kept).unwrap_or((slot, 0));
                        let bytes = Bytes::from(vec![kind; 1 + usize::from(kind)]);
                        batch.state.push(StateChunk { slot, offset, bytes });
                    }
                    _ => {
                        let (slot, bytes) = unfinished.filter(|_| is_kept).unwrap_or((slot, 0));
                        let state = (bytes > 0).then_some(StateSummary { bytes, hash: 0 });
                        let at = Watermark { slot, hash: number };
                        let sessions = Bytes::new();
                        batch.checkpoint = Some(Checkpoint { at, sessions, state });
                    }
                }
                image.apply(&batch);
                batches.push(batch);
            }
            batches
        })
    }

    proptest! {
        /// A node merges what comes while a write is under way.
        #[test]
        fn merged_batches_leave_behind_what_they_do_one_after_the_other(
            batches in batches(), sizes in prop::collection::vec(1..6usize, 40),
        ) {
            let (mut one_by_one, mut merged) = (Image::default(), Image::default());
            batches.iter().for_each(|batch| one_by_one.apply(batch));
            let mut rest = &batches[..];
            for size in sizes {
                let (group, behind) = rest.split_at(size.min(rest.len()));
                let mut batch = WriteBatch::default();
                group.iter().cloned().for_each(|later| batch.merge(later));
                merged.apply(&batch);
                rest = behind;
            }
            prop_assert_eq!(merged, one_by_one);
        }
    }
}
