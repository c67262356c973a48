//! The leadership goes to another node, on request (Ongaro 2014, section 3.10).
//!
//! The leader has the node that is to lead find out first whether enough others would promise it a ballot, as
//! by a poll; they would, because the leader has given it leave. Up to there nothing has changed for anybody,
//! and a node that does not reach a quorum, or only such as cannot write, disturbs nobody. Then the leader
//! gives no more slots to what is new, which waits in its queue, and once everything is chosen and that node
//! knows it, it is told to begin its candidacy at once. Whoever has something to wait for waits for that, and
//! for a round of each phase.
//!
//! If the node does not lead within an election timeout, the leader goes on as before. Nothing here matters for
//! safety: whoever takes over does so at a ballot of its own, as every candidate does, and what it is told that
//! comes late is at worst an election too many. So it counts only for a while, at the ballot of the leader that
//! is followed, and for who knows nothing newer.

use smallvec::SmallVec;

use super::{
    Proposing, Replica, context::Context, followers::Followers, learner::Learner,
    proposer::Leading, surroundings,
};
use crate::{
    config::Config,
    limits,
    message::{Message, Poll, PollReply, Sound, Sounded, TakeOver},
    planted::planted,
    types::{Ballot, Instant, NodeId, Phase, Slot, earliest},
};

/// What has become of a transfer of the leadership: the ballot of the node that leads now, if it is the one that
/// was to.
pub type TransferOutcome = Result<Ballot, TransferRefusal>;

/// Why the leadership has not been transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferRefusal {
    /// Only the leader can.
    #[error("this node does not lead: ask the leader")]
    NotLeading {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
    },
    /// One at a time.
    #[error("the leadership is being transferred already: try again when that is over")]
    Busy,
    /// There is no such node.
    #[error("node {0} is no member of the cluster")]
    NotAMember(NodeId),
    /// A node without a vote cannot lead.
    #[error("node {0} has no vote, and cannot lead: promote it first")]
    NotAVoter(NodeId),
    /// The leader does not hear it.
    #[error("node {0} does not answer: start it, or see to the network, and try again")]
    Silent(NodeId),
    /// Its disk is full, hangs, or is too far behind.
    #[error("the disk of node {0} takes no writes: see to it, and try again")]
    CannotWrite(NodeId),
    /// It would have to catch up first.
    #[error("node {0} has not caught up: wait until it has, and try again")]
    Behind(NodeId),
    /// Whoever is best was asked for, and there is nobody.
    #[error("no other node could lead now")]
    NoSuccessor,
    /// The leader goes on.
    #[error("node {0} has not taken over in time: it may not reach enough of the others")]
    NotTakenOver(NodeId),
    /// Another node leads.
    #[error("node {0} has come first, and leads now")]
    Overtaken(NodeId),
    /// The leader leads no more, and nobody has been heard to.
    #[error("this node leads no more, and it is not known yet who does")]
    Unknown,
}

/// What a node does about handing the leadership over.
#[derive(Clone, Debug, Default)]
pub(super) struct Handovers {
    /// This node's, while it leads, and until it knows who does then.
    open: Option<Handover>,
    /// It has been asked by its leader to take over.
    sounding: Option<Sounding>,
}

#[derive(Clone, Debug)]
struct Handover {
    /// Names it in messages.
    number: u64,
    /// Who wants to know what becomes of it.
    asked_by: Option<u64>,
    to: NodeId,
    /// What is given up.
    ballot: Ballot,
    stage: Stage,
    /// When to say it again.
    send_at: Instant,
    /// When the leader goes on if the stage has not ended.
    ends_at: Instant,
    /// When it is given up to find out who leads.
    deadline: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The other node finds out whether it would be elected.
    Sounding,
    /// What has been proposed becomes chosen, and the other node learns it; it has been told so far.
    Draining { told: Option<Slot> },
    /// It has been told to take over. Whatever this leader may do for a time without asking others has to end
    /// before that: see [`Handover::go_on`].
    Leaving,
}

/// What a node finds out that is to lead.
#[derive(Clone, Debug)]
struct Sounding {
    /// The leader's ballot, and its name for it.
    ballot: Ballot,
    number: u64,
    began: Instant,
    poll: u64,
    granted: SmallVec<[NodeId; limits::VOTERS_MAX]>,
}

impl Handovers {
    /// To whom the leadership is on its way.
    pub(super) fn under_way(&self) -> Option<NodeId> {
        self.open.as_ref().map(|open| open.to)
    }

    /// Whether whoever leads at this ballot gives no slots to what is new.
    #[inline]
    pub(super) fn holds_up(&self, ballot: Ballot) -> bool {
        let holds = |open: &Handover| open.ballot == ballot && open.stage != Stage::Sounding;
        self.open.as_ref().is_some_and(holds)
    }

    /// A peer would promise this node a ballot, or would not. If enough would, the leader hears of it.
    pub(super) fn on_poll_reply(&mut self, from: NodeId, reply: &PollReply, cx: &mut Context<'_>) {
        let sounding = self.sounding.as_mut();
        if let Some(sounding) = sounding.filter(|sounding| sounding.poll == reply.number)
            && reply.granted
        {
            if !sounding.granted.contains(&from) {
                sounding.granted.push(from);
            }
            sounding.tell(cx);
        }
    }

    /// When to go on with it, on a node that leads at this ballot.
    pub(super) fn next_deadline(
        &self,
        leading: Option<Ballot>,
        config: &Config,
    ) -> Option<Instant> {
        let open = self.open.as_ref()?;
        if leading != Some(open.ballot) {
            return Some(open.known_by(config));
        }
        let sends = !matches!(open.stage, Stage::Draining { .. });
        earliest([Some(open.deadline), Some(open.ends_at), sends.then_some(open.send_at)])
    }
}

impl Sounding {
    fn tell(&self, cx: &mut Context<'_>) {
        let Sounding { ballot, number, .. } = *self;
        if cx.memberships.are_quorum(&Phase::BOTH, |node| self.granted.contains(&node)) {
            cx.out.send(ballot.node, Message::Sounded(Sounded { ballot, number }));
        }
    }
}

impl Handover {
    /// Who leads next is known by then, or it is said that it is not: an election takes no longer, as a rule.
    fn known_by(&self, config: &Config) -> Instant {
        self.deadline.min(self.ends_at.after(2 * config.election_timeout))
    }

    /// The leader goes on with it.
    fn go_on(
        &mut self,
        leading: &mut Leading,
        followers: &mut Followers,
        learner: &Learner,
        cx: &mut Context<'_>,
    ) -> Result<(), TransferRefusal> {
        let chosen = learner.chosen().slot;
        followers.check_successor(self.to, chosen, cx)?;
        if self.ends_at.min(self.deadline) <= cx.now && !planted!(TransferWithoutEnd) {
            return Err(TransferRefusal::NotTakenOver(self.to));
        }
        if let Stage::Draining { told } = &mut self.stage
            && leading.is_settled(chosen, cx)
        {
            if followers.has_learned(self.to, chosen) || planted!(TransferBeforeCaughtUp) {
                // From here on somebody else may lead, and this leader answers nothing on its own: its reads are confirmed
                // by a round. One that had been promised to be the only one for a time would have to give that up
                // before, for good.
                (self.stage, self.send_at) = (Stage::Leaving, cx.now);
            } else if *told < Some(chosen) {
                *told = Some(chosen);
                leading.beat(followers, learner, cx);
            }
        }
        if self.send_at <= cx.now && !matches!(self.stage, Stage::Draining { .. }) {
            self.send_at = cx.now.after(cx.config.retransmit_timeout);
            let Handover { ballot, number, to, stage, .. } = *self;
            cx.out.send(
                to,
                match stage {
                    Stage::Leaving => Message::TakeOver(TakeOver { ballot, number, chosen }),
                    _ => Message::Sound(Sound { ballot, number }),
                },
            );
        }
        Ok(())
    }
}

impl<W> Replica<W> {
    /// The leadership is to go to another node, because somebody asks for it or for this node's own reasons.
    pub(super) fn on_transfer(
        &mut self,
        now: Instant,
        asked_by: Option<u64>,
        to: Option<NodeId>,
        deadline: Instant,
    ) {
        let begun = self.begin_handover(now, asked_by, to, deadline);
        if let (Some(number), Some(outcome)) = (asked_by, begun) {
            self.out.effects().transfers.push((number, outcome));
        }
    }

    /// Begins a handover, or says what becomes of it at once.
    fn begin_handover(
        &mut self,
        now: Instant,
        asked_by: Option<u64>,
        to: Option<NodeId>,
        deadline: Instant,
    ) -> Option<TransferOutcome> {
        let chosen = self.learner.chosen().slot;
        let cx = &surroundings!(self, now);
        let Proposing::Leading(leading, followers) = &self.proposing else {
            let leader = self.election.leader().map(|ballot| ballot.node);
            return Some(Err(TransferRefusal::NotLeading { leader }));
        };
        let ballot = leading.ballot();
        if to == Some(self.config.id) {
            return Some(Ok(ballot));
        }
        if self.handovers.open.is_some() {
            return Some(Err(TransferRefusal::Busy));
        }
        let best = || followers.best_successor(chosen, cx).ok_or(TransferRefusal::NoSuccessor);
        let to = match to.map_or_else(best, Ok) {
            Ok(to) => to,
            Err(refusal) => return Some(Err(refusal)),
        };
        if let Err(refusal) = followers.check_successor(to, chosen, cx) {
            return Some(Err(refusal));
        }
        tracing::info!(node = %self.config.id, %to, %ballot, "hands the leadership over");
        self.numbers += 1;
        let (number, stage, send_at) = (self.numbers, Stage::Sounding, now);
        let ends_at = now.after(self.config.election_timeout);
        self.handovers.open =
            Some(Handover { number, asked_by, to, ballot, stage, send_at, ends_at, deadline });
        None
    }

    /// Goes on with this node's handover, and finds out what has become of it.
    pub(super) fn pursue_handover(&mut self, now: Instant) {
        let Some(open) = &mut self.handovers.open else { return };
        let cx = &mut surroundings!(self, now);
        let outcome = match &mut self.proposing {
            Proposing::Leading(leading, followers) if leading.ballot() == open.ballot => {
                match open.go_on(leading, followers, &self.learner, cx) {
                    Ok(()) => return,
                    Err(refusal) => Err(refusal),
                }
            }
            Proposing::Leading(..) => Err(TransferRefusal::NotTakenOver(open.to)),
            _ => match self.election.leader() {
                Some(leader) if leader.node == open.to || planted!(TransferDoneByAnother) => {
                    Ok(leader)
                }
                Some(leader) => Err(TransferRefusal::Overtaken(leader.node)),
                // Nobody has been told to lead.
                None if open.stage != Stage::Leaving => {
                    Err(TransferRefusal::NotLeading { leader: None })
                }
                None if open.known_by(cx.config) <= now => Err(TransferRefusal::Unknown),
                None => return,
            },
        };
        let (asked_by, to) = (open.asked_by, open.to);
        self.handovers.open = None;
        match outcome {
            Ok(ballot) => tracing::info!(node = %self.config.id, %ballot, "has handed over"),
            Err(refusal) => {
                tracing::warn!(node = %self.config.id, %to, %refusal, "has not handed over")
            }
        }
        if let Some(number) = asked_by {
            self.out.effects().transfers.push((number, outcome));
        }
    }

    /// The leader wants to know whether this node would be elected.
    pub(super) fn on_sound(&mut self, now: Instant, from: NodeId, sound: Sound) {
        let Sound { ballot, number } = sound;
        if from != ballot.node || !self.may_take_over(now, ballot) {
            return;
        }
        let is_known = |known: &Sounding| known.ballot == ballot && known.number == number;
        if !self.handovers.sounding.as_ref().is_some_and(is_known) {
            self.numbers += 1;
            let (poll, granted) = (self.numbers, [self.config.id].into_iter().collect());
            self.handovers.sounding = Some(Sounding { ballot, number, began: now, poll, granted });
        }
        let chosen = self.learner.chosen().slot;
        let cx = &mut surroundings!(self, now);
        if let Some(sounding) = &self.handovers.sounding {
            let leave = Some(ballot);
            cx.broadcast(Message::Poll(Poll { number: sounding.poll, chosen, leave }));
            sounding.tell(cx);
        }
    }

    /// The node that is to lead would be elected: from now on what is new waits.
    pub(super) fn on_sounded(&mut self, now: Instant, from: NodeId, sounded: Sounded) {
        if let Some(open) = &mut self.handovers.open
            && (open.to, open.ballot, open.number) == (from, sounded.ballot, sounded.number)
            && open.stage == Stage::Sounding
        {
            open.stage = Stage::Draining { told: None };
            open.ends_at = now.after(self.config.election_timeout);
        }
    }

    /// The leader has stopped, so that this node leads.
    pub(super) fn on_take_over(&mut self, now: Instant, from: NodeId, told: TakeOver) {
        let TakeOver { ballot, number, chosen } = told;
        let lasts = limits::SOUNDED_TIMEOUTS * self.config.election_timeout;
        let is_expected = |known: &Sounding| {
            known.ballot == ballot && known.number == number && now.since(known.began) < lasts
        };
        let is_expected = self.handovers.sounding.as_ref().is_some_and(is_expected);
        let is_late = self.learner.chosen().slot > chosen;
        if from != ballot.node || !is_expected || is_late || !self.may_take_over(now, ballot) {
            return;
        }
        self.handovers.sounding = None;
        tracing::info!(node = %self.config.id, %from, "takes the leadership over");
        let ballot = self.election.next_ballot(&surroundings!(self, now));
        self.campaign(now, ballot);
    }

    /// Whether this node follows the leader of this ballot, and may lead itself.
    fn may_take_over(&self, now: Instant, leader: Ballot) -> bool {
        matches!(self.proposing, Proposing::Not)
            && self.election.leader() == Some(leader)
            && self.memberships.may_lead()
            && self.can_write(now)
    }
}
