//! One run: a cluster, clients, faults, and what must hold afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tonic::transport::Channel;

use super::{
    clients::Clients,
    cluster::Cluster,
    ending,
    faults::{Fault, Schedule},
    history::{Operation, Outcome},
    linearizability::{self, group_of},
    nemesis::Nemesis,
    options::Setup,
    progress::Progress,
    wire::connect,
    witness,
};

/// What a thread says that panics.
const PANIC: &str = "panicked at";

/// What happened in a run that went well.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) runs: u64,
    /// Every fault there was to be.
    possible: BTreeSet<Fault>,
    /// How often each fault happened.
    faults: BTreeMap<Fault, u64>,
    /// How often something came of each fault.
    consequences: BTreeMap<Fault, u64>,
    /// What the proxies did, and what servers said.
    effects: BTreeMap<&'static str, u64>,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) unknown: u64,
    /// What clients were told instead of an answer, and how often.
    reasons: BTreeMap<String, u64>,
    /// The longest time without an answer to a write, to anybody.
    pub(crate) silence_max: Duration,
    /// The longest time until everybody worked again after all was healed.
    pub(crate) recovery_max: Duration,
}

impl Report {
    /// Adds another run.
    pub(crate) fn add(&mut self, other: Report) {
        self.runs += other.runs;
        self.possible.extend(other.possible);
        add_counts(&mut self.faults, other.faults);
        add_counts(&mut self.consequences, other.consequences);
        add_counts(&mut self.effects, other.effects);
        add_counts(&mut self.reasons, other.reasons);
        self.answered += other.answered;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.silence_max = self.silence_max.max(other.silence_max);
        self.recovery_max = self.recovery_max.max(other.recovery_max);
    }

    /// There was time for every fault.
    ///
    /// # Errors
    ///
    /// If one did not happen all the same.
    pub(crate) fn check_faults(&self) -> Result<(), String> {
        match self.possible.iter().find(|fault| !self.faults.contains_key(fault)) {
            Some(fault) => Err(format!("there was time for every fault, but no {fault}")),
            None => Ok(()),
        }
    }

    /// How often something has happened, by its name.
    pub(crate) fn count(&self, effect: &str) -> u64 {
        self.effects.get(effect).copied().unwrap_or_default()
    }

    /// There was time for every fault to show an effect.
    ///
    /// # Errors
    ///
    /// If one showed none.
    pub(crate) fn check_effects(&self) -> Result<(), String> {
        let is_counted = |fault: &&Fault| !fault.effects().is_empty();
        let is_idle = |fault: &&Fault| self.consequences.get(fault).is_none_or(|count| *count == 0);
        match self.possible.iter().filter(is_counted).find(is_idle) {
            Some(fault) => Err(format!("{fault} happened without effect")),
            None => Ok(()),
        }
    }

    /// As lines.
    pub(crate) fn print(&self) {
        println!(
            "  {} operations answered, {} failed, {} of unknown outcome; no write was answered for \
             {:.1} s at most; everybody worked again {:.1} s after the faults at most",
            self.answered,
            self.failed,
            self.unknown,
            self.silence_max.as_secs_f64(),
            self.recovery_max.as_secs_f64(),
        );
        println!("  faults: {}", listed(&self.faults));
        println!("  effects: {}", listed(&self.effects));
        println!("  instead of answers: {}", listed(&self.reasons));
    }
}

fn add_counts<K: Ord>(sums: &mut BTreeMap<K, u64>, counts: BTreeMap<K, u64>) {
    for (key, count) in counts {
        *sums.entry(key).or_default() += count;
    }
}

fn listed(counts: &BTreeMap<impl Display, u64>) -> String {
    let counts = counts.iter().filter(|(_, count)| **count > 0);
    counts.map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
}

fn reasons(history: &[Operation]) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::new();
    for operation in history {
        let reason = match &operation.outcome {
            Outcome::Answered(_) => continue,
            Outcome::Failed(reason) => format!("{reason} (no effect)"),
            Outcome::Unknown(reason) => reason.clone(),
        };
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

/// What a run leaves behind.
#[derive(Default)]
struct Evidence {
    history: Vec<Operation>,
    /// The faults, with their times.
    log: Vec<String>,
}

/// A cluster, its clients, and what makes them suffer.
pub(crate) struct Stage<'a> {
    pub(crate) channels: Vec<Channel>,
    pub(crate) clients: &'a Clients,
    pub(crate) nemesis: Nemesis,
    pub(crate) cluster: &'a mut Cluster,
}

/// Runs once, with the faults that follow from the seed.
///
/// # Errors
///
/// What was wrong, and where the evidence is.
pub(crate) async fn run(setup: Setup) -> Result<Report, String> {
    let schedule = Schedule::new(&setup);
    go_through(setup, async |Stage { clients, nemesis, cluster, .. }| {
        nemesis.play(schedule, cluster, &mut Progress::new(clients.counts())).await
    })
    .await
}

/// Runs once, and has the cluster suffer in this way; all is to be healed in the end.
///
/// # Errors
///
/// As [`run`].
pub(crate) async fn go_through(
    setup: Setup,
    suffer: impl AsyncFnOnce(&mut Stage<'_>) -> Result<(), String>,
) -> Result<Report, String> {
    println!("{setup}");
    let directory = tempfile::Builder::new().prefix("paxos-kv-processes-").tempdir();
    let directory = directory.map_err(|error| format!("a temporary directory: {error}"))?;
    let started = Cluster::start(setup.clone(), directory.path()).await;
    let mut cluster = started.map_err(|error| format!("the servers do not start: {error}"))?;
    let mut evidence = Evidence::default();
    match attempt(&setup, &mut cluster, suffer, &mut evidence).await {
        Ok(report) => Ok(report),
        Err(reason) => {
            let kept = directory.keep();
            let what = match keep(&kept, &mut cluster, &evidence, &reason) {
                Ok(()) => "history, faults, logs and data are in",
                Err(error) => {
                    eprintln!("the evidence is not complete: {error}");
                    "what could be kept is in"
                }
            };
            let (kept, command) = (kept.display(), setup.command());
            Err(format!("{reason}\n{what} {kept}\nfor the same faults again: {command}"))
        }
    }
}

async fn attempt(
    setup: &Setup,
    cluster: &mut Cluster,
    suffer: impl AsyncFnOnce(&mut Stage<'_>) -> Result<(), String>,
    evidence: &mut Evidence,
) -> Result<Report, String> {
    let endpoints = cluster.endpoints();
    let channels: Vec<_> = endpoints.iter().map(|endpoint| connect(endpoint)).collect();
    let clients = Clients::start(&endpoints, setup.seed);
    let nemesis = Nemesis::new(channels.clone());
    let mut stage = Stage { channels: channels.clone(), clients: &clients, nemesis, cluster };
    let suffered = async {
        ending::everybody_works(&mut stage).await?;
        suffer(&mut stage).await?;
        ending::everybody_works(&mut stage).await
    };
    let suffered = suffered.await;
    let mut nemesis = stage.nemesis;
    evidence.log = std::mem::take(&mut nemesis.log);
    let recovery = match suffered {
        Ok(recovery) => recovery,
        Err(reason) => {
            evidence.history = clients.history();
            return Err(reason);
        }
    };
    let (answered, failed, unknown) = clients.counts().read();
    let start = clients.start_time();
    evidence.history = clients.stop().await;
    let clock = || u64::try_from(start.elapsed().as_nanos()).expect("below centuries");
    let groups = evidence.history.iter().filter_map(|operation| group_of(&operation.request));
    let groups = groups.collect();
    let reads = ending::all_hold_the_same(&channels, clock, groups, cluster).await?;
    evidence.history.extend(reads);
    end(cluster).await?;
    nobody_panicked(setup, cluster)?;
    let log_effects = cluster.log_effects().map_err(|error| error.to_string())?;
    let network_effects = cluster.network_effects().map_err(|error| error.to_string())?;
    let effects = network_effects.into_iter().chain(log_effects);
    let effects = effects.chain(nemesis.company_effects()).collect();
    let began = Instant::now();
    witness::check(&evidence.history)?;
    linearizability::check(&evidence.history)?;
    println!("  checked in {:.1} s", began.elapsed().as_secs_f64());
    Ok(Report {
        runs: 1,
        possible: Schedule::possible(setup).collect(),
        faults: nemesis.counts,
        consequences: nemesis.consequences,
        effects,
        answered,
        failed,
        unknown,
        reasons: reasons(&evidence.history),
        silence_max: silence_max(&evidence.history),
        recovery_max: recovery,
    })
}

fn silence_max(history: &[Operation]) -> Duration {
    let writes = history.iter().filter(|operation| !operation.request.changes_nothing());
    let answered = writes.filter(|operation| operation.answer().is_some());
    let mut times: Vec<_> = answered.map(|operation| operation.ended).collect();
    times.sort_unstable();
    let silences = times.windows(2).map(|pair| pair[1] - pair[0]);
    Duration::from_nanos(silences.max().unwrap_or_default())
}

/// Ends all servers, which they do without an error.
async fn end(cluster: &mut Cluster) -> Result<(), String> {
    let ended = cluster.terminate_all().await.map_err(|error| error.to_string())?;
    match ended.iter().find(|(_, status)| !status.success()) {
        Some((name, status)) => Err(format!("{name} did not end cleanly: {status}")),
        None => Ok(()),
    }
}

fn nobody_panicked(setup: &Setup, cluster: &Cluster) -> Result<(), String> {
    for index in 0..setup.nodes {
        let log = cluster.log(index).map_err(|error| error.to_string())?;
        if let Some(line) = log.lines().find(|line| line.contains(PANIC)) {
            return Err(format!("{}: {line}", cluster.name(index)));
        }
    }
    Ok(())
}

/// Leaves everything where it can be looked at.
fn keep(
    directory: &Path,
    cluster: &mut Cluster,
    evidence: &Evidence,
    reason: &str,
) -> io::Result<()> {
    let at = |name: &str| -> PathBuf { directory.join(name) };
    fs::write(at("reason"), reason)?;
    fs::write(at("faults"), evidence.log.join("\n"))?;
    write(&at("history.jsonl"), &evidence.history)?;
    cluster.keep_small_disks()
}

/// Writes operations down, one JSON object per line.
fn write(path: &Path, operations: &[Operation]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for operation in operations {
        serde_json::to_writer(&mut file, operation)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}
