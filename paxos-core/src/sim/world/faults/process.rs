//! Faults of processes and machines: crashes, at every point of a step and of a start, and standing
//! still.

use std::time::Duration;

use crate::sim::{
    agenda::Happening,
    mishap::CrashPoint,
    network::Trouble,
    occurrence::Occurrence,
    topology::{Links, Shape},
    world::{Checked, World},
};

impl World<'_> {
    /// Crashes a node, all nodes, or the node that has most to lose; at once, within one of its
    /// next steps, or in the midst of its next write.
    pub(super) fn crash_some(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        let node = match rng.u8(..12) {
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
            7..=9 => {
                let station = &mut self.stations[node];
                station.crash_in_write = station.host.is_running().then(|| rng.fork());
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
    pub(in crate::sim::world) fn crash_for_a_while(
        &mut self,
        node: usize,
        rng: &mut fastrand::Rng,
    ) -> Checked {
        self.restart_later(node, rng);
        self.crash(node, rng)
    }

    pub(super) fn restart_later(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let relapses = if rng.u8(..4) == 0 { rng.u32(1..4) } else { 0 };
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::Restart { node, relapses, rng: rng.fork() });
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
    pub(in crate::sim::world) fn restart(
        &mut self,
        node: usize,
        relapses: u32,
        mut rng: fastrand::Rng,
    ) -> Checked {
        let station = &mut self.stations[node];
        if station.disk_hangs_until > self.now {
            let at = station.disk_hangs_until;
            self.agenda.plan(at, Happening::Restart { node, relapses, rng });
            return Ok(());
        }
        if station.failing_read.take().is_some() {
            return self.start_fails(node, relapses, rng);
        }
        self.seen.add(Occurrence::Restarted);
        self.start(node)?;
        if relapses == 0 || !self.has_faults {
            return Ok(());
        }
        if rng.bool() {
            self.seen.add(Occurrence::CrashedAtStart);
            let at = self.now + self.plan.disk_latency(&mut rng);
            self.agenda
                .plan(at, Happening::Restart { node, relapses: relapses - 1, rng: rng.fork() });
            return self.crash(node, &mut rng);
        }
        let at = CrashPoint { steps: rng.u32(..3), rng };
        self.stations[node].crash_point = Some(at);
        Ok(())
    }

    /// A node is down or cut off for as long as it takes the others to compact what it misses. When it is
    /// back, a state is transferred, and at times one of the two ends crashes in the midst of that.
    pub(super) fn oversleep(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        if !self.is_running(node) {
            return Ok(());
        }
        self.seen.add(Occurrence::Overslept);
        let until = self.now + self.plan.election_timeout().mul_f64(3.0 + 12.0 * rng.f64());
        self.trace.note(self.now, [26, node as u64, 0], || {
            format!("{} oversleeps until {:.6}", node + 1, until.as_secs_f64())
        });
        for _ in 0..rng.u32(..4) {
            let victim = if rng.bool() { node } else { self.anybody(rng) };
            let last = until + self.plan.election_timeout() * 2;
            let rng = rng.fork();
            self.agenda.plan(until, Happening::Interrupt { node: victim, until: last, rng });
        }
        if rng.bool() {
            let links = Links::of(self.plan.nodes, |from, to| from == node || to == node);
            self.network.trouble(&links, Trouble::Cut, || until);
            return Ok(());
        }
        self.agenda.plan(until, Happening::Restart { node, relapses: 0, rng: rng.fork() });
        self.crash(node, rng)
    }

    /// Crashes a node as soon as it takes part in the transfer of a state, if it does in time.
    pub(in crate::sim::world) fn interrupt(
        &mut self,
        node: usize,
        until: Duration,
        mut rng: fastrand::Rng,
    ) -> Checked {
        if self.now > until {
            return Ok(());
        }
        if self.stations[node].host.transfers_state() && rng.bool() {
            self.seen.add(Occurrence::StateInterrupted);
            return self.crash_for_a_while(node, &mut rng);
        }
        let again = self.now + self.plan.disk_latency(&mut rng) * 3;
        self.agenda.plan(again, Happening::Interrupt { node, until, rng });
        Ok(())
    }

    /// The state machine blocks for a while, and its process does not.
    pub(super) fn stick_machine(&mut self, node: usize, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::StuckMachine);
        let until = self.now + self.while_lasting(rng);
        self.stations[node].machine_sticks_until = until;
        self.trace.note(self.now, [24, node as u64, 0], || {
            format!("the state machine of {} sticks until {:.6}", node + 1, until.as_secs_f64())
        });
    }

    pub(super) fn pause(&mut self, node: usize, rng: &mut fastrand::Rng) {
        if rng.bool() {
            return self.suspend_for_a_while(node, rng);
        }
        self.seen.add(Occurrence::Paused);
        let until = self.now + self.while_lasting(rng);
        self.stations[node].pause(self.now, until, false);
        self.trace.note(self.now, [15, node as u64, 0], || {
            format!("{} stands still until {:.6}", node + 1, until.as_secs_f64())
        });
    }

    /// Suspends a machine, its clock included. At times the network falls apart meanwhile, and its
    /// links come back one by one after the machine has gone on: it has missed everything, does not
    /// know it, and may hear of it in any order.
    fn suspend_for_a_while(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let until = self.now + self.while_lasting(rng) + self.while_lasting(rng);
        let is_stranded = rng.bool();
        if is_stranded {
            let shape = if rng.bool() { Shape::Islands } else { Shape::Random };
            let links = shape.draw(self.plan.nodes, &self.present(), node, rng).others();
            let longer = self.while_lasting(rng);
            if links.iter().next().is_some() {
                self.seen.add(Occurrence::Stranded);
            }
            self.network.trouble(&links, Trouble::Cut, || until + longer.mul_f64(rng.f64()));
        }
        self.suspend(node, until);
    }

    /// Suspends a machine, its clock included.
    pub(in crate::sim::world) fn suspend(&mut self, node: usize, until: Duration) {
        self.seen.add(Occurrence::Suspended);
        self.stations[node].pause(self.now, until, true);
        self.trace.note(self.now, [17, node as u64, 0], || {
            format!("{} is suspended until {:.6}", node + 1, until.as_secs_f64())
        });
    }
}
