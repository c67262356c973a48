//! Whose state is in the tables.
//!
//! A file belongs to the member whose slots are in it: the first that bring any name it, in the same
//! transaction. So a start that was refused, for a name or a directory that was wrong, leaves no mark on
//! a file that is fresh, or as old as format 1, which named nobody.

use std::{fmt, sync::atomic::Ordering};

use paxos_core::types::{ClusterId, NodeId, Slot};
use redb::{ReadOnlyTable, WriteTransaction};

use super::{super::StoreError, Disk, FORMAT, META};

const KEY_CLUSTER: &str = "cluster";
const KEY_MEMBER: &str = "member";

/// The member of a cluster whose state it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member.
    pub member: NodeId,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {:x} of cluster {}", self.member.0, self.cluster)
    }
}

impl Disk {
    /// Refuses the state of another member.
    pub(super) fn check_owner(
        &self,
        meta: &ReadOnlyTable<&'static str, i64>,
    ) -> Result<(), StoreError> {
        let number = |name| Ok(self.find_meta(meta, name)?.map(i64::cast_unsigned));
        let found = match (number(KEY_CLUSTER)?, number(KEY_MEMBER)?) {
            (Some(cluster), Some(member)) => {
                Owner { cluster: ClusterId(cluster), member: NodeId(member) }
            }
            (None, None) => return Ok(()),
            _ => return Err(self.damaged("one half of its owner")),
        };
        match self.owner {
            Some(owner) if owner != found => {
                Err(StoreError::OtherOwner { path: self.path.clone(), found, owner })
            }
            _ => {
                self.is_named.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Whether there is a state here, as of `applied`, that does not say whose it is.
    pub(in crate::store) fn lacks_owner(&self, applied: Slot) -> bool {
        applied > Slot::ZERO && self.owner.is_some() && !self.is_named.load(Ordering::Relaxed)
    }

    /// Names the owner, in the present format.
    pub(super) fn write_owner(&self, writing: &WriteTransaction) -> Result<(), StoreError> {
        let Some(owner) = self.owner else { return Ok(()) };
        let mut meta = self.table(writing, META)?;
        let rows = [
            ("format", FORMAT),
            (KEY_CLUSTER, owner.cluster.0.cast_signed()),
            (KEY_MEMBER, owner.member.0.cast_signed()),
        ];
        for (name, value) in rows {
            meta.insert(name, value).map_err(|error| StoreError::of(&self.path, error))?;
        }
        Ok(())
    }

    /// What [`write_owner`](Disk::write_owner) wrote is there.
    pub(super) fn is_named_now(&self) {
        self.is_named.store(true, Ordering::Relaxed);
    }
}
