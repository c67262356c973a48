//! Nodes in processes of their own.
//!
//! The process that measures has one node of the cluster and starts the others as children of its
//! own. They talk by lines over the child's standard input and output:
//!
//! | parent | child |
//! |---|---|
//! | | `127.0.0.1:4712`, where it listens |
//! | `127.0.0.1:4711 127.0.0.1:4712 …`, where each of the nodes does | `started` |
//! | `state` | `5000 1280000`, the commands and bytes that its state machine has counted |
//! | the end of the input | the end of the process |
//!
//! So a child ends with its parent, however that one ends.

use std::{
    io::{self, Write},
    path::Path,
    process::Stdio,
    time::Duration,
};

use paxos_core::{Config, Node, types::Membership};
use paxos_transport::MemoryNetwork;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    runtime::Runtime,
    time::timeout,
};

use crate::{HarnessError, StorageKind, Tally, TransportKind};

/// How long a child may take to answer or to end, with a busy machine in mind.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// By how much a child waits longer than its parent before it tries to lead: longer than any
/// measurement takes, however busy the machine.
const PATIENCE: u32 = 10_000;

/// What a child says once its node runs.
const STARTED: &str = "started";

/// What it is asked for.
const STATE: &str = "state";

/// A node in a process of its own. The process is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    id: u64,
    process: tokio::process::Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts `program` as node `id`. Returns the address where the node listens, too.
    pub(crate) async fn start(
        program: &Path,
        id: u64,
        transport: TransportKind,
        storage: StorageKind,
        directory: &Path,
    ) -> Result<(Child, String), HarnessError> {
        let mut process = Command::new(program)
            .args(["node", "--id", &id.to_string()])
            .args(["--transport", &transport.to_string(), "--storage", &storage.to_string()])
            .arg("--directory")
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(HarnessError::io("start a process for a node"))?;
        let input = process.stdin.take().expect("it is piped");
        let output = process.stdout.take().expect("it is piped");
        let output = BufReader::new(output).lines();
        let mut child = Child { id, process, input, output };
        let address = child.answer().await?;
        Ok((child, address))
    }

    /// Which node it is.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Tells it who else there is, and waits until its node has started.
    pub(crate) async fn join(&mut self, addresses: &str) -> Result<(), HarnessError> {
        match self.ask(addresses).await? {
            answer if answer == STARTED => Ok(()),
            answer => Err(self.problem(answer)),
        }
    }

    /// What its state machine holds, by a linearizable read.
    pub(crate) async fn state(&mut self) -> Result<Tally, HarnessError> {
        let answer = self.ask(STATE).await?;
        let numbers = answer.split_once(' ').and_then(|(commands, bytes)| {
            Some(Tally { commands: commands.parse().ok()?, bytes: bytes.parse().ok()? })
        });
        numbers.ok_or_else(|| self.problem(answer))
    }

    /// Lets it end.
    pub(crate) async fn end(self) -> Result<(), HarnessError> {
        let Child { id, mut process, input, .. } = self;
        drop(input);
        let ended = timeout(ANSWER_MAX, process.wait()).await;
        let problem = match ended {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(Ok(status)) => format!("it has ended with {status}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not end".to_owned(),
        };
        Err(HarnessError::Child { id, problem })
    }

    async fn ask(&mut self, line: &str) -> Result<String, HarnessError> {
        let written = self.input.write_all(format!("{line}\n").as_bytes()).await;
        written.map_err(|error| self.problem(error.to_string()))?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<String, HarnessError> {
        let problem = match timeout(ANSWER_MAX, self.output.next_line()).await {
            Ok(Ok(Some(line))) => return Ok(line),
            Ok(Ok(None)) => "it has ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it does not answer".to_owned(),
        };
        Err(self.problem(problem))
    }

    fn problem(&self, problem: String) -> HarnessError {
        HarnessError::Child { id: self.id, problem }
    }
}

/// Is node `id` until standard input ends: the other side of a cluster whose nodes have
/// [processes of their own](crate::Cluster::start_processes).
///
/// # Errors
///
/// If the node does not start, or ends by itself.
pub fn serve(
    id: u64,
    transport: TransportKind,
    storage: StorageKind,
    directory: &Path,
) -> Result<(), HarnessError> {
    let runtime = Runtime::new().map_err(HarnessError::io("start a runtime"))?;
    let (address, transport) = runtime.block_on(transport.bind(id, &MemoryNetwork::new(0)))?;
    say(&address)?;
    let mut lines = io::stdin().lines().map_while(Result::ok);
    let Some(addresses) = lines.next() else { return Ok(()) };
    let builder = Node::builder(id, Membership::new((1..).zip(addresses.split(' ')))?)
        .transport_arc(transport)
        .storage_arc(storage.open(directory, id)?)
        .configure(wait_for_the_parent);
    let node = runtime.block_on(builder.start(Tally::default()))?;
    say(STARTED)?;
    for line in lines {
        if line == STATE {
            let Tally { commands, bytes } = runtime.block_on(node.read(|tally| *tally))?;
            say(&format!("{commands} {bytes}"))?;
        }
    }
    runtime.block_on(node.shutdown())?;
    Ok(())
}

/// The parent, which measures, is to lead: its clients are its own, as an embedder's are.
fn wait_for_the_parent(config: &mut Config) {
    config.heartbeat_interval *= PATIENCE;
    config.election_timeout *= PATIENCE;
}

fn say(line: &str) -> Result<(), HarnessError> {
    let mut output = io::stdout().lock();
    let said = writeln!(output, "{line}").and_then(|()| output.flush());
    said.map_err(HarnessError::io("talk to the process that measures"))
}
