//! Who votes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Change, ChangeError, NodeId, Phase, Quorums, QuorumsError, StoreId};
use crate::{limits, planted::planted};

/// The members of the cluster, where they are reached, and how their votes count.
///
/// It is itself replicated: the first one is what every node is started with, and each later one is chosen
/// in a slot of the log, in place of the one before. `window` belongs to it because it is Lamport's α: how far
/// proposals may run ahead of what is chosen, and so how far ahead a membership is fixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// How many changes led to it.
    version: u64,
    members: BTreeMap<NodeId, Member>,
    quorums: Quorums,
    window: u64,
    /// Who has been a member: an id is used once.
    removed: BTreeSet<NodeId>,
    /// Of those up to here it is not remembered any more who has been one. So none of them becomes one.
    used_up_to: NodeId,
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where it is reached; what the text means is the transport's affair.
    pub address: String,
    /// What it does.
    pub role: MemberRole,
}

/// What a member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum MemberRole {
    /// Votes, and may lead.
    Voter,
    /// Gets everything, and counts for nothing: to be read from, or on its way to be a voter.
    Learner,
    /// A learner that the leader makes a voter as soon as it has caught up.
    Newcomer,
}

/// Another node, as a transport needs to know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Which node.
    pub id: NodeId,
    /// Where it listens; what the text means is the transport's affair. If it may be at several places, those follow
    /// each other, separated by commas.
    pub address: String,
    /// Its data directory, if it has been met before. Another one means that the node was wiped.
    pub store: Option<StoreId>,
}

/// A membership that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// There are too many members, or none that votes.
    #[error("a cluster has 1 to {max} members, not {0}, and one that votes", max = limits::VOTERS_MAX)]
    Size(usize),
    /// The id has been used by a member that was removed.
    #[error("node {0} was a member and has been removed: an id is used once, take another one")]
    Removed(NodeId),
    /// Node id 0 is reserved.
    #[error("0 is no node id: number the nodes from 1")]
    ZeroId,
    /// A node is named twice.
    #[error("node id {0} is given to two voters: number each node differently")]
    DuplicateId(NodeId),
    /// The quorums do not fit.
    #[error(transparent)]
    Quorums(#[from] QuorumsError),
    /// The window is out of bounds.
    #[error("a window is 1 to {max} slots, not {0}", max = limits::WINDOW_SLOTS_MAX)]
    Window(u64),
}

impl Membership {
    /// The membership of `voters` (node id and address), counting by majority, with the default
    /// window.
    ///
    /// # Errors
    ///
    /// If there are no voters, too many, one with id 0, or one twice.
    pub fn new<A: Into<String>>(
        voters: impl IntoIterator<Item = (u64, A)>,
    ) -> Result<Membership, MembershipError> {
        let mut members = BTreeMap::new();
        for (id, address) in voters {
            let member = Member { address: address.into(), role: MemberRole::Voter };
            if members.insert(NodeId(id), member).is_some() {
                return Err(MembershipError::DuplicateId(NodeId(id)));
            }
        }
        let membership = Membership {
            version: 0,
            members,
            quorums: Quorums::Majority,
            window: limits::WINDOW_SLOTS_DEFAULT,
            removed: BTreeSet::new(),
            used_up_to: NodeId(0),
        };
        membership.check()?;
        Ok(membership)
    }

    /// Whether a cluster can work with it.
    pub(crate) fn check(&self) -> Result<(), MembershipError> {
        let voters = self.voters().count();
        if voters == 0 || self.members.len() > limits::VOTERS_MAX {
            return Err(MembershipError::Size(self.members.len()));
        }
        if self.members.contains_key(&NodeId(0)) {
            return Err(MembershipError::ZeroId);
        }
        if let Some(removed) = self.removed.iter().find(|id| self.members.contains_key(id)) {
            return Err(MembershipError::Removed(*removed));
        }
        if self.window == 0 || self.window > limits::WINDOW_SLOTS_MAX {
            return Err(MembershipError::Window(self.window));
        }
        self.quorums.check(voters)?;
        Ok(())
    }

    /// The same members with another quorum system.
    ///
    /// # Errors
    ///
    /// If its quorums need not intersect among these voters.
    pub fn with_quorums(self, quorums: Quorums) -> Result<Membership, MembershipError> {
        let membership = Membership { quorums, ..self };
        membership.check()?;
        Ok(membership)
    }

    /// The same members with another window, in slots.
    ///
    /// # Errors
    ///
    /// If it is zero or above the limit.
    pub fn with_window(self, window: u64) -> Result<Membership, MembershipError> {
        let membership = Membership { window, ..self };
        membership.check()?;
        Ok(membership)
    }

    /// The membership that a change makes of this one.
    ///
    /// # Errors
    ///
    /// If the change makes no sense here, or a cluster could not work with what it makes.
    pub fn changed(&self, change: &Change) -> Result<Membership, ChangeError> {
        let mut next = self.clone();
        next.version += 1;
        next.apply(change)?;
        next.check()?;
        Ok(next)
    }

    fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::Add { node, address, role } => self.add(*node, address, *role)?,
            Change::Role { node, role } => self.member(*node)?.role = *role,
            Change::Address { node, address } => self.member(*node)?.address.clone_from(address),
            Change::Remove { node } => drop(self.remove(*node)?),
            Change::Replace { node, by, address } => {
                let Member { role, .. } = self.remove(*node)?;
                // One that has caught up before is a member already.
                if self.is_member(*by) && !self.is_voter(*by) {
                    self.members.remove(by);
                }
                self.add(*by, address, role)?;
            }
            Change::Quorums(quorums) => self.quorums = *quorums,
            Change::Window(window) => self.window = *window,
        }
        Ok(())
    }

    fn add(&mut self, node: NodeId, address: &str, role: MemberRole) -> Result<(), ChangeError> {
        if self.has_removed(node) {
            return Err(MembershipError::Removed(node).into());
        }
        let member = Member { address: address.to_owned(), role };
        match self.members.insert(node, member) {
            None => Ok(()),
            Some(_) => Err(ChangeError::AMember(node)),
        }
    }

    fn member(&mut self, node: NodeId) -> Result<&mut Member, ChangeError> {
        self.members.get_mut(&node).ok_or(ChangeError::NoMember(node))
    }

    fn remove(&mut self, node: NodeId) -> Result<Member, ChangeError> {
        let member = self.members.remove(&node).ok_or(ChangeError::NoMember(node))?;
        if !planted!(RemovedIdForgotten) {
            self.removed.insert(node);
        }
        if self.removed.len() > limits::REMOVED_KEPT {
            let lowest = self.removed.pop_first().expect("there are many");
            self.used_up_to = lowest.max(self.used_up_to);
        }
        Ok(member)
    }

    /// As if `node` had never been a member.
    pub(crate) fn without(&self, node: NodeId) -> Membership {
        let mut without = self.clone();
        without.members.remove(&node);
        without
    }

    /// The same members, each where `told` says that it is, if it does.
    pub(crate) fn at_addresses_of(&self, told: &Membership) -> Membership {
        let mut moved = self.clone();
        for (id, member) in &mut moved.members {
            if let Some(address) = told.address(*id) {
                address.clone_into(&mut member.address);
            }
        }
        moved
    }

    /// How many changes led to it.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The members, in order of their ids.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(&id, member)| (id, member))
    }

    /// The voters' ids, in order.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.keys().copied().filter(|id| self.is_voter(*id))
    }

    /// Those that the leader makes voters as soon as they have caught up.
    pub(crate) fn newcomers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.keys().copied().filter(|id| self.role(*id) == Some(MemberRole::Newcomer))
    }

    /// Whether `node` votes.
    #[must_use]
    #[inline]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.role(node) == Some(MemberRole::Voter)
    }

    /// What `node` does, if it is a member.
    #[must_use]
    #[inline]
    pub fn role(&self, node: NodeId) -> Option<MemberRole> {
        self.members.get(&node).map(|member| member.role)
    }

    /// Whether `node` is a member.
    #[must_use]
    #[inline]
    pub fn is_member(&self, node: NodeId) -> bool {
        self.members.contains_key(&node)
    }

    /// Whether `node` was a member and is none any more, or may have been, as far as that is remembered: it will
    /// never be one again.
    #[must_use]
    pub fn has_removed(&self, node: NodeId) -> bool {
        let is_used = NodeId(0) < node && node <= self.used_up_to;
        let is_forgotten = is_used && !self.is_member(node);
        is_forgotten || self.removed.contains(&node)
    }

    /// Where `node` is reached.
    #[must_use]
    pub fn address(&self, node: NodeId) -> Option<&str> {
        self.members.get(&node).map(|member| member.address.as_str())
    }

    /// Every member but `node`.
    pub fn peers_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.members.keys().copied().filter(move |&member| member != node)
    }

    /// How many slots may be undecided at once.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window
    }

    /// The quorum system.
    #[must_use]
    pub fn quorums(&self) -> Quorums {
        self.quorums
    }

    /// How many votes make a quorum of `phase`.
    #[must_use]
    pub fn quorum_size(&self, phase: Phase) -> usize {
        self.quorums.size(phase, self.voters().count())
    }

    /// Whether those of its voters that satisfy `has` are a quorum of each of the `phases`.
    pub(crate) fn has_quorum(&self, phases: &[Phase], has: impl Fn(NodeId) -> bool) -> bool {
        let count = self.voters().filter(|voter| has(*voter)).count();
        phases.iter().all(|phase| count >= self.quorum_size(*phase))
    }

    /// How far above its chosen watermark a node accepts values, in slots.
    pub(crate) fn ahead_max(&self) -> u64 {
        limits::LOG_AHEAD_WINDOWS * self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Membership {
        Membership::new([(1, "a"), (2, "b"), (3, "c")]).expect("three voters")
    }

    #[test]
    fn every_voter_has_an_id_of_its_own() {
        let twice = Membership::new([(1, "a"), (1, "b"), (3, "c")]);
        assert_eq!(twice, Err(MembershipError::DuplicateId(NodeId(1))));
    }

    #[test]
    fn changes_lead_from_one_membership_to_the_next() {
        let (node, by) = (NodeId(2), NodeId(4));
        let replaced = three().changed(&Change::Replace { node, by, address: "d".to_owned() });
        let replaced = replaced.expect("a replacement");
        assert_eq!(replaced.version(), 1);
        assert_eq!(replaced.voters().collect::<Vec<_>>(), [1, 3, 4].map(NodeId));
        assert!(replaced.has_removed(node) && !replaced.is_member(node));
        let learner =
            Change::Add { node: NodeId(5), address: "e".to_owned(), role: MemberRole::Learner };
        let larger = replaced.changed(&learner).expect("a learner");
        assert_eq!(larger.voters().count(), 3);
        assert_eq!(larger.peers_of(NodeId(1)).collect::<Vec<_>>(), [3, 4, 5].map(NodeId));
        let promoted = Change::Role { node: NodeId(5), role: MemberRole::Voter };
        assert_eq!(larger.changed(&promoted).expect("a voter").quorum_size(Phase::One), 3);
    }

    /// What is remembered is bounded, and yet no id is used twice.
    #[test]
    fn an_id_is_used_once_however_many_have_been_removed() {
        let mut membership = three();
        let beyond = limits::REMOVED_KEPT as u64 + 10;
        for node in 4..4 + beyond {
            let (node, address) = (NodeId(node), "x".to_owned());
            let add = Change::Add { node, address, role: MemberRole::Learner };
            membership = membership.changed(&add).expect("it is new");
            membership = membership.changed(&Change::Remove { node }).expect("it is a member");
        }
        assert!(membership.removed.len() <= limits::REMOVED_KEPT);
        for node in (4..4 + beyond).map(NodeId) {
            let add = Change::Add { node, address: "x".to_owned(), role: MemberRole::Voter };
            let error = membership.changed(&add).expect_err("it has been used");
            assert_eq!(error, MembershipError::Removed(node).into());
        }
        let (node, address) = (NodeId(4 + beyond), "x".to_owned());
        let add = Change::Add { node, address, role: MemberRole::Voter };
        assert!(membership.changed(&add).is_ok_and(|next| next.is_voter(node)));
        assert!(membership.is_voter(NodeId(1)) && !membership.has_removed(NodeId(1)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let add = |node| {
            let address = "x".to_owned();
            Change::Add { node: NodeId(node), address, role: MemberRole::Voter }
        };
        assert_eq!(three().changed(&add(3)), Err(ChangeError::AMember(NodeId(3))));
        assert_eq!(three().changed(&add(0)), Err(MembershipError::ZeroId.into()));
        let remove = |node| Change::Remove { node: NodeId(node) };
        assert_eq!(three().changed(&remove(4)), Err(ChangeError::NoMember(NodeId(4))));
        let two = three().changed(&remove(3)).expect("two are left");
        assert_eq!(two.changed(&add(3)), Err(MembershipError::Removed(NodeId(3)).into()));
        let one = two.changed(&remove(1)).expect("one is left");
        assert_eq!(one.changed(&remove(2)), Err(MembershipError::Size(0).into()));
        let sizes = Quorums::Flexible { phase_one: 3, phase_two: 1 };
        let flexible = three().with_quorums(sizes).expect("they intersect");
        let error = flexible.changed(&remove(1)).expect_err("three of two");
        assert!(matches!(error, ChangeError::Membership(MembershipError::Quorums(_))), "{error}");
    }
}
