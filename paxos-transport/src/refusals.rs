//! Which peers are refused at present, or refuse this node, and what has been told of it.

mod reason;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use paxos_core::{port::RefusedPeer, types::NodeId};
use tokio::time::Instant;

pub(crate) use reason::{Change, Clusters, Refusal, Who};

/// How long the same refusal is not told again: who is refused keeps trying.
pub(crate) const REPEAT_INTERVAL: Duration = Duration::from_secs(60);

/// Who has dialled when two nodes parted. Each has its own: a node may reach a peer that is refused
/// whenever it dials itself, for an address that is wrong on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dialler {
    ThisNode,
    Peer,
}

/// A bounded number of refusals: two for each peer, and the last one of all strangers together.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    peers: BTreeMap<(NodeId, Dialler), Told>,
    /// Peers that this node has found where they have to be, and that let it in.
    reached: BTreeSet<NodeId>,
    strangers: Option<Told>,
}

#[derive(Clone, Debug)]
struct Told {
    reason: String,
    at: Instant,
}

impl Told {
    fn is_recent(&self, reason: &str, now: Instant) -> bool {
        self.reason == reason && now.duration_since(self.at) < REPEAT_INTERVAL
    }
}

impl Refusals {
    /// Whether it is a peer that is refused, and not somebody who says that he is one: this node has reached the
    /// peer, and anybody can say so.
    pub(crate) fn concerns(&self, peer: NodeId, dialler: Dialler) -> bool {
        dialler == Dialler::ThisNode || !self.reached.contains(&peer)
    }

    /// Takes note of a refusal and says whether it has to be told: the same one was not, just now.
    pub(crate) fn add(&mut self, peer: Option<NodeId>, dialler: Dialler, reason: &str) -> bool {
        let at = Instant::now();
        let told = Told { reason: reason.to_owned(), at };
        let Some(peer) = peer else {
            let is_news = !self.strangers.as_ref().is_some_and(|last| last.is_recent(reason, at));
            if is_news {
                self.strangers = Some(told);
            }
            return is_news;
        };
        let recent = self.of(peer).find(|last| last.is_recent(reason, at)).cloned();
        let is_news = recent.is_none();
        self.peers.insert((peer, dialler), recent.unwrap_or(told));
        if dialler == Dialler::ThisNode {
            self.reached.remove(&peer);
        }
        is_news
    }

    /// Takes note that a peer was let in, or that it lets this node in; says whether it was refused until now
    /// and is no longer.
    pub(crate) fn remove(&mut self, peer: NodeId, dialler: Dialler) -> bool {
        let mut was_refused = self.peers.remove(&(peer, Dialler::Peer)).is_some();
        if dialler == Dialler::ThisNode {
            was_refused |= self.peers.remove(&(peer, Dialler::ThisNode)).is_some();
            self.reached.insert(peer);
        }
        was_refused && self.of(peer).next().is_none()
    }

    /// Forgets those who are not among `peers`.
    pub(crate) fn retain(&mut self, peers: impl Iterator<Item = NodeId>) {
        let peers: BTreeSet<NodeId> = peers.collect();
        self.peers.retain(|(peer, _), _| peers.contains(peer));
        self.reached.retain(|peer| peers.contains(peer));
    }

    /// Each peer once: with what was found when this node dialled it, if it was refused then.
    pub(crate) fn standing(&self, who: impl Fn(NodeId) -> Who) -> Vec<RefusedPeer> {
        let mut standing: Vec<RefusedPeer> = Vec::new();
        for ((peer, _), told) in &self.peers {
            if standing.last().is_none_or(|last| last.peer != *peer) {
                let (name, reason) = (who(*peer).name, told.reason.clone());
                standing.push(RefusedPeer { peer: *peer, name, reason });
            }
        }
        standing
    }

    fn of(&self, peer: NodeId) -> impl Iterator<Item = &Told> {
        self.peers.range((peer, Dialler::ThisNode)..=(peer, Dialler::Peer)).map(|(_, told)| told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    fn standing(refusals: &Refusals) -> String {
        let who = |id| Who { id, name: Some(format!("n{id}")) };
        let each = |refused: RefusedPeer| {
            format!("{}: {}. ", refused.name.expect("they have one"), refused.reason)
        };
        refusals.standing(who).into_iter().map(each).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_stands_until_the_peer_is_reached() {
        let mut refusals = Refusals::default();
        assert!(refusals.add(Some(PEER), Dialler::Peer, "a"));
        assert!(!refusals.add(Some(PEER), Dialler::ThisNode, "a"), "told already");
        assert!(refusals.add(Some(PEER), Dialler::ThisNode, "b"), "another reason");
        assert!(refusals.add(Some(NodeId(1)), Dialler::Peer, "c"));
        assert_eq!(standing(&refusals), "n1: c. n2: b. ", "what dialling has found comes first");
        assert!(!refusals.remove(PEER, Dialler::Peer), "it refuses this node");
        assert_eq!(standing(&refusals), "n1: c. n2: b. ");
        assert!(refusals.concerns(PEER, Dialler::Peer));
        assert!(refusals.remove(PEER, Dialler::ThisNode));
        assert!(!refusals.remove(PEER, Dialler::ThisNode), "it was not refused");
        assert!(!refusals.concerns(PEER, Dialler::Peer), "somebody else says that he is it");
        assert!(refusals.add(Some(PEER), Dialler::ThisNode, "d"));
        assert!(refusals.concerns(PEER, Dialler::Peer), "it is not reached any longer");
        refusals.retain([PEER].into_iter());
        assert_eq!(standing(&refusals), "n2: d. ");
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_refusal_is_told_once_in_an_interval() {
        let mut refusals = Refusals::default();
        for peer in [Some(PEER), None] {
            assert!(refusals.add(peer, Dialler::Peer, "a"));
            assert!(!refusals.add(peer, Dialler::Peer, "a"));
        }
        tokio::time::advance(REPEAT_INTERVAL).await;
        for peer in [Some(PEER), None] {
            assert!(refusals.add(peer, Dialler::Peer, "a"));
            assert!(refusals.add(peer, Dialler::Peer, "b"));
        }
    }
}
