//! Faults that strike at a moment: which of them, when, and for how long.

mod clock;
mod depose;
mod membership;
mod network;
mod process;
mod storage;
mod transfer;

use std::time::Duration;

use super::{Checked, World};
use crate::{
    replica::Role,
    sim::{
        agenda::Happening,
        fault::{Fault, Strike},
        station::Station,
    },
};

impl World<'_> {
    /// Plans the next fault.
    pub(super) fn plan_fault(&mut self) {
        // Mostly in bursts, with long quiet times in between.
        let wait = self.plan.fault_interval.mul_f64(4.0 * self.strikes.rng.f64().powi(3));
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
        let is_quiet = self.now < self.strikes.quiet_until;
        if fault == Fault::Depose && !is_quiet {
            self.strikes.quiet_until =
                self.now + depose::DURATION_TIMEOUTS * self.plan.election_timeout();
        }
        if is_quiet || !self.restriction.allows(&strike) {
            return Ok(());
        }
        self.strikes.done.push(strike);
        self.trace.note(self.now, [18, strike.number, fault as u64], || {
            format!("fault {}: {fault}", strike.number)
        });
        let node = self.victim(rng);
        match fault {
            Fault::Partition => self.partition(rng),
            Fault::Cut => self.cut(node, rng),
            Fault::Weaken => self.weaken(node, rng),
            Fault::Throttle => self.throttle(node, rng),
            Fault::Sieve => self.sieve(node, rng),
            Fault::Crash => return self.crash_some(node, rng),
            Fault::SlowDisk => self.slow_disks(node, rng),
            Fault::FullDisk => self.fill_disk(node, rng),
            Fault::HangingDisk => self.hang_disk(node, rng),
            Fault::FailedWrite => self.fail_write(node, rng),
            Fault::FailedRead => self.fail_read(node, rng),
            Fault::Rot => self.rot(node, rng),
            Fault::LostDisk => return self.lose_disk(node, rng),
            Fault::StuckMachine => self.stick_machine(node, rng),
            Fault::Pause => self.pause(node, rng),
            Fault::Depose => return self.depose(node, rng),
            Fault::Oversleep => return self.oversleep(node, rng),
            Fault::Reconfigure => return self.reconfigure(node, rng),
            Fault::Transfer => return self.transfer(node, rng),
            Fault::Warp => self.warp(node, rng),
            Fault::Jump => self.jump(node, rng),
            Fault::Misreport => self.misreport(node, rng),
            Fault::Drop | Fault::Duplicate | Fault::Delay | Fault::Resurrect | Fault::Drift => {
                unreachable!("{fault} does not strike at a moment")
            }
        }
        Ok(())
    }

    /// Whom a fault strikes: who leads, for that does most harm, or anybody.
    fn victim(&self, rng: &mut fastrand::Rng) -> usize {
        let node = self.anybody(rng);
        let leads =
            |station: &Station| station.role == Role::Leading && station.paused_until <= self.now;
        let leader = self.stations.iter().position(leads);
        leader.filter(|_| rng.bool()).unwrap_or(node)
    }

    /// Any node that is there.
    fn anybody(&self, rng: &mut fastrand::Rng) -> usize {
        *rng.choice(&self.present()).expect("somebody is there")
    }

    /// How long a fault lasts: from a moment to several election timeouts.
    pub(in crate::sim::world) fn while_lasting(&self, rng: &mut fastrand::Rng) -> Duration {
        let timeouts = if rng.bool() { 1.0 } else { 6.0 };
        self.plan.election_timeout().mul_f64(timeouts * rng.f64())
    }
}
