//! How long a server takes to start, after few commands and after many, beside etcd with the same data.
//!
//! ```sh
//! cargo build --release -p paxos-kv -p paxos-bench
//! target/release/paxos-bench starts --commands 10000,2000000 --etcd target/etcd-3.5.1/etcd
//! ```
//!
//! A cluster of one is given so many commands by clients that share a connection, each a put of its own
//! under a key picked at random from a fixed number. Then it is killed and started again, several times:
//! the time runs from the start of the process to its answer to a linearizable read, which is asked for
//! every few milliseconds. etcd is given the same commands by the same clients.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::time::sleep;

use crate::soak::{
    SoakError,
    load::{Load, Shape},
    member::{self, Member},
};

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Request {
    /// After so many commands in all, ascending.
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 2_000_000])]
    pub commands: Vec<u64>,
    /// How often each start is timed.
    #[arg(long, default_value_t = 3)]
    pub times: usize,
    /// Clients that wait for their answers.
    #[arg(long, default_value_t = 512)]
    pub clients: usize,
    /// Keys that are written.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Where the servers keep their data; a directory of its own below it is deleted at the end.
    #[arg(long, default_value = "target")]
    pub directory: PathBuf,
    /// The program `paxos-kv`; without it, the one beside this program.
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// The program `etcd`, to be measured too.
    #[arg(long)]
    pub etcd: Option<PathBuf>,
}

/// The starts of one server after so many commands.
#[derive(Clone, Debug)]
pub struct Starts {
    /// Which server.
    pub server: &'static str,
    /// After how many commands.
    pub commands: u64,
    /// What log and state take up on the disk, in bytes.
    pub disk_bytes: u64,
    /// How long each start took.
    pub times: Vec<Duration>,
}

/// Measures; whatever there is goes to `told` at once.
///
/// # Errors
///
/// If a server ends by itself or does not start.
pub async fn run(request: &Request, mut told: impl FnMut(&Starts)) -> Result<(), SoakError> {
    let directory = tempfile::Builder::new()
        .prefix("starts-")
        .tempdir_in(&request.directory)
        .map_err(SoakError::io(format!("make a directory in {}", request.directory.display())))?;
    let ours = ("paxos-kv", member::program(request.server.as_ref())?);
    let etcd = request.etcd.as_ref().map(|program| ("etcd", program.clone()));
    for (server, program) in [Some(ours), etcd].into_iter().flatten() {
        let mut member = Member::alone(server, program, directory.path())?;
        member.start()?;
        member.ready().await?;
        let mut before = 0;
        for &commands in &request.commands {
            fill(&member, commands.saturating_sub(before), request).await;
            before = commands;
            let mut times = Vec::new();
            for _ in 0..request.times {
                member.kill()?;
                member.start()?;
                times.push(member.ready().await?);
            }
            let disk_bytes = member.disk_bytes();
            told(&Starts { server, commands, disk_bytes, times });
        }
    }
    Ok(())
}

/// Has so many commands answered.
async fn fill(member: &Member, commands: u64, request: &Request) {
    let shape = Shape {
        clients: request.clients,
        rate: 0.0,
        keys: request.keys,
        value_bytes: request.value_bytes,
    };
    let load = Load::start(&[member.endpoint().to_owned()], &shape);
    while load.commands() < commands {
        sleep(Duration::from_millis(5)).await;
    }
    load.stop();
    // What is under way has its end, so that the next start is not one after a crash under load alone.
    sleep(Duration::from_millis(500)).await;
}
