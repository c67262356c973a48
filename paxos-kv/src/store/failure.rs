//! Why a store is of no more use, once it is.

use std::sync::Arc;

use tokio::sync::watch;

use super::StoreError;

/// The first reason for which the store cannot go on. Clones are of the same store.
#[derive(Clone, Debug)]
pub(super) struct Failure(Arc<watch::Sender<Option<StoreError>>>);

impl Failure {
    pub(super) fn none() -> Failure {
        Failure(Arc::new(watch::Sender::new(None)))
    }

    /// From now on the store is of no more use. What follows from the first reason is no news.
    pub(super) fn note(&self, error: StoreError) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                tracing::error!(%error, "the store failed");
                *first = Some(error);
            }
            is_first
        });
    }

    pub(super) fn get(&self) -> Option<StoreError> {
        self.0.borrow().clone()
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.get().map_or(Ok(()), Err)
    }

    /// Waits for it.
    pub(super) async fn comes(&self) -> StoreError {
        let mut receiver = self.0.subscribe();
        let failed = receiver.wait_for(Option::is_some).await;
        failed.expect("this holds the sender").clone().expect("it was waited for")
    }
}
