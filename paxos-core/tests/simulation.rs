//! Clusters in virtual time, under faults, from seeds.
//!
//! ```text
//! cargo test -p paxos-core --test simulation                    # the seeds of every test run
//! SIM_SEEDS=20000 cargo test -p paxos-core --test simulation seeds -- --nocapture
//! SIM_SEED=7 cargo test -p paxos-core --test simulation replay -- --nocapture
//! ```

use paxos_core::sim::{self, Failure, Occurrences, Restriction, Strike};

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

/// Leaving out some strikes, or a kind of them, leaves the others what they were.
#[test]
fn faults_can_be_left_out() {
    let strikes = |seed, restriction: &Restriction| {
        sim::run_within(seed, restriction).unwrap_or_else(|failure| fail(&failure)).strikes
    };
    let mut left_out = 0;
    for seed in 0..10 {
        let all = strikes(seed, &Restriction::default());
        let Some(first) = all.first() else { continue };
        let skips = |strike: &Strike| strike.number.is_multiple_of(3);
        let skipped = all.iter().filter(|strike| skips(strike)).map(|strike| strike.number);
        let some = Restriction { skipped: skipped.collect(), ..Restriction::default() };
        let without = [first.fault].into();
        let kind = Restriction { without, ..Restriction::default() };
        left_out += some.skipped.len();
        let others: Vec<_> = all.iter().filter(|strike| !skips(strike)).copied().collect();
        assert_eq!(strikes(seed, &some), others, "seed {seed}");
        let others = all.iter().filter(|strike| strike.fault != first.fault);
        assert_eq!(strikes(seed, &kind), others.copied().collect::<Vec<_>>(), "seed {seed}");
    }
    assert!(left_out > 10, "only {left_out} strikes were left out");
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
