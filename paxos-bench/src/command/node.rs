//! `paxos-bench node`: what [`paxos_bench::Cluster::start_processes`] starts.

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::Args;
use paxos_bench::{StorageKind, TransportKind, serve};

#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long)]
    id: u64,
    #[arg(long, value_enum)]
    transport: TransportKind,
    #[arg(long, value_enum)]
    storage: StorageKind,
    /// Where the files go; whoever starts the process deletes it.
    #[arg(long)]
    directory: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    // Ctrl-C is for the process that measures, and this one ends with it.
    ctrlc::set_handler(|| {})?;
    let Arguments { id, transport, storage, directory } = arguments;
    serve(*id, *transport, *storage, directory)?;
    Ok(ExitCode::SUCCESS)
}
