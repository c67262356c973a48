//! The network in memory: who is where, and what goes wrong on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use paxos_core::types::NodeId;

use crate::{
    inbox::Inbox,
    refusals::Dialler,
    roster::{Evidence, Roster},
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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wires: Mutex<Wires>,
    /// Counts what changes who reaches whom, and how: what was found out before is worth nothing.
    generation: AtomicU64,
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
#[derive(Debug, Default)]
pub(super) struct Endpoint {
    pub(super) inbox: Arc<Inbox>,
    /// Set when the node starts.
    pub(super) roster: OnceLock<Roster>,
    /// The nodes that it has found, or that have found it.
    neighbours: Mutex<BTreeSet<NodeId>>,
}

/// Whether two nodes may talk.
pub(super) struct Strangers;

impl Endpoint {
    /// Checks that this node, which looks for `wanted`, and the one it found let each other in.
    pub(super) fn greets(&self, there: &Endpoint, wanted: NodeId) -> Result<(), Strangers> {
        // One that has not been started answers nobody.
        let (Some(here), Some(roster)) = (self.roster.get(), there.roster.get()) else {
            return Err(Strangers);
        };
        let (me, them) = (here.me(), roster.me());
        // Nobody gets between the two, in one process.
        let evidence = Evidence::Enough;
        let admitted = roster.admit(me, wanted, evidence);
        match admitted.and_then(|_| here.admit(them, me.node, evidence)) {
            Ok(_) => {
                self.neighbours().insert(wanted);
                there.neighbours().insert(me.node);
                here.welcome(wanted, Dialler::ThisNode);
                roster.welcome(me.node, Dialler::Peer);
                Ok(())
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                here.refuse(Some(wanted), Dialler::ThisNode, &reason);
                roster.refuse(Some(me.node), Dialler::Peer, &reason);
                Err(Strangers)
            }
        }
    }
}

impl Endpoint {
    fn neighbours(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.neighbours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node(&self) -> Option<NodeId> {
        self.roster.get().map(|roster| roster.me().node)
    }
}

/// The state of the network towards a peer.
#[derive(Debug)]
pub(super) struct Way {
    /// It is so as long as the network is of this generation.
    pub(super) generation: u64,
    pub(super) there: Arc<Endpoint>,
    /// Nothing goes wrong on the way.
    pub(super) is_faultless: bool,
}

impl MemoryNetwork {
    /// A network on which nothing goes wrong yet; `seed` decides what will.
    #[must_use]
    pub fn new(seed: u64) -> MemoryNetwork {
        MemoryNetwork {
            shared: Arc::new(Shared {
                wires: Mutex::new(Wires {
                    endpoints: BTreeMap::new(),
                    faults: Faults::default(),
                    cuts: BTreeSet::new(),
                    isolated: BTreeSet::new(),
                    random: fastrand::Rng::with_seed(seed),
                }),
                generation: AtomicU64::new(0),
            }),
        }
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
        self.change(|wires| wires.faults = faults);
    }

    /// Cuts the link from one node to another. The way back stays.
    pub fn cut(&self, from: impl Into<NodeId>, to: impl Into<NodeId>) {
        self.change(|wires| wires.cuts.insert((from.into(), to.into())));
    }

    /// Mends the link from one node to another.
    pub fn mend(&self, from: impl Into<NodeId>, to: impl Into<NodeId>) {
        self.change(|wires| wires.cuts.remove(&(from.into(), to.into())));
    }

    /// Splits the network: nodes of different groups do not reach each other. Replaces earlier
    /// cuts; nodes in no group reach everybody.
    pub fn partition(&self, groups: &[&[u64]]) {
        let mut cuts = BTreeSet::new();
        for (index, group) in groups.iter().enumerate() {
            for other in groups[index + 1..].iter().copied().flatten() {
                for node in *group {
                    cuts.insert((NodeId(*node), NodeId(*other)));
                    cuts.insert((NodeId(*other), NodeId(*node)));
                }
            }
        }
        self.change(|wires| wires.cuts = cuts);
    }

    /// Cuts every link to and from a node.
    pub fn isolate(&self, node: impl Into<NodeId>) {
        self.change(|wires| wires.isolated.insert(node.into()));
    }

    /// Mends every link. The fault plan stays.
    pub fn heal(&self) {
        self.change(|wires| {
            wires.cuts.clear();
            wires.isolated.clear();
        });
    }

    /// Takes an address; whoever was there is cut off, and its neighbours have lost it.
    pub(super) fn enter(&self, address: &str, endpoint: Arc<Endpoint>) {
        self.change(|wires| {
            if let Some(before) = wires.endpoints.insert(address.to_owned(), endpoint) {
                before.inbox.close();
                wires.lose(&before);
            }
        });
    }

    /// Gives an address up, unless somebody else has taken it over. The neighbours have lost who was there.
    pub(super) fn leave(&self, address: &str, endpoint: &Arc<Endpoint>) {
        self.change(|wires| {
            if wires.is_at(address, endpoint) {
                wires.endpoints.remove(address);
                wires.lose(endpoint);
            }
        });
    }

    /// The way from `me`, who is `here` at `address`, to a peer; `None` if there is none.
    pub(super) fn way(
        &self,
        (me, here, address): (NodeId, &Arc<Endpoint>, &str),
        (peer, peer_address): (NodeId, &str),
    ) -> Option<Way> {
        let wires = self.wires();
        if !wires.is_at(address, here) || wires.is_cut(me, peer) {
            return None;
        }
        let there = wires.endpoints.get(peer_address)?.clone();
        let is_faultless = wires.faults == Faults::default();
        Some(Way { generation: self.generation(), there, is_faultless })
    }

    /// Who is at an address, if the links from and to `me` are whole.
    pub(super) fn neighbour(
        &self,
        me: NodeId,
        peer: NodeId,
        peer_address: &str,
    ) -> Option<Arc<Endpoint>> {
        let wires = self.wires();
        let is_cut = wires.is_cut(me, peer) || wires.is_cut(peer, me);
        wires.endpoints.get(peer_address).filter(|_| !is_cut).cloned()
    }

    /// When the copies of a message sent now arrive: none if it is lost.
    pub(super) fn arrivals(&self) -> impl Iterator<Item = Duration> + use<> {
        self.wires().arrivals()
    }

    /// Which generation of the network this is.
    pub(super) fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Begins another generation, after a change.
    pub(super) fn changed(&self) {
        self.shared.generation.fetch_add(1, Ordering::Release);
    }

    fn change<T>(&self, change: impl FnOnce(&mut Wires) -> T) -> T {
        let mut wires = self.wires();
        let outcome = change(&mut wires);
        self.changed();
        outcome
    }

    fn wires(&self) -> MutexGuard<'_, Wires> {
        self.shared.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wires {
    /// Whether `endpoint` is still the one that is reached at `address`.
    fn is_at(&self, address: &str, endpoint: &Arc<Endpoint>) -> bool {
        self.endpoints.get(address).is_some_and(|there| Arc::ptr_eq(there, endpoint))
    }

    /// Whoever was at `endpoint` is gone: those that it was connected to find nobody there, unless the network
    /// is in between.
    fn lose(&self, endpoint: &Endpoint) {
        let Some(lost) = endpoint.node() else { return };
        for neighbour in self.endpoints.values() {
            let is_connected = neighbour.neighbours().remove(&lost);
            let is_reached = |node| !self.is_cut(lost, node) && !self.is_cut(node, lost);
            if is_connected && neighbour.node().is_some_and(is_reached) {
                neighbour.inbox.lose(lost);
            }
        }
    }

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
