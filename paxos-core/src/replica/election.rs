//! Who leads, as seen by a node that does not, and when to try.
//!
//! Before a ballot comes a *poll*, which costs nothing durable and disturbs nobody: a node grants
//! it only if its own leader has been silent for too long (see [`silence`](super::silence)), and a leader
//! that has lost its quorum falls silent (see [`followers`](super::followers)). So a node that
//! merely lost touch cannot depose a working leader, and one that is connected to a quorum can
//! always replace one that is not: the cases of Ng, Haridi & Carbone (EuroSys 2023) included,
//! because phase 1 learns whatever the winner lacks. Nor does a node grant a poll whose promise
//! could not become durable: a candidate that only such nodes reach would disturb the leader of
//! those that can write, and never be elected.
//!
//! Nobody waits for a leader that is known to be gone. A node that has *lost* its leader, because the
//! transport says so, polls nearly at once, and grants the polls of others. Each has to know it by itself:
//! a poll is no evidence, and whoever still hears the leader refuses. So a report that is wrong costs a
//! poll in vain, and one that does not come costs the time that it takes to be noticed by silence.

use std::{iter, time::Duration};

use smallvec::SmallVec;

use super::{
    candidacy::{Candidacies, Patience},
    context::Context,
    origin::Target,
    silence::Silence,
};
use crate::{
    limits,
    message::{Message, Poll, PollReply, Prepare},
    planted::planted,
    types::{Ballot, Instant, NodeId, Phase, Slot},
};

/// The election as a follower sees it.
#[derive(Clone, Debug)]
pub(super) struct Election {
    leader: Option<Leader>,
    silence: Silence,
    /// Before that, a leader may be alive of which nothing has come since this node started.
    grants_from: Instant,
    /// When to poll, if nothing comes from a leader.
    timeout_at: Instant,
    poll: Option<Polling>,
    candidacies: Candidacies,
    /// Leaderships of this node in a row that have got nothing through in the end, or were not reached.
    stalls: u32,
    /// A peer that is connected to a leader, which this node is not.
    route: Option<(NodeId, Ballot)>,
    /// The highest ballot known: the next one has to be above.
    highest: Ballot,
}

/// The leader that a node follows.
#[derive(Clone, Copy, Debug)]
struct Leader {
    ballot: Ballot,
    /// When its last message came.
    heard_at: Instant,
    /// It is said to be gone, and nothing has come from it since.
    is_lost: bool,
}

#[derive(Clone, Debug)]
struct Polling {
    number: u64,
    granted: SmallVec<[NodeId; limits::VOTERS_MAX]>,
    expires_at: Instant,
}

impl Election {
    /// Just started. In its first life the node knows that nothing can be going on yet and tries
    /// soon; later it waits for a leader that may be alive. It has promised `promised`, and may have
    /// used that ballot itself.
    pub(super) fn begin(first_life: bool, promised: Ballot, cx: &mut Context<'_>) -> Election {
        let alone = cx.memberships.are_quorum(&Phase::BOTH, |node| node == cx.config.id);
        let timeout_at = if alone {
            cx.now
        } else if first_life {
            cx.jittered(cx.config.heartbeat_interval)
        } else {
            cx.jittered(cx.config.election_timeout)
        };
        let grants_from =
            if first_life { cx.now } else { cx.now.after(cx.config.election_timeout) };
        Election {
            leader: None,
            silence: Silence::default(),
            grants_from,
            timeout_at,
            poll: None,
            candidacies: Candidacies::default(),
            stalls: 0,
            route: None,
            highest: if planted!(BallotReused) { Ballot::ZERO } else { promised },
        }
    }

    pub(super) fn is_polling(&self) -> bool {
        self.poll.is_some()
    }

    /// The leader this node follows.
    pub(super) fn leader(&self) -> Option<Ballot> {
        self.leader.map(|leader| leader.ballot)
    }

    /// Where to send what a leader has to see.
    #[inline]
    pub(super) fn target(&self) -> Option<Target> {
        match (self.leader, self.route) {
            (Some(Leader { ballot, .. }), _) => Some(Target::Peer(ballot.node, ballot)),
            (None, Some((peer, ballot))) => Some(Target::Peer(peer, ballot)),
            (None, None) => None,
        }
    }

    #[inline]
    pub(super) fn note_ballot(&mut self, ballot: Ballot) {
        if ballot.is_proposable() {
            self.highest = self.highest.max(ballot);
        }
    }

    /// Whether the ballots in a message may be real. One that is out of all proportion is damage,
    /// and whoever adopted it would leave no ballot above it for anybody.
    #[inline]
    pub(super) fn is_credible(&self, message: &Message) -> bool {
        let ballots = match message {
            Message::PollReply(reply) => [Some(reply.promised), reply.leader],
            Message::Prepare(prepare) => [Some(prepare.ballot), None],
            Message::Accept(accept) => [Some(accept.ballot), None],
            Message::Reject(reject) => [Some(reject.promised), None],
            Message::Chosen(chosen) => [Some(chosen.ballot), None],
            Message::Heartbeat(heartbeat) => [Some(heartbeat.ballot), None],
            Message::TakeOver(told) => [Some(told.ballot), None],
            _ => [None, None],
        };
        let round_max = self.highest.round.saturating_add(limits::BALLOT_ROUNDS_AHEAD_MAX);
        ballots.into_iter().flatten().all(|ballot| ballot.round <= round_max)
    }

    /// A message of a live leader has come, at a ballot this node may follow.
    #[inline]
    pub(super) fn on_leader(&mut self, ballot: Ballot, cx: &mut Context<'_>) {
        assert!(ballot.node != cx.config.id, "a node does not follow itself");
        self.note_ballot(ballot);
        if self.leader.is_none_or(|known| ballot >= known.ballot) {
            let was_lost = self.leader.is_some_and(|leader| leader.is_lost);
            let is_lost = was_lost && planted!(LossNeverOver);
            self.leader = Some(Leader { ballot, heard_at: cx.now, is_lost });
            self.grants_from = self.grants_from.min(cx.now);
            self.silence.on_heard(ballot, cx.now, cx.config);
            self.timeout_at = self.silence.ends_at(cx);
            self.poll = None;
            self.candidacies.on_leader();
            self.route = None;
        }
    }

    /// A peer is said to be gone. If this node follows it, or leaves it time to be elected, it polls: after
    /// a moment, which is not the same for all that have lost it at once. That is harmless, and so is to
    /// grant a poll. Of what this node has promised not to do for some time it is no matter who is said to be
    /// gone.
    pub(super) fn on_lost(&mut self, peer: NodeId, cx: &mut Context<'_>) {
        self.route.take_if(|(via, ballot)| *via == peer || ballot.node == peer);
        let is_candidate = self.candidacies.on_lost(peer);
        let followed = self.leader.as_mut().filter(|leader| leader.ballot.node == peer);
        let is_leader = followed.map(|leader| leader.is_lost = true).is_some();
        if (is_leader || is_candidate) && !planted!(LossIgnored) {
            let spread = cx.config.heartbeat_interval / limits::LOSS_SPREAD;
            let soon = cx.now.after(spread.mul_f64(cx.rng.f64()));
            self.timeout_at = self.timeout_at.min(soon);
        }
    }

    /// This node promises a ballot, its own perhaps, or the next page of that promise: it leaves the
    /// candidate time.
    pub(super) fn on_prepare(&mut self, prepare: &Prepare, cx: &mut Context<'_>) {
        if self.candidacies.on_prepare(prepare, cx.now) {
            self.timeout_at = cx.jittered(cx.config.election_timeout);
            self.poll = None;
        }
    }

    /// What it has promised has been written, and leaves only now.
    pub(super) fn on_promised(&mut self, cx: &mut Context<'_>) {
        self.candidacies.on_promised(cx.now);
        self.timeout_at = cx.jittered(cx.config.election_timeout);
    }

    /// How long a candidacy of this node goes on without a sign of progress.
    pub(super) fn patience(&self, cx: &Context<'_>) -> Patience {
        self.candidacies.patience(cx)
    }

    /// The leader votes no more, and leaves it to those who do to find another: nobody has to wait until it
    /// has been silent for long.
    pub(super) fn on_leader_left(&mut self, cx: &mut Context<'_>) {
        self.leader = None;
        self.timeout_at = cx.jittered(cx.config.heartbeat_interval);
    }

    /// This node leads now: it follows nobody.
    pub(super) fn won(&mut self) {
        assert!(self.poll.is_none(), "a poll is over before its candidacy begins");
        self.leader = None;
        self.candidacies.on_leader();
        self.route = None;
    }

    /// This node has led, or has not been granted its poll; it waits a random while.
    pub(super) fn back_off(&mut self, cx: &mut Context<'_>) {
        self.pause(cx.config.election_timeout / 4, cx);
    }

    /// This node has tried to lead in vain. It waits the longer, the more often it has.
    pub(super) fn on_candidacy_failed(&mut self, cx: &mut Context<'_>) {
        self.candidacies.on_failed();
        self.pause(self.candidacies.pause(cx), cx);
    }

    /// How long this node, which has led and got on for a while, goes on leading without getting anything
    /// through.
    pub(super) fn stall_patience(&self, got_on_for: Duration, cx: &Context<'_>) -> Duration {
        if planted!(StalledLeaderStays) {
            return Duration::MAX;
        }
        stall_timeouts(cx) * self.stall_factor(got_on_for, cx)
    }

    /// How much more time it gives itself, for having made room in vain before.
    pub(super) fn stall_factor(&self, got_on_for: Duration, cx: &Context<'_>) -> u32 {
        1 << self.stalls_before(got_on_for, cx).min(limits::STALL_DOUBLINGS_MAX)
    }

    /// This node has led and gets nothing through any more, or is not reached, after it had got on for a
    /// while. It leaves the others the time for an election, and gives itself more time if it soon leads
    /// again: then none of them can be elected, or do better.
    pub(super) fn on_stalled(&mut self, got_on_for: Duration, cx: &mut Context<'_>) {
        self.stalls = self.stalls_before(got_on_for, cx).saturating_add(1);
        self.timeout_at = cx.jittered(stall_timeouts(cx));
    }

    /// How many leaderships have stalled that count, now that one has got on for a while.
    fn stalls_before(&self, got_on_for: Duration, cx: &Context<'_>) -> u32 {
        if got_on_for > stall_timeouts(cx) { 0 } else { self.stalls }
    }

    fn pause(&mut self, delay: Duration, cx: &mut Context<'_>) {
        self.timeout_at = cx.now.after(delay + delay.mul_f64(cx.rng.f64() * 2.0));
        self.poll = None;
    }

    /// The leader that this node follows, if there is no reason yet to look for another one.
    fn leader_alive(&self, cx: &Context<'_>) -> Option<Ballot> {
        let Leader { ballot, heard_at, is_lost } = self.leader?;
        let is_silent = cx.now.since(heard_at) >= self.silence.patience(cx.config);
        (!is_silent && (!is_lost || planted!(LossUnbelieved))).then_some(ballot)
    }

    /// Answers a poll. `leading` is this node's ballot, if it leads; `promises` whether a promise
    /// of its would become durable. A leader that is to be followed by the sender does not count.
    pub(super) fn on_poll(
        &mut self,
        from: NodeId,
        poll: &Poll,
        leading: Option<Ballot>,
        promises: bool,
        chosen: Slot,
        cx: &mut Context<'_>,
    ) {
        let alive = self.leader_alive(cx).filter(|ballot| ballot.node != from);
        let leader = leading.or(alive);
        let leader = leader.filter(|ballot| poll.leave != Some(*ballot));
        let knows = self.leader.is_some() || cx.now >= self.grants_from;
        let is_free = leader.is_none() && !self.candidacies.has_rival(from, cx);
        let reply = PollReply {
            number: poll.number,
            granted: is_free && knows && promises || planted!(PollAlwaysGranted),
            promised: self.highest,
            leader,
            chosen,
        };
        cx.out.send(from, Message::PollReply(reply));
    }

    /// Takes in an answer; returns the ballot to prepare once enough have granted the poll: a
    /// quorum of either phase, of every membership in force.
    pub(super) fn on_poll_reply(
        &mut self,
        from: NodeId,
        reply: &PollReply,
        cx: &Context<'_>,
    ) -> Option<Ballot> {
        self.note_ballot(reply.promised);
        let poll = self.poll.as_mut().filter(|poll| poll.number == reply.number)?;
        if let Some(leader) = reply.leader.filter(|_| !planted!(RouteIgnored)) {
            self.route = Some((from, leader));
        }
        if !reply.granted {
            return None;
        }
        if !poll.granted.contains(&from) {
            poll.granted.push(from);
        }
        self.granted(cx)
    }

    fn granted(&mut self, cx: &Context<'_>) -> Option<Ballot> {
        let granted = &self.poll.as_ref()?.granted;
        if !cx.memberships.are_quorum(&Phase::BOTH, |node| granted.contains(&node)) {
            return None;
        }
        self.poll = None;
        Some(self.next_ballot(cx))
    }

    /// A ballot of this node's own, above every one that it knows.
    pub(super) fn next_ballot(&self, cx: &Context<'_>) -> Ballot {
        let ballot = self.highest.next_of(cx.config.id);
        assert!(ballot > self.highest && ballot.is_proposable(), "above every ballot known");
        ballot
    }

    /// Polls if it is time to; returns the ballot to prepare if nobody else has to be asked.
    #[inline]
    pub(super) fn tick(
        &mut self,
        numbers: &mut u64,
        chosen: Slot,
        cx: &mut Context<'_>,
    ) -> Option<Ballot> {
        if self.poll.as_ref().is_some_and(|poll| poll.expires_at <= cx.now) {
            if self.route.is_some() {
                self.poll = None;
                self.timeout_at = cx.jittered(cx.config.election_timeout);
            } else {
                self.back_off(cx);
            }
        }
        if self.poll.is_some() || cx.now < self.timeout_at {
            return None;
        }
        if self.candidacies.has_rival(cx.config.id, cx) {
            self.timeout_at = cx.jittered(cx.config.election_timeout);
            return None;
        }
        let lost = self.leader.take().filter(|leader| leader.is_lost && planted!(LostCounted));
        self.route = None;
        *numbers += 1;
        assert!(cx.memberships.may_lead(), "only a voter may lead");
        self.poll = Some(Polling {
            number: *numbers,
            granted: iter::once(cx.config.id)
                .chain(lost.map(|leader| leader.ballot.node))
                .collect(),
            expires_at: cx.now.after(cx.config.election_timeout / 4),
        });
        cx.broadcast(Message::Poll(Poll { number: *numbers, chosen, leave: None }));
        self.granted(cx)
    }

    #[inline]
    pub(super) fn next_deadline(&self) -> Instant {
        self.poll.as_ref().map_or(self.timeout_at, |poll| poll.expires_at)
    }
}

/// How long a leader goes on without getting anything through, and leaves others to be elected then.
fn stall_timeouts(cx: &Context<'_>) -> Duration {
    limits::STALL_TIMEOUTS * cx.config.election_timeout
}
