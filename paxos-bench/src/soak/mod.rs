//! Hours of load on a cluster of three servers: what is level, and what grows.
//!
//! ```sh
//! cargo build --release -p paxos-kv -p paxos-bench
//! target/release/paxos-bench soak --minutes 60 --out target/soak
//! ```
//!
//! Three `paxos-kv serve` processes on this machine, each with its log and its state in files, serve
//! clients that put values of one size under keys picked at random from a fixed number, over etcd's API.
//! The history is compacted all the time, so what clients could still read is bounded, and so should be
//! everything else: a sample every few seconds has the commands done so far, the bytes of each member's
//! log and state on disk, and its resident memory.
//!
//! Every few minutes one member, in turn, is killed and started again: at once, or after it has been
//! away for so long that the others have compacted what it has missed. The time to ready runs from the
//! start of its process to its answer to a linearizable read, for which it has to have caught up.
//!
//! Clients are a closed loop, each waits for its answer; `--rate` bounds all of them together, for a
//! machine that has other work to do.

mod chart;
pub(crate) mod load;
pub(crate) mod member;
mod report;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::time::{MissedTickBehavior, interval, sleep};

pub use self::report::{Report, Restart, Sample};
use self::{
    load::{Load, Shape},
    member::Member,
};

/// Members of the cluster.
const MEMBERS: usize = 3;

/// Between two compactions of the history.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(10);

/// What is run.
#[derive(Args, Clone, Debug)]
pub struct Request {
    /// How long.
    #[arg(long, default_value_t = 60.0)]
    pub minutes: f64,
    /// Clients that wait for their answers.
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// Commands per second of all clients together, at most; 0 for as many as there can be.
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// Keys that are written.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub keys: u64,
    /// The size of a value, in bytes.
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Seconds between two samples.
    #[arg(long, default_value_t = 5.0)]
    pub every: f64,
    /// Seconds between two restarts of a member.
    #[arg(long, default_value_t = 300.0)]
    pub restart_every: f64,
    /// Seconds for which a member is away, in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 120.0])]
    pub away: Vec<f64>,
    /// The scheme of the peer URLs: http for TCP, quic for QUIC.
    #[arg(long, default_value = "http")]
    pub scheme: String,
    /// Where the members keep their data; a directory of its own below it is deleted at the end.
    #[arg(long, default_value = "target")]
    pub directory: PathBuf,
    /// The program `paxos-kv`; without it, the one beside this program.
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// More flags for every member, such as --server-flag=--snapshot-count=10000.
    #[arg(long = "server-flag")]
    pub server_flags: Vec<String>,
}

/// Why a run ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// The operating system refuses something.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// There is no server to run.
    #[error(
        "{0} is missing: build it with `cargo build --release -p paxos-kv`, or name it with --server"
    )]
    NoServer(String),
    /// A member has ended by itself.
    #[error("member {name} has ended by itself ({status}): {last}")]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: String,
        /// The last line of its log.
        last: String,
    },
    /// A member does not answer.
    #[error("member {name} has not answered for {seconds} s: {last}")]
    NotReady {
        /// Which.
        name: String,
        /// So long.
        seconds: u64,
        /// The last line of its log.
        last: String,
    },
}

impl SoakError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> SoakError {
        let what = what.into();
        move |error| SoakError::Io(what, error)
    }
}

/// Runs; every sample and restart goes to `report` as soon as it is there. `goes_on` is asked after each
/// sample.
///
/// # Errors
///
/// If a member ends by itself or does not come back.
pub async fn run(
    request: &Request,
    report: &mut Report,
    mut told: impl FnMut(&Report) -> bool,
) -> Result<(), SoakError> {
    let directory = tempfile::Builder::new()
        .prefix("soak-")
        .tempdir_in(&request.directory)
        .map_err(SoakError::io(format!("make a directory in {}", request.directory.display())))?;
    let mut members = Member::cluster(MEMBERS, request, directory.path())?;
    for member in &mut members {
        member.start()?;
    }
    for member in &mut members {
        member.ready().await?;
    }
    let shape = Shape {
        clients: request.clients,
        rate: request.rate,
        keys: request.keys,
        value_bytes: request.value_bytes,
    };
    let endpoints: Vec<_> = members.iter().map(|member| member.endpoint().to_owned()).collect();
    let load = Load::start(&endpoints, &shape);
    let compaction = tokio::spawn(load.compactor(COMPACTION_INTERVAL));
    let mut restarts = Restarts::new(request);
    let (began, all) = (Instant::now(), Duration::from_secs_f64(request.minutes * 60.0));
    let mut ticks = interval(Duration::from_secs_f64(request.every));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut before = (Instant::now(), 0);
    let ended = loop {
        tokio::select! {
            _ = ticks.tick() => {}
            restarted = restarts.next(&mut members, &load, began) => match restarted {
                Ok(restart) => {
                    report.restarts.push(restart);
                    continue;
                }
                Err(error) => break Err(error),
            },
        }
        if let Some(ended) = members.iter_mut().find_map(Member::ended) {
            break Err(ended);
        }
        let (commands, now) = (load.commands(), Instant::now());
        let rate = (commands - before.1) as f64 / now.duration_since(before.0).as_secs_f64();
        before = (now, commands);
        let (p99_ms, failed) = load.latency();
        report.samples.push(Sample {
            seconds: began.elapsed().as_secs_f64(),
            commands,
            commands_per_second: rate,
            p99_ms,
            failed,
            log_bytes: members.iter().map(Member::log_bytes).collect(),
            state_bytes: members.iter().map(Member::state_bytes).collect(),
            resident_bytes: members.iter().map(Member::resident_bytes).collect(),
        });
        if !told(report) || began.elapsed() >= all {
            break Ok(());
        }
    };
    compaction.abort();
    load.stop();
    ended
}

/// When which member is restarted, and how far that is.
struct Restarts {
    every: Duration,
    away: Vec<Duration>,
    count: usize,
    phase: Phase,
}

enum Phase {
    Waiting(tokio::time::Instant),
    Away(tokio::time::Instant),
    Coming,
}

impl Restarts {
    fn new(request: &Request) -> Restarts {
        let every = Duration::from_secs_f64(request.restart_every);
        Restarts {
            every,
            away: request.away.iter().map(|&away| Duration::from_secs_f64(away)).collect(),
            count: 0,
            phase: Phase::Waiting(tokio::time::Instant::now() + every),
        }
    }

    /// Returns when a member has been restarted. Goes on where it was if it is dropped.
    async fn next(
        &mut self,
        members: &mut [Member],
        load: &Load,
        began: Instant,
    ) -> Result<Restart, SoakError> {
        let index = self.count % members.len();
        let member = &mut members[index];
        // All lengths for one member after the other.
        let away = self.away.get(self.count / MEMBERS % self.away.len().max(1)).copied();
        let away = away.unwrap_or_default();
        loop {
            match self.phase {
                Phase::Waiting(until) => {
                    tokio::time::sleep_until(until).await;
                    load.set_away(index, true);
                    member.kill()?;
                    self.phase = Phase::Away(tokio::time::Instant::now() + away);
                }
                Phase::Away(until) => {
                    tokio::time::sleep_until(until).await;
                    member.start()?;
                    self.phase = Phase::Coming;
                }
                Phase::Coming => {
                    let ready_seconds = member.ready().await?.as_secs_f64();
                    load.set_away(index, false);
                    self.count += 1;
                    self.phase = Phase::Waiting(tokio::time::Instant::now() + self.every);
                    return Ok(Restart {
                        seconds: began.elapsed().as_secs_f64(),
                        member: member.name().to_owned(),
                        away_seconds: away.as_secs_f64(),
                        ready_seconds,
                        states_taken_over: member.states_taken_over(),
                    });
                }
            }
        }
    }
}

/// A moment, so that a loop that waits for something does nothing else.
async fn pause() {
    sleep(Duration::from_millis(5)).await;
}
