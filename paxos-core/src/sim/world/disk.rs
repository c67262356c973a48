//! How what a disk is asked for comes to an end: after a while, when it goes on, when there is room,
//! or with an error.

use std::time::Duration;

use super::{Checked, World, id_of};
use crate::{
    message::Record,
    replica::{LogRead, LogReadId, StateRead},
    sim::{
        agenda::Happening, disk::Damage, host::Input, mishap::FailingOperation,
        occurrence::Occurrence,
    },
};

impl World<'_> {
    /// Starts the next write of a node, if there is one and none is under way.
    pub(super) fn plan_write(&mut self, node: usize) {
        let station = &mut self.stations[node];
        let rng = &mut station.rng;
        let batches_max = if rng.bool() { usize::MAX } else { rng.usize(1..3) };
        // As the real writer does: all that waits is one write.
        let batches_max = if station.disk_slowness > 1 { usize::MAX } else { batches_max };
        let Some(life) = station.host.incarnation() else { return };
        if station.host.disk.begin(batches_max) {
            let latency = self.plan.disk_latency(&mut station.rng) * station.disk_slowness;
            if let Some(mut rng) = station.crash_in_write.take() {
                let at = self.now + latency.mul_f64(rng.f64());
                self.agenda.plan(at, Happening::CrashInWrite { node, life, rng });
            }
            self.agenda.plan(self.now + latency, Happening::Written { node, life });
        }
    }

    /// A node reads its log.
    pub(super) fn plan_log_read(&mut self, node: usize, read: &LogRead) {
        let station = &mut self.stations[node];
        let Some(life) = station.host.incarnation() else { return };
        let at = self.now + self.plan.disk_latency(&mut station.rng);
        let see_unfinished = station.rng.bool();
        let records = station.host.read_log(read, see_unfinished);
        self.agenda.plan(at, Happening::LogRead { node, life, id: read.id, records });
    }

    /// When the disk goes on with an operation that was to end now, if it hangs. What it was asked
    /// for earlier ends earlier.
    fn held_up_until(&mut self, node: usize) -> Option<Duration> {
        let until = self.stations[node].disk_hangs_until;
        let hangs = self.now < until;
        if hangs {
            self.seen.add(Occurrence::HeldUpByDisk);
        }
        hangs.then_some(until)
    }

    /// A read of the log comes to its end.
    pub(super) fn log_read(
        &mut self,
        node: usize,
        life: u64,
        id: LogReadId,
        records: Result<Vec<Record>, Damage>,
    ) -> Checked {
        if let Some(until) = self.held_up_until(node) {
            self.agenda.plan(until, Happening::LogRead { node, life, id, records });
            return Ok(());
        }
        if let Some(rng) = FailingOperation::strike(&mut self.stations[node].failing_read) {
            return self.disk_fails(node, Occurrence::ReadFailed, rng);
        }
        let records = match records {
            Ok(records) => records,
            Err(damage) => return self.is_damaged(node, damage, Occurrence::DamageRead),
        };
        self.seen.add(Occurrence::LogRead);
        self.give(node, Input::LogRead { id, records })
    }

    /// A node reads a piece of a state.
    pub(super) fn plan_state_read(&mut self, node: usize, read: StateRead) {
        let station = &mut self.stations[node];
        let Some(life) = station.host.incarnation() else { return };
        let at = self.now + self.plan.disk_latency(&mut station.rng);
        self.agenda.plan(at, Happening::StateRead { node, life, read });
    }

    /// A read of a state comes to its end, or waits for the state machine.
    pub(super) fn state_read(&mut self, node: usize, life: u64, read: StateRead) -> Checked {
        if let Some(until) = self.held_up_until(node) {
            self.agenda.plan(until, Happening::StateRead { node, life, read });
            return Ok(());
        }
        let station = &mut self.stations[node];
        let Some(bytes) = station.host.read_state(&read) else {
            if station.host.will_freeze(&read) {
                let again = self.now + self.plan.election_timeout() / 50;
                self.agenda.plan(again, Happening::StateRead { node, life, read });
            }
            return Ok(());
        };
        if let Some(rng) = FailingOperation::strike(&mut station.failing_read) {
            return self.disk_fails(node, Occurrence::ReadFailed, rng);
        }
        self.seen.add(Occurrence::StateRead);
        self.give(node, Input::StateRead { id: read.id, bytes })
    }

    /// A write comes to its end.
    pub(super) fn written(&mut self, node: usize, life: u64) -> Checked {
        if let Some(until) = self.held_up_until(node) {
            self.agenda.plan(until, Happening::Written { node, life });
            return Ok(());
        }
        let station = &mut self.stations[node];
        if station.disk_is_full {
            let retry = self.now + self.plan.election_timeout() / 4;
            self.agenda.plan(retry, Happening::Written { node, life });
            let is_told = std::mem::replace(&mut station.full_is_told, true);
            return if is_told { Ok(()) } else { self.give(node, Input::DiskFull(true)) };
        }
        if let Some(rng) = FailingOperation::strike(&mut station.failing_write) {
            return self.disk_fails(node, Occurrence::WriteFailed, rng);
        }
        let (ledger, seen) = (&mut self.ledger, &mut self.seen);
        let last = station
            .host
            .disk
            .finish(|before, batch| ledger.written(id_of(node), batch, before, seen))?;
        let room_again = std::mem::replace(&mut self.stations[node].full_is_told, false);
        if room_again {
            self.stations[node].push(Input::DiskFull(false));
        }
        if let Some(last) = last {
            self.trace.note(self.now, [8, node as u64, last.0], || {
                format!("{} has written up to #{}", id_of(node), last.0)
            });
            self.give(node, Input::Persisted(last))?;
        } else if room_again {
            self.call(node)?;
        }
        self.plan_write(node);
        Ok(())
    }
}
