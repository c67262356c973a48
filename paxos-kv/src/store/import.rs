//! A new store that goes on from changes which were made elsewhere.

use std::path::PathBuf;

use paxos_core::types::Slot;

use super::{
    Backend, Head, Owner, Rules, StoreError, Sums,
    disk::{Disk, Extent},
    feed::Change,
    layer::Layer,
    sums,
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
    /// Of the changes so far.
    changes: u64,
}

impl Import {
    /// Makes the file of this member.
    pub(crate) fn begin(file: PathBuf, owner: Owner) -> Result<Import, StoreError> {
        let disk = Disk::open(Backend::Redb { file, owner })?;
        // Whoever waits for this rather wants to know that there is no room.
        disk.room.give_up();
        let extent = disk.snapshot()?.extent;
        let last_revision = extent.head.revision;
        Ok(Import { disk, extent, layer: Layer::default(), last_revision, changes: 0 })
    }

    /// Adds a change, later than every one before.
    pub(crate) fn add(&mut self, change: Change) -> Result<(), StoreError> {
        let Change { position, key, live } = change;
        self.last_revision = position.revision;
        let version = Version { position, live };
        self.changes = self.changes.wrapping_add(sums::of_version(&key, &version));
        self.layer.insert(key, version);
        if self.layer.bytes() < LAYER_BYTES {
            return Ok(());
        }
        self.write(Head { revision: self.last_revision, sums: None, ..Head::FRESH })
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
        let head = Head { revision, compacted, applied: slot, sums: None, rules: Rules::FIRST };
        self.write(head)?;
        // What a change replaced was not looked at.
        let rows = self.disk.snapshot()?.sum_of_current()?;
        self.write(Head { sums: Some(Sums { rows, changes: self.changes }), ..head })
    }

    fn write(&mut self, head: Head) -> Result<(), StoreError> {
        let layer = std::mem::take(&mut self.layer);
        layer.with(|changes| self.disk.flush(changes, head, self.extent))?;
        self.extent = self.disk.snapshot()?.extent;
        Ok(())
    }
}
