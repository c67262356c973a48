//! The faults that strike at a moment, and what they have still in store.

use std::time::Duration;

use crate::sim::fault::Strike;

/// The faults that strike at a moment, in their order. When they strike and how is decided apart
/// from everything else, so that it does not change when some are left out.
#[derive(Debug)]
pub(in crate::sim) struct Strikes {
    pub(super) rng: fastrand::Rng,
    pub(super) planned: u64,
    /// No other fault strikes before: one that takes its time is under way, left out or not.
    pub(super) quiet_until: Duration,
    /// What awaits the next leader.
    pub(super) doom: Option<Doom>,
    /// Those that took place.
    pub(in crate::sim) done: Vec<Strike>,
}

impl Strikes {
    pub(super) fn new(rng: fastrand::Rng) -> Strikes {
        Strikes { rng, planned: 0, quiet_until: Duration::ZERO, doom: None, done: Vec::new() }
    }
}

/// What awaits the next leader.
#[derive(Debug)]
pub(super) struct Doom {
    /// It is another one than this.
    pub(super) spared: usize,
    pub(super) rng: fastrand::Rng,
}
