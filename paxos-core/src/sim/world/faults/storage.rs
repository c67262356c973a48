//! Faults of disks that strike at a moment.
//!
//! A storage reports an error once: what the real node does then, it does here. It ends, and what
//! becomes of the writes that were not reported durable is as open as in a crash.
//!
//! A node whose disk is damaged must not be started on it again, and one whose disk is lost is refused by
//! all others. Where the membership changes, a new one may take its place; no more nodes are lost than leave
//! both quorums to the others.

use crate::{
    sim::{
        agenda::Happening,
        disk::Damage,
        fault::Fault,
        mishap::FailingOperation,
        network::Trouble,
        occurrence::Occurrence,
        station::Station,
        topology::Links,
        world::{Checked, World, id_of},
    },
    types::StoreId,
};

/// Election timeouts after which everybody has noticed that a node does not answer.
const TIMEOUTS_TO_BE_MISSED: u32 = 3;

impl World<'_> {
    /// The disk of one node is slow for a while, or those of all nodes are.
    pub(super) fn slow_disks(&mut self, node: usize, rng: &mut fastrand::Rng) {
        if rng.u8(..4) == 0 {
            self.slow_all_disks(rng);
        } else {
            self.slow_disk(node, rng);
        }
    }

    fn slow_all_disks(&mut self, rng: &mut fastrand::Rng) {
        self.seen.add(Occurrence::SlowedDisks);
        let longest = self.plan.election_timeout().mul_f64(2.0 * rng.f64());
        self.trace.note(self.now, [13, longest.as_nanos() as u64, 0], || {
            format!("every disk takes up to {longest:?} for a write")
        });
        let at = self.now + self.while_lasting(rng) + self.while_lasting(rng);
        for node in 0..self.plan.nodes {
            self.stations[node].disk_slowness = self.plan.disk_slowness(longest).max(1);
            self.agenda.plan(at, Happening::DiskRecovers { node });
        }
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
        let Some(life) = self.stations[node].host.incarnation() else { return };
        if rng.u8(..4) == 0 && self.plan.has(Fault::Crash) {
            self.agenda.plan(until, Happening::PowerFails { node, life, rng: rng.fork() });
        }
    }

    /// The power of a machine fails while its log hangs: nothing is left of what the log was asked
    /// to write. The state machine, whose state need not be on the same disk, has made durable all that
    /// it has applied, and may be ahead of the log when the node comes back.
    pub(in crate::sim::world) fn power_fails(
        &mut self,
        node: usize,
        mut rng: fastrand::Rng,
    ) -> Checked {
        self.stations[node].host.machine.flush();
        self.restart_later(node, &mut rng);
        self.crash_keeping_nothing(node)
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

    /// A bit of what is durable flips, with this node or one that is down.
    pub(super) fn rot(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let is_down = |node: &usize| !self.stations[*node].host.is_running();
        let down = self.present().into_iter().find(is_down);
        let node = down.filter(|_| rng.bool()).unwrap_or(node);
        if !self.may_lose(node) {
            return;
        }
        self.seen.add(Occurrence::Rotted);
        let place = self.stations[node].host.disk.rot(down == Some(node), rng);
        self.trace.note(self.now, [21, node as u64, 0], || {
            format!("a bit flips on the disk of {}, in {place}", node + 1)
        });
    }

    /// Whether the disk of a node is sound, and it can be had back whatever happens to it.
    pub(in crate::sim::world) fn is_sound(&self, node: usize) -> bool {
        let station = &self.stations[node];
        !station.is_lost && !station.has_lost_disk && !station.host.disk.is_rotten()
    }

    /// Whether a node can be lost for good: the others have both quorums without it, and go on having them,
    /// for no change of the membership is on its way.
    fn may_lose(&self, node: usize) -> bool {
        let others = self.voters().into_iter();
        let others = others.filter(|&other| other != node && self.is_sound(other));
        self.role_of(node).is_some()
            && self.is_sound(node)
            && self.now >= self.changes_end
            && others.count() >= self.quorum()
    }

    /// The whole disk of a node is gone. The node comes back empty, and nobody lets it in.
    ///
    /// Only of a node that all others know: one that has never met it takes it for new, as it
    /// does in reality (see `docs/FAULTS.md`).
    pub(super) fn lose_disk(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        if !self.may_lose(node) || !self.is_known_to_all(node) {
            return Ok(());
        }
        self.seen.add(Occurrence::LostDisk);
        let store = StoreId(rng.u64(..));
        self.trace.note(self.now, [23, node as u64, store.0], || {
            format!("the disk of {} is lost; an empty one takes its place", node + 1)
        });
        if self.stations[node].host.is_running() {
            self.crash_for_a_while(node, rng)?;
        }
        self.agenda.forget_lives(node);
        self.changes_begin = self.now + self.plan.election_timeout() * TIMEOUTS_TO_BE_MISSED;
        let station = &mut self.stations[node];
        station.host.lose_disk(store);
        station.has_lost_disk = true;
        if rng.bool() {
            self.leave_with_those_behind(node, rng);
        }
        Ok(())
    }

    /// Cuts a node off for a while together with as many as a quorum takes beside it, those who know
    /// least: if they let it in, nobody is left who knows what it has forgotten.
    fn leave_with_those_behind(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let known = |node: &usize| self.stations[*node].host.disk.durable().chosen.slot;
        let voters = self.voters().into_iter();
        let mut island: Vec<_> = voters.filter(|&other| other != node).collect();
        island.sort_by_key(known);
        island.truncate(self.quorum() - 1);
        island.push(node);
        let links =
            Links::of(self.plan.nodes, |from, to| island.contains(&from) != island.contains(&to));
        let until = self.now + self.while_lasting(rng) + self.while_lasting(rng);
        self.network.trouble(&links, Trouble::Cut, || until);
    }

    /// Whether the disk of a node is known to all others that remember anything, and stays so if they
    /// crash.
    fn is_known_to_all(&self, node: usize) -> bool {
        let knows = |station: &Station| {
            station.is_lost
                || station.has_lost_disk
                || station.host.disk.durable().peers.contains_key(&id_of(node))
        };
        let others = self.present().into_iter().filter(|&other| other != node);
        others.map(|other| &self.stations[other]).all(knows)
    }

    /// Something that was written cannot be read back: the process ends, if it runs, and the node is
    /// never started again.
    pub(in crate::sim::world) fn is_damaged(
        &mut self,
        node: usize,
        Damage(place): Damage,
        met_by: Occurrence,
    ) -> Checked {
        self.seen.add(met_by);
        self.trace.note(self.now, [22, node as u64, met_by as u64], || {
            format!("{} finds {place} damaged and is gone for good", node + 1)
        });
        let station = &mut self.stations[node];
        station.is_lost = true;
        let mut rng = station.rng.fork();
        if station.host.is_running() { self.crash(node, &mut rng) } else { Ok(()) }
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
    pub(in crate::sim::world) fn disk_fails(
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
