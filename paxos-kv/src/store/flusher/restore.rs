//! Puts another state in place of the one there is, while the thread rests.

use std::{
    io::{self, Read},
    sync::PoisonError,
};

use paxos_core::types::Slot;

use super::{
    super::{StoreError, disk::RestoreError, layer::Layer},
    Inner, Published, Shared,
};

impl Shared {
    /// Puts the state of the slots up to `slot`, or further, in place of the present one; durable when it
    /// returns. Readers see the one or the other.
    ///
    /// # Errors
    ///
    /// If there is no sound state in `stream`, or the tables cannot be written: then
    /// the present state stays, though in the latter case the store has failed.
    pub(in crate::store) fn restore(&self, slot: Slot, stream: impl Read) -> io::Result<()> {
        let inner = &*self.inner;
        let alone = inner.alone()?;
        let applied = inner.published.read().unwrap_or_else(PoisonError::into_inner).head.applied;
        assert!(slot > applied, "the state of slot {slot} comes after slot {applied}");
        let failed = |error: StoreError| {
            inner.fail(error.clone());
            io::Error::from(error)
        };
        let reached = inner.disk.restore(slot, stream).map_err(|error| match error {
            RestoreError::Stream(error) => error,
            RestoreError::Store(error) => failed(error),
        })?;
        let replace = |published: &mut Published| {
            published.view.active = Layer::default();
            published.view.frozen = None;
            published.head = published.view.disk.extent.head;
        };
        inner.publish(replace).map_err(failed)?;
        let mut progress = inner.lock_progress();
        progress.wanted = false;
        progress.begun = reached;
        // It was a place in other tables.
        progress.clean = None;
        drop(progress);
        drop(alone);
        Ok(())
    }
}

impl Inner {
    /// Waits until the thread is done with what it writes, and keeps it from the tables until the
    /// guard is dropped.
    ///
    /// # Errors
    ///
    /// If the store has failed, or there is no room and the end is near.
    fn alone(&self) -> Result<Alone<'_>, StoreError> {
        self.lock_progress().paused = true;
        let alone = Alone(self);
        let mut progress = self.lock_progress();
        while progress.busy {
            self.disk.failure.check()?;
            if progress.ending && self.disk.room.is_lacking() {
                return Err(self.disk.full());
            }
            progress = self.wait_for_progress(progress);
        }
        if progress.ending {
            self.disk.room.give_up();
        }
        drop(progress);
        self.disk.failure.check()?;
        Ok(alone)
    }
}

/// Nobody else writes.
struct Alone<'a>(&'a Inner);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.disk.room.wait();
        self.0.lock_progress().paused = false;
        self.0.work.notify_one();
    }
}
