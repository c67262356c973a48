//! What one figure is measured under.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

/// What surrounds the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A task per node and a task per client, as a program would use it.
    Tasks,
    /// The protocol alone, driven by one thread that passes the messages by hand.
    Protocol,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Tasks => "tasks",
            Mode::Protocol => "protocol",
        })
    }
}

/// What runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// Tokio on one thread.
    CurrentThread,
    /// Tokio on two threads.
    MultiThread,
    /// No runtime: the protocol alone.
    Alone,
}

/// The threads of [`Flavour::MultiThread`].
pub const WORKERS: usize = 2;

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flavour::CurrentThread => "1 thread",
            Flavour::MultiThread => "2 threads",
            Flavour::Alone => "alone",
        })
    }
}

/// The conditions of one figure, the same for all contestants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Cell {
    /// What surrounds the protocol.
    pub mode: Mode,
    /// How many replicas.
    pub nodes: usize,
    /// The size of a command in bytes.
    pub payload: usize,
    /// Commands in flight.
    pub in_flight: usize,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { mode, nodes, payload, in_flight } = self;
        write!(f, "{mode}, {nodes} nodes, {payload} B, {in_flight} in flight")
    }
}
