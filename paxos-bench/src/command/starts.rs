//! `paxos-bench starts`

use std::{error::Error, process::ExitCode};

use clap::Args;
use paxos_bench::{
    Environment,
    starts::{self, Request, Starts},
};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Request,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    print!("{}", Environment::look());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("| server | commands | on disk | starts |\n|---|---:|---:|---|");
    let told = |starts: &Starts| {
        let times: Vec<_> =
            starts.times.iter().map(|time| format!("{:.0} ms", time.as_secs_f64() * 1e3)).collect();
        let Starts { server, commands, disk_bytes, .. } = starts;
        println!("| {server} | {commands} | {} MiB | {} |", disk_bytes >> 20, times.join(", "));
    };
    runtime.block_on(starts::run(&arguments.request, told))?;
    Ok(ExitCode::SUCCESS)
}
