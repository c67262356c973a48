//! How a store does, for whoever has it run.

use std::{fmt, sync::Arc};

use super::{StoreError, flusher::Inner};

/// Looks after a store. Cheap to clone.
#[derive(Clone)]
pub struct Monitor {
    pub(super) inner: Arc<Inner>,
}

impl Monitor {
    /// Whether its disk is full: what is applied stays in memory until there is room, and once there is
    /// no more place for that, applying waits. Reads go on. Whoever proposes had better refuse writes.
    #[must_use]
    pub fn lacks_room(&self) -> bool {
        self.inner.disk.room.is_lacking()
    }

    /// Returns once the store is of no more use, with the reason, which names file and remedy. A store
    /// that is sound is waited for for ever.
    pub async fn failed(&self) -> StoreError {
        self.inner.disk.failure.comes().await
    }

    /// The end is near: from now on nothing waits for room on a full disk. What the tables do not get, the
    /// next start takes from the log.
    pub fn stop_waiting(&self) {
        self.inner.stop_waiting();
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("lacks_room", &self.lacks_room()).finish_non_exhaustive()
    }
}
