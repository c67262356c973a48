//! What can go wrong with a node, and what to do about it.

use std::time::Duration;

use crate::{
    port::{CodecError, StorageError, TransportError},
    replica::{ChangeRefusal, Halt, Refusal, ReplicaError, TransferRefusal},
    types::Slot,
};

/// Why a node did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The builder was not told what to use.
    #[error("a node needs a {0}: give it one with NodeBuilder::{0}")]
    Missing(&'static str),
    /// The replica cannot start with these settings or from this storage.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The storage cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The transport cannot start.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Why a node has stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// It was asked to, or its last handle was dropped.
    #[error("the node has been shut down")]
    ShutDown,
    /// The storage failed. After a failed write nothing may be written any more, so the node cannot
    /// keep its promises.
    #[error("the storage failed: {0}")]
    Storage(#[from] StorageError),
    /// The replica refuses to go on.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// The transport was closed by somebody else.
    #[error("the transport was closed under the node: leave closing it to Node::shutdown")]
    TransportClosed,
    /// The state machine breaks its contract.
    #[error(
        "the state machine returned {responses} responses to {commands} commands of slot {slot}"
    )]
    Responses {
        /// The slot.
        slot: Slot,
        /// How many commands it was given.
        commands: usize,
        /// How many responses it gave.
        responses: usize,
    },
    /// The state machine's data belongs to another log.
    #[error(
        "the state machine says it has applied slot {slot}, which has only now been chosen: its \
         data belongs to another log; start it with the data of this node"
    )]
    StateMachineAhead {
        /// The slot.
        slot: Slot,
    },
    /// The state machine cannot go on.
    #[error("the state machine cannot go on: {0}")]
    StateMachine(String),
    /// The log has a command that was proposed with another [`Codec`](crate::port::Codec), or by a newer version of
    /// the program.
    #[error("command {index} of slot {slot} cannot be applied: {reason}")]
    OtherFormat {
        /// The slot.
        slot: Slot,
        /// Where in the slot's batch.
        index: usize,
        /// What the codec says.
        reason: CodecError,
    },
    /// The state machine's state cannot be read.
    #[error("the state machine's snapshot cannot be read: {0}")]
    Snapshot(String),
    /// The state of a checkpoint cannot be put in place.
    #[error(
        "the state as of slot {slot} cannot be put in place of the state machine's: {reason}; check \
         that every node runs the same version, then start this node again or replace it"
    )]
    Restore {
        /// The slot.
        slot: Slot,
        /// What the state machine says.
        reason: String,
    },
    /// It was to end, and something of it goes on: a state machine or a disk that does not come back.
    #[error(
        "the node has ended without {left}, which has not come to its end within {patience:?}: threads, files \
         and locks of it stay until it does; if it never does, end the process"
    )]
    Unfinished {
        /// What goes on.
        left: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// [`Node::shutdown`](crate::Node::shutdown) or [`stopped`](crate::Node::stopped) was waited for inside the
    /// node's own state machine. The node ends once that has returned.
    #[error(
        "the end of a node cannot be waited for inside its own state machine, which would wait for itself: \
         wait on another task"
    )]
    WithinStateMachine,
    /// An invariant is broken, or the state machine panicked.
    #[error("the {task} panicked: {message}")]
    Panicked {
        /// Which part of the node.
        task: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The runtime that the node ran on is gone.
    #[error("the tokio runtime of the node has ended")]
    RuntimeEnded,
}

/// Why the membership was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeMembersError {
    /// The change was not made, or it is not known whether it was.
    #[error(transparent)]
    Refused(ChangeRefusal),
    /// The node has stopped.
    #[error("{0}")]
    Stopped(NodeError),
}

/// Why the leadership was not transferred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// It was not, or it is not known whether it was.
    #[error(transparent)]
    Refused(TransferRefusal),
    /// The node has stopped.
    #[error("{0}")]
    Stopped(NodeError),
}

/// Why a proposal has no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too much waits already. The command has no effect.
    #[error("too many commands are waiting: try again later")]
    Busy,
    /// The command exceeds `command_bytes_max`, or a batch what may wait at once. It has no effect.
    #[error("the command is larger than the limit: send less at once")]
    TooLarge,
    /// The disk is full. The command has no effect.
    #[error("the disk is full: free some space and try again")]
    DiskFull,
    /// No result in time. The command may have had effect, or may still have.
    #[error(
        "no result in time; whether the command has effect is unknown: read the state, or propose \
         it again under a request id of your own"
    )]
    UnknownOutcome,
    /// No leader is known, and peers refuse this node or are refused by it. Given at once if all of them are, and
    /// when the time is over otherwise; what becomes of the command is then as unknown as after
    /// [`UnknownOutcome`](ProposeError::UnknownOutcome). See [`Status::refusals`](crate::replica::Status::refusals).
    #[error("no leader is known, and peers refuse this node or are refused by it: {reason}")]
    Refused {
        /// Who, why, and what to do.
        reason: String,
    },
    /// A command with this request id has had its effect before; its response is no longer known.
    #[error("a command with this request id has been applied before")]
    AlreadyApplied,
    /// The request id is too old: a newer epoch of its client is known, the client has settled it,
    /// or has been forgotten. The command has no effect now; whether it had before is unknown.
    #[error("the request id is too old: use a new epoch")]
    Expired,
    /// A command with this request id is waiting already, or its sequence number has been passed.
    #[error("the request id has been used: wait for its result, or use the next sequence number")]
    IdUsed,
    /// Not a request id that an embedder may use.
    #[error(
        "not a request id: sequence numbers count from 1 to 2^64 - 2, and the client's name must not be the id \
         of a node; after the last number go on with a new epoch"
    )]
    InvalidId,
    /// It was proposed or waited for inside `apply`, a read, or another method of this node's own state machine,
    /// which would have waited for itself. A command that is proposed there has no effect; one that was
    /// submitted may have it.
    #[error(
        "the node cannot be waited for inside its own state machine, which would wait for itself: propose \
         on another task, or after the state machine has returned"
    )]
    WithinStateMachine,
    /// The command cannot be encoded, or comes back from its own encoding as another one. It has no effect.
    #[error(transparent)]
    Unencodable(#[from] CodecError),
    /// The command was chosen, but its bytes do not decode on this node. It has no effect on any
    /// node that runs this version.
    #[error(
        "the command does not decode again: check that its Codec decodes what it encodes, and \
         that every node runs the same version"
    )]
    Malformed,
    /// The node has stopped. Whether a command that waited has effect is unknown.
    #[error("the node has stopped: {0}")]
    Stopped(NodeError),
}

impl From<Refusal> for ProposeError {
    fn from(refusal: Refusal) -> ProposeError {
        match refusal {
            Refusal::Busy => ProposeError::Busy,
            Refusal::TooLarge => ProposeError::TooLarge,
            Refusal::IdUsed => ProposeError::IdUsed,
            Refusal::DiskFull => ProposeError::DiskFull,
            Refusal::AlreadyApplied => ProposeError::AlreadyApplied,
            Refusal::Expired => ProposeError::Expired,
        }
    }
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No quorum confirmed it in time, or the state machine did not come to it.
    #[error(
        "no quorum has confirmed the read in time, or the state machine stands still: try again, or read \
         locally"
    )]
    Timeout,
    /// No leader is known, and peers refuse this node or are refused by it. Given at once if all of them are, and
    /// when the time is over otherwise.
    #[error("no leader is known, and peers refuse this node or are refused by it: {reason}")]
    Refused {
        /// Who, why, and what to do.
        reason: String,
    },
    /// Too much waits already.
    #[error("too many reads are waiting: try again later")]
    Busy,
    /// It was to be waited for inside `apply`, a read, or another method of this node's own state machine,
    /// which would have waited for itself.
    #[error(
        "the node cannot be waited for inside its own state machine, which would wait for itself: read on \
         another task, or after the state machine has returned"
    )]
    WithinStateMachine,
    /// The node has stopped.
    #[error("the node has stopped: {0}")]
    Stopped(NodeError),
}
