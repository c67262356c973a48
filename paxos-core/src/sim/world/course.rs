//! What happens, one thing after the other.

use std::time::Duration;

use super::{Checked, World};
use crate::sim::{
    agenda::Happening,
    check::{Check, ensure},
    occurrence::Occurrence,
};

/// More happenings than any run needs: beyond them something goes round in circles.
const EVENTS_MAX: u64 = 1_000_000;

/// The check that fails here.
const CHECK: Check = Check::Conduct;

impl World<'_> {
    /// The safety phase: everything starts, clients come and faults strike.
    pub(in crate::sim) fn safety_phase(&mut self) -> Checked {
        for node in self.present() {
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
            Happening::Lost { node, life, peer } if self.is_life(node, life) => {
                self.lose(node, peer)
            }
            Happening::Wake { node, life } if self.is_life(node, life) => self.wake(node),
            Happening::Tick { node, life } if self.is_life(node, life) => self.tick(node),
            Happening::Dial { node, life } if self.is_life(node, life) => self.dial(node),
            Happening::Join { node, mut rng } if self.has_faults => self.join(node, &mut rng),
            Happening::Written { node, life } if self.is_life(node, life) => {
                self.written(node, life)
            }
            Happening::LogRead { node, life, id, records } if self.is_life(node, life) => {
                self.log_read(node, life, id, records)
            }
            Happening::StateRead { node, life, read } if self.is_life(node, life) => {
                self.state_read(node, life, read)
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
                if self.has_faults && !self.is_running(node) && self.stations[node].may_start() =>
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
            Happening::Interrupt { node, until, rng } if self.has_faults => {
                self.interrupt(node, until, rng)
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
}
