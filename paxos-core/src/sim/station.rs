//! A host in its place: its clock, what has come in and is not taken in yet, and what is wrong
//! with it at the moment.

use std::{collections::BTreeMap, time::Duration};

use super::{
    host::{Host, Input},
    mishap::{CrashPoint, FailingOperation},
};
use crate::{
    message::Message,
    replica::Role,
    types::{Instant, NodeId, Slot, StoreId},
};

/// Messages that wait for a process before more are dropped, as a transport would.
const INBOX_INPUTS_MAX: usize = 4096;

/// How far a clock may be from its speed for elections to work: the least time of which a follower
/// hears nothing before it polls is an election timeout, in which a leader sends several heartbeats.
pub(super) const DRIFT_MAX: f64 = 0.05;

/// A clock that may run fast or slow. It starts from zero with its process and never goes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// What it showed at `origin`.
    shown: Duration,
    origin: Duration,
    /// Local time per time of the simulation.
    rate: f64,
}

impl Clock {
    fn read(self, now: Duration) -> Instant {
        Instant::from_origin(self.shown + now.saturating_sub(self.origin).mul_f64(self.rate))
    }

    /// When the clock shows `instant`, or a moment later.
    fn when(self, instant: Instant) -> Duration {
        let elapsed = instant.since_origin().saturating_sub(self.shown).div_f64(self.rate);
        let mut at = self.origin + elapsed;
        while self.read(at) < instant {
            at += Duration::from_nanos(1);
        }
        at
    }
}

/// Whether a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It has not been started yet.
    ToCome,
    /// It is, in whatever state.
    Here,
    /// It has been removed, knows it, and has ended.
    Gone,
}

/// A simulated machine and its circumstances.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) host: Host,
    pub(super) presence: Presence,
    /// Decides how long what the machine does takes.
    pub(super) rng: fastrand::Rng,
    clock: Clock,
    inbox: Vec<Input>,
    /// When the process next looks into its inbox.
    pub(super) wake_at: Option<Duration>,
    /// When the next tick is due.
    pub(super) tick_at: Option<Duration>,
    /// Ticks in a row at one moment, to notice a replica that asks for them without end.
    pub(super) ticks_in_a_row: (Duration, u32),
    /// The process stands still until then.
    pub(super) paused_until: Duration,
    /// The whole machine is suspended, its clock included, since then.
    frozen_since: Option<Duration>,
    /// The highest watermark that it has had in any life.
    pub(super) chosen_max: Slot,
    /// Where the process is about to crash.
    pub(super) crash_point: Option<CrashPoint>,
    /// The process is about to crash in the midst of its next write, as these random numbers decide.
    pub(super) crash_in_write: Option<fastrand::Rng>,
    /// Writes take this much longer.
    pub(super) disk_slowness: u32,
    pub(super) disk_is_full: bool,
    /// Until then the disk does nothing that it is asked for.
    pub(super) disk_hangs_until: Duration,
    /// Until then the state machine does nothing that it is asked for.
    pub(super) machine_sticks_until: Duration,
    /// Which write is about to fail.
    pub(super) failing_write: Option<FailingOperation>,
    /// Which read of the log is about to fail; of a node that is down, its start.
    pub(super) failing_read: Option<FailingOperation>,
    /// The node is never started again: what its disk held is damaged.
    pub(super) is_lost: bool,
    /// The node has an empty disk in place of the one that it began with.
    pub(super) has_lost_disk: bool,
    /// The peers' disks, as far as they are known.
    pub(super) roster: BTreeMap<NodeId, StoreId>,
    /// Clients go elsewhere until then.
    pub(super) shunned_until: Duration,
    /// Whether the replica has been told that the disk is full.
    pub(super) full_is_told: bool,
    /// Whether the state machine is at work.
    pub(super) is_working: bool,
    /// The role after the last step.
    pub(super) role: Role,
}

impl Station {
    pub(super) fn new(host: Host, presence: Presence, rng: fastrand::Rng) -> Station {
        Station {
            host,
            presence,
            rng,
            clock: Clock { shown: Duration::ZERO, origin: Duration::ZERO, rate: 1.0 },
            inbox: Vec::new(),
            wake_at: None,
            tick_at: None,
            ticks_in_a_row: (Duration::ZERO, 0),
            paused_until: Duration::ZERO,
            frozen_since: None,
            chosen_max: Slot::ZERO,
            crash_point: None,
            crash_in_write: None,
            disk_slowness: 1,
            disk_is_full: false,
            disk_hangs_until: Duration::ZERO,
            machine_sticks_until: Duration::ZERO,
            failing_write: None,
            failing_read: None,
            is_lost: false,
            has_lost_disk: false,
            roster: BTreeMap::new(),
            shunned_until: Duration::ZERO,
            full_is_told: false,
            is_working: false,
            role: Role::Follower,
        }
    }

    /// Whether the node can be started.
    pub(super) fn may_start(&self) -> bool {
        self.presence == Presence::Here && !self.is_lost
    }

    /// Sets everything volatile back; the clock starts from zero.
    pub(super) fn reset(&mut self, now: Duration, rate: f64) {
        self.clock = Clock { shown: Duration::ZERO, origin: now, rate };
        self.inbox.clear();
        self.wake_at = None;
        self.tick_at = None;
        self.ticks_in_a_row = (now, 0);
        self.paused_until = now;
        self.frozen_since = None;
        self.crash_point = None;
        self.crash_in_write = None;
        self.machine_sticks_until = now;
        self.failing_write = None;
        self.failing_read = None;
        self.full_is_told = false;
        self.is_working = false;
        self.roster = self.host.disk.durable().peers.clone();
        self.role = Role::Follower;
    }

    /// What the machine's clock shows.
    pub(super) fn local(&self, now: Duration) -> Instant {
        self.clock.read(self.frozen_since.map_or(now, |since| since.min(now)))
    }

    /// From now on the clock runs at this rate.
    pub(super) fn set_clock_rate(&mut self, now: Duration, rate: f64) {
        let origin = self.frozen_since.unwrap_or(now);
        self.clock = Clock { shown: self.clock.read(origin).since_origin(), origin, rate };
    }

    /// Whether the clock is further from its speed than an election allows for.
    pub(super) fn has_clock_beyond_bound(&self) -> bool {
        !(1.0 - DRIFT_MAX..=1.0 + DRIFT_MAX).contains(&self.clock.rate)
    }

    /// The clock jumps forwards.
    pub(super) fn jump(&mut self, by: Duration) {
        self.clock.shown += by;
    }

    /// When the next deadline of the replica falls.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.host.next_deadline().map(|deadline| self.clock.when(deadline))
    }

    /// The process stands still until then; its clock too, if the whole machine is suspended.
    pub(super) fn pause(&mut self, now: Duration, until: Duration, is_suspended: bool) {
        self.resume(now);
        self.paused_until = until;
        self.frozen_since = is_suspended.then_some(now);
    }

    /// Goes on at once, if it stands still.
    pub(super) fn resume(&mut self, now: Duration) {
        self.paused_until = self.paused_until.min(now);
        if let Some(since) = self.frozen_since.take() {
            self.clock.origin += self.paused_until.saturating_sub(since);
        }
    }

    /// Whether the process stands still; goes on if its time has come.
    pub(super) fn is_paused(&mut self, now: Duration) -> bool {
        let is_paused = now < self.paused_until;
        if !is_paused {
            self.resume(now);
        }
        is_paused
    }

    /// Puts a message into the inbox; a full one loses it.
    pub(super) fn receive(&mut self, from: NodeId, message: Message) -> bool {
        let has_room = self.inbox.len() < INBOX_INPUTS_MAX;
        if has_room {
            self.inbox.push(Input::Message { from, message });
        }
        has_room
    }

    /// Puts anything else into the inbox.
    pub(super) fn push(&mut self, input: Input) {
        self.inbox.push(input);
    }

    /// Empties the inbox.
    pub(super) fn take_inbox(&mut self) -> Vec<Input> {
        std::mem::take(&mut self.inbox)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_never_goes_back_and_finds_its_deadlines() {
        let mut clock = Clock { shown: Duration::ZERO, origin: Duration::from_secs(3), rate: 1.0 };
        for (at, rate, jump) in [(4, 0.5, 0), (7, 2.0, 5), (9, 1.05, 1)] {
            let now = Duration::from_secs(at);
            let before = clock.read(now);
            let shown = before.since_origin() + Duration::from_secs(jump);
            clock = Clock { shown, origin: now, rate };
            assert_eq!(clock.read(now).since_origin(), shown);
            let deadline = clock.read(now).after(Duration::from_millis(777));
            let due = clock.when(deadline);
            assert!(clock.read(due) >= deadline);
            assert!(clock.read(due - Duration::from_nanos(3)) < deadline);
        }
        let now = Duration::from_secs(10);
        assert_eq!(clock.when(Instant::ZERO), Duration::from_secs(9), "long past at {now:?}");
    }
}
