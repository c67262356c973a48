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
pub struct States(BTreeMap<Slot, Pieces>);

/// The pieces of a state, each with where it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pieces(Vec<(u64, Bytes)>);

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
            self.0.entry(*slot).or_default().0.push((*offset, bytes.clone()));
        }
        if let Some(checkpoint) = &batch.checkpoint {
            let own = checkpoint.slot_of_state();
            self.0.retain(|slot, _| *slot > checkpoint.at.slot || Some(*slot) == own);
        }
    }

    /// How many bytes there are of the state as of `slot`.
    #[must_use]
    pub fn len(&self, slot: Slot) -> u64 {
        self.0.get(&slot).map_or(0, Pieces::len)
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
        self.0.get(&slot).map(|pieces| pieces.read(offset, bytes_max.max(1))).unwrap_or_default()
    }
}

impl Pieces {
    fn len(&self) -> u64 {
        self.0.last().map_or(0, end)
    }

    /// What lies in one piece is not copied.
    fn read(&self, offset: u64, bytes_max: usize) -> Bytes {
        let first = self.0.partition_point(|piece| end(piece) <= offset);
        let Some((start, piece)) = self.0.get(first) else { return Bytes::new() };
        let skipped = usize::try_from(offset - start).expect("within the piece");
        let rest = piece.slice(skipped..);
        if rest.len() >= bytes_max || first + 1 == self.0.len() {
            return rest.slice(..rest.len().min(bytes_max));
        }
        let mut found = BytesMut::from(rest);
        for (_, piece) in &self.0[first + 1..] {
            let room = bytes_max - found.len();
            found.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.len() >= room {
                break;
            }
        }
        found.freeze()
    }
}

/// Where a piece ends.
fn end((start, piece): &(u64, Bytes)) -> u64 {
    start + piece.len() as u64
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

    /// With a pass over all pieces for each of them, it would take minutes.
    #[test]
    fn a_state_of_many_pieces_is_taken_in_and_read_piece_by_piece() {
        const PIECES: u64 = 200_000;
        let mut states = States::default();
        for offset in (0..2 * PIECES).step_by(2) {
            states.apply(&pieces(&[chunk(3, offset, b"ab")]), &Checkpoint::default());
        }
        assert_eq!(states.unfinished(&Checkpoint::default()), Some((Slot(3), 2 * PIECES)));
        let mut offset = 0;
        loop {
            let read = states.read(Slot(3), offset, 3);
            let expected = &b"abab"[usize::from(offset % 2 == 1)..];
            assert_eq!(read, expected[..read.len()], "from {offset}");
            if read.is_empty() {
                break;
            }
            offset += read.len() as u64;
        }
        assert_eq!(offset, 2 * PIECES);
    }

    proptest::proptest! {
        #[test]
        fn a_state_is_read_as_it_was_written(
            written in proptest::collection::vec(
                proptest::collection::vec(proptest::num::u8::ANY, 1..6), 0..8,
            ),
            (offset, bytes_max) in (0..45u64, 0..45usize),
        ) {
            let mut states = States::default();
            let mut whole = Vec::new();
            for piece in written {
                let (slot, offset) = (Slot(3), whole.len() as u64);
                whole.extend_from_slice(&piece);
                let chunk = StateChunk { slot, offset, bytes: piece.into() };
                states.apply(&pieces(&[chunk]), &Checkpoint::default());
            }
            let rest = whole.get(usize::try_from(offset).expect("small")..).unwrap_or_default();
            let expected = &rest[..rest.len().min(bytes_max.max(1))];
            proptest::prop_assert_eq!(&states.read(Slot(3), offset, bytes_max)[..], expected);
            proptest::prop_assert_eq!(states.len(Slot(3)), whole.len() as u64);
        }
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
