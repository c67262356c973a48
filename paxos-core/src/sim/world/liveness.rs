//! The liveness phase: a node that is connected to a quorum, and what it needs for that, is healed;
//! every other fault stays for good. From then on the cluster has to get on within a bounded number
//! of election timeouts, get everything done, agree on a leader and [keep it](super::calm).

use std::{sync::Arc, time::Duration};

use super::{Checked, World};
use crate::{
    limits,
    replica::{Role, Status},
    sim::{
        agenda::Happening,
        check::{Check, Violation, ensure},
        ending::{Ending, Remains},
        fault::Fault,
        network::{LARGE_BYTES, Trouble},
        occurrence::Occurrence,
        station::DRIFT_MAX,
        topology::Links,
        workload::Action,
    },
    types::{Ballot, NodeId, RequestId},
};

/// The check that fails here, unless it says otherwise.
const CHECK: Check = Check::Liveness;

/// Election timeouts within which something new is chosen once the faults have ended, whatever
/// they have left.
const TIMEOUTS_TO_GET_ON: u32 = 12;

/// Election timeouts in a row without any progress while something still waits to be done.
const TIMEOUTS_TO_FINISH: u32 = 12;

/// More commands than it takes until the disk of a leader that does nothing is behind.
const COMMANDS_TO_OVERLOAD_MAX: usize = 20;

/// How finely the time until something is chosen is measured, in parts of an election timeout.
const STEPS_PER_TIMEOUT: u32 = 20;

/// How long the cluster took when the faults had ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::sim) struct Recovery {
    /// Until something new was chosen, or the first command done.
    pub(in crate::sim) first: Duration,
    /// Election timeouts without progress until everything was done.
    pub(in crate::sim) idle_timeouts: u32,
}

impl World<'_> {
    /// Heals what the plan says and waits until all is done.
    pub(in crate::sim) fn liveness_phase(&mut self) -> Result<Recovery, Violation> {
        let ended = self.now;
        self.has_faults = false;
        self.has_clients = false;
        self.network.is_faulty = false;
        self.network.mend();
        let keeps_learners = self.plan.ending == Ending::Healed;
        if self.plan.has(Fault::Reconfigure) {
            let able = self.present().into_iter();
            let able: Vec<_> = able.filter(|&node| self.stations[node].may_start()).collect();
            self.heal(&able)?;
            self.settle_membership(keeps_learners)?;
        }
        let ending = self.draw_ending();
        self.plan.ending = ending.clone();
        self.seen.add(ending.occurrence());
        self.trace.note(self.now, [16, 0, 0], || format!("faults end: {ending:?}"));
        self.heal(&ending.working(&self.voters()))?;
        let leader = if ending.begins_with_leader() { self.prelude()? } else { 0 };
        let rng = &mut self.ending_rng.fork();
        let membership = Arc::clone(self.ledger.newest_membership());
        let those = (self.plan.nodes, &self.voters()[..]);
        let mut remains = Remains::of(&ending, &membership, those, leader, rng);
        remains.demanded.extend(self.learners());
        if ending == Ending::LeaderSilent {
            // What the faults have taught is forgotten.
            let spans = 2 * limits::SILENCE_SPAN_TIMEOUTS + limits::SILENCE_KNOWN_TIMEOUTS;
            self.run_until(self.now + self.plan.election_timeout() * spans)?;
        }
        if ending == Ending::ConstrainedElection {
            self.leave_behind(remains.center, leader)?;
        }
        self.leave_broken(&ending, &remains, rng)?;
        if ending == Ending::Transfer {
            self.hand_over(remains.leader, remains.center)?;
        }
        let first = match ending {
            Ending::SlowestDisks => self.be_led(&ending)?,
            _ => self.get_on(&ending, remains.center)?,
        };
        let elected = self.ballot_of(&self.leaders());
        for &node in &remains.demanded {
            self.wish(node)?;
        }
        let idle_timeouts = self.finish(&remains.demanded)?;
        // A Prepare from before the end of the faults may depose a leader, and has then arrived.
        self.run_until(self.now.max(ended + self.plan.latency_max()))?;
        self.finish(&remains.demanded)?;
        let leads = self.ballot_of(&self.leaders());
        ensure!(
            leads == elected || !matches!(ending, Ending::SlowDisks | Ending::Muffled),
            "{ending:?} costs {elected:?} the leadership, and {leads:?} leads"
        );
        self.stay_calm()?;
        // A message from long ago may have begun something new.
        self.finish(&remains.demanded)?;
        for &node in &remains.demanded {
            let host = &self.stations[node].host;
            self.history.check_final(host.id, host.machine.applied())?;
        }
        let explained = self.workload.judge(&self.calls);
        explained.map_err(|what| Violation::of(Check::Linearizability, what))?;
        Ok(Recovery { first, idle_timeouts })
    }

    /// What is left in the end: what was planned, of those who vote now and whose disks are sound.
    fn draw_ending(&mut self) -> Ending {
        let (voters, quorum, rng) = (self.voters(), self.quorum(), &mut self.ending_rng.fork());
        let mut planned = self.plan.ending.clone();
        if self.plan.has(Fault::Reconfigure) {
            planned = planned.moved_to(&voters, quorum, rng);
        }
        let sound: Vec<_> = voters.iter().copied().filter(|&node| self.is_sound(node)).collect();
        planned.among(&sound, &voters, quorum, rng)
    }

    /// These nodes run and have nothing wrong with them.
    fn heal(&mut self, working: &[usize]) -> Checked {
        for &node in working {
            let station = &mut self.stations[node];
            station.disk_slowness = 1;
            station.disk_is_full = false;
            let hangs = std::mem::replace(&mut station.disk_hangs_until, self.now) > self.now;
            if let Some(life) = station.host.incarnation().filter(|_| hangs) {
                // What it was asked for meanwhile was to end with the hanging, which ends now.
                self.agenda.plan(self.now, Happening::Written { node, life });
            }
            let sticks = std::mem::replace(&mut station.machine_sticks_until, self.now) > self.now;
            if let Some(life) = station.host.incarnation().filter(|_| sticks) {
                self.agenda.plan(self.now, Happening::Worked { node, life });
            }
            station.failing_write = None;
            station.failing_read = None;
            station.resume(self.now);
            // What it was to do once it goes on, it does now.
            (station.wake_at, station.tick_at) = (None, None);
            station.crash_point = None;
            station.crash_in_write = None;
            if !station.host.is_running() {
                self.start(node)?;
                continue;
            }
            if self.stations[node].has_clock_beyond_bound() {
                self.set_clock_rate(node, 1.0);
            }
            self.call(node)?;
            self.plan_tick(node);
        }
        Ok(())
    }

    /// Waits until all follow one leader and no message from before is under way, and says who
    /// leads. A replica takes every message for news, however old, so the time that it takes to
    /// notice what has changed counts from the last one.
    fn prelude(&mut self) -> Result<usize, Violation> {
        let all = self.voters();
        self.finish(&all)?;
        self.run_until(self.now + self.plan.latency_max())?;
        self.finish(&all)?;
        let leader = self.leaders().first().map(|id| id.0 - 1).unwrap_or_default();
        Ok(usize::try_from(leader).expect("nodes are few"))
    }

    /// Has the leader get something done that this node does not hear of.
    fn leave_behind(&mut self, node: usize, leader: usize) -> Checked {
        let links = Links::of(self.plan.nodes, |from, to| from == node || to == node);
        let end = self.now + self.plan.election_timeout() / 2;
        self.network.trouble(&links, Trouble::Cut, || end);
        self.wish(leader)?;
        self.run_until(end)
    }

    /// Cuts the links that are not to work, and leaves the nodes outside the core what is wrong
    /// with them, or more.
    fn leave_broken(
        &mut self,
        ending: &Ending,
        remains: &Remains,
        rng: &mut fastrand::Rng,
    ) -> Checked {
        self.trace.note(self.now, [18, remains.center as u64, 0], || {
            format!("links left: {}", remains.links)
        });
        let others = remains.links.others();
        match ending {
            Ending::Fringe(_) => self.fray(&others, rng),
            _ => self.network.trouble(&others, Trouble::Cut, || Duration::MAX),
        }
        match ending {
            Ending::SlowDisks | Ending::SlowestDisks => self.slow_all(ending.write_timeouts()),
            Ending::Unreached if rng.bool() => self.weigh_down(remains, Trouble::ControlOnly),
            Ending::SmallPaths | Ending::Unreached | Ending::Muffled => {
                self.weigh_down(remains, Trouble::LosesLarge(LARGE_BYTES));
            }
            Ending::HeardInVain => self.weigh_down(remains, Trouble::ControlOnly),
            Ending::LeaderDead => self.crash(remains.leader, rng)?,
            _ => {}
        }
        if *ending == Ending::Muffled
            && let Some((muffled, _)) = remains.sieves.iter().next()
        {
            self.wish(muffled)?;
        }
        for &node in &remains.hung {
            self.stations[node].disk_hangs_until = Duration::MAX;
            if *ending == Ending::Overload {
                self.overload(node)?;
            }
        }
        let voters = self.voters();
        let working = ending.working(&voters);
        for node in voters.into_iter().filter(|node| !working.contains(node)) {
            self.seen.add(Occurrence::LeftBroken);
            let is_running = self.stations[node].host.is_running();
            let is_down = matches!(ending, Ending::Survivors(_)) || rng.u8(..6) == 0;
            if is_running && is_down {
                self.crash(node, rng)?;
            } else if is_running {
                self.break_for_good(node, rng);
            }
        }
        Ok(())
    }

    /// From now on every write takes up to so many election timeouts, as the fastest clock has it.
    fn slow_all(&mut self, timeouts: u32) {
        let longest = (self.plan.election_timeout() * timeouts).mul_f64(1.0 - DRIFT_MAX);
        let slowness = self.plan.disk_slowness(longest);
        self.stations.iter_mut().for_each(|station| station.disk_slowness = slowness);
    }

    /// The links that do not let everything pass are in this trouble.
    fn weigh_down(&mut self, remains: &Remains, trouble: Trouble) {
        self.network.trouble(&remains.sieves, trouble, || Duration::MAX);
    }

    /// Gives a node, whose disk does nothing, more to write than may wait for that.
    fn overload(&mut self, node: usize) -> Checked {
        for _ in 0..COMMANDS_TO_OVERLOAD_MAX {
            if self.status_of(node).is_some_and(|status| status.is_disk_behind) {
                break;
            }
            self.wish(node)?;
            self.run_until(self.now + self.plan.election_timeout() / STEPS_PER_TIMEOUT)?;
        }
        Ok(())
    }

    /// Each of these links works, loses messages, is slow, or does not work.
    fn fray(&mut self, links: &Links, rng: &mut fastrand::Rng) {
        for link in links.iter() {
            let trouble = match rng.u8(..6) {
                0 | 1 => continue,
                2 | 3 => Trouble::Cut,
                4 => Trouble::Flaky(0.9 * rng.f64()),
                _ => Trouble::Slow(self.plan.election_timeout().mul_f64(0.5 * rng.f64())),
            };
            let link = Links::of(self.plan.nodes, |from, to| (from, to) == link);
            self.network.trouble(&link, trouble, || Duration::MAX);
        }
    }

    /// What is wrong with a node stays so; what is not may become so.
    fn break_for_good(&mut self, node: usize, rng: &mut fastrand::Rng) {
        let station = &mut self.stations[node];
        let is_paused = station.is_paused(self.now);
        match rng.u8(..6) {
            0 => station.pause(self.now, Duration::MAX, rng.bool()),
            _ if is_paused => station.pause(self.now, Duration::MAX, rng.bool()),
            _ if station.disk_hangs_until > self.now => station.disk_hangs_until = Duration::MAX,
            1 => station.disk_is_full = true,
            2 => station.disk_hangs_until = Duration::MAX,
            3 => self.set_clock_rate(node, (2.0 * rng.f64() - 1.0).exp2()),
            _ => {}
        }
    }

    /// A command and a read at a node, which the end of the run waits for; returns the id of the
    /// command.
    pub(super) fn wish(&mut self, node: usize) -> Result<Option<RequestId>, Violation> {
        let Some(life) = self.life(node) else { return Ok(None) };
        let actions = self.workload.last_wishes(life, &self.plan, &mut self.client_rng);
        let id = actions.iter().find_map(|action| match action {
            Action::Propose(requests) => requests.first().map(|(id, ..)| *id),
            _ => None,
        });
        self.act(node, actions)?;
        Ok(id)
    }

    /// A node that is connected to a quorum wants something done: waits until it is, or, if the
    /// faults have left a backlog, until something new is chosen; returns how long that took.
    fn get_on(&mut self, ending: &Ending, center: usize) -> Result<Duration, Violation> {
        let has_backlog = !ending.begins_with_leader();
        let time_max = self.time_to_recover(ending);
        let (began, end) = (self.now, self.ledger.prefix());
        let mut wish = self.wish(center)?;
        let step = self.plan.election_timeout() / STEPS_PER_TIMEOUT;
        let mut idle = Duration::ZERO;
        while idle < time_max {
            let life = self.life(center);
            let waits = life.zip(wish).is_some_and(|(life, id)| self.workload.is_new(life, id));
            if if has_backlog { self.ledger.prefix() > end } else { !waits } {
                return Ok(self.now - began);
            }
            if !waits {
                // Refused: too much waits, or nobody has told the node yet that its disk has room.
                wish = self.wish(center)?;
            }
            let before = self.progress(&[center]);
            self.run_until(self.now + step)?;
            // With a backlog, what counts is that it shrinks.
            if !has_backlog || self.progress(&[center]) == before {
                idle += step;
            }
        }
        Err(Violation::of(
            CHECK,
            format!(
                "{time_max:?} after the end of the faults ({ending:?}), with an election timeout of {:?}, nothing \
                 is done for node {}, which is connected to a quorum: {:?}",
                self.plan.election_timeout(),
                center + 1,
                self.status_of(center)
            ),
        ))
    }

    /// How long it may take until something is done.
    fn time_to_recover(&self, ending: &Ending) -> Duration {
        let timeout = self.plan.election_timeout();
        let time = ending.time_to_recover(timeout, self.plan.heartbeat_interval());
        time.unwrap_or(TIMEOUTS_TO_GET_ON * timeout)
    }

    /// Waits until somebody leads, although every disk counts as one that hangs; then the disks recover.
    fn be_led(&mut self, ending: &Ending) -> Result<Duration, Violation> {
        let time_max = self.time_to_recover(ending);
        let began = self.now;
        self.run_until(began + self.plan.election_timeout() * 2)?;
        while self.leaders().is_empty() {
            ensure!(
                self.now < began + time_max,
                "{time_max:?} after its leader has gone the cluster has no other"
            );
            self.run_until(self.now + self.plan.election_timeout() / STEPS_PER_TIMEOUT)?;
        }
        let first = self.now - began;
        self.stations.iter_mut().for_each(|station| station.disk_slowness = 1);
        Ok(first)
    }

    /// Waits until nothing waits at these nodes; returns how many election timeouts in a row went by
    /// without progress, at most.
    fn finish(&mut self, demanded: &[usize]) -> Result<u32, Violation> {
        let (mut idle, mut longest) = (0, 0);
        while let Some(reason) = self.unfinished(demanded) {
            ensure!(
                idle < TIMEOUTS_TO_FINISH * self.plan.ending.write_timeouts(),
                "{idle} election timeouts in a row without faults or progress ({:?}): {reason}",
                self.plan.ending
            );
            let before = self.progress(demanded);
            self.run_until(self.now + self.plan.election_timeout())?;
            idle = if self.progress(demanded) == before { idle + 1 } else { 0 };
            longest = longest.max(idle);
        }
        Ok(longest)
    }

    /// How much has been applied, or passed over after a restart.
    fn progress(&self, demanded: &[usize]) -> u64 {
        demanded
            .iter()
            .filter_map(|&node| self.status_of(node))
            .map(|status| status.applied.0)
            .sum()
    }

    pub(super) fn status_of(&self, node: usize) -> Option<Status> {
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
            let is_partial = !matches!(
                self.plan.ending,
                Ending::Healed | Ending::Transfer | Ending::Core(_) | Ending::Survivors(_)
            );
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
    pub(super) fn leaders(&self) -> Vec<NodeId> {
        (0..self.plan.nodes)
            .filter(|&node| self.stations[node].paused_until <= self.now)
            .filter_map(|node| self.status_of(node))
            .filter(|status| status.role == Role::Leading)
            .map(|status| status.id)
            .collect()
    }

    pub(super) fn ballot_of(&self, leaders: &[NodeId]) -> Option<Ballot> {
        let leader = leaders.first()?;
        (0..self.plan.nodes)
            .filter_map(|node| self.status_of(node))
            .find(|status| status.id == *leader)
            .map(|status| status.ballot)
    }
}
