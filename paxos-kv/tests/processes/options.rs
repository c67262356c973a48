//! The command line, and what one run is made of.

use std::{fmt, time::Duration};

use clap::{Parser, ValueEnum};
use fastrand::Rng;
use paxos_core::limits;

use super::faults::Fault;

/// What carries the messages between servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// TCP; the proxy holds up, delays and cuts byte streams.
    Tcp,
    /// QUIC; the proxy loses, delays, reorders and doubles datagrams.
    Quic,
}

impl Transport {
    /// Of the peer URLs.
    pub(crate) fn scheme(self) -> &'static str {
        match self {
            Transport::Tcp => "http",
            Transport::Quic => "quic",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Quic => "quic",
        })
    }
}

/// Clients against real server processes under faults. Without --minutes: the tests, as in any
/// other test of cargo's.
#[derive(Parser)]
#[command(disable_version_flag = true)]
pub(crate) struct Options {
    /// Go on for so many minutes, with another cluster and another seed after each round
    #[arg(long, help_heading = "Long runs", value_parser = time)]
    pub(crate) minutes: Option<f64>,
    /// Servers in a cluster; 3 and 5 in turns without it
    #[arg(long, help_heading = "Long runs", value_parser = clap::value_parser!(u64).range(1..=9))]
    pub(crate) nodes: Option<u64>,
    /// What the servers talk; both in turns without it
    #[arg(long, help_heading = "Long runs")]
    pub(crate) transport: Option<Transport>,
    /// The seed of the first round; from the clock without it
    #[arg(long, help_heading = "Long runs")]
    pub(crate) seed: Option<u64>,
    /// How long servers fail in one round, in seconds
    #[arg(long, help_heading = "Long runs", default_value_t = 120.0, value_parser = time)]
    pub(crate) round_seconds: f64,
    /// Only this fault, by its name in the summary with dashes; may be given several times
    #[arg(long = "fault", value_name = "FAULT", help_heading = "Long runs")]
    pub(crate) faults: Vec<Fault>,
    #[command(flatten)]
    pub(crate) harness: libtest_mimic::Arguments,
}

/// A time, in whatever unit, that can be waited for.
fn time(text: &str) -> Result<f64, String> {
    let time: f64 = text.parse().map_err(|error| format!("{error}"))?;
    match time > 0.0 && time <= 1e6 {
        true => Ok(time),
        false => Err("it has to be above 0 and at most 1000000".to_owned()),
    }
}

/// One cluster, and for how long it suffers.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) nodes: usize,
    pub(crate) transport: Transport,
    /// Decides which faults happen in which order, to whom and when.
    pub(crate) seed: u64,
    pub(crate) duration: Duration,
    /// A majority of the servers keep their data on small disks of their own, which can be full.
    pub(crate) small_disks: bool,
    /// Each server is on a host of its own, and packets between them can get lost.
    pub(crate) packet_filter: bool,
    /// They reach each other directly, and nothing can be done to what they say.
    pub(crate) is_direct: bool,
    /// They keep their logs elsewhere, where there is always room.
    pub(crate) logs_elsewhere: bool,
    pub(crate) election_timeout: Duration,
    pub(crate) checkpoint_slots: u64,
    pub(crate) checkpoint_bytes: u64,
    /// The only faults there are; all if it is empty.
    pub(crate) only: Vec<Fault>,
}

impl Setup {
    /// What the seed makes of it.
    pub(crate) fn new(
        nodes: usize,
        transport: Transport,
        seed: u64,
        duration: Duration,
        small_disks: bool,
    ) -> Setup {
        let mut rng = Rng::with_seed(seed);
        let milliseconds = [300, 500, 1000][rng.usize(..3)];
        let checkpoint_slots = [64, 512, 4096][rng.usize(..3)];
        Setup {
            nodes,
            transport,
            seed,
            duration,
            small_disks,
            packet_filter: false,
            is_direct: false,
            logs_elsewhere: false,
            election_timeout: Duration::from_millis(milliseconds),
            checkpoint_slots,
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
            only: Vec::new(),
        }
    }

    /// The command that runs the same again.
    pub(crate) fn command(&self) -> String {
        let seconds = self.duration.as_secs_f64();
        // Rounded up: the round has to fit in.
        let minutes = (seconds / 60.0 * 100.0).ceil() / 100.0;
        let only = self.only.iter().map(|fault| format!(" --fault {}", fault.name()));
        format!(
            "cargo test -p paxos-kv --test processes -- --minutes {minutes} \
             --round-seconds {seconds} --nodes {} --transport {} --seed {}{}",
            self.nodes,
            self.transport,
            self.seed,
            only.collect::<String>(),
        )
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} servers over {}, seed {}, {} s, election timeout {} ms, a checkpoint every {} slots",
            self.nodes,
            self.transport,
            self.seed,
            self.duration.as_secs(),
            self.election_timeout.as_millis(),
            self.checkpoint_slots,
        )
    }
}
