//! Faults of disks that strike at a moment.

use crate::sim::{agenda::Happening, occurrence::Occurrence, world::World};

impl World<'_> {
    pub(super) fn slow_disk(&mut self, node: usize, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::SlowedDisk);
        let slowness = rng.u32(5..200);
        self.stations[node].disk_slowness = slowness;
        self.trace.note(self.now, [13, node as u64, u64::from(slowness)], || {
            format!("the disk of {} is {slowness} times as slow", node + 1)
        });
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::DiskRecovers { node });
    }

    pub(super) fn fill_disk(&mut self, node: usize, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::FilledDisk);
        self.stations[node].disk_is_full = true;
        self.trace
            .note(self.now, [14, node as u64, 0], || format!("the disk of {} is full", node + 1));
        let at = self.now + self.while_lasting(rng);
        self.agenda.plan(at, Happening::DiskRecovers { node });
    }
}
