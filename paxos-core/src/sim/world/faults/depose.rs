//! The worst time to be absent: a leader is suspended, its clock included, on an island with few
//! others; the rest elects a successor, which gets on and then crashes; and the leader goes on, in
//! touch with all but the successor, while those of its island are still cut off. It has missed
//! everything and does not know it, those who know cannot elect anybody, and those who are with it
//! know nothing else.
//!
//! What the leader proposed last has reached its island alone, and the successor has chosen something
//! else in its place. While it is away those who know ask for it, and clients for what is true now; or
//! nobody asks it anything, so that it has no reason to ask whether it still leads.
//!
//! Or the successor crashes with the first thing that it does, so that nobody knows whether that is
//! chosen, while the island holds an older proposal for the same slot.

use std::time::Duration;

use crate::{
    replica::Role,
    sim::{
        agenda::Happening,
        mishap::CrashPoint,
        network::Trouble,
        occurrence::Occurrence,
        topology::Links,
        workload::PATIENCE,
        world::{Checked, World, strikes::Doom},
    },
};

/// A leader and one other have to be on the island.
const ISLANDERS_MIN: usize = 2;

/// Election timeouts that it takes, during which no other fault strikes.
pub(super) const DURATION_TIMEOUTS: u32 = 10;

/// When what happens.
struct Schedule {
    suspended_at: Duration,
    successor_crashes_at: Duration,
    /// Whoever polls from then on is heard by the old leader when it goes on.
    mended_at: Duration,
    resumed_at: Duration,
    island_mended_at: Duration,
    successor_restarts_at: Duration,
}

impl Schedule {
    fn draw(now: Duration, timeout: Duration, rng: &mut fastrand::Rng) -> Schedule {
        let mut after = |before: Duration, low: f64, high: f64| {
            before + timeout.mul_f64(low + (high - low) * rng.f64())
        };
        let suspended_at = after(now, 0.0, 0.5);
        let successor_crashes_at = after(suspended_at, 2.5, 4.5);
        let mended_at = after(successor_crashes_at, 0.1, 0.3);
        let resumed_at = after(mended_at, 1.0, 2.7);
        Schedule {
            suspended_at,
            successor_crashes_at,
            mended_at,
            resumed_at,
            island_mended_at: after(resumed_at, 0.5, 2.0),
            successor_restarts_at: after(resumed_at, 0.5, 2.0),
        }
    }
}

impl World<'_> {
    /// Plans all that for whoever leads; if nobody does, or no more than a quorum there is, this
    /// node is suspended alone.
    pub(super) fn depose(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        let mut at = Schedule::draw(self.now, self.plan.election_timeout(), rng);
        if rng.bool() {
            // Before it can notice that nobody answers.
            at.suspended_at = self.now;
        }
        let leader = (0..self.plan.nodes).find(|&node| self.leads(node));
        let voters = self.voters();
        let islanders = voters.len() - self.quorum();
        let Some(node) = leader.filter(|_| islanders >= ISLANDERS_MIN) else {
            self.suspend(node, at.resumed_at);
            return Ok(());
        };
        let mut others: Vec<_> = voters.into_iter().filter(|&other| other != node).collect();
        rng.shuffle(&mut others);
        let (loyal, rest) = others.split_at(islanders - 1);
        let across = |islanders: &[usize]| {
            Links::of(self.plan.nodes, |from, to| {
                islanders.contains(&from) && rest.contains(&to)
                    || islanders.contains(&to) && rest.contains(&from)
            })
        };
        self.network.trouble(&across(&[node]), Trouble::Cut, || at.mended_at);
        self.network.trouble(&across(loyal), Trouble::Cut, || at.island_mended_at);
        for &asked in [node].iter().chain(rest) {
            let Some(life) = self.life(asked) else { continue };
            let proposal = self.workload.propose(life, 1, PATIENCE, &self.plan, rng);
            self.act(asked, vec![proposal])?;
        }
        self.agenda.plan(at.suspended_at, Happening::Suspend { node, until: at.resumed_at });
        if rng.bool() {
            self.stations[node].shunned_until = at.resumed_at + self.plan.election_timeout() / 2;
        } else {
            self.agenda.plan(at.mended_at, Happening::Read { node });
        }
        let is_soon = rng.u8(..3) == 0;
        let (restart_at, rng) = (at.successor_restarts_at, rng.fork());
        if is_soon {
            self.strikes.doom = Some(Doom { spared: node, rng });
        } else {
            let crash = Happening::LeaderCrashes { spared: node, restart_at, rng };
            self.agenda.plan(at.successor_crashes_at, crash);
        }
        Ok(())
    }

    /// A node has become leader: if it is the one that is to crash soon, it does so within one of its
    /// next steps.
    pub(in crate::sim::world) fn strike_new_leader(&mut self, node: usize) {
        if let Some(doom) = self.strikes.doom.take_if(|doom| doom.spared != node) {
            self.seen.add(Occurrence::Deposed);
            let mut rng = doom.rng;
            let at = CrashPoint { steps: rng.u32(..6), rng };
            self.stations[node].crash_point = Some(at);
        }
    }

    fn leads(&self, node: usize) -> bool {
        let station = &self.stations[node];
        station.host.is_running() && station.role == Role::Leading
    }

    /// Crashes whoever leads, but for one node.
    pub(in crate::sim::world) fn leader_crashes(
        &mut self,
        spared: usize,
        restart_at: Duration,
        mut rng: fastrand::Rng,
    ) -> Checked {
        let leader = (0..self.plan.nodes).find(|&node| node != spared && self.leads(node));
        let Some(leader) = leader else { return Ok(()) };
        self.seen.add(Occurrence::Deposed);
        let restart = Happening::Restart { node: leader, relapses: 0, rng: rng.fork() };
        self.agenda.plan(restart_at, restart);
        self.crash(leader, &mut rng)
    }
}
