//! The end of a node: whatever the cause, everything is closed and everybody told.

use std::sync::Arc;

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

use super::error::NodeError;
use crate::port::{Storage, Transport};

/// How a node has ended; `None` while it runs.
pub(super) type Ended = Option<Result<(), NodeError>>;

/// The two tasks of a node, and what is closed after them.
pub(super) struct Parts {
    pub(super) driver: JoinHandle<Result<(), NodeError>>,
    pub(super) applier: JoinHandle<Result<(), NodeError>>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) storage: Arc<dyn Storage>,
}

/// Waits for the end of both tasks, closes the adapters and publishes the reason.
///
/// The end of the one brings that of the other: the applier ends when nothing more can be
/// delivered, the driver when nobody applies. So the first error found is the cause.
pub(super) async fn supervise(parts: Parts, ended: watch::Sender<Ended>) {
    let driver = outcome("driver", parts.driver.await);
    let applier = outcome("state machine", parts.applier.await);
    parts.transport.close().await;
    parts.storage.close().await;
    let result = driver.and(applier);
    match &result {
        Ok(()) => tracing::info!("the node has stopped"),
        Err(reason) => tracing::error!(%reason, "the node has stopped"),
    }
    ended.send_replace(Some(result));
}

fn outcome(
    task: &'static str,
    result: Result<Result<(), NodeError>, JoinError>,
) -> Result<(), NodeError> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_panic() => {
            let payload = error.into_panic();
            let message = payload
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| payload.downcast_ref::<&str>().copied())
                .unwrap_or("no message")
                .to_owned();
            Err(NodeError::Panicked { task, message })
        }
        Err(_) => Err(NodeError::RuntimeEnded),
    }
}
