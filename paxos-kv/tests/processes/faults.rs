//! Which faults there are, and when they happen: a pure function of the seed.
//!
//! Faults of the network and faults of processes come on two tracks, so that they overlap. On each
//! track a deck with every kind is dealt to its end, in an order of the seed, before it is
//! shuffled again: none is forgotten in a short run.

use std::{fmt, time::Duration};

use clap::ValueEnum;
use fastrand::Rng;

use super::{
    hosts::Lost,
    network::{Pair, pairs},
    options::{Setup, Transport},
};

/// Names of what can be counted of the effects of faults.
pub(crate) mod effect {
    pub(crate) const STOPPED_BY_CUT: &str = "packets stopped by a cut";
    pub(crate) const DELAYED: &str = "packets delayed";
    pub(crate) const LOST: &str = "packets lost";
    pub(crate) const DUPLICATED: &str = "packets duplicated";
    pub(crate) const OVERTAKEN: &str = "packets overtaken";
    pub(crate) const THROTTLED: &str = "packets throttled";
    pub(crate) const SEVERED: &str = "connections severed";
    pub(crate) const DROPPED_FOR_SIZE: &str = "packets dropped by size";
    pub(crate) const DROPPED_IN_SILENCE: &str = "packets dropped in silence";
    pub(crate) const DISKS_FOUND_FULL: &str = "disks found full";
    pub(crate) const TABLES_WAITED: &str = "tables waited for room";
    pub(crate) const ENDED_WITHOUT_ROOM: &str = "servers ended without room";
    pub(crate) const LINES_DROPPED: &str = "gaps in logs without room";
    pub(crate) const CLIENTS_WAITED: &str = "crowds that had to wait";
    pub(crate) const ANSWERED_BESIDE: &str = "reads answered beside cancelled requests";
}

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Fault {
    /// One link is cut, in one direction.
    CutOneWay,
    /// A server hears everybody and is heard by nobody.
    CutMute,
    /// A server is heard by everybody and hears nobody.
    CutDeaf,
    /// A server is cut off in both directions.
    CutIsland,
    /// Two groups that do not reach each other.
    CutHalves,
    /// All reach one server and nobody else.
    CutHub,
    /// Each reaches its neighbours in a row.
    CutChain,
    /// Each reaches the next one in a circle, in one direction.
    CutRing,
    /// Any set of links.
    CutAny,
    /// Packets are late.
    Delay,
    /// Packets get lost.
    Loss,
    /// Packets arrive twice.
    Duplication,
    /// Packets overtake each other.
    Reordering,
    /// The links are narrow.
    Bandwidth,
    /// Connections are reset.
    Sever,
    /// What is large is dropped on the way to a server, from it, or both, by the network itself.
    DropLarge,
    /// Everything from a server, or everything to it, is dropped in silence.
    DropOneWay,
    /// Everything from a server and to it is dropped in silence.
    DropAll,
    /// A server is cut off in silence, and the others reach only one of them, which has missed something.
    DropConstrained,
    /// One process is killed, and started again later.
    KillOne,
    /// A majority is.
    KillMajority,
    /// All are, at the same time.
    KillAll,
    /// One process is stopped, and goes on later.
    FreezeOne,
    /// A majority is.
    FreezeMajority,
    /// One process is stopped, and killed before it can go on.
    FreezeAndKill,
    /// One disk is full for a while.
    FillDisk,
    /// A majority of the disks is full for a while.
    FillDisks,
    /// A process is killed while its disk is full.
    FillAndKill,
    /// The disk that all servers log to is full, and there is much to log.
    FillLog,
    /// Clients come in numbers and say nothing.
    SilentClients,
    /// Clients take every place there is, and a process that is killed has to come back all the same.
    CrowdAndKill,
    /// Clients take back almost everything that they ask for.
    CancellingClients,
}

use Fault::*;

/// Faults of the network.
const NETWORK: [Fault; 19] = [
    CutOneWay,
    CutMute,
    CutDeaf,
    CutIsland,
    CutHalves,
    CutHub,
    CutChain,
    CutRing,
    CutAny,
    Delay,
    Loss,
    Duplication,
    Reordering,
    Bandwidth,
    Sever,
    DropLarge,
    DropOneWay,
    DropAll,
    DropConstrained,
];

/// Faults of processes and their disks.
const PROCESS: [Fault; 13] = [
    KillOne,
    KillMajority,
    KillAll,
    FreezeOne,
    FreezeMajority,
    FreezeAndKill,
    FillDisk,
    FillDisks,
    FillAndKill,
    FillLog,
    SilentClients,
    CrowdAndKill,
    CancellingClients,
];

impl Fault {
    /// Whether it can happen in such a cluster.
    fn is_possible(self, setup: &Setup) -> bool {
        if !setup.only.is_empty() && !setup.only.contains(&self) {
            return false;
        }
        match self {
            Duplication | Reordering => setup.transport == Transport::Quic,
            Sever => setup.transport == Transport::Tcp,
            FillDisk | FillDisks | FillAndKill | FillLog => setup.small_disks,
            DropLarge | DropOneWay | DropAll | DropConstrained => setup.packet_filter,
            _ => true,
        }
    }

    /// As on the command line.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value().expect("no fault is left out");
        value.get_name().to_owned()
    }

    /// Whether it is one of links, not of processes and their disks.
    pub(crate) fn is_of_network(self) -> bool {
        NETWORK.contains(&self)
    }

    /// By what it is known to have done something. A signal that was sent to a process leaves
    /// nothing to be counted.
    pub(crate) fn effects(self) -> &'static [&'static str] {
        match self {
            CutOneWay | CutMute | CutDeaf | CutIsland | CutHalves | CutHub | CutChain | CutRing
            | CutAny => &[effect::STOPPED_BY_CUT],
            Delay => &[effect::DELAYED],
            Loss => &[effect::LOST],
            Duplication => &[effect::DUPLICATED],
            Reordering => &[effect::OVERTAKEN],
            Bandwidth => &[effect::THROTTLED],
            Sever => &[effect::SEVERED],
            DropLarge => &[effect::DROPPED_FOR_SIZE],
            DropOneWay | DropAll | DropConstrained => &[effect::DROPPED_IN_SILENCE],
            FillDisk | FillDisks => &[effect::DISKS_FOUND_FULL],
            FillAndKill => &[effect::DISKS_FOUND_FULL, effect::ENDED_WITHOUT_ROOM],
            FillLog => &[effect::LINES_DROPPED],
            CrowdAndKill => &[effect::CLIENTS_WAITED],
            CancellingClients => &[effect::ANSWERED_BESIDE],
            KillOne | KillMajority | KillAll | FreezeOne | FreezeMajority | FreezeAndKill
            | SilentClients => &[],
        }
    }

    /// How long it lasts, compared with others: what is noticed by silence alone takes longer.
    fn weight(self) -> u32 {
        match self {
            DropAll => 3,
            DropLarge | DropOneWay | DropConstrained => 2,
            _ => 1,
        }
    }

    /// Which packets it makes the network itself lose.
    pub(crate) fn loses(self) -> Option<Lost> {
        match self {
            DropLarge => Some(Lost::Large),
            DropOneWay | DropAll | DropConstrained => Some(Lost::All),
            _ => None,
        }
    }

    /// Which links it cuts, of servers in this order: what comes first in it is the middle, the
    /// lonely one, or the beginning of the row.
    pub(crate) fn cuts(self, order: &[usize], mask: u64) -> Vec<Pair> {
        let nodes = order.len();
        let place = |node: usize| order.iter().position(|&other| other == node).expect("a node");
        // At least one on each side.
        let border = 1 + usize::try_from(mask % 64).expect("small") % (nodes - 1).max(1);
        // One of the two, or both.
        let ways = mask % 3;
        let is_cut = |number: usize, (from, to): Pair| {
            let (from, to) = (place(from), place(to));
            match self {
                CutOneWay => (from, to) == (0, 1),
                CutMute => from == 0,
                CutDeaf => to == 0,
                CutIsland | DropAll => from == 0 || to == 0,
                CutHalves => (from < border) != (to < border),
                DropConstrained => from == 0 || to == 0 || from != 1 && to != 1,
                CutHub => from != 0 && to != 0,
                CutChain => from.abs_diff(to) != 1,
                CutRing => (from + 1) % nodes != to,
                CutAny => mask >> (number % 64) & 1 == 1,
                DropOneWay if mask & 1 == 0 => from == 0,
                DropOneWay => to == 0,
                DropLarge => from == 0 && ways != 1 || to == 0 && ways != 0,
                _ => false,
            }
        };
        let pairs = pairs(nodes).into_iter().enumerate();
        pairs.filter(|&(number, pair)| is_cut(number, pair)).map(|(_, pair)| pair).collect()
    }

    /// The links whose packets suffer: all, or those of the first in this order.
    pub(crate) fn suffering(order: &[usize], mask: u64) -> Vec<Pair> {
        let all = mask & 1 == 0;
        let concerned = |&(from, to): &Pair| all || from == order[0] || to == order[0];
        pairs(order.len()).into_iter().filter(concerned).collect()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name().replace('-', " "))
    }
}

/// A fault, to whom it happens and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Since the start.
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) fault: Fault,
    /// The servers, first the one it happens to above all.
    pub(crate) order: Vec<usize>,
    /// The leader of the moment takes the first place.
    pub(crate) leader_first: bool,
    /// For whatever else is left to chance.
    pub(crate) mask: u64,
}

/// The two tracks of a run.
pub(crate) struct Schedule {
    pub(crate) network: Vec<Step>,
    pub(crate) processes: Vec<Step>,
}

impl Schedule {
    /// What the seed makes of it.
    pub(crate) fn new(setup: &Setup) -> Schedule {
        let mut rng = Rng::with_seed(setup.seed);
        let network = track(&NETWORK, setup, &mut rng);
        let processes = track(&PROCESS, setup, &mut rng);
        Schedule { network, processes }
    }

    /// Every kind that is going to happen.
    pub(crate) fn possible(setup: &Setup) -> impl Iterator<Item = Fault> {
        NETWORK.into_iter().chain(PROCESS).filter(|fault| fault.is_possible(setup))
    }
}

fn track(kinds: &[Fault], setup: &Setup, rng: &mut Rng) -> Vec<Step> {
    let possible: Vec<_> = kinds.iter().copied().filter(|kind| kind.is_possible(setup)).collect();
    if possible.is_empty() {
        return Vec::new();
    }
    let share = setup.duration / possible.iter().map(|fault| fault.weight()).sum::<u32>();
    // In a long run there is time for what takes long, and for many that are short.
    let share = share.clamp(Duration::from_millis(600), Duration::from_secs(8));
    let mut steps = Vec::new();
    let mut deck = Vec::new();
    let mut now = Duration::ZERO;
    loop {
        if deck.is_empty() {
            deck.clone_from(&possible);
            rng.shuffle(&mut deck);
        }
        let fault = deck.pop().expect("it was filled");
        let longest = share * fault.weight();
        let pause = share.mul_f64(0.1 + 0.2 * rng.f64());
        let lasting = longest.mul_f64(0.3 + 0.4 * rng.f64());
        let mut order: Vec<_> = (0..setup.nodes).collect();
        rng.shuffle(&mut order);
        let (from, until) = (now + pause, now + pause + lasting);
        if until > setup.duration {
            return steps;
        }
        let leader_first = rng.u8(..3) > 0;
        steps.push(Step { from, until, fault, order, leader_first, mask: rng.u64(..) });
        now = until;
    }
}
