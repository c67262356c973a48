//! What a node does not take on because of its disk: one that is full, too far behind (see
//! [`backlog`](super::backlog)), or at work without bringing a write to its end.
//!
//! Whatever it cannot make durable it leaves to those who can. It neither tries to lead nor goes on
//! leading, and refuses at once what its own clients propose: they may try elsewhere.

use super::{Refusal, Replica};
use crate::{limits, types::Instant};

impl<W> Replica<W> {
    /// The disk is full, or has room again. A leader whose disk is full could not even vote for what it
    /// proposes.
    pub(super) fn on_disk_full(&mut self, now: Instant, is_full: bool) {
        self.disk_full = is_full;
        if is_full {
            self.step_down(now);
        }
    }

    /// Why this node takes no proposals and pulls nothing, if that is so.
    pub(super) fn refuses_work(&self) -> Option<Refusal> {
        if self.disk_full {
            Some(Refusal::DiskFull)
        } else if self.out.backlog().is_behind() {
            Some(Refusal::Busy)
        } else {
            None
        }
    }

    /// Whether this node can make anything durable, as far as it knows.
    pub(super) fn can_write(&self, now: Instant) -> bool {
        !self.disk_full
            && self.out.disk_silent_for(now) < self.config.disk_patience()
            && self.is_behind_at_most(limits::DISK_BEHIND_TIMEOUTS, now)
    }

    /// Whether its disk's backlog has kept this node from work for less than so many election timeouts.
    pub(super) fn is_behind_at_most(&self, timeouts: u32, now: Instant) -> bool {
        self.out.backlog().behind_for(now) < timeouts * self.config.election_timeout
    }
}
