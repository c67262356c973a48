//! Faults of disks that strike at a moment.
//!
//! A storage reports an error once: what the real node does then, it does here. It ends, and what
//! becomes of the writes that were not reported durable is as open as in a crash.

use crate::sim::{
    agenda::Happening,
    occurrence::Occurrence,
    world::{Checked, World},
};

/// An operation of a disk that is about to fail.
#[derive(Clone, Debug)]
pub(in crate::sim) struct FailingOperation {
    /// Operations that still go well.
    after: u32,
    /// Decides what the failure leaves behind.
    rng: fastrand::Rng,
}

impl FailingOperation {
    fn draw(rng: &mut fastrand::Rng) -> FailingOperation {
        FailingOperation { after: rng.u32(..6), rng: rng.fork() }
    }

    /// Another operation comes to its end: if it is the one that fails, decides what that leaves
    /// behind.
    pub(in crate::sim) fn strike(waiting: &mut Option<FailingOperation>) -> Option<fastrand::Rng> {
        let operation = waiting.as_mut()?;
        if operation.after == 0 {
            return waiting.take().map(|operation| operation.rng);
        }
        operation.after -= 1;
        None
    }
}

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

    /// Nothing that the disk is asked for comes to an end for a while; then it goes on where it
    /// was.
    pub(super) fn hang_disk(&mut self, node: usize, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::HungDisk);
        let until = self.now + self.while_lasting(rng);
        self.stations[node].disk_hangs_until = until;
        self.trace.note(self.now, [19, node as u64, 0], || {
            format!("the disk of {} hangs until {:.6}", node + 1, until.as_secs_f64())
        });
    }

    /// One of the next writes fails.
    pub(super) fn fail_write(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let station = &mut self.stations[node];
        station.failing_write = station.host.is_running().then(|| FailingOperation::draw(rng));
    }

    /// One of the next reads of the log fails, or the next start.
    pub(super) fn fail_read(&mut self, node: usize, rng: &mut fastrand::Rng) {
        self.stations[node].failing_read = Some(FailingOperation::draw(rng));
    }

    /// A node cannot start because its disk cannot be read; it is tried again later.
    pub(super) fn start_fails(
        &mut self,
        node: usize,
        relapses: u32,
        mut rng: fastrand::Rng,
    ) -> Checked {
        self.seen.add(Occurrence::StartFailed);
        self.trace.note(self.now, [20, node as u64, relapses.into()], || {
            format!("{} cannot start: its disk reports an error", node + 1)
        });
        let at = self.now + self.while_lasting(&mut rng);
        self.agenda.plan(at, Happening::Restart { node, relapses, rng });
        Ok(())
    }

    /// An operation of a disk has failed: the process ends, and starts again later. The failed write
    /// and those behind it are on the disk or not, as after a crash.
    pub(in crate::sim) fn disk_fails(
        &mut self,
        node: usize,
        operation: Occurrence,
        mut rng: fastrand::Rng,
    ) -> Checked {
        self.seen.add(operation);
        self.trace.note(self.now, [20, node as u64, operation as u64], || {
            format!("the disk of {} reports an error ({operation}), and its process ends", node + 1)
        });
        self.crash_for_a_while(node, &mut rng)
    }
}
