//! `paxos-bench compare`

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use paxos_bench::{
    Environment,
    compare::{self, Plan, Report, Request},
};

use super::{interrupt, output};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Request,
    /// A directory for the same as `compare.json`, and with charts as `compare.html`.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let environment = Environment::look();
    let plan = Plan::new(&arguments.request, interrupt::flag()?)?;
    let progress = ProgressBar::new(plan.measurements() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {wide_msg}")?);
    let (measured, ended) = compare::run(&plan, |cell, entrant| {
        let message = format!("{} ({}): {cell}", entrant.contestant, entrant.flavour);
        if progress.is_hidden() {
            eprintln!("{message}");
        }
        progress.set_message(message);
        progress.inc(1);
    });
    progress.finish_and_clear();

    let mut report = Report::new(environment, output::command_line(), &measured);
    let interrupted = plan.terms.is_over();
    report.ended_early = match &ended {
        Err(error) => Some(error.to_string()),
        Ok(()) => interrupted.then(|| "Ctrl-C".to_owned()),
    };
    print!("{report}");
    if let Some(directory) = &arguments.out {
        output::write(directory, "compare.json", &report.json()?)?;
        output::write(directory, "compare.html", &report.html())?;
    }
    ended?;
    Ok(interrupt::exit_code(interrupted))
}
