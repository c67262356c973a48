//! Whether what clients have seen of a service is explained by one that does one thing at a time.
//!
//! A history is *linearizable* (Herlihy & Wing, "Linearizability: a correctness condition for
//! concurrent objects", TOPLAS 1990) if each call can be given a moment between its beginning and
//! its end such that the calls, taken in the order of these moments, are what a sequential
//! [`Model`] would have answered. [`check`] guarantees:
//!
//! - It finds such an order exactly if there is one, by the search of Wing & Gong ("Testing and
//!   verifying concurrent objects", JPDC 1993) with the memory of Lowe ("Testing for
//!   linearizability", CCPE 2017): no set of placed calls with the same state is looked at twice, nor
//!   with more calls that never returned placed beside them.
//! - A call that never returned may have taken place at any time after it began, or never.
//! - It ends: after `steps_max` steps it gives up, and says so. Whoever checks must take
//!   [`Finding::Unknown`] for a failure. What a history takes can grow exponentially with the calls
//!   that overlap, and those that never returned overlap all that comes after them.
//!
//! Calls that concern different objects can be checked apart (*locality*, Herlihy & Wing,
//! section 3.2), and should be: [`check_apart`].
//!
//! ```
//! use paxos_core::sim::linearizability::{Call, Model, Finding, check};
//!
//! struct Register;
//!
//! enum Operation {
//!     Write(u8),
//!     Read,
//! }
//!
//! impl Model for Register {
//!     type State = u8;
//!     type Operation = Operation;
//!     type Outcome = u8;
//!
//!     fn start(&self) -> u8 {
//!         0
//!     }
//!
//!     fn step(&self, state: &u8, operation: &Operation, outcome: Option<&u8>) -> Option<u8> {
//!         match operation {
//!             Operation::Write(value) => Some(*value),
//!             Operation::Read => outcome.is_none_or(|seen| seen == state).then_some(*state),
//!         }
//!     }
//! }
//!
//! let call = |operation, began, ended, outcome| Call { operation, began, ended, outcome };
//! let write = || call(Operation::Write(1), 0, Some(10), None);
//! let early = call(Operation::Read, 1, Some(2), Some(1));
//! let late = |seen| call(Operation::Read, 11, Some(12), Some(seen));
//! assert_eq!(check(&Register, &[write(), early, late(1)], 100), Finding::Linearizable);
//! let Finding::Broken(stuck) = check(&Register, &[write(), late(0)], 100) else {
//!     panic!("a stale read")
//! };
//! assert_eq!((stuck.placed, stuck.call), (vec![0], 1));
//! ```

mod search;
#[cfg(test)]
mod tests;

use std::hash::Hash;

pub use search::{check, check_apart};

/// A service that does one thing at a time.
pub trait Model {
    /// Its state.
    type State: Clone + Eq + Hash;
    /// What is asked of it.
    type Operation;
    /// What it answers.
    type Outcome;

    /// The state in which it begins.
    fn start(&self) -> Self::State;

    /// The state after `operation`, if the operation can have had this outcome in `state`. An
    /// outcome that nobody knows is `None`.
    fn step(
        &self,
        state: &Self::State,
        operation: &Self::Operation,
        outcome: Option<&Self::Outcome>,
    ) -> Option<Self::State>;

    /// Whether an operation with this outcome changes nothing, in whatever state. To say so keeps
    /// the search short.
    fn is_read(&self, operation: &Self::Operation, outcome: Option<&Self::Outcome>) -> bool {
        let _ = (operation, outcome);
        false
    }
}

/// A call, as its client saw it. Times are in any unit, of one clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<O, R> {
    /// What was asked.
    pub operation: O,
    /// When.
    pub began: u64,
    /// When it is known to have taken place, if it is.
    pub ended: Option<u64>,
    /// What was answered, if that is known.
    pub outcome: Option<R>,
}

/// What a check finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The calls are explained.
    Linearizable,
    /// They are not.
    Broken(Stuck),
    /// The search has been given up.
    Unknown,
}

/// How far the search came that came furthest. Calls are named by their place in the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Calls that are explained, in an order that does it.
    pub placed: Vec<usize>,
    /// The call that ended first among those that cannot come next.
    pub call: usize,
}

/// The calls of an object that are not explained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexplained<K, O, R> {
    /// The object.
    pub object: K,
    /// The calls that concern it.
    pub calls: Vec<Call<O, R>>,
    /// What the check found: never [`Finding::Linearizable`].
    pub finding: Finding,
}
