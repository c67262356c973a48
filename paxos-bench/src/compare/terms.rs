//! How long, and until when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// What all measurements of a run have in common.
#[derive(Clone, Debug)]
pub struct Terms {
    /// How long one takes.
    pub time: Duration,
    /// How long the same load runs before it, on the same cluster, and does not count.
    pub warm_up: Duration,
    /// A measurement ends early once this process holds so many bytes: not every contestant
    /// forgets its log.
    pub memory_max: u64,
    /// A cluster without an answer for so long is taken to be stuck.
    pub patience: Duration,
    /// Whether the run is to end.
    pub interrupted: Arc<AtomicBool>,
}

impl Terms {
    /// Whether nothing more is to be measured.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}
