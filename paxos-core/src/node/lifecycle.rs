//! The end of a node: whatever the cause, everything is closed and everybody told.

use std::{any::Any, future::Future, sync::Arc, thread, time::Duration};

use futures::future::select_all;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
    time::{Instant, timeout_at},
};

use super::{error::NodeError, request::TIMEOUT_MAX};
use crate::port::{Storage, Transport};

/// How a node has ended; `None` while it runs.
pub(super) type Ended = Option<Result<(), NodeError>>;

/// The tasks of a node, and what is closed after them.
pub(super) struct Parts {
    /// Of these, the one that has the driver in the end returns.
    pub(super) tasks: Vec<JoinHandle<Result<(), NodeError>>>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) storage: Arc<dyn Storage>,
    /// How long each step of the end may take.
    pub(super) patience: Duration,
}

/// The end of something, which does not wait for ever for what may never come back.
pub(super) struct Ending {
    deadline: Instant,
    patience: Duration,
    /// What has not come to an end in time.
    left: Vec<&'static str>,
}

impl Ending {
    pub(super) fn begin(patience: Duration) -> Ending {
        let deadline =
            Instant::now().checked_add(patience).unwrap_or_else(|| Instant::now() + TIMEOUT_MAX);
        Ending { deadline, patience, left: Vec::new() }
    }

    /// Waits for a part; `None` if it has not come to its end in time.
    pub(super) async fn wait<R>(
        &mut self,
        part: &'static str,
        end: impl Future<Output = R>,
    ) -> Option<R> {
        let result = timeout_at(self.deadline, end).await.ok();
        if result.is_none() {
            tracing::error!(part, patience = ?self.patience, "left behind: it has not come to an end");
            self.left.push(part);
        }
        result
    }

    /// Says what is left.
    pub(super) fn end(self) -> Result<(), NodeError> {
        if self.left.is_empty() {
            return Ok(());
        }
        Err(NodeError::Unfinished { left: self.left.join(", "), patience: self.patience })
    }
}

/// Waits for the end of the driver, closes the adapters and publishes the reason.
pub(super) async fn supervise(parts: Parts, ended: watch::Sender<Ended>) {
    let (result, _, others) = select_all(parts.tasks).await;
    let mut ending = Ending::begin(parts.patience);
    for other in others {
        other.abort();
        // It may be in the midst of a job, and the state machine is somebody else's once this has ended.
        ending.wait("its state machine", other).await;
    }
    ending.wait("its transport", parts.transport.close()).await;
    ending.wait("its storage", parts.storage.close()).await;
    let (result, ended_whole) = (joined("driver", result).flatten(), ending.end());
    let is_left = |result| matches!(result, &Err(NodeError::Unfinished { .. }));
    if [&result, &ended_whole].into_iter().any(is_left) {
        // To drop what has not come to its end may mean to wait for it.
        let Parts { transport, storage, .. } = parts;
        drop(thread::spawn(move || drop((transport, storage))));
    }
    let result = result.and(ended_whole);
    match &result {
        Ok(()) => tracing::info!("the node has stopped"),
        Err(reason) => tracing::error!(%reason, "the node has stopped"),
    }
    ended.send_replace(Some(result));
}

/// What a task has returned, if it did not panic and its runtime did not end.
pub(super) fn joined<T>(task: &'static str, result: Result<T, JoinError>) -> Result<T, NodeError> {
    result.map_err(|error| match error.try_into_panic() {
        Ok(panic) => panicked(task, panic),
        Err(_) => NodeError::RuntimeEnded,
    })
}

/// The panic of a part of the node.
pub(super) fn panicked(task: &'static str, panic: Box<dyn Any + Send>) -> NodeError {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
        .to_owned();
    NodeError::Panicked { task, message }
}
