//! Who may talk to this node.
//!
//! Every transport asks here before it lets a message through, so that all of them refuse the same
//! strangers in the same words.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use paxos_core::types::{Identity, NodeId, Peer, StoreId};
use tokio::time::Instant;

/// How long the same refusal is not reported again: a refused peer keeps trying.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Why two nodes do not talk. The texts name both, since both get to read them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[cfg(any(feature = "tcp", feature = "quic"))]
    #[error(
        "protocol version {theirs} meets version {ours}: run the same version, or two that follow \
         each other, on every node"
    )]
    Version { ours: u16, theirs: u16 },
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
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The peers, each with its data directory once it is known.
    peers: BTreeMap<NodeId, Option<StoreId>>,
    /// The last refusal reported of each peer, and of all strangers together.
    reported: BTreeMap<Option<NodeId>, (String, Instant)>,
}

impl Roster {
    pub(crate) fn new(me: Identity, peers: &[Peer]) -> Roster {
        let roster = Roster { me, inner: Mutex::default() };
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
        let Inner { peers, reported } = &mut *inner;
        reported.retain(|peer, _| peer.is_none_or(|peer| peers.contains_key(&peer)));
    }

    /// Whether `node` is a peer.
    pub(crate) fn is_peer(&self, node: NodeId) -> bool {
        self.inner().peers.contains_key(&node)
    }

    /// Lets a node in that says it is `theirs` and wants to talk to `wanted`, or says why not.
    /// `true` if it is met for the first time.
    pub(crate) fn admit(&self, theirs: Identity, wanted: NodeId) -> Result<bool, Refusal> {
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
        let mut inner = self.inner();
        match inner.peers.get_mut(&theirs.node) {
            None => Err(Refusal::Unknown { stranger: theirs.node, here: ours.node }),
            Some(Some(known)) if *known != theirs.store => {
                Err(Refusal::LostData { node: theirs.node, known: *known, found: theirs.store })
            }
            Some(Some(_)) => Ok(false),
            Some(store @ None) => {
                *store = Some(theirs.store);
                Ok(true)
            }
        }
    }

    /// Whether a refusal is worth a report, or has just been reported. Of nodes that are no peers
    /// only the last one is remembered.
    pub(crate) fn is_news(&self, peer: Option<NodeId>, reason: &str) -> bool {
        let mut inner = self.inner();
        let now = Instant::now();
        match inner.reported.get(&peer) {
            Some((last, when)) if last == reason && now.duration_since(*when) < REPEAT_INTERVAL => {
                false
            }
            _ => {
                inner.reported.insert(peer, (reason.to_owned(), now));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::types::ClusterId;

    use super::*;

    fn identity(cluster: u64, node: u64, store: u64) -> Identity {
        Identity { cluster: ClusterId(cluster), node: NodeId(node), store: StoreId(store) }
    }

    fn peer(id: u64, store: Option<u64>) -> Peer {
        Peer { id: NodeId(id), address: String::new(), store: store.map(StoreId) }
    }

    #[test]
    fn a_peer_is_met_once_and_refused_with_another_directory() {
        let roster = Roster::new(identity(7, 1, 11), &[peer(2, None), peer(3, Some(33))]);
        let here = NodeId(1);
        assert_eq!(roster.admit(identity(7, 2, 22), here), Ok(true));
        assert_eq!(roster.admit(identity(7, 2, 22), here), Ok(false));
        assert_eq!(roster.admit(identity(7, 3, 33), here), Ok(false));
        roster.update(&[peer(2, None), peer(3, None)]);
        let lost = roster.admit(identity(7, 2, 99), here).expect_err("another directory");
        assert!(lost.to_string().contains("replace it as a new member"), "{lost}");
        roster.admit(identity(7, 3, 99), here).expect_err("known from the list");
    }

    #[test]
    fn strangers_are_refused_with_the_remedy() {
        let roster = Roster::new(identity(7, 1, 11), &[peer(2, None)]);
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
        assert_eq!(roster.admit(identity(7, 2, 22), NodeId(1)), Ok(true), "nothing was kept");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_refusal_is_news_once_a_minute() {
        let roster = Roster::new(identity(7, 1, 11), &[]);
        assert!(roster.is_news(None, "a"));
        assert!(!roster.is_news(None, "a"));
        assert!(roster.is_news(Some(NodeId(2)), "a"), "of another peer");
        assert!(roster.is_news(None, "b"), "another reason");
        tokio::time::advance(REPEAT_INTERVAL).await;
        assert!(roster.is_news(None, "b"), "later");
    }
}
