//! The transport over any kind of connection.
//!
//! A node dials every peer, once for each lane, and sends on what it dialled; what it receives
//! comes on what the peers dialled. So the lanes share no queue, no buffer and no flow control,
//! and a heartbeat waits for nothing but its own kind.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use paxos_core::{
    message::{Lane, Message},
    port::{Event, TransportError},
    types::{Identity, NodeId, Peer},
};
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    address::Address,
    handshake::HandshakeError,
    inbox::Inbox,
    incoming,
    link::Wire,
    outgoing::Outgoing,
    queue::{self, Pushed},
    roster::Roster,
};

/// How long a peer that is let go is still sent what waits for it.
pub(crate) const FLUSH_MAX: Duration = Duration::from_secs(1);

const LANES: [Lane; 3] = [Lane::Control, Lane::Log, Lane::Bulk];

/// What may be set differently in tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// From connecting to the end of the handshake.
    pub(crate) handshake_deadline: Duration,
    /// Connections that have not finished their handshake.
    pub(crate) handshakes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { handshake_deadline: Duration::from_secs(5), handshakes_max: 64 }
    }
}

/// A transport. Dropping it ends every connection.
#[derive(Debug)]
pub(crate) struct Engine<W> {
    shared: Arc<Shared<W>>,
    _end: DropGuard,
}

/// What the tasks of a transport share.
#[derive(Debug)]
pub(crate) struct Shared<W> {
    pub(crate) wire: W,
    pub(crate) settings: Settings,
    pub(crate) inbox: Arc<Inbox>,
    /// Ends every task.
    pub(crate) end: CancellationToken,
    /// Connections that have come in, by peer and lane.
    pub(crate) incoming: Mutex<BTreeMap<(NodeId, Lane), CancellationToken>>,
    started: OnceLock<Started>,
    routes: RwLock<BTreeMap<NodeId, Route>>,
    diallers: TaskTracker,
    pub(crate) listeners: TaskTracker,
}

#[derive(Debug)]
struct Started {
    roster: Roster,
    runtime: Handle,
}

/// The way to a peer.
#[derive(Debug)]
struct Route {
    address: Address,
    lanes: [queue::Sender; 3],
    /// The peer is there: no need to wait before dialling it.
    hurry: Arc<Notify>,
    /// By lane: the peer has lost the connections it had, so those to it are worth nothing either.
    renew: [Arc<Notify>; 3],
    /// Lets the diallers go when the route is dropped.
    _let_go: DropGuard,
}

impl<W: Wire> Engine<W> {
    pub(crate) fn new(wire: W, settings: Settings) -> Engine<W> {
        let end = CancellationToken::new();
        let shared = Shared {
            wire,
            settings,
            inbox: Arc::default(),
            end: end.clone(),
            incoming: Mutex::default(),
            started: OnceLock::new(),
            routes: RwLock::default(),
            diallers: TaskTracker::new(),
            listeners: TaskTracker::new(),
        };
        Engine { shared: Arc::new(shared), _end: end.drop_guard() }
    }

    pub(crate) fn start(&self, identity: Identity, peers: &[Peer]) -> Result<(), TransportError> {
        let addresses = parse(identity.node, peers)?;
        if self.shared.end.is_cancelled() {
            return Err(TransportError::State("closed"));
        }
        let roster = Roster::new(identity, peers, self.shared.inbox.clone());
        let started = Started { roster, runtime: Handle::current() };
        let again = self.shared.started.set(started).is_err();
        if again {
            return Err(TransportError::State("started already"));
        }
        self.shared.set_routes(addresses);
        self.shared.listeners.spawn(incoming::listen(self.shared.clone()));
        Ok(())
    }

    pub(crate) fn update_peers(&self, peers: &[Peer]) -> Result<(), TransportError> {
        let started = self.shared.started.get().ok_or(TransportError::State("not started"))?;
        if self.shared.end.is_cancelled() {
            return Err(TransportError::State("closed"));
        }
        let addresses = parse(started.roster.me().node, peers)?;
        started.roster.update(peers);
        self.shared.set_routes(addresses);
        let let_go = |&(peer, _): &(NodeId, Lane)| !started.roster.is_peer(peer);
        self.shared.incoming().retain(|key, token| {
            if let_go(key) {
                token.cancel();
            }
            !let_go(key)
        });
        Ok(())
    }

    pub(crate) fn send(&self, to: NodeId, message: Message) {
        let routes = self.shared.routes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(route) = routes.get(&to) else { return };
        let lane = message.lane();
        if route.lanes[lane as usize].push(message) == (Pushed::Dropped { first: true }) {
            tracing::warn!(peer = %to, ?lane, "the queue is full: dropping messages");
        }
    }

    pub(crate) async fn recv(&self) -> Option<Event> {
        self.shared.inbox.recv().await
    }

    pub(crate) async fn close(&self) {
        let shared = &self.shared;
        let routes =
            std::mem::take(&mut *shared.routes.write().unwrap_or_else(PoisonError::into_inner));
        drop(routes);
        shared.diallers.close();
        // They take FLUSH_MAX at most, and a moment to hang up.
        let _ = tokio::time::timeout(FLUSH_MAX * 2, shared.diallers.wait()).await;
        shared.end.cancel();
        shared.inbox.close();
        shared.listeners.close();
        shared.listeners.wait().await;
        shared.diallers.wait().await;
        shared.wire.close().await;
    }
}

impl<W: Wire> Shared<W> {
    /// Who may talk to this node.
    pub(crate) fn roster(&self) -> &Roster {
        &self.started().roster
    }

    fn started(&self) -> &Started {
        self.started.get().expect("no task runs before the start")
    }

    pub(crate) fn incoming(&self) -> MutexGuard<'_, BTreeMap<(NodeId, Lane), CancellationToken>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the routes that stay, makes the new ones, lets go of the others.
    fn set_routes(self: &Arc<Self>, addresses: BTreeMap<NodeId, Address>) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *routes);
        for (peer, address) in addresses {
            let route = match before.remove(&peer) {
                Some(route) if route.address == address => route,
                _ => self.route(peer, address),
            };
            routes.insert(peer, route);
        }
    }

    fn route(self: &Arc<Self>, peer: NodeId, address: Address) -> Route {
        let let_go = self.end.child_token();
        let hurry = Arc::new(Notify::new());
        let renew: [Arc<Notify>; 3] = std::array::from_fn(|_| Arc::new(Notify::new()));
        let lanes = LANES.map(|lane| {
            let (sender, receiver) = queue::queue(lane);
            let dialler = Outgoing {
                shared: self.clone(),
                peer,
                address: address.clone(),
                lane,
                queue: receiver,
                hurry: hurry.clone(),
                renew: renew[lane as usize].clone(),
                let_go: let_go.clone(),
            };
            let run = self.end.clone().run_until_cancelled_owned(dialler.run());
            self.diallers.spawn_on(run, &self.started().runtime);
            sender
        });
        Route { address, lanes, hurry, renew, _let_go: let_go.drop_guard() }
    }

    /// Tells the diallers that a peer is there.
    pub(crate) fn reached(&self, peer: NodeId) {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(&peer) {
            route.hurry.notify_waiters();
        }
    }

    /// Tells the dialler of a lane that the peer has dialled anew although its old connection seemed
    /// to stand: most likely it was restarted and said no goodbye.
    pub(crate) fn renew(&self, peer: NodeId, lane: Lane) {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(route) = routes.get(&peer) {
            route.renew[lane as usize].notify_waiters();
        }
    }

    /// The part of a failed handshake that both sides should read about; `None` if it is merely a
    /// connection that broke.
    pub(crate) fn reason(error: &HandshakeError) -> Option<String> {
        match error {
            HandshakeError::Refused { reason, .. } => Some(reason.clone()),
            HandshakeError::Io(error) if W::is_tls_failure(error) => Some(format!(
                "TLS failed: {error}; use certificates of one authority on every node, and \
                     TLS on all of them or on none"
            )),
            HandshakeError::Foreign | HandshakeError::Malformed(_) => Some(error.to_string()),
            HandshakeError::Frame(_) | HandshakeError::Io(_) => None,
        }
    }
}

fn parse(me: NodeId, peers: &[Peer]) -> Result<BTreeMap<NodeId, Address>, TransportError> {
    let others = peers.iter().filter(|peer| peer.id != me);
    others.map(|peer| Ok((peer.id, Address::parse(&peer.address)?))).collect()
}
