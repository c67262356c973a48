//! What the embedder holds: proposals, reads, state, the end.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    board::{Leadership, View},
    error::{NodeError, ProposeError},
    inside::NodeKey,
    lifecycle::Ended,
    request::{Applied, Budget, ProposeOptions, Request, Submission, cost},
};
use crate::{
    port::{Codec, RefusedPeer, StateMachine},
    replica::Status,
    types::{Identity, RequestId},
};

/// A running node of a cluster that replicates `S`. A cheap handle; clones stand for the same node.
///
/// - Made by [`Node::builder`].
/// - Proposals: [`propose`](Node::propose), [`propose_within`](Node::propose_within),
///   [`propose_batch`](Node::propose_batch), [`propose_as`](Node::propose_as),
///   [`propose_with`](Node::propose_with), [`submit`](Node::submit).
/// - Reads: [`read`](Node::read), [`read_within`](Node::read_within),
///   [`linearize`](Node::linearize), [`linearize_within`](Node::linearize_within),
///   [`read_local`](Node::read_local); in any mode: [`read_with`](Node::read_with),
///   [`await_read`](Node::await_read).
/// - The cluster: [`change_members`](Node::change_members),
///   [`transfer_leadership`](Node::transfer_leadership).
/// - State: [`status`](Node::status), [`leadership`](Node::leadership),
///   [`refusals`](Node::refusals), [`identity`](Node::identity).
/// - The end: [`shutdown`](Node::shutdown), [`stopped`](Node::stopped). When the last handle is
///   dropped the node shuts down too; a [`WeakNode`](super::WeakNode) ([`downgrade`](Node::downgrade)) does
///   not count, and waits for that.
pub struct Node<S: StateMachine> {
    pub(super) shared: Arc<Shared<S>>,
}

/// What all handles of a node share.
pub(super) struct Shared<S: StateMachine> {
    pub(super) key: NodeKey,
    pub(super) identity: Identity,
    pub(super) limits: Limits,
    /// For the commands between the handles and the driver.
    pub(super) proposal_bytes: Arc<Budget>,
    /// For the reads, from the handle until the state machine has served them: those that may have to wait
    /// for others, and local ones.
    pub(super) reads: Arc<Budget>,
    pub(super) local_reads: Arc<Budget>,
    pub(super) requests: mpsc::UnboundedSender<Request<S>>,
    pub(super) view: View,
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
        let options = ProposeOptions { timeout: Some(timeout), ..ProposeOptions::default() };
        Ok(self.propose_with(command, options).await?.response)
    }

    /// Proposes several commands at once and waits for all their responses, in the same order.
    ///
    /// They are no unit: commands of others may come in between, and after a change of leader they
    /// may take effect in another order. What belongs together is one command.
    ///
    /// One request to the node for all of them: with 1,024 at once almost four times as fast as a task
    /// for each, over memory on two cores (`cargo bench -p paxos-bench --bench throughput -- pipeline`).
    ///
    /// # Errors
    ///
    /// The first error among them. Any of the others may have had effect, or may still have.
    pub async fn propose_batch(
        &self,
        commands: Vec<S::Command>,
    ) -> Result<Vec<S::Response>, ProposeError> {
        self.check_thread()?;
        let limits = &self.shared.limits;
        if commands.len() > limits.outstanding_commands_max {
            return Err(ProposeError::TooLarge);
        }
        let mut answers = Vec::with_capacity(commands.len());
        let mut submissions = Vec::with_capacity(commands.len());
        let (mut bytes, mut command_bytes) = (0, 0);
        for command in commands {
            let command = command.into_bytes()?;
            command_bytes += command.len();
            bytes += cost(&command);
            let (submission, answer) = self.submission(None, command, limits.request_timeout)?;
            answers.push(answer);
            submissions.push(submission);
        }
        if command_bytes > limits.outstanding_bytes_max {
            return Err(ProposeError::TooLarge);
        }
        if submissions.is_empty() {
            return Ok(Vec::new());
        }
        let mut responses = Vec::with_capacity(answers.len());
        let sent = self.send(bytes, Request::ProposeBatch(submissions));
        for answer in answers {
            responses.push(self.end(sent.clone().map(|()| answer)).await?.response);
        }
        Ok(responses)
    }

    /// Proposes a command under a request id of the embedder's own: proposed again with the same id,
    /// on this node or another, before or after a restart, it has effect once.
    ///
    /// Sequence numbers of a client ascend from 1, and may be up to half of
    /// [`SESSION_WINDOW`](crate::limits::SESSION_WINDOW) (65,536) above the lowest that still waits; what is
    /// further below the highest is too old. A client's name is none of the cluster's node ids, its epoch is of
    /// one clock or counter for all clients that come and go: some thousands are remembered. The
    /// [guide](crate::guide::retry) has the pattern, and one that keeps the response.
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
        let options = ProposeOptions { id: Some(id), ..ProposeOptions::default() };
        Ok(self.propose_with(command, options).await?.response)
    }

    /// As [`propose`](Node::propose), with what the options say, and told more: the slot in which the command has
    /// had its effect, from which on it can be [read on any node](crate::types::ReadMode::AtLeast).
    ///
    /// # Errors
    ///
    /// As for [`propose`](Node::propose), and [`propose_as`](Node::propose_as) if there is a request id.
    pub async fn propose_with(
        &self,
        command: S::Command,
        options: ProposeOptions,
    ) -> Result<Applied<S::Response>, ProposeError> {
        let limits = &self.shared.limits;
        let ProposeOptions { timeout, id } = options;
        if id.is_some_and(|id| !id.is_countable() || limits.nodes.contains(&id.client.name)) {
            return Err(ProposeError::InvalidId);
        }
        self.check_thread()?;
        let answer = self.begin(id, command, timeout.unwrap_or(limits.request_timeout));
        self.end(answer).await
    }

    /// The replica's state after its latest turn; how long its peers have been silent, up to now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared.view.status()
    }

    /// Whether its disk is full, as in [`status`](Node::status); cheap enough to be asked before every command.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.shared.view.is_disk_full()
    }

    /// Who leads; the receiver is told of changes only.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.view.leadership()
    }

    /// The peers that refuse this node or that it refuses, and why: another cluster, a wiped disk, a certificate
    /// that is not believed. The receiver is told of changes only.
    #[must_use]
    pub fn refusals(&self) -> watch::Receiver<Vec<RefusedPeer>> {
        self.shared.view.refusals()
    }

    /// Cluster, node and data directory.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shared.identity
    }

    /// Stops the node. One that leads first hands that over, as
    /// [`transfer_leadership`](Node::transfer_leadership) does, so that the others need not wait until they miss
    /// it. Then no more requests are taken, those that wait return [`Stopped`](ProposeError::Stopped), what has
    /// been delivered is applied, the state machine flushed, the write under way finished, storage and transport
    /// closed. Returns when all this is done, also if another call has begun it.
    ///
    /// A state machine or a disk that does not come back is left behind after the builder's
    /// [`shutdown_timeout`](super::NodeBuilder::shutdown_timeout).
    ///
    /// # Errors
    ///
    /// If the node had failed, fails on the way, or ends without a part of it
    /// ([`NodeError::Unfinished`] says which).
    pub async fn shutdown(&self) -> Result<(), NodeError> {
        // If nobody takes it, the node has ended already.
        drop(self.shared.requests.send(Request::ShutDown));
        self.stopped().await
    }

    /// Returns when the node has stopped. The handle keeps it from stopping for want of handles meanwhile: to
    /// wait for that there is [`WeakNode::stopped`](super::WeakNode::stopped).
    ///
    /// # Errors
    ///
    /// The reason, unless it was shut down.
    pub async fn stopped(&self) -> Result<(), NodeError> {
        end_of(self.shared.ended.clone(), self.shared.key).await
    }

    /// Whoever waits for the node inside its state machine waits for ever.
    pub(super) fn check_thread(&self) -> Result<(), ProposeError> {
        if self.shared.key.is_entered() { Err(ProposeError::WithinStateMachine) } else { Ok(()) }
    }

    /// Puts a command on its way; says where its answer comes.
    pub(super) fn begin(
        &self,
        id: Option<RequestId>,
        command: S::Command,
        timeout: Duration,
    ) -> Result<Answer<S>, Unsent> {
        let command = command.into_bytes().map_err(|error| Unsent::Refused(error.into()))?;
        let bytes = cost(&command);
        let (submission, answer) =
            self.submission(id, command, timeout).map_err(Unsent::Refused)?;
        self.send(bytes, Request::Propose(submission))?;
        Ok(answer)
    }

    /// Waits for the answer to a command that is on its way, or says why it is not.
    async fn end(
        &self,
        answer: Result<Answer<S>, Unsent>,
    ) -> Result<Applied<S::Response>, ProposeError> {
        match answer {
            Ok(answer) => match answer.await {
                Ok(result) => result,
                Err(_) => Err(ProposeError::Stopped(self.end_reason().await)),
            },
            Err(Unsent::Refused(error)) => Err(error),
            Err(Unsent::Stopped) => Err(ProposeError::Stopped(self.end_reason().await)),
        }
    }

    /// A command on its way, and where its answer comes.
    #[inline]
    fn submission(
        &self,
        id: Option<RequestId>,
        command: Bytes,
        timeout: Duration,
    ) -> Result<(Submission<S::Response>, Answer<S>), ProposeError> {
        if command.len() > self.shared.limits.command_bytes_max {
            return Err(ProposeError::TooLarge);
        }
        let (reply, answer) = oneshot::channel();
        Ok((Submission { id, command, timeout, reply }, answer))
    }

    /// Queues what takes `bytes` of the budget.
    #[inline]
    fn send(&self, bytes: usize, request: Request<S>) -> Result<(), Unsent> {
        if !self.shared.proposal_bytes.take(bytes) {
            return Err(Unsent::Refused(ProposeError::Busy));
        }
        self.shared.requests.send(request).map_err(|_| Unsent::Stopped)
    }

    /// Why the node has stopped, once it has.
    pub(super) async fn end_reason(&self) -> NodeError {
        self.stopped().await.err().unwrap_or(NodeError::ShutDown)
    }
}

/// How a node has ended, once it has.
pub(super) async fn end_of(
    mut ended: watch::Receiver<Ended>,
    key: NodeKey,
) -> Result<(), NodeError> {
    if key.is_entered() {
        return Err(NodeError::WithinStateMachine);
    }
    match ended.wait_for(Option::is_some).await {
        Ok(result) => result.clone().unwrap_or(Err(NodeError::RuntimeEnded)),
        Err(_) => Err(NodeError::RuntimeEnded),
    }
}

/// Where the answer to a proposal comes.
pub(super) type Answer<S> =
    oneshot::Receiver<Result<Applied<<S as StateMachine>::Response>, ProposeError>>;

/// Why a request did not reach the driver.
#[derive(Clone)]
pub(super) enum Unsent {
    Refused(ProposeError),
    Stopped,
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
