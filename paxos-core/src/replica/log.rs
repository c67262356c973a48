//! The part of the log that is held in memory.
//!
//! Every record above the chosen watermark is here, and as many below as the cache allows; the
//! rest is on disk only and has to be asked for.

use super::{WriteId, slots::Slots};
use crate::{
    limits,
    message::Record,
    planted::planted,
    types::{Ballot, Slot, Value},
};

/// What a record in memory occupies besides its value, so that noops are bounded too.
const RECORD_OVERHEAD_BYTES: usize = 64;

#[derive(Clone, Debug)]
struct InMemory {
    ballot: Ballot,
    value: Value,
    /// The write that carries it: before it is durable, the storage cannot be asked for it.
    write: WriteId,
}

impl InMemory {
    /// What it occupies in memory.
    fn bytes(&self) -> usize {
        RECORD_OVERHEAD_BYTES + self.value.memory_len()
    }
}

/// The log in memory.
///
/// It has no holes up to the chosen watermark, and above that reaches no further than an acceptor
/// may run ahead of it.
#[derive(Clone, Debug)]
pub(super) struct Log {
    entries: Slots<InMemory>,
    bytes: usize,
    /// What lies at or below is on disk only.
    on_disk: Slot,
    /// Every slot up to here has been compacted away.
    floor: Slot,
    highest: Slot,
}

/// A record that the storage cannot have been given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the log has a record of slot {slot} where slots up to {chosen} are chosen, which no node \
     writes: replace this node, or restore its disk"
)]
pub struct LogError {
    /// The slot of the record.
    pub slot: Slot,
    /// The chosen watermark beside it.
    pub chosen: Slot,
}

impl Log {
    /// The log as the storage recovered it: `records` above the watermark in memory, the rest on
    /// disk.
    pub(super) fn recovered(
        watermark: Slot,
        floor: Slot,
        records: Vec<Record>,
    ) -> Result<Log, LogError> {
        let mut log = Log {
            entries: Slots::default(),
            bytes: 0,
            on_disk: watermark,
            floor,
            highest: watermark,
        };
        for Record { slot, ballot, value } in records {
            if slot <= watermark || slot.0 - watermark.0 > limits::LOG_AHEAD_SLOTS_MAX {
                return Err(LogError { slot, chosen: watermark });
            }
            log.insert(slot, ballot, value, WriteId(0));
        }
        Ok(log)
    }

    #[inline]
    pub(super) fn insert(&mut self, slot: Slot, ballot: Ballot, value: Value, write: WriteId) {
        assert!(slot > self.on_disk, "slot {slot} is chosen and on disk: it cannot change");
        assert!(
            slot.0.saturating_sub(self.highest.0) <= limits::LOG_AHEAD_SLOTS_MAX,
            "slot {slot} is too far above {}, the highest so far",
            self.highest
        );
        let entry = InMemory { ballot, value, write };
        self.bytes += entry.bytes();
        if let Some(replaced) = self.entries.insert(slot, entry) {
            self.bytes -= replaced.bytes();
        }
        self.highest = self.highest.max(slot);
    }

    /// Ballot and value of a record in memory.
    #[inline]
    pub(super) fn get(&self, slot: Slot) -> Option<(Ballot, &Value)> {
        self.entries.get(slot).map(|entry| (entry.ballot, &entry.value))
    }

    /// The records in memory from `from` on, in order.
    pub(super) fn from(&self, from: Slot) -> impl Iterator<Item = Record> + '_ {
        self.entries.from(from).map(|(slot, entry)| Record {
            slot,
            ballot: entry.ballot,
            value: entry.value.clone(),
        })
    }

    /// Ballots of the records in memory from `from` on, in order.
    pub(super) fn ballots_from(&self, from: Slot) -> impl Iterator<Item = (Slot, Ballot)> + '_ {
        self.entries.from(from).map(|(slot, entry)| (slot, entry.ballot))
    }

    pub(super) fn highest(&self) -> Slot {
        self.highest
    }

    pub(super) fn floor(&self) -> Slot {
        self.floor
    }

    /// The last slot that has to be read from disk.
    pub(super) fn on_disk(&self) -> Slot {
        self.on_disk
    }

    /// Forgets every record up to `floor`, which is chosen and in a checkpoint.
    pub(super) fn compact(&mut self, floor: Slot) {
        assert!(floor >= self.floor, "the floor never sinks: {floor}, and was {}", self.floor);
        self.floor = floor;
        while let Some(slot) = self.entries.first().filter(|slot| *slot <= floor) {
            let entry = self.entries.remove(slot).expect("it is the first");
            self.bytes -= entry.bytes();
        }
        self.on_disk = self.on_disk.max(floor);
        self.highest = self.highest.max(floor);
    }

    /// Drops the oldest values that are chosen and durable until the cache fits its limit.
    #[inline]
    pub(super) fn evict(&mut self, chosen: Slot, persisted: WriteId, bytes_max: usize) {
        assert!(self.on_disk <= chosen, "only what is chosen leaves memory");
        assert!(self.highest >= chosen, "what is chosen has been recorded");
        while self.bytes > bytes_max {
            let slot = self.on_disk.next();
            let may_go = |entry: &InMemory| entry.write <= persisted || planted!(EvictedBeforeSync);
            if slot > chosen || !self.entries.get(slot).is_some_and(may_go) {
                return;
            }
            let entry = self.entries.remove(slot).expect("looked at it just now");
            self.bytes -= entry.bytes();
            self.on_disk = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a noop.
    const SIZE: usize = RECORD_OVERHEAD_BYTES;

    /// Slots 1 to 4, a noop each, each written by the write of its number.
    fn log() -> Log {
        let mut log = Log::recovered(Slot::ZERO, Slot::ZERO, Vec::new()).expect("empty");
        for number in 1..=4 {
            log.insert(Slot(number), Ballot::CHOSEN, Value::Noop, WriteId(number));
        }
        log
    }

    #[test]
    fn only_what_is_chosen_and_durable_leaves_memory_and_no_more_than_must() {
        for (chosen, persisted, bytes_max, left) in [
            (4, 4, 4, 0),
            (4, 4, 2, 2),
            (4, 4, 0, 4),
            (1, 4, 0, 1),
            (2, 4, 0, 2),
            (4, 1, 0, 1),
            (4, 3, 0, 3),
            (0, 4, 0, 0),
            (4, 0, 0, 0),
        ] {
            let mut log = log();
            log.evict(Slot(chosen), WriteId(persisted), bytes_max * SIZE);
            assert_eq!(log.on_disk(), Slot(left), "{chosen} chosen, {persisted} durable");
            assert_eq!(log.ballots_from(Slot::ZERO).count() as u64, 4 - left);
        }
    }

    #[test]
    fn what_is_compacted_takes_no_memory_and_what_is_above_stays() {
        for floor in 0..=6 {
            let mut log = log();
            log.evict(Slot(4), WriteId(4), 3 * SIZE);
            log.compact(Slot(floor));
            let left: Vec<_> = log.ballots_from(Slot::ZERO).map(|(slot, _)| slot.0).collect();
            assert_eq!(left, (floor.max(1) + 1..=4).collect::<Vec<_>>());
            assert_eq!((log.floor(), log.bytes), (Slot(floor), left.len() * SIZE));
            assert_eq!((log.on_disk().0, log.highest().0), (floor.max(1), floor.max(4)));
        }
    }

    #[test]
    fn a_record_that_is_replaced_takes_no_memory() {
        for (bytes_max, left) in [(4, 0), (3, 1)] {
            let mut log = log();
            for _ in 0..3 {
                log.insert(Slot(2), Ballot::CHOSEN, Value::Noop, WriteId(4));
            }
            log.evict(Slot(4), WriteId(4), bytes_max * SIZE);
            assert_eq!(log.on_disk(), Slot(left));
        }
    }

    /// A damaged disk costs no memory.
    #[test]
    fn a_record_that_no_node_writes_is_refused() {
        let recovered = |slot| {
            let record = Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value: Value::Noop };
            Log::recovered(Slot(5), Slot::ZERO, vec![record]).map(|log| log.highest().0)
        };
        let refused = |slot| Err(LogError { slot: Slot(slot), chosen: Slot(5) });
        let last = 5 + limits::LOG_AHEAD_SLOTS_MAX;
        assert_eq!(recovered(5), refused(5));
        assert_eq!(recovered(6), Ok(6));
        assert_eq!(recovered(last), Ok(last));
        assert_eq!(recovered(last + 1), refused(last + 1));
        assert_eq!(recovered(u64::MAX), refused(u64::MAX));
    }
}
