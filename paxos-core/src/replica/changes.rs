//! Changes of the membership, on their way into the log.
//!
//! A change is asked for on any node. That node makes the membership which follows on the newest that it
//! knows, and sends it to the leader until one of that version is chosen: that one, or another that came first.
//! The leader gives it a slot if the cluster is able to go on with it: enough of those who are to vote answer,
//! and whoever is made a voter has caught up. It is over once the new membership governs the next slot.

use std::sync::Arc;

use super::{
    Proposing, Replica,
    context::Context,
    effect::{ChangeOutcome, ChangeRefusal},
    followers::Followers,
    origin::Target,
    proposer::Leading,
    surroundings,
};
use crate::{
    message::{ChangeRefused, Message, NotReady, Reconfigure},
    planted::planted,
    types::{Change, Instant, MemberRole, Membership, NodeId, Phase, Slot, earliest},
};

/// This node's own change, one at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    open: Option<Open>,
}

#[derive(Clone, Debug)]
struct Open {
    number: u64,
    change: Change,
    /// What is to be chosen, once it is known on which membership it follows.
    membership: Option<Arc<Membership>>,
    deadline: Instant,
    /// What this node knows of the membership, and the leader of the others, may be a heartbeat old: until
    /// then it is looked at again.
    refused_from: Instant,
    /// When to send it to the leader again.
    send_at: Instant,
}

impl Changes {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.as_ref().and_then(|open| earliest([Some(open.deadline), Some(open.send_at)]))
    }

    fn end(&mut self, outcome: ChangeOutcome, cx: &mut Context<'_>) {
        if let Some(open) = self.open.take() {
            cx.out.effects().changes.push((open.number, outcome));
        }
    }
}

impl<W> Replica<W> {
    /// A change is asked for here.
    pub(super) fn on_change(
        &mut self,
        now: Instant,
        number: u64,
        change: Change,
        deadline: Instant,
    ) {
        if self.changes.open.is_some() {
            self.out.effects().changes.push((number, Err(ChangeRefusal::Busy)));
            return;
        }
        let refused_from = now.after(self.config.election_timeout);
        let (membership, send_at) = (None, now);
        self.changes.open =
            Some(Open { number, change, membership, deadline, refused_from, send_at });
    }

    /// Goes on with this node's own change.
    pub(super) fn pursue_change(&mut self, now: Instant) {
        let Some(open) = &mut self.changes.open else { return };
        let newest = Arc::clone(self.memberships.newest());
        let is_in_force = self.memberships.newest_from() <= self.learner.chosen().slot.next();
        let asked = match &open.membership {
            Some(asked) => Arc::clone(asked),
            None => {
                let next = match newest.changed(&open.change) {
                    _ if self.memberships.are_unknown() => Err(ChangeRefusal::Busy),
                    _ if !is_in_force && !planted!(TwoChangesOnTheirWay) => {
                        Err(ChangeRefusal::Busy)
                    }
                    next => next.map_err(ChangeRefusal::from),
                };
                match next {
                    Ok(next) => Arc::clone(open.membership.insert(Arc::new(next))),
                    Err(refusal) => return self.refuse_change(now, refusal),
                }
            }
        };
        let is_chosen = newest.version() == asked.version();
        let outcome = if newest.version() > asked.version() || is_chosen && newest != asked {
            Err(ChangeRefusal::Overtaken)
        } else if is_chosen && is_in_force {
            Ok(newest)
        } else if open.deadline <= now {
            Err(ChangeRefusal::Unknown)
        } else {
            if is_chosen {
                open.send_at = open.deadline;
            } else if open.send_at <= now {
                open.send_at = now.after(self.config.retransmit_timeout);
                self.send_change(now, asked);
            }
            return;
        };
        self.changes.end(outcome, &mut surroundings!(self, now));
    }

    /// The change is not made, unless that may look otherwise in a moment.
    fn refuse_change(&mut self, now: Instant, refusal: ChangeRefusal) {
        let Some(open) = &mut self.changes.open else { return };
        if open.refused_from.min(open.deadline) <= now {
            self.changes.end(Err(refusal), &mut surroundings!(self, now));
        } else if open.membership.is_none() {
            open.send_at = open.refused_from;
        }
    }

    fn send_change(&mut self, now: Instant, membership: Arc<Membership>) {
        match self.target() {
            Some(Target::Here(_)) => {
                if let Err(reason) = self.take_change(now, &membership) {
                    self.refuse_change(now, reason.into());
                }
            }
            Some(Target::Peer(peer, _)) => {
                self.out.send(peer, Message::Reconfigure(Reconfigure { membership }));
            }
            None => {}
        }
    }

    /// Another node asks for a change.
    pub(super) fn on_reconfigure(&mut self, now: Instant, from: NodeId, asked: &Reconfigure) {
        if asked.membership.check().is_err() {
            return;
        }
        if let Err(reason) = self.take_change(now, &asked.membership) {
            let version = asked.membership.version();
            self.out.send(from, Message::ChangeRefused(ChangeRefused { version, reason }));
        }
    }

    /// The leader does not make this node's change.
    pub(super) fn on_change_refused(&mut self, now: Instant, refused: &ChangeRefused) {
        let ChangeRefused { version, reason } = *refused;
        let asked = self.changes.open.as_ref().and_then(|open| open.membership.as_ref());
        if asked.is_some_and(|asked| asked.version() == version) {
            self.refuse_change(now, reason.into());
        }
    }

    /// If this node leads, the change gets a slot, unless another one is on its way: then it is asked for again.
    fn take_change(&mut self, now: Instant, membership: &Arc<Membership>) -> Result<(), NotReady> {
        let chosen = self.learner.chosen().slot;
        let cx = &mut surroundings!(self, now);
        let Proposing::Leading(leading, followers) = &mut self.proposing else { return Ok(()) };
        if leading.may_change(membership, cx) {
            check_change(membership, followers, chosen, cx)?;
            leading.change(Arc::clone(membership));
        }
        Ok(())
    }
}

impl<W> Replica<W> {
    /// A leader makes those voters that are to be, one after the other, as soon as they have caught up. That they are
    /// to be is in the log: so it does not matter who leads, or who was asked.
    pub(super) fn promote_newcomers(&mut self, now: Instant) {
        let newest = Arc::clone(self.memberships.newest());
        for node in newest.newcomers() {
            let change = Change::Role { node, role: MemberRole::Voter };
            if let Ok(next) = newest.changed(&change)
                && self.take_change(now, &Arc::new(next)).is_ok()
            {
                return;
            }
        }
    }
}

impl Leading {
    /// Whether a change may be proposed: it follows on the newest membership, and no other is on its way.
    fn may_change(&self, membership: &Membership, cx: &Context<'_>) -> bool {
        membership.version() == cx.memberships.newest().version() + 1
            && !self.has_change()
            && (self.next() >= cx.memberships.newest_from() || planted!(TwoChangesOnTheirWay))
            && self.next() > self.recovered_last()
    }
}

/// Whether the cluster is able to go on with it.
fn check_change(
    next: &Membership,
    followers: &Followers,
    chosen: Slot,
    cx: &Context<'_>,
) -> Result<(), NotReady> {
    let newest = cx.memberships.newest();
    let keeps_up = |node: NodeId| {
        node == cx.config.id || followers.keeps_up(node, chosen, newest.ahead_max(), cx)
    };
    let is_promoted = |voter: &NodeId| newest.is_member(*voter) && !newest.is_voter(*voter);
    if let Some(behind) = next.voters().filter(is_promoted).find(|voter| !keeps_up(*voter)) {
        return Err(NotReady::Behind(behind));
    }
    if !next.has_quorum(&Phase::BOTH, keeps_up) {
        return Err(NotReady::NoQuorum);
    }
    Ok(())
}
