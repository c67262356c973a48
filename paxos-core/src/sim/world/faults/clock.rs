//! Faults of clocks that strike at a moment.
//!
//! No bound holds for them: safety must not depend on any clock.

use crate::sim::{agenda::Happening, occurrence::Occurrence, world::World};

impl World<'_> {
    /// A clock runs up to twice as fast or as slow for a while.
    pub(super) fn warp(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let rate = (2.0 * rng.f64() - 1.0).exp2();
        self.seen.add(Occurrence::Warped);
        self.trace.note(self.now, [13, node as u64, rate.to_bits()], || {
            format!("the clock of {} runs at {rate:.2} times its speed", node + 1)
        });
        self.set_clock_rate(node, rate);
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::ClockRecovers { node });
    }

    /// A clock jumps forwards.
    pub(super) fn jump(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let by = self.while_lasting(rng);
        self.seen.add(Occurrence::Jumped);
        self.trace.note(self.now, [12, node as u64, by.as_nanos() as u64], || {
            format!("the clock of {} jumps forwards by {by:?}", node + 1)
        });
        self.stations[node].jump(by);
        self.plan_tick(node);
    }

    /// From now on a clock runs at this rate.
    pub(in crate::sim::world) fn set_clock_rate(&mut self, node: usize, rate: f64) {
        self.stations[node].set_clock_rate(self.now, rate);
        self.plan_tick(node);
    }
}
