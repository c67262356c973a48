//! How a node that joins learns what the cluster began with, and how whoever does not vote finds the others.
//!
//! It has been told of some members, and of nothing else: not how many votes make a quorum, nor how far a change
//! reaches ahead. As long as it does not know that, it takes nothing for chosen, and asks whomever it knows; every
//! member knows it, however much has changed since. What has changed is in the log, or comes with a state.
//!
//! A voter that hears of no leader polls, and so learns how far the others are. Whoever does not vote asks in the same
//! way as a node that joins: of the members that it knows none may be the leader.

use std::sync::Arc;

use super::{Replica, context::Context, membership::Memberships, surroundings};
use crate::{
    message::{Joined, Message},
    types::{Instant, NodeId},
};

/// When this node asks again, if it has to.
#[derive(Clone, Debug, Default)]
pub(super) struct Joining {
    ask_at: Instant,
}

impl<W> Replica<W> {
    /// Asks everybody, if it is time.
    pub(super) fn ask_to_join(&mut self, now: Instant) {
        if self.joining_deadline().is_some_and(|deadline| deadline <= now) {
            self.joining.ask_at = now.after(self.config.retransmit_timeout);
            surroundings!(self, now).broadcast(Message::Join);
        }
    }

    pub(super) fn joining_deadline(&self) -> Option<Instant> {
        let ask_at = self.joining.ask_at;
        if self.memberships.are_unknown() {
            Some(ask_at)
        } else if !self.memberships.may_lead() {
            Some(ask_at.max(self.election.next_deadline()))
        } else {
            None
        }
    }

    /// A node that joins wants to know the first membership.
    pub(super) fn on_join(&mut self, from: NodeId) {
        if let Some(first) = self.memberships.first() {
            let (first, chosen) = (Arc::clone(first), self.learner.chosen().slot);
            self.out.send(from, Message::Joined(Joined { first, chosen }));
        }
    }

    /// Somebody says what the first membership was, and how far the log is.
    pub(super) fn on_joined(&mut self, from: NodeId, joined: &Joined) {
        self.catchup.on_peer(from, joined.chosen);
        let first = &joined.first;
        if self.memberships.are_unknown() && first.version() == 0 && first.check().is_ok() {
            self.learner.begin(first);
            let first = Memberships::new(self.config.id, (**first).clone());
            self.memberships.install(first);
        }
    }
}
