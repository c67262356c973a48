//! The hunt: every bug from every start, on as many threads as asked for.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Instant,
};

use clap::Parser;
use paxos_core::{
    bug_bank::{Bug, plant},
    sim,
};

use super::{
    check, named,
    table::{self, Hunt},
};

/// Seeds from one start to the next.
const STRIDE: u64 = 100_000;

/// How many seeds the simulator needs to catch each known bug.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only this bug; may be given more than once
    #[arg(long = "bug", value_parser = bug)]
    bugs: Vec<Bug>,
    /// Ranges of seeds to begin at: 0, 100000, and so on
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    starts: u64,
    /// Seeds to try from each start; a bug that survives them has not been caught
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=STRIDE))]
    seeds: u64,
    /// Threads
    #[arg(long, default_value_t = jobs())]
    jobs: usize,
    /// Say of each start which seed caught the bug, and what the simulator said
    #[arg(long)]
    verbose: bool,
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::named(name).ok_or_else(|| {
        let known: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("no bug of this name; there are: {}", known.join(" "))
    })
}

fn jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn hunt(bug: Bug, start: u64, seeds: u64) -> (Hunt, String) {
    let _planted = plant(bug);
    let first = start * STRIDE;
    match (first..first + seeds).find_map(|seed| sim::run(seed).err()) {
        Some(failure) => {
            let seeds = Some(failure.seed - first + 1);
            (Hunt { seeds, check: check::of(&failure) }, failure.to_string())
        }
        None => (Hunt { seeds: None, check: String::new() }, format!("survives from {first} on")),
    }
}

pub(super) fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.bugs.is_empty() {
        arguments.bugs = Bug::ALL.to_vec();
    }
    check::note_assertions();
    let began = Instant::now();
    println!("{}", table::HEAD);
    let tested = arguments.bugs.extract_if(.., |bug| named::test_of(*bug).is_some());
    let tested: Vec<_> = tested.collect();
    let mut survivors = hunt_all(&arguments);
    for &bug in &tested {
        let is_caught = named::catches(bug);
        println!("{}", table::named_row(bug, is_caught));
        survivors += usize::from(!is_caught);
    }
    println!(
        "\n{} bugs, {} starts of at most {} seeds, {survivors} survivors, {:.0} s",
        arguments.bugs.len() + tested.len(),
        arguments.starts,
        arguments.seeds,
        began.elapsed().as_secs_f64(),
    );
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Hunts for each bug from each start, and prints a row as soon as those before it are there.
/// Returns how many bugs survived somewhere.
fn hunt_all(arguments: &Arguments) -> usize {
    let (bugs, starts) = (&arguments.bugs, arguments.starts);
    let plan: Vec<_> =
        (0..bugs.len()).flat_map(|bug| (0..starts).map(move |start| (bug, start))).collect();
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    let mut hunts: Vec<Vec<Hunt>> = vec![Vec::new(); bugs.len()];
    thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            let (sender, next, plan) = (sender.clone(), &next, &plan);
            let hunter = move || {
                while let Some(&(bug, start)) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (hunt, what) = hunt(bugs[bug], start, arguments.seeds);
                    sender.send((bug, hunt, what)).expect("the results are awaited");
                }
            };
            let named = thread::Builder::new().name(check::HUNTER.to_owned());
            named.spawn_scoped(scope, hunter).expect("the system has a thread to spare");
        }
        drop(sender);
        let mut printed = 0;
        for (done, (bug, hunt, what)) in results.into_iter().enumerate() {
            if arguments.verbose {
                eprintln!("{}: {what}", bugs[bug]);
            }
            hunts[bug].push(hunt);
            progress(done + 1, plan.len());
            while hunts.get(printed).is_some_and(|hunts| hunts.len() as u64 == starts) {
                println!("{}", table::row(bugs[printed], &hunts[printed]));
                printed += 1;
            }
        }
        assert_eq!(printed, bugs.len(), "a hunter died");
    });
    hunts.iter().filter(|hunts| hunts.iter().any(|hunt| hunt.seeds.is_none())).count()
}

fn progress(done: usize, all: usize) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{done} of {all} hunts\r");
        drop(std::io::stderr().flush());
    }
}
