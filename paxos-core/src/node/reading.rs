//! Reads through the handle.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    error::ReadError,
    handle::Node,
    request::{ReadTask, Request, Share},
};
use crate::port::StateMachine;

impl<S: StateMachine> Node<S> {
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
        let share = self.shared.reads.share().ok_or(ReadError::Busy)?;
        let (task, receiver) = read_task(read, share);
        self.run_read(Request::Read { task, timeout }, receiver).await
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
        let share = self.shared.local_reads.share().ok_or(ReadError::Busy)?;
        let (task, receiver) = read_task(read, share);
        self.run_read(Request::ReadLocal(task), receiver).await
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

    async fn run_read<R>(
        &self,
        request: Request<S>,
        receiver: ReadAnswer<R>,
    ) -> Result<R, ReadError> {
        // One that was not taken has dropped the sender.
        drop(self.shared.requests.send(request));
        match receiver.await {
            Ok(Ok(Ok(result))) => Ok(result),
            Ok(Ok(Err(panic))) => resume_unwind(panic),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ReadError::Stopped(self.end_reason().await)),
        }
    }
}

/// A read's result, its panic, or why it did not run.
type ReadAnswer<R> = oneshot::Receiver<Result<Result<R, Box<dyn Any + Send>>, ReadError>>;

/// Packs a read, with its share of a budget. Its panic is the caller's, not the node's: the state
/// machine was only looked at.
fn read_task<S: StateMachine, R: Send + 'static>(
    read: impl FnOnce(&S) -> R + Send + 'static,
    share: Share,
) -> (ReadTask<S>, ReadAnswer<R>) {
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
