//! From the tables to bytes.

use std::{
    io::{self, Read},
    sync::Arc,
};

use redb::Range;
use xxhash_rust::xxh3::Xxh3;

use super::{
    super::{
        StoreError,
        disk::Snapshot,
        small, sums,
        version::{self, Position, position},
    },
    CURRENT, END, FEED, FORMAT, HISTORY, MAGIC, SMALL,
};

/// Rows are read until they reach so many bytes. One row more may be in memory.
pub(super) const PAGE_BYTES: usize = 64 << 10;

/// What tables say that are damaged.
const MISPLACED: &str = "a record is not where it belongs";
/// What rows are if they do not add up to what the commands have made of the sum.
const NOT_THE_SUM: &str = "keys do not hold what its commands have led to";

/// Where the next row is.
enum Table {
    Current(Range<'static, &'static [u8], &'static [u8]>),
    History(Range<'static, (&'static [u8], i64, u32), &'static [u8]>),
    Feed(Range<'static, (i64, u32), &'static [u8]>),
    Small(Range<'static, (u8, &'static [u8]), &'static [u8]>),
    /// All have been read.
    End,
}

/// A state being read.
pub(super) struct Stream {
    tables: Arc<Snapshot>,
    table: Table,
    page: Page,
    /// What of the page has been read.
    read: usize,
    /// Why there is no more.
    failed: Option<StoreError>,
}

impl Stream {
    pub(super) fn new(tables: &Arc<Snapshot>) -> Result<Stream, StoreError> {
        let first = tables.current.range::<&[u8]>(..);
        let table = Table::Current(first.map_err(|error| StoreError::of(&tables.path, error))?);
        let mut page = Page { bytes: Vec::new(), hash: Xxh3::new(), hashed: 0, rows: 0, sum: 0 };
        let (head, cleaned) = (tables.extent.head, tables.extent.cleaned);
        page.bytes.extend_from_slice(MAGIC);
        page.bytes.extend_from_slice(&FORMAT.to_le_bytes());
        page.bytes.extend_from_slice(&head.applied.0.to_le_bytes());
        for revision in [head.revision, head.compacted, cleaned] {
            page.bytes.extend_from_slice(&revision.to_le_bytes());
        }
        page.bytes.extend_from_slice(&u64::from(head.rules.0).to_le_bytes());
        page.bytes.push(head.sums.is_some().into());
        let sums = head.sums.unwrap_or_default();
        for sum in [sums.rows, sums.changes] {
            page.bytes.extend_from_slice(&sum.to_le_bytes());
        }
        page.hash();
        Ok(Stream { tables: tables.clone(), table, page, read: 0, failed: None })
    }

    /// Reads the next page; an empty one if there is none.
    fn turn(&mut self) -> Result<(), StoreError> {
        self.page.clear();
        self.read = 0;
        while self.page.bytes.len() < PAGE_BYTES && !matches!(self.table, Table::End) {
            self.push_row()?;
        }
        self.page.hash();
        Ok(())
    }

    /// Adds a row to the page, or goes on to the next table.
    fn push_row(&mut self) -> Result<(), StoreError> {
        let tables = &*self.tables;
        let fail = |error| StoreError::of(&tables.path, error);
        let (page, row) = (&mut self.page, &mut self.table);
        match row {
            Table::Current(rows) => match rows.next().transpose().map_err(fail)? {
                Some((key, version)) => {
                    page.sum(sums::of_encoded(key.value(), version.value()));
                    page.push(CURRENT, key.value(), version.value());
                }
                None => {
                    self.table = Table::Feed(tables.feed.range::<(i64, u32)>(..).map_err(fail)?)
                }
            },
            Table::Feed(rows) => match rows.next().transpose().map_err(fail)? {
                Some((at, row)) => {
                    let (revision, index) = at.value();
                    let at = Some(Position { revision, index });
                    let found = version::split_feed_row(row.value());
                    let found = found.filter(|(_, version)| position(version) == at);
                    let (key, version) = found.ok_or_else(|| tables.damaged(MISPLACED))?;
                    page.push(FEED, key, version);
                }
                None => {
                    let rows = tables.history.range::<(&[u8], i64, u32)>(..);
                    self.table = Table::History(rows.map_err(fail)?);
                }
            },
            Table::History(rows) => match rows.next().transpose().map_err(fail)? {
                Some((place, held)) => {
                    let ((key, revision, index), held) = (place.value(), held.value());
                    let at = Position { revision, index };
                    if !version::is_in_feed(held) && position(held) != Some(at) {
                        return Err(tables.damaged(MISPLACED));
                    }
                    let at = [&revision.to_le_bytes()[..], &index.to_le_bytes()].concat();
                    page.push(HISTORY, key, &[&at, held].concat());
                }
                None => {
                    let rows = tables.small.range::<(u8, &[u8])>(..);
                    self.table = Table::Small(rows.map_err(fail)?);
                }
            },
            Table::Small(rows) => match rows.next().transpose().map_err(fail)? {
                Some((place, held)) => {
                    let (number, key) = place.value();
                    let table = small::Table::numbered(number);
                    let table = table.ok_or_else(|| tables.damaged("a table that is not known"))?;
                    page.sum(sums::of_row(table, key, held.value()));
                    page.push(SMALL, &[&[number], key].concat(), held.value());
                }
                None => {
                    let sums = tables.extent.head.sums;
                    if sums.is_some_and(|sums| sums.rows != page.sum) {
                        return Err(tables.damaged(NOT_THE_SUM));
                    }
                    page.end();
                    self.table = Table::End;
                }
            },
            Table::End => (),
        }
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        if self.read == self.page.bytes.len()
            && let Err(error) = self.turn()
        {
            self.failed = Some(error.clone());
            return Err(error.into());
        }
        let left = &self.page.bytes[self.read..];
        let length = left.len().min(out.len());
        out[..length].copy_from_slice(&left[..length]);
        self.read += length;
        Ok(length)
    }
}

/// Some rows as bytes.
struct Page {
    bytes: Vec<u8>,
    /// Of all bytes so far but those of the page that are not counted in `hashed`.
    hash: Xxh3,
    hashed: usize,
    /// Rows so far.
    rows: u64,
    /// What those of them that stand add up to.
    sum: u64,
}

impl Page {
    fn clear(&mut self) {
        self.bytes.clear();
        // A long row leaves no long page behind.
        self.bytes.shrink_to(2 * PAGE_BYTES);
        self.hashed = 0;
    }

    fn push(&mut self, table: u8, key: &[u8], value: &[u8]) {
        self.bytes.push(table);
        for field in [key, value] {
            let length = u32::try_from(field.len()).expect("a row came in a command");
            self.bytes.extend_from_slice(&length.to_le_bytes());
        }
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.rows += 1;
    }

    fn sum(&mut self, row: u64) {
        self.sum = self.sum.wrapping_add(row);
    }

    fn end(&mut self) {
        self.bytes.push(END);
        self.bytes.extend_from_slice(&self.rows.to_le_bytes());
        self.hash();
        self.bytes.extend_from_slice(&self.hash.digest().to_le_bytes());
    }

    fn hash(&mut self) {
        self.hash.update(&self.bytes[self.hashed..]);
        self.hashed = self.bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{port::StateMachine, types::Slot};

    use super::*;
    use crate::{
        proto::etcdserverpb::PutRequest,
        store::{Backend, Command, Rules, Store},
    };

    #[test]
    fn a_page_of_rows_is_in_memory_however_many_there_are() {
        let mut store = Store::open(Backend::Memory).expect("a store");
        let (long, rows) = (vec![7; 300_000], 400);
        for slot in 1..=rows {
            let value = if slot % 100 == 1 { long.clone() } else { vec![7; 5000] };
            let key = slot.to_string().into();
            let put = PutRequest { key, value: value.into(), ..PutRequest::default() };
            store.apply(Slot(slot), vec![Command::Put(put).under(Rules::KNOWN)]);
        }
        let tables = store.shared.snapshot().expect("tables");
        let mut stream = Stream::new(&tables).expect("a stream");
        let (mut total, mut capacity_max) = (0, 0);
        let mut out = [0; 4096];
        loop {
            let length = stream.read(&mut out).expect("rows");
            if length == 0 {
                break;
            }
            total += length;
            capacity_max = capacity_max.max(stream.page.bytes.capacity());
        }
        assert!(total > 3_000_000, "{total} bytes");
        // A list that grows doubles.
        assert!(capacity_max < 2 * (PAGE_BYTES + long.len() + 100), "{capacity_max} bytes at once");
        assert_eq!(stream.read(&mut out).expect("the end"), 0, "it stays at its end");
    }
}
