//! redb on a medium, as it is and with a disk that lies.

use std::{io, ops::Bound};

use paxos_core::port::StorageError;
use paxos_storage::{RedbStorage, conformance::Medium};
use redb::{BackendError, StorageBackend};

/// Whether a sync does what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Honest,
    Ignored,
}

#[derive(Debug)]
struct Backend {
    medium: Medium,
    sync: Sync,
}

pub(crate) fn redb_on(medium: Medium, sync: Sync) -> Result<RedbStorage, StorageError> {
    RedbStorage::with_backend("the medium", move || Ok(Backend { medium: medium.clone(), sync }))
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).expect("a small medium")
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.medium.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.medium.read(place(offset), out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.medium.set_len(place(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.sync {
            Sync::Honest => self.medium.sync(),
            Sync::Ignored => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.medium.write(place(offset), data);
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}
