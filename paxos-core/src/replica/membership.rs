//! Which membership governs which slot.
//!
//! Lamport's α (1998, section 3.1; 2001, section 3): a membership that is chosen at slot s governs the slots
//! from s + α on. As nobody proposes more than α slots ahead of what it knows to be chosen, whoever proposes at
//! a slot knows by which membership its votes count; and whoever leads holds promises from a phase-1 quorum
//! of every membership that governs a slot at which it proposes.
//!
//! What is chosen has effect only if it follows on the newest membership, by its version, and if that governs
//! the slot already: so there is at most one change on its way, and one that comes twice, or late, changes
//! nothing. α is the window of the newest membership before.
//!
//! The first membership is what the nodes that begin the cluster are told. A node that joins is told of members that
//! it can ask, which says nothing of how votes count: it learns of the first membership from
//! [any of them](super::joining), and of the later ones from the log.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ReplicaError;
use crate::{
    config::Config,
    planted::planted,
    port::Recovered,
    types::{Membership, NodeId, Peer, Phase, Slot},
};

/// A membership, and when it begins to govern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Term {
    /// Where it was chosen.
    chosen_at: Slot,
    /// The first slot that it governs.
    from: Slot,
    membership: Arc<Membership>,
}

/// What the log's database and a state have of them.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    first: Arc<Membership>,
    terms: Vec<Term>,
}

/// The memberships of the log, as far as anybody may still ask for them.
#[derive(Clone, Debug)]
pub(super) struct Memberships {
    own: NodeId,
    /// The one that the cluster began with; unknown to a node that joins.
    first: Option<Arc<Membership>>,
    /// Whom this node has been told of at its start, and where. They are talked to, members or not, unless they are
    /// known to have been removed: a node that has been away for long may know of no other member.
    told: Vec<(NodeId, String)>,
    /// In the order in which they govern; the first one governs everything before the second.
    terms: Vec<Term>,
    /// Every slot up to here is known to be chosen.
    chosen: Slot,
    /// Every other node that is talked to: see [`peers`](Memberships::peers).
    peers: Vec<NodeId>,
    /// They are those of the newest one alone, and stay so until there is another.
    is_settled: bool,
    /// They have changed, and nobody has asked for them.
    peers_are_new: bool,
    /// There is a membership that the log's database has not got.
    is_unwritten: bool,
}

impl Memberships {
    /// Of the node `own` of a cluster that begins with this membership.
    pub(super) fn new(own: NodeId, first: Membership) -> Memberships {
        let first = Arc::new(first);
        let membership = Arc::clone(&first);
        let term = Term { chosen_at: Slot::ZERO, from: Slot::ZERO, membership };
        Memberships::of(own, first, vec![term], Slot::ZERO)
    }

    fn of(own: NodeId, first: Arc<Membership>, terms: Vec<Term>, chosen: Slot) -> Memberships {
        let mut memberships = Memberships {
            own,
            first: Some(first),
            told: Vec::new(),
            terms,
            chosen,
            peers: Vec::new(),
            is_settled: false,
            peers_are_new: false,
            is_unwritten: true,
        };
        memberships.advance(chosen);
        memberships
    }

    /// Those that the storage has; or else, the first one, if this node does not join, for which it has to ask.
    pub(super) fn recovered(
        recovered: &Recovered,
        config: &Config,
    ) -> Result<Memberships, ReplicaError> {
        let Recovered { memberships, chosen, .. } = recovered;
        let mut recovered = if memberships.is_empty() || planted!(MembershipForgotten) {
            let first = Memberships::new(config.id, config.first_membership()?);
            let is_known = !config.joins || planted!(ToldMembershipTrusted);
            Memberships { first: first.first.filter(|_| is_known), is_unwritten: is_known, ..first }
        } else {
            let mut recovered = Memberships::decode(config.id, chosen.slot, memberships)
                .ok_or(ReplicaError::Memberships)?;
            recovered.is_unwritten = false;
            recovered.move_first(&config.membership);
            recovered
        };
        let told = config.membership.members();
        recovered.told = told.map(|(id, member)| (id, member.address.clone())).collect();
        recovered.find_peers();
        Ok(recovered)
    }

    /// Until there is a change, where the members are is what each is told at its start. Afterwards the log
    /// says.
    fn move_first(&mut self, told: &Membership) {
        if let [Term { membership, .. }] = &mut self.terms[..]
            && membership.version() == 0
        {
            let moved = membership.at_addresses_of(told);
            self.is_unwritten = moved != **membership;
            *membership = Arc::new(moved);
        }
    }

    /// Those of a state that has been taken over.
    pub(super) fn install(&mut self, memberships: Memberships) {
        // Though they be the same, some may have moved.
        let told = std::mem::take(&mut self.told);
        *self = Memberships { told, peers_are_new: true, ..memberships };
        self.find_peers();
    }

    /// The one that the cluster began with, if this node knows it.
    pub(super) fn first(&self) -> Option<&Arc<Membership>> {
        self.first.as_ref()
    }

    fn known_first(&self) -> Arc<Membership> {
        Arc::clone(self.first.as_ref().expect("whoever knows none has nothing chosen"))
    }

    /// Whether this node does not know yet how votes count: it joins, and has to ask.
    #[inline]
    pub(super) fn are_unknown(&self) -> bool {
        self.first.is_none()
    }

    /// As they were when everything up to `chosen` was, from their encoding; `None` if it is none.
    pub(super) fn decode(own: NodeId, chosen: Slot, encoded: &[u8]) -> Option<Memberships> {
        let Kept { first, terms }: Kept = postcard::from_bytes(encoded).ok()?;
        let is_sound = first.check().is_ok()
            && terms.iter().all(|term| term.membership.check().is_ok())
            && terms
                .is_sorted_by(|one, next| one.from < next.from && one.chosen_at < next.chosen_at)
            && terms.last()?.chosen_at <= chosen;
        is_sound.then(|| Memberships::of(own, first, terms, chosen))
    }

    /// All of them, for the log.
    ///
    /// # Panics
    ///
    /// If they are not known.
    pub(super) fn encode(&self) -> Bytes {
        let kept = Kept { first: self.known_first(), terms: self.terms.clone() };
        postcard::to_stdvec(&kept).expect("plain data encodes").into()
    }

    /// Those that whoever begins behind `slot` has to know.
    pub(super) fn as_of(&self, slot: Slot) -> Memberships {
        let chosen = self.terms.iter().filter(|term| term.chosen_at <= slot);
        let terms = chosen.cloned().collect();
        let mut memberships = Memberships::of(self.own, self.known_first(), terms, slot);
        memberships.forget(slot);
        memberships
    }

    /// Nobody asks any more for those that govern no slot above `slot`.
    #[inline]
    pub(super) fn forget(&mut self, slot: Slot) {
        if self.terms.len() == 1 {
            return;
        }
        let is_over = |next: &Term| next.from <= slot.next() && next.chosen_at <= slot;
        let over = self.terms.iter().skip(1).take_while(|next| is_over(next)).count();
        self.terms.drain(..over);
    }

    /// The membership whose quorums decide `slot`.
    #[inline]
    pub(super) fn governing(&self, slot: Slot) -> &Membership {
        let mut terms = self.terms.iter().rev();
        let governing = terms.find(|term| term.from <= slot || planted!(MembershipOfAnotherSlot));
        &governing.unwrap_or(&self.terms[0]).membership
    }

    /// The newest one, which may not govern yet.
    #[inline]
    pub(super) fn newest(&self) -> &Arc<Membership> {
        &self.newest_term().membership
    }

    fn newest_term(&self) -> &Term {
        self.terms.last().expect("there is a first membership")
    }

    /// The first slot that the newest one governs.
    #[inline]
    pub(super) fn newest_from(&self) -> Slot {
        self.newest_term().from
    }

    /// The newest one as of `slot`.
    pub(super) fn newest_as_of(&self, slot: Slot) -> &Membership {
        let mut terms = self.terms.iter().rev();
        let newest = terms.find(|term| term.chosen_at <= slot);
        &newest.unwrap_or(&self.terms[0]).membership
    }

    /// The one that was chosen at `slot` and has effect.
    pub(super) fn chosen_at(&self, slot: Slot) -> Option<&Membership> {
        let term = self.terms.iter().find(|term| term.chosen_at == slot && slot > Slot::ZERO)?;
        Some(&term.membership)
    }

    /// Those that govern slots above the chosen ones.
    #[inline]
    pub(super) fn in_force(&self) -> impl Iterator<Item = &Arc<Membership>> + Clone {
        self.governing_from(self.chosen.next())
    }

    fn governing_from(&self, slot: Slot) -> impl Iterator<Item = &Arc<Membership>> + Clone {
        let first = self.terms.iter().rposition(|term| term.from <= slot).unwrap_or_default();
        self.terms[first..].iter().map(|term| &term.membership)
    }

    /// A slot up to which everything is chosen holds another membership. Returns whether that has effect.
    pub(super) fn on_chosen(&mut self, slot: Slot, membership: &Arc<Membership>) -> bool {
        let newest = self.newest_term();
        let follows = membership.version() == newest.membership.version() + 1;
        let is_alone = slot >= newest.from || planted!(TwoChangesOnTheirWay);
        if !follows || !is_alone {
            return false;
        }
        let window = if planted!(WindowShortened) { 1 } else { newest.membership.window() };
        let (chosen_at, from) = (slot, slot.plus(window));
        self.terms.push(Term { chosen_at, from, membership: Arc::clone(membership) });
        self.is_settled = false;
        self.is_unwritten = true;
        // Some may have moved.
        self.peers_are_new = true;
        true
    }

    /// What the log's database is to have from now on, if that is something else.
    #[inline]
    pub(super) fn take_unwritten(&mut self) -> Option<Bytes> {
        std::mem::take(&mut self.is_unwritten).then(|| self.encode())
    }

    /// The peers and where they are, if they have changed: where the log says, or else where this node has been told
    /// at its start, if they are to be found there.
    #[inline]
    pub(super) fn take_peers(&mut self) -> Option<Vec<Peer>> {
        std::mem::take(&mut self.peers_are_new).then(|| {
            let address = |id: NodeId| {
                let mut newest_first = self.terms.iter().rev();
                let known = newest_first.find_map(|term| term.membership.address(id));
                match (known, self.told_address(id)) {
                    (Some(known), Some(told)) if known != told && !told.is_empty() => {
                        format!("{known},{told}")
                    }
                    (known, told) => known.or(told).unwrap_or_default().to_owned(),
                }
            };
            let peer = |&id: &NodeId| Peer { id, address: address(id), store: None };
            self.peers.iter().map(peer).collect()
        })
    }

    fn told_address(&self, node: NodeId) -> Option<&str> {
        let told = self.told.iter().find(|(id, _)| *id == node);
        told.map(|(_, address)| address.as_str())
    }

    /// Everything up to `chosen` is chosen.
    #[inline]
    pub(super) fn advance(&mut self, chosen: Slot) {
        self.chosen = chosen;
        if !self.is_settled {
            self.find_peers();
        }
    }

    fn find_peers(&mut self) {
        let chosen = self.chosen;
        let since = Slot(chosen.0.saturating_sub(self.newest().window())).next();
        self.is_settled = self.newest_from() <= since;
        let members = self.governing_from(since);
        let mut peers: Vec<_> = members.flat_map(|members| members.peers_of(self.own)).collect();
        let told = self.told.iter().map(|(id, _)| *id);
        peers.extend(told.filter(|id| *id != self.own && !self.newest().has_removed(*id)));
        peers.sort_unstable();
        peers.dedup();
        self.peers_are_new |= peers != self.peers;
        self.peers = peers;
    }

    /// Every other node that is talked to: the members that govern slots above the chosen ones, for as
    /// long as it takes them to hear of it those that did a window before, and whom this node has been told of.
    #[inline]
    pub(super) fn peers(&self) -> &[NodeId] {
        &self.peers
    }

    /// Whether this node may lead: it votes in the newest membership that it knows.
    #[inline]
    pub(super) fn may_lead(&self) -> bool {
        self.newest().is_voter(self.own)
    }

    /// Whether `node` is known to have been removed, and is not talked to any more.
    pub(super) fn has_removed(&self, node: NodeId) -> bool {
        self.newest().has_removed(node) && !self.peers.contains(&node)
    }

    /// Whether `leader` votes on none of the slots above the chosen ones, since lately.
    pub(super) fn has_left(&self, leader: Option<NodeId>) -> bool {
        let governs = self.newest_from() <= self.chosen.next();
        !self.is_settled && governs && leader.is_some_and(|leader| !self.newest().is_voter(leader))
    }

    /// Whether this node is no member any more once everything up to `slot` is over.
    pub(super) fn is_removed_after(&self, slot: Slot) -> bool {
        self.newest().has_removed(self.own) && self.newest_from() <= slot.next()
    }

    /// Whether those who satisfy `has` are a quorum of every membership that governs slots above the chosen
    /// ones.
    pub(super) fn are_quorum(&self, phases: &[Phase], has: impl Fn(NodeId) -> bool) -> bool {
        self.in_force().all(|membership| membership.has_quorum(phases, &has))
    }

    /// How far above its watermark a node accepts values.
    pub(super) fn ahead_max(&self) -> u64 {
        let all = self.in_force().map(|membership| membership.ahead_max());
        all.max().expect("one governs the next slot")
    }

    /// The largest window of those that govern slots above the chosen ones.
    pub(super) fn window_max(&self) -> u64 {
        let windows = self.in_force().map(|membership| membership.window());
        windows.max().expect("one governs the next slot")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Change, ClusterId, Identity, StoreId};

    fn membership(addresses: [&str; 3]) -> Membership {
        Membership::new((1..).zip(addresses)).expect("three voters")
    }

    fn recovered(encoded: Bytes, told: [&str; 3]) -> Memberships {
        let config = Config::new(NodeId(1), membership(told));
        let (cluster, node, store) = (ClusterId(1), NodeId(1), StoreId(1));
        let mut recovered = Recovered::first(Identity { cluster, node, store });
        recovered.memberships = encoded;
        recovered.chosen.slot = Slot(1000);
        Memberships::recovered(&recovered, &config).expect("it is sound")
    }

    fn addresses(memberships: &mut Memberships) -> Vec<String> {
        let peers = memberships.take_peers().expect("they are new");
        peers.into_iter().map(|peer| peer.address).collect()
    }

    #[test]
    fn members_are_where_each_is_told_until_the_log_says() {
        let first = Memberships::new(NodeId(1), membership(["a", "b", "c"]));
        let mut moved = recovered(first.encode(), ["x", "y", "z"]);
        assert_eq!(addresses(&mut moved), ["y", "z"]);
        assert!(moved.take_unwritten().is_some());
        let change = Change::Address { node: NodeId(2), address: "d".to_owned() };
        let next = moved.newest().changed(&change).expect("it is a member");
        assert!(moved.on_chosen(Slot(1), &Arc::new(next)));
        moved.advance(Slot(1000));
        moved.forget(Slot(1000));
        let mut changed = recovered(moved.encode(), ["a", "b", "c"]);
        assert_eq!(addresses(&mut changed), ["d,b", "z,c"], "what it was told is tried, too");
        assert!(changed.take_unwritten().is_none());
    }

    #[test]
    fn a_node_that_joins_does_not_know_how_votes_count() {
        let identity = Identity { cluster: ClusterId(1), node: NodeId(4), store: StoreId(1) };
        for joins in [false, true] {
            let mut config =
                Config::new(NodeId(if joins { 4 } else { 1 }), membership(["a", "b", "c"]));
            config.joins = joins;
            let recovered = Recovered::first(identity);
            let mut memberships = Memberships::recovered(&recovered, &config).expect("it is sound");
            assert_eq!(memberships.are_unknown(), joins);
            assert_eq!(memberships.take_unwritten().is_none(), joins);
        }
    }

    #[test]
    fn a_state_that_is_taken_over_tells_where_the_same_members_have_moved() {
        let mut memberships = Memberships::new(NodeId(1), membership(["a", "b", "c"]));
        addresses(&mut memberships);
        memberships.install(Memberships::new(NodeId(1), membership(["a", "b", "d"])));
        assert_eq!(addresses(&mut memberships), ["b", "d"]);
        assert!(memberships.take_unwritten().is_some());
    }

    #[test]
    fn a_state_that_is_taken_over_leaves_what_a_node_was_told() {
        let first = Memberships::new(NodeId(1), membership(["a", "b", "c"]));
        let mut memberships = recovered(first.encode(), ["x", "y", "z"]);
        memberships.install(Memberships::new(NodeId(1), membership(["a", "b", "d"])));
        assert_eq!(addresses(&mut memberships), ["b,y", "d,z"]);
    }

    #[test]
    fn a_state_that_is_taken_over_tells_that_nobody_else_is_left() {
        let mut memberships = Memberships::new(NodeId(1), membership(["a", "b", "c"]));
        addresses(&mut memberships);
        let alone = Membership::new([(1, "a")]).expect("one voter");
        memberships.install(Memberships::new(NodeId(1), alone));
        assert_eq!(memberships.take_peers(), Some(vec![]));
    }
}
