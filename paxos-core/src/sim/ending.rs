//! The liveness phase: the faults end, the links become what the plan says and stay so, and from
//! then on the cluster has to get everything done within a bounded number of election timeouts,
//! agree on a leader and keep it.

use std::time::Duration;

use super::{
    ledger::{Violation, ensure},
    network::Trouble,
    plan::Ending,
    topology::Links,
    world::{Checked, World},
};
use crate::{
    replica::{Role, Status},
    types::NodeId,
};

/// Election timeouts without any progress until everything that waits is done. Those in which a
/// backlog is worked off do not count.
const TIMEOUTS_MAX: u32 = 12;

/// Election timeouts for which the leader must stay once everything is done.
const TIMEOUTS_CALM: u32 = 6;

impl World<'_> {
    /// Heals what the plan says and waits until all is done; returns how many election timeouts
    /// went by without progress.
    pub(super) fn liveness_phase(&mut self) -> Result<u32, Violation> {
        self.heal()?;
        let demanded = self.demanded();
        for &node in &demanded {
            let Some(life) = self.life(node) else { continue };
            let actions = self.workload.last_wishes(life, &self.plan, &mut self.client_rng);
            self.act(node, actions)?;
        }
        let taken = self.finish(&demanded)?;
        self.stay_calm()?;
        // A message from long ago may have begun something new.
        self.finish(&demanded)?;
        for &node in &demanded {
            let host = &self.stations[node].host;
            self.history.check_final(host.id, host.machine.commands())?;
        }
        Ok(taken)
    }

    /// Waits until nothing waits at these nodes; returns how many election timeouts went by
    /// without progress.
    fn finish(&mut self, demanded: &[usize]) -> Result<u32, Violation> {
        let mut taken = 0;
        while let Some(reason) = self.unfinished(demanded) {
            ensure!(
                taken < TIMEOUTS_MAX,
                "after {taken} election timeouts without faults ({:?}): {reason}",
                self.plan.ending
            );
            let before = self.progress(demanded);
            self.run_until(self.now + self.plan.election_timeout())?;
            taken += u32::from(self.progress(demanded) == before);
        }
        Ok(taken)
    }

    /// How much has been applied, or passed over after a restart.
    fn progress(&self, demanded: &[usize]) -> u64 {
        demanded
            .iter()
            .filter_map(|&node| self.status_of(node))
            .map(|status| status.applied.0)
            .sum()
    }

    fn heal(&mut self) -> Checked {
        self.has_faults = false;
        self.has_clients = false;
        self.network.is_faulty = false;
        self.trace.note(self.now, [16, 0, 0], || format!("faults end: {:?}", self.plan.ending));
        let down = match &self.plan.ending {
            Ending::Survivors(core) => {
                (0..self.plan.nodes).filter(|node| !core.contains(node)).collect()
            }
            _ => Vec::new(),
        };
        for node in 0..self.plan.nodes {
            let station = &mut self.stations[node];
            station.disk_slowness = 1;
            station.disk_is_full = false;
            station.resume(self.now);
            station.crash_point = None;
            let is_running = station.host.is_running();
            if down.contains(&node) {
                if is_running {
                    let rng = &mut self.ending_rng.fork();
                    self.crash(node, rng)?;
                }
            } else if !is_running {
                self.start(node)?;
            }
        }
        self.set_links();
        Ok(())
    }

    fn set_links(&mut self) {
        let nodes = self.plan.nodes;
        let links = match &self.plan.ending {
            Ending::Healed => Links::all(nodes),
            Ending::Core(core) | Ending::Survivors(core) => {
                Links::of(nodes, |from, to| core.contains(&from) && core.contains(&to))
            }
            Ending::CoreAndFringe(core) => {
                let chance: Vec<_> = (0..nodes * nodes).map(|_| self.ending_rng.bool()).collect();
                Links::of(nodes, |from, to| {
                    let is_inside = core.contains(&from) && core.contains(&to);
                    is_inside || chance[from * nodes + to]
                })
            }
            Ending::Star(center) => Links::of(nodes, |from, to| from == *center || to == *center),
        };
        self.network.mend();
        self.network.trouble(&links.others(), Trouble::Cut, || Duration::MAX);
    }

    /// The nodes that have to get everything done.
    fn demanded(&self) -> Vec<usize> {
        match &self.plan.ending {
            Ending::Healed | Ending::Star(_) => (0..self.plan.nodes).collect(),
            Ending::Core(core) | Ending::Survivors(core) | Ending::CoreAndFringe(core) => {
                core.clone()
            }
        }
    }

    fn status_of(&self, node: usize) -> Option<Status> {
        let station = &self.stations[node];
        station.host.status(station.local(self.now))
    }

    /// What is not done yet, if anything.
    fn unfinished(&self, demanded: &[usize]) -> Option<String> {
        for &node in demanded {
            let Some(status) = self.status_of(node) else {
                return Some(format!("node {} is down", node + 1));
            };
            let life = self.life(node)?;
            let (commands, reads) = self.workload.open_at(life);
            if commands > 0 || reads > 0 {
                return Some(format!(
                    "{commands} commands and {reads} reads wait at node {}: {status:?}",
                    status.id
                ));
            }
            let end = self.ledger.prefix();
            let applied = self.stations[node].host.applied();
            if applied != end || status.applied != end {
                return Some(format!(
                    "node {} has applied {applied}, chosen is {end}: {status:?}",
                    status.id
                ));
            }
            let is_partial = matches!(self.plan.ending, Ending::Star(_) | Ending::CoreAndFringe(_));
            if status.leader.is_none() && !is_partial {
                return Some(format!("node {} knows no leader: {status:?}", status.id));
            }
        }
        let leaders = self.leaders();
        match leaders[..] {
            [_] => None,
            _ => Some(format!("nodes {leaders:?} lead")),
        }
    }

    /// Who leads, cut off or not, but for those that have not noticed yet that they are cut off.
    fn leaders(&self) -> Vec<NodeId> {
        (0..self.plan.nodes)
            .filter_map(|node| self.status_of(node))
            .filter(|status| status.role == Role::Leading)
            .map(|status| status.id)
            .collect()
    }

    /// Once all is done and somebody leads, that stays so.
    fn stay_calm(&mut self) -> Checked {
        let step: Duration = self.plan.election_timeout() / 2;
        let leaders = self.leaders();
        let ballot = self.ballot_of(&leaders);
        for _ in 0..2 * TIMEOUTS_CALM {
            self.run_until(self.now + step)?;
            let now = self.leaders();
            ensure!(
                now == leaders && self.ballot_of(&now) == ballot,
                "the leader changes without need, from {leaders:?} to {now:?} ({:?})",
                self.plan.ending
            );
        }
        Ok(())
    }

    fn ballot_of(&self, leaders: &[NodeId]) -> Option<crate::types::Ballot> {
        let leader = leaders.first()?;
        (0..self.plan.nodes)
            .filter_map(|node| self.status_of(node))
            .find(|status| status.id == *leader)
            .map(|status| status.ballot)
    }
}
