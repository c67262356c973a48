//! Every message of the protocol.
//!
//! The transport may lose, duplicate, delay and reorder them; the replica sends again by deadline.
//! Requests carry a number that their answer repeats, so that an answer is matched by what it
//! belongs to and never by a slot alone.
//!
//! A message is generic over what stands for a value: [`Value`] in memory, a length while it is
//! being encoded. The encoding is a small header (postcard) and behind it the values as they are,
//! so that no value is copied on the way out and each is a slice of the frame on the way in.

mod codec;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use codec::{Encoded, MessageError};

use crate::{
    port::StateSummary,
    types::{Ballot, ClientId, Membership, NodeId, RequestId, Slot, Value},
};

/// What two replicas say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message<V = Value> {
    /// A node without a leader, to all: would you promise me a ballot? Nothing durable.
    Poll(Poll),
    /// The answer to [`Message::Poll`].
    PollReply(PollReply),
    /// A candidate, to all (phase 1a): promise me this ballot for every slot from here on.
    Prepare(Prepare),
    /// An acceptor, once its promise is durable (phase 1b).
    Promise(Promise<V>),
    /// The leader, to all (phase 2a): accept this value.
    Accept(Accept<V>),
    /// An acceptor, once its votes are durable (phase 2b).
    Accepted(Accepted),
    /// An acceptor, to whoever came with a ballot below its promise.
    Reject(Reject),
    /// The leader, to all, when more is chosen and no Accept is about to say so.
    Chosen(ChosenUpTo),
    /// The leader, to all, at regular intervals and to confirm reads.
    Heartbeat(Heartbeat),
    /// The answer to [`Message::Heartbeat`]; waits for no disk.
    HeartbeatReply(HeartbeatReply),
    /// A node that has found another hash of the chosen prefix than its own, to all: what do you have?
    Compare(Compare),
    /// The answer to [`Message::Compare`], from whoever still knows.
    Compared(Compared),
    /// A node that misses chosen slots, to any peer.
    Pull(Pull),
    /// The answer to [`Message::Pull`].
    Pulled(Pulled<V>),
    /// A node that misses slots which a peer has compacted, to that peer: the next piece of a state.
    PullState(PullState),
    /// The answer to [`Message::PullState`].
    PulledState(PulledState),
    /// A node with commands of its own, to the leader or to whoever may know it.
    Propose(Propose),
    /// A node with linearizable reads, to the leader or to whoever may know it.
    Read(ReadRequest),
    /// The leader's answer to [`Message::Read`].
    ReadReply(ReadReply),
    /// A node that has applied a slot at which all say what their state is then, to all.
    StateDigest(StateDigest),
    /// A node with a change of the membership, to the leader.
    Reconfigure(Reconfigure),
    /// The leader's answer to a [`Message::Reconfigure`] that it does not carry out.
    ChangeRefused(ChangeRefused),
    /// A node that knows that the receiver has been removed from the cluster, to it.
    Removed(Removed),
    /// A node that joins, or does not vote and hears of no leader, to all: what did the cluster begin with, and how
    /// far is it?
    Join,
    /// The answer to [`Message::Join`].
    Joined(Joined),
    /// A node that has sent the leader a command again, or passed one on, to the leader: see that you have it.
    Offered(Offered),
    /// The leader, to the node that is to lead in its place: would the others promise you a ballot?
    Sound(Sound),
    /// The answer to [`Message::Sound`], once a quorum would.
    Sounded(Sounded),
    /// The leader, to the node that has answered so: everything is chosen, and I propose no more. Lead.
    TakeOver(TakeOver),
}

/// Which of a peer's lanes a message takes, so that bulk never delays a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Small and urgent: elections, heartbeats, reads.
    Control,
    /// The log in normal operation: proposals, accepts, votes.
    Log,
    /// Catching up.
    Bulk,
}

/// See [`Message::Poll`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poll {
    /// Names the poll; never reused by its sender.
    pub number: u64,
    /// The sender's chosen watermark.
    pub chosen: Slot,
    /// The ballot of a leader that has asked the sender to take over: that one is no reason against it.
    pub leave: Option<Ballot>,
}

/// See [`Message::PollReply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollReply {
    /// The poll it answers.
    pub number: u64,
    /// Whether the sender has heard of no live leader for the minimum timeout, and its promise
    /// would become durable.
    pub granted: bool,
    /// The highest ballot the sender knows of: the candidate's has to be above.
    pub promised: Ballot,
    /// The live leader's ballot, if the poll is refused because of one: the candidate can reach it
    /// through the sender.
    pub leader: Option<Ballot>,
    /// The sender's chosen watermark.
    pub chosen: Slot,
}

/// See [`Message::Prepare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The candidate's ballot.
    pub ballot: Ballot,
    /// Report from here on: the *candidate's* first slot not known chosen, or where the last page
    /// of the promise ended.
    pub from: Slot,
}

/// One page of a promise. See [`Message::Promise`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise<V = Value> {
    /// The ballot promised.
    pub ballot: Ballot,
    /// The `from` of the Prepare it answers.
    pub from: Slot,
    /// What the acceptor has accepted from there on, in order of slots. A slot at or below
    /// `chosen` that is missing was compacted: it is *chosen, fetch it*, never *empty*.
    pub records: Vec<Record<V>>,
    /// Where the next page starts; `None` on the last one.
    pub next: Option<Slot>,
    /// The acceptor's chosen watermark: records up to here hold the chosen values.
    pub chosen: Slot,
    /// The acceptor has compacted every slot up to here.
    pub floor: Slot,
}

/// What an acceptor has accepted in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<V = Value> {
    /// The slot.
    pub slot: Slot,
    /// The ballot of the vote; [`Ballot::CHOSEN`] if the value was learned as chosen instead.
    pub ballot: Ballot,
    /// The value.
    pub value: V,
}

/// How far the log is chosen, and a hash of the chosen prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Every slot up to here is chosen.
    pub slot: Slot,
    /// The chain hash of their values; equal watermarks have equal hashes.
    pub hash: u64,
}

/// See [`Message::Accept`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept<V = Value> {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The slot.
    pub slot: Slot,
    /// The value.
    pub value: V,
    /// The leader's chosen watermark.
    pub chosen: Watermark,
}

/// See [`Message::Accepted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The ballot of the votes.
    pub ballot: Ballot,
    /// The first slot voted for.
    pub first: Slot,
    /// The last one: a vote for every slot from the first to this one.
    pub last: Slot,
}

/// See [`Message::Reject`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// The ballot refused.
    pub ballot: Ballot,
    /// The promise that stands against it.
    pub promised: Ballot,
}

/// See [`Message::Chosen`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenUpTo {
    /// The leader's ballot. A slot up to the watermark is known chosen to whoever accepted it at
    /// this ballot, and to nobody else.
    pub ballot: Ballot,
    /// The leader's chosen watermark.
    pub chosen: Watermark,
}

/// See [`Message::Heartbeat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Names the round; never reused within the ballot. A quorum of answers to one round confirms
    /// every read that arrived before the round began.
    pub round: u64,
    /// The leader's chosen watermark.
    pub chosen: Watermark,
}

/// See [`Message::HeartbeatReply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The round it answers.
    pub round: u64,
    /// The sender's chosen watermark.
    pub chosen: Watermark,
    /// The highest slot the sender has accepted at any ballot: a lost last Accept shows here.
    pub highest_accepted: Slot,
    /// Whether the sender's disk has room, brings writes to their end and keeps up: it would vote.
    pub can_write: bool,
}

/// See [`Message::Compare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// What the sender has.
    pub at: Watermark,
}

/// See [`Message::Compared`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// The slot that was asked for.
    pub slot: Slot,
    /// The hash of the sender's chosen prefix up to there.
    pub hash: u64,
}

/// See [`Message::StateDigest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDigest {
    /// The last slot in the state.
    pub slot: Slot,
    /// What the state machine gives as the digest of the state then.
    pub digest: u64,
}

/// See [`Message::Reconfigure`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconfigure {
    /// What is to be the next one.
    pub membership: Arc<Membership>,
}

/// See [`Message::ChangeRefused`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRefused {
    /// The version of the membership that was asked for.
    pub version: u64,
    /// Why not.
    pub reason: NotReady,
}

/// Why a cluster could not go on with another membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NotReady {
    /// Whoever is made a voter has to have what has been chosen.
    #[error("node {0} has not caught up: wait until it has, and try again")]
    Behind(NodeId),
    /// Too few would be able to decide anything.
    #[error(
        "too few of the voters that this would leave answer and have caught up to be a quorum: start or replace \
         the others first"
    )]
    NoQuorum,
}

/// See [`Message::Removed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The newest version that the sender knows.
    pub version: u64,
}

/// See [`Message::Joined`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The membership that the cluster began with.
    pub first: Arc<Membership>,
    /// The sender's chosen watermark.
    pub chosen: Slot,
}

/// See [`Message::Sound`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sound {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Names the handover; never reused by its sender.
    pub number: u64,
}

/// See [`Message::Sounded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sounded {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The handover.
    pub number: u64,
}

/// See [`Message::TakeOver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakeOver {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The handover.
    pub number: u64,
    /// The leader's chosen watermark, above which it has proposed nothing.
    pub chosen: Slot,
}

/// See [`Message::Pull`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pull {
    /// Names the request; never reused by its sender.
    pub number: u64,
    /// The first slot missing.
    pub from: Slot,
    /// The last slot wanted.
    pub to: Slot,
}

/// See [`Message::Pulled`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulled<V = Value> {
    /// The request it answers.
    pub number: u64,
    /// Chosen values, consecutive from the first slot asked for. Empty if the sender knows no
    /// more, or has compacted it.
    pub values: Vec<(Slot, V)>,
    /// The sender's chosen watermark.
    pub chosen: Slot,
    /// The sender has compacted every slot up to here.
    pub floor: Slot,
}

/// See [`Message::PullState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullState {
    /// Names the request; never reused by its sender.
    pub number: u64,
    /// The sender's chosen watermark: a state as of a slot up to there is of no use.
    pub chosen: Slot,
    /// As of which slot the state is that the sender has begun to fetch; zero for none.
    pub slot: Slot,
    /// How much of it the sender has.
    pub offset: u64,
}

/// See [`Message::PulledState`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledState {
    /// The request it answers.
    pub number: u64,
    /// The slot that the state is as of, and the hash of the chosen prefix up to there.
    pub at: Watermark,
    /// Tells states as of one slot apart: those of one stamp have the same bytes.
    pub stamp: u64,
    /// Where the piece begins: where the sender of the request is, or at zero if that has begun to fetch
    /// another state than there is.
    pub offset: u64,
    /// The piece.
    pub bytes: bytes::Bytes,
    /// With the last piece: what makes a checkpoint of the state.
    pub end: Option<Box<StateEnd>>,
}

impl PulledState {
    /// The bytes of the piece and of the session table with it; the rest is small.
    pub fn payload_bytes(&self) -> usize {
        self.bytes.len() + self.end.as_ref().map_or(0, |end| end.sessions.len())
    }
}

/// The end of a state that is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateEnd {
    /// What all pieces together are.
    pub summary: StateSummary,
    /// The session table as of the state's slot.
    pub sessions: bytes::Bytes,
    /// The memberships that govern slots above the state's, encoded by the replica.
    pub memberships: bytes::Bytes,
}

/// Commands of one client in ascending order. See [`Message::Propose`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propose {
    /// Who numbered them.
    pub client: ClientId,
    /// The client's lowest unsettled sequence number, as in [`Run`](crate::types::Run).
    pub open_from: u64,
    /// Sequence number and command.
    pub commands: Vec<(u64, bytes::Bytes)>,
    /// How many nodes have passed it on: one at most, so that it never runs in circles.
    pub hops: u8,
}

impl Propose {
    /// What says beside it that it has gone, to the leader at this ballot; `None` if it is empty.
    pub(crate) fn offered(&self, ballot: Ballot) -> Option<Offered> {
        let &(sequence, _) = self.commands.first()?;
        let id = RequestId { client: self.client, sequence };
        Some(Offered { ballot, id, bytes: self.bytes() })
    }

    /// What its commands measure.
    pub(crate) fn bytes(&self) -> u64 {
        self.commands.iter().map(|(_, command)| command.len() as u64).sum()
    }
}

/// See [`Message::Offered`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The command that the sender has, and the first of those that went with it.
    pub id: RequestId,
    /// What these measure together.
    pub bytes: u64,
}

/// See [`Message::Read`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadRequest {
    /// Who reads, even if another node passed the request on.
    pub client: ClientId,
    /// Names the reads that wait at the client; never reused by it.
    pub number: u64,
    /// How many nodes have passed it on: one at most.
    pub hops: u8,
}

/// See [`Message::ReadReply`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadReply {
    /// The client of the request.
    pub client: ClientId,
    /// The request it answers.
    pub number: u64,
    /// A state that has applied this slot is new enough.
    pub index: Slot,
}

impl<V> Message<V> {
    /// The lane it takes.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Message::Poll(_)
            | Message::PollReply(_)
            | Message::Prepare(_)
            | Message::Reject(_)
            | Message::Heartbeat(_)
            | Message::HeartbeatReply(_)
            | Message::Compare(_)
            | Message::Compared(_)
            | Message::StateDigest(_)
            | Message::Reconfigure(_)
            | Message::ChangeRefused(_)
            | Message::Removed(_)
            | Message::Join
            | Message::Joined(_)
            | Message::Offered(_)
            | Message::Sound(_)
            | Message::Sounded(_)
            | Message::TakeOver(_)
            | Message::Read(_)
            | Message::ReadReply(_) => Lane::Control,
            Message::Accept(_)
            | Message::Accepted(_)
            | Message::Chosen(_)
            | Message::Propose(_) => Lane::Log,
            Message::Promise(_)
            | Message::Pull(_)
            | Message::Pulled(_)
            | Message::PullState(_)
            | Message::PulledState(_) => Lane::Bulk,
        }
    }

    /// Whether it brings what the receiver would have to write, or to propose.
    pub(crate) fn brings_values(&self) -> bool {
        match self {
            Message::Promise(promise) => !promise.records.is_empty(),
            Message::Accept(_)
            | Message::Pulled(_)
            | Message::PulledState(_)
            | Message::Propose(_) => true,
            _ => false,
        }
    }

    /// The same message with `convert` applied to every value, in the order in which they stand.
    fn try_map<W, E>(self, mut convert: impl FnMut(V) -> Result<W, E>) -> Result<Message<W>, E> {
        Ok(match self {
            Message::Poll(m) => Message::Poll(m),
            Message::PollReply(m) => Message::PollReply(m),
            Message::Prepare(m) => Message::Prepare(m),
            Message::Promise(Promise { ballot, from, records, next, chosen, floor }) => {
                let mut record = |Record { slot, ballot, value }| {
                    Ok(Record { slot, ballot, value: convert(value)? })
                };
                let records = records.into_iter().map(&mut record).collect::<Result<_, E>>()?;
                Message::Promise(Promise { ballot, from, records, next, chosen, floor })
            }
            Message::Accept(Accept { ballot, slot, value, chosen }) => {
                Message::Accept(Accept { ballot, slot, value: convert(value)?, chosen })
            }
            Message::Accepted(m) => Message::Accepted(m),
            Message::Reject(m) => Message::Reject(m),
            Message::Chosen(m) => Message::Chosen(m),
            Message::Heartbeat(m) => Message::Heartbeat(m),
            Message::HeartbeatReply(m) => Message::HeartbeatReply(m),
            Message::Compare(m) => Message::Compare(m),
            Message::Compared(m) => Message::Compared(m),
            Message::Pull(m) => Message::Pull(m),
            Message::Pulled(Pulled { number, values, chosen, floor }) => {
                let values = values
                    .into_iter()
                    .map(|(slot, value)| Ok((slot, convert(value)?)))
                    .collect::<Result<_, E>>()?;
                Message::Pulled(Pulled { number, values, chosen, floor })
            }
            Message::PullState(m) => Message::PullState(m),
            Message::PulledState(m) => Message::PulledState(m),
            Message::Propose(m) => Message::Propose(m),
            Message::Read(m) => Message::Read(m),
            Message::ReadReply(m) => Message::ReadReply(m),
            Message::StateDigest(m) => Message::StateDigest(m),
            Message::Reconfigure(m) => Message::Reconfigure(m),
            Message::ChangeRefused(m) => Message::ChangeRefused(m),
            Message::Removed(m) => Message::Removed(m),
            Message::Join => Message::Join,
            Message::Joined(m) => Message::Joined(m),
            Message::Offered(m) => Message::Offered(m),
            Message::Sound(m) => Message::Sound(m),
            Message::Sounded(m) => Message::Sounded(m),
            Message::TakeOver(m) => Message::TakeOver(m),
        })
    }
}
