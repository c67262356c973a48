//! The simulated world: virtual time, machines, network, clients and faults, one thing after the
//! other. The seed decides every choice, so a run can be had again.

use std::{sync::Arc, time::Duration};

use super::{
    agenda::{Agenda, Happening},
    application::{Application, Calls},
    check::{Check, Violation, ensure},
    fault::{Fault, Restriction},
    faults::{Strikes, sectors_kept},
    history::History,
    host::{Host, Input},
    ledger::Ledger,
    machine::Machine,
    network::{self, Network, Parcel},
    occurrence::{Occurrence, Occurrences},
    plan::Plan,
    station::{DRIFT_MAX, Station},
    trace::{Sink, Trace},
    transcript,
    workload::{Action, Workload},
};
use crate::{replica::Proposal, types::NodeId};

/// More happenings than any run needs: beyond them something goes round in circles.
const EVENTS_MAX: u64 = 1_000_000;

/// Ticks in a row at one moment.
const TICKS_MAX: u32 = 50;

/// The check that fails here.
const CHECK: Check = Check::Conduct;

/// What a check returns.
pub(super) type Checked = Result<(), Violation>;

/// A cluster and everything around it.
pub(super) struct World<'a> {
    pub(super) plan: Plan,
    pub(super) restriction: Restriction,
    pub(super) strikes: Strikes,
    /// Decides what clients do.
    pub(super) client_rng: fastrand::Rng,
    /// Decides how the run ends.
    pub(super) ending_rng: fastrand::Rng,
    pub(super) now: Duration,
    pub(super) agenda: Agenda,
    pub(super) stations: Vec<Station>,
    pub(super) network: Network,
    pub(super) workload: Workload,
    pub(super) history: History,
    pub(super) calls: Calls,
    pub(super) ledger: Ledger,
    pub(super) seen: Occurrences,
    pub(super) trace: Trace<'a>,
    /// Whether faults still strike.
    pub(super) has_faults: bool,
    /// Whether clients still come of themselves.
    pub(super) has_clients: bool,
}

/// The id of the node at an index.
pub(super) fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

impl<'a> World<'a> {
    /// The world that `seed` decides, within a restriction. Each thing that chance decides has
    /// random numbers of its own, so that leaving out one changes little else.
    pub(super) fn new(
        seed: u64,
        restriction: &Restriction,
        application: Arc<dyn Application>,
        sink: Option<Sink<'a>>,
    ) -> World<'a> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng.fork(), &restriction.without);
        let mut trace = Trace::new(seed, sink);
        trace.note(Duration::ZERO, [0; 3], || format!("seed {seed}: {plan}"));
        let station = |node| {
            let config = plan.config(node, rng.u64(..));
            let host = Host::new(
                config,
                Machine::new(plan.machines_on_disk[node], Arc::clone(&application)),
            );
            Station::new(host, rng.fork())
        };
        World {
            stations: (0..plan.nodes).map(station).collect(),
            network: Network::new(plan.nodes, &mut rng),
            strikes: Strikes::new(rng.fork()),
            client_rng: rng.fork(),
            ending_rng: rng.fork(),
            restriction: restriction.clone(),
            ledger: Ledger::new(&plan.membership),
            plan,
            now: Duration::ZERO,
            agenda: Agenda::default(),
            workload: Workload::new(application),
            calls: Calls::default(),
            history: History::default(),
            seen: Occurrences::default(),
            trace,
            has_faults: true,
            has_clients: true,
        }
    }

    /// The safety phase: everything starts, clients come and faults strike.
    pub(super) fn safety_phase(&mut self) -> Checked {
        for node in 0..self.plan.nodes {
            self.start(node)?;
        }
        self.plan_client();
        self.plan_fault();
        self.run_until(self.plan.safety)
    }

    /// Lets happen what happens until `end`.
    pub(super) fn run_until(&mut self, end: Duration) -> Checked {
        while let Some((at, happening)) = self.agenda.next(end) {
            self.now = at;
            self.happen(happening)?;
            let events = self.trace.events();
            ensure!(events < EVENTS_MAX, "{events} events, and no end: something runs in circles");
        }
        self.now = self.now.max(end);
        Ok(())
    }

    fn happen(&mut self, happening: Happening) -> Checked {
        match happening {
            Happening::Arrival(parcel) => self.arrive(parcel),
            Happening::Wake { node, life } if self.is_life(node, life) => self.wake(node),
            Happening::Tick { node, life } if self.is_life(node, life) => self.tick(node),
            Happening::Written { node, life } if self.is_life(node, life) => {
                self.written(node, life)
            }
            Happening::LogRead { node, life, id, records } if self.is_life(node, life) => {
                self.log_read(node, life, id, records)
            }
            Happening::Worked { node, life } if self.is_life(node, life) => self.worked(node),
            Happening::CrashInWrite { node, life, mut rng }
                if self.has_faults && self.is_life(node, life) =>
            {
                self.seen.add(Occurrence::CrashedInWrite);
                self.crash_for_a_while(node, &mut rng)
            }
            Happening::PowerFails { node, life, rng }
                if self.has_faults && self.is_life(node, life) =>
            {
                self.power_fails(node, rng)
            }
            Happening::Restart { node, relapses, rng }
                if self.has_faults && !self.is_running(node) && !self.stations[node].is_lost =>
            {
                self.restart(node, relapses, rng)
            }
            Happening::ClockRecovers { node } if self.has_faults => {
                self.set_clock_rate(node, 1.0);
                Ok(())
            }
            Happening::DiskRecovers { node } if self.has_faults => {
                self.stations[node].disk_slowness = 1;
                self.stations[node].disk_is_full = false;
                Ok(())
            }
            Happening::Suspend { node, until } if self.has_faults => {
                self.suspend(node, until);
                Ok(())
            }
            Happening::LeaderCrashes { spared, restart_at, rng } if self.has_faults => {
                self.leader_crashes(spared, restart_at, rng)
            }
            Happening::Fault if self.has_faults => self.strike(),
            Happening::Read { node } if self.has_clients => self.read(node),
            Happening::Client if self.has_clients => self.client(),
            _ => Ok(()),
        }
    }

    fn is_life(&self, node: usize, life: u64) -> bool {
        self.stations[node].host.incarnation() == Some(life)
    }

    fn is_running(&self, node: usize) -> bool {
        self.stations[node].host.is_running()
    }

    /// Which life a node is in.
    pub(super) fn life(&self, node: usize) -> Option<(NodeId, u64)> {
        self.stations[node].host.incarnation().map(|incarnation| (id_of(node), incarnation))
    }

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
        self.history.started(id_of(node), started.delivered);
        self.trace.note(self.now, [1, node as u64, started.incarnation], || {
            format!("{} starts, incarnation {}", id_of(node), started.incarnation)
        });
        self.plan_tick(node);
        Ok(())
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

    fn wake(&mut self, node: usize) -> Checked {
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

    fn tick(&mut self, node: usize) -> Checked {
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

    fn arrive(&mut self, parcel: Parcel) -> Checked {
        let Parcel { from, to, stores, message } = parcel;
        if self.plan.cuts_messages_under_way && !self.network.is_up(self.now, from, to) {
            self.seen.add(Occurrence::Severed);
            return Ok(());
        }
        if !self.stations[to].host.is_running() || !self.admit_each_other(from, to, stores) {
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
            self.agenda.plan(at.max(station.paused_until), Happening::Worked { node, life });
        }
    }

    fn worked(&mut self, node: usize) -> Checked {
        let station = &mut self.stations[node];
        station.is_working = false;
        if station.is_paused(self.now) {
            self.plan_work(node);
            return Ok(());
        }
        let rng = &mut station.rng;
        let count_max = if rng.bool() { usize::MAX } else { rng.usize(1..4) };
        let flush = rng.bool();
        let (done, input) = self.stations[node].host.work(count_max, flush);
        for done in done {
            self.done(node, done)?;
        }
        if let Some(input) = input {
            self.give(node, input)?;
        }
        self.plan_work(node);
        Ok(())
    }

    pub(super) fn plan_client(&mut self) {
        let wait = self.plan.client_interval.mul_f64(2.0 * self.client_rng.f64());
        self.agenda.plan(self.now + wait, Happening::Client);
    }

    fn client(&mut self) -> Checked {
        self.plan_client();
        let node = self.client_rng.usize(..self.plan.nodes);
        let Some(life) = self.life(node) else { return Ok(()) };
        if self.now < self.stations[node].shunned_until {
            return Ok(());
        }
        let actions = self.workload.act(life, &self.plan, &mut self.client_rng);
        self.act(node, actions)
    }

    fn read(&mut self, node: usize) -> Checked {
        let Some(life) = self.life(node) else { return Ok(()) };
        let read = self.workload.read(life);
        self.act(node, vec![read])
    }

    /// Carries out what clients want.
    pub(super) fn act(&mut self, node: usize, actions: Vec<Action>) -> Checked {
        let Some((id, incarnation)) = self.life(node) else { return Ok(()) };
        for action in actions {
            let station = &mut self.stations[node];
            match action {
                Action::Propose(requests) => {
                    for (id, command, patience) in requests {
                        self.calls.proposed(self.now, id, &command);
                        let deadline = station.local(self.now).after(patience);
                        let proposal = Proposal { id: Some(id), command, deadline, waiter: id };
                        station.push(Input::Propose(proposal));
                    }
                }
                Action::Reuse(id, command) => {
                    let deadline = station.local(self.now);
                    let proposal = Proposal { id: Some(id), command, deadline, waiter: id };
                    station.push(Input::Propose(proposal));
                }
                Action::Read(number) => {
                    self.history.read_began((id, incarnation, number));
                    self.calls.read(self.now, (id, incarnation, number));
                    station.push(Input::Read { number });
                }
                Action::GiveUpRead(number) => {
                    self.seen.add(Occurrence::GaveUp);
                    self.history.read_ended((id, incarnation, number));
                    station.push(Input::GiveUpRead { number });
                }
            }
        }
        self.call(node)
    }
}
