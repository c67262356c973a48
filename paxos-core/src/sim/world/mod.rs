//! The simulated world: virtual time, machines, network, clients and faults, one thing after the
//! other. The seed decides every choice, so a run can be had again.
//!
//! Here is its state. What happens in it:
//!
//! | file | what |
//! |---|---|
//! | `course` | one happening after the other |
//! | `process`, `outcome` | a node starts, makes a step, and what comes of that; it crashes |
//! | `disk`, `handshake`, `losses` | its disk does what it is asked for; it meets its peers, and loses them |
//! | `company` | who is there, comes, and leaves |
//! | `clients` | who comes to it, and what for |
//! | `faults`, `strikes` | what goes wrong, and when |
//! | `liveness`, `calm` | the faults end; whoever leads then stays |

mod calm;
mod clients;
mod company;
mod course;
mod disk;
mod faults;
mod handshake;
mod liveness;
mod losses;
mod outcome;
mod process;
mod strikes;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use self::strikes::Strikes;
use super::{
    agenda::Agenda,
    application::{Application, Calls},
    check::Violation,
    fault::Restriction,
    history::History,
    host::Host,
    ledger::Ledger,
    machine::Machine,
    network::Network,
    occurrence::Occurrences,
    plan::Plan,
    station::{Presence, Station},
    trace::{Sink, Trace},
    workload::Workload,
};
use crate::{
    replica::{ChangeOutcome, TransferOutcome},
    types::{Ballot, NodeId},
};

/// What a check returns.
type Checked = Result<(), Violation>;

/// A cluster and everything around it.
pub(super) struct World<'a> {
    pub(super) plan: Plan,
    restriction: Restriction,
    pub(super) strikes: Strikes,
    /// Decides what clients do.
    client_rng: fastrand::Rng,
    /// Decides how the run ends.
    ending_rng: fastrand::Rng,
    pub(super) now: Duration,
    agenda: Agenda,
    stations: Vec<Station>,
    network: Network,
    workload: Workload,
    history: History,
    pub(super) calls: Calls,
    pub(super) ledger: Ledger,
    pub(super) seen: Occurrences,
    pub(super) trace: Trace<'a>,
    /// How many changes of the membership have been asked for.
    changes_asked: u64,
    /// When none of them is on its way any more, and when others may be asked for.
    changes_end: Duration,
    changes_begin: Duration,
    /// What became of the last that ended.
    change_outcome: Option<(u64, ChangeOutcome)>,
    /// To whom the leadership was to be transferred, each time that it was, and what became of the last that ended.
    transfers: Vec<Option<NodeId>>,
    transfer_outcome: Option<(u64, TransferOutcome)>,
    /// Every ballot at which a node has led.
    led: BTreeSet<Ballot>,
    /// Whether faults still strike.
    has_faults: bool,
    /// Whether clients still come of themselves.
    has_clients: bool,
}

/// The id of the node at an index.
fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

/// The index of a node.
fn index_of(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).expect("nodes are few")
}

impl<'a> World<'a> {
    /// The world that `seed` decides, within a restriction. Each thing that chance decides has
    /// random numbers of its own, so that leaving out one changes little else.
    pub(super) fn new(
        seed: u64,
        restriction: &Restriction,
        application: Arc<dyn Application>,
        sink: Option<Sink<'a>>,
    ) -> World<'a> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng.fork(), &restriction.without);
        let mut trace = Trace::new(seed, sink);
        trace.note(Duration::ZERO, [0; 3], || format!("seed {seed}: {plan}"));
        let station = |node| {
            let config = plan.config(node, rng.u64(..));
            let host = Host::new(
                config,
                Machine::new(
                    plan.machines_on_disk[node],
                    plan.filler(node),
                    Arc::clone(&application),
                ),
            );
            let is_there = node < plan.founders();
            let presence = if is_there { Presence::Here } else { Presence::ToCome };
            Station::new(host, presence, rng.fork())
        };
        let forgets_clients = plan.forgets_clients();
        World {
            stations: (0..plan.nodes).map(station).collect(),
            network: Network::new(plan.nodes, &mut rng),
            strikes: Strikes::new(rng.fork()),
            client_rng: rng.fork(),
            ending_rng: rng.fork(),
            restriction: restriction.clone(),
            ledger: Ledger::new(&plan.membership, plan.sessions_bytes_max()),
            plan,
            now: Duration::ZERO,
            agenda: Agenda::default(),
            workload: Workload::new(application, forgets_clients),
            calls: Calls::default(),
            history: History::default(),
            seen: Occurrences::default(),
            trace,
            changes_asked: 0,
            changes_end: Duration::ZERO,
            changes_begin: Duration::ZERO,
            change_outcome: None,
            transfers: Vec::new(),
            transfer_outcome: None,
            led: BTreeSet::new(),
            has_faults: true,
            has_clients: true,
        }
    }

    /// Which life a node is in.
    fn life(&self, node: usize) -> Option<(NodeId, u64)> {
        self.stations[node].host.incarnation().map(|incarnation| (id_of(node), incarnation))
    }

    /// Whether a node is in this life.
    fn is_life(&self, node: usize, life: u64) -> bool {
        self.stations[node].host.incarnation() == Some(life)
    }

    /// Whether the process of a node runs.
    fn is_running(&self, node: usize) -> bool {
        self.stations[node].host.is_running()
    }
}
