//! Many seeds, on many cores.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::IsTerminal,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use paxos_core::sim::{Failure, Fault, Occurrence, Occurrences, Report, Restriction, Simulation};

use super::{LeftOut, replay::replay_command, shrink};

/// From so many seeds on, whatever may happen must have happened.
const SEEDS_FOR_ALL: u64 = 1000;

/// From so many seeds on, every kind of fault that was not left out must have struck.
const SEEDS_FOR_FAULTS: u64 = 100;

/// Between two lines about the progress where there is no terminal for a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(crate) struct Options {
    /// How many seeds to run
    #[arg(long, default_value_t = 1000, conflicts_with = "minutes")]
    count: u64,
    /// Run as many seeds as fit into so many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Seeds that run at the same time; as many as there are cores without it
    #[arg(long)]
    jobs: Option<usize>,
    /// Do not look for a simpler run of a seed that fails
    #[arg(long)]
    no_shrink: bool,
    #[command(flatten)]
    left_out: LeftOut,
}

/// The sum of all runs.
#[derive(Default)]
struct Summary {
    seeds: u64,
    simulated: Duration,
    slots: u64,
    calls: u64,
    strikes: u64,
    slowest: u32,
    faults: BTreeSet<Fault>,
    occurrences: Occurrences,
    /// Election timeouts until something new was chosen, of every run with this ending.
    first_progress: BTreeMap<Occurrence, Vec<f64>>,
}

impl Summary {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated += report.elapsed;
        self.slots += report.slots;
        self.calls += report.calls;
        self.strikes += report.strikes.len() as u64;
        self.slowest = self.slowest.max(report.recovery_timeouts);
        self.faults.extend(&report.faults);
        self.occurrences.merge(&report.occurrences);
        let first = report.first_progress.as_secs_f64() / report.election_timeout.as_secs_f64();
        self.first_progress.entry(report.ending).or_default().push(first);
    }

    fn line(&self) -> String {
        let hours = self.simulated.as_secs_f64() / 3600.0;
        let Summary { seeds, slots, calls, .. } = self;
        format!("{seeds} seeds, {hours:.1} simulated hours, {slots} slots, {calls} calls checked")
    }

    /// What should have happened in so many seeds and never did.
    fn missing(&self, options: &Options) -> Option<String> {
        let restriction = options.left_out.restriction();
        let missing: Vec<_> = if self.seeds >= SEEDS_FOR_ALL
            && restriction == Restriction::default()
        {
            self.occurrences.never().map(|never| never.to_string()).collect()
        } else if self.seeds >= SEEDS_FOR_FAULTS {
            let may_strike = |fault: &&Fault| !restriction.without.contains(fault);
            let is_seen =
                |fault: &Fault| fault.signs().iter().any(|&sign| self.occurrences.count(sign) > 0);
            let faults = Fault::ALL.iter().filter(may_strike).filter(|fault| !is_seen(fault));
            faults.map(|fault| fault.name().to_owned()).collect()
        } else {
            Vec::new()
        };
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    fn print_first_progress(&self) {
        println!("election timeouts until something new was chosen, median and worst, of");
        for (ending, timeouts) in &self.first_progress {
            let mut timeouts = timeouts.clone();
            timeouts.sort_by(f64::total_cmp);
            let (median, worst) = (timeouts[timeouts.len() / 2], timeouts[timeouts.len() - 1]);
            println!("{:>12}  {ending}: {median:.1}, {worst:.1}", timeouts.len());
        }
    }

    fn print(&self, elapsed: Duration, jobs: usize) {
        print!("{}", self.occurrences);
        self.print_first_progress();
        println!("{}", self.line());
        println!("{} strikes of faults; {} kinds of faults", self.strikes, self.faults.len());
        println!("at most {} idle election timeouts until all was done", self.slowest);
        let rate = self.seeds as f64 / elapsed.as_secs_f64();
        let core_rate = rate / jobs as f64;
        println!("{rate:.1} seeds a second, {core_rate:.1} on each of {jobs} cores");
    }
}

fn progress_bar(options: &Options) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let bar = match options.minutes {
        None => ProgressBar::new(options.count),
        Some(_) => ProgressBar::no_length(),
    };
    let style = "{elapsed} {wide_bar} {human_pos}/{human_len} seeds {per_sec} {eta}";
    bar.with_style(ProgressStyle::with_template(style).expect("a constant template"))
}

/// Runs seeds on `jobs` threads until all are done, time is up, one fails or Ctrl-C is pressed.
fn run_all(options: &Options, jobs: usize) -> (Summary, Vec<Failure>) {
    let simulation = Simulation::default().restricted(options.left_out.restriction());
    let stop = Arc::new(AtomicBool::new(false));
    let on_interrupt = Arc::clone(&stop);
    ctrlc::set_handler(move || on_interrupt.store(true, Ordering::Relaxed))
        .expect("nobody else handles Ctrl-C");
    let end = options.minutes.map(|minutes| Duration::from_secs_f64(60.0 * minutes));
    let count = if end.is_some() { u64::MAX - options.first } else { options.count };
    let next = AtomicU64::new(0);
    let began = Instant::now();
    let (sender, reports) = mpsc::channel();
    let bar = progress_bar(options);
    let (mut summary, mut failures) = (Summary::default(), Vec::new());
    let mut line_at = began + LINE_INTERVAL;
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, simulation, stop, next) = (sender.clone(), &simulation, &stop, &next);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| began.elapsed() < end) {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count
                        || sender.send(simulation.run(options.first + number)).is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for report in reports {
            bar.inc(1);
            match report {
                Ok(report) => summary.add(&report),
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    failures.push(failure);
                }
            }
            if bar.is_hidden() && Instant::now() > line_at {
                line_at += LINE_INTERVAL;
                println!("{}", summary.line());
            }
        }
    });
    bar.finish_and_clear();
    (summary, failures)
}

pub(crate) fn run(options: &Options) -> ExitCode {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let jobs = options.jobs.unwrap_or(cores).max(1);
    let began = Instant::now();
    let (summary, failures) = run_all(options, jobs);
    summary.print(began.elapsed(), jobs);
    if let Some(failure) = failures.iter().min_by_key(|failure| failure.seed) {
        println!("{failure}");
        println!("show it: {}", replay_command(failure));
        if !options.no_shrink {
            println!("looking for a simpler run of seed {}", failure.seed);
            let restriction = options.left_out.restriction();
            shrink(&Simulation::default().restricted(restriction), failure.seed);
        }
        return ExitCode::FAILURE;
    }
    if let Some(never) = summary.missing(options) {
        println!("never happened: {never}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
