//! Counts the time that leases have.
//!
//! Every member counts, on its own monotonic clock, from when it has carried out the command that granted or renewed a
//! lease; the leader acts on it. That gives:
//!
//! - **Never early.** The command was carried out after the client had sent its request, and the clock of a member
//!   is taken to be up to [`DRIFT`] too fast. Wall clocks are not looked at. An end names the renewal it was counted
//!   from (`ExpireLease`), so a leader that has slept, or was cut off and is one no more, ends nothing that has
//!   been renewed since.
//! - **A new leader goes on counting**, it does not begin again. One that has just started, or taken over a state,
//!   begins with what the leader before it noted (`NoteLeases`), which it does when half of a lease's time is over,
//!   and every five minutes.
//! - **What waited for a leader is renewed first.** Nothing ends within a moment after a member has begun to lead.

mod task;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(crate) use self::task::{Lessor, run};
use crate::store::{
    ExpireLease, RemainingTime,
    lease::{Counted, Lease},
};

/// A clock may be too fast by one part in so many: twice what a clock that is kept right by NTP may differ by.
const DRIFT: u32 = 500;
/// The longest time between two notes of what a lease has left.
const NOTE_INTERVAL_MAX: Duration = Duration::from_secs(300);
/// What a leader has asked for it asks for again after so long, if nothing has come of it.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Ends and notes at a time.
const DUE_MAX: usize = 1000;

/// The time of every lease. Times are on this member's monotonic clock, since any moment.
#[derive(Debug, Default)]
pub(super) struct Counts {
    leases: BTreeMap<i64, Count>,
    /// When something is to be done about which lease.
    agenda: BTreeSet<(Duration, i64)>,
}

#[derive(Debug)]
struct Count {
    renewed: u64,
    ttl: Duration,
    /// When it has nothing left, by this clock.
    ends: Duration,
    /// What it had left as of the last note.
    noted: Duration,
    /// Its place in the agenda.
    next: Duration,
}

impl Count {
    /// When its time is over, even if this clock is too fast.
    fn over(&self) -> Duration {
        self.ends + self.ttl / DRIFT
    }
}

/// What a leader is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) ended: Vec<ExpireLease>,
    pub(super) notes: Vec<RemainingTime>,
}

impl Counts {
    /// Takes in what has become of a lease, as it was carried out here by now.
    pub(super) fn take_in(&mut self, counted: Counted, now: Duration) {
        let Counted { id, lease } = counted;
        let before = self.remove(id);
        let Some(lease) = lease else { return };
        let Lease { renewed, remaining_milliseconds, .. } = lease;
        let ttl = Duration::from_secs(lease.ttl.unsigned_abs());
        let noted = Duration::from_millis(remaining_milliseconds);
        let ends = match before {
            Some(before) if before.renewed == renewed => before.ends.min(now + noted),
            _ => now + noted,
        };
        self.insert(id, Count { renewed, ttl, ends, noted, next: Duration::ZERO });
    }

    /// Forgets all but these.
    pub(super) fn keep_only(&mut self, ids: &BTreeSet<i64>) {
        let gone: Vec<_> = self.leases.keys().filter(|id| !ids.contains(id)).copied().collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// What a lease has left.
    pub(super) fn remaining(&self, id: i64, now: Duration) -> Option<Duration> {
        Some(self.leases.get(&id)?.ends.saturating_sub(now))
    }

    /// When a leader has something to do.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// What is due. Nothing ends before `may_end`.
    pub(super) fn due(&mut self, now: Duration, may_end: Duration) -> Due {
        let mut due = Due::default();
        while due.ended.len() + due.notes.len() < DUE_MAX
            && let Some(&(at, id)) = self.agenda.first()
            && at <= now
        {
            let mut count = self.remove(id).expect("it is on the agenda");
            let renewed = count.renewed;
            if count.ends > now {
                count.noted = count.ends - now;
                let milliseconds = count.noted.as_micros().div_ceil(1000);
                let milliseconds = u64::try_from(milliseconds).expect("less than 300 years");
                due.notes.push(RemainingTime { id, renewed, milliseconds });
                self.insert(id, count);
            } else if count.over() > now {
                let over = count.over();
                self.insert_at(id, count, over);
            } else if may_end > now {
                self.insert_at(id, count, may_end);
            } else {
                due.ended.push(ExpireLease { id, renewed });
                self.insert_at(id, count, now + RETRY_INTERVAL);
            }
        }
        due
    }

    fn insert(&mut self, id: i64, count: Count) {
        let interval = (count.ttl / 2).min(NOTE_INTERVAL_MAX);
        // When it has so much less than was noted.
        let note = (count.ends + interval).saturating_sub(count.noted);
        let next = if note < count.ends { note } else { count.over() };
        self.insert_at(id, count, next);
    }

    fn insert_at(&mut self, id: i64, mut count: Count, next: Duration) {
        count.next = next;
        self.agenda.insert((next, id));
        self.leases.insert(id, count);
    }

    fn remove(&mut self, id: i64) -> Option<Count> {
        let count = self.leases.remove(&id)?;
        self.agenda.remove(&(count.next, id));
        Some(count)
    }
}

#[cfg(test)]
mod tests;
