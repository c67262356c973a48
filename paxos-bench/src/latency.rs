//! Latency at a steady rate: how long requests take that come when they come.
//!
//! ```sh
//! cargo run --release -p paxos-bench -- latency
//! cargo run --release -p paxos-bench -- latency --transport quic --storage redb --rate 500,2000
//! cargo run --release -p paxos-bench -- latency --processes --transport tcp,quic
//! ```
//!
//! Writes are commands of a [`Tally`](crate::Tally), reads are linearizable. The clock of a request
//! runs from when it should have begun, [`open_loop`] says why, to its answer. All nodes share this
//! machine and, with a storage on disk, its disk: whether that one syncs stands above the table. A
//! cluster that loses a command, or whose nodes do not agree in the end, has no figures.
//!
//! With `--processes` each node has a process of its own, as it would have in service, and with it
//! its own runtime, allocator and sockets. The clients are in the leader's process, beside it, as an
//! embedder's requests are; followers are told to wait longer than usual before they try to lead, and
//! do nothing else differently. Nothing but the protocol passes between the processes while
//! something is measured.

use std::{env, fmt, ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Cluster, Disk, Entry, Environment, HarnessError, OpenLoop, Operation, Payload, StorageKind,
    TransportKind, number::short, open_loop,
};

/// The warm-up before a measurement, as a part of its time.
const WARM_UP: f64 = 0.1;

/// Requests per second, at least and at most.
const RATE: RangeInclusive<f64> = 1.0..=1_000_000.0;

/// Seconds of one measurement.
const SECONDS: RangeInclusive<f64> = 0.01..=86_400.0;

/// What is measured: every combination.
#[derive(Args, Clone, Debug)]
pub struct Request {
    /// How nodes reach each other.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = TransportKind::ALL.to_vec())]
    pub transport: Vec<TransportKind>,
    /// Where they keep their logs.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = StorageKind::ALL.to_vec())]
    pub storage: Vec<StorageKind>,
    /// How many there are.
    #[arg(long, value_delimiter = ',', default_values_t = [3, 5],
        value_parser = clap::value_parser!(u64).range(1..=9))]
    pub nodes: Vec<u64>,
    /// What is asked for.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Write, Kind::Read])]
    pub operation: Vec<Kind>,
    /// Requests per second.
    #[arg(long, value_delimiter = ',', default_values_t = [1000.0], value_parser = rate)]
    pub rate: Vec<f64>,
    /// The size of a command, in bytes.
    #[arg(long, default_value_t = 256,
        value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    pub payload: u32,
    /// How long one measurement takes. A tenth of it goes before as a warm-up.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Where requests go.
    #[arg(long, value_enum, default_value_t = Entry::Leader)]
    pub entry: Entry,
    /// Whether each node has a process of its own, the leader that of the clients. Without the
    /// transport in memory.
    #[arg(long, conflicts_with = "entry")]
    pub processes: bool,
    /// Where files are created, and deleted at the end; on the disk that is to be measured.
    #[arg(long, default_value = "target/latency")]
    pub directory: PathBuf,
}

impl Request {
    fn clusters(&self) -> impl Iterator<Item = (TransportKind, StorageKind, u64)> {
        let nodes = |(transport, storage): (TransportKind, StorageKind)| {
            self.nodes.iter().map(move |nodes| (transport, storage, *nodes))
        };
        let storages = |transport: &TransportKind| {
            let transport = *transport;
            self.storage.iter().map(move |storage| (transport, *storage))
        };
        let reaches =
            |transport: &&TransportKind| transport.leaves_the_process() || !self.processes;
        self.transport.iter().filter(reaches).flat_map(storages).flat_map(nodes)
    }

    fn loads(&self) -> impl Iterator<Item = (Kind, f64)> {
        let rates = |operation: &Kind| {
            let operation = *operation;
            self.rate.iter().map(move |rate| (operation, *rate))
        };
        self.operation.iter().flat_map(rates)
    }
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, RATE)
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, SECONDS)
}

fn within(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("it must be between {} and {}", range.start(), range.end()))
}

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A command.
    Write,
    /// A linearizable read.
    Read,
}

/// What one row is measured under.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Conditions {
    /// How nodes reach each other.
    pub transport: TransportKind,
    /// Where they keep their logs.
    pub storage: StorageKind,
    /// How many there are.
    pub nodes: u64,
    /// Whether each has a process of its own.
    pub processes: bool,
    /// What is asked for.
    pub operation: Kind,
    /// How often, per second.
    pub rate: f64,
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions { transport, storage, nodes, processes, operation, rate } = self;
        let nodes =
            if *processes { format!("{nodes} processes") } else { format!("{nodes} nodes") };
        write!(f, "{transport}/{storage}, {nodes}, {operation:?} at {rate}/s")
    }
}

/// A row: times in microseconds, from the intended start to the answer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// Under which conditions.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// Answers per second.
    pub reached: f64,
    /// Quantiles 50, 90, 99, and 99.9 %, and the slowest.
    pub latencies_us: [f64; 5],
    /// How late all but one in a hundred requests were started at most, by this harness.
    pub late_p99_us: f64,
    /// Requests without an answer.
    pub failed: u64,
}

impl Row {
    fn new(conditions: Conditions, seen: &OpenLoop) -> Row {
        let microseconds = |nanoseconds| nanoseconds as f64 / 1000.0;
        let quantile = |quantile| microseconds(seen.latencies.value_at_quantile(quantile));
        let slowest = microseconds(seen.latencies.max());
        Row {
            conditions,
            reached: seen.latencies.len() as f64 / seen.elapsed.as_secs_f64(),
            latencies_us: [quantile(0.5), quantile(0.9), quantile(0.99), quantile(0.999), slowest],
            late_p99_us: microseconds(seen.lateness.value_at_quantile(0.99)),
            failed: seen.failed,
        }
    }
}

/// What has been measured, and where.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub environment: Environment,
    /// Its disk.
    pub disk: Disk,
    /// The command line.
    pub command: String,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Report {
    /// Looks at the machine and measures nothing yet.
    ///
    /// # Errors
    ///
    /// If the directory cannot be used.
    pub fn new(request: &Request, command: String) -> Result<Report, HarnessError> {
        let environment = Environment::look();
        let disk = Disk::look(&request.directory)?;
        Ok(Report { environment, disk, command, rows: Vec::new() })
    }

    /// Measures every combination, a new cluster for each of transport, storage and number of nodes.
    /// `before` hears of each before it begins, and ends the run if it says `false`. Nodes in
    /// processes of their own run the program of this one, which has to be `paxos-bench`.
    ///
    /// # Errors
    ///
    /// If a cluster fails, or nothing would be measured; what has been measured before remains.
    pub fn measure(
        &mut self,
        request: &Request,
        mut before: impl FnMut(&Conditions) -> bool,
    ) -> Result<(), HarnessError> {
        let runtime = Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(HarnessError::io("start a runtime"))?;
        if request.clusters().next().is_none() {
            return Err(HarnessError::NoTransport);
        }
        for (transport, storage, nodes) in request.clusters() {
            let cluster = runtime.block_on(start(request, transport, storage, nodes))?;
            for (operation, rate) in request.loads() {
                let processes = request.processes;
                let conditions =
                    Conditions { transport, storage, nodes, processes, operation, rate };
                if !before(&conditions) {
                    return Ok(());
                }
                self.rows.push(row(&runtime, &cluster, conditions, request)?);
            }
            runtime.block_on(cluster.shutdown())?;
        }
        Ok(())
    }

    /// The same for programs.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

async fn start(
    request: &Request,
    transport: TransportKind,
    storage: StorageKind,
    nodes: u64,
) -> Result<Cluster, HarnessError> {
    let (nodes, directory) = (nodes as usize, &request.directory);
    if !request.processes {
        return Cluster::start(nodes, transport, storage, directory).await;
    }
    let program = env::current_exe().map_err(HarnessError::io("find this program"))?;
    Cluster::start_processes(&program, nodes, transport, storage, directory).await
}

fn row(
    runtime: &Runtime,
    cluster: &Cluster,
    conditions: Conditions,
    request: &Request,
) -> Result<Row, HarnessError> {
    let operation = match conditions.operation {
        Kind::Write => Operation::Write(Payload::of_size(request.payload as usize)),
        Kind::Read => Operation::Read,
    };
    let nodes = cluster.entry(request.entry);
    let time = Duration::from_secs_f64(request.seconds);
    let ask = |time| open_loop(runtime.handle(), &nodes, &operation, conditions.rate, time);
    ask(time.mul_f64(WARM_UP))?;
    let seen = ask(time)?;
    if request.processes {
        // Otherwise it was another figure: of requests that are forwarded.
        cluster.leads()?;
    }
    Ok(Row::new(conditions, &seen))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([
            "transport",
            "storage",
            "nodes",
            "operation",
            "rate",
            "reached",
            "p50 µs",
            "p90 µs",
            "p99 µs",
            "p99.9 µs",
            "max µs",
            "late p99 µs",
            "failed",
        ]);
        for row in &self.rows {
            let Conditions { transport, storage, nodes, processes, operation, rate } =
                row.conditions;
            let nodes = format!("{nodes}{}", if processes { " processes" } else { "" });
            let mut cells = vec![transport.to_string(), storage.to_string(), nodes];
            cells.push(format!("{operation:?}").to_lowercase());
            cells.extend([rate, row.reached].map(|rate| format!("{rate:.0}")));
            cells.extend(row.latencies_us.map(short));
            cells.extend([short(row.late_p99_us), row.failed.to_string()]);
            table.add_row(cells);
        }
        for column in table.column_iter_mut().skip(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{}{}\n{table}", self.environment, self.disk)
    }
}
