//! The state as a stream of bytes, on its way to a peer or from one.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `paxos-kv` |
//! | 4 | the format |
//! | 8 each | applied slot, revision, compacted revision, revision that is cleaned up for, rules |
//! | 1, 8, 8 | 1, sum of rows, sum of changes; 0 and zeros of a state that has none |
//! | | the rows of all tables, by table and in their order there |
//! | 1 each | table: 1 what keys hold, 2 the feed, 3 what they held, 4 the small tables; 0 behind the last row |
//! | 4, 4 | lengths of the row's key and value |
//! | | key and value |
//! | 8 | number of rows |
//! | 8 | XXH3 of all before |
//!
//! Integers are little-endian. Keys and values are those of the tables, with these differences: a change in the
//! feed is found by its version, which names its position; a value of the history begins with its position; and a
//! key of a small table comes behind the number of that.
//!
//! A state has one stream: what is read back and written again is the same. Two stores that have
//! applied the same give the same stream, once they have cleaned up equally far.

#[cfg(test)]
mod fuzz;
pub(super) mod rows;
mod stream;

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
};

use paxos_core::{limits::COMMAND_BYTES_MAX, port::Snapshot};

use self::stream::Stream;
use super::{StoreError, disk};

const MAGIC: &[u8; 8] = b"paxos-kv";
/// The format of the stream. Others are refused.
const FORMAT: u32 = 2;

const END: u8 = 0;
const CURRENT: u8 = 1;
const FEED: u8 = 2;
const HISTORY: u8 = 3;
const SMALL: u8 = 4;

/// No key and no value is longer: each came in one command.
const FIELD_BYTES_MAX: usize = COMMAND_BYTES_MAX;
/// Revision and index.
const POSITION_BYTES: usize = 8 + 4;

/// The state of a [`Store`](super::Store) at a moment.
///
/// One that a store has given holds on to the tables as they were then, and their file cannot reuse
/// the room of what has changed since, until it is dropped.
pub struct StoreSnapshot(Content);

enum Content {
    /// As they are in the tables.
    Tables(Arc<disk::Snapshot>),
    /// It could not be brought into the tables.
    Failed(StoreError),
    /// As they come in.
    Stream(Box<dyn Read + Send>),
}

impl StoreSnapshot {
    pub(super) fn of(tables: Result<Arc<disk::Snapshot>, StoreError>) -> StoreSnapshot {
        StoreSnapshot(match tables {
            Ok(tables) => Content::Tables(tables),
            Err(error) => Content::Failed(error),
        })
    }
}

impl Snapshot for StoreSnapshot {
    /// A reader that holds a page of rows at a time.
    fn into_reader(self) -> io::Result<Box<dyn Read + Send>> {
        match self.0 {
            Content::Tables(tables) => Ok(Box::new(Stream::new(&tables)?)),
            Content::Failed(error) => Err(error.into()),
            Content::Stream(reader) => Ok(reader),
        }
    }

    /// Nothing is read before a store is to take it.
    fn from_reader(reader: Box<dyn Read + Send>) -> io::Result<StoreSnapshot> {
        Ok(StoreSnapshot(Content::Stream(reader)))
    }
}

impl fmt::Debug for StoreSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Content::Tables(tables) => {
                f.debug_tuple("Tables").field(&tables.extent.head.applied).finish()
            }
            Content::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Content::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Makes the checksum of a stream right again, if there is place for one.
#[cfg(test)]
pub(super) fn reseal(stream: &mut [u8]) {
    if let Some((rest, checksum)) = stream.split_last_chunk_mut::<8>() {
        *checksum = xxhash_rust::xxh3::xxh3_64(rest).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_there_is_no_state_is_said_by_whoever_reads_it() {
        let full = StoreError::Full { path: "state".to_owned() };
        let error = StoreSnapshot::of(Err(full.clone())).into_reader().map(|_| ());
        let error = error.expect_err("no state");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(error.to_string(), full.to_string());
    }
}
