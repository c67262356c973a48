//! The session of one client.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::super::{
    effect::{Refusal, Verdict},
    ranges::Ranges,
};
use crate::{
    limits,
    types::{Run, Slot},
};

/// What the encoding of a session has besides its ranges, at most: name, epoch, lowest unsettled request,
/// slot of its last use and beginning of the first range of up to ten bytes each, and how many ranges.
const OVERHEAD_BYTES: usize = 64;

/// A gap and a length, of numbers within a window: each of them up to three bytes.
const RANGE_BYTES: usize = 6;

/// Mostly one byte does. Of numbers that add up to no more than a window, so many take another one.
const LONG_NUMBERS_MAX: usize =
    (limits::SESSION_WINDOW / 128 + limits::SESSION_WINDOW / 16_384) as usize;

/// A session takes up so much at most, with every second request of the window open.
pub(super) const BYTES_MAX: usize = bytes((limits::SESSION_WINDOW / 2) as usize);

/// What the encoding of a session with so many ranges takes up at most.
pub(super) const fn bytes(ranges: usize) -> usize {
    let (short, long) = (RANGE_BYTES * ranges, 2 * ranges + LONG_NUMBERS_MAX);
    OVERHEAD_BYTES + if short < long { short } else { long }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) epoch: u64,
    /// Every request below is settled.
    pub(super) open_from: u64,
    /// Requests that have had their effect, at or above `open_from` and below the end of the window.
    pub(super) done: Ranges,
    pub(super) last_used: Slot,
}

impl Session {
    pub(super) fn new(epoch: u64) -> Session {
        Session { epoch, open_from: 1, done: Ranges::default(), last_used: Slot::ZERO }
    }

    /// How many ranges it has.
    pub(super) fn ranges(&self) -> usize {
        self.done.len()
    }

    /// What it takes up, encoded, at most.
    pub(super) fn bytes(&self) -> usize {
        bytes(self.done.len())
    }

    /// Whether a node may have it as of a slot.
    pub(super) fn is_sound(&self, slot: Slot) -> bool {
        let is_remembered =
            |done: Range<u64>| self.open_from <= done.start && done.end <= self.open_end();
        self.last_used <= slot && self.done.span().is_none_or(is_remembered)
    }

    /// The end of the window: what lies behind cannot be remembered.
    fn open_end(&self) -> u64 {
        self.open_from.saturating_add(limits::SESSION_WINDOW)
    }

    /// Whether no request of a run is settled.
    pub(super) fn are_open(&self, sequences: &Range<u64>) -> bool {
        self.open_from <= sequences.start && !self.done.overlaps(sequences)
    }

    /// Why a request gets no slot any more, if it does not.
    pub(super) fn refusal(&self, sequence: u64) -> Option<Refusal> {
        if sequence < self.open_from {
            return Some(Refusal::Expired);
        }
        self.done.contains(sequence).then_some(Refusal::AlreadyApplied)
    }

    /// The client wants no more of requests below `open_from`.
    fn settle_below(&mut self, open_from: u64) {
        if open_from > self.open_from {
            self.open_from = open_from;
            self.done.remove_below(open_from);
            self.done.release();
        }
    }

    /// Forgets its lowest ranges but for so many; whatever is below what is left is settled.
    pub(super) fn keep_highest(&mut self, ranges: usize) {
        let lowest = self.done.len().saturating_sub(ranges);
        if let Some(open_from) = self.done.end_of_lowest(lowest) {
            self.settle_below(open_from);
        }
    }

    /// Takes in the requests of a run in `slot`, and calls `verdict` with each piece of them, in
    /// order.
    ///
    /// What is settled or too far ahead to be remembered lies before or behind the rest.
    pub(super) fn take_in(&mut self, slot: Slot, run: &Run, mut verdict: impl FnMut(u64, Verdict)) {
        assert!(self.last_used <= slot, "a session is not used ahead of its slot");
        self.last_used = slot;
        self.settle_below(run.open_from);
        let (first, end) = (run.first, run.end());
        let open_from = self.open_from.clamp(first, end);
        let open_end = self.open_end().clamp(open_from, end);
        if (open_from, open_end) == (first, end) && !self.done.overlaps(&(first..end)) {
            // Mostly all of them are new.
            verdict(end - first, Verdict::Fresh);
            self.done.insert(first..end);
            return;
        }
        verdict(open_from - first, Verdict::Expired);
        for (piece, is_done) in self.done.pieces(open_from..open_end) {
            let is_done = if is_done { Verdict::Duplicate } else { Verdict::Fresh };
            verdict(piece.end - piece.start, is_done);
        }
        verdict(end - open_end, Verdict::Expired);
        self.done.insert(open_from..open_end);
    }
}
