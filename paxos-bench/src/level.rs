//! Whether the memory of a cluster stays level at full speed, with its log compacted as it is by default.
//!
//! ```sh
//! cargo run --release -p paxos-bench -- level --minutes 10
//! ```
//!
//! The cluster of [`compare`] in tasks: all nodes in this process, transport and storage in
//! memory, clients in a closed loop. What the process has in memory is looked at again and again. It is level if
//! the last third of the time has needed hardly more than the second; in the first, the logs grow to their size.

use std::{
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    compare::{self, Cell, CompareError, Contestant, Flavour, Mode, Plan, Runtimes, Sample},
    process,
};

/// By so much more than in the second third, as a part of it, level memory may grow in the last.
const GROWTH_MAX: f64 = 0.1;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Request {
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    pub minutes: f64,
    /// Commands in flight.
    #[arg(long, default_value_t = 1024)]
    pub in_flight: usize,
    /// The size of a command, in bytes.
    #[arg(long, default_value_t = 256)]
    pub payload: usize,
    /// Replicas.
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
    /// Seconds between two looks.
    #[arg(long, default_value_t = 5.0)]
    pub every: f64,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// How fast it was.
    pub sample: Sample,
    /// The most memory in each third of the time, in bytes.
    pub most: [u64; 3],
}

impl Seen {
    /// Whether nothing has grown.
    #[must_use]
    pub fn is_level(&self) -> bool {
        let [_, second, last] = self.most;
        last as f64 <= second as f64 * (1.0 + GROWTH_MAX)
    }
}

/// Measures; each look goes to `told` at once: how much time has passed, and the memory in bytes.
///
/// # Errors
///
/// If an argument makes no sense, or the cluster fails.
pub fn run(
    request: &Request,
    interrupted: Arc<AtomicBool>,
    mut told: impl FnMut(Duration, u64),
) -> Result<Seen, CompareError> {
    let checked = compare::Request {
        payload: vec![request.payload],
        in_flight: vec![request.in_flight],
        nodes: vec![request.nodes],
        mode: vec![Mode::Tasks],
        rounds: 1,
        seconds: request.minutes * 60.0,
        contestants: vec![Contestant::Ours],
        runtime: Runtimes::MultiThread,
        memory: 1 << 20,
    };
    let Plan { cells, mut terms, .. } = Plan::new(&checked, interrupted)?;
    // All of it counts.
    terms.warm_up = Duration::ZERO;
    let cell: Cell = cells[0];
    let every = Duration::from_secs_f64(request.every.clamp(0.01, 3600.0));
    let (time, began) = (terms.time, Instant::now());
    let mut most = [0; 3];
    let sample = thread::scope(|scope| {
        let measuring =
            scope.spawn(|| compare::measure(Contestant::Ours, Flavour::MultiThread, &cell, &terms));
        let mut next = every;
        while !measuring.is_finished() {
            thread::sleep(Duration::from_millis(10).min(every));
            let passed = began.elapsed();
            if passed < next || passed > time {
                continue;
            }
            next += every;
            let (bytes, third) =
                (process::resident_bytes(), passed.as_secs_f64() * 3.0 / time.as_secs_f64());
            let third = most.len().min(1 + third as usize) - 1;
            most[third] = bytes.max(most[third]);
            told(passed, bytes);
        }
        measuring.join().expect("what fails is an error")
    })?;
    Ok(Seen { sample, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_looked_at_while_commands_are_answered() {
        let request = Request { minutes: 0.01, in_flight: 64, payload: 16, nodes: 3, every: 0.05 };
        let mut looks = Vec::new();
        let seen = run(&request, Arc::default(), |passed, bytes| looks.push((passed, bytes)));
        let seen = seen.expect("a cluster");
        assert!(seen.sample.commands > 0 && looks.len() >= 3, "{seen:?}, {looks:?}");
        assert!(seen.most.iter().all(|bytes| *bytes > 0), "{seen:?}");
        let grown = Seen { most: [1, 100, 111], ..seen };
        assert!(!grown.is_level());
        assert!(Seen { most: [1, 100, 109], ..grown }.is_level());
    }
}
