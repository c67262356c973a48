//! Phase 2: the leader proposes values, counts votes, and pipelines.
//!
//! It guarantees:
//!
//! - One value per slot and ballot: a slot is proposed once, and sent again only with that value.
//! - Recovered values first, in the order of slots, holes filled with noops; then batches.
//! - Nothing at a slot of a membership of which no phase-1 quorum has promised.
//! - **The window** (Lamport 2001, section 3, α): nothing is proposed at slot i unless every slot
//!   up to i − α is known chosen. Within the window slots are accepted and chosen in any order. It
//!   is bounded in bytes besides, and nothing is proposed while the own disk is behind.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    acceptor::{Acceptor, Judgement},
    announcer::Announcer,
    context::Context,
    followers::Followers,
    learner::Learner,
    membership::Memberships,
    queue::Queue,
    recovery::Reported,
    slots::Slots,
    tally::{Chosen, Promisers, Tally, Voters},
    unreached::Unreached,
};
use crate::{
    message::{Accept, Accepted, Message},
    planted::planted,
    types::{Ballot, Instant, Membership, NodeId, Reconfiguration, Slot, Value, earliest},
};

/// A leadership.
#[derive(Clone, Debug)]
pub(super) struct Leading {
    ballot: Ballot,
    /// The next slot to propose at.
    next: Slot,
    /// What phase 1 reported for slots not proposed yet.
    recovered: BTreeMap<Slot, Value>,
    /// The last slot that may hold a value of an earlier leader: up to here, what phase 1 did not
    /// report is filled with noops.
    recovered_last: Slot,
    /// Slots proposed and not chosen: within a window of each other.
    in_flight: Slots<InFlight>,
    /// Bytes of their values.
    bytes_in_flight: usize,
    /// No slot up to here holds up a command: it is chosen, or one above it is, or it had to be
    /// sent again. Every later one that has been proposed is in flight.
    overtaken: Slot,
    /// Who has promised the ballot.
    promisers: Promisers,
    /// The membership that gets the next free slot.
    change: Option<Arc<Membership>>,
    /// When to look for votes that are overdue.
    check_at: Instant,
    /// When it began to lead.
    began: Instant,
    /// Since when none of the slots in flight has been chosen, although enough of those that it hears
    /// could vote.
    stuck_since: Instant,
    /// Who gets the watermark, and when.
    announcer: Announcer,
    /// What others have and it does not get.
    unreached: Unreached,
}

#[derive(Clone, Debug)]
struct InFlight {
    value: Value,
    votes: Tally,
    /// When it was sent to everyone.
    sent_at: Instant,
    /// Who has shown to lack it, and has got it again for that.
    lacked_by: Voters,
}

impl Leading {
    /// Leads at the ballot that a quorum has promised. Every slot up to `chosen` is chosen.
    pub(super) fn begin(reported: Reported, chosen: Slot, cx: &Context<'_>) -> Leading {
        let Reported { ballot, chosen: reported_chosen, mut values, promisers } = reported;
        assert!(
            reported_chosen <= chosen,
            "slots up to {reported_chosen} are chosen and were not adopted"
        );
        let next = chosen.next();
        let recovered = values.split_off(&next);
        let recovered_last = recovered.last_key_value().map_or(chosen, |(&slot, _)| slot);
        Leading {
            ballot,
            next: if planted!(HoleNotFilled) {
                *recovered.keys().next().unwrap_or(&next)
            } else {
                next
            },
            recovered,
            recovered_last,
            in_flight: Slots::default(),
            bytes_in_flight: 0,
            overtaken: chosen,
            promisers,
            change: None,
            check_at: cx.now.after(cx.config.retransmit_timeout),
            began: cx.now,
            stuck_since: cx.now,
            announcer: Announcer::default(),
            unreached: Unreached::default(),
        }
    }

    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The state that has applied this slot contains every write acknowledged before this
    /// leadership, because phase 1 reported them all.
    pub(super) fn recovered_last(&self) -> Slot {
        self.recovered_last
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Bytes of the values in flight but for the one proposed last, which may exceed the bound.
    pub(super) fn bytes_in_flight_before_last(&self) -> usize {
        let last = self.in_flight.last().and_then(|slot| self.in_flight.get(slot));
        self.bytes_in_flight - last.map_or(0, |last| last.value.encoded_len())
    }

    /// The next slot to propose at.
    pub(super) fn next(&self) -> Slot {
        self.next
    }

    /// Whether this leader has proposed something else for a slot that it does not know chosen.
    pub(super) fn has_proposed_another(&self, slot: Slot, value: &Value) -> bool {
        self.in_flight.get(slot).is_some_and(|in_flight| in_flight.value != *value)
    }

    /// Proposes what there is, as far as the window allows; nothing new if that `waits`.
    pub(super) fn propose(
        &mut self,
        waits: bool,
        acceptor: &mut Acceptor,
        learner: &Learner,
        queue: &mut Queue,
        cx: &mut Context<'_>,
    ) {
        let chosen = learner.chosen().slot;
        while let Some(slot) = self.in_flight.first().filter(|&slot| slot <= chosen) {
            self.land(slot, cx.now);
        }
        self.next = self.next.max(chosen.next());
        self.overtaken = self.overtaken.max(chosen);
        let first = self.next;
        let bytes_max = cx.config.window_bytes_max;
        while self.is_within_window(
            if planted!(WindowOfAnotherSlot) { first } else { self.next },
            chosen,
            cx,
        ) && self.may_propose_at(self.next, cx)
            && (self.bytes_in_flight < bytes_max || planted!(WindowBytesIgnored))
            && cx.out.admit()
        {
            let value = if self.next <= self.recovered_last {
                let recovered = self.recovered.remove(&self.next);
                recovered.filter(|_| !planted!(ReportedValueAsHole)).unwrap_or(Value::Noop)
            } else if let Some(change) = self.change.take_if(|_| !waits) {
                Value::Reconfigure(Reconfiguration::new(change))
            } else if !waits
                && self.may_cut(queue, cx)
                && let Some(batch) = queue.cut(learner.sessions(), cx.config)
            {
                Value::Batch(batch)
            } else if self.next < cx.memberships.newest_from() {
                // So that a change takes effect at once.
                Value::Noop
            } else {
                break;
            };
            self.propose_value(value, acceptor, learner, cx);
        }
    }

    /// Whether the next slot is no further ahead of what is chosen than the membership allows that governs `slot`.
    fn is_within_window(&self, slot: Slot, chosen: Slot, cx: &Context<'_>) -> bool {
        let window = cx.memberships.governing(slot).window() + u64::from(planted!(BeyondWindow));
        self.next <= chosen.plus(window)
    }

    /// Whether those who have promised are a phase-1 quorum of whoever votes on `slot`, and this leader is one of
    /// them or is going to be: one that is leaving proposes nothing that others decide.
    fn may_propose_at(&self, slot: Slot, cx: &Context<'_>) -> bool {
        let membership = cx.memberships.governing(slot);
        let is_covered =
            self.promisers.are_quorum(membership) || planted!(PromisesOfOldQuorumAlone);
        let is_to_vote = cx.memberships.may_lead() && !planted!(VoterToBeWaits);
        let has_say = membership.is_voter(cx.config.id) || is_to_vote;
        is_covered && (has_say || planted!(RemovedLeaderGoesOn))
    }

    /// Whether this leader is at the end of the slots at which it may propose: everything before is chosen.
    pub(super) fn is_at_its_end(&self, cx: &Context<'_>) -> bool {
        self.in_flight.is_empty() && !self.may_propose_at(self.next, cx)
    }

    /// Whether everything that it has to propose beside what is new has been proposed and chosen.
    pub(super) fn is_settled(&self, chosen: Slot, cx: &Context<'_>) -> bool {
        self.in_flight.is_empty()
            && self.next == chosen.next()
            && self.next > self.recovered_last
            && self.next >= cx.memberships.newest_from()
    }

    /// Gives a slot to a membership, as soon as there is one.
    pub(super) fn change(&mut self, membership: Arc<Membership>) {
        self.change = Some(membership);
    }

    /// Whether a membership waits for a slot or is in one that is not known to be chosen.
    pub(super) fn has_change(&self) -> bool {
        let is_change = |in_flight: &InFlight| matches!(in_flight.value, Value::Reconfigure(_));
        self.change.is_some() || self.in_flight.from(Slot::ZERO).any(|(_, slot)| is_change(slot))
    }

    /// Adaptive batching: an idle leader proposes at once; the more slots are undecided, the more
    /// commands must have gathered for another. Slots that have probably been lost do not count.
    fn may_cut(&self, queue: &Queue, cx: &Context<'_>) -> bool {
        assert!(self.overtaken < self.next, "slots up to {} were proposed", self.overtaken);
        let undecided = self.next.0 - self.overtaken.0 - 1;
        !queue.is_empty() && (queue.len() as u64 >= undecided || queue.fills_batch(cx.config))
    }

    /// The slot is not in flight any more.
    fn land(&mut self, slot: Slot, now: Instant) {
        if let Some(in_flight) = self.in_flight.remove(slot) {
            self.bytes_in_flight -= in_flight.value.encoded_len();
            self.stuck_since = now;
        }
        assert_eq!(self.in_flight.is_empty(), self.bytes_in_flight == 0, "each value has bytes");
    }

    fn propose_value(
        &mut self,
        value: Value,
        acceptor: &mut Acceptor,
        learner: &Learner,
        cx: &mut Context<'_>,
    ) {
        let slot = self.next;
        self.next = slot.next();
        let chosen = learner.chosen();
        let accept = Accept { ballot: self.ballot, slot, value: value.clone(), chosen };
        cx.broadcast(Message::Accept(accept.clone()));
        self.announcer.on_announced(chosen.slot);
        let judgement = acceptor.accept(cx.config.id, accept, chosen.slot, cx);
        assert_eq!(judgement, Judgement::Current, "a leader's own promise is its ballot");
        if self.in_flight.is_empty() {
            self.stuck_since = cx.now;
        }
        self.bytes_in_flight += value.encoded_len();
        let (votes, lacked_by) = (Tally::default(), Voters::default());
        let before =
            self.in_flight.insert(slot, InFlight { value, votes, sent_at: cx.now, lacked_by });
        assert!(before.is_none(), "slot {slot} is proposed once");
    }

    /// Counts votes, and hands the learner the slots that they make chosen; says whether there are
    /// any.
    pub(super) fn on_accepted(
        &mut self,
        from: NodeId,
        accepted: &Accepted,
        memberships: &Memberships,
        learner: &mut Learner,
        now: Instant,
    ) -> bool {
        if accepted.ballot != self.ballot && !planted!(VoteOfAnotherBallot) {
            return false;
        }
        let Some((first, last)) = self.in_flight.first().zip(self.in_flight.last()) else {
            return false;
        };
        let mut are_chosen = false;
        for slot in first.max(accepted.first).through(last.min(accepted.last)) {
            if let Some(in_flight) = self.in_flight.get_mut(slot)
                && let Some(quorum) = in_flight.votes.add(from, memberships.governing(slot))
            {
                self.land(slot, now);
                self.overtaken = self.overtaken.max(slot);
                learner.on_chosen(&Chosen::by(&quorum, slot));
                are_chosen = true;
            }
        }
        are_chosen
    }

    /// Sends Accepts again whose votes are overdue. `can_choose` says whether enough of those that the
    /// leader hears could vote for a slot.
    #[inline]
    pub(super) fn tick(
        &mut self,
        can_choose: impl FnOnce(Slot, &Context<'_>) -> bool,
        learner: &Learner,
        cx: &mut Context<'_>,
    ) {
        if cx.now < self.check_at {
            return;
        }
        self.check_at = cx.now.after(cx.config.retransmit_timeout);
        if self.in_flight.first().is_some_and(|first| !can_choose(first, cx)) {
            self.stuck_since = cx.now;
        }
        let overdue =
            |in_flight: &InFlight| in_flight.sent_at.after(cx.config.retransmit_timeout) <= cx.now;
        let in_flight = self.in_flight.from(Slot::ZERO);
        let slots: Vec<_> =
            in_flight.filter(|(_, in_flight)| overdue(in_flight)).map(|(slot, _)| slot).collect();
        for slot in slots {
            for &peer in cx.memberships.peers() {
                self.resend(slot, peer, learner, cx);
            }
            if let Some(in_flight) = self.in_flight.get_mut(slot) {
                in_flight.sent_at = cx.now;
            }
            self.overtaken = self.overtaken.max(slot);
        }
    }

    /// For how long it has got nothing chosen although there was something to choose, and enough of those
    /// that it hears could vote: what it says does not reach them.
    #[inline]
    pub(super) fn stuck_for(&self, now: Instant) -> Duration {
        if self.in_flight.is_empty() { Duration::ZERO } else { now.since(self.stuck_since) }
    }

    /// For how long it had led before that.
    pub(super) fn got_on_for(&self) -> Duration {
        self.led_for(self.stuck_since)
    }

    /// For how long it had led then.
    pub(super) fn led_for(&self, then: Instant) -> Duration {
        then.since(self.began)
    }

    /// Commands that it is told of and keeps in mind.
    pub(super) fn offers(&self) -> usize {
        self.unreached.len()
    }

    /// What others have and it does not get.
    pub(super) fn unreached(&mut self) -> &mut Unreached {
        &mut self.unreached
    }

    /// A peer has accepted nothing above `highest_accepted` although everything sent before
    /// `since` should have reached it: what it lacks is sent again, without waiting for the votes to
    /// be overdue; but once, however many answers show the same.
    pub(super) fn on_peer_lacks(
        &mut self,
        peer: NodeId,
        highest_accepted: Slot,
        since: Instant,
        learner: &Learner,
        cx: &mut Context<'_>,
    ) {
        let Some((first, last)) = self.in_flight.first().zip(self.in_flight.last()) else { return };
        let from = Slot(highest_accepted.0.saturating_add(1));
        for slot in first.max(from).through(last) {
            if let Some(in_flight) = self.in_flight.get_mut(slot)
                && in_flight.sent_at < since
                && in_flight.lacked_by.insert(peer, cx.memberships.governing(slot))
            {
                self.resend(slot, peer, learner, cx);
                self.overtaken = self.overtaken.max(slot);
            }
        }
    }

    fn resend(&self, slot: Slot, peer: NodeId, learner: &Learner, cx: &mut Context<'_>) {
        if let Some(in_flight) = self.in_flight.get(slot)
            && !in_flight.votes.has_voted(peer, cx.memberships.governing(slot))
            && !planted!(NothingSentAgain)
        {
            let value =
                if planted!(SlotProposedTwice) { Value::Noop } else { in_flight.value.clone() };
            let accept = Accept { ballot: self.ballot, slot, value, chosen: learner.chosen() };
            cx.out.send(peer, Message::Accept(accept));
        }
    }

    /// Begins a round of heartbeats, which carry the watermark too.
    pub(super) fn beat(
        &mut self,
        followers: &mut Followers,
        learner: &Learner,
        cx: &mut Context<'_>,
    ) {
        followers.beat(self.ballot, learner.chosen(), cx);
        self.announcer.on_announced(learner.chosen().slot);
    }

    /// Who gets the watermark, and when.
    pub(super) fn announcer(&mut self) -> &mut Announcer {
        &mut self.announcer
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let check_at = (!self.in_flight.is_empty()).then_some(self.check_at);
        earliest([check_at, self.announcer.next_deadline()])
    }
}
