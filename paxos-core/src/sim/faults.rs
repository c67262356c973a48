//! Faults that strike at a moment: what they are, how often, and how they pass.

use std::time::Duration;

use super::{
    agenda::Happening,
    occurrence::Occurrence,
    plan::FaultKind,
    world::{Checked, World},
};
use crate::replica::Role;

impl World<'_> {
    /// Plans the next fault.
    pub(super) fn plan_fault(&mut self) {
        let wait = self.plan.fault_interval.mul_f64(2.0 * self.rng.f64());
        self.agenda.plan(self.now + wait, Happening::Fault);
    }

    /// A fault that the plan allows strikes.
    pub(super) fn strike(&mut self) -> Checked {
        self.plan_fault();
        let kinds = FaultKind::EVENTS.into_iter().filter(|&kind| self.plan.has(kind));
        let Some(kind) = self.rng.choice(kinds.collect::<Vec<_>>()) else { return Ok(()) };
        let node = self.rng.usize(..self.plan.nodes);
        match kind {
            FaultKind::Partition => self.partition(),
            FaultKind::Cut => self.cut(),
            FaultKind::Crash => return self.crash_some(node),
            FaultKind::SlowDisk => self.slow_disk(node),
            FaultKind::FullDisk => self.fill_disk(node),
            FaultKind::Pause => self.pause(node),
            _ => {}
        }
        Ok(())
    }

    /// How long a fault lasts: from a moment to several election timeouts.
    fn while_lasting(&mut self) -> Duration {
        let timeouts = if self.rng.bool() { 1.0 } else { 6.0 };
        self.plan.election_timeout().mul_f64(timeouts * self.rng.f64())
    }

    fn mend_links_later(&mut self) {
        let at = self.now + self.while_lasting();
        self.agenda.plan(at, Happening::LinksRecover);
    }

    /// Splits the cluster into two or three groups.
    fn partition(&mut self) {
        self.seen.add(Occurrence::Partitioned);
        let groups = self.rng.usize(2..4);
        let group: Vec<_> = (0..self.plan.nodes).map(|_| self.rng.usize(..groups)).collect();
        self.trace.note(self.now, [11, 0, 0], || format!("partition into groups {group:?}"));
        self.network.links.retain(|from, to| group[from] == group[to]);
        self.mend_links_later();
    }

    /// Cuts links at random, or all but those of one node, or all but a chain; each direction by
    /// itself or both together.
    fn cut(&mut self) {
        self.seen.add(Occurrence::CutPartially);
        let nodes = self.plan.nodes;
        let shape = self.rng.usize(..4);
        let center = self.rng.usize(..nodes);
        let rate = self.rng.f64();
        for from in 0..nodes {
            for to in 0..from {
                let (one, other) = match shape {
                    0 => (self.rng.f64() > rate, self.rng.f64() > rate),
                    1 => {
                        let both = self.rng.f64() > rate;
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
        self.mend_links_later();
    }

    /// Crashes a node, all nodes, or the node that has most to lose.
    fn crash_some(&mut self, node: usize) -> Checked {
        let node = match self.rng.u8(..6) {
            0 => return self.crash_all(),
            1..=3 => {
                let unfinished = |node: &usize| self.stations[*node].host.disk.unfinished().len();
                (0..self.plan.nodes).max_by_key(unfinished).unwrap_or(node)
            }
            _ => node,
        };
        if self.stations[node].host.is_running() { self.crash_for_a_while(node) } else { Ok(()) }
    }

    /// Crashes a node and plans its restart.
    pub(super) fn crash_for_a_while(&mut self, node: usize) -> Checked {
        let at = self.now + self.while_lasting();
        self.agenda.plan(at, Happening::Restart { node });
        self.crash(node)
    }

    fn crash_all(&mut self) -> Checked {
        for node in 0..self.plan.nodes {
            if self.stations[node].host.is_running() {
                self.crash_for_a_while(node)?;
            }
        }
        Ok(())
    }

    fn slow_disk(&mut self, node: usize) {
        self.seen.add(Occurrence::SlowedDisk);
        let slowness = self.rng.u32(5..200);
        self.stations[node].disk_slowness = slowness;
        self.trace.note(self.now, [13, node as u64, u64::from(slowness)], || {
            format!("the disk of {} is {slowness} times as slow", node + 1)
        });
        let at = self.now + self.while_lasting();
        self.agenda.plan(at, Happening::DiskRecovers { node });
    }

    fn fill_disk(&mut self, node: usize) {
        self.seen.add(Occurrence::FilledDisk);
        self.stations[node].disk_is_full = true;
        self.trace
            .note(self.now, [14, node as u64, 0], || format!("the disk of {} is full", node + 1));
        let at = self.now + self.while_lasting();
        self.agenda.plan(at, Happening::DiskRecovers { node });
    }

    fn pause(&mut self, node: usize) {
        if self.rng.bool() {
            return self.suspend(node);
        }
        self.seen.add(Occurrence::Paused);
        let until = self.now + self.while_lasting();
        self.stations[node].pause(self.now, until, false);
        self.trace.note(self.now, [15, node as u64, 0], || {
            format!("{} stands still until {:.6}", node + 1, until.as_secs_f64())
        });
    }

    /// Suspends a machine, mostly the leader's, its clock included. At times it loses its links
    /// too, until a moment after it goes on: it has missed everything and does not know it.
    fn suspend(&mut self, node: usize) {
        let leader = self.stations.iter().position(|station| station.role == Role::Leading);
        let node = leader.filter(|_| self.rng.u8(..4) > 0).unwrap_or(node);
        let until = self.now + self.while_lasting() + self.while_lasting();
        let is_stranded = self.rng.bool();
        if is_stranded {
            self.seen.add(Occurrence::Stranded);
            self.network.links.retain(|from, to| from != node && to != node);
            let back = self.plan.election_timeout().mul_f64(self.rng.f64());
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
