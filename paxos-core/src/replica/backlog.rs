//! How much is on its way to the disk, and when that is too much.
//!
//! A disk slower than what comes in would have it pile up without end. So above the limit the disk is
//! *behind*: the node refuses proposals, passes over messages that bring something to write, proposes
//! and pulls nothing, until half of the limit is left. By then there is work for the disk yet, and
//! what comes next is not refused at once.
//!
//! By what it proposes alone a leader does not get there as long as its vote is needed: with the usual
//! settings less may be undecided than may wait for a disk. One whose disk is behind is slower than a
//! quorum of the others, and whoever leads next is not, so they do not take turns.

use std::{collections::VecDeque, time::Duration};

use super::WriteId;
use crate::{planted::planted, types::Instant};

/// What a record or a session table takes beyond its bytes.
const OVERHEAD_BYTES: usize = 64;

/// Bytes of what is not durable yet.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    bytes_max: usize,
    bytes: usize,
    /// Of each write, in order.
    writes: VecDeque<(WriteId, usize)>,
    /// There was too much, and more than half of the limit is left.
    is_behind: bool,
    /// The end of the step in which that began.
    behind_since: Option<Instant>,
    /// Of what this step admitted last; `None` before it has.
    admitted: Option<usize>,
    /// The most that has come of one admission.
    admitted_max: usize,
}

impl Backlog {
    pub(super) fn new(bytes_max: usize) -> Backlog {
        Backlog {
            bytes_max,
            bytes: 0,
            writes: VecDeque::new(),
            is_behind: false,
            behind_since: None,
            admitted: None,
            admitted_max: 0,
        }
    }

    /// Whether nothing more may be taken in.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind && !planted!(BacklogUnbounded)
    }

    /// Since when, counted from the end of a step.
    pub(super) fn behind_for(&self, now: Instant) -> Duration {
        self.behind_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Whether one more message or value may be taken in. What is added before the next one is asked
    /// for came with this one.
    pub(super) fn admit(&mut self) -> bool {
        self.admitted = Some(0);
        !self.is_behind()
    }

    /// The write `id`, the last one so far, carries a value or a session table of `len` bytes.
    pub(super) fn add(&mut self, id: WriteId, len: usize) {
        let bytes = len + OVERHEAD_BYTES;
        match self.writes.back_mut() {
            Some((last, of_last)) if *last == id => *of_last += bytes,
            last => {
                assert!(last.is_none_or(|(last, _)| *last < id), "writes are issued in order");
                self.writes.push_back((id, bytes));
            }
        }
        self.bytes += bytes;
        let admitted = self.admitted.as_mut().expect("what is written was admitted in this step");
        *admitted += bytes;
        self.admitted_max = self.admitted_max.max(*admitted);
        self.is_behind |= self.bytes > self.bytes_max;
    }

    /// Every write up to `id` is durable; says whether the disk has caught up by that.
    pub(super) fn on_persisted(&mut self, id: WriteId) -> bool {
        while let Some((_, bytes)) = self.writes.pop_front_if(|(write, _)| *write <= id) {
            self.bytes -= bytes;
        }
        assert_eq!(self.writes.is_empty(), self.bytes == 0, "each write has its bytes");
        let has_caught_up = self.is_behind && self.bytes <= self.bytes_max / 2;
        if has_caught_up {
            self.is_behind = false;
            self.behind_since = None;
        }
        has_caught_up
    }

    /// A step is at its end.
    pub(super) fn end_step(&mut self, now: Instant) {
        self.admitted = None;
        if self.is_behind && self.behind_since.is_none() {
            self.behind_since = Some(now);
        }
    }

    /// A step has halted: the write in the making, after `issued`, is never issued.
    pub(super) fn forget_after(&mut self, issued: WriteId) {
        while let Some((_, bytes)) = self.writes.pop_back_if(|(write, _)| *write > issued) {
            self.bytes -= bytes;
        }
    }

    /// How much waits, and how much may: the limit and what came on top of it.
    pub(super) fn bound(&self) -> (usize, usize) {
        (self.bytes, self.bytes_max.saturating_add(self.admitted_max))
    }
}
