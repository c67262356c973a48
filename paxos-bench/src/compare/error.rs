//! What can keep a comparison from its figures.

use super::{Cell, Contestant, Mode};
use crate::{HarnessError, Tally};

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A contestant was asked for that this program was built without.
    #[error(
        "{0} is not compiled in: build with `--features {0}`, or `compare-peers` for all of them"
    )]
    NotCompiledIn(Contestant),
    /// Nothing would be measured.
    #[error(
        "none of the contestants has mode {0}: add `tasks` to --mode, or ours to --contestants"
    )]
    NothingToMeasure(Mode),
    /// A number makes no sense.
    #[error("{option} must be {allowed}, not {value}")]
    Argument {
        /// The option.
        option: &'static str,
        /// What it takes.
        allowed: &'static str,
        /// What it was given.
        value: String,
    },
    /// This project's cluster does not work.
    #[error(transparent)]
    Ours(#[from] HarnessError),
    /// A peer's cluster does not work.
    #[error("{contestant}: {problem}")]
    Peer {
        /// Whose.
        contestant: &'static str,
        /// What it says.
        problem: String,
    },
    /// Commands were not answered.
    #[error(
        "no more answers after {commands} of them: the cluster has lost a command or its leader"
    )]
    Stalled {
        /// Answers so far.
        commands: u64,
    },
    /// A replica has not applied what was proposed.
    #[error(
        "replica {node} has applied {found:?} instead of {expected:?}: its figure is worthless"
    )]
    Diverged {
        /// The replica, from 0.
        node: usize,
        /// What it has applied.
        found: Tally,
        /// What was proposed.
        expected: Tally,
    },
    /// A measurement failed.
    #[error("{contestant}, {cell}: {source}")]
    Measurement {
        /// Whose.
        contestant: Contestant,
        /// Which.
        cell: Cell,
        /// Why.
        source: Box<CompareError>,
    },
    /// A file could not be written, or a signal not be caught.
    #[error("{operation}: {source}")]
    Io {
        /// What was attempted.
        operation: String,
        /// What the operating system says.
        source: std::io::Error,
    },
}

impl CompareError {
    /// Says what was attempted when the operating system refused.
    pub fn io(operation: impl Into<String>) -> impl FnOnce(std::io::Error) -> CompareError {
        let operation = operation.into();
        move |source| CompareError::Io { operation, source }
    }
}
