//! `paxos-bench latency`

use std::{error::Error, path::PathBuf, process::ExitCode, sync::atomic::Ordering};

use clap::Args;
use paxos_bench::latency::{Report, Request};

use super::{interrupt, output};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Request,
    /// A directory for the same as `latency.json`.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let interrupted = interrupt::flag()?;
    let mut report = Report::new(&arguments.request, output::command_line())?;
    let is_over = || interrupted.load(Ordering::Relaxed);
    let ended = report.measure(&arguments.request, |conditions| {
        eprintln!("{conditions}");
        !is_over()
    });
    print!("{report}");
    if let Some(directory) = &arguments.out {
        output::write(directory, "latency.json", &report.json()?)?;
    }
    ended?;
    Ok(interrupt::exit_code(is_over()))
}
