//! What a seed decides before anything runs: the cluster, its settings, the speed of everything,
//! which faults may strike, and how the run ends.

use std::{collections::BTreeSet, fmt, time::Duration};

use super::{ending::Ending, fault::Fault};
use crate::{
    config::Config,
    limits,
    types::{Membership, NodeId, Phase, Quorums},
};

/// The plan of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Every node that there may ever be.
    pub(super) nodes: usize,
    /// The first ones, which are there from the beginning.
    pub(super) membership: Membership,
    /// The settings of node 1; the others have the same but for id and seed.
    config: Config,
    /// The faults that the seed draws, those included that the run is to leave out.
    pub(super) drawn: Vec<Fault>,
    /// The faults that may strike.
    faults: Vec<Fault>,
    /// How often a message meets each of the faults that strike messages.
    pub(super) message_fault_rate: f64,
    /// Time between two faults that strike at a moment, on average.
    pub(super) fault_interval: Duration,
    /// Whether a cut link loses what is under way on it, too.
    pub(super) cuts_messages_under_way: bool,
    latency: (Duration, Duration),
    disk_latency: (Duration, Duration),
    apply_latency: (Duration, Duration),
    /// How long inputs gather before the replica takes them in together.
    pub(super) gather: Duration,
    /// The safety phase.
    pub(super) safety: Duration,
    /// Time between two actions of clients, on average.
    pub(super) client_interval: Duration,
    pub(super) command_bytes_max: usize,
    /// Which nodes' state machines have a state on disk.
    pub(super) machines_on_disk: Vec<bool>,
    /// Whether equal states have other bytes on other nodes.
    states_differ: bool,
    pub(super) ending: Ending,
}

/// Of the seeds that draw any other kind of fault, how many draw one that takes nodes away for good.
const FINAL_FAULTS: f64 = 0.4;

/// Nodes that may join later, where the membership changes.
const NEWCOMERS_MAX: usize = 6;

/// What may wait for the disks of a cluster that is to have an overloaded leader in the end, at most:
/// little enough to be reached by a few commands.
const BACKLOG_BYTES_TO_OVERLOAD_MAX: usize = 600;

/// Into how many parts an election timeout is cut of which nothing takes longer than one, where it counts how
/// soon a leader is replaced.
const SHARE_IN_HASTE: u32 = 100;

/// What the session table needs so that it forgets no client: for five of them, with eight ranges each.
const SESSIONS_BYTES_OF_ALL: usize = 5 * SESSION_BYTES;
const SESSION_BYTES: usize = 120;

fn between(rng: &mut fastrand::Rng, (low, high): (Duration, Duration)) -> Duration {
    low + (high - low).mul_f64(rng.f64())
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

impl Plan {
    /// The plan that the random numbers decide, without some faults.
    pub(super) fn draw(rng: &mut fastrand::Rng, without: &BTreeSet<Fault>) -> Plan {
        let founders = pick(rng, &[1, 2, 3, 3, 3, 3, 4, 5, 5, 5, 5, 6, 7, 7]);
        let membership = draw_membership(rng, founders);
        let config = draw_config(rng, &membership);
        let election = config.election_timeout;
        let density = rng.f64();
        let faults = Fault::ALL.iter().copied().filter(|fault| !fault.is_final());
        let mut drawn: Vec<_> = faults.filter(|_| rng.f64() < density).collect();
        let changes = rng.u8(..3) == 0;
        drawn.retain(|fault| *fault != Fault::Reconfigure || changes);
        let nodes = if changes { founders + rng.usize(0..=NEWCOMERS_MAX) } else { founders };
        let latency_max = election / rng.u32(25..200);
        let disk_max = election / rng.u32(25..400);
        let mut plan = Plan {
            nodes,
            faults: Vec::new(),
            drawn,
            message_fault_rate: pick(rng, &[0.01, 0.05, 0.15, 0.3]),
            fault_interval: election.mul_f64(0.2 + 4.0 * rng.f64().powi(2)),
            cuts_messages_under_way: rng.bool(),
            latency: (latency_max / rng.u32(2..20), latency_max),
            disk_latency: (disk_max / 10, disk_max),
            apply_latency: (Duration::ZERO, election / pick(rng, &[20, 200, 2000])),
            gather: pick(rng, &[Duration::ZERO, Duration::ZERO, latency_max / 2]),
            safety: election * rng.u32(15..50),
            client_interval: election / pick(rng, &[2, 10, 40]),
            command_bytes_max: pick(rng, &[8, 64, 400]),
            machines_on_disk: (0..nodes).map(|_| rng.bool()).collect(),
            states_differ: rng.u8(..3) == 0,
            ending: Ending::draw(rng, &membership, founders),
            membership,
            config,
        };
        let bytes_max = &mut plan.config.backlog_bytes_max;
        match plan.ending {
            Ending::Overload => *bytes_max = BACKLOG_BYTES_TO_OVERLOAD_MAX.min(*bytes_max),
            // A disk that is merely slow must not be behind for that.
            Ending::SlowDisks => *bytes_max = limits::BACKLOG_BYTES_MAX,
            // How long the others take is to say how soon they have noticed.
            Ending::LeaderDead | Ending::LeaderSilent => plan.hasten(),
            _ => {}
        }
        // Drawn last: without them a plan is what it would be if they did not exist.
        let faults = Fault::ALL.iter().copied().filter(|fault| fault.is_final());
        let drawn = faults.filter(|_| rng.f64() < density * FINAL_FAULTS);
        // Nobody knows what has rotted, and so not either who must not leave.
        let changes = plan.drawn.contains(&Fault::Reconfigure);
        plan.drawn.extend(drawn.filter(|fault| !changes || *fault != Fault::Rot));
        let bytes_max = plan.config.sessions_bytes_max;
        plan.config.sessions_bytes_max =
            pick(rng, &[bytes_max, bytes_max, bytes_max, 1200, 600, 300]);
        let may_strike = |fault: &Fault| !without.contains(fault);
        plan.faults = plan.drawn.iter().copied().filter(may_strike).collect();
        plan
    }

    /// Nothing takes longer than a small part of an election timeout.
    fn hasten(&mut self) {
        let longest = self.election_timeout() / SHARE_IN_HASTE;
        let spans = [&mut self.latency, &mut self.disk_latency, &mut self.apply_latency];
        for (low, high) in spans {
            (*low, *high) = ((*low).min(longest), (*high).min(longest));
        }
        self.gather = self.gather.min(longest);
    }

    /// How many nodes begin the cluster.
    pub(super) fn founders(&self) -> usize {
        self.membership.voters().count()
    }

    /// What the session table has room for.
    pub(super) fn sessions_bytes_max(&self) -> usize {
        self.config.sessions_bytes_max
    }

    /// Whether there are clients that leave holes between their requests: where the session table is small.
    pub(super) fn leaves_holes(&self) -> bool {
        self.config.sessions_bytes_max < limits::SESSIONS_BYTES_MAX
    }

    /// Whether the session table is too small to remember every client.
    pub(super) fn forgets_clients(&self) -> bool {
        // Those of nodes that have been removed are sessions like any other.
        let nodes = if self.has(Fault::Reconfigure) { self.nodes } else { 0 };
        self.config.sessions_bytes_max < SESSIONS_BYTES_OF_ALL + nodes * SESSION_BYTES
    }

    /// Whether this fault may strike.
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// How many bytes the states of a node have beside what they need.
    pub(super) fn filler(&self, node: usize) -> usize {
        if self.states_differ { 10 * node } else { 0 }
    }

    /// The settings of a node.
    pub(super) fn config(&self, node: usize, seed: u64) -> Config {
        Config { id: NodeId(node as u64 + 1), seed, ..self.config.clone() }
    }

    /// The election timeout, in which the length of everything else is measured.
    pub(super) fn election_timeout(&self) -> Duration {
        self.config.election_timeout
    }

    /// How often a leader is heard.
    pub(super) fn heartbeat_interval(&self) -> Duration {
        self.config.heartbeat_interval
    }

    /// For how long a leader may stand still and is not taken to be silent: of three heartbeat intervals one
    /// goes by before, and the slowest message and clock take a part.
    pub(super) fn falter(&self) -> Duration {
        let longest = self.heartbeat_interval().mul_f64(1.6);
        longest.saturating_sub(2 * self.latency.1 + self.gather)
    }

    /// How long a message takes.
    pub(super) fn latency(&self, rng: &mut fastrand::Rng) -> Duration {
        between(rng, self.latency)
    }

    /// How long a message takes that is held up: mostly a little, sometimes for many timeouts.
    pub(super) fn long_latency(&self, rng: &mut fastrand::Rng) -> Duration {
        let most = match rng.u8(..8) {
            0 => self.latency_max(),
            1 | 2 => self.election_timeout() / 2,
            _ => self.latency.1 * 4,
        };
        between(rng, (self.latency.0, most.max(self.latency.1)))
    }

    /// The longest that any message is held up.
    pub(super) fn latency_max(&self) -> Duration {
        self.election_timeout() * 8
    }

    /// How long it takes until a node is told that a process has ended that it was connected to: what that had
    /// sent is there by then, unless it was held up.
    pub(super) fn report_latency(&self, rng: &mut fastrand::Rng) -> Duration {
        self.latency.1 + self.latency(rng)
    }

    /// How long a write takes.
    pub(super) fn disk_latency(&self, rng: &mut fastrand::Rng) -> Duration {
        between(rng, self.disk_latency)
    }

    /// How many times as slow a disk is whose writes take so long at most.
    pub(super) fn disk_slowness(&self, longest: Duration) -> u32 {
        let times = longest.as_nanos() / self.disk_latency.1.as_nanos().max(1);
        u32::try_from(times).expect("no disk is that fast")
    }

    /// How long the state machine takes.
    pub(super) fn apply_latency(&self, rng: &mut fastrand::Rng) -> Duration {
        between(rng, self.apply_latency)
    }
}

fn draw_membership(rng: &mut fastrand::Rng, nodes: usize) -> Membership {
    let voters = (1..=nodes as u64).map(|id| (id, format!("node-{id}")));
    let majority = Membership::new(voters)
        .and_then(|membership| membership.with_window(pick(rng, &[1, 2, 5, 16, 64])))
        .expect("drawn within the limits");
    if nodes == 1 || rng.u8(..4) > 0 {
        return majority;
    }
    // Any sizes that are let pass.
    loop {
        let (phase_one, phase_two) = (rng.usize(1..=nodes), rng.usize(1..=nodes));
        let quorums = Quorums::Flexible { phase_one, phase_two };
        if let Ok(membership) = majority.clone().with_quorums(quorums) {
            return membership;
        }
    }
}

fn draw_config(rng: &mut fastrand::Rng, membership: &Membership) -> Config {
    let default = Config::new(NodeId(1), membership.clone());
    let election_timeout = Duration::from_millis(rng.u64(150..=1000));
    let retransmit_timeout = election_timeout / rng.u32(2..7);
    Config {
        election_timeout,
        heartbeat_interval: election_timeout / rng.u32(4..11),
        retransmit_timeout,
        gap_patience: retransmit_timeout / rng.u32(2..20),
        batch_bytes_max: pick(rng, &[1, 600, default.batch_bytes_max]),
        batch_commands_max: pick(rng, &[1, 3, default.batch_commands_max]),
        outstanding_commands_max: pick(rng, &[4, 40, default.outstanding_commands_max]),
        queue_bytes_max: pick(rng, &[600, default.queue_bytes_max, default.queue_bytes_max]),
        backlog_bytes_max: pick(rng, &[300, 2000, default.backlog_bytes_max]),
        cache_bytes_max: pick(rng, &[1, 600, default.cache_bytes_max]),
        delivery_bytes_max: pick(rng, &[1, 2000, default.delivery_bytes_max]),
        page_bytes_max: pick(rng, &[4000, default.page_bytes_max, default.page_bytes_max]),
        piece_bytes_max: pick(rng, &[200, 1000, default.piece_bytes_max]),
        checkpoint_slots: pick(rng, &[3, 20, 100, default.checkpoint_slots]),
        checkpoint_bytes: pick(rng, &[500, 5000, default.checkpoint_bytes]),
        window_bytes_max: pick(rng, &[100, 2000, default.window_bytes_max]),
        outstanding_bytes_max: pick(rng, &[500, 5000, default.outstanding_bytes_max]),
        pending_ranges_max: pick(rng, &[8, default.pending_ranges_max, default.pending_ranges_max]),
        digest_slots: pick(rng, &[1, 7, default.digest_slots]),
        ..default
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} nodes and {} to come, quorums {} and {}, window {}, machines on disk {:?}",
            self.founders(),
            self.nodes - self.founders(),
            self.membership.quorum_size(Phase::One),
            self.membership.quorum_size(Phase::Two),
            self.membership.window(),
            self.machines_on_disk
        )?;
        let config = &self.config;
        writeln!(
            f,
            "election timeout {:?}, heartbeat {:?}, retransmission {:?}, latency {:?}, disk {:?}",
            config.election_timeout,
            config.heartbeat_interval,
            config.retransmit_timeout,
            self.latency,
            self.disk_latency
        )?;
        writeln!(
            f,
            "batches of {} commands and {} bytes, {} outstanding, {} for the disk, {} cached, \
             {} delivered, pages of {} bytes, pieces of {}, checkpoint every {} slots or {} bytes, \
             {} for sessions",
            config.batch_commands_max,
            config.batch_bytes_max,
            config.outstanding_commands_max,
            config.backlog_bytes_max,
            config.cache_bytes_max,
            config.delivery_bytes_max,
            config.page_bytes_max,
            config.piece_bytes_max,
            config.checkpoint_slots,
            config.checkpoint_bytes,
            config.sessions_bytes_max
        )?;
        write!(
            f,
            "faults {:?} at {}, every {:?}; safety {:?}, then {:?}",
            self.faults, self.message_fault_rate, self.fault_interval, self.safety, self.ending
        )
    }
}
