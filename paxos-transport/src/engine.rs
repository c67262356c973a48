//! The transport over any kind of connection.
//!
//! A node dials every peer, once for each lane, and sends on what it dialled; what it receives
//! comes on what the peers dialled. So the lanes share no queue, no buffer and no flow control,
//! and a heartbeat waits for nothing but its own kind.

use std::{
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Poll},
};

use paxos_core::{
    message::{Lane, Message},
    port::{Event, RefusedPeer, TransportError},
    types::{Identity, NodeId, Peer},
};
use tokio::{runtime::Handle, sync::Notify};
use tokio_util::sync::DropGuard;

use crate::{
    address::Addresses,
    frame::{Encoder, Run},
    incoming,
    link::Wire,
    outgoing::{FLUSH_MAX, Outgoing},
    queue::{self, Pushed},
    roster::{Names, Roster},
    shared::{Route, Settings, Shared, Started},
};

/// Bytes of messages that are queued together, beside one that overshoots: few enough that a lost
/// packet or a full queue costs few messages, and enough that what a run costs is nothing to them.
const RUN_BYTES_MAX: usize = 32 << 10;

const LANES: [Lane; 3] = [Lane::Control, Lane::Log, Lane::Bulk];

/// A transport. Dropping it ends every connection.
#[derive(Debug)]
pub(crate) struct Engine<W> {
    shared: Arc<Shared<W>>,
    _end: DropGuard,
}

impl<W: Wire> Engine<W> {
    pub(crate) fn new(wire: W, settings: Settings) -> Engine<W> {
        let shared = Shared::new(wire, settings);
        let end = shared.end.clone().drop_guard();
        Engine { shared: Arc::new(shared), _end: end }
    }

    /// What the nodes are called in errors and in the log, from the start on.
    pub(crate) fn set_names(&self, names: Names) {
        *self.shared.names() = names;
    }

    pub(crate) fn start(&self, identity: Identity, peers: &[Peer]) -> Result<(), TransportError> {
        let addresses = parse(identity.node, peers)?;
        if self.shared.end.is_cancelled() {
            return Err(TransportError::State("closed"));
        }
        let names = std::mem::take(&mut *self.shared.names());
        let roster = Roster::new(identity, names, peers, self.shared.inbox.clone());
        let started = Started { roster, runtime: Handle::current() };
        let again = self.shared.started.set(started).is_err();
        if again {
            return Err(TransportError::State("started already"));
        }
        self.set_routes(addresses);
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
        self.set_routes(addresses);
        let let_go = |&(peer, _): &(NodeId, Lane)| !started.roster.is_peer(peer);
        self.shared.incoming().retain(|key, token| {
            if let_go(key) {
                token.cancel();
            }
            !let_go(key)
        });
        Ok(())
    }

    pub(crate) fn send(&self, to: &[NodeId], messages: &mut Vec<Message>) {
        let routes = self.shared.routes();
        if !to.iter().any(|peer| routes.contains_key(peer)) {
            messages.clear();
            return;
        }
        let mut encoders: [Encoder; 3] = Default::default();
        for message in messages.drain(..) {
            let lane = message.lane();
            let encoder = &mut encoders[lane as usize];
            if let Err(error) = encoder.push(message) {
                tracing::error!(?lane, %error, "a message cannot be sent");
            }
            if encoder.len() >= RUN_BYTES_MAX {
                queue_up(&routes, to, lane, encoder.take());
            }
        }
        for (lane, mut encoder) in LANES.into_iter().zip(encoders) {
            if encoder.len() > 0 {
                queue_up(&routes, to, lane, encoder.take());
            }
        }
    }

    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        events: &mut Vec<Event>,
        limit: usize,
    ) -> Poll<usize> {
        self.shared.inbox.poll_recv(cx, events, limit)
    }

    pub(crate) fn refusals(&self) -> Vec<RefusedPeer> {
        self.shared.started.get().map_or_else(Vec::new, |started| started.roster.refusals())
    }

    pub(crate) async fn close(&self) {
        let shared = &self.shared;
        let routes = std::mem::take(&mut *shared.routes_mut());
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

    /// Keeps the routes that stay, makes the new ones, lets go of the others.
    fn set_routes(&self, addresses: BTreeMap<NodeId, Addresses>) {
        let mut routes = self.shared.routes_mut();
        let mut before = std::mem::take(&mut *routes);
        for (peer, addresses) in addresses {
            let route = match before.remove(&peer) {
                Some(route) if route.addresses == addresses => route,
                _ => self.route(peer, addresses),
            };
            routes.insert(peer, route);
        }
    }

    fn route(&self, peer: NodeId, addresses: Addresses) -> Route {
        let shared = &self.shared;
        let let_go = shared.end.child_token();
        let hurry = Arc::new(Notify::new());
        let renew: [Arc<Notify>; 3] = std::array::from_fn(|_| Arc::new(Notify::new()));
        let lanes = LANES.map(|lane| {
            let (sender, receiver) = queue::queue(lane);
            let dialler = Outgoing {
                shared: shared.clone(),
                peer,
                addresses: addresses.clone(),
                attempts: 0,
                lane,
                queue: receiver,
                hurry: hurry.clone(),
                renew: renew[lane as usize].clone(),
                let_go: let_go.clone(),
            };
            let run = shared.end.clone().run_until_cancelled_owned(dialler.run());
            shared.diallers.spawn_on(run, &shared.started().runtime);
            sender
        });
        Route { addresses, lanes, hurry, renew, _let_go: let_go.drop_guard() }
    }
}

/// Puts a run into the queue of a lane to each peer that there is.
fn queue_up(routes: &BTreeMap<NodeId, Route>, to: &[NodeId], lane: Lane, mut run: Run) {
    let mut known = to.iter().filter_map(|peer| routes.get_key_value(peer)).peekable();
    while let Some((peer, route)) = known.next() {
        let run = if known.peek().is_some() { run.clone() } else { std::mem::take(&mut run) };
        if route.lanes[lane as usize].push(run) == (Pushed::Dropped { first: true }) {
            tracing::warn!(%peer, ?lane, "the queue is full: dropping messages");
        }
    }
}

fn parse(me: NodeId, peers: &[Peer]) -> Result<BTreeMap<NodeId, Addresses>, TransportError> {
    let others = peers.iter().filter(|peer| peer.id != me);
    others.map(|peer| Ok((peer.id, Addresses::parse(&peer.address)?))).collect()
}
