//! The tables as of one commit, to be read for as long as one likes.

use std::collections::BTreeMap;

use prost::Message;
use redb::{AccessGuard, ReadOnlyTable, ReadableTable};

use super::{
    super::{
        MemberAttributes, StoreError, sums,
        version::{self, Position},
    },
    Extent,
};

/// An encoded version where it lies.
pub(in crate::store) type Row = AccessGuard<'static, &'static [u8]>;

/// See the module.
pub(in crate::store) struct Snapshot {
    pub(in crate::store) current: ReadOnlyTable<&'static [u8], &'static [u8]>,
    pub(in crate::store) history: ReadOnlyTable<(&'static [u8], i64, u32), &'static [u8]>,
    pub(in crate::store) feed: ReadOnlyTable<(i64, u32), &'static [u8]>,
    pub(in crate::store) members: ReadOnlyTable<u64, &'static [u8]>,
    pub(in crate::store) extent: Extent,
    pub(in crate::store) path: String,
}

impl Snapshot {
    pub(in crate::store) fn damaged(&self, reason: &str) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), reason: reason.to_owned() }
    }

    /// What the members have said of themselves.
    pub(in crate::store) fn all_members(
        &self,
    ) -> Result<BTreeMap<u64, MemberAttributes>, StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        let mut members = BTreeMap::new();
        for row in self.members.iter().map_err(fail)? {
            let (id, encoded) = row.map_err(fail)?;
            let attributes = MemberAttributes::decode(encoded.value()).map_err(|error| {
                let reason = format!("the attributes of member {}: {error}", id.value());
                StoreError::Damaged { path: self.path.clone(), reason }
            })?;
            members.insert(id.value(), attributes);
        }
        Ok(members)
    }

    /// What all that keys hold adds up to. Takes as long as it takes to read it.
    pub(in crate::store) fn sum_of_current(&self) -> Result<u64, StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        let rows = self.current.iter().map_err(fail)?;
        rows.map(|row| {
            let (key, version) = row.map_err(fail)?;
            Ok(sums::of_encoded(key.value(), version.value()))
        })
        .try_fold(0, |sum: u64, row| Ok(sum.wrapping_add(row?)))
    }

    /// The newest version of `key` up to a position.
    pub(in crate::store) fn get(
        &self,
        key: &[u8],
        until: Position,
    ) -> Result<Option<Row>, StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        if let Some(row) = self.current.get(key).map_err(fail)? {
            let at = version::position(row.value());
            let at = at.ok_or_else(|| self.damaged("a record is cut short"))?;
            if at <= until {
                return Ok(Some(row));
            }
        }
        if until >= Position::end_of(self.extent.head.revision) {
            return Ok(None);
        }
        let last = (key, until.revision, until.index);
        let mut older = self.history.range((key, 0, 0)..=last).map_err(fail)?;
        let row = older.next_back().transpose().map_err(fail)?;
        Ok(row.map(|(_, value)| value))
    }
}
