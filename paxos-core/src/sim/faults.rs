//! Faults that strike at a moment: what they are, how often, and how they pass.

use std::time::Duration;

use super::{
    agenda::Happening,
    fault::{Fault, Strike},
    occurrence::{Occurrence, Occurrences},
    world::{Checked, World},
};
use crate::replica::{Effects, Role};

/// The faults that strike at a moment, in their order. When they strike and how is decided apart
/// from everything else, so that it does not change when some are left out.
#[derive(Debug)]
pub(super) struct Strikes {
    rng: fastrand::Rng,
    planned: u64,
    /// Those that took place.
    pub(super) done: Vec<Strike>,
}

impl Strikes {
    pub(super) fn new(rng: fastrand::Rng) -> Strikes {
        Strikes { rng, planned: 0, done: Vec::new() }
    }
}

/// A crash in the midst of what a step asks for.
#[derive(Clone, Debug)]
pub(super) struct CrashPoint {
    /// Steps that still go well, of those that ask for something to be written or sent.
    pub(super) steps: u32,
    /// Decides where in the step.
    pub(super) rng: fastrand::Rng,
}

impl CrashPoint {
    /// Leaves of `effects` what is carried out before the crash: the write is handed over or not,
    /// and any number of messages has left.
    pub(super) fn cut(&mut self, effects: &mut Effects, seen: &mut Occurrences) {
        let sends = effects.send.len();
        if self.rng.bool() && effects.persist.take().is_some() {
            seen.add(Occurrence::CrashedBeforeWriting);
        }
        effects.send.truncate(self.rng.usize(..=sends));
        seen.add(match effects.send.len() {
            0 => Occurrence::CrashedBeforeSending,
            left if left < sends => Occurrence::CrashedWhileSending,
            _ => Occurrence::CrashedAfterSending,
        });
    }
}

impl World<'_> {
    /// Plans the next fault.
    pub(super) fn plan_fault(&mut self) {
        let wait = self.plan.fault_interval.mul_f64(2.0 * self.strikes.rng.f64());
        self.agenda.plan(self.now + wait, Happening::Fault);
    }

    /// A fault that the plan allows strikes.
    pub(super) fn strike(&mut self) -> Checked {
        self.plan_fault();
        let rng = &mut self.strikes.rng.fork();
        let kinds: Vec<_> = self.plan.drawn.iter().copied().filter(|kind| kind.strikes()).collect();
        let Some(fault) = rng.choice(kinds) else { return Ok(()) };
        self.strikes.planned += 1;
        let strike = Strike { number: self.strikes.planned, at: self.now, fault };
        if !self.restriction.allows(&strike) {
            return Ok(());
        }
        self.strikes.done.push(strike);
        self.trace.note(self.now, [18, strike.number, fault as u64], || {
            format!("fault {}: {fault}", strike.number)
        });
        let node = rng.usize(..self.plan.nodes);
        match fault {
            Fault::Partition => self.partition(rng),
            Fault::Cut => self.cut(rng),
            Fault::Crash => return self.crash_some(node, rng),
            Fault::SlowDisk => self.slow_disk(node, rng),
            Fault::FullDisk => self.fill_disk(node, rng),
            Fault::Pause => self.pause(node, rng),
            Fault::Drop | Fault::Duplicate | Fault::Delay | Fault::Resurrect | Fault::Drift => {
                unreachable!("{fault} does not strike at a moment")
            }
        }
        Ok(())
    }

    /// How long a fault lasts: from a moment to several election timeouts.
    fn while_lasting(&self, rng: &mut fastrand::Rng) -> Duration {
        let timeouts = if rng.bool() { 1.0 } else { 6.0 };
        self.plan.election_timeout().mul_f64(timeouts * rng.f64())
    }

    fn mend_links_later(&mut self, rng: &mut fastrand::Rng) {
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::LinksRecover);
    }

    /// Splits the cluster into two or three groups.
    fn partition(&mut self, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::Partitioned);
        let groups = rng.usize(2..4);
        let group: Vec<_> = (0..self.plan.nodes).map(|_| rng.usize(..groups)).collect();
        self.trace.note(self.now, [11, 0, 0], || format!("partition into groups {group:?}"));
        self.network.links.retain(|from, to| group[from] == group[to]);
        self.mend_links_later(rng);
    }

    /// Cuts links at random, or all but those of one node, or all but a chain; each direction by
    /// itself or both together.
    fn cut(&mut self, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::CutPartially);
        let nodes = self.plan.nodes;
        let shape = rng.usize(..4);
        let center = rng.usize(..nodes);
        let rate = rng.f64();
        for from in 0..nodes {
            for to in 0..from {
                let (one, other) = match shape {
                    0 => (rng.f64() > rate, rng.f64() > rate),
                    1 => {
                        let both = rng.f64() > rate;
                        (both, both)
                    }
                    2 => (from == center || to == center, from == center || to == center),
                    _ => (from == to + 1, from == to + 1),
                };
                self.network.links.set(from, to, one);
                self.network.links.set(to, from, other);
            }
        }
        let links = &self.network.links;
        self.trace.note(self.now, [12, shape as u64, center as u64], || {
            let pairs = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
            let up: Vec<_> = pairs
                .filter(|&(from, to)| from != to && links.is_up(from, to))
                .map(|(from, to)| format!("{}->{}", from + 1, to + 1))
                .collect();
            format!("links left: {}", up.join(" "))
        });
        self.mend_links_later(rng);
    }

    /// Crashes a node, all nodes, or the node that has most to lose; at once, or within one of its
    /// next steps.
    fn crash_some(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        let node = match rng.u8(..9) {
            0 => return self.crash_all(rng),
            1..=3 => {
                let unfinished = |node: &usize| self.stations[*node].host.disk.unfinished().len();
                (0..self.plan.nodes).max_by_key(unfinished).unwrap_or(node)
            }
            4..=6 => {
                let at = CrashPoint { steps: rng.u32(..20), rng: rng.fork() };
                let station = &mut self.stations[node];
                station.crash_point = station.host.is_running().then_some(at);
                return Ok(());
            }
            _ => node,
        };
        if self.stations[node].host.is_running() {
            self.crash_for_a_while(node, rng)
        } else {
            Ok(())
        }
    }

    /// Crashes a node and plans its restart; at times it then crashes right at its start, once or
    /// several times in a row.
    pub(super) fn crash_for_a_while(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        let relapses = if rng.u8(..4) == 0 { rng.u32(1..4) } else { 0 };
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::Restart { node, relapses, rng: rng.fork() });
        self.crash(node, rng)
    }

    fn crash_all(&mut self, rng: &mut fastrand::Rng) -> Checked {
        for node in 0..self.plan.nodes {
            if self.stations[node].host.is_running() {
                self.crash_for_a_while(node, rng)?;
            }
        }
        Ok(())
    }

    /// A node starts again. If it is to crash in the midst of that, it does so before it has taken
    /// anything in, or soon after.
    pub(super) fn restart(
        &mut self,
        node: usize,
        relapses: u32,
        mut rng: fastrand::Rng,
    ) -> Checked {
        self.seen.add(Occurrence::Restarted);
        self.start(node)?;
        if relapses == 0 || !self.has_faults {
            return Ok(());
        }
        self.seen.add(Occurrence::CrashedAtStart);
        if rng.bool() {
            let at = self.now + self.plan.disk_latency(&mut rng);
            self.agenda
                .plan(at, Happening::Restart { node, relapses: relapses - 1, rng: rng.fork() });
            return self.crash(node, &mut rng);
        }
        let at = CrashPoint { steps: rng.u32(..3), rng };
        self.stations[node].crash_point = Some(at);
        Ok(())
    }

    fn slow_disk(&mut self, node: usize, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::SlowedDisk);
        let slowness = rng.u32(5..200);
        self.stations[node].disk_slowness = slowness;
        self.trace.note(self.now, [13, node as u64, u64::from(slowness)], || {
            format!("the disk of {} is {slowness} times as slow", node + 1)
        });
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::DiskRecovers { node });
    }

    fn fill_disk(&mut self, node: usize, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::FilledDisk);
        self.stations[node].disk_is_full = true;
        self.trace
            .note(self.now, [14, node as u64, 0], || format!("the disk of {} is full", node + 1));
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::DiskRecovers { node });
    }

    fn pause(&mut self, node: usize, rng: &mut fastrand::Rng) {
        if rng.bool() {
            return self.suspend(node, rng);
        }
        self.seen.add(Occurrence::Paused);
        let until = self.now + self.while_lasting(rng);
        self.stations[node].pause(self.now, until, false);
        self.trace.note(self.now, [15, node as u64, 0], || {
            format!("{} stands still until {:.6}", node + 1, until.as_secs_f64())
        });
    }

    /// Suspends a machine, mostly the leader's, its clock included. At times it loses its links
    /// too, until a moment after it goes on: it has missed everything and does not know it.
    fn suspend(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let leader = self.stations.iter().position(|station| station.role == Role::Leading);
        let node = leader.filter(|_| rng.u8(..4) > 0).unwrap_or(node);
        let until = self.now + self.while_lasting(rng) + self.while_lasting(rng);
        let is_stranded = rng.bool();
        if is_stranded {
            self.seen.add(Occurrence::Stranded);
            self.network.links.retain(|from, to| from != node && to != node);
            let back = self.plan.election_timeout().mul_f64(rng.f64());
            self.agenda.plan(until + back, Happening::LinksRecover);
        }
        self.seen.add(Occurrence::Suspended);
        self.stations[node].pause(self.now, until, true);
        self.trace.note(self.now, [17, node as u64, u64::from(is_stranded)], || {
            let links = if is_stranded { " without its links" } else { "" };
            format!("{} is suspended{links} until {:.6}", node + 1, until.as_secs_f64())
        });
    }
}
