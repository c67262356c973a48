//! What one measurement has seen.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Every how many commands of a client one is timed, so that reading the clock costs next to nothing
/// of a command that takes 200 ns.
pub(super) const TIMED_EVERY: u64 = 16;

/// The figures of one measurement.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Commands answered.
    pub commands: u64,
    /// From the first proposal to the last answer.
    pub elapsed: Duration,
    /// What the process has used of the processors meanwhile: clients, nodes, and all else.
    pub cpu: Duration,
    /// From a command's proposal to its answer, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Sample {
    /// Commands per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.commands as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time per command, in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.commands as f64
    }
}

/// Latencies above it count as this, in nanoseconds: a minute.
const LATENCY_MAX: u64 = 60_000_000_000;

/// An empty histogram, true to one part in a hundred.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX, 2).expect("the bounds are sensible")
}

/// Counts a latency.
pub(super) fn record(latencies: &mut Histogram<u64>, latency: Duration) {
    latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
}
