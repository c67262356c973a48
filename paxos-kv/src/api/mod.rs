//! The etcd v3 API: one file per service, and what they share.

mod changes;
mod cluster;
mod deadline;
mod error;
mod health;
mod kv;
mod lease;
mod maintenance;
mod reads;
mod renewals;
mod snapshot;
mod streams;

use std::{sync::Arc, time::Duration};

use axum::middleware::{from_fn, map_response};
use bytes::Bytes;
use paxos_core::{node::Node, types::NodeId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Status,
    metadata::MetadataMap,
    service::{Routes, interceptor::InterceptedService},
};

pub(crate) use self::changes::run_promotions;
use self::{
    error::{no_leader, propose_status, read_status},
    reads::{Length, Reads},
};
use crate::{
    proto::etcdserverpb::{
        RangeRequest, ResponseHeader, cluster_server::ClusterServer, kv_server::KvServer,
        lease_server::LeaseServer, maintenance_server::MaintenanceServer,
    },
    server::{Lessor, config::ClusterMap},
    store::{Answer, Command, KvError, Monitor, Reader, RequestLimits, Rules, Store},
};

/// The version of etcd whose API this is. Clients parse it.
pub(crate) const API_VERSION: &str = "3.5.17";

/// The version of etcd that all members of the cluster are compatible with.
pub(crate) const CLUSTER_VERSION: &str = "3.5.0";

/// What a request may have in bytes beyond the limit and still get a readable refusal.
const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;

/// What all services need. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Context {
    shared: Arc<Shared>,
}

struct Shared {
    node: Node<Store>,
    reader: Reader,
    store: Monitor,
    cluster: ClusterMap,
    limits: RequestLimits,
    reads: Reads,
    lessor: Lessor,
    timing: Timing,
    ending: CancellationToken,
    /// Learners that are to vote.
    promotions: mpsc::UnboundedSender<NodeId>,
}

/// What of the timing of a member clients get to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long a member that hears of no leader waits, at least.
    pub(crate) election_timeout: Duration,
}

impl Timing {
    /// The shortest time that a lease lasts, in seconds: half as long again as it takes to notice that a leader has
    /// gone, as in etcd.
    fn ttl_min(self) -> i64 {
        let milliseconds = self.election_timeout.as_millis() * 3 / 2;
        i64::try_from(milliseconds.div_ceil(1000)).unwrap_or(i64::MAX).max(1)
    }
}

/// What a store holds, in numbers.
pub(crate) struct Sizes {
    /// Its file, in bytes.
    pub(crate) bytes: u64,
    /// What of that is in use.
    pub(crate) in_use: u64,
    /// The newest revision.
    pub(crate) revision: i64,
    /// What history begins at.
    pub(crate) compacted: i64,
}

impl Context {
    /// Learners that are to vote go to `promotions`.
    pub(crate) fn new(
        node: Node<Store>,
        reader: Reader,
        store: Monitor,
        cluster: ClusterMap,
        limits: RequestLimits,
        timing: Timing,
        promotions: mpsc::UnboundedSender<NodeId>,
    ) -> Context {
        let (reads, lessor) = (Reads::new(), Lessor::new(reader.clone()));
        let ending = CancellationToken::new();
        let shared = Shared {
            node,
            reader,
            store,
            cluster,
            limits,
            reads,
            lessor,
            timing,
            ending,
            promotions,
        };
        Context { shared: Arc::new(shared) }
    }

    pub(crate) fn node(&self) -> &Node<Store> {
        &self.shared.node
    }

    fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    pub(crate) fn cluster(&self) -> &ClusterMap {
        &self.shared.cluster
    }

    /// The time that leases have.
    pub(crate) fn lessor(&self) -> &Lessor {
        &self.shared.lessor
    }

    fn timing(&self) -> Timing {
        self.shared.timing
    }

    /// Cancelled when the server is about to end: whoever serves a client for as long as that likes ends then.
    pub(crate) fn ending(&self) -> &CancellationToken {
        &self.shared.ending
    }

    fn promotions(&self) -> &mpsc::UnboundedSender<NodeId> {
        &self.shared.promotions
    }

    /// What a request may measure.
    pub(crate) fn limits(&self) -> RequestLimits {
        self.shared.limits
    }

    /// The leader, as far as this member knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.shared.node.leadership().borrow().leader
    }

    pub(crate) fn has_leader(&self) -> bool {
        self.leader().is_some()
    }

    /// Whether a disk of this member is full, that of the log or that of the state.
    pub(crate) fn lacks_room(&self) -> bool {
        self.shared.store.lacks_room() || self.shared.node.is_disk_full()
    }

    /// What the local store holds, in numbers.
    pub(crate) fn sizes(&self) -> Sizes {
        let reader = self.reader();
        Sizes {
            bytes: reader.size_bytes(),
            in_use: reader.size_in_use(),
            revision: reader.revision(),
            compacted: reader.compacted_revision(),
        }
    }

    /// Replicates a command, by the rules in force, and returns what it did.
    pub(crate) async fn propose(&self, command: Command) -> Result<Answer, Status> {
        let envelope = command.under(self.reader().rules());
        let proposed = self.shared.node.propose(envelope).await;
        Ok(proposed.map_err(|error| propose_status(&error))??)
    }

    /// The rules in force, as far as this member knows.
    pub(crate) fn rules(&self) -> Rules {
        self.reader().rules()
    }

    /// Returns once this member has applied everything that was acknowledged before.
    pub(crate) async fn linearize(&self) -> Result<(), Status> {
        self.shared.node.linearize().await.map_err(|error| read_status(&error))
    }

    /// Reads of the local store that may have to wait for a disk.
    fn reads(&self) -> &Reads {
        &self.shared.reads
    }

    /// Reads a little of the local store, off the threads that serve connections.
    pub(crate) async fn look_up<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, KvError> + Send + 'static,
    ) -> Result<T, Status> {
        let context = self.clone();
        let (found, _) = self.reads().run(Length::LookUp, move |_| read(context.reader())).await?;
        Ok(found)
    }

    /// Whether the local store can be read.
    pub(crate) async fn check_store(&self) -> Result<(), Status> {
        let request = RangeRequest {
            key: Bytes::from_static(b"health"),
            serializable: true,
            ..RangeRequest::default()
        };
        self.look_up(move |reader| reader.range(&request)).await.map(drop)
    }

    /// The header of an answer that reflects the store at `revision`.
    fn header(&self, revision: i64) -> ResponseHeader {
        let identity = self.shared.node.identity();
        let ballot = self.shared.node.leadership().borrow().ballot;
        ResponseHeader {
            cluster_id: identity.cluster.0,
            member_id: identity.node.0,
            revision,
            raft_term: ballot.round,
        }
    }

    /// Completes the header of an answer, which has the revision already.
    fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header(revision));
    }

    /// Refuses a request of a client that wants to be told at once if there is no leader.
    fn require_leader(&self, request: Request<()>) -> Result<Request<()>, Status> {
        match wants_leader(request.metadata()) && !self.has_leader() {
            true => Err(no_leader()),
            false => Ok(request),
        }
    }
}

/// Whether a client wants to be told when there is no leader.
fn wants_leader(metadata: &MetadataMap) -> bool {
    metadata.get("hasleader").is_some_and(|value| value == "true")
}

/// The routes of all services.
pub(crate) async fn routes(context: &Context) -> axum::Router {
    let message_bytes_max = context.limits().request_bytes_max + REQUEST_OVERHEAD_BYTES;
    let guard = |context: &Context| {
        let context = context.clone();
        move |request| context.require_leader(request)
    };
    let kv = KvServer::new(kv::KvService::new(context.clone()))
        .max_decoding_message_size(message_bytes_max)
        .max_encoding_message_size(usize::MAX);
    let cluster = ClusterServer::new(cluster::ClusterService::new(context.clone()));
    let maintenance = MaintenanceServer::new(maintenance::MaintenanceService::new(context.clone()));
    let lease = LeaseServer::new(lease::LeaseService::new(context.clone()));
    Routes::new(InterceptedService::new(kv, guard(context)))
        .add_service(InterceptedService::new(cluster, guard(context)))
        .add_service(InterceptedService::new(maintenance, guard(context)))
        .add_service(InterceptedService::new(lease, guard(context)))
        .add_service(health::service(context).await)
        .prepare()
        .into_axum_router()
        .layer(map_response(reads::hold))
        .layer(map_response(error::in_grpcs_words))
        .layer(from_fn(deadline::respect))
}
