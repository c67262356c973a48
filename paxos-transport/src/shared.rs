//! What the tasks of a transport share: those that dial and those that listen.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    },
    time::Duration,
};

use paxos_core::{message::Lane, types::NodeId};
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    address::Addresses,
    handshake::HandshakeError,
    inbox::Inbox,
    link::Wire,
    queue,
    resolver::Resolver,
    roster::{Names, Roster},
};

/// What may be set differently in tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// From connecting to the end of the handshake.
    pub(crate) handshake_deadline: Duration,
    /// Connections that have not finished their handshake.
    pub(crate) handshakes_max: usize,
    /// How long one may take while others wait for its place: a few round trips between continents.
    pub(crate) handshake_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            handshake_deadline: Duration::from_secs(5),
            handshakes_max: 256,
            handshake_grace: Duration::from_secs(1),
        }
    }
}

/// What the tasks of a transport share.
#[derive(Debug)]
pub(crate) struct Shared<W> {
    pub(crate) wire: W,
    pub(crate) settings: Settings,
    pub(crate) resolver: Resolver,
    pub(crate) inbox: Arc<Inbox>,
    /// Ends every task.
    pub(crate) end: CancellationToken,
    /// Connections that have come in, by peer and lane.
    incoming: Mutex<BTreeMap<(NodeId, Lane), CancellationToken>>,
    /// Until the start.
    names: Mutex<Names>,
    pub(crate) started: OnceLock<Started>,
    /// How peers are reached.
    routes: RwLock<BTreeMap<NodeId, Route>>,
    pub(crate) diallers: TaskTracker,
    pub(crate) listeners: TaskTracker,
}

#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) roster: Roster,
    pub(crate) runtime: Handle,
}

/// How a peer is reached.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) addresses: Addresses,
    pub(crate) lanes: [queue::Sender; 3],
    /// The peer is there: no need to wait before dialling it.
    pub(crate) hurry: Arc<Notify>,
    /// By lane: connections to the peer are worth nothing, and have to be made anew.
    pub(crate) renew: [Arc<Notify>; 3],
    /// Lets the diallers go when the route is dropped.
    pub(crate) _let_go: DropGuard,
}

impl<W: Wire> Shared<W> {
    /// Of a transport that has not been started.
    pub(crate) fn new(wire: W, settings: Settings) -> Shared<W> {
        Shared {
            wire,
            settings,
            resolver: Resolver::default(),
            inbox: Arc::default(),
            end: CancellationToken::new(),
            incoming: Mutex::default(),
            names: Mutex::default(),
            started: OnceLock::new(),
            routes: RwLock::default(),
            diallers: TaskTracker::new(),
            listeners: TaskTracker::new(),
        }
    }

    /// Who may talk to this node.
    pub(crate) fn roster(&self) -> &Roster {
        &self.started().roster
    }

    pub(crate) fn started(&self) -> &Started {
        self.started.get().expect("no task runs before the start")
    }

    pub(crate) fn incoming(&self) -> MutexGuard<'_, BTreeMap<(NodeId, Lane), CancellationToken>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn routes(&self) -> RwLockReadGuard<'_, BTreeMap<NodeId, Route>> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn routes_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeId, Route>> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the diallers that a peer is there.
    pub(crate) fn reached(&self, peer: NodeId) {
        if let Some(route) = self.routes().get(&peer) {
            route.hurry.notify_waiters();
        }
    }

    /// Tells the dialler of a lane that its connection is worth nothing, although it may seem to stand:
    /// the peer has dialled anew, so most likely it was restarted and said no goodbye; or it says
    /// nothing on another lane.
    pub(crate) fn renew(&self, peer: NodeId, lane: Lane) {
        if let Some(route) = self.routes().get(&peer) {
            route.renew[lane as usize].notify_waiters();
        }
    }

    /// The part of a failed handshake that both sides should read about; `None` if it is merely a
    /// connection that broke.
    pub(crate) fn reason(error: &HandshakeError) -> Option<String> {
        match error {
            HandshakeError::Refused { reason, .. } => Some(reason.clone()),
            HandshakeError::Foreign | HandshakeError::Malformed(_) => Some(error.to_string()),
            HandshakeError::Frame(_) => None,
            HandshakeError::Io(error) => {
                W::tls_remedy(error).map(|remedy| format!("TLS failed: {error}; {remedy}"))
            }
        }
    }
}
