//! Reads through the handle.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    error::ReadError,
    handle::Node,
    request::{PendingRead, ReadTask, Request, Share},
};
use crate::{port::StateMachine, types::ReadMode};

impl<S: StateMachine> Node<S> {
    /// Runs `read` on a state that has applied everything acknowledged, by any node, before this
    /// call began (a linearizable read), on any node; waits at most the builder's
    /// `request_timeout`.
    ///
    /// `read` runs on the task that applies commands, so it should be short, and must not wait for the
    /// node itself.
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
        self.read_with(ReadMode::Quorum, timeout, read).await
    }

    /// Runs `read` on a state that is as new as `mode` promises; waits at most for so long, one hour at most. The
    /// [guide](crate::guide::reading) says which mode is for what.
    ///
    /// # Errors
    ///
    /// As for [`read`](Node::read); [`ReadError::Timeout`] also if this node has not applied the
    /// [slot](ReadMode::AtLeast) in time.
    ///
    /// # Panics
    ///
    /// If `read` does.
    pub async fn read_with<R: Send + 'static>(
        &self,
        mode: ReadMode,
        timeout: Duration,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        let budget = match mode {
            ReadMode::Quorum | ReadMode::AtLeast(_) => &self.shared.reads,
            ReadMode::Local => &self.shared.local_reads,
        };
        let share = budget.share().ok_or(ReadError::Busy)?;
        let (task, receiver) = read_task(read, share);
        self.run_read(Request::Read { task, mode, timeout }, receiver).await
    }

    /// Runs `read` on the state as it is on this node, which may be behind the others; waits at most the
    /// builder's `request_timeout`, if the state machine stands still.
    ///
    /// # Errors
    ///
    /// If the state machine does not come to it in time, too many local reads wait, or the node has stopped.
    ///
    /// # Panics
    ///
    /// If `read` does.
    pub async fn read_local<R: Send + 'static>(
        &self,
        read: impl FnOnce(&S) -> R + Send + 'static,
    ) -> Result<R, ReadError> {
        self.read_with(ReadMode::Local, self.shared.limits.request_timeout, read).await
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

    /// Returns once the state of this node is as new as `mode` promises, as [`linearize`](Node::linearize) does for
    /// [`ReadMode::Quorum`]; waits at most for so long.
    ///
    /// # Errors
    ///
    /// As for [`read_with`](Node::read_with).
    pub async fn await_read(&self, mode: ReadMode, timeout: Duration) -> Result<(), ReadError> {
        self.read_with(mode, timeout, |_| ()).await
    }

    async fn run_read<R>(
        &self,
        request: Request<S>,
        receiver: ReadAnswer<R>,
    ) -> Result<R, ReadError> {
        if self.shared.key.is_entered() {
            return Err(ReadError::WithinStateMachine);
        }
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

/// A read's result or its panic, which is the caller's, not the node's: the state machine was only looked at.
type ReadResult<R> = Result<R, Box<dyn Any + Send>>;

/// A read's result, or why it did not run.
type ReadAnswer<R> = oneshot::Receiver<Result<ReadResult<R>, ReadError>>;

/// A read, who waits for it, and its share of a budget.
struct Pending<F, R> {
    parts: Mutex<Parts<F, R>>,
    _share: Share,
}

struct Parts<F, R> {
    /// Until it runs.
    read: Option<F>,
    /// Until they are told.
    reply: Option<oneshot::Sender<Result<ReadResult<R>, ReadError>>>,
}

impl<F, R> Pending<F, R> {
    fn parts(&self) -> MutexGuard<'_, Parts<F, R>> {
        // Nothing panics half-way.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_listener(&self) -> bool {
        self.parts().reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    fn tell(&self, result: Result<ReadResult<R>, ReadError>) {
        // A read that is refused is dropped with whatever it holds; its destructor is the embedder's.
        let (read, reply) = {
            let mut parts = self.parts();
            (parts.read.take(), parts.reply.take())
        };
        drop(read);
        if let Some(reply) = reply {
            drop(reply.send(result));
        }
    }
}

impl<S, R: Send, F: FnOnce(&S) -> R + Send> PendingRead<S> for Pending<F, R> {
    fn run(&self, state: &S) {
        // If nobody waits any more, it is not worth the time.
        let is_awaited = self.has_listener();
        let read = self.parts().read.take().filter(|_| is_awaited);
        if let Some(read) = read {
            self.tell(Ok(catch_unwind(AssertUnwindSafe(|| read(state)))));
        }
    }

    fn is_awaited(&self) -> bool {
        self.has_listener()
    }

    fn refuse(&self, error: ReadError) {
        self.tell(Err(error));
    }

    fn abandon(&self) {
        drop(self.parts().reply.take());
    }
}

fn read_task<S: StateMachine, R: Send + 'static>(
    read: impl FnOnce(&S) -> R + Send + 'static,
    share: Share,
) -> (ReadTask<S>, ReadAnswer<R>) {
    let (reply, receiver) = oneshot::channel();
    let parts = Mutex::new(Parts { read: Some(read), reply: Some(reply) });
    (Arc::new(Pending { parts, _share: share }), receiver)
}
