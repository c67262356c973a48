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

use crate::{
    inbox::Inbox,
    refusals::{Dialler, Refusals},
};

/// Why two nodes do not talk. The texts name both, since both get to read them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[cfg(any(feature = "tcp", feature = "quic"))]
    #[error(
        "protocol version {theirs} meets version {ours}: run the same version, or two that follow \
         each other, on every node"
    )]
    Version { ours: u16, theirs: u16 },
    #[cfg(any(feature = "tcp", feature = "quic"))]
    #[error(
        "group {theirs} meets group {ours}, the only one that this version knows: run the same \
         version on every node"
    )]
    Group { ours: u32, theirs: u32 },
    #[error(
        "node {} belongs to cluster {}, node {} to cluster {}: check the cluster id and the \
         addresses of the peers", theirs.node, theirs.cluster, ours.node, ours.cluster
    )]
    Cluster { ours: Identity, theirs: Identity },
    #[error(
        "node {from} looks for node {wanted}, but this address is node {here}'s: correct the \
         addresses of the peers"
    )]
    Destination { from: NodeId, wanted: NodeId, here: NodeId },
    #[error("two nodes call themselves node {0}: give each its own id")]
    SameId(NodeId),
    #[error("node {here} knows no member {stranger}: add it to the cluster first")]
    Unknown { stranger: NodeId, here: NodeId },
    #[error(
        "node {node} has lost its data directory (it was {known}, now it is {found}) and with it \
         its promises: replace it as a new member, or start it on its old directory"
    )]
    LostData { node: NodeId, known: StoreId, found: StoreId },
}

/// This node, its peers, and the data directories they were met with.
#[derive(Debug)]
pub(crate) struct Roster {
    me: Identity,
    inbox: Arc<Inbox>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The peers, each with its data directory once it is known.
    peers: BTreeMap<NodeId, Option<StoreId>>,
    refusals: Refusals,
}

impl Roster {
    /// Reports to `inbox`.
    pub(crate) fn new(me: Identity, peers: &[Peer], inbox: Arc<Inbox>) -> Roster {
        let roster = Roster { me, inbox, inner: Mutex::default() };
        roster.update(peers);
        roster
    }

    /// This node.
    pub(crate) fn me(&self) -> Identity {
        self.me
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the peers. A data directory that was met is not forgotten while its node stays.
    pub(crate) fn update(&self, peers: &[Peer]) {
        let mut inner = self.inner();
        let with_store = |peer: &Peer| {
            (peer.id, peer.store.or_else(|| inner.peers.get(&peer.id).copied().flatten()))
        };
        inner.peers = peers.iter().map(with_store).collect();
        let Inner { peers, refusals } = &mut *inner;
        refusals.retain(peers.keys().copied());
    }

    /// Whether `node` is a peer.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    pub(crate) fn is_peer(&self, node: NodeId) -> bool {
        self.inner().peers.contains_key(&node)
    }

    /// Lets a node in that says it is `theirs` and wants to talk to `wanted`, or says why not.
    /// When it is met for the first time, that is reported before this returns.
    pub(crate) fn admit(&self, theirs: Identity, wanted: NodeId) -> Result<(), Refusal> {
        let ours = self.me;
        if theirs.cluster != ours.cluster {
            return Err(Refusal::Cluster { ours, theirs });
        }
        if wanted != ours.node {
            return Err(Refusal::Destination { from: theirs.node, wanted, here: ours.node });
        }
        if theirs.node == ours.node {
            return Err(Refusal::SameId(ours.node));
        }
        let Identity { node, store: found, .. } = theirs;
        let mut inner = self.inner();
        let Some(store) = inner.peers.get_mut(&node) else {
            return Err(Refusal::Unknown { stranger: node, here: ours.node });
        };
        match found.acquaintance(*store) {
            Acquaintance::LostData { known } => Err(Refusal::LostData { node, known, found }),
            Acquaintance::Known => Ok(()),
            Acquaintance::New => {
                *store = Some(found);
                tracing::info!(node = %ours.node, peer = %node, store = %found, "met a peer");
                // Under the lock: whoever is admitted next finds it reported.
                self.inbox.report(Event::Met { peer: node, store: found });
                Ok(())
            }
        }
    }

    /// Takes note that `other` is refused, or refuses this node, and reports it unless that has just
    /// been done. Of nodes that are no peers only the last refusal is remembered.
    pub(crate) fn refuse(&self, other: Option<NodeId>, dialler: Dialler, reason: &str) {
        let mut inner = self.inner();
        let peer = other.filter(|other| inner.peers.contains_key(other));
        if !inner.refusals.add(peer, dialler, reason) {
            return;
        }
        drop(inner);
        let other = other.map_or("unknown".to_owned(), |other| other.to_string());
        tracing::warn!(node = %self.me.node, peer = other, "refused: {reason}");
        self.inbox.report(Event::Refused { peer, reason: reason.to_owned() });
    }

    /// Takes note that a peer has been let in, or has let this node in.
    pub(crate) fn welcome(&self, peer: NodeId, dialler: Dialler) {
        let is_over = self.inner().refusals.remove(peer, dialler);
        if is_over {
            tracing::info!(node = %self.me.node, %peer, "no longer refused");
            self.inbox.report(Event::Admitted { peer });
        }
    }

    /// Who is refused, or refuses this node.
    pub(crate) fn refusals(&self) -> Vec<RefusedPeer> {
        self.inner().refusals.standing()
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
        (Roster::new(identity(7, 1, 11), peers, inbox.clone()), inbox)
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
            assert_eq!(roster.admit(identity(7, node, 11 * node), here), Ok(()));
        }
        let met = Event::Met { peer: NodeId(2), store: StoreId(22) };
        assert_eq!(next(&inbox), Some(met));
        roster.refuse(None, Dialler::Peer, "the next event");
        assert!(matches!(next(&inbox), Some(Event::Refused { .. })));
        roster.update(&[peer(2, None), peer(3, None)]);
        let lost = roster.admit(identity(7, 2, 99), here).expect_err("another directory");
        assert!(lost.to_string().contains("replace it as a new member"), "{lost}");
        roster.admit(identity(7, 3, 99), here).expect_err("known from the list");
    }

    #[test]
    fn strangers_are_refused_with_the_remedy() {
        let (roster, _) = roster(&[peer(2, None)]);
        let refusals = [
            (identity(8, 2, 22), 1, "belongs to cluster 8"),
            (identity(7, 2, 22), 3, "correct the addresses"),
            (identity(7, 1, 22), 1, "call themselves node 1"),
            (identity(7, 9, 22), 1, "add it to the cluster first"),
        ];
        for (theirs, wanted, text) in refusals {
            let refusal = roster.admit(theirs, NodeId(wanted)).expect_err(text);
            assert!(refusal.to_string().contains(text), "{refusal}");
        }
        assert_eq!(roster.admit(identity(7, 2, 33), NodeId(1)), Ok(()), "nothing was kept");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_reported_when_it_comes_and_when_it_is_over() {
        let (roster, inbox) = roster(&[peer(2, None)]);
        let two = NodeId(2);
        roster.welcome(two, Dialler::ThisNode);
        for (other, reason) in [(Some(NodeId(9)), "a"), (None, "a"), (Some(two), "a"), (None, "b")]
        {
            roster.refuse(other, Dialler::Peer, reason);
        }
        let reason = "a".to_owned();
        assert_eq!(roster.refusals(), [RefusedPeer { peer: two, reason }], "of peers alone");
        roster.welcome(two, Dialler::Peer);
        assert_eq!(roster.refusals(), []);
        let report = |peer, reason: &str| Event::Refused { peer, reason: reason.to_owned() };
        let admitted = Event::Admitted { peer: two };
        for event in [report(None, "a"), report(Some(two), "a"), report(None, "b"), admitted] {
            assert_eq!(next(&inbox), Some(event));
        }
        assert_eq!(next(&inbox), None);
    }
}
