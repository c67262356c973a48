//! Who is there. The nodes that begin the cluster are there from the beginning; others come later, with
//! nothing but the addresses of some members, and wait until they are made members. A node that is removed is
//! told, ends, and never comes back.

use std::sync::Arc;

use super::{Checked, World, id_of, index_of};
use crate::{
    message::{Message, Removed},
    sim::{
        agenda::Happening,
        check::{Check, ensure},
        ending,
        occurrence::Occurrence,
        station::Presence,
    },
    types::{MemberRole, Membership, NodeId},
};

/// The check that fails here.
const CHECK: Check = Check::Conduct;

/// In how many parts of an election timeout a node tries to connect to its peers again.
const DIALS_PER_TIMEOUT: u32 = 4;

impl World<'_> {
    /// The nodes that are there, in whatever state.
    pub(super) fn present(&self) -> Vec<usize> {
        self.those(|node| self.stations[node].presence == Presence::Here)
    }

    /// The voters of the newest membership.
    pub(super) fn voters(&self) -> Vec<usize> {
        self.those(|node| self.role_of(node) == Some(MemberRole::Voter))
    }

    /// Those members of the newest membership that do not vote.
    pub(super) fn learners(&self) -> Vec<usize> {
        self.those(|node| self.role_of(node).is_some_and(|role| role != MemberRole::Voter))
    }

    pub(super) fn role_of(&self, node: usize) -> Option<MemberRole> {
        self.ledger.newest_membership().role(id_of(node))
    }

    /// Those who might be made members: they have come and are none, or are yet to come.
    pub(super) fn newcomers(&self) -> Vec<usize> {
        let newest = self.ledger.newest_membership();
        self.those(|node| {
            let station = &self.stations[node];
            let is_known = newest.is_member(id_of(node)) || newest.has_removed(id_of(node));
            station.presence != Presence::Gone && !station.has_lost_disk && !is_known
        })
    }

    fn those(&self, are_meant: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.plan.nodes).filter(|&node| are_meant(node)).collect()
    }

    /// As many voters as a quorum of either phase takes.
    pub(super) fn quorum(&self) -> usize {
        ending::quorum(self.ledger.newest_membership())
    }

    /// A node comes with nothing, unless it is there already. It is told of some of the members, and nothing of
    /// how their votes count.
    pub(super) fn join(&mut self, node: usize, rng: &mut fastrand::Rng) -> Checked {
        if self.stations[node].presence != Presence::ToCome {
            return Ok(());
        }
        let count = rng.usize(1..=self.ledger.newest_membership().members().count());
        let told = self.told(|members| rng.choose_multiple(members, count));
        let station = &mut self.stations[node];
        station.host.join(told);
        station.presence = Presence::Here;
        self.seen.add(Occurrence::Joined);
        self.start(node)
    }

    /// What a node is told of some of the members.
    fn told(&self, choose: impl FnOnce(Vec<NodeId>) -> Vec<NodeId>) -> Membership {
        let members = self.ledger.newest_membership().members().map(|(id, _)| id).collect();
        let told = choose(members).into_iter().map(|id| (id.0, address_of(id)));
        Membership::new(told).expect("there are members")
    }

    /// Those that know none of the members any more, because they have been away for long or were told of others that
    /// have left, are started again with some that are there.
    pub(super) fn find_the_lost(&mut self) -> Checked {
        let newest = Arc::clone(self.ledger.newest_membership());
        for node in self.present() {
            let host = &self.stations[node].host;
            let knows_any = host.peers().iter().any(|peer| newest.is_member(*peer));
            let is_alone = newest.peers_of(id_of(node)).next().is_none();
            if !host.is_running() || knows_any || is_alone || host.is_founder() {
                continue;
            }
            self.seen.add(Occurrence::ToldAgain);
            let told = self.told(|members| members);
            self.crash_keeping_nothing(node)?;
            self.stations[node].host.tell(told);
            self.start(node)?;
        }
        Ok(())
    }

    /// A node says that it has been removed: that has to be so, and it ends for good.
    pub(super) fn leave(&mut self, node: usize) -> Checked {
        self.seen.add(Occurrence::Left);
        self.trace.note(self.now, [30, node as u64, 0], || {
            format!("{} has been removed and ends", id_of(node))
        });
        ensure!(
            self.ledger.newest_membership().has_removed(id_of(node)),
            "node {} ends as one that has been removed, and is none",
            id_of(node)
        );
        self.crash_keeping_nothing(node)?;
        self.stations[node].presence = Presence::Gone;
        Ok(())
    }

    /// A node tries to connect to each of its peers, and to do so again later.
    pub(super) fn dial(&mut self, node: usize) -> Checked {
        let Some(life) = self.stations[node].host.incarnation() else { return Ok(()) };
        let again = self.now + self.plan.election_timeout() / DIALS_PER_TIMEOUT;
        self.agenda.plan(again, Happening::Dial { node, life });
        for peer in self.stations[node].host.peers().to_vec() {
            let to = index_of(peer);
            let is_up = self.network.is_up(self.now, node, to)
                && self.network.is_up(self.now, to, node)
                && self.is_running(to)
                && !self.stations[to].is_paused(self.now);
            if is_up && let Some(stores) = self.connect(node, to) {
                self.shake_hands(node, to, stores)?;
            }
        }
        Ok(())
    }

    /// Whether a node that connects is let in: who is no peer is not, and is told if that is because it has been
    /// removed.
    pub(super) fn knows(&mut self, node: usize, stranger: usize) -> Result<bool, super::Violation> {
        if self.stations[node].host.peers().contains(&id_of(stranger)) {
            return Ok(true);
        }
        self.seen.add(Occurrence::StrangerRefused);
        let Some(status) = self.status_of(node) else { return Ok(false) };
        let is_told = status.membership.has_removed(id_of(stranger))
            && self.network.is_up(self.now, node, stranger)
            && self.is_running(stranger);
        if is_told {
            self.seen.add(Occurrence::RemovedWasTold);
            let message = Message::Removed(Removed { version: status.membership.version() });
            if self.stations[stranger].receive(id_of(node), message) {
                self.call(stranger)?;
            }
        }
        Ok(false)
    }
}

/// Where a node is reached.
pub(in crate::sim) fn address_of(node: NodeId) -> String {
    format!("node-{node}")
}
