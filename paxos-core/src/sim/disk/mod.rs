//! A disk that keeps the guarantees of [`Storage`](crate::port::Storage) and gives nothing beyond
//! them: what has not been reported durable survives a crash or does not, as the sectors decide that
//! are left of it, but always as a prefix of whole batches.

mod journal;
mod medium;
mod rot;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
};

use bytes::Bytes;

pub(super) use self::rot::{Damage, Place};
use self::{
    journal::{Journal, Loss},
    rot::Rot,
};
use crate::{
    message::Record,
    port::{Image, Recovered, StateHasher, WriteBatch, cut_off},
    replica::WriteId,
    types::{ClusterId, Identity, NodeId, Slot, StoreId},
};

/// The disk of one node.
#[derive(Debug)]
pub(super) struct Disk {
    identity: Identity,
    incarnation: u64,
    durable: Image,
    /// How what is durable, or about to be, got there.
    journal: Journal,
    /// What of it has rotted since.
    rot: Option<Rot>,
    /// Handed over and not durable yet, in order.
    /// What the node itself writes, and not its replica, has no id.
    unfinished: VecDeque<(Option<WriteId>, WriteBatch)>,
    /// How many of the unfinished the write under way carries.
    under_way: usize,
}

impl Disk {
    /// A new, empty disk of `node`.
    pub(super) fn new(node: NodeId, store: StoreId) -> Disk {
        Disk {
            identity: Identity { cluster: ClusterId(1), node, store },
            incarnation: 0,
            durable: Image::default(),
            journal: Journal::default(),
            rot: None,
            unfinished: VecDeque::new(),
            under_way: 0,
        }
    }

    /// What tells it from any other disk of the same node.
    pub(super) fn store(&self) -> StoreId {
        self.identity.store
    }

    /// As [`Storage::recover`](crate::port::Storage::recover), which reads the state and the records
    /// above the watermark.
    pub(super) fn recover(&mut self) -> Result<Recovered, Damage> {
        let watermark = self.durable.chosen.slot;
        self.meet_rot(|place| match place {
            Place::State => true,
            Place::Record(slot) => slot > watermark,
        })?;
        self.incarnation += 1;
        self.journal.begin(self.incarnation);
        Ok(self.durable.recovered(self.identity, self.incarnation))
    }

    /// A bit of what is durable flips, of a machine that is down or runs; says where.
    pub(super) fn rot(&mut self, is_down: bool, rng: &mut fastrand::Rng) -> Place {
        self.rot.insert(Rot::draw(&self.durable, is_down, rng)).place()
    }

    /// Whether something durable has rotted, and nobody has written it anew.
    pub(super) fn is_rotten(&self) -> bool {
        self.rot.is_some()
    }

    /// Fails if what has rotted is read.
    fn meet_rot(&mut self, is_read: impl FnOnce(Place) -> bool) -> Result<(), Damage> {
        match &mut self.rot {
            Some(rot) if is_read(rot.place()) => Err(rot.read(&self.durable)),
            _ => Ok(()),
        }
    }

    /// What would survive a crash for certain.
    pub(super) fn durable(&self) -> &Image {
        &self.durable
    }

    /// Takes a batch; nothing is written yet.
    pub(super) fn enqueue(&mut self, id: Option<WriteId>, batch: WriteBatch) {
        self.unfinished.push_back((id, batch));
    }

    /// Starts one write of up to `batches_max` waiting batches, unless one is under way or nothing
    /// waits; says whether it did.
    pub(super) fn begin(&mut self, batches_max: usize) -> bool {
        if self.under_way > 0 || self.unfinished.is_empty() {
            return false;
        }
        self.under_way = self.unfinished.len().min(batches_max.max(1));
        true
    }

    /// Makes the batches of the write under way durable and returns the id of the last that has one.
    /// `observe` sees each batch, and what was durable before it.
    pub(super) fn finish<E>(
        &mut self,
        mut observe: impl FnMut(&Image, &WriteBatch) -> Result<(), E>,
    ) -> Result<Option<WriteId>, E> {
        let mut last = None;
        for (id, batch) in self.unfinished.drain(..self.under_way) {
            observe(&self.durable, &batch)?;
            self.durable.apply(&batch);
            self.rot = self.rot.filter(|rot| !rot.is_repaired_by(&batch));
            self.journal.append(self.incarnation, batch);
            last = id.or(last);
        }
        self.under_way = 0;
        Ok(last)
    }

    /// Finds out what a crash leaves of the unfinished batches if all of them have been written and
    /// none is synced: `keep` says of each of so many writes of a sector whether it is on the medium.
    pub(super) fn lose_power(&mut self, keep: impl FnOnce(usize) -> Vec<bool>) -> Loss {
        let unsynced = self.unfinished.iter().map(|(_, batch)| batch);
        self.journal.lose_power(self.incarnation, unsynced, keep)
    }

    /// The machine crashes; the first `survivors` of the unfinished batches turn out to be
    /// durable, the others are gone.
    pub(super) fn crash<E>(
        &mut self,
        survivors: usize,
        observe: impl FnMut(&Image, &WriteBatch) -> Result<(), E>,
    ) -> Result<(), E> {
        self.under_way = survivors;
        self.finish(observe)?;
        self.unfinished.clear();
        Ok(())
    }

    /// What is unfinished, in order.
    pub(super) fn unfinished(&self) -> impl ExactSizeIterator<Item = &WriteBatch> {
        self.unfinished.iter().map(|(_, batch)| batch)
    }

    /// The whole state of the checkpoint of this slot.
    ///
    /// # Panics
    ///
    /// If there is none, or not all of it.
    pub(super) fn state(&self, slot: Slot) -> Bytes {
        let Image { states, checkpoint, .. } = &self.durable;
        assert_eq!(
            checkpoint.slot_of_state(),
            Some(slot),
            "a state as of {slot} is to be taken over"
        );
        let bytes = states.read(slot, 0, usize::MAX);
        let mut hasher = StateHasher::default();
        hasher.update(&bytes);
        assert_eq!(checkpoint.state, Some(hasher.summary()), "the state as of {slot} is another");
        bytes
    }

    /// As [`Storage::read`](crate::port::Storage::read), which leaves open whether unfinished
    /// batches are seen.
    pub(super) fn read(
        &mut self,
        slots: RangeInclusive<Slot>,
        bytes_max: usize,
        see_unfinished: bool,
    ) -> Result<Vec<Record>, Damage> {
        if slots.is_empty() {
            return Ok(Vec::new());
        }
        let mut found: BTreeMap<Slot, &Record> = self
            .durable
            .records
            .range(slots.clone())
            .map(|(&slot, record)| (slot, record))
            .collect();
        if see_unfinished {
            let records = self.unfinished.iter().flat_map(|(_, batch)| &batch.records);
            found.extend(
                records
                    .filter(|record| slots.contains(&record.slot))
                    .map(|record| (record.slot, record)),
            );
        }
        let records = cut_off(found.into_values().cloned().map(Ok::<_, Damage>), bytes_max)?;
        let is_read = |slot| records.iter().any(|record| record.slot == slot);
        self.meet_rot(|place| matches!(place, Place::Record(slot) if is_read(slot)))?;
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Ballot, Value};

    fn record(slot: u64, round: u64) -> Record {
        let ballot = Ballot { round, node: NodeId(1) };
        Record { slot: Slot(slot), ballot, value: Value::Noop }
    }

    fn batch(records: Vec<Record>) -> WriteBatch {
        WriteBatch { records, ..WriteBatch::default() }
    }

    fn finish(disk: &mut Disk) -> Option<WriteId> {
        disk.finish(|_, _| Ok::<(), ()>(())).expect("nobody objects")
    }

    #[test]
    fn a_crash_keeps_a_prefix_of_whole_batches() {
        for survivors in 0..=3 {
            let mut disk = Disk::new(NodeId(1), StoreId(1));
            for id in 1..=3 {
                disk.enqueue(Some(WriteId(id)), batch(vec![record(id, 1), record(id + 10, 1)]));
            }
            let mut kept = 0;
            let counted: Result<(), ()> = disk.crash(survivors, |_, _| {
                kept += 1;
                Ok(())
            });
            assert_eq!((counted, kept), (Ok(()), survivors));
            let slots: Vec<_> =
                disk.recover().expect("sound").records.iter().map(|kept| kept.slot.0).collect();
            let expected: Vec<_> =
                (1..=survivors as u64).chain(11..11 + survivors as u64).collect();
            assert_eq!(slots, expected);
        }
    }

    #[test]
    fn only_a_finished_write_is_durable() {
        let mut disk = Disk::new(NodeId(1), StoreId(1));
        disk.enqueue(Some(WriteId(1)), batch(vec![record(1, 1)]));
        assert!(disk.begin(8));
        disk.enqueue(Some(WriteId(2)), batch(vec![record(1, 2)]));
        assert!(!disk.begin(8), "one write at a time");
        assert!(disk.durable().records.is_empty());
        assert_eq!(disk.read(Slot(1)..=Slot(9), 100, true), Ok(vec![record(1, 2)]));
        assert_eq!(finish(&mut disk), Some(WriteId(1)));
        assert_eq!(disk.read(Slot(1)..=Slot(9), 100, false), Ok(vec![record(1, 1)]));
    }

    #[test]
    fn a_read_stops_after_the_record_that_reaches_the_limit() {
        let mut disk = Disk::new(NodeId(1), StoreId(1));
        disk.enqueue(Some(WriteId(1)), batch((1..=5).map(|slot| record(slot, 1)).collect()));
        assert!(disk.begin(1));
        assert_eq!(finish(&mut disk), Some(WriteId(1)));
        assert_eq!(disk.read(Slot(2)..=Slot(5), 2, false).expect("sound").len(), 2);
        assert_eq!(disk.read(Slot(2)..=Slot(5), 0, false).expect("sound").len(), 1);
    }
}
