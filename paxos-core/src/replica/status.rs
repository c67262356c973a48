//! What a replica tells of itself.

use std::time::Duration;

use crate::types::{Ballot, NodeId, Slot};

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
    /// The leader it knows to be alive, itself included.
    pub leader: Option<NodeId>,
    /// The leader's ballot, or else the highest promised.
    pub ballot: Ballot,
    /// Every slot up to here is known chosen.
    pub chosen: Slot,
    /// Every slot up to here is applied.
    pub applied: Slot,
    /// The highest slot accepted.
    pub highest_accepted: Slot,
    /// This node's commands without a result yet.
    pub outstanding: usize,
    /// Commands that wait here for a slot.
    pub queued: usize,
    /// The others, as far as a leader knows them; empty on a follower.
    pub peers: Vec<PeerStatus>,
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
