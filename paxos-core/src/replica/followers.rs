//! What a leader knows of the others: who answers, and how far they are.
//!
//! A leader that has not heard from a quorum for an election timeout is not connected to one, steps
//! down, and goes quiet. A round of heartbeats that a quorum has answered confirms that no higher
//! ballot had been promised by a quorum when the round began.

use std::collections::{BTreeMap, VecDeque};

use super::context::Context;
use crate::{
    message::{Heartbeat, HeartbeatReply, Message, Watermark},
    planted::planted,
    replica::PeerStatus,
    types::{Ballot, Instant, Membership, NodeId, Phase, Slot},
};

/// Rounds whose start is remembered: more than are ever unanswered within an election timeout.
const ROUNDS_KEPT: usize = 64;

/// The peers of a leader.
#[derive(Clone, Debug)]
pub(super) struct Followers {
    round: u64,
    started: VecDeque<(u64, Instant)>,
    next_beat: Instant,
    peers: BTreeMap<NodeId, Follower>,
}

#[derive(Clone, Debug)]
struct Follower {
    heard_at: Instant,
    round: u64,
    chosen: Slot,
    highest_accepted: Slot,
}

impl Followers {
    pub(super) fn begin(cx: &Context<'_>) -> Followers {
        let follower = || Follower {
            heard_at: cx.now,
            round: 0,
            chosen: Slot::ZERO,
            highest_accepted: Slot::ZERO,
        };
        let peers = cx.memberships.current().peers_of(cx.config.id);
        Followers {
            round: 0,
            started: VecDeque::new(),
            next_beat: cx.now,
            peers: peers.map(|peer| (peer, follower())).collect(),
        }
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
        self.round += 1;
        if self.started.len() == ROUNDS_KEPT {
            self.started.pop_front();
        }
        self.started.push_back((self.round, cx.now));
        self.next_beat = cx.now.after(cx.config.heartbeat_interval);
        cx.broadcast(&Message::Heartbeat(Heartbeat { ballot, round: self.round, chosen }));
    }

    /// A peer has answered something of this leadership.
    pub(super) fn heard(&mut self, from: NodeId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.heard_at = peer.heard_at.max(now);
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
        self.heard(from, now);
        let peer = self.peers.get_mut(&from)?;
        peer.round = peer.round.max(reply.round);
        peer.chosen = peer.chosen.max(reply.chosen);
        peer.highest_accepted = peer.highest_accepted.max(reply.highest_accepted);
        self.started.iter().find(|(round, _)| *round == reply.round).map(|&(_, at)| at)
    }

    /// The latest round that a quorum has answered, or a later one; this node answers each.
    pub(super) fn confirmed_round(&self, cx: &Context<'_>) -> u64 {
        let needed = cx.memberships.current().quorum_size(Phase::Two);
        let needed = if planted!(ReadQuorumMinusOne) { needed.max(2) - 1 } else { needed };
        let mut rounds: Vec<_> = self.peers.values().map(|peer| peer.round).collect();
        rounds.push(self.round);
        rounds.sort_unstable();
        rounds[rounds.len() - needed]
    }

    /// When the last peer that the leader needs beside itself was heard; `None` if it needs none.
    /// An election timeout later the quorum is lost.
    pub(super) fn quorum_heard_at(&self, membership: &Membership) -> Option<Instant> {
        let peers_needed = membership.quorum_size(Phase::Two) - 1;
        let mut heard: Vec<_> = self.peers.values().map(|peer| peer.heard_at).collect();
        heard.sort_unstable_by(|a, b| b.cmp(a));
        heard.get(peers_needed.checked_sub(1)?).copied()
    }

    pub(super) fn status(&self, now: Instant) -> Vec<PeerStatus> {
        let status = |(&id, peer): (&NodeId, &Follower)| PeerStatus {
            id,
            chosen: peer.chosen,
            highest_accepted: peer.highest_accepted,
            silent_for: now.since(peer.heard_at),
        };
        self.peers.iter().map(status).collect()
    }
}
