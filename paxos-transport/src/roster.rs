//! Who may talk to this node.
//!
//! Every transport asks here before it lets a message through, so that all of them refuse the same
//! strangers in the same words. Peers met and nodes refused are reported from here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use paxos_core::{
    port::{Event, RefusedPeer},
    types::{Acquaintance, Identity, NodeId, Peer, StoreId},
};

#[cfg(any(feature = "tcp", feature = "quic"))]
use tokio::sync::Notify;

use crate::{
    inbox::Inbox,
    refusals::{Change, Clusters, Dialler, Refusal, Refusals, Who},
};

/// What speaks for a node being who it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It was found where it has to be, or its certificate names it.
    Enough,
    /// Its word alone.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    Claim,
}

/// How a node that was let in is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// With the data directory that it names.
    Met,
    /// Not at all: it has never been met, and there is nothing but its word. Nothing of it is
    /// believed until it has been [met](Roster::meet).
    #[cfg(any(feature = "tcp", feature = "quic"))]
    Unmet,
}

/// What nodes are called, by those who run them.
pub(crate) type Names = BTreeMap<NodeId, String>;

/// This node, its peers, and the data directories they were met with.
#[derive(Debug)]
pub(crate) struct Roster {
    me: Identity,
    names: Names,
    inbox: Arc<Inbox>,
    inner: Mutex<Inner>,
    /// Rung when a peer has been met, or the peers are others.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    peers: BTreeMap<NodeId, Known>,
    refusals: Refusals,
}

#[derive(Debug)]
struct Known {
    #[cfg(any(feature = "tcp", feature = "quic"))]
    address: String,
    /// Its data directory, once it has been met.
    store: Option<StoreId>,
}

impl Roster {
    /// Reports to `inbox`.
    pub(crate) fn new(me: Identity, names: Names, peers: &[Peer], inbox: Arc<Inbox>) -> Roster {
        let roster = Roster {
            me,
            names,
            inbox,
            inner: Mutex::default(),
            #[cfg(any(feature = "tcp", feature = "quic"))]
            changed: Notify::new(),
        };
        roster.update(peers);
        roster
    }

    /// This node.
    pub(crate) fn me(&self) -> Identity {
        self.me
    }

    /// A node as those know it who run it.
    pub(crate) fn who(&self, id: NodeId) -> Who {
        Who { id, name: self.names.get(&id).cloned() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the peers. A data directory that was met is not forgotten while its node stays.
    pub(crate) fn update(&self, peers: &[Peer]) {
        let mut inner = self.inner();
        let known = |peer: &Peer| {
            let met = || inner.peers.get(&peer.id).and_then(|before| before.store);
            let known = Known {
                #[cfg(any(feature = "tcp", feature = "quic"))]
                address: peer.address.clone(),
                store: peer.store.or_else(met),
            };
            (peer.id, known)
        };
        inner.peers = peers.iter().map(known).collect();
        let Inner { peers, refusals } = &mut *inner;
        refusals.retain(peers.keys().copied());
        #[cfg(any(feature = "tcp", feature = "quic"))]
        self.changed.notify_waiters();
    }

    /// Whether `node` is a peer.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    pub(crate) fn is_peer(&self, node: NodeId) -> bool {
        self.inner().peers.contains_key(&node)
    }

    /// Where a peer is found.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    pub(crate) fn address_of(&self, node: NodeId) -> Option<String> {
        self.inner().peers.get(&node).map(|known| known.address.clone())
    }

    /// Lets a node in that says it is `theirs` and wants to talk to `wanted`, or says why not.
    /// When it is met for the first time, that is reported before this returns.
    pub(crate) fn admit(
        &self,
        theirs: Identity,
        wanted: NodeId,
        evidence: Evidence,
    ) -> Result<Admission, Refusal> {
        let ours = self.me;
        let (stranger, here) = (self.who(theirs.node), self.who(ours.node));
        if theirs.cluster != ours.cluster {
            let ids = Some(Clusters(theirs.cluster, ours.cluster));
            return Err(Refusal::Cluster { stranger, here, ids });
        }
        if wanted != ours.node {
            return Err(Refusal::Destination { from: stranger, wanted: self.who(wanted), here });
        }
        if theirs.node == ours.node {
            return Err(Refusal::SameId(here));
        }
        let Identity { node, store: found, .. } = theirs;
        let mut inner = self.inner();
        let Some(Known { store, .. }) = inner.peers.get_mut(&node) else {
            return Err(Refusal::Unknown { stranger, here });
        };
        match (found.acquaintance(*store), evidence) {
            (Acquaintance::LostData { known }, _) => {
                let change = Some(Change { known, found });
                Err(Refusal::LostData { node: stranger, change })
            }
            (Acquaintance::Known, _) => Ok(Admission::Met),
            #[cfg(any(feature = "tcp", feature = "quic"))]
            (Acquaintance::New, Evidence::Claim) => Ok(Admission::Unmet),
            (Acquaintance::New, Evidence::Enough) => {
                *store = Some(found);
                tracing::info!(node = %here, peer = %stranger, store = %found, "met a peer");
                // Under the lock: whoever is admitted next finds it reported.
                self.inbox.report(Event::Met { peer: node, store: found });
                #[cfg(any(feature = "tcp", feature = "quic"))]
                self.changed.notify_waiters();
                Ok(Admission::Met)
            }
        }
    }

    /// Waits until the node that says it is `theirs` has been met, by this node dialling it, and refuses it
    /// if that was another. Cancel safe.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    pub(crate) async fn meet(&self, theirs: Identity) -> Result<(), Refusal> {
        loop {
            // Before looking, so that no change is missed.
            let changed = self.changed.notified();
            match self.admit(theirs, self.me.node, Evidence::Claim)? {
                Admission::Met => return Ok(()),
                Admission::Unmet => changed.await,
            }
        }
    }

    /// Takes note that `other` is refused, or refuses this node, and reports it unless that has just
    /// been done. Of those who are no peers only the last refusal is remembered.
    pub(crate) fn refuse(&self, other: Option<NodeId>, dialler: Dialler, reason: &str) {
        let mut inner = self.inner();
        let peer = other.filter(|other| inner.peers.contains_key(other));
        let peer = peer.filter(|peer| inner.refusals.concerns(*peer, dialler));
        if !inner.refusals.add(peer, dialler, reason) {
            return;
        }
        drop(inner);
        let other = other.map_or("unknown".to_owned(), |other| self.who(other).to_string());
        tracing::warn!(node = %self.who(self.me.node), peer = other, "refused: {reason}");
        self.inbox.report(Event::Refused { peer, reason: reason.to_owned() });
    }

    /// Takes note that a peer has been let in, or has let this node in.
    pub(crate) fn welcome(&self, peer: NodeId, dialler: Dialler) {
        let is_over = self.inner().refusals.remove(peer, dialler);
        if is_over {
            let (node, who) = (self.who(self.me.node), self.who(peer));
            tracing::info!(%node, peer = %who, "no longer refused");
            self.inbox.report(Event::Admitted { peer });
        }
    }

    /// Who is refused, or refuses this node.
    pub(crate) fn refusals(&self) -> Vec<RefusedPeer> {
        self.inner().refusals.standing(|id| self.who(id))
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use paxos_core::types::ClusterId;

    use super::*;

    fn identity(cluster: u64, node: u64, store: u64) -> Identity {
        Identity { cluster: ClusterId(cluster), node: NodeId(node), store: StoreId(store) }
    }

    fn peer(id: u64, store: Option<u64>) -> Peer {
        Peer { id: NodeId(id), address: String::new(), store: store.map(StoreId) }
    }

    fn roster(peers: &[Peer]) -> (Roster, Arc<Inbox>) {
        let inbox = Arc::new(Inbox::default());
        (Roster::new(identity(7, 1, 11), Names::new(), peers, inbox.clone()), inbox)
    }

    fn next(inbox: &Inbox) -> Option<Event> {
        let mut events = Vec::new();
        let _ = inbox.poll_recv(&mut Context::from_waker(Waker::noop()), &mut events, 1);
        events.pop()
    }

    #[test]
    fn a_peer_is_met_once_and_refused_with_another_directory() {
        let (roster, inbox) = roster(&[peer(2, None), peer(3, Some(33))]);
        let here = NodeId(1);
        for node in [2, 2, 3] {
            let admitted = roster.admit(identity(7, node, 11 * node), here, Evidence::Enough);
            assert_eq!(admitted, Ok(Admission::Met));
        }
        let met = Event::Met { peer: NodeId(2), store: StoreId(22) };
        assert_eq!(next(&inbox), Some(met));
        roster.refuse(None, Dialler::Peer, "the next event");
        assert!(matches!(next(&inbox), Some(Event::Refused { .. })));
        roster.update(&[peer(2, None), peer(3, None)]);
        let lost = roster
            .admit(identity(7, 2, 99), here, Evidence::Enough)
            .expect_err("another directory");
        assert!(lost.to_string().contains("replace it as a new member"), "{lost}");
        roster.admit(identity(7, 3, 99), here, Evidence::Enough).expect_err("known from the list");
    }

    #[test]
    fn strangers_are_refused_with_the_remedy() {
        let (roster, _) = roster(&[peer(2, None)]);
        let refusals = [
            (identity(8, 2, 22), 1, "different clusters (8 and 7)"),
            (identity(7, 2, 22), 3, "correct the addresses"),
            (identity(7, 1, 22), 1, "call themselves node 1"),
            (identity(7, 9, 22), 1, "add it to the cluster first"),
        ];
        for (theirs, wanted, text) in refusals {
            let refusal = roster.admit(theirs, NodeId(wanted), Evidence::Enough).expect_err(text);
            assert!(refusal.to_string().contains(text), "{refusal}");
        }
        let first = roster.admit(identity(7, 2, 33), NodeId(1), Evidence::Enough);
        assert_eq!(first, Ok(Admission::Met), "nothing was kept");
    }

    #[cfg(any(feature = "tcp", feature = "quic"))]
    #[tokio::test]
    async fn who_comes_first_is_not_believed_before_the_peer_is_found_where_it_has_to_be() {
        let (roster, inbox) = roster(&[peer(2, None), peer(3, None)]);
        let here = NodeId(1);
        let (stranger, member) = (identity(7, 2, 99), identity(7, 2, 22));
        for claims in [stranger, member, stranger] {
            assert_eq!(roster.admit(claims, here, Evidence::Claim), Ok(Admission::Unmet));
        }
        assert_eq!(next(&inbox), None, "nobody was met");
        let find = async {
            tokio::task::yield_now().await;
            roster.admit(member, here, Evidence::Enough)
        };
        let (one, other, found) = tokio::join!(roster.meet(stranger), roster.meet(member), find);
        assert!(matches!(one, Err(Refusal::LostData { .. })), "{one:?}");
        assert_eq!((other, found), (Ok(()), Ok(Admission::Met)));
        assert_eq!(next(&inbox), Some(Event::Met { peer: NodeId(2), store: StoreId(22) }));
        let let_go = async {
            tokio::task::yield_now().await;
            roster.update(&[peer(2, None)]);
        };
        let (waited, ()) = tokio::join!(roster.meet(identity(7, 3, 33)), let_go);
        assert!(matches!(waited, Err(Refusal::Unknown { .. })), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_reported_when_it_comes_and_when_it_is_over() {
        let (roster, inbox) = roster(&[peer(2, None)]);
        let two = NodeId(2);
        roster.welcome(two, Dialler::Peer);
        for (other, reason) in [(Some(NodeId(9)), "a"), (None, "a"), (Some(two), "a"), (None, "b")]
        {
            roster.refuse(other, Dialler::Peer, reason);
        }
        let reason = "a".to_owned();
        assert_eq!(
            roster.refusals(),
            [RefusedPeer { peer: two, name: None, reason }],
            "of peers alone"
        );
        roster.welcome(two, Dialler::ThisNode);
        assert_eq!(roster.refusals(), []);
        roster.refuse(Some(two), Dialler::Peer, "c");
        assert_eq!(roster.refusals(), [], "anybody can say that he is a peer");
        let report = |peer, reason: &str| Event::Refused { peer, reason: reason.to_owned() };
        let admitted = Event::Admitted { peer: two };
        let (first, second) = (report(None, "a"), report(Some(two), "a"));
        for event in [first, second, report(None, "b"), admitted, report(None, "c")] {
            assert_eq!(next(&inbox), Some(event));
        }
        assert_eq!(next(&inbox), None);
    }
}
