//! A network in memory: a peer is called.

use std::sync::{Arc, OnceLock};

use ::openraft::{
    Raft, RaftNetwork, RaftNetworkFactory,
    error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError},
    impls::EmptyNode,
    network::RPCOption,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest,
        InstallSnapshotResponse, VoteRequest, VoteResponse,
    },
};

use super::Types;

type Failure<E> = RPCError<u64, EmptyNode, E>;

/// Knows all nodes, once they are there.
#[derive(Clone)]
pub(super) struct Router(Arc<[OnceLock<Raft<Types>>]>);

impl Router {
    pub(super) fn new(nodes: usize) -> Router {
        Router((0..nodes).map(|_| OnceLock::new()).collect())
    }

    pub(super) fn add(&self, id: u64, node: Raft<Types>) {
        assert!(self.0[id as usize].set(node).is_ok(), "node {id} is there already");
    }
}

impl RaftNetworkFactory<Types> for Router {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        Connection { router: self.clone(), target }
    }
}

/// To one peer.
pub(super) struct Connection {
    router: Router,
    target: u64,
}

impl Connection {
    fn peer(&self) -> Result<&Raft<Types>, NetworkError> {
        let absent = || NetworkError::new(&std::io::Error::other("it has not been started"));
        self.router.0[self.target as usize].get().ok_or_else(absent)
    }

    fn remote<E: std::error::Error>(&self, error: E) -> Failure<E> {
        RPCError::RemoteError(RemoteError::new(self.target, error))
    }
}

impl RaftNetwork<Types> for Connection {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure<RaftError<u64>>> {
        let answer = self.peer()?.append_entries(request).await;
        answer.map_err(|error| self.remote(error))
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<RaftError<u64, InstallSnapshotError>>> {
        let answer = self.peer()?.install_snapshot(request).await;
        answer.map_err(|error| self.remote(error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure<RaftError<u64>>> {
        let answer = self.peer()?.vote(request).await;
        answer.map_err(|error| self.remote(error))
    }
}
