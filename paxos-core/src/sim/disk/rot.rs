//! Rot: a bit of what is durable flips at rest. Whatever reads it finds the checksum wrong and reports
//! damage; what is written anew is sound again.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    message::Record,
    port::{Checkpoint, Image, WriteBatch},
    types::Slot,
};

const CHECKSUM_BYTES: usize = 8;

/// Something on a disk with a checksum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Place {
    /// The promise, the watermark, the session table, the names of the peers' disks and the memberships.
    State,
    /// The record of a slot.
    Record(Slot),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::State => write!(f, "the state"),
            Place::Record(slot) => write!(f, "the record of slot {slot}"),
        }
    }
}

/// What was written cannot be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) struct Damage(pub(in crate::sim) Place);

/// A bit that has flipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rot {
    place: Place,
    /// Which bit, modulo as many as there are.
    bit: usize,
    /// Somebody has been told, so writing it anew does not help any more.
    is_met: bool,
}

impl Rot {
    /// A bit of an image: of any record, or of what the next start reads.
    pub(super) fn draw(image: &Image, is_down: bool, rng: &mut fastrand::Rng) -> Rot {
        let mut slots = image.records.keys();
        let slot = match slots.len() {
            0 => None,
            _ if is_down && rng.bool() => None,
            _ if is_down || rng.u8(..4) == 0 => slots.next_back(),
            records => slots.nth(rng.usize(..records)),
        };
        let place = slot.map_or(Place::State, |&slot| Place::Record(slot));
        Rot { place, bit: rng.usize(..), is_met: false }
    }

    /// What has rotted.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Whether the place is sound again, now that this is written.
    pub(super) fn is_repaired_by(&self, batch: &WriteBatch) -> bool {
        let is_rewritten = match self.place {
            Place::State => {
                let WriteBatch {
                    promised,
                    chosen,
                    records: _,
                    checkpoint,
                    floor,
                    state,
                    peers,
                    memberships,
                } = batch;
                promised.is_some()
                    || chosen.is_some()
                    || checkpoint.is_some()
                    || floor.is_some()
                    || !state.is_empty()
                    || !peers.is_empty()
                    || memberships.is_some()
            }
            Place::Record(slot) => batch.records.iter().any(|record| record.slot == slot),
        };
        is_rewritten && !self.is_met
    }

    /// Reads the place.
    ///
    /// # Panics
    ///
    /// If the checksum does not tell that a bit has flipped.
    pub(super) fn read(&mut self, image: &Image) -> Damage {
        let mut bytes = sealed(image, self.place);
        let bit = self.bit % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!is_sound(&bytes), "rot in {} is served", self.place);
        self.is_met = true;
        Damage(self.place)
    }
}

/// What stands at a place: its checksum and what it is of.
fn sealed(image: &Image, place: Place) -> Vec<u8> {
    let Image { promised, chosen, records, floor, states: _, checkpoint, peers, memberships } =
        image;
    let content = match place {
        Place::State => {
            let Checkpoint { at, sessions, state } = checkpoint;
            let state = (promised, chosen, floor, at, sessions, state, peers, memberships);
            postcard::to_stdvec(&state)
        }
        Place::Record(slot) => {
            let Record { slot, ballot, ref value } = records[&slot];
            postcard::to_stdvec(&Record { slot, ballot, value: value.encoded() })
        }
    };
    let content = content.expect("plain data encodes");
    let mut bytes = xxh3_64(&content).to_le_bytes().to_vec();
    bytes.extend(content);
    bytes
}

/// Whether the checksum is that of what stands behind it.
fn is_sound(bytes: &[u8]) -> bool {
    let (checksum, content) = bytes.split_at(CHECKSUM_BYTES);
    checksum == xxh3_64(content).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Ballot, NodeId, Value};

    fn image() -> Image {
        let ballot = Ballot { round: 3, node: NodeId(1) };
        let record = Record { slot: Slot(7), ballot, value: Value::Noop };
        let memberships = Bytes::from_static(b"memberships");
        let records = [(Slot(7), record)].into();
        Image { promised: ballot, records, memberships, ..Image::default() }
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        for place in [Place::State, Place::Record(Slot(7))] {
            let bytes = sealed(&image(), place);
            assert!(is_sound(&bytes));
            for bit in 0..8 * bytes.len() {
                let mut rot = Rot { place, bit, is_met: false };
                assert_eq!(rot.read(&image()), Damage(place));
            }
        }
    }

    #[test]
    fn what_is_written_anew_is_sound_unless_somebody_has_been_told() {
        let record = image().records[&Slot(7)].clone();
        let batch = WriteBatch { records: vec![record], ..WriteBatch::default() };
        let mut rot = Rot { place: Place::Record(Slot(7)), bit: 9, is_met: false };
        assert!(rot.is_repaired_by(&batch));
        assert!(!rot.is_repaired_by(&WriteBatch::default()));
        assert!(!Rot { place: Place::State, ..rot }.is_repaired_by(&batch));
        rot.read(&image());
        assert!(!rot.is_repaired_by(&batch));
    }
}
