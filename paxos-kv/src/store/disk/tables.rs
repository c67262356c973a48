//! The tables as of one commit, to be read for as long as one likes.

use std::collections::BTreeMap;

use prost::Message;
use redb::{ReadOnlyTable, ReadableTable};

use super::{
    super::{
        MemberAttributes, StoreError,
        version::{self, Position, Version},
    },
    Extent,
};

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

    /// The newest version of `key` up to a position.
    pub(in crate::store) fn get(
        &self,
        key: &[u8],
        until: Position,
    ) -> Result<Option<Version>, StoreError> {
        self.find(key, until, Version::decode)
    }

    /// The same with an empty value.
    pub(in crate::store) fn get_without_value(
        &self,
        key: &[u8],
        until: Position,
    ) -> Result<Option<Version>, StoreError> {
        self.find(key, until, Version::decode_without_value)
    }

    fn find(
        &self,
        key: &[u8],
        until: Position,
        decode: fn(&str, &[u8]) -> Result<Version, StoreError>,
    ) -> Result<Option<Version>, StoreError> {
        let fail = |error| StoreError::of(&self.path, error);
        if let Some(row) = self.current.get(key).map_err(fail)? {
            let at = version::position(row.value());
            let at = at.ok_or_else(|| self.damaged("a record is cut short"))?;
            if at <= until {
                return decode(&self.path, row.value()).map(Some);
            }
        }
        if until >= Position::end_of(self.extent.head.revision) {
            return Ok(None);
        }
        let last = (key, until.revision, until.index);
        let mut older = self.history.range((key, 0, 0)..=last).map_err(fail)?;
        match older.next_back() {
            None => Ok(None),
            Some(row) => {
                let (_, value) = row.map_err(fail)?;
                decode(&self.path, value.value()).map(Some)
            }
        }
    }
}
