//! One cluster for many measurements, started when the first of them needs it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use paxos_core::Node;
use tokio::runtime::Runtime;

use crate::{
    Background, Cluster, Entry, HarnessError, Payload, Pipeline, StorageKind, Tally, TransportKind,
    drive, pipeline,
};

/// How many nodes a cluster has.
const NODES: usize = 3;

/// When a cluster gets replaced by an empty one, between two measurements. Nodes keep their whole
/// log, and a log of this size, three times in memory, leaves any machine its room.
const CLUSTER_BYTES_MAX: u64 = 256 << 20;

/// A tokio runtime and a cluster on it.
///
/// - Made by [`new`](Fixture::new), which starts nothing.
/// - Not measured: [`prepare`](Fixture::prepare), [`start_background`](Fixture::start_background),
///   [`stop_background`](Fixture::stop_background).
/// - Measured: [`throughput`](Fixture::throughput), [`latency`](Fixture::latency).
/// - The end: [`close`](Fixture::close).
#[derive(Debug)]
pub struct Fixture {
    transport: TransportKind,
    storage: StorageKind,
    directory: PathBuf,
    runtime: Runtime,
    cluster: Option<Cluster>,
    background: Option<Background>,
}

impl Fixture {
    /// For clusters over these backends, with their files below `directory`.
    ///
    /// # Errors
    ///
    /// If the operating system starts no threads.
    pub fn new(
        transport: TransportKind,
        storage: StorageKind,
        directory: &Path,
    ) -> Result<Fixture, HarnessError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(HarnessError::io("start a runtime"))?;
        let directory = directory.to_owned();
        Ok(Fixture { transport, storage, directory, runtime, cluster: None, background: None })
    }

    /// The nodes to propose at, of a cluster that runs, has a leader and room.
    ///
    /// # Errors
    ///
    /// If a cluster does not start, or the one before did not end well.
    pub fn prepare(&mut self, entry: Entry) -> Result<Vec<Node<Tally>>, HarnessError> {
        let Fixture { transport, storage, directory, runtime, cluster, .. } = self;
        runtime.block_on(async {
            if let Some(current) = cluster.take() {
                if current.agreed().await?.bytes <= CLUSTER_BYTES_MAX {
                    return Ok(cluster.insert(current).entry(entry));
                }
                current.shutdown().await?;
            }
            let started = Cluster::start(NODES, *transport, *storage, directory).await?;
            Ok(cluster.insert(started).entry(entry))
        })
    }

    /// The time for `rounds` times `in_flight` commands, `in_flight` at any time: see [`drive`].
    ///
    /// # Errors
    ///
    /// The first command that has no result.
    pub fn throughput(
        &self,
        entry: &[Node<Tally>],
        payload: &Payload,
        in_flight: usize,
        rounds: u64,
    ) -> Result<Duration, HarnessError> {
        let commands = rounds.saturating_mul(in_flight as u64);
        self.runtime.block_on(drive(entry, payload, in_flight, commands))
    }

    /// As [`throughput`](Fixture::throughput), from a single task: see [`pipeline`].
    ///
    /// # Errors
    ///
    /// The first command that has no result.
    pub fn pipelined(
        &self,
        node: &Node<Tally>,
        payload: &Payload,
        way: Pipeline,
        in_flight: usize,
        rounds: u64,
    ) -> Result<Duration, HarnessError> {
        let commands = rounds.saturating_mul(in_flight as u64);
        let (node, payload) = (node.clone(), payload.clone());
        // On a task of the runtime, as clients are; this thread is none of its workers.
        let client = async move { pipeline(&node, &payload, way, in_flight, commands).await };
        self.runtime.block_on(self.runtime.spawn(client))?
    }

    /// Keeps the cluster busy with this many clients until the background is stopped.
    ///
    /// # Errors
    ///
    /// If one of them has no result.
    pub fn start_background(
        &mut self,
        entry: &[Node<Tally>],
        payload: &Payload,
        clients: usize,
    ) -> Result<(), HarnessError> {
        let background = Background::start(entry, payload, clients);
        self.background = Some(self.runtime.block_on(background)?);
        Ok(())
    }

    /// The time for `commands` commands, proposed one after the other at `node`.
    ///
    /// # Errors
    ///
    /// The first command that has no result.
    pub fn latency(
        &self,
        node: &Node<Tally>,
        payload: &Payload,
        commands: u64,
    ) -> Result<Duration, HarnessError> {
        let node = node.clone();
        let payload = payload.clone();
        // On a task of its own, as the clients in the background are: this thread is no worker of
        // the runtime, and to wake it costs more than to wake one of those.
        let measured = self.runtime.spawn(async move {
            let start = Instant::now();
            for _ in 0..commands {
                node.propose(payload.clone()).await?;
            }
            Ok::<Duration, HarnessError>(start.elapsed())
        });
        self.runtime.block_on(measured)?
    }

    /// Stops the background, if there is one.
    ///
    /// # Errors
    ///
    /// If one of its commands had no result.
    pub fn stop_background(&mut self) -> Result<(), HarnessError> {
        if let Some(background) = self.background.take() {
            self.runtime.block_on(background.stop())?;
        }
        Ok(())
    }

    /// Checks that the nodes agree, stops them and deletes their files.
    ///
    /// # Errors
    ///
    /// If they do not agree, or something had failed.
    pub fn close(mut self) -> Result<(), HarnessError> {
        self.stop_background()?;
        if let Some(cluster) = self.cluster.take() {
            self.runtime.block_on(cluster.shutdown())?;
        }
        Ok(())
    }
}
