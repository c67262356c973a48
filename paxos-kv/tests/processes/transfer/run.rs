//! A cluster, its clients, and what they go through.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tonic::transport::Channel;

use super::{
    super::{
        cluster::Cluster,
        history::{Outcome, Request, key},
        options::{Setup, Transport},
        stream::Stream,
        wire::{connect, everything, perform},
    },
    agreement::{KEPT_REVISIONS, compact},
};

/// How many commands pass, how many keys they write, and of which size: unless the variable says otherwise,
/// so large that the tables are written several times while a member is away. They are so every 16 MiB, and
/// no checkpoint is ahead of them.
const FEW: Shape = Shape { commands: 16_000, keys: 500, value_bytes: 20_000 };

/// The same, but for the number of commands, if there are many.
const MANY: Shape = Shape { commands: 0, keys: 50_000, value_bytes: 400 };

/// Commands per second, at most: two cores are enough for it. Many commands have no bound, or they would
/// take hours.
const RATE_PER_SECOND: f64 = 300.0;

/// What part of a narrow link the log of the clients takes.
const LOG_PART: f64 = 0.1;

/// What a command takes in the log beside its value, about.
const COMMAND_BYTES: u64 = 100;

/// The servers.
pub(super) const SERVERS: usize = 3;

/// How long a member may take to serve again.
const READY_MAX: Duration = Duration::from_secs(300);

/// How long something may take that does not depend on how much there is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// So long a narrow link takes for a state: long enough for what happens meanwhile.
const NARROW: Duration = Duration::from_secs(12);

/// What members say in their logs.
const FETCHES: &str = "fetches a state";
pub(super) const FETCHED: &str = "a state has been fetched";
pub(super) const TAKEN_OVER: &str = "has taken over a state";
pub(super) const SENDS: &str = "sends a state";

/// What the clients do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) commands: u64,
    pub(super) keys: u64,
    pub(super) value_bytes: usize,
}

/// A cluster, its clients, and what was measured.
pub(super) struct Run {
    pub(super) cluster: Cluster,
    pub(super) stream: Stream,
    pub(super) channels: Vec<Channel>,
    pub(super) shape: Shape,
    pub(super) checkpoint_bytes: u64,
    rate: f64,
    /// The most memory of each member so far.
    pub(super) memory_max: Vec<u64>,
    /// What the log of a member that was always there took up, now and then.
    pub(super) log_bytes: Vec<u64>,
    directory: TempDir,
}

impl Run {
    pub(super) async fn start(transport: Transport, small_disks: bool) -> Result<Run, String> {
        let given = std::env::var("PAXOS_TRANSFER_COMMANDS").ok();
        let shape = match &given {
            None => FEW,
            Some(text) => {
                let commands = text.parse().map_err(|_| {
                    format!("PAXOS_TRANSFER_COMMANDS must be a number of commands, not {text:?}")
                })?;
                Shape { commands, ..MANY }
            }
        };
        let Shape { commands, keys, value_bytes } = shape;
        // About six checkpoints while a member is away.
        let missed_bytes = commands / 4 * (value_bytes as u64 + COMMAND_BYTES);
        let checkpoint_bytes = (missed_bytes / 6).min(64 << 20);
        let setup = Setup {
            checkpoint_slots: 100_000,
            checkpoint_bytes,
            election_timeout: Duration::from_millis(1000),
            ..Setup::new(SERVERS, transport, 1, Duration::ZERO, small_disks)
        };
        println!("{setup}, or {checkpoint_bytes} bytes; {commands} commands");
        let directory = tempfile::Builder::new().prefix("paxos-kv-transfer-").tempdir();
        let directory = directory.map_err(|error| format!("a temporary directory: {error}"))?;
        let cluster = Cluster::start(setup, directory.path()).await;
        let cluster = cluster.map_err(|error| format!("the servers do not start: {error}"))?;
        let endpoints = cluster.endpoints();
        let rate = if given.is_some() { f64::from(u32::MAX) } else { RATE_PER_SECOND };
        let stream = Stream::start(&endpoints, keys, value_bytes);
        stream.set_rate(rate);
        let mut run = Run {
            channels: endpoints.iter().map(|endpoint| connect(endpoint)).collect(),
            cluster,
            stream,
            shape,
            checkpoint_bytes,
            rate,
            memory_max: vec![0; SERVERS],
            log_bytes: Vec::new(),
            directory,
        };
        for server in 0..SERVERS {
            run.ready(server, Instant::now()).await?;
        }
        Ok(run)
    }

    /// Waits until so many more commands have been answered.
    pub(super) async fn pass(&mut self, commands: u64) -> Result<(), String> {
        let until = self.stream.done() + commands;
        let mut last = (self.stream.done(), Instant::now());
        while self.stream.done() < until {
            self.look()?;
            if self.stream.done() > last.0 {
                last = (self.stream.done(), Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                return Err(format!("no command was answered for {PATIENCE:?}"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// A member misses a quarter of all commands. Returns the 99th percentile of the latencies
    /// meanwhile, once the others have got over it.
    pub(super) async fn miss(&mut self, victim: usize) -> Result<Duration, String> {
        self.stream.set_away(victim, true);
        self.cluster.kill(victim).map_err(|error| error.to_string())?;
        let commands = self.shape.commands / 4;
        self.pass(commands / 4).await?;
        let _ = self.stream.p99();
        self.pass(commands - commands / 4).await?;
        let p99 = self.stream.p99();
        // So that the state is what the keys hold, and not all that they have ever held.
        let another = &self.channels[(victim + 1) % SERVERS];
        let (now, _) = everything(another, 0).await.map_err(|status| status.to_string())?;
        compact(another, now - KEPT_REVISIONS).await?;
        Ok(p99)
    }

    /// Starts a member and waits until it serves: how long that took, and the 99th percentile of the
    /// latencies at the others meanwhile.
    pub(super) async fn come_back(
        &mut self,
        victim: usize,
    ) -> Result<(Duration, Duration), String> {
        let fetched = self.count(victim, FETCHED)?;
        let began = Instant::now();
        self.cluster.restart_all().map_err(|error| error.to_string())?;
        let back = self.ready(victim, began).await?;
        if self.count(victim, FETCHED)? == fetched {
            return Err("the member came back without a state".to_owned());
        }
        Ok(back)
    }

    /// Waits until a member answers a linearizable read.
    pub(super) async fn ready(
        &mut self,
        server: usize,
        began: Instant,
    ) -> Result<(Duration, Duration), String> {
        let channel = self.channels[server].clone();
        let request = Request::Get { key: key(0, 0), serializable: false };
        loop {
            let read = perform(&channel, &request, Duration::from_secs(2));
            if matches!(read.await, Outcome::Answered(_)) {
                self.stream.set_away(server, false);
                return Ok((began.elapsed(), self.stream.p99()));
            }
            self.look()?;
            if began.elapsed() > READY_MAX {
                let name = self.cluster.name(server);
                return Err(format!("{name} does not serve within {READY_MAX:?}"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Narrows the way to a member so that a state takes a while.
    pub(super) fn narrow(&self, victim: usize) {
        let state = self.shape.keys * self.shape.value_bytes as u64;
        let bandwidth = (state as f64 / NARROW.as_secs_f64()) as u64;
        let rate = bandwidth as f64 * LOG_PART / self.shape.value_bytes as f64;
        self.stream.set_rate(rate);
        let links: Vec<_> =
            (0..SERVERS).filter(|other| *other != victim).map(|other| (other, victim)).collect();
        println!("  {} KiB of state over {} KiB/s", state >> 10, bandwidth >> 10);
        self.cluster.network.change(&links, |link| link.bandwidth = bandwidth);
    }

    pub(super) fn widen(&self) {
        self.cluster.network.heal();
        self.stream.set_rate(self.rate);
    }

    /// Starts a member and waits until a state is on its way to it.
    pub(super) async fn begin_to_fetch(&mut self, victim: usize) -> Result<(), String> {
        let before = self.count(victim, FETCHES)?;
        self.cluster.restart_all().map_err(|error| error.to_string())?;
        let began = Instant::now();
        while self.count(victim, FETCHES)? == before {
            self.look()?;
            if began.elapsed() > PATIENCE {
                return Err(format!("the member fetches nothing within {PATIENCE:?}"));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    pub(super) async fn wait(&mut self, time: Duration) -> Result<(), String> {
        self.look()?;
        tokio::time::sleep(time).await;
        self.look()
    }

    /// How often a member has said something.
    pub(super) fn count(&self, server: usize, what: &str) -> Result<usize, String> {
        let log = self.cluster.log(server).map_err(|error| error.to_string())?;
        Ok(log.matches(what).count())
    }

    /// Looks at processes, memory and disks.
    pub(super) fn look(&mut self) -> Result<(), String> {
        self.cluster.check_processes()?;
        for server in 0..SERVERS {
            let memory = self.cluster.process(server).map_or(0, resident_bytes);
            self.memory_max[server] = self.memory_max[server].max(memory);
        }
        self.log_bytes.push(used_bytes(&self.cluster.data(1).join("log")));
        Ok(())
    }

    /// Leaves data and logs where they can be looked at, if something was wrong.
    pub(super) async fn finish(mut self, ended: Result<(), String>) -> Result<(), String> {
        self.stream.stop().await;
        let Err(reason) = ended else { return Ok(()) };
        let small = self.cluster.keep_small_disks();
        let more = small.err().map_or_else(String::new, |error| format!(", but for {error}"));
        let kept = self.directory.keep();
        Err(format!("{reason}\ndata and logs are in {}{more}", kept.display()))
    }
}

/// Memory of a process that is in use.
fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    1024 * kibibytes.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
}

/// What a file, or all files of a directory, take up on the disk.
fn used_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return 512 * metadata.blocks();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| used_bytes(&entry.path())).sum()
}
