//! Nodes of one process, and a network between them that fails on request.
//!
//! Without a fault plan a message is in the receiver's inbox when
//! [`send`](paxos_core::port::Transport::send) returns: no task, no thread, no copy, no encoding.
//! With one, messages are dropped, repeated, delayed (and so reordered) and cut off, by a random
//! source of the network's own; on tokio's paused clock a run of a single-threaded program is
//! reproducible from the seed.
//!
//! Strangers are refused exactly as over sockets: every message is checked against the
//! receiver's peers, and every receiver against the sender's.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use paxos_core::{
    message::{Lane, Message},
    port::{Event, Transport, TransportError},
    types::{Identity, NodeId, Peer},
};
use tokio::time::Instant;

use crate::{
    budget::{Budget, bytes_max, weight},
    inbox::Inbox,
    roster::Roster,
};

/// What goes wrong on the way, for every link of a [`MemoryNetwork`]. The default: nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// How likely a message is lost, from 0 to 1.
    pub drop_probability: f64,
    /// How likely a message arrives twice, from 0 to 1.
    pub duplicate_probability: f64,
    /// How long a message is on its way: drawn anew for each, so that they overtake each other.
    pub delay: RangeInclusive<Duration>,
}

impl Default for Faults {
    fn default() -> Self {
        Faults {
            drop_probability: 0.0,
            duplicate_probability: 0.0,
            delay: Duration::ZERO..=Duration::ZERO,
        }
    }
}

/// A network inside the process. Cheap to clone; clones are the same network.
///
/// ```
/// use paxos_transport::{Faults, MemoryNetwork};
/// use std::time::Duration;
///
/// let network = MemoryNetwork::new(42);
/// let transports = [1, 2, 3].map(|id| network.join(id));
/// let delay = Duration::ZERO..=Duration::from_millis(20);
/// network.set_faults(Faults { drop_probability: 0.1, delay, ..Faults::default() });
/// network.isolate(1);
/// network.heal();
/// # drop(transports);
/// ```
#[derive(Clone, Debug)]
pub struct MemoryNetwork {
    wires: Arc<Mutex<Wires>>,
}

#[derive(Debug)]
struct Wires {
    /// Who listens at which address.
    endpoints: BTreeMap<String, Arc<Endpoint>>,
    faults: Faults,
    /// Links that carry nothing, by sender and receiver.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// Nodes that reach nobody and are reached by nobody.
    isolated: BTreeSet<NodeId>,
    random: fastrand::Rng,
}

/// A node's side of the network.
#[derive(Debug)]
struct Endpoint {
    inbox: Arc<Inbox>,
    roster: OnceLock<Roster>,
}

impl MemoryNetwork {
    /// A network on which nothing goes wrong yet; `seed` decides what will.
    #[must_use]
    pub fn new(seed: u64) -> MemoryNetwork {
        MemoryNetwork {
            wires: Arc::new(Mutex::new(Wires {
                endpoints: BTreeMap::new(),
                faults: Faults::default(),
                cuts: BTreeSet::new(),
                isolated: BTreeSet::new(),
                random: fastrand::Rng::with_seed(seed),
            })),
        }
    }

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
        let endpoint = Arc::new(Endpoint { inbox: Arc::default(), roster: OnceLock::new() });
        let before = self.wires().endpoints.insert(address.clone(), endpoint.clone());
        if let Some(before) = before {
            before.inbox.close();
        }
        let routes = RwLock::new(BTreeMap::new());
        MemoryTransport { network: self.clone(), address, endpoint, routes }
    }

    /// Replaces the fault plan, for messages sent from now on.
    ///
    /// # Panics
    ///
    /// If a probability is not between 0 and 1, or the delays are an empty range.
    pub fn set_faults(&self, faults: Faults) {
        for probability in [faults.drop_probability, faults.duplicate_probability] {
            assert!((0.0..=1.0).contains(&probability), "{probability} is no probability");
        }
        assert!(!faults.delay.is_empty(), "{:?} is no range of delays", faults.delay);
        self.wires().faults = faults;
    }

    /// Cuts the link from one node to another. The way back stays.
    pub fn cut(&self, from: impl Into<NodeId>, to: impl Into<NodeId>) {
        self.wires().cuts.insert((from.into(), to.into()));
    }

    /// Mends the link from one node to another.
    pub fn mend(&self, from: impl Into<NodeId>, to: impl Into<NodeId>) {
        self.wires().cuts.remove(&(from.into(), to.into()));
    }

    /// Splits the network: nodes of different groups do not reach each other. Replaces earlier
    /// cuts; nodes in no group reach everybody.
    pub fn partition(&self, groups: &[&[u64]]) {
        let mut wires = self.wires();
        wires.cuts.clear();
        for (index, group) in groups.iter().enumerate() {
            for other in groups[index + 1..].iter().copied().flatten() {
                for node in *group {
                    wires.cuts.insert((NodeId(*node), NodeId(*other)));
                    wires.cuts.insert((NodeId(*other), NodeId(*node)));
                }
            }
        }
    }

    /// Cuts every link to and from a node.
    pub fn isolate(&self, node: impl Into<NodeId>) {
        self.wires().isolated.insert(node.into());
    }

    /// Mends every link. The fault plan stays.
    pub fn heal(&self) {
        let mut wires = self.wires();
        wires.cuts.clear();
        wires.isolated.clear();
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wires {
    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
            || self.isolated.contains(&from)
            || self.isolated.contains(&to)
    }

    /// When the copies of a message arrive: none if it is lost.
    fn arrivals(&mut self) -> impl Iterator<Item = Duration> + use<> {
        let Faults { drop_probability, duplicate_probability, .. } = self.faults;
        let mut happens = |probability| probability > 0.0 && self.random.f64() < probability;
        let copies = match (happens(drop_probability), happens(duplicate_probability)) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        let delays = [self.delay(), self.delay()];
        delays.into_iter().take(copies)
    }

    fn delay(&mut self) -> Duration {
        let (shortest, longest) = (*self.faults.delay.start(), *self.faults.delay.end());
        if longest.is_zero() {
            return Duration::ZERO;
        }
        shortest + (longest - shortest).mul_f64(self.random.f64())
    }
}

/// One node's transport on a [`MemoryNetwork`].
#[derive(Debug)]
pub struct MemoryTransport {
    network: MemoryNetwork,
    address: String,
    endpoint: Arc<Endpoint>,
    routes: RwLock<BTreeMap<NodeId, Route>>,
}

/// The way to a peer.
#[derive(Debug)]
struct Route {
    address: String,
    /// What may wait at the receiver, per lane.
    budgets: [Budget; 3],
}

impl MemoryTransport {
    /// Where this transport is reached.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn set_routes(&self, me: NodeId, peers: &[Peer]) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *routes);
        for Peer { id, address, .. } in peers.iter().filter(|peer| peer.id != me) {
            let route = match before.remove(id) {
                Some(route) if route.address == *address => route,
                _ => Route {
                    address: address.clone(),
                    budgets: [Lane::Control, Lane::Log, Lane::Bulk]
                        .map(|lane| Budget::new(bytes_max(lane))),
                },
            };
            routes.insert(*id, route);
        }
    }

    /// Meets every peer that is there already.
    fn introduce(&self, me: Identity, peers: &[Peer]) {
        for peer in peers {
            let there = {
                let wires = self.network.wires();
                if wires.is_cut(me.node, peer.id) || wires.is_cut(peer.id, me.node) {
                    continue;
                }
                wires.endpoints.get(&peer.address).cloned()
            };
            if let Some(there) = there {
                let _ = self.endpoint.greets(&there, peer.id);
            }
        }
    }
}

/// Whether two nodes may talk.
struct Strangers;

impl Endpoint {
    /// Checks that this node, which looks for `wanted`, and the one it found let each other in.
    fn greets(&self, there: &Endpoint, wanted: NodeId) -> Result<(), Strangers> {
        // One that has not been started answers nobody.
        let (Some(here), Some(roster)) = (self.roster.get(), there.roster.get()) else {
            return Err(Strangers);
        };
        let (me, them) = (here.me(), roster.me());
        let admitted = roster.admit(me, wanted).and_then(|()| here.admit(them, me.node));
        admitted.map_err(|refusal| {
            let reason = refusal.to_string();
            here.refuse(Some(them.node), &reason);
            roster.refuse(Some(me.node), &reason);
            Strangers
        })
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn start(&self, identity: Identity, peers: Vec<Peer>) -> Result<(), TransportError> {
        check(&peers)?;
        if self.endpoint.inbox.is_closed() {
            return Err(TransportError::State("closed"));
        }
        let roster = Roster::new(identity, &peers, self.endpoint.inbox.clone());
        self.endpoint.roster.set(roster).map_err(|_| TransportError::State("started already"))?;
        self.set_routes(identity.node, &peers);
        self.introduce(identity, &peers);
        Ok(())
    }

    fn update_peers(&self, peers: Vec<Peer>) -> Result<(), TransportError> {
        check(&peers)?;
        let roster = self.endpoint.roster.get().ok_or(TransportError::State("not started"))?;
        roster.update(&peers);
        self.set_routes(roster.me().node, &peers);
        self.introduce(roster.me(), &peers);
        Ok(())
    }

    fn send(&self, to: NodeId, message: Message) {
        let Some(me) = self.endpoint.roster.get().map(Roster::me) else { return };
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let Some(route) = routes.get(&to) else { return };
        let (there, arrivals) = {
            let mut wires = self.network.wires();
            let still_here = wires
                .endpoints
                .get(&self.address)
                .is_some_and(|endpoint| Arc::ptr_eq(endpoint, &self.endpoint));
            if !still_here || wires.is_cut(me.node, to) {
                return;
            }
            let Some(there) = wires.endpoints.get(&route.address).cloned() else { return };
            (there, wires.arrivals())
        };
        if self.endpoint.greets(&there, to).is_err() {
            return;
        }
        let (budget, bytes) = (&route.budgets[message.lane() as usize], weight(&message));
        for delay in arrivals {
            let Some(share) = budget.try_take(bytes) else { return };
            if delay.is_zero() {
                there.inbox.deliver(me.node, message.clone(), share);
            } else {
                there.inbox.deliver_at(Instant::now() + delay, me.node, message.clone(), share);
            }
        }
    }

    async fn recv(&self) -> Option<Event> {
        self.endpoint.inbox.recv().await
    }

    async fn close(&self) {
        self.leave();
    }
}

impl MemoryTransport {
    /// Gives the address up, unless somebody else has taken it over.
    fn leave(&self) {
        let mut wires = self.network.wires();
        if wires.endpoints.get(&self.address).is_some_and(|e| Arc::ptr_eq(e, &self.endpoint)) {
            wires.endpoints.remove(&self.address);
        }
        drop(wires);
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
mod tests {
    use paxos_core::{
        message::Poll,
        types::{ClusterId, Slot, StoreId},
    };

    use super::*;

    fn poll(number: u64) -> Message {
        Message::Poll(Poll { number, chosen: Slot::ZERO })
    }

    async fn started(network: &MemoryNetwork, nodes: u64) -> Vec<MemoryTransport> {
        let transports: Vec<_> = (1..=nodes).map(|id| network.join(id)).collect();
        for (id, transport) in (1..).zip(&transports) {
            let node = NodeId(id);
            let identity = Identity { cluster: ClusterId(7), node, store: StoreId(100 + id) };
            let peers = (1..=nodes).filter(|other| *other != id).map(|other| Peer {
                id: NodeId(other),
                address: format!("node-{other}"),
                store: Some(StoreId(100 + other)),
            });
            transport.start(identity, peers.collect()).await.expect("starts");
        }
        transports
    }

    /// The numbers of the polls that have arrived, once nothing more is on its way.
    async fn arrived(transport: &MemoryTransport) -> Vec<u64> {
        let mut numbers = Vec::new();
        let patience = Duration::from_secs(10);
        while let Ok(event) = tokio::time::timeout(patience, transport.recv()).await {
            let Some(Event::Message { message: Message::Poll(poll), .. }) = event else {
                panic!("{event:?} instead of a poll");
            };
            numbers.push(poll.number);
        }
        numbers
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_is_one_way_and_isolation_is_not() {
        let network = MemoryNetwork::new(1);
        let nodes = started(&network, 3).await;
        network.cut(1, 2);
        nodes[0].send(NodeId(2), poll(1));
        nodes[1].send(NodeId(1), poll(2));
        assert_eq!(arrived(&nodes[1]).await, []);
        assert_eq!(arrived(&nodes[0]).await, [2]);
        network.heal();
        network.isolate(3);
        nodes[0].send(NodeId(3), poll(3));
        nodes[2].send(NodeId(1), poll(4));
        nodes[0].send(NodeId(2), poll(5));
        assert_eq!(arrived(&nodes[2]).await, []);
        assert_eq!(arrived(&nodes[0]).await, []);
        assert_eq!(arrived(&nodes[1]).await, [5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partition_separates_its_groups_only() {
        let network = MemoryNetwork::new(1);
        let nodes = started(&network, 3).await;
        network.partition(&[&[1], &[2, 3]]);
        nodes[0].send(NodeId(2), poll(1));
        nodes[2].send(NodeId(2), poll(2));
        assert_eq!(arrived(&nodes[1]).await, [2]);
        network.mend(1, 2);
        nodes[0].send(NodeId(2), poll(3));
        assert_eq!(arrived(&nodes[1]).await, [3]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_seed_decides_what_is_lost_repeated_and_overtaken() {
        let run = async |seed| {
            let network = MemoryNetwork::new(seed);
            let nodes = started(&network, 2).await;
            network.set_faults(Faults {
                drop_probability: 0.3,
                duplicate_probability: 0.3,
                delay: Duration::ZERO..=Duration::from_millis(100),
            });
            (0..100).for_each(|number| nodes[0].send(NodeId(2), poll(number)));
            arrived(&nodes[1]).await
        };
        let first = run(1).await;
        let distinct: BTreeSet<_> = first.iter().collect();
        assert!(distinct.len() < 90, "{} of 100 arrived in spite of drops", distinct.len());
        assert!(first.len() > distinct.len() + 5, "some arrived twice");
        assert!(!first.is_sorted(), "some overtook others");
        assert_eq!(run(1).await, first);
        assert_ne!(run(2).await, first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_message_takes_its_time() {
        let network = MemoryNetwork::new(1);
        let nodes = started(&network, 2).await;
        let delay = Duration::from_millis(30);
        network.set_faults(Faults { delay: delay..=delay, ..Faults::default() });
        let sent = Instant::now();
        nodes[0].send(NodeId(2), poll(1));
        nodes[1].recv().await.expect("it arrives");
        assert!(sent.elapsed() >= delay, "after {:?}", sent.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_an_address_over_cuts_the_earlier_one_off() {
        let network = MemoryNetwork::new(1);
        let nodes = started(&network, 2).await;
        let _second = network.join(2);
        assert_eq!(nodes[1].recv().await, None);
        nodes[1].send(NodeId(1), poll(1));
        assert_eq!(arrived(&nodes[0]).await, []);
    }
}
