//! The first block of redb, which is written in its place again and again, in parts.
//!
//! There are two copies, and the newer one that is whole counts. A write goes to the copy that is not known to
//! be durable, so that a crash leaves the other one; once it is durable itself, the other one is brought up
//! to date. So there is always one durable copy, and mostly two equal ones: rot in one of them is mended by
//! the other. All that redb writes between two syncs goes to the same copy.
//!
//! | bytes | what of a copy |
//! |---|---|
//! | 8 | its number: the higher, the newer |
//! | 8 | XXH3 of the number and the block |
//! | 4080 | nothing |
//! | 4096 | the block |

use std::io;

use redb::StorageBackend;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{BLOCK, BLOCK_BYTES};

/// A copy in the file.
pub(super) const COPY_BYTES: u64 = 2 * BLOCK;
/// How much of the block says that redb has finished to set it up.
const MAGIC_BYTES: usize = 9;

#[derive(Debug)]
pub(super) struct Head {
    block: Box<[u8; BLOCK_BYTES]>,
    /// 0 before anything is written.
    number: u64,
    /// The copy that the next write goes to.
    next: usize,
    /// Whether the other copy is durable. What has just been read may be in the page cache alone.
    is_other_durable: bool,
    /// Whether something was written since the last sync.
    is_written: bool,
}

impl Head {
    /// Of a file that is new.
    pub(super) fn unwritten() -> Head {
        Head {
            block: Box::new([0; BLOCK_BYTES]),
            number: 0,
            next: 0,
            is_other_durable: true,
            is_written: false,
        }
    }

    /// Reads both copies; nothing if neither is whole, though one was written.
    pub(super) fn read(inner: &dyn StorageBackend) -> io::Result<Option<Head>> {
        let mut newest: Option<Head> = None;
        let mut is_written = [false; 2];
        for (index, is_written) in is_written.iter_mut().enumerate() {
            let mut copy = vec![0; 2 * BLOCK_BYTES];
            inner.read(at(index), &mut copy)?;
            *is_written = copy.iter().any(|byte| *byte != 0);
            let (front, block) = copy.split_at(BLOCK_BYTES);
            let number = front.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let is_whole = copy[..BLOCK_BYTES] == self::front(number, block);
            if is_whole && newest.as_ref().is_none_or(|newest| newest.number < number) {
                let block = Box::new(block.try_into().expect("a block"));
                let (next, is_other_durable) = (1 - index, false);
                newest = Some(Head { block, number, next, is_other_durable, is_written: false });
            }
        }
        // One alone that is not whole was torn before it was ever durable.
        let is_lost = is_written == [true; 2];
        Ok(newest.or_else(|| (!is_lost).then(Head::unwritten)))
    }

    pub(super) fn is_unwritten(&self) -> bool {
        self.number == 0
    }

    /// Whether redb has not finished to make the file.
    pub(super) fn is_unfinished(&self) -> bool {
        self.block[..MAGIC_BYTES] == [0; MAGIC_BYTES]
    }

    pub(super) fn get(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let place = place(offset, out.len())?;
        out.copy_from_slice(&self.block[place]);
        Ok(())
    }

    pub(super) fn set(
        &mut self,
        offset: u64,
        data: &[u8],
        inner: &dyn StorageBackend,
    ) -> io::Result<()> {
        let place = place(offset, data.len())?;
        if !self.is_other_durable {
            // Whatever it is for: a sync that has failed is not tried again, as a write is.
            inner.sync_data().map_err(|error| io::Error::other(format!("sync: {error}")))?;
            self.is_other_durable = true;
        }
        if !self.is_written {
            self.number += 1;
            self.is_written = true;
        }
        self.block[place].copy_from_slice(data);
        self.write(self.next, inner)
    }

    /// All that was written is durable.
    pub(super) fn synced(&mut self, inner: &dyn StorageBackend) {
        if !self.is_written {
            return;
        }
        self.is_written = false;
        self.is_other_durable = true;
        self.next = 1 - self.next;
        // Should that fail, there is one copy, as there was while the other was being written.
        if let Err(error) = self.write(self.next, inner) {
            tracing::warn!(%error, "the second copy of the head of the state cannot be written");
        }
    }

    fn write(&self, index: usize, inner: &dyn StorageBackend) -> io::Result<()> {
        let front = front(self.number, &self.block[..]);
        inner.write(at(index), &[&front[..], &self.block[..]].concat())
    }
}

/// Where a copy is.
fn at(index: usize) -> u64 {
    BLOCK + index as u64 * COPY_BYTES
}

fn front(number: u64, block: &[u8]) -> [u8; BLOCK_BYTES] {
    let mut front = [0; BLOCK_BYTES];
    front[..8].copy_from_slice(&number.to_le_bytes());
    front[8..16].copy_from_slice(&xxh3_64_with_seed(block, number).to_le_bytes());
    front
}

fn place(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let end = start.saturating_add(length);
    match end <= BLOCK_BYTES {
        true => Ok(start..end),
        false => {
            let what = format!("{length} bytes at {offset} are more than the head");
            Err(io::Error::new(io::ErrorKind::InvalidInput, what))
        }
    }
}
