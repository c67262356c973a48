//! Lines for whoever looks on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{clients::Counts, faults::Fault};

/// Between two lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Prints a line every few seconds.
pub(crate) struct Progress<'a> {
    counts: &'a Counts,
    last: Instant,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(counts: &'a Counts) -> Progress<'a> {
        Progress { counts, last: Instant::now() }
    }

    /// Prints how things are after `elapsed`, unless that was printed just now.
    pub(crate) fn show(&mut self, elapsed: Duration, faults: &BTreeMap<Fault, u64>) {
        if self.last.elapsed() < INTERVAL {
            return;
        }
        self.last = Instant::now();
        let (answered, failed, unknown) = self.counts.read();
        let faults: u64 = faults.values().sum();
        println!(
            "  {:4} s  {answered} operations answered, {failed} failed, {unknown} unknown; \
             {faults} faults",
            elapsed.as_secs(),
        );
    }
}
