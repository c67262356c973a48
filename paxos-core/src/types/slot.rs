//! Positions in the replicated log.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A position in the log. The first slot is 1; [`Slot::ZERO`] means "before the first".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Slot(pub u64);

impl Slot {
    /// Before the first slot: nothing chosen, nothing applied.
    pub const ZERO: Slot = Slot(0);

    /// The slot after this one.
    ///
    /// # Panics
    ///
    /// After 2⁶⁴ − 1 slots, which no cluster reaches.
    #[must_use]
    #[inline]
    pub fn next(self) -> Slot {
        self.plus(1)
    }

    /// The slot before this one; [`Slot::ZERO`] stays where it is.
    #[must_use]
    pub fn previous(self) -> Slot {
        Slot(self.0.saturating_sub(1))
    }

    /// The slot `count` further on.
    ///
    /// # Panics
    ///
    /// After 2⁶⁴ − 1 slots, which no cluster reaches.
    #[must_use]
    pub fn plus(self, count: u64) -> Slot {
        Slot(self.0.checked_add(count).expect("a log never has 2^64 slots"))
    }

    /// Every slot from this one to `last`, both included; none if `last` lies before.
    pub fn through(self, last: Slot) -> impl DoubleEndedIterator<Item = Slot> {
        (self.0..=last.0).map(Slot)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
