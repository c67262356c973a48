//! Why two nodes do not talk, in words that name the remedy.

use std::fmt;

use paxos_core::types::{ClusterId, NodeId, StoreId};

/// A node as a person knows it: by its name, if it has been given one, or else by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) id: NodeId,
    pub(crate) name: Option<String>,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => self.id.fmt(f),
        }
    }
}

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
        "node {stranger} and node {here} belong to different clusters{}: check the cluster id and the \
         addresses of the peers",
        in_brackets(ids)
    )]
    Cluster { stranger: Who, here: Who, ids: Option<Clusters> },
    #[error(
        "node {from} looks for node {wanted}, but this address is node {here}'s: correct the \
         addresses of the peers"
    )]
    Destination { from: Who, wanted: Who, here: Who },
    #[error("two nodes call themselves node {0}: give each its own id")]
    SameId(Who),
    #[error("node {here} knows no member {stranger}: add it to the cluster first")]
    Unknown { stranger: Who, here: Who },
    #[error(
        "node {node} has lost its data directory{} and with it its promises: replace it as a new member, or \
         start it on its old directory",
        in_brackets(change)
    )]
    LostData { node: Who, change: Option<Change> },
    #[cfg(any(feature = "tcp", feature = "quic"))]
    #[error(
        "the certificate that node {node} shows {fault}: give it one of its own, which names the host of its \
         address, and the node alone if it names any"
    )]
    Certificate { node: Who, fault: String },
    #[cfg(any(feature = "tcp", feature = "quic"))]
    #[error(
        "node {node} is not found at its address, and only who is found there is believed to be a node that \
         was never met: correct its address, let the nodes reach each other, or give them certificates"
    )]
    NotFound { node: Who },
}

impl Refusal {
    /// As the other side gets to hear it: with nothing in it that it need not know already.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    pub(crate) fn told(&self) -> String {
        let told = match self.clone() {
            Refusal::Cluster { stranger, here, ids: _ } => {
                Refusal::Cluster { stranger, here, ids: None }
            }
            Refusal::LostData { node, change: _ } => Refusal::LostData { node, change: None },
            other => other,
        };
        told.to_string()
    }
}

/// The clusters of who is refused and of who refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} and {1}")]
pub(crate) struct Clusters(pub(crate) ClusterId, pub(crate) ClusterId);

/// What a data directory was and what it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it was {known}, now it is {found}")]
pub(crate) struct Change {
    pub(crate) known: StoreId,
    pub(crate) found: StoreId,
}

fn in_brackets(detail: &Option<impl fmt::Display>) -> String {
    detail.as_ref().map_or(String::new(), |detail| format!(" ({detail})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "tcp", feature = "quic"))]
    #[test]
    fn the_other_side_hears_no_id_of_a_cluster_or_a_data_directory() {
        let who = |id, name: Option<&str>| Who { id: NodeId(id), name: name.map(str::to_owned) };
        let ids = Some(Clusters(ClusterId(0xabc), ClusterId(0xdef)));
        let cluster = Refusal::Cluster { stranger: who(1, None), here: who(2, Some("b")), ids };
        let text = "node 1 and node b belong to different clusters";
        assert!(cluster.to_string().starts_with(&format!("{text} (abc and def): check")));
        assert!(cluster.told().starts_with(&format!("{text}: check")));
        let change = Some(Change { known: StoreId(0xabc), found: StoreId(0xdef) });
        let lost = Refusal::LostData { node: who(1, None), change };
        let text = "node 1 has lost its data directory";
        assert!(lost.to_string().starts_with(&format!("{text} (it was abc, now it is def) and")));
        assert!(lost.told().starts_with(&format!("{text} and with it its promises: replace")));
    }
}
