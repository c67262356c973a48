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
