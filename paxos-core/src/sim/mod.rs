//! The deterministic simulator: whole clusters in virtual time, under faults, from one seed.
//!
//! [`run`] guarantees:
//!
//! - **One seed decides everything**: the cluster and its settings, the speed of network, disks and
//!   state machines, what clients do, which faults strike and when. The same seed gives the same
//!   run on every machine; [`Report::trace_hash`] shows it.
//! - **The replicas are the real ones**, and so are messages and their encoding. Disk, network,
//!   clock and state machine are simulated: they keep the guarantees of the [ports](crate::port)
//!   and give nothing beyond them.
//! - **Everything is checked** as it happens by an onlooker who knows every disk: a value is chosen
//!   once a quorum has durably accepted it, and nothing that a replica says, writes, delivers or
//!   serves may contradict that. Each command has effect at most once, an acknowledged one is in
//!   the final state, equal slots have equal states, no read misses what was known when it began.
//! - **First safety, then liveness**: the faults end, some or all of the cluster is connected again,
//!   and everything that waits has to be done within a bounded number of election timeouts, under a
//!   leader that then stays.
//!
//! ```
//! let report = paxos_core::sim::run(7).expect("no invariant breaks");
//! assert_eq!(paxos_core::sim::run(7).map(|again| again.trace_hash), Ok(report.trace_hash));
//! ```
//!
//! # Map
//!
//! `plan` draws what the seed decides; `world` lets things happen, one after the other, from the
//! `agenda`, and `outcome` carries out what comes of a step; `host` is a machine with `disk` and `machine` (the state machine), `station` its
//! circumstances; `network` (in the shapes of `topology`), `faults` (of the kinds in `fault`) and `workload` are what surrounds it; `ledger` and `history`
//! are the onlooker; `ending` is the liveness phase. [`scenario`] drives the same hosts by hand.

mod agenda;
mod disk;
mod ending;
mod fault;
mod faults;
mod history;
mod host;
mod ledger;
mod machine;
mod network;
mod occurrence;
mod outcome;
mod plan;
pub mod scenario;
mod station;
mod topology;
mod trace;
mod transcript;
mod workload;
mod world;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

pub use fault::{Fault, Restriction, Strike};
pub use occurrence::{Occurrence, Occurrences};

use world::World;

/// What a run without a broken invariant tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// A hash of everything that happened, in order.
    pub trace_hash: u64,
    /// What happened how often.
    pub occurrences: Occurrences,
    /// Virtual time from the end of the faults until something new was chosen.
    pub first_progress: Duration,
    /// The election timeout of the cluster.
    pub election_timeout: Duration,
    /// Election timeouts that went by without progress once the faults had ended, until everything
    /// was done.
    pub recovery_timeouts: u32,
    /// The faults that struck at a moment.
    pub strikes: Vec<Strike>,
    /// Slots chosen.
    pub slots: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed that breaks it.
    pub seed: u64,
    /// Virtual time at which it broke.
    pub at: Duration,
    /// Which invariant, and how.
    pub what: String,
    /// The faults that had struck at a moment.
    pub strikes: Vec<Strike>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} failed: {} (at {:?})", self.seed, self.what, self.at)
    }
}

impl std::error::Error for Failure {}

/// Runs the simulation that `seed` decides.
///
/// # Errors
///
/// If an invariant breaks.
pub fn run(seed: u64) -> Result<Report, Failure> {
    run_within(seed, &Restriction::default())
}

/// As [`run`], but for what the restriction leaves out.
///
/// # Errors
///
/// If an invariant breaks.
pub fn run_within(seed: u64, restriction: &Restriction) -> Result<Report, Failure> {
    simulate(World::new(seed, restriction, None), seed)
}

/// Runs the simulation that `seed` decides and hands every line of its transcript to `sink`.
///
/// # Errors
///
/// If an invariant breaks.
pub fn replay(seed: u64, mut sink: impl FnMut(&str)) -> Result<Report, Failure> {
    simulate(World::new(seed, &Restriction::default(), Some(&mut sink)), seed)
}

fn simulate(mut world: World<'_>, seed: u64) -> Result<Report, Failure> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        world.safety_phase()?;
        world.liveness_phase()
    }));
    let what = match outcome {
        Ok(Ok(recovery)) => {
            return Ok(Report {
                trace_hash: world.trace.hash(),
                first_progress: recovery.first,
                election_timeout: world.plan.election_timeout(),
                recovery_timeouts: recovery.idle_timeouts,
                slots: world.ledger.prefix().0,
                elapsed: world.now,
                strikes: world.strikes.done,
                occurrences: world.seen,
            });
        }
        Ok(Err(violation)) => violation.0,
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()))
            .unwrap_or_else(|| "a panic without a message".to_owned()),
    };
    Err(Failure { seed, at: world.now, what, strikes: world.strikes.done })
}
