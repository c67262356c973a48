//! How many connections of clients there are, and may be.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Places for connections. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connections {
    places: Arc<Semaphore>,
    max: u32,
}

impl Connections {
    pub(super) fn new(max: usize) -> Connections {
        let max = u32::try_from(max).expect("descriptors are fewer");
        Connections { places: Arc::new(Semaphore::new(max as usize)), max }
    }

    /// As many as there may be.
    pub(super) fn max(&self) -> u32 {
        self.max
    }

    /// As many as there are.
    pub(super) fn count(&self) -> usize {
        self.max as usize - self.places.available_permits()
    }

    /// A place for one more, if there is one.
    pub(super) fn try_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// A place for one more, as soon as there is one.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        Arc::clone(&self.places).acquire_owned().await
    }

    /// Returns once all have ended. Nobody gets a place meanwhile.
    pub(super) async fn ended(&self) {
        // It is never closed.
        let _ = self.places.acquire_many(self.max).await;
    }
}
