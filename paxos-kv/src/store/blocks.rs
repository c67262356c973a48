//! A file whose every block carries a checksum, checked by whoever reads it.
//!
//! redb has checksums of its pages but looks at them only when it repairs a file. So rot in a page is served:
//! another value, a key less, a branch that leads nowhere, or a panic in redb. Here it sits on blocks that
//! either are as they were written or cannot be read, whatever the page is for; a read that fails ends the
//! store with an error that names the file, the place and the remedy. A block is checked whenever it comes from
//! the file, and redb keeps what it has read in memory.
//!
//! | blocks | what |
//! |---|---|
//! | 1 | the label: what file this is, and of which format |
//! | 2, 2 | the head, redb's first block, twice ([`head`]) |
//! | 1 + 512 | the checksums of 512 blocks, and these; again and again |
//!
//! A checksum is the XXH3 of the block, seeded with the block's number, so that a block in another one's
//! place is noticed; 0 stands for a block that was never written.
//!
//! **After a crash** a block and its checksum may belong to different moments, or be torn. No one reads such a
//! block: redb writes to blocks that nothing durable refers to, syncs, and then writes the head that refers to
//! them (two-phase commits, which [`disk`](super::disk) asks for). The head alone is written in its place.

#[cfg(test)]
mod fuzz;
mod head;
pub(super) mod plain;
#[cfg(test)]
pub(super) mod tests;

use std::{
    io,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{BackendError, StorageBackend};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use self::head::Head;
use super::StoreError;

/// What has a checksum: redb's page.
const BLOCK_BYTES: usize = 4096;
const BLOCK: u64 = BLOCK_BYTES as u64;
const CHECKSUM_BYTES: usize = 8;
/// Blocks whose checksums fill one.
const GROUP_BLOCKS: u64 = (BLOCK_BYTES / CHECKSUM_BYTES) as u64;
/// Where the first checksums are: behind the label and both copies of the head.
const GROUPS_AT: u64 = BLOCK + 2 * head::COPY_BYTES;

/// What the label begins with; the format follows, and its checksum stands at its end.
const MAGIC: &[u8; 16] = b"paxos-kv state\0\0";
/// The format of the file, not of the tables in it. Before, there was none: the file was redb's.
const FORMAT: u32 = 1;

/// Blocks with checksums on any backend.
#[derive(Debug)]
pub(super) struct Blocks {
    inner: Box<dyn StorageBackend>,
    path: String,
    /// Nothing before it is first looked at, which redb does when it has locked the backend.
    head: Mutex<Option<Head>>,
}

/// Blocks of one group that are next to each other.
struct Run {
    /// Number of the first one.
    block: u64,
    /// How many.
    count: usize,
    /// Where they and their checksums are.
    at: u64,
    checksums_at: u64,
}

impl Blocks {
    pub(super) fn on(inner: Box<dyn StorageBackend>, path: String) -> Blocks {
        Blocks { inner, path, head: Mutex::new(None) }
    }

    /// The head, read from the file by whoever comes first.
    fn head(&self) -> io::Result<MutexGuard<'_, Option<Head>>> {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        if head.is_none() {
            *head = Some(self.read_head()?);
        }
        Ok(head)
    }

    fn read_head(&self) -> io::Result<Head> {
        let length = self.inner.len()?;
        if length == 0 {
            return Ok(Head::unwritten());
        }
        if length < GROUPS_AT {
            return Err(self.damaged(format!("it is only {length} bytes long")));
        }
        let mut label = [0; BLOCK_BYTES];
        self.inner.read(0, &mut label)?;
        let head = Head::read(&*self.inner)?;
        let is_virgin = head.as_ref().is_some_and(Head::is_unwritten);
        // Otherwise the first start was cut short.
        if !is_virgin || label.iter().any(|byte| *byte != 0) {
            self.check_label(&label)?;
        }
        head.ok_or_else(|| self.damaged("both copies of its head".to_owned()))
    }

    fn check_label(&self, label: &[u8; BLOCK_BYTES]) -> io::Result<()> {
        if *label == self::label(FORMAT) {
            return Ok(());
        }
        let found =
            label[MAGIC.len()..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        match found > FORMAT && *label == self::label(found) {
            true => Err(StoreError::NewerFormat {
                path: self.path.clone(),
                found: found.into(),
                known: FORMAT.into(),
            }
            .into()),
            false => Err(self.damaged("its first block".to_owned())),
        }
    }

    fn damaged(&self, what: String) -> io::Error {
        let reason = format!("not as it was written: {what}");
        StoreError::Damaged { path: self.path.clone(), reason }.into()
    }

    /// Splits blocks into runs.
    fn runs(offset: u64, length: usize) -> io::Result<impl Iterator<Item = Run>> {
        let is_whole = offset.is_multiple_of(BLOCK) && length.is_multiple_of(BLOCK_BYTES);
        if !is_whole || offset < BLOCK {
            let what = format!("{length} bytes at {offset} are no blocks");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let (mut block, end) = (offset / BLOCK, (offset + length as u64) / BLOCK);
        Ok(std::iter::from_fn(move || {
            // The head is block 0 and in no group.
            let (group, place) = ((block - 1) / GROUP_BLOCKS, (block - 1) % GROUP_BLOCKS);
            let count = (end - block).min(GROUP_BLOCKS - place);
            let checksums = GROUPS_AT + group * (1 + GROUP_BLOCKS) * BLOCK;
            let run = Run {
                block,
                count: usize::try_from(count).expect("at most a group"),
                at: checksums + (1 + place) * BLOCK,
                checksums_at: checksums + place * CHECKSUM_BYTES as u64,
            };
            block += count;
            (count > 0).then_some(run)
        }))
    }

    fn read_run(&self, run: &Run, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(run.at, out)?;
        let mut checksums = vec![0; run.count * CHECKSUM_BYTES];
        self.inner.read(run.checksums_at, &mut checksums)?;
        let blocks = out.chunks_exact(BLOCK_BYTES).zip(checksums.chunks_exact(CHECKSUM_BYTES));
        for (number, (block, checksum)) in (run.block..).zip(blocks) {
            let is_unwritten = || block.iter().chain(checksum).all(|byte| *byte == 0);
            if *checksum != checksum_of(number, block) && !is_unwritten() {
                let at = run.at + (number - run.block) * BLOCK;
                return Err(self.damaged(format!("the {BLOCK_BYTES} bytes from {at} on")));
            }
        }
        Ok(())
    }

    fn write_run(&self, run: &Run, blocks: &[u8]) -> io::Result<()> {
        self.inner.write(run.at, blocks)?;
        let numbered = (run.block..).zip(blocks.chunks_exact(BLOCK_BYTES));
        let checksums: Vec<u8> =
            numbered.flat_map(|(number, block)| checksum_of(number, block)).collect();
        self.inner.write(run.checksums_at, &checksums)
    }

    /// The length of the file for so many bytes in blocks.
    fn outer_len(length: u64) -> u64 {
        let grouped = (length / BLOCK).saturating_sub(1);
        GROUPS_AT + (grouped + grouped.div_ceil(GROUP_BLOCKS)) * BLOCK
    }

    /// The bytes in blocks of a file of this length.
    fn inner_len(length: u64) -> u64 {
        let outer = length.saturating_sub(GROUPS_AT) / BLOCK;
        let (groups, rest) = (outer / (1 + GROUP_BLOCKS), outer % (1 + GROUP_BLOCKS));
        (1 + groups * GROUP_BLOCKS + rest.saturating_sub(1)) * BLOCK
    }

    /// Forgets the checksums of blocks of the last group that are cut off: should they come back, they are
    /// empty.
    fn forget_checksums(&self, length: u64) -> io::Result<()> {
        let Some(run) = Blocks::runs(length.max(BLOCK), BLOCK_BYTES)?.next() else { return Ok(()) };
        let place = (length.max(BLOCK) / BLOCK - 1) % GROUP_BLOCKS;
        if place == 0 {
            return Ok(());
        }
        let zeros =
            vec![0; BLOCK_BYTES - usize::try_from(place).expect("of a group") * CHECKSUM_BYTES];
        self.inner.write(run.checksums_at, &zeros)
    }
}

fn label(format: u32) -> [u8; BLOCK_BYTES] {
    let mut label = [0; BLOCK_BYTES];
    label[..MAGIC.len()].copy_from_slice(MAGIC);
    label[MAGIC.len()..][..4].copy_from_slice(&format.to_le_bytes());
    let (covered, checksum) = label.split_at_mut(BLOCK_BYTES - CHECKSUM_BYTES);
    checksum.copy_from_slice(&xxh3_64(covered).to_le_bytes());
    label
}

fn checksum_of(number: u64, block: &[u8]) -> [u8; CHECKSUM_BYTES] {
    // 0 has a meaning of its own.
    xxh3_64_with_seed(block, number).max(1).to_le_bytes()
}

impl StorageBackend for Blocks {
    fn len(&self) -> io::Result<u64> {
        let head = self.head()?;
        let is_empty = head.as_ref().is_none_or(Head::is_unfinished);
        if is_empty { Ok(0) } else { self.inner.len().map(Blocks::inner_len) }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset < BLOCK {
            return self.head()?.get_or_insert_with(Head::unwritten).get(offset, out);
        }
        let mut rest = out;
        for run in Blocks::runs(offset, rest.len())? {
            let (blocks, behind) = rest.split_at_mut(run.count * BLOCK_BYTES);
            self.read_run(&run, blocks)?;
            rest = behind;
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        if !length.is_multiple_of(BLOCK) {
            let what = format!("{length} bytes are no blocks");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let is_unwritten = self.head()?.as_ref().is_none_or(Head::is_unwritten);
        let (before, after) = (self.inner.len()?, Blocks::outer_len(length));
        if after < before {
            self.forget_checksums(length)?;
        }
        self.inner.set_len(after)?;
        if is_unwritten { self.inner.write(0, &label(FORMAT)) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()?;
        self.head()?.get_or_insert_with(Head::unwritten).synced(&*self.inner);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset < BLOCK {
            let mut head = self.head()?;
            return head.get_or_insert_with(Head::unwritten).set(offset, data, &*self.inner);
        }
        let mut rest = data;
        for run in Blocks::runs(offset, rest.len())? {
            let (blocks, behind) = rest.split_at(run.count * BLOCK_BYTES);
            self.write_run(&run, blocks)?;
            rest = behind;
        }
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
