//! `paxos-bench soak`

use std::{error::Error, path::PathBuf, process::ExitCode, sync::atomic::Ordering};

use clap::Args;
use paxos_bench::{
    Disk, Environment,
    soak::{self, Report, Request},
};

use super::{interrupt, output};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Request,
    /// A directory for the samples as `soak.csv` and the page with charts, `soak.html`, which is written
    /// again every minute.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Samples between two pages.
const PAGE_EVERY: usize = 12;

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let interrupted = interrupt::flag()?;
    let disk = Disk::look(&arguments.request.directory)?;
    let mut report = Report::new(Environment::look(), disk, output::command_line());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("{}", Report::csv_head(3));
    let mut restarts = 0;
    let told = |report: &Report| {
        for restart in &report.restarts[restarts..] {
            eprintln!("{restart:?}");
        }
        restarts = report.restarts.len();
        if let Some(sample) = report.samples.last() {
            println!("{sample}");
        }
        let written = match report.samples.len() % PAGE_EVERY {
            0 => write(arguments, report),
            _ => Ok(()),
        };
        if let Err(error) = written {
            eprintln!("{error}");
        }
        !interrupted.load(Ordering::Relaxed)
    };
    let ended = runtime.block_on(soak::run(&arguments.request, &mut report, told));
    for (name, [first, second, third], most) in report.parts() {
        eprintln!("{name:<12} {first:>10.1} {second:>10.1} {third:>10.1}   most {most:.1}");
    }
    write(arguments, &report)?;
    ended?;
    Ok(interrupt::exit_code(interrupted.load(Ordering::Relaxed)))
}

fn write(arguments: &Arguments, report: &Report) -> std::io::Result<()> {
    let Some(directory) = &arguments.out else { return Ok(()) };
    output::write(directory, "soak.csv", &report.csv())?;
    output::write(directory, "soak.html", &report.html())
}
