//! What a leader knows of the others: who answers, and how far they are.
//!
//! A leader that has not heard from a quorum for an election timeout is not connected to one, steps
//! down, and goes quiet. So does one whose followers answer and cannot write, if some quorum that it
//! does not reach may be able to: otherwise it would keep those from electing another. And so does one
//! whose own disk is too far behind for it to take any work, if others may be enough without it. Where
//! none can, it stays, for the sake of reads.
//!
//! And so does one that is heard and gets nothing through, say because a path has come to lose what is
//! large: what it has proposed is not chosen, although as many as it takes can write. As long as they cannot,
//! or have to catch up first, that is no fault of the leader's.
//!
//! A round of heartbeats that a quorum has answered confirms that no higher ballot had been promised
//! by a quorum when the round began.

use std::{collections::VecDeque, sync::Arc};

use super::{context::Context, handover::TransferRefusal};
use crate::{
    limits,
    message::{Heartbeat, HeartbeatReply, Message, Watermark},
    planted::planted,
    replica::PeerStatus,
    types::{Ballot, Instant, MemberRole, Membership, NodeId, Phase, Slot, earliest},
};

/// Rounds whose start is remembered: more than are ever unanswered within an election timeout.
const ROUNDS_KEPT: usize = 64;

/// The peers of a leader.
#[derive(Clone, Debug)]
pub(super) struct Followers {
    round: u64,
    /// When the latest rounds began.
    started: VecDeque<Instant>,
    next_beat: Instant,
    /// The quorum holds until then, if not longer: answers that came meanwhile are looked at then.
    holds_until: Option<Instant>,
    /// All that are talked to, in order.
    peers: Vec<Follower>,
}

#[derive(Clone, Debug)]
struct Follower {
    id: NodeId,
    /// When its last answer came.
    heard_at: Instant,
    round: u64,
    chosen: Slot,
    highest_accepted: Slot,
    can_write: bool,
    /// It is said to be gone, and nothing has come from it since.
    is_lost: bool,
}

impl Follower {
    fn new(id: NodeId, now: Instant) -> Follower {
        let (chosen, highest_accepted) = (Slot::ZERO, Slot::ZERO);
        let (round, can_write, is_lost) = (0, true, false);
        Follower { id, heard_at: now, round, chosen, highest_accepted, can_write, is_lost }
    }

    /// Whether it has answered lately.
    fn is_heard(&self, cx: &Context<'_>) -> bool {
        cx.now.since(self.heard_at) < cx.config.election_timeout
    }

    /// Whether it takes a value for `slot`, and does not have to catch up first. What it says of itself may be
    /// anything.
    fn has_room_for(&self, slot: Slot, ahead_max: u64) -> bool {
        slot.0 <= self.chosen.0.saturating_add(ahead_max)
    }
}

impl Followers {
    pub(super) fn begin(cx: &Context<'_>) -> Followers {
        let mut followers = Followers {
            round: 0,
            started: VecDeque::new(),
            next_beat: cx.now,
            holds_until: None,
            peers: Vec::new(),
        };
        followers.on_membership(cx);
        followers
    }

    /// Others are talked to, or other votes count.
    pub(super) fn on_membership(&mut self, cx: &Context<'_>) {
        let known = std::mem::take(&mut self.peers);
        let follower = |&id: &NodeId| {
            let known = known.iter().find(|peer| peer.id == id);
            known.cloned().unwrap_or_else(|| Follower::new(id, cx.now))
        };
        self.peers = cx.memberships.peers().iter().map(follower).collect();
        self.holds_until = self.quorum_lost_at(cx);
        // Those that are new have to hear of their leader at once.
        self.next_beat = cx.now;
    }

    /// The round begun last.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    pub(super) fn next_beat(&self) -> Instant {
        self.next_beat
    }

    /// Begins a round.
    pub(super) fn beat(&mut self, ballot: Ballot, chosen: Watermark, cx: &mut Context<'_>) {
        assert!(cx.now >= self.started.back().copied().unwrap_or_default(), "rounds are in order");
        self.round += 1;
        if self.started.len() == ROUNDS_KEPT {
            self.started.pop_front();
        }
        self.started.push_back(cx.now);
        self.next_beat = cx.now.after(cx.config.heartbeat_interval);
        cx.broadcast(Message::Heartbeat(Heartbeat { ballot, round: self.round, chosen }));
    }

    fn peer(&mut self, id: NodeId) -> Option<&mut Follower> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }

    /// A peer has answered something of this leadership.
    #[inline]
    pub(super) fn on_answer(&mut self, from: NodeId, now: Instant) {
        if let Some(peer) = self.peer(from) {
            peer.heard_at = peer.heard_at.max(now);
            peer.is_lost = false;
        }
    }

    /// A peer is said to be gone. It counts as before, but does not lead in place of this leader.
    pub(super) fn on_lost(&mut self, id: NodeId) {
        if let Some(peer) = self.peer(id) {
            peer.is_lost = true;
        }
    }

    /// Takes in an answer to a round; returns when that round began, if it is still known.
    pub(super) fn on_reply(
        &mut self,
        from: NodeId,
        reply: &HeartbeatReply,
        now: Instant,
    ) -> Option<Instant> {
        if reply.round > self.round {
            return None;
        }
        self.on_answer(from, now);
        let peer = self.peer(from)?;
        if reply.round >= peer.round {
            peer.round = reply.round;
            peer.can_write = reply.can_write;
        }
        peer.chosen = peer.chosen.max(reply.chosen.slot);
        peer.highest_accepted = peer.highest_accepted.max(reply.highest_accepted);
        let back = usize::try_from(self.round - reply.round).ok()?;
        self.started.iter().rev().nth(back).copied()
    }

    /// The latest round that a quorum has answered, or a later one; this node answers each.
    ///
    /// Of every membership in force: whoever has been elected since without any of these knows a slot chosen
    /// that this leader does not, and only from this leader.
    pub(super) fn confirmed_round(&self, cx: &Context<'_>) -> u64 {
        let by = |membership: &Arc<Membership>| {
            let needed = membership.quorum_size(Phase::Two);
            let needed = if planted!(ReadQuorumMinusOne) { needed.max(2) - 1 } else { needed };
            let own = membership.is_voter(cx.config.id).then_some(self.round);
            nth_highest(needed, self.voters(membership).map(|peer| peer.round).chain(own))
        };
        // Whoever has been added just now has not been heard yet.
        let confirmed =
            cx.memberships.in_force().map(|membership| by(membership).unwrap_or_default());
        let confirmed = confirmed.min().expect("one governs the next slot");
        assert!(confirmed <= self.round, "a round is answered once it has begun");
        confirmed
    }

    /// The peers that vote in a membership.
    fn voters(&self, membership: &Membership) -> impl Iterator<Item = &Follower> {
        self.peers.iter().filter(|peer| membership.is_voter(peer.id))
    }

    /// When the leader will have lost its quorum, if nobody is heard: an election timeout after
    /// the last peer that it needs beside itself was. `None` if it needs none.
    fn quorum_lost_at(&self, cx: &Context<'_>) -> Option<Instant> {
        if planted!(QuorumLossIgnored) {
            return None;
        }
        let by = |membership: &Arc<Membership>| {
            let own = usize::from(membership.is_voter(cx.config.id));
            let needed = membership.quorum_size(Phase::Two) - own;
            nth_highest(needed, self.voters(membership).map(|peer| peer.heard_at))
        };
        let heard_at = cx.memberships.in_force().filter_map(by).min()?;
        Some(heard_at.after(cx.config.election_timeout))
    }

    #[inline]
    pub(super) fn is_quorum_lost(&mut self, cx: &Context<'_>) -> bool {
        let is_late = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= cx.now);
        if is_late(self.holds_until) {
            self.holds_until = self.quorum_lost_at(cx);
        }
        is_late(self.holds_until)
    }

    /// When to begin a round, or to look whether the quorum is lost.
    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        earliest([Some(self.next_beat), self.holds_until])
    }

    /// Whether a peer answers and has all but what may be in flight.
    pub(super) fn keeps_up(
        &self,
        id: NodeId,
        chosen: Slot,
        ahead_max: u64,
        cx: &Context<'_>,
    ) -> bool {
        self.peers.iter().find(|peer| peer.id == id).is_some_and(|peer| {
            peer.round > 0 && peer.is_heard(cx) && peer.has_room_for(chosen, ahead_max)
        })
    }

    /// Whether a peer could lead in place of this leader, as far as is known of it.
    pub(super) fn check_successor(
        &self,
        id: NodeId,
        chosen: Slot,
        cx: &Context<'_>,
    ) -> Result<(), TransferRefusal> {
        let newest = cx.memberships.newest();
        let is_heard = |peer: &&Follower| peer.id == id && peer.is_heard(cx) && !peer.is_lost;
        match (newest.role(id), self.peers.iter().find(is_heard)) {
            (None, _) => Err(TransferRefusal::NotAMember(id)),
            (Some(role), _) if role != MemberRole::Voter => Err(TransferRefusal::NotAVoter(id)),
            (_, None) => Err(TransferRefusal::Silent(id)),
            (_, Some(peer)) if !peer.can_write => Err(TransferRefusal::CannotWrite(id)),
            (_, Some(peer)) if peer.round > 0 && !peer.has_room_for(chosen, newest.ahead_max()) => {
                Err(TransferRefusal::Behind(id))
            }
            _ => Ok(()),
        }
    }

    /// Of those that could lead in place of this leader, the one that has most.
    pub(super) fn best_successor(&self, chosen: Slot, cx: &Context<'_>) -> Option<NodeId> {
        let can = |peer: &&Follower| self.check_successor(peer.id, chosen, cx).is_ok();
        let best =
            self.peers.iter().filter(can).max_by_key(|peer| (peer.chosen, peer.highest_accepted));
        best.map(|peer| peer.id)
    }

    /// Whether a peer has said that it knows everything up to `chosen` to be chosen.
    pub(super) fn has_learned(&self, id: NodeId, chosen: Slot) -> bool {
        self.peers.iter().any(|peer| peer.id == id && peer.chosen >= chosen)
    }

    /// Whether too few of those that the leader hears can write, itself included, or it takes no work
    /// itself, although others could be enough to lead. Those that it hears are a quorum.
    #[inline]
    pub(super) fn cannot_write(
        &self,
        leader_can_write: bool,
        leader_takes_work: bool,
        cx: &Context<'_>,
    ) -> bool {
        assert!(leader_takes_work || !leader_can_write, "what takes no work cannot write");
        let can_all_write = leader_can_write && self.peers.iter().all(|peer| peer.can_write);
        if can_all_write || planted!(QuorumLossIgnored) {
            return false;
        }
        let can = |membership: &Arc<Membership>| {
            self.can_replace(membership, leader_can_write, leader_takes_work, cx)
        };
        cx.memberships.in_force().any(can)
    }

    /// As above, as far as the quorums of one membership go.
    fn can_replace(
        &self,
        membership: &Membership,
        leader_can_write: bool,
        leader_takes_work: bool,
        cx: &Context<'_>,
    ) -> bool {
        let heard = self.voters(membership).filter(|peer| peer.is_heard(cx));
        let heard = heard.map(|peer| peer.can_write);
        let own = membership.is_voter(cx.config.id).then_some(leader_can_write);
        let (mut writers, mut may_write) = (0, membership.voters().count());
        for can_write in heard.chain(own) {
            writers += usize::from(can_write);
            may_write -= usize::from(!can_write);
        }
        assert!(writers <= may_write, "who writes may write");
        let [phase_one, phase_two] = Phase::BOTH.map(|phase| membership.quorum_size(phase));
        let are_too_few = writers < phase_two && !planted!(UselessFollowersCount);
        let refuses_work = !leader_takes_work && !planted!(OverloadedLeaderStays);
        (are_too_few || refuses_work) && may_write >= phase_one.max(phase_two)
    }

    /// Whether enough of those that the leader hears could vote for `slot`, itself included: their disks
    /// bring writes to their end, and they are not so far behind that they have to catch up first.
    pub(super) fn can_choose(&self, slot: Slot, leader_can_write: bool, cx: &Context<'_>) -> bool {
        let membership = cx.memberships.governing(slot);
        let could_vote = |peer: &Follower| {
            peer.is_heard(cx) && peer.can_write && peer.has_room_for(slot, membership.ahead_max())
        };
        membership.has_quorum(&[Phase::Two], |voter| match voter == cx.config.id {
            true => leader_can_write,
            false => self.peers.iter().find(|peer| peer.id == voter).is_some_and(could_vote),
        })
    }

    pub(super) fn status(&self, now: Instant) -> impl Iterator<Item = PeerStatus> {
        self.peers.iter().map(move |peer| PeerStatus {
            id: peer.id,
            chosen: peer.chosen,
            highest_accepted: peer.highest_accepted,
            silent_for: now.since(peer.heard_at),
        })
    }
}

/// The `n`th highest of `values`, counted from 1: what so many of them reach.
fn nth_highest<T: Ord + Copy + Default>(n: usize, values: impl Iterator<Item = T>) -> Option<T> {
    let mut sorted = [T::default(); limits::VOTERS_MAX];
    let mut len = 0;
    for value in values {
        let mut index = len;
        while index > 0 && sorted[index - 1] < value {
            sorted[index] = sorted[index - 1];
            index -= 1;
        }
        sorted[index] = value;
        len += 1;
    }
    sorted[..len].get(n.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn so_many_reach_the_nth_highest(
            values in prop::collection::vec(0..5u64, 0..=limits::VOTERS_MAX), n in 0..12usize,
        ) {
            let mut sorted = values.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let expected = n.checked_sub(1).and_then(|index| sorted.get(index).copied());
            prop_assert_eq!(nth_highest(n, values.into_iter()), expected);
        }
    }
}
