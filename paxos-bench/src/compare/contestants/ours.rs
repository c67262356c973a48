//! This project: its own node, its transport and its log in memory, with checkpoints as they are by
//! default.

use bytes::Bytes;

use crate::compare::{
    CompareError,
    tasks::{Client, Service},
};
use crate::{Cluster, Entry, HarnessError, Payload, StorageKind, Tally, TransportKind};

/// A cluster of nodes that runs on tokio.
pub(in crate::compare) struct Ours {
    cluster: Cluster,
    leader: paxos_core::Node<Tally>,
    before: Tally,
}

#[derive(Clone)]
pub(in crate::compare) struct OurClient(paxos_core::Node<Tally>);

impl Service for Ours {
    type Client = OurClient;

    async fn start(nodes: usize) -> Result<Ours, CompareError> {
        let directory = std::env::temp_dir();
        let (transport, storage) = (TransportKind::Memory, StorageKind::Memory);
        let cluster = Cluster::start(nodes, transport, storage, &directory).await?;
        let leader = cluster.entry(Entry::Leader)[0].clone();
        let before = cluster.agreed().await?;
        Ok(Ours { cluster, leader, before })
    }

    fn client(&self) -> OurClient {
        OurClient(self.leader.clone())
    }

    async fn stop(self, _commands: u64) -> Result<Vec<Tally>, CompareError> {
        // Fails unless all nodes hold the same.
        let Tally { commands, bytes } = self.cluster.shutdown().await?;
        let Tally { commands: commands_before, bytes: bytes_before } = self.before;
        Ok(vec![Tally { commands: commands - commands_before, bytes: bytes - bytes_before }])
    }
}

impl Client for OurClient {
    async fn propose(&self, payload: Bytes) -> Result<(), CompareError> {
        self.0.propose(Payload::from(payload)).await.map_err(HarnessError::from)?;
        Ok(())
    }
}
