//! What the replicas of a peer have applied, for whoever waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;

use crate::Tally;

/// How long the replicas may take to apply what the leader has applied.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A count that one replica raises.
#[derive(Default)]
pub(super) struct Applied {
    commands: AtomicU64,
    bytes: AtomicU64,
}

impl Applied {
    /// Raises it.
    pub(super) fn add(&self, tally: Tally) {
        self.bytes.fetch_add(tally.bytes, Ordering::Relaxed);
        // Whoever sees these commands sees their bytes.
        self.commands.fetch_add(tally.commands, Ordering::Release);
    }

    fn tally(&self) -> Tally {
        let commands = self.commands.load(Ordering::Acquire);
        Tally { commands, bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Waits until all have applied that many commands, for as long as that may take. Returns what they
/// have applied.
pub(super) async fn settle(applied: &[Arc<Applied>], commands: u64) -> Vec<Tally> {
    let mut waited = Duration::ZERO;
    let lags = |applied: &Arc<Applied>| applied.tally().commands < commands;
    while applied.iter().any(lags) && waited < SETTLE_MAX {
        sleep(LOOK_EVERY).await;
        waited += LOOK_EVERY;
    }
    applied.iter().map(|applied| applied.tally()).collect()
}
