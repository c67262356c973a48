//! Clusters in virtual time, under faults, from seeds. More seeds, one again, or one that fails with
//! fewer faults: `cargo run --profile simulation -p paxos-core --example simulate -- --help`.
//!
//! Seeds that have failed run again here, but a change of the simulator gives every seed another run:
//! what a failure was about is kept as a scenario, a test of the replica or a known bug.

#[path = "../examples/simulate/replay.rs"]
mod replay;

use std::io;

use paxos_core::{
    port::StateMachine,
    sim::{
        self, Check, Failure, Fault, Occurrences, Question, Restriction, Simulated, Simulation,
        Strike, linearizability::Call,
    },
    types::Slot,
};

use self::replay::replay_command;

/// Seeds of an ordinary test run.
const SEEDS: u64 = 400;

/// Seeds that have failed, each in the simulator of its day.
const ONCE_FAILED: [u64; 8] = [305, 10_334, 22_189, 22_600, 31_941, 107_843, 200_183, 403_097];

/// Of the registers, which the command simulates too.
fn fail(failure: &Failure) -> ! {
    panic!("{failure}; show it: {}", replay_command(failure))
}

/// No seed breaks an invariant, and everything that may happen has happened in some.
#[test]
fn seeds() {
    let mut occurrences = Occurrences::default();
    for seed in (0..SEEDS).chain(ONCE_FAILED) {
        let report = sim::run(seed).unwrap_or_else(|failure| fail(&failure));
        occurrences.merge(&report.occurrences);
    }
    let never: Vec<_> = occurrences.never().map(|never| never.to_string()).collect();
    assert!(never.is_empty(), "never happened in {SEEDS} seeds: {never:?}");
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
        let simulation = Simulation::default().restricted(restriction.clone());
        simulation.run(seed).unwrap_or_else(|failure| fail(&failure)).strikes
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

/// An embedder's machine: a sum, with a mistake to choose.
#[derive(Default)]
struct Sum {
    total: i64,
    last: Slot,
    has_gap: bool,
    forbids_gaps: bool,
    /// Reads show the state before the last slot.
    is_stale: bool,
    before: i64,
}

impl StateMachine for Sum {
    type Command = i64;
    type Response = i64;
    type Snapshot = (i64, Slot);

    fn apply(&mut self, slot: Slot, commands: Vec<i64>) -> Vec<i64> {
        self.has_gap |= slot != self.last.next();
        self.last = slot;
        self.before = self.total;
        let add = |number| {
            self.total += number;
            self.total
        };
        commands.into_iter().map(add).collect()
    }

    fn snapshot(&self) -> (i64, Slot) {
        (self.total, self.last)
    }

    fn restore(&mut self, _: Slot, state: (i64, Slot)) -> io::Result<()> {
        (self.total, self.last) = state;
        self.before = self.total;
        Ok(())
    }
}

impl Simulated for Sum {
    fn command(rng: &mut fastrand::Rng) -> i64 {
        rng.i64(1..100)
    }

    /// More than any other command.
    fn command_after(rng: &mut fastrand::Rng, _heard: &i64) -> i64 {
        100 + Sum::command(rng)
    }

    fn read(&self, _question: u64) -> Option<i64> {
        Some(if self.is_stale { self.before } else { self.total })
    }

    /// The total only grows.
    fn judge(calls: Vec<Call<Question<i64>, &i64>>) -> Result<(), String> {
        for call in &calls {
            let has_missed = |earlier: &&Call<_, &i64>| {
                earlier.ended.is_some_and(|ended| ended < call.began)
                    && call.outcome.is_some_and(|found| Some(found) < earlier.outcome)
            };
            if let Some(earlier) = calls.iter().find(has_missed) {
                return Err(format!("{call:?} has missed {earlier:?}"));
            }
        }
        let builds = |call: &Call<_, _>| matches!(call.operation, Question::Command(100..));
        match calls.iter().any(builds) {
            true => Ok(()),
            false => Err("nobody has proposed anything after an answer".to_owned()),
        }
    }

    fn fingerprint(&self) -> u64 {
        self.total.cast_unsigned()
    }

    fn check(&self) -> Result<(), String> {
        if self.forbids_gaps && self.has_gap {
            return Err(format!("a slot is missing before {}", self.last));
        }
        Ok(())
    }
}

/// A machine that believes every slot has a command, which is so until a leader is replaced in the
/// midst of something and its successor fills a hole.
fn gapless() -> Simulation {
    Simulation::of(|| Sum { forbids_gaps: true, ..Sum::default() })
}

fn first_failure(simulation: &Simulation) -> Failure {
    (0..50).find_map(|seed| simulation.run(seed).err()).expect("one of 50 seeds fails")
}

#[test]
fn a_machine_of_ones_own_is_simulated() {
    let simulation = Simulation::of(Sum::default);
    for seed in 0..20 {
        let report = simulation.run(seed).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.calls > 0, "seed {seed}");
    }
    let failure = first_failure(&gapless());
    assert_eq!(failure.check, Check::StateMachine);
    assert!(failure.what.starts_with("a slot is missing"), "{failure}");
}

#[test]
fn what_its_clients_have_seen_is_judged() {
    let stale = Simulation::of(|| Sum { is_stale: true, ..Sum::default() });
    let failure = first_failure(&stale);
    assert_eq!(failure.check, Check::Linearizability);
    assert!(failure.what.contains("has missed"), "{failure}");
}

#[test]
fn a_failing_run_is_shrunk_to_what_it_needs() {
    let without = Fault::ALL.iter().copied().collect();
    let calm = gapless().restricted(Restriction { without, ..Restriction::default() });
    let mut seeds = (0..50).filter(|&seed| calm.run(seed).is_ok());
    let failure = seeds.find_map(|seed| gapless().run(seed).err());
    let failure = failure.expect("one of 50 seeds fails, and for its faults alone");
    let shrunk = gapless().shrink(failure.seed).expect("it fails");
    assert_eq!(shrunk.failure.check, Check::StateMachine);
    let kinds = shrunk.failure.restriction.without.len();
    assert!(kinds > 0 && kinds < Fault::ALL.len(), "{shrunk:?}");
    let again = gapless().restricted(shrunk.failure.restriction.clone()).run(failure.seed);
    assert_eq!(again, Err(shrunk.failure));
}
