//! A server: one member of a cluster, and the API it serves to clients.

mod authority;
mod backends;
mod checkpoints;
pub mod config;
mod connection;
mod connections;
pub(crate) mod descriptors;
mod error;
mod http;
mod lessor;
mod listener;
mod node;
mod publish;
mod restore;
mod rules;
mod standing;
mod throttle;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use paxos_core::{
    node::{Leadership, Node, NodeError, TransferError},
    replica::{Halt, TransferRefusal},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use self::{
    config::{ClusterMap, ServerConfig, Url},
    connection::Patience,
    connections::Connections,
    http::Shared,
    listener::Acceptor,
};
use crate::{
    api::{self, Context, Timing},
    client::{Client, Local},
    store::{Monitor, Store},
};

pub use crate::backup::{BackupError, BackupStatus};
pub use error::ServerError;
pub(crate) use lessor::Lessor;
pub use restore::{Restore, RestoreError, Restored};

/// How long a leader that stops may take to hand over.
const HANDOVER_MAX: Duration = Duration::from_secs(2);

/// A running server.
///
/// Stops when [`shutdown`](Server::shutdown) is called or its node fails. Dropped, it cuts its
/// clients off and shuts down in the background.
pub struct Server {
    node: Node<Store>,
    store: Monitor,
    acceptor: Acceptor,
    /// For whoever looks after this member: it has places when clients have taken all of theirs.
    probe_acceptor: Acceptor,
    client_urls: Vec<Url>,
    metrics_urls: Vec<Url>,
    joined: CancellationToken,
    /// Of streams to clients.
    ending: CancellationToken,
    data_dir: PathBuf,
    local: Local,
    cluster: ClusterMap,
}

impl Server {
    /// Starts a member: takes its ports, opens its data, joins its peers, serves clients.
    ///
    /// Returns once requests are taken; they are answered as soon as there is a leader.
    ///
    /// # Errors
    ///
    /// If a port is in use, the data belongs to somebody else or cannot be read, or the settings
    /// make no sense.
    pub async fn start(config: ServerConfig) -> Result<Server, ServerError> {
        backends::check(&config)?;
        let connections = Connections::new(descriptors::for_clients(config.servers_in_process)?);
        let clients = bind(&config.listen_client_urls).await?;
        let probes = bind(&config.listen_metrics_urls).await?;
        let client_urls = clients.iter().map(bound_url).collect::<Result<Vec<_>, _>>()?;
        let metrics_urls = probes.iter().map(bound_url).collect::<Result<Vec<_>, _>>()?;
        let (node, reader, store) = node::start(&config).await?;
        let (cluster, limits) = (config.cluster.clone(), config.limits);
        let (promotions, asked) = mpsc::unbounded_channel();
        let timing = Timing { election_timeout: config.election_timeout };
        let context =
            Context::new(node.clone(), reader, store.clone(), cluster, limits, timing, promotions);
        let shared = Shared { context: context.clone(), connections: connections.clone() };
        let services = api::routes(&context).await;
        let local = Local::new(services.clone());
        let router = services.merge(http::routes(shared.clone())).fallback(http::unknown);
        let streams_max = config.concurrent_streams_max;
        let acceptor = Acceptor::new(router, connections, streams_max, Patience::default());
        let router = http::probes(shared).fallback(http::unknown);
        let places = Connections::new(descriptors::PROBES_MAX);
        let probe_acceptor = Acceptor::new(router, places, streams_max, Patience::default());
        for (listener, _) in clients {
            tokio::spawn(acceptor.clone().run(listener));
        }
        for (listener, _) in probes {
            tokio::spawn(probe_acceptor.clone().run(listener));
        }
        let advertised = match config.advertise_client_urls.is_empty() {
            true => client_urls.clone(),
            false => config.advertise_client_urls.clone(),
        };
        let counted = lessor::run(context.clone());
        tokio::spawn(acceptor.stopping().run_until_cancelled_owned(counted));
        let raised = rules::run(context.clone());
        tokio::spawn(acceptor.stopping().run_until_cancelled_owned(raised));
        let promoted = api::run_promotions(context.clone(), asked);
        tokio::spawn(acceptor.stopping().run_until_cancelled_owned(promoted));
        let joined = CancellationToken::new();
        let ending = context.ending().clone();
        let published = publish::run(context, config.name.clone(), advertised, joined.clone());
        tokio::spawn(acceptor.stopping().run_until_cancelled_owned(published));
        let told = checkpoints::run(node.clone());
        tokio::spawn(acceptor.stopping().run_until_cancelled_owned(told));
        let shown: Vec<_> = client_urls.iter().map(ToString::to_string).collect();
        tracing::info!(
            name = config.name,
            member = format!("{:x}", node.identity().node.0),
            cluster = %node.identity().cluster,
            client_urls = shown.join(","),
            "ready to serve client requests"
        );
        // Only now, so that the two lines always come in this order.
        tokio::spawn(log_leadership(node.clone(), config.clone()));
        let data_dir = config.data_dir;
        Ok(Server {
            node,
            store,
            acceptor,
            probe_acceptor,
            client_urls,
            metrics_urls,
            joined,
            ending,
            data_dir,
            local,
            cluster: config.cluster,
        })
    }

    /// Where clients are served, with the ports that the system has chosen.
    #[must_use]
    pub fn client_urls(&self) -> &[Url] {
        &self.client_urls
    }

    /// Where health and metrics are served beside that, with the ports that the system has chosen.
    #[must_use]
    pub fn metrics_urls(&self) -> &[Url] {
        &self.metrics_urls
    }

    /// A client of this member in this process.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.local())
    }

    /// What carries any generated client of etcd's services to this member, without a socket.
    #[must_use]
    pub fn local(&self) -> Local {
        self.local.clone()
    }

    /// Returns once this member is part of a cluster that works: a quorum knows where its clients connect.
    /// Cancel safe.
    pub async fn joined(&self) {
        self.joined.cancelled().await;
    }

    /// The node, to read its status or to propose commands past the API.
    #[must_use]
    pub fn node(&self) -> &Node<Store> {
        &self.node
    }

    /// Who leads; the receiver is told of changes only.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.node.leadership()
    }

    /// Stops. A leader first hands that over, which takes some milliseconds, and serves its clients meanwhile.
    /// Then no more connections are taken, requests under way are finished within two seconds, and the node is
    /// shut down.
    ///
    /// # Errors
    ///
    /// If the node had failed, or fails on the way.
    pub async fn shutdown(&self) -> Result<(), ServerError> {
        let handed_over = self.node.transfer_leadership(None);
        match timeout(HANDOVER_MAX, handed_over).await {
            Ok(Ok(leader)) => {
                tracing::info!(leader = self.cluster.name_of(leader), "has handed over");
            }
            Ok(Err(TransferError::Refused(TransferRefusal::NotLeading { .. }))) => {}
            Ok(Err(error)) => tracing::info!(%error, "has not handed over"),
            Err(_) => tracing::info!("has not handed over in time"),
        }
        self.ending.cancel();
        tokio::join!(self.acceptor.stop(), self.probe_acceptor.stop());
        self.store.stop_waiting();
        self.node.shutdown().await?;
        tracing::info!("stopped");
        Ok(())
    }

    /// Returns when the node has stopped, or is of no more use because its state is not. One that was removed
    /// from the cluster finishes its clients' requests first, that to remove it among them.
    ///
    /// # Errors
    ///
    /// The reason, unless it was shut down.
    pub async fn stopped(&self) -> Result<(), ServerError> {
        tokio::select! {
            biased;
            error = self.store.failed() => Err(error.into()),
            stopped = self.node.stopped() => match stopped {
                Err(NodeError::Halted(Halt::Removed)) => {
                    self.ending.cancel();
                    tokio::join!(self.acceptor.stop(), self.probe_acceptor.stop());
                    let path = self.data_dir.display().to_string();
                    Err(ServerError::Removed { path })
                }
                stopped => Ok(stopped?),
            },
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.probe_acceptor.abort();
        self.store.stop_waiting();
    }
}

/// A socket for each URL.
async fn bind(urls: &[Url]) -> Result<Vec<(TcpListener, Url)>, ServerError> {
    let mut listeners = Vec::with_capacity(urls.len());
    for url in urls {
        listeners.push((listener::bind(url).await?, url.clone()));
    }
    Ok(listeners)
}

/// The URL of a socket, with the port that it really has.
fn bound_url((listener, url): &(TcpListener, Url)) -> Result<Url, ServerError> {
    let address: SocketAddr = listener
        .local_addr()
        .map_err(|error| ServerError::Listen { url: url.to_string(), reason: error.to_string() })?;
    Ok(url.clone().with_port(address.port()))
}

/// One line for each change of leadership.
async fn log_leadership(node: Node<Store>, config: ServerConfig) {
    let mut leadership = node.leadership();
    // The watch must not keep the node alive.
    drop(node);
    let mut before = None;
    loop {
        let Leadership { leader, ballot } = *leadership.borrow_and_update();
        match leader {
            Some(leader) if before != Some((leader, ballot)) => {
                let name = config.cluster.name_of(leader);
                tracing::info!(leader = name, %ballot, "the cluster has a leader");
                before = Some((leader, ballot));
            }
            None if before.is_some() => {
                // Where one hands over to another, none is known for a moment.
                let known = leadership.wait_for(|leadership| leadership.leader.is_some());
                match timeout(config.election_timeout, known).await {
                    Ok(Ok(_)) => continue,
                    Ok(Err(_)) => return,
                    Err(_) => tracing::warn!("there is no leader: requests wait"),
                }
                before = None;
            }
            _ => {}
        }
        if leadership.changed().await.is_err() {
            return;
        }
    }
}
