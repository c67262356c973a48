//! What is a group's own: its log, and a little state.

use paxos_core::{
    message::Watermark,
    port::WriteBatch,
    types::{Ballot, ClusterId, Slot},
};
use serde::{Deserialize, Serialize};

/// The only group there is. Every key and every checksum has a group's number all the same, so that
/// the logs of many can lie in one database later.
pub(super) const ONLY_GROUP: u32 = 0;

/// What stands before bytes that are [sealed](LogId::seal).
pub(super) const CHECKSUM_BYTES: usize = 4;

/// A log among all that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogId {
    pub(super) cluster: ClusterId,
    pub(super) group: u32,
}

impl LogId {
    /// The log of the only group.
    pub(super) fn of(cluster: ClusterId) -> LogId {
        LogId { cluster, group: ONLY_GROUP }
    }

    /// A CRC-32 that covers the log and `place`, a place in it, and goes on with what lies there:
    /// what is sound and in a wrong place is noticed too.
    pub(super) fn checksum_at(self, place: &[u64]) -> crc32fast::Hasher {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.cluster.0.to_le_bytes());
        hasher.update(&self.group.to_le_bytes());
        place.iter().for_each(|number| hasher.update(&number.to_le_bytes()));
        hasher
    }

    /// Writes `bytes` into `target`, behind a checksum (CRC-32, u32 LE) of the log, the place and them.
    pub(super) fn seal(self, place: &[u64], bytes: &[u8], target: &mut [u8]) {
        let (checksum, rest) = target.split_at_mut(CHECKSUM_BYTES);
        checksum.copy_from_slice(&self.checksum_of(place, bytes).to_le_bytes());
        rest.copy_from_slice(bytes);
    }

    /// The bytes that were [sealed](LogId::seal) for this place, if they are sound.
    pub(super) fn unseal<'a>(self, place: &[u64], sealed: &'a [u8]) -> Option<&'a [u8]> {
        let (checksum, bytes) = sealed.split_first_chunk::<CHECKSUM_BYTES>()?;
        let is_sound = u32::from_le_bytes(*checksum) == self.checksum_of(place, bytes);
        is_sound.then_some(bytes)
    }

    fn checksum_of(self, place: &[u64], bytes: &[u8]) -> u32 {
        let mut hasher = self.checksum_at(place);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// The small state of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GroupState {
    pub(super) promised: Ballot,
    pub(super) chosen: Watermark,
    pub(super) floor: Slot,
}

impl GroupState {
    /// What it is once `batch` is written.
    pub(super) fn after(self, batch: &WriteBatch) -> GroupState {
        GroupState {
            promised: batch.promised.unwrap_or(self.promised),
            chosen: batch.chosen.unwrap_or(self.chosen),
            floor: batch.floor.unwrap_or(self.floor),
        }
    }
}
