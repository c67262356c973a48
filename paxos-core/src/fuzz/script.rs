//! Bytes read as choices.

use crate::types::{Ballot, NodeId, Slot};

/// Bytes that decide what happens. What lies behind the end reads as zeros.
pub(crate) struct Script<'a> {
    bytes: &'a [u8],
}

/// Numbers worth trying, because they mean something at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usual {
    pub(crate) ballots: Vec<Ballot>,
    pub(crate) slots: Vec<Slot>,
    /// Numbers of polls and requests, and rounds of heartbeats.
    pub(crate) numbers: Vec<u64>,
    pub(crate) hashes: Vec<u64>,
}

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Script<'a> {
        Script { bytes }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes.split_off_first().copied().unwrap_or_default()
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// One of `0..count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.byte() as usize % count.max(1)
    }

    /// The next bytes, at most `len` of them.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let len = len.min(self.bytes.len());
        self.bytes.split_off(..len).expect("no more than there are")
    }

    /// A number: mostly a usual one or close to one, at times a small or an extreme one, or any.
    pub(crate) fn number(&mut self, usual: &[u64]) -> u64 {
        let choice = self.byte();
        let base = usual.get(self.below(usual.len())).copied().unwrap_or_default();
        match choice % 16 {
            0..=7 => base,
            8 | 9 => base.saturating_add(1),
            10 => base.saturating_sub(1),
            11 => base.saturating_add(u64::from(self.byte())),
            12 | 13 => u64::from(self.byte() % 8),
            14 => [u64::MAX, u64::MAX - 1, u64::MAX - 2, 1 << 63, 1 << 32][self.below(5)],
            _ => (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte())),
        }
    }

    pub(crate) fn slot(&mut self, usual: &Usual) -> Slot {
        let slots: Vec<u64> = usual.slots.iter().map(|slot| slot.0).collect();
        Slot(self.number(&slots))
    }

    /// A ballot, of a usual owner.
    pub(crate) fn ballot(&mut self, usual: &Usual) -> Ballot {
        if !self.byte().is_multiple_of(4) && !usual.ballots.is_empty() {
            return usual.ballots[self.below(usual.ballots.len())];
        }
        let rounds: Vec<u64> = usual.ballots.iter().map(|ballot| ballot.round).collect();
        let round = self.number(&rounds);
        Ballot { round, node: NodeId(self.number(&[1, 2, 3])) }
    }
}

/// Changes, drops or inserts a few bytes.
pub(crate) fn damage(script: &mut Script<'_>, bytes: &mut Vec<u8>) {
    for _ in 0..=script.below(3) {
        let at = script.number(&[0, 4, 5, bytes.len() as u64 / 2]);
        let at = usize::try_from(at).unwrap_or(0) % bytes.len().max(1);
        match script.below(4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << script.below(8),
            1 if at < bytes.len() => bytes[at] = script.byte(),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, script.byte()),
        }
    }
}
