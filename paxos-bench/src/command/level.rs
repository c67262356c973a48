//! `paxos-bench level`

use std::{error::Error, process::ExitCode};

use clap::Args;
use paxos_bench::{
    Environment,
    level::{self, Request},
};

use super::interrupt;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    request: Request,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    print!("{}", Environment::look());
    println!("| seconds | resident |\n|---:|---:|");
    let seen = level::run(&arguments.request, interrupt::flag()?, |passed, bytes| {
        println!("| {:.0} | {} MiB |", passed.as_secs_f64(), bytes >> 20);
    })?;
    let [first, second, last] = seen.most.map(|bytes| bytes >> 20);
    let (commands, rate) = (seen.sample.commands, seen.sample.rate());
    println!(
        "{commands} commands, {rate:.0} a second; at most {first}, {second} and {last} MiB in the thirds of the time"
    );
    if seen.is_level() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("error: memory has grown");
    Ok(ExitCode::FAILURE)
}
