//! Nodes of one process, and a network between them that fails on request.
//!
//! Without a fault plan a message is in the receiver's inbox when
//! [`send`](paxos_core::port::Transport::send) returns: no task, no thread, no copy, no encoding.
//! With one, messages are dropped, repeated, delayed (and so reordered) and cut off, by a random
//! source of the network's own; on tokio's paused clock a run of a single-threaded program is
//! reproducible from the seed.
//!
//! Strangers are refused exactly as over sockets: before messages are let through they are checked
//! against the receiver's peers, and the receiver against the sender's. What that found out holds
//! until something changes in the network or in a list of peers, so that a message costs no more
//! than its place in the receiver's inbox.

mod network;

use std::{
    collections::BTreeMap,
    iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use paxos_core::{
    message::Message,
    port::{Event, RefusedPeer, Transport, TransportError},
    types::{Identity, NodeId, Peer},
};
use tokio::time::Instant;

use crate::{
    inbox::Inbox,
    roster::{Names, Roster},
};

use network::Endpoint;
pub use network::{Faults, MemoryNetwork};

/// One node's transport on a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    address: String,
    endpoint: Arc<Endpoint>,
    routes: Mutex<BTreeMap<NodeId, Route>>,
}

/// How a peer is reached.
#[derive(Debug)]
struct Route {
    address: String,
    /// Where messages may go without a further look, while the network is of this generation.
    clear: Option<(u64, Arc<Inbox>)>,
}

impl MemoryNetwork {
    /// The transport of node `id`, reached at the address `node-<id>`.
    #[must_use]
    pub fn join(&self, id: impl Into<NodeId>) -> MemoryTransport {
        self.bind(format!("node-{}", id.into()))
    }

    /// A transport reached at `address`, any text. Whoever was reached there before is cut off, as
    /// if its process had ended.
    #[must_use]
    pub fn bind(&self, address: impl Into<String>) -> MemoryTransport {
        let address = address.into();
        let endpoint = Arc::new(Endpoint::default());
        self.enter(&address, endpoint.clone());
        MemoryTransport { network: self.clone(), address, endpoint, routes: Mutex::default() }
    }
}

impl MemoryTransport {
    /// Where this transport is reached.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn routes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Route>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a list of peers, and meets those that are there already.
    fn set_peers(&self, me: Identity, peers: &[Peer]) {
        let others = peers.iter().filter(|peer| peer.id != me.node);
        let route = |peer: &Peer| (peer.id, Route { address: peer.address.clone(), clear: None });
        *self.routes() = others.map(route).collect();
        self.network.changed();
        for Peer { id, address, .. } in peers {
            if let Some(there) = self.network.neighbour(me.node, *id, address) {
                let _ = self.endpoint.greets(&there, *id);
            }
        }
    }

    /// Sends to one peer.
    fn send_on(
        &self,
        route: &mut Route,
        (me, peer): (NodeId, NodeId),
        messages: impl Iterator<Item = Message>,
    ) {
        if let Some((generation, inbox)) = &route.clear
            && *generation == self.network.generation()
        {
            inbox.offer(me, messages);
            return;
        }
        route.clear = None;
        let here = (me, &self.endpoint, &*self.address);
        let Some(way) = self.network.way(here, (peer, &route.address)) else { return };
        if self.endpoint.greets(&way.there, peer).is_err() {
            return;
        }
        let inbox = &way.there.inbox;
        if way.is_faultless {
            inbox.offer(me, messages);
            route.clear = Some((way.generation, inbox.clone()));
            return;
        }
        for message in messages {
            for delay in self.network.arrivals() {
                if delay.is_zero() {
                    inbox.offer(me, iter::once(message.clone()));
                } else {
                    inbox.offer_at(Instant::now() + delay, me, message.clone());
                }
            }
        }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn start(&self, identity: Identity, peers: Vec<Peer>) -> Result<(), TransportError> {
        check(&peers)?;
        if self.endpoint.inbox.is_closed() {
            return Err(TransportError::State("closed"));
        }
        let roster = Roster::new(identity, Names::new(), &peers, self.endpoint.inbox.clone());
        self.endpoint.roster.set(roster).map_err(|_| TransportError::State("started already"))?;
        self.set_peers(identity, &peers);
        Ok(())
    }

    fn update_peers(&self, peers: Vec<Peer>) -> Result<(), TransportError> {
        check(&peers)?;
        let roster = self.endpoint.roster.get().ok_or(TransportError::State("not started"))?;
        roster.update(&peers);
        self.set_peers(roster.me(), &peers);
        Ok(())
    }

    fn send(&self, to: &[NodeId], messages: &mut Vec<Message>) {
        if let Some(me) = self.endpoint.roster.get().map(|roster| roster.me().node)
            && let Some((last, others)) = to.split_last()
        {
            let mut routes = self.routes();
            for peer in others {
                if let Some(route) = routes.get_mut(peer) {
                    self.send_on(route, (me, *peer), messages.iter().cloned());
                }
            }
            if let Some(route) = routes.get_mut(last) {
                self.send_on(route, (me, *last), messages.drain(..));
            }
        }
        messages.clear();
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        events: &mut Vec<Event>,
        limit: usize,
    ) -> Poll<usize> {
        self.endpoint.inbox.poll_recv(cx, events, limit)
    }

    fn refusals(&self) -> Vec<RefusedPeer> {
        self.endpoint.roster.get().map_or_else(Vec::new, Roster::refusals)
    }

    async fn close(&self) {
        self.leave();
    }
}

impl MemoryTransport {
    /// Gives the address up, unless somebody else has taken it over.
    fn leave(&self) {
        self.network.leave(&self.address, &self.endpoint);
        self.endpoint.inbox.close();
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.leave();
    }
}

fn check(peers: &[Peer]) -> Result<(), TransportError> {
    match peers.iter().find(|peer| peer.address.is_empty()) {
        None => Ok(()),
        Some(peer) => Err(TransportError::Address {
            address: String::new(),
            reason: format!("the address of node {} is empty: name it as it was bound", peer.id),
        }),
    }
}

#[cfg(test)]
mod tests;
