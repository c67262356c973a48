//! A range of keys as it was: the history, of which each key's newest version up to a position is wanted.
//!
//! History may have any number of versions of a key. A few are passed over one by one, which is cheapest; then the
//! one that is wanted is looked up, and the next key. So a range as of an earlier revision costs about as much as
//! there are keys in it, however often they have changed.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;

use super::{
    StoreError,
    disk::{Past, Snapshot},
    validate::upper_bound,
    version::Position,
    view::Held,
};

/// So many versions of a key are passed over before the one that is wanted is looked up.
const PASSED_MAX: usize = 8;

type Rows = redb::Range<'static, (&'static [u8], i64, u32), &'static [u8]>;

/// Keys in order, each with its newest version up to a position, if there is one.
pub(super) struct PastScan {
    disk: Arc<Snapshot>,
    rows: Rows,
    end: Option<Bytes>,
    until: Position,
    /// The newest version so far of the key that the rows are at.
    ahead: Option<(Bytes, Position, Past)>,
    /// That key, and how many of its versions have been passed over.
    at: (Bytes, usize),
}

impl PastScan {
    pub(super) fn new(
        disk: Arc<Snapshot>,
        start: &Bytes,
        end: Option<&Bytes>,
        until: Position,
    ) -> Result<PastScan, StoreError> {
        let rows = rows(&disk, Bound::Included((start, 0, 0)), end)?;
        let at = (Bytes::new(), 0);
        Ok(PastScan { disk, rows, end: end.cloned(), until, ahead: None, at })
    }

    fn find(&mut self) -> Result<Option<(Bytes, Position, Past)>, StoreError> {
        loop {
            let Some(row) = self.rows.next() else { return Ok(self.ahead.take()) };
            let (place, held) = row.map_err(|error| StoreError::of(&self.disk.path, error))?;
            let (key, revision, index) = place.value();
            let is_next = self.at.0 != key;
            let mut found = None;
            if is_next {
                found = self.ahead.take();
                self.at = (Bytes::copy_from_slice(key), 0);
            }
            self.at.1 += 1;
            let position = Position { revision, index };
            if position > self.until {
                // Those behind it are later still.
                self.pass_key()?;
            } else if self.at.1 > PASSED_MAX {
                let newest = self.disk.past(&self.at.0, self.until)?;
                self.ahead = newest.map(|(position, past)| (self.at.0.clone(), position, past));
                self.pass_key()?;
            } else {
                self.ahead = Some((self.at.0.clone(), position, held.into()));
            }
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Goes on with the next key.
    fn pass_key(&mut self) -> Result<(), StoreError> {
        let start = Bound::Excluded((&self.at.0, i64::MAX, u32::MAX));
        self.rows = rows(&self.disk, start, self.end.as_ref())?;
        Ok(())
    }
}

fn rows(
    disk: &Snapshot,
    start: Bound<(&Bytes, i64, u32)>,
    end: Option<&Bytes>,
) -> Result<Rows, StoreError> {
    let start = start.map(|(key, revision, index)| (&key[..], revision, index));
    let end = upper_bound(end).map(|end| (end, 0, 0));
    let rows = disk.history.range::<(&[u8], i64, u32)>((start, end));
    rows.map_err(|error| StoreError::of(&disk.path, error))
}

impl Iterator for PastScan {
    type Item = Result<(Bytes, Position, Held), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.find().transpose()?;
        Some(found.map(|(key, position, past)| {
            let held = match past {
                Past::Here(row) => Held::Disk(row),
                Past::InFeed { is_deleted } => Held::Feed { disk: self.disk.clone(), is_deleted },
            };
            (key, position, held)
        }))
    }
}
