//! The end of a node: whatever the cause, everything is closed and everybody told.

use std::{any::Any, sync::Arc};

use futures::future::select_all;
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

use super::error::NodeError;
use crate::port::{Storage, Transport};

/// How a node has ended; `None` while it runs.
pub(super) type Ended = Option<Result<(), NodeError>>;

/// The tasks of a node, and what is closed after them.
pub(super) struct Parts {
    /// Of these, the one that has the driver in the end returns.
    pub(super) tasks: Vec<JoinHandle<Result<(), NodeError>>>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) storage: Arc<dyn Storage>,
}

/// Waits for the end of the driver, closes the adapters and publishes the reason.
pub(super) async fn supervise(parts: Parts, ended: watch::Sender<Ended>) {
    let (result, _, others) = select_all(parts.tasks).await;
    for other in others {
        other.abort();
        // It may be in the midst of a job, and the state machine is somebody else's once this has ended.
        drop(other.await);
    }
    let result = joined("driver", result).flatten();
    parts.transport.close().await;
    parts.storage.close().await;
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
