//! Puts a node together and starts it.

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{mpsc, watch},
};
use tracing::{Instrument, Span};
use xxhash_rust::xxh3::Xxh3;

use super::{
    applier::Applier,
    board::Board,
    desk::Desk,
    driver::{self, Driver, DriversDesk, Wiring},
    error::StartError,
    handle::{Limits, Node, Shared},
    inside::NodeKey,
    lifecycle::{self, Parts},
    log_reader::LogReader,
    machine::Machine,
    request::{Budget, Waiter},
    states::{StateReader, StoredState},
    writer::Writer,
};
use crate::{
    config::Config,
    limits::READS_MAX,
    port::{Recovered, StateMachine, Storage, Transport},
    replica::{Replica, ReplicaError},
    types::{ClusterId, Identity, Instant, Membership, NodeId, Peer, Slot},
};

/// How long a request waits by default.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a node that ends waits by default for what may never come back.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Replicates nothing: stands in `Node::builder` for the state machine that is named only at the
/// start.
impl StateMachine for () {
    type Command = ();
    type Response = ();
    type Snapshot = ();

    fn apply(&mut self, _slot: Slot, commands: Vec<()>) -> Vec<()> {
        commands
    }

    fn snapshot(&self) {}

    fn restore(&mut self, _slot: Slot, _snapshot: ()) -> io::Result<()> {
        Ok(())
    }
}

impl Node<()> {
    /// Begins to build node `id` of the cluster with this membership.
    pub fn builder(id: impl Into<NodeId>, membership: Membership) -> NodeBuilder {
        let mut config = Config::new(id.into(), membership);
        config.seed = fastrand::u64(..);
        NodeBuilder {
            config,
            cluster: None,
            storage: None,
            transport: None,
            request_timeout: REQUEST_TIMEOUT,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            blocking: false,
        }
    }
}

/// Gathers what a node needs. See [`Node::builder`].
#[must_use = "a node runs only once it is started"]
pub struct NodeBuilder {
    config: Config,
    cluster: Option<ClusterId>,
    storage: Option<Arc<dyn Storage>>,
    transport: Option<Arc<dyn Transport>>,
    request_timeout: Duration,
    shutdown_timeout: Duration,
    blocking: bool,
}

impl NodeBuilder {
    /// Names the cluster; the same on every node, and for as long as its data lives. Any number that no other
    /// cluster has which these nodes may come to talk to.
    ///
    /// By default it follows from the voters' ids and addresses. A data directory belongs to its cluster, so with
    /// the default no node can ever move to another address: name the cluster wherever data is to last.
    pub fn cluster_id(mut self, cluster: ClusterId) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Where the node keeps its log.
    pub fn storage(self, storage: impl Storage) -> Self {
        self.storage_arc(Arc::new(storage))
    }

    /// As [`storage`](NodeBuilder::storage), chosen at run time or shared.
    pub fn storage_arc(mut self, storage: Arc<dyn Storage>) -> Self {
        self.storage = Some(storage);
        self
    }

    /// How the node reaches its peers.
    pub fn transport(self, transport: impl Transport) -> Self {
        self.transport_arc(Arc::new(transport))
    }

    /// As [`transport`](NodeBuilder::transport), chosen at run time or shared.
    pub fn transport_arc(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Changes settings of the replica. The seed is a random one unless it is set here.
    pub fn configure(mut self, configure: impl FnOnce(&mut Config)) -> Self {
        configure(&mut self.config);
        self
    }

    /// How long requests wait that have no deadline of their own: 5 s by default, 1 h at most.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a node that ends waits for its state machine and the write under way, and then again for
    /// transport and storage to close: 10 s each by default. What does not come back by then is left behind,
    /// and [`NodeError::Unfinished`](super::NodeError::Unfinished) says so.
    ///
    /// Nothing can be left behind that blocks the only thread of a current-thread runtime, or all threads of
    /// another; and a runtime that is dropped waits for its blocking threads by itself.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Says that the state machine blocks its thread for long, waiting for a disk say: it works on a
    /// thread of its own, which costs some microseconds each time.
    ///
    /// One that blocks unannounced for longer than a heartbeat is left behind on its thread, and the
    /// node goes on without it until it is done. If that happens again soon, it is moved to threads of
    /// its own for good. The log says so. What this cannot mend:
    ///
    /// - On a current-thread runtime there is nobody to go on: the node and everything else on the
    ///   runtime stand still until the state machine returns, and a leader that stands still for an
    ///   election timeout is replaced. It is moved all the same, once it has blocked twice while under
    ///   suspicion, in which the first time puts it that has been quick for long.
    /// - The same goes for a runtime with several threads while all of them are busy: when as many
    ///   state machines block there at once as it has workers, say. One that is new or has lately been
    ///   slow gives its worker to another thread first, and so does not count among them.
    /// - One that has been quick for long and then blocks for the first time may hold up what else its
    ///   worker was about to run, until it returns: the connection to one of the peers, for example.
    pub fn blocking_state_machine(mut self) -> Self {
        self.blocking = true;
        self
    }

    /// The node has nothing yet, and joins a cluster that exists: the members that the builder was given are
    /// those that it can ask. It waits until it is [added](Node::change_members). The cluster needs a
    /// [name](NodeBuilder::cluster_id) of its own for that, which does not depend on its members.
    pub fn joining(mut self) -> Self {
        self.config.joins = true;
        self
    }

    /// Recovers what the storage holds, starts the transport, and runs the node on the current
    /// tokio runtime, whose time driver it needs.
    ///
    /// # Errors
    ///
    /// If something is missing or contradictory, or the storage or the transport cannot start.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start<S: StateMachine>(self, state_machine: S) -> Result<Node<S>, StartError> {
        let checked = self.config.check().and_then(|()| self.config.check_room());
        checked.map_err(ReplicaError::from)?;
        let storage = self.storage.ok_or(StartError::Missing("storage"))?;
        let transport = self.transport.ok_or(StartError::Missing("transport"))?;
        let config = self.config;
        let cluster = self.cluster.unwrap_or_else(|| default_cluster_id(&config.membership));
        let recovered = storage.recover(cluster, config.id).await?;
        let prepared = prepare(&config, recovered, state_machine.durable(), &*transport).await;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                storage.close().await;
                return Err(error);
            }
        };
        let limits = Limits {
            request_timeout: self.request_timeout,
            command_bytes_max: config.command_bytes_max,
            outstanding_bytes_max: config.outstanding_bytes_max,
            outstanding_commands_max: config.outstanding_commands_max,
            nodes: config.membership.voters().map(|id| id.0).collect(),
        };
        let patience = config.heartbeat_interval;
        let span = tracing::info_span!("node", id = config.id.0);
        let runtime = Handle::current();
        let open_state = {
            let storage = Arc::clone(&storage);
            move |slot| {
                let stored = StoredState::new(Arc::clone(&storage), runtime.clone(), slot);
                Box::new(stored) as Box<dyn Read + Send>
            }
        };
        let key = NodeKey::new();
        let applier = Applier::new(key, state_machine, Box::new(open_state));
        let machine = Machine::new(applier, self.blocking, patience, span.clone());
        // Nothing goes on beside what blocks the only thread.
        let is_alone = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
        let desk = (!self.blocking && !is_alone).then(|| Arc::new(Desk::new(patience)));
        let ends = Ends { storage, transport, patience: self.shutdown_timeout };
        Ok(spawn(prepared, key, limits, ends, machine, desk, span))
    }
}

/// What is closed at the end, and how long that may take.
struct Ends {
    storage: Arc<dyn Storage>,
    transport: Arc<dyn Transport>,
    patience: Duration,
}

/// A replica that has recovered, and the origin of its clock.
struct Prepared<R> {
    replica: Replica<Waiter<R>>,
    /// The other voters.
    peers: Vec<NodeId>,
    identity: Identity,
    origin: tokio::time::Instant,
}

async fn prepare<R>(
    config: &Config,
    recovered: Recovered,
    durable: Option<Slot>,
    transport: &dyn Transport,
) -> Result<Prepared<R>, StartError> {
    let identity = recovered.identity;
    tracing::info!(
        node = %identity.node, cluster = %identity.cluster, store = %identity.store,
        incarnation = recovered.incarnation, chosen = %recovered.chosen.slot,
        checkpoint = %recovered.checkpoint.at.slot, durable = durable.map(|slot| slot.0),
        "recovered"
    );
    let peers: Vec<_> = config.membership.peers_of(config.id).collect();
    let addresses = peers
        .iter()
        .map(|&id| Peer {
            id,
            address: config.membership.address(id).unwrap_or_default().to_owned(),
            store: recovered.peers.get(&id).copied(),
        })
        .collect();
    let origin = tokio::time::Instant::now();
    let replica = Replica::new(config.clone(), recovered, durable, Instant::ZERO)?;
    transport.start(identity, addresses).await?;
    Ok(Prepared { replica, peers, identity, origin })
}

fn spawn<S: StateMachine>(
    prepared: Prepared<S::Response>,
    key: NodeKey,
    limits: Limits,
    ends: Ends,
    machine: Machine<S>,
    desk: Option<Arc<DriversDesk<S>>>,
    span: Span,
) -> Node<S> {
    let Prepared { replica, peers, identity, origin } = prepared;
    let Ends { storage, transport, patience } = ends;
    let (board, view) = Board::new(&replica, origin);
    let (ended_sender, ended) = watch::channel(None);
    let (requests, request_receiver) = mpsc::unbounded_channel();
    let proposal_bytes = Budget::new(limits.outstanding_bytes_max);

    let driver = Driver::new(Wiring {
        replica,
        peers,
        transport: Arc::clone(&transport),
        writer: Writer::new(Arc::clone(&storage)),
        log_reader: LogReader::new(Arc::clone(&storage)),
        state_reader: StateReader::new(Arc::clone(&storage)),
        machine,
        requests: request_receiver,
        budget: Arc::clone(&proposal_bytes),
        board,
        patience,
        origin,
    });
    let tasks = match desk {
        None => vec![tokio::spawn(driver::drive(driver).instrument(span.clone()))],
        Some(desk) => {
            let task = |driver| driver::take_turns(Arc::clone(&desk), driver);
            let spawn = |driver| tokio::spawn(task(driver).instrument(span.clone()));
            vec![spawn(Some(driver)), spawn(None)]
        }
    };
    let parts = Parts { tasks, transport, storage, patience };
    tokio::spawn(lifecycle::supervise(parts, ended_sender).instrument(span));
    Node::new(Shared {
        key,
        identity,
        limits,
        proposal_bytes,
        reads: Budget::new(READS_MAX),
        local_reads: Budget::new(READS_MAX),
        requests,
        view,
        ended,
    })
}

/// The same for everybody who is given the same voters at the same addresses.
fn default_cluster_id(membership: &Membership) -> ClusterId {
    let mut hash = Xxh3::new();
    for id in membership.voters() {
        let address = membership.address(id).unwrap_or_default();
        hash.update(&id.0.to_le_bytes());
        hash.update(&(address.len() as u64).to_le_bytes());
        hash.update(address.as_bytes());
    }
    ClusterId(hash.digest())
}

impl fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeBuilder")
            .field("config", &self.config)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_id_depends_on_ids_and_addresses_and_on_nothing_else() {
        let id = |voters: &[(u64, &str)]| {
            let membership = Membership::new(voters.iter().copied()).expect("a membership");
            default_cluster_id(&membership)
        };
        assert_eq!(id(&[(1, "a"), (2, "b")]), id(&[(2, "b"), (1, "a")]));
        assert_ne!(id(&[(1, "a"), (2, "b")]), id(&[(1, "b"), (2, "a")]));
        assert_ne!(id(&[(1, "ab"), (2, "c")]), id(&[(1, "a"), (2, "bc")]));
    }
}
