//! What goes into a replica and what comes out.

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use bytes::Bytes;
use smallvec::SmallVec;

use super::handover::TransferOutcome;
use crate::{
    message::{Message, NotReady, Record, StateDigest},
    port::WriteBatch,
    types::{
        Change, ChangeError, Instant, Membership, NodeId, Peer, ReadMode, RequestId, Slot, Value,
    },
};

/// A command of this node's own, and who waits for what becomes of it.
#[derive(Clone, Debug)]
pub struct Proposal<W> {
    /// Its name, if it has one: an embedder's client's. A command without one gets the next number
    /// of this node's own.
    pub id: Option<RequestId>,
    /// The command.
    pub command: Bytes,
    /// When to let the waiter go, answered or not.
    pub deadline: Instant,
    /// Whom to answer: whatever the driver makes of it. It comes back with the [`Outcome`].
    pub waiter: W,
}

/// Something that happened, for [`Replica::step`](super::Replica::step).
#[derive(Clone, Debug)]
pub enum Input<W> {
    /// A message came in.
    Message {
        /// Its sender.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// The transport [says](crate::port::Event::Lost) that a peer is gone: there is no need to wait until it
    /// has been silent for long. That may be wrong, or may never come.
    Lost(NodeId),
    /// A command of this node's own. It is kept, forwarded and proposed again until it is
    /// delivered or its deadline has passed; its waiter comes back from
    /// [`Replica::answers`](super::Replica::answers).
    Propose(Proposal<W>),
    /// A read of this node's own.
    Read {
        /// Its name, never reused in this incarnation.
        number: u64,
        /// What it promises.
        mode: ReadMode,
    },
    /// Nobody waits for this read any more.
    GiveUpRead {
        /// Its name.
        number: u64,
    },
    /// Every write up to this one is durable.
    Persisted(WriteId),
    /// The answer to [`Effects::log_reads`].
    LogRead {
        /// The request it answers.
        id: LogReadId,
        /// What [`Storage::read`](crate::port::Storage::read) returned.
        records: Vec<Record>,
    },
    /// The answer to [`Effects::state_reads`].
    StateRead {
        /// The request it answers.
        id: StateReadId,
        /// The next piece of the state; nothing at its end.
        bytes: Bytes,
    },
    /// The state machine has applied every slot up to `slot`, or has a state put in place that is as of it.
    Applied {
        /// The last slot applied.
        slot: Slot,
        /// What [`StateMachine::durable`](crate::port::StateMachine::durable) says: of one that keeps
        /// itself, the last slot that would survive a crash.
        durable: Option<Slot>,
    },
    /// The answer to [`Task::Digest`], if the state machine gives one.
    Digested(StateDigest),
    /// A change of the membership is asked for. What becomes of it is in [`Effects::changes`].
    Change {
        /// Its name, for the answer.
        number: u64,
        /// The change.
        change: Change,
        /// Until when to try.
        deadline: Instant,
    },
    /// This node, which leads, is asked to hand that over. What becomes of it is in [`Effects::transfers`].
    Transfer {
        /// Its name, for the answer.
        number: u64,
        /// Who is to lead; `None` for whoever is best.
        to: Option<NodeId>,
        /// Until when to try.
        deadline: Instant,
    },
    /// The disk is full, or has room again. While it is full the replica does not lead and takes
    /// no proposals.
    DiskFull(bool),
    /// Time has passed.
    Tick,
}

/// What has become of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has had its effect, as command `index` of `slot`, which the state machine has applied:
    /// the response to it is the answer.
    Applied {
        /// The slot.
        slot: Slot,
        /// Where it stands in the slot's batch.
        index: usize,
    },
    /// It was not taken, or is not to be applied again.
    Refused(Refusal),
    /// Its deadline has passed. It may have had effect, or may still have.
    Unknown,
}

/// Numbers the writes of a replica, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Names a request to read the log; never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogReadId(pub u64);

/// Names a request to read a state; never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateReadId(pub u64);

/// Names a snapshot of the state machine; never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub u64);

/// What the driver has to do after a step.
///
/// What must not leave before the disk is not here yet: the replica holds a Promise or an Accepted
/// back until [`Input::Persisted`] reports the write that carries it. So the fields may be worked
/// off in any order and at the same time, but for two rules: writes in the order of their ids, and
/// `tasks` before `reads_ready`.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// Messages that may leave now, each to every other node that is talked to: see
    /// [`peers`](Effects::peers).
    pub broadcast: Vec<Message>,
    /// Messages that may leave now, each to one node.
    pub send: Vec<(NodeId, Message)>,
    /// To be made durable. Batches may be merged; [`Input::Persisted`] with the last id then
    /// stands for all of them.
    pub persist: Option<(WriteId, WriteBatch)>,
    /// Log records the replica needs back from the storage.
    pub log_reads: Vec<LogRead>,
    /// Pieces of states that the replica needs.
    pub state_reads: Vec<StateRead>,
    /// Snapshots that nobody reads any more.
    pub let_go: Vec<SnapshotId>,
    /// What the state machine is to do, in this order.
    pub tasks: Vec<Task>,
    /// Reads that may be served once all tasks so far, this step included, are done.
    pub reads_ready: Vec<u64>,
    /// Reads that were not taken because too many wait.
    pub reads_refused: Vec<u64>,
    /// What has become of changes of the membership.
    pub changes: Vec<(u64, ChangeOutcome)>,
    /// What has become of transfers of the leadership.
    pub transfers: Vec<(u64, TransferOutcome)>,
    /// From now on [`broadcast`](Effects::broadcast) goes to these nodes, and they are where this says.
    pub peers: Option<Vec<Peer>>,
    /// The replica must not go on, and the step has no other effect.
    pub halt: Option<Halt>,
}

impl Effects {
    /// Takes over what is in the lists of `made`, and leaves it the room of those it has itself.
    pub(super) fn replace_with(&mut self, made: &mut Effects) {
        fn swap<T>(list: &mut Vec<T>, made: &mut Vec<T>) {
            list.clear();
            if !made.is_empty() {
                std::mem::swap(list, made);
            }
        }
        swap(&mut self.broadcast, &mut made.broadcast);
        swap(&mut self.send, &mut made.send);
        swap(&mut self.log_reads, &mut made.log_reads);
        swap(&mut self.state_reads, &mut made.state_reads);
        swap(&mut self.let_go, &mut made.let_go);
        swap(&mut self.tasks, &mut made.tasks);
        swap(&mut self.reads_ready, &mut made.reads_ready);
        swap(&mut self.reads_refused, &mut made.reads_refused);
        swap(&mut self.changes, &mut made.changes);
        swap(&mut self.transfers, &mut made.transfers);
        self.peers = made.peers.take();
        // The rest is made when the step is over.
        (self.persist, self.halt) = (None, None);
    }

    /// Addresses each message that goes to every other voter, for a driver that sends one by one.
    pub fn address(&mut self, peers: impl Iterator<Item = NodeId> + Clone) {
        if self.broadcast.is_empty() {
            return;
        }
        for message in self.broadcast.drain(..) {
            self.send.extend(peers.clone().map(|peer| (peer, message.clone())));
        }
    }
}

/// A request to the storage. Answered by [`Input::LogRead`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRead {
    /// Names the request.
    pub id: LogReadId,
    /// Which slots.
    pub slots: RangeInclusive<Slot>,
    /// The limit for [`Storage::read`](crate::port::Storage::read).
    pub bytes_max: usize,
}

/// A request for the next piece of a state. Answered by [`Input::StateRead`]. If the state cannot be
/// read, the node must not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRead {
    /// Names the request.
    pub id: StateReadId,
    /// Of which state.
    pub source: StateSource,
    /// The piece is at most as long.
    pub bytes_max: usize,
}

/// Where a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateSource {
    /// A snapshot, from where the last read of it ended. Its [`Task::Freeze`] need not be done yet; then
    /// the answer waits for it. One request at a time.
    Snapshot(SnapshotId),
    /// The storage: for [`Storage::read_state`](crate::port::Storage::read_state).
    Stored {
        /// As of which slot.
        slot: Slot,
        /// Where the piece begins.
        offset: u64,
    },
}

/// What the state machine is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Apply a chosen slot. They come in order, each once.
    Apply(Delivery),
    /// Take a snapshot, under this name.
    Freeze(SnapshotId),
    /// Say what [`StateMachine::digest`](crate::port::StateMachine::digest) is after this slot, the last one
    /// handed over, as [`Input::Digested`]; nothing if the state machine gives none, or is ahead.
    Digest(Slot),
    /// Put the state in place that the storage has as of this slot, unless the state is as new already,
    /// and report it as [`Input::Applied`]. The next slot is the one behind it.
    Restore(Slot),
}

impl Task {
    /// The slot that is to be applied, if it is one.
    #[must_use]
    pub fn delivery(&self) -> Option<&Delivery> {
        match self {
            Task::Apply(delivery) => Some(delivery),
            Task::Freeze(_) | Task::Digest(_) | Task::Restore(_) => None,
        }
    }
}

/// A chosen slot, for the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The slot.
    pub slot: Slot,
    /// What was chosen.
    pub value: Value,
    /// What at-most-once says about the commands of a batch, covering them all in order.
    pub verdicts: Verdicts,
}

/// Verdicts on consecutive commands of a batch. Usually there is one, on all of them.
pub type Verdicts = SmallVec<[(Range<usize>, Verdict); 1]>;

/// What is to be done with a chosen command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Apply it.
    Fresh,
    /// Skip it: it has had its effect in an earlier slot.
    Duplicate,
    /// Skip it: its client has a newer epoch, has settled it, or has been forgotten. Whether it
    /// had effect before is no longer known.
    Expired,
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too many commands wait for their result already, or too much for the disk.
    #[error("too many commands are waiting: try again later")]
    Busy,
    /// The command exceeds the limit.
    #[error("the command is larger than the limit")]
    TooLarge,
    /// A command of this name is waiting already, or its sequence number has been passed.
    #[error("the request id has been used")]
    IdUsed,
    /// The disk is full.
    #[error("the disk is full: free some space and try again")]
    DiskFull,
    /// It was proposed before under the same name, and has had its effect in an earlier slot.
    #[error("a command with this request id has been applied before")]
    AlreadyApplied,
    /// Its client has a newer epoch or has settled it. Whether it had effect before is no longer
    /// known.
    #[error("the request id is too old: use a new epoch")]
    Expired,
}

/// What has become of a change of the membership: the one that governs the next slot now.
pub type ChangeOutcome = Result<Arc<Membership>, ChangeRefusal>;

/// Why a change of the membership was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefusal {
    /// It makes no sense.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// One change at a time.
    #[error("another change of the membership is under way: try again when it is over")]
    Busy,
    /// Another change was chosen in place of this one.
    #[error("another change of the membership came first: look at what it is now, and try again")]
    Overtaken,
    /// The cluster could not go on with it.
    #[error(transparent)]
    NotReady(#[from] NotReady),
    /// Its time is over. It may have been made, or may still be.
    #[error("it is not known whether the change was made: look at the membership")]
    Unknown,
}

/// Why a replica must not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// This node has another log than a quorum of the others, or no quorum has one and the same.
    #[error(
        "the chosen log differs from that of a quorum at or before slot {slot}: this node's data is \
         damaged; replace it as a new member. If others have stopped for the same reason, no quorum \
         agrees: restore the cluster from a backup"
    )]
    Diverged {
        /// The watermark at which the hashes differ.
        slot: Slot,
    },
    /// This node is no member of the cluster any more.
    #[error("this node has been removed from the cluster: its data is of no use any more")]
    Removed,
    /// This node has another state than a quorum of the others after the same slots, or no quorum has one
    /// and the same.
    #[error(
        "the state after slot {slot} differs from that of a quorum: this node's state is damaged, replace it \
         as a new member; or the state machine is not deterministic. If others have stopped for the same \
         reason, no quorum agrees: mend the state machine, and restore the cluster from a backup"
    )]
    StateDiverged {
        /// The slot after which the digests differ.
        slot: Slot,
    },
    /// The storage does not return a record that it was given.
    #[error("the log has no record of slot {slot}, which it was given: replace this node")]
    Lost {
        /// The slot.
        slot: Slot,
    },
}
