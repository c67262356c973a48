//! The checks that a run is held against, and how one fails.

use std::fmt;

/// A check that a run is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// An onlooker who knows every disk: what is chosen, promised, voted for and known, and that
    /// it is durable before any message says so.
    Log,
    /// An onlooker who knows every client: each command has effect at most once, acknowledged ones
    /// for certain, equal slots have equal states, no read misses what was known when it began.
    Clients,
    /// What the clients have seen, and nothing else, is explained by one state machine.
    Linearizability,
    /// The embedder's own check of the state.
    StateMachine,
    /// Once faults have ended, everything gets done in time, under a leader that stays.
    Liveness,
    /// A replica behaves: it halts only if data is damaged, does not run in circles, and sends
    /// nothing to strangers.
    Conduct,
    /// An assertion in the code.
    Assertion,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Check::Log => "log",
            Check::Clients => "clients",
            Check::Linearizability => "linearizability",
            Check::StateMachine => "state machine",
            Check::Liveness => "liveness",
            Check::Conduct => "conduct",
            Check::Assertion => "assertion",
        })
    }
}

/// A check that failed, with what is needed to understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) check: Check,
    pub(super) what: String,
}

impl Violation {
    pub(super) fn of(check: Check, what: String) -> Violation {
        Violation { check, what }
    }
}

/// Fails the check named `CHECK` where this is used, with a message, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::sim::check::Violation::of(CHECK, format!($($message)+)));
        }
    };
}
pub(super) use ensure;
