//! Side by side with the peers: the libraries one would choose instead, measured in one run.
//!
//! ```sh
//! cargo run --release -p paxos-bench --features compare-peers -- compare --out target/compare
//! cargo run --release -p paxos-bench --features omnipaxos -- compare --payload 256 --nodes 3
//! ```
//!
//! # What is measured
//!
//! Commands per second that were committed, applied, and answered. All replicas share this process;
//! transport and storage are memory, a write is durable at once, the state machine counts. A command
//! is `bytes::Bytes`, cloned for each proposal; nobody serializes. Commands go to the leader, in a
//! closed loop: a client waits for its answer before it proposes again.
//!
//! - In mode **tasks** each node is a task and each client is one, as a program would have it, on
//!   tokio with one thread and with two; a contestant is judged by its better one. A peer without a
//!   runtime is given the same one, `actor`, which takes in what has gathered, answers before it
//!   sends, and sends one parcel to each peer.
//! - In mode **protocol** one thread drives all nodes and passes their messages by hand: no tasks, no
//!   channels, no clock but for a look now and then. `alone` does it for everybody alike.
//!
//! The **echo** is one task that answers every request at once and replicates nothing: no design
//! behind an awaited call is faster.
//!
//! # How
//!
//! Contestants take turns, each with a new cluster that is warmed up before and
//! dropped after a measurement. A figure is the median of the rounds. Every 16th command of a client
//! is timed. Processor time is that of the whole process. A measurement whose replicas have not all
//! applied exactly what the clients were answered is an error and no figure. Not every contestant
//! forgets its log, so a measurement ends early when the process has grown too large.
//!
//! # Who
//!
//! Each contestant is one file below `contestants`, with its settings and their reasons. A new one
//! that does no I/O implements the trait `Protocol` and has both modes; one with tasks of its own
//! implements `Service` and `Client`.

#[cfg(any(feature = "omnipaxos", feature = "raft-rs"))]
mod actor;
mod alone;
#[cfg(any(feature = "omnipaxos", feature = "openraft", feature = "raft-rs"))]
mod applied;
mod cell;
mod contestant;
mod contestants;
mod error;
mod plan;
mod protocol;
mod report;
mod run;
mod sample;
mod schedule;
mod summary;
mod tasks;
mod terms;

pub use cell::{Cell, Flavour, Mode, WORKERS};
pub use contestant::Contestant;
pub use error::CompareError;
pub use plan::{Entrant, Plan, Request, Runtimes};
pub use report::Report;
pub use run::measure;
pub use sample::Sample;
pub use schedule::{Figures, Measured, run};
pub use summary::{CellSummary, Spread, Standing};
pub use terms::Terms;
