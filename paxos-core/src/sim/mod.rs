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
//! # A state machine of one's own
//!
//! [`Simulated`] is all it takes; without one, [`run`] simulates a few registers and holds what
//! their clients have seen against [`linearizability`]. A machine of one's own can have that
//! done, too: [`Simulated::judge`].
//!
//! ```
//! use paxos_core::{port::StateMachine, sim::{Simulated, Simulation}, types::Slot};
//!
//! #[derive(Default)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Command = u8;
//!     type Response = u64;
//!     type Snapshot = u64;
//!
//!     fn apply(&mut self, _slot: Slot, commands: Vec<u8>) -> Vec<u64> {
//!         let add = |number| {
//!             self.0 += u64::from(number);
//!             self.0
//!         };
//!         commands.into_iter().map(add).collect()
//!     }
//!
//!     fn snapshot(&self) -> u64 {
//!         self.0
//!     }
//!
//!     fn restore(&mut self, _: Slot, total: u64) -> std::io::Result<()> {
//!         self.0 = total;
//!         Ok(())
//!     }
//! }
//!
//! impl Simulated for Counter {
//!     fn command(rng: &mut fastrand::Rng) -> u8 {
//!         rng.u8(1..10)
//!     }
//!
//!     fn fingerprint(&self) -> u64 {
//!         self.0
//!     }
//! }
//!
//! let simulation = Simulation::of(Counter::default);
//! for seed in 0..5 {
//!     simulation.run(seed).unwrap_or_else(|failure| panic!("{failure}"));
//! }
//! ```
//!
//! A seed that fails can be seen ([`Simulation::replay`]) and made simpler ([`Simulation::shrink`]).
//!
//! # Map
//!
//! | file | what |
//! |---|---|
//! | `simulation`, `application` | what is simulated, and its calls; `registers` is ours |
//! | `plan`, `ending` | what the seed decides before anything runs |
//! | `host`, `disk`, `machine`, `station`, `mishap` | one machine, and its circumstances |
//! | `network`, `topology`, `fault`, `workload` | what surrounds it |
//! | `ledger`, `history`, `linearizability`, `check` | what it is held against |
//! | `world`, `agenda` | all of that, and what happens in it, one thing after the other |
//! | `shrink`, `trace`, `transcript` | for whoever looks into a failure |
//!
//! [`scenario`] drives the same hosts by hand.

mod agenda;
mod application;
mod check;
mod disk;
mod ending;
mod fault;
mod history;
mod host;
mod ledger;
pub mod linearizability;
mod machine;
mod mishap;
mod network;
mod occurrence;
mod plan;
mod registers;
pub mod scenario;
mod shrink;
mod simulation;
mod station;
mod topology;
mod trace;
mod transcript;
mod workload;
mod world;

pub use application::Question;
pub use check::Check;
pub use fault::{Fault, Restriction, Strike};
pub use occurrence::{Occurrence, Occurrences};
pub use shrink::Shrunk;
pub use simulation::{Failure, Report, Simulated, Simulation};

/// Runs the [`Simulation`] of registers that `seed` decides.
///
/// # Errors
///
/// If a check fails.
pub fn run(seed: u64) -> Result<Report, Failure> {
    Simulation::default().run(seed)
}
