//! The states that a storage keeps for its checkpoints.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::{Checkpoint, StateChunk, WriteBatch};
use crate::types::Slot;

/// States in memory, by the rules of a [`WriteBatch`]: for storages that have no better place for them,
/// and for whoever checks one that has.
///
/// There are two at most: that of the checkpoint, and one that is being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States(BTreeMap<Slot, Vec<Bytes>>);

impl States {
    /// Takes in the state and the checkpoint of a batch; `checkpoint` is the one before it.
    ///
    /// # Panics
    ///
    /// If a piece does not begin where the one before it ends, or lies below the checkpoint.
    pub fn apply(&mut self, batch: &WriteBatch, checkpoint: &Checkpoint) {
        // A batch may hold the checkpoint of one state and the beginning of the next.
        let next = batch.checkpoint.as_ref().and_then(Checkpoint::slot_of_state);
        let kept = [checkpoint.slot_of_state(), next];
        for StateChunk { slot, offset, bytes } in &batch.state {
            let before = checkpoint.at.slot;
            assert!(*slot > before, "a state as of {slot}, at or below the checkpoint of {before}");
            if *offset == 0 {
                self.0.retain(|other, _| other != slot && kept.contains(&Some(*other)));
            }
            assert_eq!(self.len(*slot), *offset, "a piece of the state as of {slot} is missing");
            self.0.entry(*slot).or_default().push(bytes.clone());
        }
        if let Some(checkpoint) = &batch.checkpoint {
            let own = checkpoint.slot_of_state();
            self.0.retain(|slot, _| *slot > checkpoint.at.slot || Some(*slot) == own);
        }
    }

    /// How many bytes there are of the state as of `slot`.
    #[must_use]
    pub fn len(&self, slot: Slot) -> u64 {
        self.0.get(&slot).into_iter().flatten().map(|piece| piece.len() as u64).sum()
    }

    /// As [`Recovered::unfinished`](super::Recovered::unfinished).
    #[must_use]
    pub fn unfinished(&self, checkpoint: &Checkpoint) -> Option<(Slot, u64)> {
        let slot = *self.0.keys().find(|slot| Some(**slot) != checkpoint.slot_of_state())?;
        Some((slot, self.len(slot)))
    }

    /// As [`Storage::read_state`](super::Storage::read_state).
    #[must_use]
    pub fn read(&self, slot: Slot, offset: u64, bytes_max: usize) -> Bytes {
        let mut start = 0;
        let mut found = BytesMut::new();
        for piece in self.0.get(&slot).into_iter().flatten() {
            let end = start + piece.len() as u64;
            if end > offset && found.len() < bytes_max.max(1) {
                let skipped = usize::try_from(offset.saturating_sub(start)).expect("within it");
                let room = bytes_max.max(1) - found.len();
                let rest = &piece[skipped..];
                found.extend_from_slice(&rest[..rest.len().min(room)]);
            }
            start = end;
        }
        found.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Watermark, port::StateSummary};

    fn chunk(slot: u64, offset: u64, bytes: &'static [u8]) -> StateChunk {
        StateChunk { slot: Slot(slot), offset, bytes: Bytes::from_static(bytes) }
    }

    fn checkpoint(slot: u64) -> Checkpoint {
        let at = Watermark { slot: Slot(slot), hash: 0 };
        Checkpoint { at, state: Some(StateSummary { bytes: 0, hash: 0 }), ..Checkpoint::default() }
    }

    fn states(batches: &[WriteBatch]) -> (States, Checkpoint) {
        let (mut states, mut last) = (States::default(), Checkpoint::default());
        for batch in batches {
            states.apply(batch, &last);
            last = batch.checkpoint.clone().unwrap_or(last);
        }
        (states, last)
    }

    fn pieces(state: &[StateChunk]) -> WriteBatch {
        WriteBatch { state: state.to_vec(), ..WriteBatch::default() }
    }

    fn marks(slot: u64) -> WriteBatch {
        WriteBatch { checkpoint: Some(checkpoint(slot)), ..WriteBatch::default() }
    }

    #[test]
    fn a_state_is_read_across_its_pieces() {
        let (states, _) = states(&[pieces(&[chunk(3, 0, b"abc"), chunk(3, 3, b"de")])]);
        for (offset, bytes_max, expected) in
            [(0, 9, "abcde"), (0, 4, "abcd"), (2, 2, "cd"), (4, 9, "e"), (5, 9, ""), (1, 0, "b")]
        {
            assert_eq!(states.read(Slot(3), offset, bytes_max), expected, "from {offset}");
        }
        assert_eq!(states.read(Slot(4), 0, 9), "");
    }

    #[test]
    fn there_are_two_at_most() {
        let (states_now, last) = states(&[pieces(&[chunk(3, 0, b"abc")]), marks(3)]);
        assert_eq!(states_now.unfinished(&last), None);
        let begun = [pieces(&[chunk(3, 0, b"abc")]), marks(3), pieces(&[chunk(5, 0, b"d")])];
        let (states_now, last) = states(&begun);
        assert_eq!(states_now.unfinished(&last), Some((Slot(5), 1)));
        // Another takes its place, whether as of a later slot or an earlier one.
        for slot in [4, 5, 6] {
            let again = [&begun[..], &[pieces(&[chunk(slot, 0, b"efg")])]].concat();
            let (states_now, last) = states(&again);
            assert_eq!(states_now.unfinished(&last), Some((Slot(slot), 3)));
            assert_eq!(states_now.read(Slot(3), 0, 9), "abc", "the checkpoint has its own");
        }
        let (states_now, last) = states(&[&begun[..], &[marks(5)]].concat());
        assert_eq!((states_now.len(Slot(3)), states_now.unfinished(&last)), (0, None));
    }

    /// A checkpoint that is written with the beginning of the next state.
    #[test]
    fn a_state_that_is_begun_in_the_batch_of_a_checkpoint_stays() {
        let mut batch = marks(3);
        batch.merge(pieces(&[chunk(5, 0, b"d")]));
        let (states, last) = states(&[pieces(&[chunk(3, 0, b"abc")]), batch]);
        assert_eq!(states.unfinished(&last), Some((Slot(5), 1)));
        assert_eq!(states.read(Slot(3), 0, 9), "abc");
    }
}
