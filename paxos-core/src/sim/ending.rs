//! What is left of the cluster in the liveness phase.

use std::time::Duration;

use super::{occurrence::Occurrence, station::DRIFT_MAX, topology::Links};
use crate::{
    limits,
    types::{Membership, Phase},
};

/// Election timeouts within which a node that is connected to a quorum has its command done when a
/// leader that all follow loses its links (Ng, Haridi & Carbone, EuroSys 2023).
const TIMEOUTS_TO_RECOVER: u32 = 4;

/// Election timeouts until a command goes again and enough others have it, one more each time, of those that there
/// are at most.
const TIMEOUTS_TO_OFFER: u32 = 3;

/// Election timeouts that a write takes at most where candidates have to learn by failing how patient they
/// have to be.
const SLOWEST_TIMEOUTS: u32 = 8 * limits::DISK_SILENT_TIMEOUTS;

/// Writes of the longest that it takes, beside the election timeouts to notice that nobody leads: until a
/// command is done where all disks are slow, and until somebody is elected where they are as slow as can be,
/// by candidates that fail at first.
const WRITES_TO_RECOVER: u32 = 4;
const WRITES_TO_BE_LED: u32 = 14;

/// As many nodes as a quorum of either phase takes.
pub(super) fn quorum(membership: &Membership) -> usize {
    membership.quorum_size(Phase::One).max(membership.quorum_size(Phase::Two))
}

/// What is left of the cluster in the liveness phase. The cases of Ng, Haridi & Carbone (EuroSys
/// 2023) begin with a leader that all follow; the others with whatever the faults have left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Everything works.
    Healed,
    /// A quorum of nodes works; the others are cut off.
    Core(Vec<usize>),
    /// A quorum of nodes works; the others are down.
    Survivors(Vec<usize>),
    /// A quorum of nodes works; each of the others and of their links has a fault of its own, or
    /// none.
    Fringe(Vec<usize>),
    /// Only one node is connected to the others.
    Star(usize),
    /// As `Star`, around a node that follows: the leader loses its quorum, and only the node in
    /// the middle can lead.
    QuorumLoss,
    /// The leader is cut off, and only a node that has missed the last commands reaches a quorum.
    ConstrainedElection,
    /// The nodes form a chain, with the leader anywhere in it.
    Chained,
    /// The leader hears the others and is not heard, or the other way round.
    OneWay,
    /// Everything works but the way from one node to another, which may be the leader.
    HalfLink,
    /// The leader hears a quorum, too few of which have a disk that does anything, while a quorum
    /// whose disks work is connected, and not all of it to the leader.
    HungDisks,
    /// The leader's disk does nothing, and so much waits for it that the leader takes no more work.
    Overload,
    /// The leader is cut off, and each write of the others takes up to two election timeouts.
    SlowDisks,
    /// As above, and takes so long for a while that every disk counts as one that hangs.
    SlowestDisks,
    /// Everything works, and the leader is asked to hand over.
    Transfer,
    /// Of what the leader says, only what is small arrives.
    SmallPaths,
    /// Of what the leader says, only what is urgent arrives: it is heard, and gets nothing through.
    HeardInVain,
    /// The leader's process ends, and the others are told.
    LeaderDead,
    /// The leader is cut off after it has been heard for long without a fault.
    LeaderSilent,
    /// Of what is said to the leader, only what is small arrives, or only what is urgent: it hears the others,
    /// and does not get their commands.
    Unreached,
    /// Of what one that follows says, only what is small arrives, anywhere: nobody can lead who gets its
    /// commands.
    Muffled,
}

impl Ending {
    /// One that leaves some node connected to a quorum.
    pub(super) fn draw(rng: &mut fastrand::Rng, membership: &Membership, nodes: usize) -> Ending {
        let quorum = quorum(membership);
        let mut core: Vec<_> = (0..nodes).collect();
        rng.shuffle(&mut core);
        let center = core[0];
        core.truncate(rng.usize(quorum..=nodes));
        core.sort_unstable();
        match rng.u8(..23) {
            0 => Ending::Core(core),
            1 => Ending::Survivors(core),
            2..=4 => Ending::Fringe(core),
            5 => Ending::Star(center),
            6 if nodes > 2 => Ending::QuorumLoss,
            7 if nodes > 2 && quorum < nodes => Ending::ConstrainedElection,
            8 if nodes > 2 && quorum <= 3 => Ending::Chained,
            9 if nodes > 2 && quorum < nodes => Ending::OneWay,
            10 if nodes > 2 => Ending::HalfLink,
            11 if nodes > 2 && quorum < nodes => Ending::HungDisks,
            12 if nodes > 2 && quorum < nodes => Ending::Overload,
            13 if nodes > 2 && quorum < nodes => Ending::SlowDisks,
            14 if nodes > 2 && quorum < nodes => Ending::SlowestDisks,
            15 if nodes > 2 && quorum < nodes => Ending::SmallPaths,
            16 if nodes > 2 && quorum < nodes => Ending::HeardInVain,
            17 if nodes > 2 && quorum < nodes => Ending::LeaderDead,
            18 if nodes > 2 && quorum < nodes => Ending::LeaderSilent,
            19 if nodes > 2 && quorum < nodes => Ending::Unreached,
            20 if nodes > 2 => Ending::Muffled,
            21 if nodes > 1 => Ending::Transfer,
            _ => Ending::Healed,
        }
    }

    /// The same of a cluster of other `voters`, or one that those can have.
    pub(super) fn moved_to(
        self,
        voters: &[usize],
        quorum: usize,
        rng: &mut fastrand::Rng,
    ) -> Ending {
        let mut core = voters.to_vec();
        rng.shuffle(&mut core);
        let center = core[0];
        core.truncate(rng.usize(quorum..=core.len()));
        core.sort_unstable();
        let (has_others, may_lose) = (voters.len() > 2, quorum < voters.len());
        match self {
            Ending::Core(_) => Ending::Core(core),
            Ending::Survivors(_) => Ending::Survivors(core),
            Ending::Fringe(_) => Ending::Fringe(core),
            Ending::Star(_) => Ending::Star(center),
            Ending::QuorumLoss | Ending::HalfLink if has_others => self,
            Ending::Chained if has_others && quorum <= 3 => self,
            Ending::Chained | Ending::QuorumLoss | Ending::HalfLink => Ending::Healed,
            Ending::Transfer if voters.len() > 1 => self,
            _ if has_others && may_lose => self,
            _ => Ending::Healed,
        }
    }

    /// The same, or another one that counts on none but these nodes, of which there is a quorum.
    pub(super) fn among(
        self,
        sound: &[usize],
        members: &[usize],
        quorum: usize,
        rng: &mut fastrand::Rng,
    ) -> Ending {
        if self.working(members).iter().all(|node| sound.contains(node)) {
            return self;
        }
        let mut core = sound.to_vec();
        rng.shuffle(&mut core);
        core.truncate(rng.usize(quorum..=core.len()));
        core.sort_unstable();
        match rng.u8(..4) {
            0 => Ending::Core(core),
            1 => Ending::Survivors(core),
            _ => Ending::Fringe(core),
        }
    }

    /// What counts it.
    pub(super) fn occurrence(&self) -> Occurrence {
        match self {
            Ending::Healed => Occurrence::EndedHealed,
            Ending::Core(_) => Occurrence::EndedWithCore,
            Ending::Survivors(_) => Occurrence::EndedWithSurvivors,
            Ending::Fringe(_) => Occurrence::EndedWithFringe,
            Ending::Star(_) => Occurrence::EndedAsStar,
            Ending::QuorumLoss => Occurrence::EndedInQuorumLoss,
            Ending::ConstrainedElection => Occurrence::EndedInConstrainedElection,
            Ending::Chained => Occurrence::EndedChained,
            Ending::OneWay => Occurrence::EndedOneWay,
            Ending::HalfLink => Occurrence::EndedWithHalfLink,
            Ending::HungDisks => Occurrence::EndedWithHungDisks,
            Ending::Overload => Occurrence::EndedOverloaded,
            Ending::SlowDisks => Occurrence::EndedWithSlowDisks,
            Ending::SlowestDisks => Occurrence::EndedWithSlowestDisks,
            Ending::Transfer => Occurrence::EndedWithTransfer,
            Ending::SmallPaths => Occurrence::EndedWithSmallPaths,
            Ending::HeardInVain => Occurrence::EndedHeardInVain,
            Ending::Unreached => Occurrence::EndedUnreached,
            Ending::Muffled => Occurrence::EndedMuffled,
            Ending::LeaderDead => Occurrence::EndedWithLeaderDead,
            Ending::LeaderSilent => Occurrence::EndedWithLeaderSilent,
        }
    }

    /// Whether it is one of those that begin with a leader that all follow.
    pub(super) fn begins_with_leader(&self) -> bool {
        self.time_to_recover(Duration::ZERO, Duration::ZERO).is_some()
    }

    /// If it is one of those that begin with a leader that all follow: how long it takes a node that is
    /// connected to a quorum to have its command done, at most, with this election timeout and heartbeat
    /// interval.
    pub(super) fn time_to_recover(
        &self,
        timeout: Duration,
        heartbeat: Duration,
    ) -> Option<Duration> {
        let timeouts = match self {
            // Well before its silence tells anything.
            Ending::LeaderDead => return Some(timeout / 2),
            // A third more than the least that silence is, by the slowest clock, and what an election takes.
            Ending::LeaderSilent => {
                let silence = heartbeat * limits::SILENCE_HEARTBEATS * 4 / 3;
                return Some(silence.mul_f64(1.0 + 2.0 * DRIFT_MAX) + timeout / 3);
            }
            Ending::QuorumLoss
            | Ending::ConstrainedElection
            | Ending::Chained
            | Ending::OneWay
            | Ending::Muffled
            | Ending::Transfer => Some(TIMEOUTS_TO_RECOVER),
            // That a disk hangs is known by its silence alone.
            Ending::HungDisks => Some(limits::DISK_SILENT_TIMEOUTS + TIMEOUTS_TO_RECOVER),
            Ending::Overload => Some(limits::DISK_BEHIND_TIMEOUTS + 1 + TIMEOUTS_TO_RECOVER),
            Ending::SlowDisks => {
                Some(TIMEOUTS_TO_RECOVER + WRITES_TO_RECOVER * self.write_timeouts())
            }
            Ending::SlowestDisks => {
                Some(TIMEOUTS_TO_RECOVER + WRITES_TO_BE_LED * self.write_timeouts())
            }
            Ending::SmallPaths | Ending::HeardInVain => {
                Some(limits::STALL_TIMEOUTS + TIMEOUTS_TO_RECOVER)
            }
            Ending::Unreached => {
                Some(TIMEOUTS_TO_OFFER + limits::UNREACHED_TIMEOUTS + TIMEOUTS_TO_RECOVER)
            }
            _ => None,
        };
        timeouts.map(|timeouts| timeouts * timeout)
    }

    /// How many election timeouts a write takes at most, rounded up.
    pub(super) fn write_timeouts(&self) -> u32 {
        match self {
            Ending::SlowDisks => limits::DISK_SILENT_TIMEOUTS,
            Ending::SlowestDisks => SLOWEST_TIMEOUTS,
            _ => 1,
        }
    }

    /// Those of the members that work.
    pub(super) fn working(&self, members: &[usize]) -> Vec<usize> {
        match self {
            Ending::Core(core) | Ending::Survivors(core) | Ending::Fringe(core) => core.clone(),
            _ => members.to_vec(),
        }
    }
}

/// Who has to get on, and over which links.
#[derive(Clone, Debug)]
pub(super) struct Remains {
    /// The links that work.
    pub(super) links: Links,
    /// Who leads, if it is an ending that begins with a leader.
    pub(super) leader: usize,
    /// A node that is connected to a quorum, and has to have its command done in time.
    pub(super) center: usize,
    /// The nodes that have to get everything done.
    pub(super) demanded: Vec<usize>,
    /// The nodes whose disks do nothing any more.
    pub(super) hung: Vec<usize>,
    /// The links that lose what is large, or what is not urgent.
    pub(super) sieves: Links,
}

impl Remains {
    /// What an ending leaves of the `members`, out of so many `nodes`, that `leader` leads, if it is one with a
    /// leader.
    pub(super) fn of(
        ending: &Ending,
        membership: &Membership,
        (nodes, members): (usize, &[usize]),
        leader: usize,
        rng: &mut fastrand::Rng,
    ) -> Remains {
        let mut order = members.to_vec();
        rng.shuffle(&mut order);
        let all = members.to_vec();
        let but_leader: Vec<_> = members.iter().copied().filter(|&node| node != leader).collect();
        let follower = *order.iter().find(|&&node| node != leader).unwrap_or(&leader);
        let muffled =
            *order.iter().rfind(|&&node| node != leader && node != follower).unwrap_or(&leader);
        let star = |center: usize| Links::of(nodes, move |from, to| from == center || to == center);
        let (links, center, demanded) = match ending {
            Ending::HalfLink => {
                let is_left = |from, to| (from, to) != (order[0], order[1]);
                (Links::of(nodes, is_left), order[2], all)
            }
            Ending::Healed => (Links::all(nodes), order[0], all),
            Ending::Core(core) | Ending::Survivors(core) | Ending::Fringe(core) => {
                let inside = |from, to| core.contains(&from) && core.contains(&to);
                (Links::of(nodes, inside), core[rng.usize(..core.len())], core.clone())
            }
            Ending::Star(center) => (star(*center), *center, all),
            Ending::QuorumLoss => (star(follower), follower, all),
            Ending::ConstrainedElection => {
                let is_left = |from, to| {
                    (from == follower || to == follower) && from != leader && to != leader
                };
                (Links::of(nodes, is_left), follower, but_leader)
            }
            Ending::Chained => {
                let links = Links::chain(nodes, &order);
                // Of a longer chain, the ends may be more than one node away from the leader.
                let middle = order[order.len() / 2];
                (links, middle, if order.len() == 3 { all } else { vec![middle] })
            }
            Ending::OneWay => {
                let is_heard = rng.bool();
                let is_left = |from, to| leader != if is_heard { to } else { from };
                (Links::of(nodes, is_left), follower, but_leader)
            }
            Ending::Overload
            | Ending::SmallPaths
            | Ending::HeardInVain
            | Ending::Unreached
            | Ending::LeaderDead => (Links::all(nodes), follower, but_leader),
            Ending::Muffled => {
                let but_muffled = members.iter().copied().filter(|&node| node != muffled);
                (Links::all(nodes), follower, but_muffled.collect())
            }
            Ending::Transfer => (Links::all(nodes), follower, all),
            Ending::SlowDisks | Ending::SlowestDisks | Ending::LeaderSilent => {
                let is_left = |from, to| from != leader && to != leader;
                (Links::of(nodes, is_left), follower, but_leader)
            }
            Ending::HungDisks => {
                return Remains::with_hung_disks(membership, (nodes, members), leader, rng);
            }
        };
        let hung = if *ending == Ending::Overload { vec![leader] } else { Vec::new() };
        let sieves = Links::of(nodes, |from, to| match ending {
            Ending::SmallPaths | Ending::HeardInVain => from == leader,
            Ending::Unreached => to == leader,
            Ending::Muffled => from == muffled,
            _ => false,
        });
        Remains { links, leader, center, demanded, hung, sieves }
    }

    /// What leaves the leader as many that answer as it needs, fewer of which can write, itself
    /// included.
    fn with_hung_disks(
        membership: &Membership,
        (nodes, members): (usize, &[usize]),
        leader: usize,
        rng: &mut fastrand::Rng,
    ) -> Remains {
        let mut writers: Vec<_> = members.iter().copied().filter(|&node| node != leader).collect();
        rng.shuffle(&mut writers);
        let mut hung = writers.split_off(quorum(membership));
        let needed = membership.quorum_size(Phase::Two);
        let leader_hangs = hung.is_empty() || needed == 1 || rng.bool();
        let heard_min = (needed - 1).saturating_sub(hung.len());
        let heard_max = if leader_hangs { needed - 1 } else { needed - 2 };
        let unheard = &writers[rng.usize(heard_min..=heard_max)..];
        if leader_hangs {
            hung.push(leader);
        }
        let is_left = |from, to| {
            !(from == leader && unheard.contains(&to) || to == leader && unheard.contains(&from))
        };
        let links = Links::of(nodes, is_left);
        Remains {
            links,
            leader,
            center: writers[rng.usize(..writers.len())],
            demanded: writers,
            hung,
            sieves: Links::of(nodes, |_, _| false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_counts_on_sound_nodes_alone() {
        let rng = &mut fastrand::Rng::with_seed(1);
        let kept = Ending::Fringe(vec![0, 2, 3]);
        let all = [0, 1, 2, 3, 4];
        assert_eq!(kept.clone().among(&[0, 2, 3], &all, 3, rng), kept);
        for planned in [Ending::Healed, Ending::Chained, Ending::Star(1), Ending::Core(vec![1, 2])]
        {
            for _ in 0..20 {
                let working = planned.clone().among(&[0, 2, 3, 4], &all, 3, rng).working(&all);
                assert!(working.len() >= 3 && !working.contains(&1), "{working:?}");
            }
        }
    }
}
