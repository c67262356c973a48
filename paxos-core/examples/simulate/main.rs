//! Simulates clusters under faults: many seeds, or one again.
//!
//! ```sh
//! cargo run --profile simulation -p paxos-core --example simulate -- seeds --count 50000
//! cargo run --profile simulation -p paxos-core --example simulate -- replay 7
//! cargo run --profile simulation -p paxos-core --example simulate -- shrink 7
//! ```

mod replay;
mod seeds;

use std::{collections::BTreeSet, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use paxos_core::sim::{Fault, Restriction, Simulation};

use self::replay::replay_command;

#[derive(Parser)]
#[command(about = "Simulate clusters in virtual time, under faults that a seed decides")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run many seeds, on all cores, until one fails
    Seeds(seeds::Options),
    /// Run one seed and print all that happens
    Replay {
        /// The seed
        seed: u64,
        #[command(flatten)]
        left_out: LeftOut,
    },
    /// Look for a failing run of a seed with fewer faults
    Shrink {
        /// The seed, which must fail
        seed: u64,
        #[command(flatten)]
        left_out: LeftOut,
    },
}

/// What a run leaves out.
#[derive(Args, Clone, Default)]
struct LeftOut {
    /// Kinds of faults that do not occur
    #[arg(long, value_delimiter = ',', value_parser = fault)]
    without: Vec<Fault>,
    /// The only kinds of faults that may occur
    #[arg(long, value_delimiter = ',', value_parser = fault, conflicts_with = "without")]
    faults: Vec<Fault>,
    /// Strikes of faults that do not take place, by number
    #[arg(long, value_delimiter = ',')]
    skip: Vec<u64>,
}

fn fault(name: &str) -> Result<Fault, String> {
    let names = || Fault::ALL.iter().map(|fault| fault.name()).collect::<Vec<_>>().join(", ");
    let known = Fault::ALL.iter().find(|fault| fault.name() == name);
    known.copied().ok_or_else(|| format!("faults are {}", names()))
}

impl LeftOut {
    fn restriction(&self) -> Restriction {
        let excluded = |fault: &Fault| !self.faults.is_empty() && !self.faults.contains(fault);
        let others = Fault::ALL.iter().copied().filter(excluded);
        Restriction {
            without: self.without.iter().copied().chain(others).collect(),
            skipped: self.skip.iter().copied().collect(),
        }
    }
}

/// Prints the simplest failing run of a seed that is found.
fn shrink(simulation: &Simulation, seed: u64) -> ExitCode {
    let Some(shrunk) = simulation.shrink(seed) else {
        eprintln!("seed {seed} does not fail: there is nothing to shrink");
        return ExitCode::FAILURE;
    };
    let failure = &shrunk.failure;
    println!("{failure}");
    let left: BTreeSet<_> = Fault::ALL.iter().collect();
    let left = left.into_iter().filter(|fault| !failure.restriction.without.contains(fault));
    let left: Vec<_> = left.map(|fault| fault.name()).collect();
    println!(
        "after {} runs {} strikes and these faults are left: {}",
        shrunk.runs,
        shrunk.strikes,
        if left.is_empty() { "none".to_owned() } else { left.join(", ") }
    );
    println!("show it: {}", replay_command(failure));
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    // A failure is told by its run; the backtrace of an assertion would only be in the way.
    std::panic::set_hook(Box::new(|_| {}));
    match Cli::parse().command {
        Command::Seeds(options) => seeds::run(&options),
        Command::Replay { seed, left_out } => {
            let simulation = Simulation::default().restricted(left_out.restriction());
            match simulation.replay(seed, |line| println!("{line}")) {
                Ok(report) => {
                    println!("seed {seed} passes, trace {:016x}", report.trace_hash);
                    ExitCode::SUCCESS
                }
                Err(failure) => {
                    println!("{failure}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Shrink { seed, left_out } => {
            shrink(&Simulation::default().restricted(left_out.restriction()), seed)
        }
    }
}
