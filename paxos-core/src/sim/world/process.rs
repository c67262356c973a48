//! The process of a node: it starts, looks into its inbox and at its clock, makes steps, lets its
//! state machine work, and crashes.

use super::{Checked, World, id_of};
use crate::sim::{
    agenda::Happening,
    check::{Check, ensure},
    fault::Fault,
    host::Input,
    mishap::sectors_kept,
    network::{self, Parcel},
    occurrence::Occurrence,
    station::DRIFT_MAX,
    transcript,
};

/// Ticks in a row at one moment.
const TICKS_MAX: u32 = 50;

/// The check that fails here.
const CHECK: Check = Check::Conduct;

impl World<'_> {
    /// Starts a node from what its disk holds.
    pub(super) fn start(&mut self, node: usize) -> Checked {
        let station = &mut self.stations[node];
        let mut rate = 1.0 + DRIFT_MAX * (2.0 * station.rng.f64() - 1.0);
        if self.plan.has(Fault::Drift) {
            self.seen.add(Occurrence::Drifted);
        } else {
            rate = 1.0;
        }
        station.reset(self.now, rate);
        let started = match station.host.start(station.local(self.now)) {
            Ok(started) => started,
            Err(damage) => return self.is_damaged(node, damage, Occurrence::DamageAtStart),
        };
        if started.machine_is_ahead {
            self.seen.add(Occurrence::MachineAheadOfLog);
        }
        if started.has_unfinished_state {
            self.seen.add(Occurrence::StateUnfinished);
        }
        self.history.started(id_of(node), started.delivered);
        self.trace.note(self.now, [1, node as u64, started.incarnation], || {
            format!("{} starts, incarnation {}", id_of(node), started.incarnation)
        });
        self.plan_tick(node);
        self.dial(node)
    }

    /// Crashes a node: of what its disk was given and has not synced, any sectors may be left.
    pub(super) fn crash(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        if self.stations[node].disk_is_full {
            return self.crash_keeping_nothing(node);
        }
        self.crash_keeping(node, |writes| sectors_kept(writes, rng))
    }

    /// Crashes a node: nothing is left of what its disk was given and has not synced.
    pub(super) fn crash_keeping_nothing(&mut self, node: usize) -> Checked {
        self.crash_keeping(node, |writes| vec![false; writes])
    }

    fn crash_keeping(&mut self, node: usize, keep: impl FnOnce(usize) -> Vec<bool>) -> Checked {
        self.seen.add(Occurrence::Crashed);
        let station = &mut self.stations[node];
        let unfinished = station.host.disk.unfinished().len();
        let loss = station.host.disk.lose_power(keep);
        let survivors = loss.survivors;
        for (occurrence, is_so) in [
            (Occurrence::LostWrites, survivors < unfinished),
            (Occurrence::KeptWrites, survivors > 0),
            (Occurrence::LostSectorsInTheMiddle, loss.has_gap),
            (Occurrence::TornWrite, loss.is_torn),
            (Occurrence::CutOffWrite, loss.is_cut_off),
        ] {
            if is_so {
                self.seen.add(occurrence);
            }
        }
        self.trace.note(self.now, [2, node as u64, survivors as u64], || {
            format!("{} crashes; of {unfinished} writes {survivors} survive", id_of(node))
        });
        let (ledger, seen) = (&mut self.ledger, &mut self.seen);
        station
            .host
            .disk
            .crash(survivors, |before, batch| ledger.written(id_of(node), batch, before, seen))?;
        station.host.crash();
        self.workload.crashed(id_of(node));
        self.report_death(node);
        Ok(())
    }

    /// Hands an input to a process, now or when it next looks.
    pub(super) fn give(&mut self, node: usize, input: Input) -> Checked {
        self.stations[node].push(input);
        self.call(node)
    }

    /// Sees to it that a process looks into its inbox.
    pub(super) fn call(&mut self, node: usize) -> Checked {
        let station = &mut self.stations[node];
        if station.wake_at.is_some() {
            return Ok(());
        }
        if self.plan.gather.is_zero() && !station.is_paused(self.now) {
            return self.wake(node);
        }
        let Some(life) = station.host.incarnation() else { return Ok(()) };
        let gathered = self.now + self.plan.gather.mul_f64(station.rng.f64());
        let at = gathered.max(station.paused_until);
        station.wake_at = Some(at);
        self.agenda.plan(at, Happening::Wake { node, life });
        Ok(())
    }

    /// A process looks into its inbox.
    pub(super) fn wake(&mut self, node: usize) -> Checked {
        let station = &mut self.stations[node];
        station.wake_at = None;
        if station.is_paused(self.now) {
            return self.call(node);
        }
        let inputs = station.take_inbox();
        if inputs.is_empty() { Ok(()) } else { self.step(node, inputs) }
    }

    pub(super) fn plan_tick(&mut self, node: usize) {
        let station = &mut self.stations[node];
        let (Some(deadline), Some(life)) = (station.deadline(), station.host.incarnation()) else {
            return;
        };
        let at = deadline.max(self.now).max(station.paused_until);
        if station.tick_at.is_none_or(|planned| at < planned) {
            station.tick_at = Some(at);
            self.agenda.plan(at, Happening::Tick { node, life });
        }
    }

    /// A deadline of a replica may be due.
    pub(super) fn tick(&mut self, node: usize) -> Checked {
        let station = &mut self.stations[node];
        if station.tick_at.is_none_or(|planned| planned > self.now) {
            return Ok(());
        }
        station.tick_at = None;
        let is_paused = station.is_paused(self.now);
        let is_due = station.deadline().is_some_and(|deadline| deadline <= self.now);
        if !is_due || is_paused {
            self.plan_tick(node);
            return Ok(());
        }
        let (at, count) = &mut station.ticks_in_a_row;
        *count = if *at == self.now { *count + 1 } else { 0 };
        *at = self.now;
        ensure!(*count < TICKS_MAX, "node {} wants ticks without end", id_of(node));
        station.push(Input::Tick);
        station.wake_at = None;
        self.wake(node)
    }

    /// A message arrives.
    pub(super) fn arrive(&mut self, parcel: Parcel) -> Checked {
        let Parcel { from, to, stores, message } = parcel;
        if self.plan.cuts_messages_under_way && !self.network.is_up(self.now, from, to) {
            self.seen.add(Occurrence::Severed);
            return Ok(());
        }
        if !self.is_running(to) || !self.shake_hands(from, to, stores)? {
            return Ok(());
        }
        let is_coded = self.stations[to].rng.u8(..8) == 0;
        let message = if is_coded { network::transcode(&message) } else { message };
        if self.stations[to].receive(id_of(from), message) { self.call(to) } else { Ok(()) }
    }

    fn step(&mut self, node: usize, inputs: Vec<Input>) -> Checked {
        self.trace.note(self.now, [3, node as u64, inputs.len() as u64], || {
            let inputs: Vec<_> = inputs.iter().map(transcript::input).collect();
            format!("{} takes in: {}", id_of(node), inputs.join("; "))
        });
        let station = &mut self.stations[node];
        let effects = station.host.step(station.local(self.now), inputs);
        self.after_step(node, effects)
    }

    pub(super) fn plan_work(&mut self, node: usize) {
        let station = &mut self.stations[node];
        let Some(life) = station.host.incarnation() else { return };
        if !station.is_working && station.host.has_work() {
            station.is_working = true;
            let at = self.now + self.plan.apply_latency(&mut station.rng);
            let at = at.max(station.paused_until).max(station.machine_sticks_until);
            self.agenda.plan(at, Happening::Worked { node, life });
        }
    }

    /// The state machine has done something.
    pub(super) fn worked(&mut self, node: usize) -> Checked {
        let station = &mut self.stations[node];
        station.is_working = false;
        if station.is_paused(self.now) || self.now < station.machine_sticks_until {
            self.plan_work(node);
            return Ok(());
        }
        let rng = &mut station.rng;
        let count_max = if rng.bool() { usize::MAX } else { rng.usize(1..4) };
        let flush = rng.bool();
        let (done, inputs) = self.stations[node].host.work(count_max, flush);
        for done in done {
            self.done(node, done)?;
        }
        if !inputs.is_empty() {
            inputs.into_iter().for_each(|input| self.stations[node].push(input));
            self.call(node)?;
        }
        self.plan_work(node);
        Ok(())
    }
}
