//! From bytes to rows. Whoever sent them may have sent anything.

use std::io::{self, BufReader, Read};

use paxos_core::types::Slot;
use xxhash_rust::xxh3::Xxh3;

use super::{
    super::{
        Head, Rules as InForce, Sums,
        small::Table,
        sums,
        version::{self, Position, age, is_deleted, is_version, position},
    },
    CURRENT, END, FEED, FIELD_BYTES_MAX, FORMAT, HISTORY, MAGIC, POSITION_BYTES, SMALL,
    stream::PAGE_BYTES,
};

/// No store gets as far as this: there is room to count on.
const REVISION_MAX: i64 = 1 << 62;

/// A row that makes sense by itself and comes behind the one before.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum Row<'a> {
    /// What a key holds: an encoded version.
    Current { key: &'a [u8], version: &'a [u8] },
    /// Which key changed when, and what it holds since: an encoded version.
    Feed { at: Position, key: &'a [u8], version: &'a [u8] },
    /// What it held since then, as the history has it.
    History { key: &'a [u8], at: Position, held: &'a [u8] },
    /// What a row of a small table holds.
    Small { table: Table, key: &'a [u8], held: &'a [u8] },
}

/// Rows being read. One at a time is in memory.
pub(in crate::store) struct Rows<R> {
    source: Hashed<BufReader<R>>,
    head: Head,
    cleaned: i64,
    /// How many there were.
    count: u64,
    /// What those that stand add up to.
    sum: u64,
    place: Place,
    /// That of the row before.
    before: Place,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// Where a row belongs: rows come in this order, each place at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    table: u8,
    /// Of what a key holds or held, and of a small table.
    key: Vec<u8>,
    /// Of what a key held, and of the feed.
    at: Position,
}

impl<R: Read> Rows<R> {
    /// Reads how far the state goes.
    ///
    /// # Errors
    ///
    /// If it is no state of a store, or cannot be read.
    pub(in crate::store) fn begin(stream: R) -> io::Result<Rows<R>> {
        let source = BufReader::with_capacity(PAGE_BYTES, stream);
        let mut source = Hashed { source, hash: Xxh3::new() };
        if source.array()? != *MAGIC {
            return Err(refuse("it is no state of a key-value store"));
        }
        let format = u32::from_le_bytes(source.array()?);
        if format != FORMAT {
            return Err(refuse(format!("it has format {format}, this version knows {FORMAT}")));
        }
        let applied = Slot(u64::from_le_bytes(source.array()?));
        let mut revision = || source.array().map(i64::from_le_bytes);
        let (revision, compacted, cleaned) = (revision()?, revision()?, revision()?);
        if !(Head::FRESH.revision..=REVISION_MAX).contains(&revision)
            || !(Head::FRESH.compacted..=revision).contains(&compacted)
            || !(Head::FRESH.compacted..=compacted).contains(&cleaned)
        {
            let revisions = format!("{revision}, {compacted} and {cleaned}");
            return Err(refuse(format!("its revisions {revisions} make no sense")));
        }
        let rules = u32::try_from(u64::from_le_bytes(source.array()?)).map(InForce).ok();
        let rules = rules.filter(|rules| *rules >= InForce::FIRST);
        let rules = rules.ok_or_else(|| refuse("its rules make no sense"))?;
        rules.check_known("the state that was sent")?;
        let [has_sums] = source.array()?;
        let [rows, changes] = [source.array()?, source.array()?].map(u64::from_le_bytes);
        let sums = match (has_sums, rows, changes) {
            (0, 0, 0) => None,
            (1, ..) => Some(Sums { rows, changes }),
            _ => return Err(refuse("its sums make no sense")),
        };
        Ok(Rows {
            source,
            head: Head { revision, compacted, applied, rules, sums },
            cleaned,
            count: 0,
            sum: 0,
            place: Place::default(),
            before: Place::default(),
            key: Vec::new(),
            value: Vec::new(),
        })
    }

    /// How far the state goes.
    pub(in crate::store) fn head(&self) -> Head {
        self.head
    }

    /// What compaction up to here made superfluous is not in it.
    pub(in crate::store) fn cleaned(&self) -> i64 {
        self.cleaned
    }

    /// The next row. That there is none means that the whole stream was as it was sent.
    ///
    /// # Errors
    ///
    /// If the row makes no sense, the stream is cut short, longer than its end or another one than
    /// was sent, or cannot be read.
    pub(in crate::store) fn next(&mut self) -> io::Result<Option<Row<'_>>> {
        let [table] = self.source.array()?;
        if table == END {
            self.end()?;
            return Ok(None);
        }
        let [key, value] = [self.source.length()?, self.source.length()?];
        self.source.field(key, &mut self.key)?;
        self.source.field(value, &mut self.value)?;
        self.count += 1;
        std::mem::swap(&mut self.before, &mut self.place);
        let mut list = std::mem::take(&mut self.place.key);
        list.clear();
        self.place = Place { table, key: list, ..Place::default() };
        let sensible = match table {
            CURRENT => self.is_current(),
            FEED => self.is_feed(),
            HISTORY => self.is_history(),
            SMALL => self.is_small(),
            _ => false,
        };
        if !sensible {
            return Err(refuse(format!("row {} of table {table} makes no sense", self.count)));
        }
        if self.before >= self.place {
            return Err(refuse(format!("row {} is out of order", self.count)));
        }
        let (key, value, at) = (&self.key[..], &self.value[..], self.place.at);
        self.sum = self.sum.wrapping_add(match table {
            CURRENT => sums::of_encoded(key, value),
            SMALL => small_row(key).map_or(0, |(table, key)| sums::of_row(table, key, value)),
            _ => 0,
        });
        Ok(Some(match table {
            CURRENT => Row::Current { key, version: value },
            FEED => Row::Feed { at, key, version: value },
            HISTORY => Row::History { key, at, held: &value[POSITION_BYTES..] },
            _ => {
                let (table, key) = small_row(key).expect("it was found sensible");
                Row::Small { table, key, held: value }
            }
        }))
    }

    fn is_current(&mut self) -> bool {
        self.place.key.extend_from_slice(&self.key);
        let at = self.version();
        !is_deleted(&self.value) && at.is_some_and(|at| self.is_known(at))
    }

    fn is_feed(&mut self) -> bool {
        let at = self.version();
        self.place.at = at.unwrap_or_default();
        at.is_some_and(|at| self.is_known(at))
    }

    fn is_history(&mut self) -> bool {
        self.place.key.extend_from_slice(&self.key);
        let Some((at, held)) = self.value.split_at_checked(POSITION_BYTES) else { return false };
        let (revision, index) = at.split_at(8);
        let revision = revision.try_into().map_or(0, i64::from_le_bytes);
        let index = index.try_into().map_or(0, u32::from_le_bytes);
        let at = Position { revision, index };
        self.place.at = at;
        let is_sound = match version::is_in_feed(held) {
            true => !self.key.is_empty() && version::is_tag(held[0]),
            false => self.sound_version(held) == Some(at),
        };
        is_sound && self.is_known(at)
    }

    fn is_small(&mut self) -> bool {
        self.place.key.extend_from_slice(&self.key);
        small_row(&self.key).is_some_and(|(table, key)| table.is_sound(key, &self.value))
    }

    /// The position of the version that the value is.
    fn version(&self) -> Option<Position> {
        self.sound_version(&self.value)
    }

    fn sound_version(&self, version: &[u8]) -> Option<Position> {
        let at = position(version).filter(|_| is_version(version))?;
        let is_sound = age(version).is_none_or(|(create_revision, version)| {
            (1..=at.revision).contains(&create_revision) && (1..=REVISION_MAX).contains(&version)
        });
        (is_sound && !self.key.is_empty()).then_some(at)
    }

    /// Whether a change can have happened then.
    fn is_known(&self, at: Position) -> bool {
        at.revision > 0 && at.revision <= self.head.revision
    }

    fn end(&mut self) -> io::Result<()> {
        let count = u64::from_le_bytes(self.source.array()?);
        let expected = self.source.hash.digest();
        let found = u64::from_le_bytes(self.source.array()?);
        if (count, found) != (self.count, expected) {
            return Err(refuse("it is not as it was sent"));
        }
        if self.head.sums.is_some_and(|sums| sums.rows != self.sum) {
            return Err(refuse("it is not what its commands have led to"));
        }
        match self.source.source.by_ref().take(1).read_to_end(&mut self.key)? {
            0 => Ok(()),
            _ => Err(refuse("there is something behind its end")),
        }
    }
}

/// The table and the key in the key of a row.
fn small_row(key: &[u8]) -> Option<(Table, &[u8])> {
    let (number, key) = key.split_first()?;
    Some((Table::numbered(*number)?, key))
}

pub(in crate::store) fn refuse(what: impl Into<String>) -> io::Error {
    let what: String = what.into();
    io::Error::new(io::ErrorKind::InvalidData, format!("the state that was sent: {what}"))
}

/// Counts what is read into a hash.
struct Hashed<R> {
    source: R,
    hash: Xxh3,
}

impl<R: Read> Hashed<R> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(explain)?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn length(&mut self) -> io::Result<usize> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        if length > FIELD_BYTES_MAX {
            return Err(refuse(format!("a field of {length} bytes, beyond {FIELD_BYTES_MAX}")));
        }
        Ok(length)
    }

    /// The list grows with what really comes.
    fn field(&mut self, length: usize, list: &mut Vec<u8>) -> io::Result<()> {
        list.clear();
        let read = self.source.by_ref().take(length as u64).read_to_end(list)?;
        if read < length {
            return Err(refuse("it is cut short"));
        }
        self.hash.update(list);
        Ok(())
    }
}

fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => refuse("it is cut short"),
        _ => error,
    }
}
