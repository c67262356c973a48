//! The worst time to be absent: a leader is suspended, its clock included, on an island with few
//! others; the rest elects a successor, which gets on and then crashes; and the leader goes on, in
//! touch with all but the successor, while those of its island are still cut off. It has missed
//! everything and does not know it, those who know cannot elect anybody, and those who are with it
//! know nothing else.

use std::time::Duration;

use crate::{
    replica::Role,
    sim::{
        agenda::Happening,
        network::Trouble,
        occurrence::Occurrence,
        topology::Links,
        world::{Checked, World},
    },
};

/// Nodes of which a leader and one other can be cut off while the rest goes on.
const NODES_MIN: usize = 5;

/// Election timeouts that it takes, during which no other fault strikes.
pub(super) const DURATION_TIMEOUTS: u32 = 8;

impl World<'_> {
    /// Plans all that for whoever leads; if nobody does, this node is suspended alone.
    pub(super) fn depose(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let timeout = self.plan.election_timeout();
        let some = |rng: &mut fastrand::Rng, low: f64, high: f64| {
            timeout.mul_f64(low + (high - low) * rng.f64())
        };
        let suspended_at = self.now + some(rng, 0.1, 0.6);
        let until = suspended_at + some(rng, 3.0, 6.0);
        let leader = (0..self.plan.nodes).find(|&node| self.leads(node));
        let Some(node) = leader.filter(|_| self.plan.nodes >= NODES_MIN) else {
            return self.suspend(node, until);
        };
        self.seen.add(Occurrence::Deposed);
        let others: Vec<_> = (0..self.plan.nodes).filter(|&other| other != node).collect();
        let loyal = rng.choice(others).expect("there are four at least");
        let is_inside = |end| end == node || end == loyal;
        let away = |islander: usize| {
            Links::of(self.plan.nodes, |from, to| {
                (from == islander || to == islander) && is_inside(from) != is_inside(to)
            })
        };
        let loyal_until = until + some(rng, 0.5, 2.0);
        self.network.trouble(&away(node), Trouble::Cut, || until);
        self.network.trouble(&away(loyal), Trouble::Cut, || loyal_until);
        self.agenda.plan(suspended_at, Happening::Suspend { node, until });
        let crash_at = until.saturating_sub(some(rng, 0.5, 2.0));
        let restart_at = until + some(rng, 0.5, 2.0);
        let rng = rng.fork();
        self.agenda.plan(crash_at, Happening::LeaderCrashes { spared: node, restart_at, rng });
    }

    fn leads(&self, node: usize) -> bool {
        let station = &self.stations[node];
        station.host.is_running() && station.role == Role::Leading
    }

    /// Crashes whoever leads, but for one node.
    pub(in crate::sim) fn leader_crashes(
        &mut self,
        spared: usize,
        restart_at: Duration,
        mut rng: fastrand::Rng,
    ) -> Checked {
        let leader = (0..self.plan.nodes).find(|&node| node != spared && self.leads(node));
        let Some(leader) = leader else { return Ok(()) };
        let restart = Happening::Restart { node: leader, relapses: 0, rng: rng.fork() };
        self.agenda.plan(restart_at, restart);
        self.crash(leader, &mut rng)
    }
}
