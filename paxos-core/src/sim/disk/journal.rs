//! How a simulated disk keeps what it is given: as entries of a journal, one per batch, one behind
//! the other on a [`Medium`].
//!
//! ```text
//! checksum, u64 LE | body length, u32 LE | incarnation, u64 LE | body (postcard)
//! ```
//!
//! The checksum covers the rest of the entry and where it stands. Recovery reads up to the first
//! entry that does not check out, or was written in an earlier life than the one before it: what a
//! crash has left of entries that were lost may well be whole, or become so by what is written over
//! it. Each life therefore begins with an entry of its own. So a batch is there as a whole or not at
//! all, and with it all before it, whichever sectors a crash has kept.
//!
//! Nobody looks at the bytes before the power fails, so they are written only then.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::medium::{Medium, SECTOR_BYTES};
use crate::{
    message::{Record, Watermark},
    port::{Checkpoint, StateChunk, StateSummary, WriteBatch},
    types::{Ballot, NodeId, Slot, StoreId, Value},
};

const CHECKSUM_BYTES: usize = 8;
const HEADER_BYTES: usize = CHECKSUM_BYTES + 4 + 8;

/// Entries after which what they say stands elsewhere, and the journal begins anew.
const ENTRIES_MAX: usize = 32;

/// Who wrote what.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    incarnation: u64,
    batch: WriteBatch,
}

/// A batch as it is encoded.
#[derive(Serialize, Deserialize)]
struct Body {
    promised: Option<Ballot>,
    chosen: Option<Watermark>,
    records: Vec<Record<Bytes>>,
    state: Vec<(Slot, u64, Bytes)>,
    checkpoint: Option<(Watermark, Bytes, Option<StateSummary>)>,
    floor: Option<Slot>,
    peers: BTreeMap<NodeId, StoreId>,
    memberships: Option<Bytes>,
}

impl Body {
    fn of(batch: &WriteBatch) -> Body {
        let record = |record: &Record| {
            let Record { slot, ballot, ref value } = *record;
            Record { slot, ballot, value: value.encoded() }
        };
        let chunk = |chunk: &StateChunk| (chunk.slot, chunk.offset, chunk.bytes.clone());
        let checkpoint = |checkpoint: &Checkpoint| {
            (checkpoint.at, checkpoint.sessions.clone(), checkpoint.state)
        };
        Body {
            promised: batch.promised,
            chosen: batch.chosen,
            records: batch.records.iter().map(record).collect(),
            state: batch.state.iter().map(chunk).collect(),
            checkpoint: batch.checkpoint.as_ref().map(checkpoint),
            floor: batch.floor,
            peers: batch.peers.clone(),
            memberships: batch.memberships.clone(),
        }
    }

    fn batch(self) -> Option<WriteBatch> {
        let record = |Record { slot, ballot, value }: Record<Bytes>| {
            Some(Record { slot, ballot, value: Value::decode(value).ok()? })
        };
        Some(WriteBatch {
            promised: self.promised,
            chosen: self.chosen,
            records: self.records.into_iter().map(record).collect::<Option<_>>()?,
            state: self
                .state
                .into_iter()
                .map(|(slot, offset, bytes)| StateChunk { slot, offset, bytes })
                .collect(),
            checkpoint: self.checkpoint.map(|(at, sessions, state)| Checkpoint {
                at,
                sessions,
                state,
            }),
            floor: self.floor,
            peers: self.peers,
            memberships: self.memberships,
        })
    }
}

impl Entry {
    fn encode(&self, position: usize) -> Vec<u8> {
        let body = postcard::to_stdvec(&Body::of(&self.batch)).expect("plain data encodes");
        let length = u32::try_from(body.len()).expect("a batch is below 4 GiB");
        let mut bytes = vec![0; CHECKSUM_BYTES];
        bytes.extend(length.to_le_bytes());
        bytes.extend(self.incarnation.to_le_bytes());
        bytes.extend(body);
        let checksum = checksum(position, &bytes[CHECKSUM_BYTES..]);
        bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The entry at `position`, where these bytes begin, and its length; `None` if there is none
    /// that checks out.
    fn decode(position: usize, bytes: &[u8]) -> Option<(Entry, usize)> {
        let (header, _) = bytes.split_at_checked(HEADER_BYTES)?;
        let number = |range: Range<usize>| {
            let mut number = [0; 8];
            number[..range.len()].copy_from_slice(&header[range]);
            u64::from_le_bytes(number)
        };
        let body_bytes = usize::try_from(number(8..12)).ok()?;
        let bytes = bytes.get(..HEADER_BYTES + body_bytes)?;
        if number(0..8) != checksum(position, &bytes[CHECKSUM_BYTES..]) {
            return None;
        }
        let body: Body = postcard::from_bytes(&bytes[HEADER_BYTES..]).ok()?;
        let entry = Entry { incarnation: number(12..20), batch: body.batch()? };
        Some((entry, bytes.len()))
    }
}

fn checksum(position: usize, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, position as u64)
}

/// The entries that a recovery finds, up to the first that does not check out.
fn replay(medium: &Medium) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut position = 0;
    while let Some((entry, length)) = Entry::decode(position, medium.read_from(position)) {
        if entries.last().is_some_and(|before| before.incarnation > entry.incarnation) {
            break;
        }
        entries.push(entry);
        position += length;
    }
    entries
}

/// What the power has left of the batches that were not synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sim) struct Loss {
    /// How many of them are there: the first ones.
    pub(in crate::sim) survivors: usize,
    /// A sector is missing in front of one that is there.
    pub(in crate::sim) has_gap: bool,
    /// Part of a batch is there.
    pub(in crate::sim) is_torn: bool,
    /// A whole batch is there behind one that is not, and so is lost too.
    pub(in crate::sim) is_cut_off: bool,
}

/// The journal of one disk.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// What is durable, since the journal began.
    durable: Vec<Entry>,
    /// The medium as the last crash has left it, leftovers included.
    medium: Medium,
}

impl Journal {
    /// A new life begins.
    pub(super) fn begin(&mut self, incarnation: u64) {
        self.append(incarnation, WriteBatch::default());
    }

    /// A batch is durable.
    pub(super) fn append(&mut self, incarnation: u64, batch: WriteBatch) {
        if self.durable.len() == ENTRIES_MAX {
            *self = Journal::default();
        }
        self.durable.push(Entry { incarnation, batch });
    }

    /// The power fails while these batches are written and not synced. `keep` is asked how each of
    /// so many writes of sectors ends: on the medium or not.
    ///
    /// # Panics
    ///
    /// If a recovery does not find what was durable and behind it all batches up to the first that
    /// is not there as a whole.
    pub(super) fn lose_power<'a>(
        &mut self,
        incarnation: u64,
        unsynced: impl Iterator<Item = &'a WriteBatch>,
        keep: impl FnOnce(usize) -> Vec<bool>,
    ) -> Loss {
        let entries = unsynced.map(|batch| Entry { incarnation, batch: batch.clone() });
        let written = self.lay_out(entries);
        let writes = written.iter().map(|entry| Medium::sectors(&entry.positions).len()).sum();
        let kept = keep(writes);
        let mut cache = self.medium.clone();
        let mut ends = kept.iter();
        for Written { positions, bytes, .. } in &written {
            cache.write(positions.start, bytes);
            for sector in Medium::sectors(positions) {
                if ends.next() == Some(&true) {
                    self.medium.copy_sector(&cache, sector);
                }
            }
        }
        let found = replay(&self.medium);
        let there: Vec<_> = written.iter().map(|entry| entry.on(&self.medium)).collect();
        let survivors = there.iter().take_while(|presence| presence.is_whole()).count();
        let expected = self.durable.iter().chain(written.iter().map(|written| &written.entry));
        assert!(
            found.iter().eq(expected.take(self.durable.len() + survivors)),
            "a recovery finds other batches than the {} that are durable and {survivors} behind \
             them, in all {}",
            self.durable.len(),
            found.len()
        );
        Loss {
            survivors,
            has_gap: kept.windows(2).any(|pair| pair == [false, true]),
            is_torn: there.iter().any(|presence| presence.there > 0 && !presence.is_whole()),
            is_cut_off: there[survivors..].iter().any(Presence::is_whole),
        }
    }

    /// Puts what is durable on the medium, and says where these entries come behind it.
    fn lay_out(&mut self, unsynced: impl Iterator<Item = Entry>) -> Vec<Written> {
        let mut end = 0;
        for entry in &self.durable {
            let bytes = entry.encode(end);
            self.medium.write(end, &bytes);
            end += bytes.len();
        }
        let place = |entry: Entry| {
            let bytes = entry.encode(end);
            let positions = end..end + bytes.len();
            end = positions.end;
            Written { positions, bytes, entry }
        };
        unsynced.map(place).collect()
    }
}

/// An entry that is written and not synced.
#[derive(Debug)]
struct Written {
    positions: Range<usize>,
    bytes: Vec<u8>,
    entry: Entry,
}

impl Written {
    /// How much of it is on the medium.
    fn on(&self, medium: &Medium) -> Presence {
        let Written { positions, bytes, .. } = self;
        let sectors = Medium::sectors(positions);
        let is_there = |sector: &usize| {
            let start = positions.start.max(sector * SECTOR_BYTES);
            let end = positions.end.min((sector + 1) * SECTOR_BYTES);
            let part = &bytes[start - positions.start..end - positions.start];
            medium.read_from(start).starts_with(part)
        };
        Presence { there: sectors.clone().filter(is_there).count(), sectors: sectors.len() }
    }
}

/// How much of an entry is on the medium, in sectors.
#[derive(Clone, Copy, Debug)]
struct Presence {
    there: usize,
    sectors: usize,
}

impl Presence {
    fn is_whole(&self) -> bool {
        self.there == self.sectors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of about so many bytes.
    fn batch(slot: u64, bytes: usize) -> WriteBatch {
        let table = Bytes::from(vec![u8::try_from(slot).expect("few"); bytes]);
        let at = Watermark { slot: Slot(slot), hash: 0 };
        let checkpoint = Some(Checkpoint { at, sessions: table, state: None });
        let ballot = Ballot { round: slot, node: NodeId(1) };
        let records = vec![Record { slot: Slot(slot), ballot, value: Value::Noop }];
        WriteBatch { records, checkpoint, ..WriteBatch::default() }
    }

    /// Bits of `subset` as so many ends of writes.
    fn ends(subset: u32, writes: usize) -> Vec<bool> {
        (0..writes).map(|write| subset >> write & 1 == 1).collect()
    }

    /// The loss asserts what a recovery finds, after every subset of sectors and then another.
    #[test]
    fn whichever_sectors_a_crash_keeps_a_prefix_of_whole_batches_is_there() {
        let unsynced = [batch(2, 295), batch(3, 895), batch(4, 5)];
        let mut losses = Vec::new();
        for subset in 0..1 << 5 {
            let mut journal = Journal::default();
            journal.append(1, batch(1, 695));
            let loss = journal.lose_power(1, unsynced.iter(), |writes| {
                assert_eq!(writes, 5);
                ends(subset, writes)
            });
            for survivor in &unsynced[..loss.survivors] {
                journal.append(1, survivor.clone());
            }
            losses.push(loss);
            // The next life writes something else over what was lost, or the same again.
            for next in [batch(2, 285), batch(2, 295), batch(3, 895)] {
                for subset in 0..8 {
                    let (durable, medium) = (journal.durable.clone(), journal.medium.clone());
                    let mut journal = Journal { durable, medium };
                    journal.begin(2);
                    let next = [next.clone()];
                    let again = journal.lose_power(2, next.iter(), |writes| ends(subset, writes));
                    assert!(again.survivors <= 1);
                }
            }
        }
        let survivors: Vec<_> = (0..=3)
            .map(|count| losses.iter().filter(|loss| loss.survivors == count).count())
            .collect();
        assert!(survivors.iter().all(|&count| count > 0), "{survivors:?}");
        assert!(losses.iter().any(|loss| loss.has_gap && loss.is_torn && loss.is_cut_off));
    }

    #[test]
    fn an_entry_with_a_flipped_bit_ends_the_journal() {
        let entries = [1, 2].map(|slot| Entry { incarnation: slot, batch: batch(slot, 40) });
        let mut medium = Medium::default();
        let first = entries[0].encode(0);
        let second = entries[1].encode(first.len());
        medium.write(0, &first);
        medium.write(first.len(), &second);
        assert_eq!(replay(&medium), entries);
        for bit in 0..8 * (first.len() + second.len()) {
            let mut bytes = [&first[..], &second].concat();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut medium = Medium::default();
            medium.write(0, &bytes);
            let intact = usize::from(bit >= 8 * first.len());
            assert_eq!(replay(&medium), entries[..intact], "bit {bit}");
        }
    }

    #[test]
    fn what_an_earlier_life_has_left_is_not_taken_up_again() {
        let mut medium = Medium::default();
        let [old, new] = [1, 2].map(|incarnation| Entry { incarnation, batch: batch(9, 40) });
        let bytes = new.encode(0);
        medium.write(0, &bytes);
        medium.write(bytes.len(), &old.encode(bytes.len()));
        assert_eq!(replay(&medium), [new]);
    }

    #[test]
    #[should_panic(expected = "a recovery finds other batches")]
    fn a_durable_batch_that_is_gone_is_noticed() {
        let mut journal = Journal::default();
        journal.append(2, batch(1, 40));
        // As if it had been written before the one in front of it.
        journal.append(1, batch(2, 40));
        journal.lose_power(2, std::iter::empty(), |_| Vec::new());
    }
}
