//! What is known about a storage at a moment of a recording, and what it may therefore hold.

use paxos_core::{
    message::Record,
    port::{Recovered, WriteBatch},
    types::{Slot, StoreId},
};

use super::super::{CLUSTER, NODE, image_after, is_found};

/// What a storage was given and what it has acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The batches it was given, in order.
    batches: Vec<WriteBatch>,
    /// How many of them are durable.
    acknowledged: usize,
    /// The last incarnation that was reported.
    incarnation: u64,
    /// Its name, once it was reported.
    store: Option<StoreId>,
}

/// What happened between two operations of a recording.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// A recovery has ended, with so many batches found.
    Recovered { batches: usize, incarnation: u64, store: StoreId },
    /// A write has begun.
    Writing(Box<WriteBatch>),
    /// It was acknowledged.
    Written,
}

impl Known {
    pub(super) fn learn(&mut self, note: &Note) {
        match note {
            Note::Recovered { batches, incarnation, store } => {
                self.batches.truncate(*batches);
                self.acknowledged = *batches;
                self.incarnation = *incarnation;
                self.store = Some(*store);
            }
            Note::Writing(batch) => self.batches.push(WriteBatch::clone(batch)),
            Note::Written => self.acknowledged = self.batches.len(),
        }
    }

    /// Whether the storage has said anything yet that it must not forget.
    pub(super) fn is_born(&self) -> bool {
        self.store.is_some()
    }

    /// Whether a batch is written and not acknowledged.
    pub(super) fn is_writing(&self) -> bool {
        self.acknowledged < self.batches.len()
    }

    /// The number of batches it was given.
    pub(super) fn given(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// The same, had the last batch never been acknowledged.
    pub(super) fn without_last_acknowledgement(&self) -> Known {
        Known { acknowledged: self.acknowledged.saturating_sub(1), ..self.clone() }
    }

    /// How many batches are in what was found: a start, the log, and the states by their slots.
    ///
    /// # Errors
    ///
    /// The guarantee that is broken if it is not what a storage of which this is known may hold.
    pub(super) fn judge(
        &self,
        found: &Recovered,
        log: &[Record],
        states: &[(Slot, Vec<u8>)],
    ) -> Result<usize, String> {
        let identity = found.identity;
        if (identity.cluster, identity.node) != (CLUSTER, NODE) {
            return Err(format!("7 (bound to one node): {identity:?}"));
        }
        if self.store.is_some_and(|store| store != identity.store) {
            return Err("1 (durable): the store has another name".to_owned());
        }
        if found.incarnation <= self.incarnation {
            return Err(format!(
                "1 (durable): incarnation {} after {}",
                found.incarnation, self.incarnation
            ));
        }
        // Later states first: equal ones, which an empty log has, count as the later.
        let count = (0..=self.batches.len()).rev().find(|count| {
            let image = image_after(&self.batches[..*count]);
            let is_as_read =
                |(slot, state): &(Slot, Vec<u8>)| image.states.read(*slot, 0, usize::MAX) == *state;
            is_found(&image, found)
                && log.iter().eq(image.records.values())
                && states.iter().all(is_as_read)
        });
        match count {
            Some(count) if count >= self.acknowledged => Ok(count),
            Some(count) => Err(format!(
                "1 (durable): {count} of {} acknowledged batches are left",
                self.acknowledged
            )),
            None => Err(format!(
                "2 (atomic), 3 (ordered): the state is not that after any number of batches; of {} \
                 {} were acknowledged: {found:?}",
                self.batches.len(),
                self.acknowledged
            )),
        }
    }
}
