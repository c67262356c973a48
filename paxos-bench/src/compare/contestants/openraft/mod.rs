//! openraft, with its storage traits of version 2 in memory: a write is reported as durable in the
//! call that makes it, replication reads the log without going through Raft's core, and a peer is
//! called directly.

mod log;
mod network;
mod state_machine;

use std::{io::Cursor, sync::Arc, time::Duration};

use ::openraft::{Config, Raft, SnapshotPolicy, impls::EmptyNode};
use bytes::Bytes;

use self::{log::Log, network::Router, state_machine::Machine};
use crate::{
    Tally,
    compare::{
        CompareError,
        applied::{self, Applied},
        tasks::{Client, Service},
    },
};

::openraft::declare_raft_types!(
    /// What Raft is about here.
    pub(super) Types:
        D = Bytes,
        R = (),
        Node = EmptyNode,
        SnapshotData = Cursor<Vec<u8>>,
);

/// Entries in one message to a follower.
const APPEND_ENTRIES_MAX: u64 = 4096;

/// Entries between two snapshots, each of which is two numbers, and lets the log end.
const SNAPSHOT_EVERY: u64 = 65_536;

/// Entries kept behind a snapshot, for a follower that lags a little.
const LOG_KEPT: u64 = 16_384;

/// Entries after which it is worth while to take some from the front of the log.
const PURGE_BATCH: u64 = 4096;

/// How long anything may take that is not measured.
const PATIENCE: Duration = Duration::from_secs(10);

fn problem(problem: impl std::fmt::Display) -> CompareError {
    CompareError::Peer { contestant: "openraft", problem: problem.to_string() }
}

/// A cluster.
pub(in crate::compare) struct OpenRaft {
    nodes: Vec<Raft<Types>>,
    applied: Vec<Arc<Applied>>,
}

#[derive(Clone)]
pub(in crate::compare) struct OpenRaftClient(Raft<Types>);

impl Service for OpenRaft {
    type Client = OpenRaftClient;

    async fn start(nodes: usize) -> Result<OpenRaft, CompareError> {
        let config = Config {
            heartbeat_interval: 100,
            election_timeout_min: 500,
            election_timeout_max: 1000,
            max_payload_entries: APPEND_ENTRIES_MAX,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_EVERY),
            max_in_snapshot_log_to_keep: LOG_KEPT,
            purge_batch_size: PURGE_BATCH,
            replication_lag_threshold: LOG_KEPT,
            ..Config::default()
        };
        let config = Arc::new(config.validate().map_err(problem)?);
        let router = Router::new(nodes);
        let mut cluster = OpenRaft { nodes: Vec::new(), applied: Vec::new() };
        for id in 0..nodes as u64 {
            let applied = Arc::<Applied>::default();
            let (log, machine) = (Log::default(), Machine::new(Arc::clone(&applied)));
            let raft = Raft::new(id, Arc::clone(&config), router.clone(), log, machine).await;
            let raft = raft.map_err(problem)?;
            router.add(id, raft.clone());
            cluster.nodes.push(raft);
            cluster.applied.push(applied);
        }
        let first = &cluster.nodes[0];
        let members = (0..nodes as u64).map(|id| (id, EmptyNode {}));
        let members = members.collect::<std::collections::BTreeMap<_, _>>();
        first.initialize(members).await.map_err(problem)?;
        for node in &cluster.nodes {
            node.wait(Some(PATIENCE))
                .current_leader(0, "the first leads")
                .await
                .map_err(problem)?;
        }
        Ok(cluster)
    }

    fn client(&self) -> OpenRaftClient {
        OpenRaftClient(self.nodes[0].clone())
    }

    async fn stop(self, commands: u64) -> Result<Vec<Tally>, CompareError> {
        let tallies = applied::settle(&self.applied, commands).await;
        for node in &self.nodes {
            node.shutdown().await.map_err(problem)?;
        }
        Ok(tallies)
    }
}

impl Client for OpenRaftClient {
    async fn propose(&self, payload: Bytes) -> Result<(), CompareError> {
        let answered = self.0.client_write_ff(payload).await.map_err(problem)?;
        answered.await.map_err(problem)?.map_err(problem)?;
        Ok(())
    }
}
