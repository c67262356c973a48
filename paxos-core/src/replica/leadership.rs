//! Beginning and ending to lead, as deadlines pass and others come up.

use std::time::Duration;

use super::{
    Halt, Proposing, Replica, context::Context, recovery::Preparing, surroundings,
    unreached::Unreached,
};
use crate::{
    limits,
    message::{ChosenUpTo, Message},
    types::{Ballot, Instant, earliest},
};

/// Why a leader makes room for another one.
const STALLED: &str = "what this leader proposes is not chosen although it is heard by enough others that \
                       could vote";
const UNREACHED: &str = "what others propose does not reach this leader although it hears enough of them that \
                         have it";

impl<W> Replica<W> {
    /// Works off deadlines.
    pub(super) fn tick(&mut self, now: Instant) {
        self.origin.expire(now);
        let (can_write, takes_work) =
            (self.can_write(now), self.is_behind_at_most(limits::DISK_BEHIND_TIMEOUTS + 1, now));
        let cx = &mut surroundings!(self, now);
        match &mut self.proposing {
            Proposing::Not if self.disk_full || !cx.memberships.may_lead() => {}
            Proposing::Not => {
                let chosen = self.learner.chosen().slot;
                if let Some(ballot) = self.election.tick(&mut self.numbers, chosen, cx) {
                    self.campaign(now, ballot);
                }
            }
            Proposing::Preparing(preparing) => {
                if preparing.expires_at() <= now {
                    self.step_down(now);
                } else {
                    preparing.tick(cx);
                }
            }
            Proposing::Leading(leading, followers) => {
                if followers.is_quorum_lost(cx) || followers.cannot_write(can_write, takes_work, cx)
                {
                    self.step_down(now);
                    return;
                }
                let can_choose = |slot, cx: &Context<'_>| followers.can_choose(slot, can_write, cx);
                leading.tick(can_choose, &self.learner, cx);
                let got_on_for = leading.got_on_for();
                if leading.stuck_for(now) >= self.election.stall_patience(got_on_for, cx) {
                    self.make_room(now, got_on_for, STALLED);
                    return;
                }
                let (queue, sessions) = (&self.queue, self.learner.sessions());
                let knows = |id| queue.is_pending(id) || sessions.is_settled(id);
                if let Some(since) = leading.unreached().since(knows, cx) {
                    let led_for = leading.led_for(since);
                    let factor = self.election.stall_factor(led_for, cx);
                    if now.since(since) >= Unreached::patience(cx).saturating_mul(factor) {
                        self.make_room(now, led_for, UNREACHED);
                        return;
                    }
                }
                if followers.next_beat() <= now {
                    leading.beat(followers, &self.learner, cx);
                    self.promote_newcomers(now);
                }
            }
        }
    }

    /// Begins a candidacy, unless this node's own promise could not become durable.
    pub(super) fn campaign(&mut self, now: Instant, ballot: Ballot) {
        if self.can_write(now) {
            self.begin_candidacy(now, ballot);
        } else {
            self.election.back_off(&mut surroundings!(self, now));
        }
    }

    /// Begins a candidacy. Every ballot is above whatever this node has promised or knows of.
    pub(super) fn begin_candidacy(&mut self, now: Instant, ballot: Ballot) {
        assert!(ballot > self.acceptor.promised(), "ballot {ballot} may have been used");
        assert_eq!(ballot.node, self.config.id, "a ballot has one owner");
        assert!(
            matches!(self.proposing, Proposing::Not),
            "one candidacy at a time, and no leader's"
        );
        let from = self.learner.chosen().slot.next();
        let cx = &mut surroundings!(self, now);
        let patience = self.election.patience(cx);
        self.acceptor.promise_own(ballot, cx.out);
        self.election.note_ballot(ballot);
        self.proposing = Proposing::Preparing(Preparing::begin(ballot, from, patience, cx));
    }

    /// Takes over what has changed about who votes and who is talked to.
    #[inline]
    pub(super) fn keep_membership(&mut self, now: Instant) {
        if let Some(checkpoint) = self.checkpoints.newest(&self.out) {
            self.memberships.forget(checkpoint.at.slot);
        }
        if let Some(encoded) = self.memberships.take_unwritten() {
            self.out.persist_memberships(encoded);
        }
        if let Some(peers) = self.memberships.take_peers() {
            self.out.effects().peers = Some(peers);
            let cx = &mut surroundings!(self, now);
            if let Proposing::Leading(_, followers) = &mut self.proposing {
                followers.on_membership(cx);
            }
            self.more_follows = true;
        }
        self.leave_if_removed(now);
    }

    /// A leader whose promises do not cover the membership that governs the next slot gathers others, at a
    /// ballot of its own again; one that does not vote there leaves that to those who do. Neither does a node
    /// go on that is no member any more.
    fn leave_if_removed(&mut self, now: Instant) {
        let cx = &mut surroundings!(self, now);
        if let Proposing::Leading(leading, _) = &self.proposing
            && leading.is_at_its_end(cx)
        {
            let chosen = self.learner.chosen();
            cx.broadcast(Message::Chosen(ChosenUpTo { ballot: leading.ballot(), chosen }));
            let may_lead = cx.memberships.may_lead();
            let ballot = self.election.next_ballot(cx);
            tracing::info!(node = %self.config.id, may_lead, "the membership has changed");
            self.step_down(now);
            if may_lead {
                self.campaign(now, ballot);
            }
        }
        if self.memberships.has_left(self.election.leader().map(|ballot| ballot.node)) {
            self.election.on_leader_left(&mut surroundings!(self, now));
        }
        let applied = self.learner.applied();
        if self.memberships.is_removed_after(applied) {
            self.out.halt(Some(Halt::Removed));
        }
    }

    /// Stops proposing. What waits for a slot is forgotten here; its origins send it again.
    pub(super) fn step_down(&mut self, now: Instant) {
        let before = std::mem::replace(&mut self.proposing, Proposing::Not);
        if matches!(before, Proposing::Not) {
            return;
        }
        self.out.withdraw_prepares();
        self.queue.clear();
        self.reader.on_deposed();
        let cx = &mut surroundings!(self, now);
        match before {
            Proposing::Preparing(_) => self.election.on_candidacy_failed(cx),
            _ => self.election.back_off(cx),
        }
    }

    /// This leader gets on no more, after it had for a while, and others could.
    fn make_room(&mut self, now: Instant, got_on_for: Duration, reason: &str) {
        tracing::warn!(node = %self.config.id, "{reason}: it makes room for one with better links");
        self.step_down(now);
        self.election.on_stalled(got_on_for, &mut surroundings!(self, now));
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        let config = &self.config;
        let proposing = match &self.proposing {
            Proposing::Not if self.disk_full || !self.memberships.may_lead() => None,
            Proposing::Not => Some(self.election.next_deadline()),
            Proposing::Preparing(preparing) => Some(preparing.next_deadline()),
            Proposing::Leading(leading, followers) => {
                earliest([followers.next_deadline(), leading.next_deadline()])
            }
        };
        let pulls = self.refuses_work().is_none() && !self.memberships.are_unknown();
        let catchup = if pulls { self.catchup.next_deadline(config) } else { None };
        let origin = self.origin.next_deadline(config);
        let reader = self.reader.next_deadline(config);
        let serving = self.serving.next_deadline(config);
        let changes = self.changes.next_deadline();
        let joining = self.joining_deadline();
        let leading = match &self.proposing {
            Proposing::Leading(leading, _) => Some(leading.ballot()),
            _ => None,
        };
        let handover = self.handovers.next_deadline(leading, config);
        earliest([proposing, catchup, origin, reader, serving, changes, joining, handover])
    }
}
