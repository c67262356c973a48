//! What a replica shows of itself.

use std::{sync::Arc, time::Duration};

use super::{Proposing, Replica};
use crate::{
    port::RefusedPeer,
    types::{Ballot, Instant, Membership, NodeId, Slot},
};

/// What a replica is doing about leadership.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// It follows a leader or waits for one.
    #[default]
    Follower,
    /// It asks the others whether they would promise it a ballot.
    Polling,
    /// It gathers promises.
    Preparing,
    /// It leads.
    Leading,
}

/// A snapshot of a replica's state, for people and for tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The node.
    pub id: NodeId,
    /// What it is doing.
    pub role: Role,
    /// The newest membership that it knows.
    pub membership: Arc<Membership>,
    /// The leader it knows to be alive, itself included.
    pub leader: Option<NodeId>,
    /// The leader's ballot, or else the highest promised.
    pub ballot: Ballot,
    /// To whom this node is handing over the leadership.
    pub handing_over_to: Option<NodeId>,
    /// Every slot up to here is known chosen.
    pub chosen: Slot,
    /// Every slot up to here is applied.
    pub applied: Slot,
    /// The highest slot accepted.
    pub highest_accepted: Slot,
    /// The slot of the newest checkpoint: a restart replays what is behind it.
    pub checkpoint: Slot,
    /// Every slot up to here is compacted: gone from the log.
    pub floor: Slot,
    /// The state of a peer that this node is fetching, as far as it has come.
    pub fetching: Option<FetchStatus>,
    /// States of peers taken over since this node started.
    pub states_taken_over: u64,
    /// States sent to peers, to their end, since this node started.
    pub states_sent: u64,
    /// This node's commands without a result yet.
    pub outstanding: usize,
    /// Commands that wait here for a slot.
    pub queued: usize,
    /// So much waits for its disk that it takes nothing more until half of that is written.
    pub is_disk_behind: bool,
    /// Its disk is full: it takes nothing until there is room.
    pub is_disk_full: bool,
    /// The log has commands of a later life of this node: its data directory was put back from an older copy
    /// and may have forgotten votes that others count on. Replace the member.
    pub is_older_copy: bool,
    /// The peers that refuse this node or that it refuses, and why, in order of their ids. A node knows them from
    /// its transport; a replica by itself knows of none.
    pub refusals: Vec<RefusedPeer>,
    /// The others, as far as a leader knows them; empty on a follower.
    pub peers: Vec<PeerStatus>,
}

/// How far a state has come on its way here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchStatus {
    /// It is as of this slot.
    pub slot: Slot,
    /// So much of it is here, in bytes.
    pub bytes: u64,
}

/// What a leader knows of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The node.
    pub id: NodeId,
    /// Its chosen watermark.
    pub chosen: Slot,
    /// The highest slot it has accepted.
    pub highest_accepted: Slot,
    /// Time since its last answer.
    pub silent_for: Duration,
}

impl<W> Replica<W> {
    /// Whether it fetches a state or sends one, for whoever wants to disturb that.
    #[cfg(feature = "sim")]
    pub(crate) fn transfers_state(&self) -> bool {
        self.catchup.is_fetching() || self.serving.is_sending()
    }

    /// The newest membership that it knows.
    #[must_use]
    pub fn membership(&self) -> &Arc<Membership> {
        self.memberships.newest()
    }

    /// A snapshot of its state at `now`.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let mut status = Status {
            id: self.config.id,
            role: Role::Follower,
            membership: Arc::clone(self.memberships.newest()),
            leader: None,
            ballot: Ballot::ZERO,
            handing_over_to: None,
            chosen: Slot::ZERO,
            applied: Slot::ZERO,
            highest_accepted: Slot::ZERO,
            checkpoint: Slot::ZERO,
            floor: Slot::ZERO,
            fetching: None,
            states_taken_over: 0,
            states_sent: 0,
            outstanding: 0,
            queued: 0,
            is_disk_behind: false,
            is_disk_full: false,
            is_older_copy: false,
            refusals: Vec::new(),
            peers: Vec::new(),
        };
        self.update_status(&mut status, now);
        status
    }

    /// Brings a snapshot of this replica up to date.
    pub fn update_status(&self, status: &mut Status, now: Instant) {
        status.peers.clear();
        let (role, leader, ballot) = match &self.proposing {
            Proposing::Leading(leading, followers) => {
                status.peers.extend(followers.status(now));
                (Role::Leading, Some(self.config.id), Some(leading.ballot()))
            }
            Proposing::Preparing(preparing) => (Role::Preparing, None, Some(preparing.ballot())),
            Proposing::Not => {
                let polling = self.election.is_polling();
                let role = if polling { Role::Polling } else { Role::Follower };
                let leader = self.election.leader();
                (role, leader.map(|ballot| ballot.node), leader)
            }
        };
        let newest = self.memberships.newest();
        if !Arc::ptr_eq(&status.membership, newest) {
            status.membership = Arc::clone(newest);
        }
        (status.role, status.leader) = (role, leader);
        status.ballot = ballot.unwrap_or(self.acceptor.promised());
        status.handing_over_to = self.handovers.under_way();
        status.chosen = self.learner.chosen().slot;
        status.applied = self.learner.applied();
        status.highest_accepted = self.acceptor.log().highest();
        status.checkpoint = self.checkpoints.slot();
        status.floor = self.acceptor.log().floor();
        let fetched = self.catchup.fetched();
        status.fetching = fetched.map(|(slot, bytes)| FetchStatus { slot, bytes });
        status.states_taken_over = self.checkpoints.taken_over();
        status.states_sent = self.serving.sent();
        status.outstanding = self.origin.open();
        status.queued = self.queue.len();
        status.is_disk_behind = self.out.backlog().is_behind();
        status.is_disk_full = self.disk_full;
        status.is_older_copy = self.is_older_copy;
    }
}
