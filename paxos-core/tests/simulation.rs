//! Clusters in virtual time, under faults, from seeds.
//!
//! ```text
//! cargo test -p paxos-core --test simulation                    # the seeds of every test run
//! SIM_SEEDS=20000 cargo test -p paxos-core --test simulation seeds -- --nocapture
//! SIM_SEED=7 cargo test -p paxos-core --test simulation replay -- --nocapture
//! ```

use paxos_core::sim::{self, Failure, Occurrences};

/// Seeds of an ordinary test run.
const SEEDS: u64 = 200;

/// Seeds between two lines about the progress.
const PROGRESS_SEEDS: u64 = 1000;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn fail(failure: &Failure) -> ! {
    panic!(
        "seed {} failed: {} (at {:?}); replay with: \
         SIM_SEED={} cargo test -p paxos-core --test simulation replay -- --nocapture",
        failure.seed, failure.what, failure.at, failure.seed
    )
}

/// No seed breaks an invariant, and everything that may happen has happened in some.
#[test]
fn seeds() {
    let first = variable("SIM_FIRST").unwrap_or(0);
    let seeds = variable("SIM_SEEDS").unwrap_or(SEEDS);
    let mut occurrences = Occurrences::default();
    let mut slowest = 0;
    let mut slots = 0;
    for seed in first..first + seeds {
        let report = sim::run(seed).unwrap_or_else(|failure| fail(&failure));
        occurrences.merge(&report.occurrences);
        slowest = slowest.max(report.recovery_timeouts);
        slots += report.slots;
        if (seed + 1 - first).is_multiple_of(PROGRESS_SEEDS) {
            println!("{} seeds, {slots} slots", seed + 1 - first);
        }
    }
    println!("{seeds} seeds, {slots} slots, at most {slowest} election timeouts to recover");
    println!("{occurrences}");
    let never: Vec<_> = occurrences.never().map(|never| never.to_string()).collect();
    assert!(never.is_empty() || seeds < SEEDS, "never happened in {seeds} seeds: {never:?}");
}

/// The same seed gives the same run; another seed another one.
#[test]
fn a_seed_decides_everything() {
    for seed in 0..10 {
        let [first, second] = [sim::run(seed), sim::run(seed)];
        assert_eq!(first, second, "seed {seed}");
        assert_ne!(
            first.map(|report| report.trace_hash),
            sim::run(seed + 1).map(|report| report.trace_hash)
        );
    }
}

/// Prints the run of the seed in `SIM_SEED`.
#[test]
fn replay() {
    let Some(seed) = variable("SIM_SEED") else { return };
    match sim::replay(seed, |line| println!("{line}")) {
        Ok(report) => println!("seed {seed} passes, trace {:016x}", report.trace_hash),
        Err(failure) => fail(&failure),
    }
}
