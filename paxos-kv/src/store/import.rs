//! A new store that goes on from changes which were made elsewhere.

use std::path::PathBuf;

use paxos_core::types::Slot;

use super::{
    Backend, Head, Owner, StoreError,
    disk::{Disk, Extent},
    export::Change,
    layer::Layer,
    version::Version,
};

/// Changes gathered in memory before they go into the tables.
const LAYER_BYTES: usize = 16 << 20;

/// The tables of a store, while they are being filled. Before [`finish`](Import::finish) they hold the
/// state of no slot.
pub(crate) struct Import {
    disk: Disk,
    extent: Extent,
    layer: Layer,
    last_revision: i64,
}

impl Import {
    /// Makes the file of this member.
    pub(crate) fn begin(file: PathBuf, owner: Owner) -> Result<Import, StoreError> {
        let disk = Disk::open(Backend::Redb { file, owner })?;
        // Whoever waits for this rather wants to know that there is no room.
        disk.room.give_up();
        let extent = disk.snapshot()?.extent;
        let last_revision = extent.head.revision;
        Ok(Import { disk, extent, layer: Layer::default(), last_revision })
    }

    /// Adds a change, later than every one before.
    pub(crate) fn add(&mut self, change: Change) -> Result<(), StoreError> {
        let Change { position, key, live } = change;
        self.last_revision = position.revision;
        self.layer.insert(key, Version { position, live });
        if self.layer.bytes() < LAYER_BYTES {
            return Ok(());
        }
        let head = Head { revision: self.last_revision, ..Head::FRESH };
        self.write(head)
    }

    /// Ends with the store at this revision, as of `slot`.
    pub(crate) fn finish(
        mut self,
        revision: i64,
        compacted: i64,
        slot: Slot,
    ) -> Result<(), StoreError> {
        assert!(revision >= self.last_revision, "no change is later than the store itself");
        assert!(compacted <= revision, "what is to come cannot be compacted");
        self.write(Head { revision, compacted, applied: slot })
    }

    fn write(&mut self, head: Head) -> Result<(), StoreError> {
        let layer = std::mem::take(&mut self.layer);
        layer.with(|changes| self.disk.flush(changes, head, self.extent))?;
        self.extent = self.disk.snapshot()?.extent;
        Ok(())
    }
}
