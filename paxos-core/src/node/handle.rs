//! What the embedder holds: proposals, reads, state, the end.

use std::{
    any::Any,
    collections::BTreeSet,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};

use super::{
    error::{NodeError, ProposeError, ReadError},
    lifecycle::Ended,
    request::{Budget, Proposal, ReadTask, Request, Share, cost},
};
use crate::{
    port::{Codec, StateMachine},
    replica::Status,
    types::{Ballot, Identity, NodeId, RequestId},
};

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The leader it knows to be alive, itself included.
    pub leader: Option<NodeId>,
    /// The leader's ballot, or else the highest promised.
    pub ballot: Ballot,
}

/// A running node of a cluster that replicates `S`. A cheap handle; clones stand for the same node.
///
/// - Made by [`Node::builder`].
/// - Proposals: [`propose`](Node::propose), [`propose_within`](Node::propose_within),
///   [`propose_batch`](Node::propose_batch), [`propose_as`](Node::propose_as).
/// - Reads: [`read`](Node::read), [`read_within`](Node::read_within),
///   [`linearize`](Node::linearize), [`linearize_within`](Node::linearize_within),
///   [`read_local`](Node::read_local).
/// - State: [`status`](Node::status), [`leadership`](Node::leadership),
///   [`identity`](Node::identity).
/// - The end: [`shutdown`](Node::shutdown), [`stopped`](Node::stopped). When the last handle is
///   dropped the node shuts down too.
pub struct Node<S: StateMachine> {
    shared: Arc<Shared<S>>,
}

/// What all handles of a node share.
pub(super) struct Shared<S: StateMachine> {
    pub(super) identity: Identity,
    pub(super) limits: Limits,
    /// For the commands between the handles and the driver.
    pub(super) proposal_bytes: Arc<Budget>,
    /// For the linearizable reads, from the handle until the state machine has served them.
    pub(super) reads: Arc<Budget>,
    pub(super) requests: mpsc::Sender<Request<S>>,
    pub(super) local_reads: mpsc::Sender<ReadTask<S>>,
    pub(super) shutdown: watch::Sender<bool>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) ended: watch::Receiver<Ended>,
}

/// What a handle checks before it asks the driver.
pub(super) struct Limits {
    pub(super) request_timeout: Duration,
    pub(super) command_bytes_max: usize,
    pub(super) outstanding_bytes_max: usize,
    pub(super) outstanding_commands_max: usize,
    /// Client names that are taken.
    pub(super) nodes: BTreeSet<u64>,
}

impl<S: StateMachine> Node<S> {
    pub(super) fn new(shared: Shared<S>) -> Self {
        Node { shared: Arc::new(shared) }
    }

    /// Proposes a command and waits for its response, at most the builder's `request_timeout`.
    ///
    /// Works on any node, leader or not: the command is forwarded, and sent again if the leader
    /// fails, yet it has effect at most once. The response is given when the command has been
    /// applied on this node. Of commands proposed at the same time, any may come first.
    ///
    /// A command whose future is dropped may have effect all the same.
    ///
    /// # Errors
    ///
    /// See [`ProposeError`]; each says whether the command may have effect.
    pub async fn propose(&self, command: S::Command) -> Result<S::Response, ProposeError> {
        self.propose_within(command, self.shared.limits.request_timeout).await
    }

    /// As [`propose`](Node::propose), with a deadline of its own; one hour at most.
    ///
    /// # Errors
    ///
    /// As for [`propose`](Node::propose).
    pub async fn propose_within(
        &self,
        command: S::Command,
        timeout: Duration,
    ) -> Result<S::Response, ProposeError> {
        self.propose_bytes(None, command.encode(), timeout).await
    }

    /// Proposes several commands at once and waits for all their responses, in the same order.
    ///
    /// They are no unit: commands of others may come in between, and after a change of leader they
    /// may take effect in another order. What belongs together is one command.
    ///
    /// # Errors
    ///
    /// The first error among them. Any of the others may have had effect, or may still have.
    pub async fn propose_batch(
        &self,
        commands: Vec<S::Command>,
    ) -> Result<Vec<S::Response>, ProposeError> {
        let limits = &self.shared.limits;
        if commands.len() > limits.outstanding_commands_max {
            return Err(ProposeError::TooLarge);
        }
        let mut receivers = Vec::with_capacity(commands.len());
        let mut proposals = Vec::with_capacity(commands.len());
        let (mut bytes, mut command_bytes) = (0, 0);
        for command in commands {
            let command = command.encode();
            if command.len() > limits.command_bytes_max {
                return Err(ProposeError::TooLarge);
            }
            bytes += cost(&command);
            command_bytes += command.len();
            let (reply, receiver) = oneshot::channel();
            receivers.push(receiver);
            proposals.push(Proposal { id: None, command, timeout: limits.request_timeout, reply });
        }
        if command_bytes > limits.outstanding_bytes_max {
            return Err(ProposeError::TooLarge);
        }
        if proposals.is_empty() {
            return Ok(Vec::new());
        }
        self.submit(bytes, |share| Request::ProposeBatch(proposals, share)).await?;
        let mut responses = Vec::with_capacity(receivers.len());
        for receiver in receivers {
            responses.push(self.response(receiver).await?);
        }
        Ok(responses)
    }

    /// Proposes a command under a request id of the embedder's own: proposed again with the same id,
    /// on this node or another, before or after a restart, it has effect once.
    ///
    /// Sequence numbers of a client ascend from 1; a client's name is none of the cluster's node
    /// ids.
    ///
    /// # Errors
    ///
    /// As for [`propose`](Node::propose); [`ProposeError::AlreadyApplied`] if it has had effect
    /// before.
    pub async fn propose_as(
        &self,
        id: RequestId,
        command: S::Command,
    ) -> Result<S::Response, ProposeError> {
        let limits = &self.shared.limits;
        if id.sequence == 0 || limits.nodes.contains(&id.client.name) {
            return Err(ProposeError::InvalidId);
        }
        self.propose_bytes(Some(id), command.encode(), limits.request_timeout).await
    }

    /// Runs `read` on a state that has applied everything acknowledged, by any node, before this
    /// call began (a linearizable read), on any node; waits at most the builder's
    /// `request_timeout`.
    ///
    /// `read` runs on the task that applies commands, so it should be short.
    ///
    /// # Errors
    ///
    /// If no quorum confirms it in time, too many reads wait, or the node has stopped.
    ///
    /// # Panics
    ///
    /// If `read` does.
    pub async fn read<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        self.read_within(read, self.shared.limits.request_timeout).await
    }

    /// As [`read`](Node::read), with a deadline of its own; one hour at most.
    ///
    /// # Errors
    ///
    /// As for [`read`](Node::read).
    ///
    /// # Panics
    ///
    /// If `read` does.
    pub async fn read_within<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
        timeout: Duration,
    ) -> Result<R, ReadError> {
        let share = self.shared.reads.take(1).ok_or(ReadError::Busy)?;
        let (task, receiver) = read_task(read, Some(share));
        match self.shared.requests.try_send(Request::Read { task, timeout }) {
            Ok(()) => self.read_result(receiver).await,
            Err(TrySendError::Full(_)) => Err(ReadError::Busy),
            Err(TrySendError::Closed(_)) => Err(ReadError::Stopped(self.end_reason().await)),
        }
    }

    /// Runs `read` on the state as it is on this node, which may be behind the others.
    ///
    /// # Errors
    ///
    /// If too many local reads wait, or the node has stopped.
    ///
    /// # Panics
    ///
    /// If `read` does.
    pub async fn read_local<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let (task, receiver) = read_task(read, None);
        match self.shared.local_reads.try_send(task) {
            Ok(()) => self.read_result(receiver).await,
            Err(TrySendError::Full(_)) => Err(ReadError::Busy),
            Err(TrySendError::Closed(_)) => Err(ReadError::Stopped(self.end_reason().await)),
        }
    }

    /// Returns once the state of this node has applied everything that was acknowledged, by any
    /// node, before the call; for state machines that can be read without the node's help.
    ///
    /// # Errors
    ///
    /// As for [`read`](Node::read).
    pub async fn linearize(&self) -> Result<(), ReadError> {
        self.read(|_| ()).await
    }

    /// As [`linearize`](Node::linearize), with a deadline of its own; one hour at most.
    ///
    /// # Errors
    ///
    /// As for [`read`](Node::read).
    pub async fn linearize_within(&self, timeout: Duration) -> Result<(), ReadError> {
        self.read_within(|_| (), timeout).await
    }

    /// The replica's state after its latest step.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Who leads; the receiver is told of changes only.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.clone()
    }

    /// Cluster, node and data directory.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// Stops the node: no more requests are taken, those that wait return
    /// [`Stopped`](ProposeError::Stopped), what has been delivered is applied, the state machine
    /// flushed, the write under way finished, storage and transport closed. Returns when all this
    /// is done, also if another call has begun it.
    ///
    /// # Errors
    ///
    /// If the node had failed, or fails on the way.
    pub async fn shutdown(&self) -> Result<(), NodeError> {
        self.shared.shutdown.send_replace(true);
        self.stopped().await
    }

    /// Returns when the node has stopped.
    ///
    /// # Errors
    ///
    /// The reason, unless it was shut down.
    pub async fn stopped(&self) -> Result<(), NodeError> {
        let mut ended = self.shared.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(NodeError::RuntimeEnded)),
            Err(_) => Err(NodeError::RuntimeEnded),
        }
    }

    async fn propose_bytes(
        &self,
        id: Option<RequestId>,
        command: Bytes,
        timeout: Duration,
    ) -> Result<S::Response, ProposeError> {
        if command.len() > self.shared.limits.command_bytes_max {
            return Err(ProposeError::TooLarge);
        }
        let (reply, receiver) = oneshot::channel();
        let bytes = cost(&command);
        let proposal = Proposal { id, command, timeout, reply };
        self.submit(bytes, |share| Request::Propose(proposal, share)).await?;
        self.response(receiver).await
    }

    /// Queues proposals that take `bytes` of the budget.
    async fn submit(
        &self,
        bytes: usize,
        request: impl FnOnce(Share) -> Request<S>,
    ) -> Result<(), ProposeError> {
        let share = self.shared.proposal_bytes.take(bytes).ok_or(ProposeError::Busy)?;
        match self.shared.requests.try_send(request(share)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(ProposeError::Busy),
            Err(TrySendError::Closed(_)) => Err(ProposeError::Stopped(self.end_reason().await)),
        }
    }

    async fn response(
        &self,
        receiver: oneshot::Receiver<Result<S::Response, ProposeError>>,
    ) -> Result<S::Response, ProposeError> {
        match receiver.await {
            Ok(result) => result,
            Err(_) => Err(ProposeError::Stopped(self.end_reason().await)),
        }
    }

    async fn read_result<R>(&self, receiver: Outcome<R>) -> Result<R, ReadError> {
        match receiver.await {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(panic))) => resume_unwind(panic),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ReadError::Stopped(self.end_reason().await)),
        }
    }

    /// Why the node has stopped, once it has.
    async fn end_reason(&self) -> NodeError {
        self.stopped().await.err().unwrap_or(NodeError::ShutDown)
    }
}

/// A read's result, its panic, or why it did not run.
type Outcome<R> = oneshot::Receiver<Result<Result<R, Box<dyn Any + Send>>, ReadError>>;

/// Packs a read, with its share of a budget. Its panic is the caller's, not the node's: the state
/// machine was only looked at.
fn read_task<S: StateMachine, R: Send + 'static>(
    read: impl FnOnce(&S) -> R + Send + 'static,
    share: Option<Share>,
) -> (ReadTask<S>, Outcome<R>) {
    let (reply, receiver) = oneshot::channel();
    let task = Box::new(move |state: Result<&S, ReadError>| {
        let _share = share;
        let result = match state {
            // Nobody waits any more: not worth the time.
            Ok(_) if reply.is_closed() => return,
            Ok(state) => Ok(catch_unwind(AssertUnwindSafe(|| read(state)))),
            Err(error) => Err(error),
        };
        drop(reply.send(result));
    });
    (task, receiver)
}

impl<S: StateMachine> Clone for Node<S> {
    fn clone(&self) -> Self {
        Node { shared: Arc::clone(&self.shared) }
    }
}

impl<S: StateMachine> fmt::Debug for Node<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("identity", &self.shared.identity).finish_non_exhaustive()
    }
}
