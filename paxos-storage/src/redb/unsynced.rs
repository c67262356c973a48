//! Which parts of a file may be in the page cache alone, for the process after this one.
//!
//! Whatever is written to the file is first written down here, and forgotten once a sync of the file has
//! succeeded. So when a process goes down, in the middle of a sync even, that fails without anybody's coming to
//! know of it, what is on no disk is among the parts that are written down. This file is never synced: it has
//! to outlive the process, as the page cache does that it is about. After a power cut, what it says is of no
//! use, and of no harm: whatever can be read then comes from the disk.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `paxos unsynced 1` |
//! | 24 each | number of the sync that is waited for, offset, length: as integers, little-endian |
//!
//! The parts that wait for the latest sync stand first. What is behind them is older.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::directory::private_file;

pub(super) const FILE: &str = "unsynced";
const MAGIC: &[u8; 16] = b"paxos unsynced 1";
const ENTRY_BYTES: usize = 24;
/// More parts than these are not told apart: it is the whole file then.
const PARTS_MAX: usize = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Unsynced {
    path: PathBuf,
    /// Nothing if it cannot be written: then there is no such file, and all of the log counts as unsynced.
    file: Option<File>,
    /// Of the sync that is waited for.
    number: u64,
    /// What waits for it.
    parts: Vec<Part>,
}

/// Some bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The whole file.
pub(super) const EVERYTHING: Part = Part { offset: 0, length: u64::MAX };

impl Unsynced {
    /// Goes on with what the last process has left in the directory; or with everything, if it has left
    /// nothing that makes sense.
    ///
    /// # Errors
    ///
    /// If what is wrong there can neither be put right nor removed.
    pub(super) fn open(directory: &Path) -> io::Result<Unsynced> {
        let path = directory.join(FILE);
        let found = std::fs::read(&path).ok().and_then(|bytes| decode(&bytes));
        let is_known = found.is_some();
        let (number, parts) = found.unwrap_or((1, vec![EVERYTHING]));
        let file = if is_known { private_file().open(&path) } else { create(&path) };
        let mut unsynced = Unsynced { path, file: None, number, parts };
        match file {
            Ok(file) => unsynced.file = Some(file),
            Err(error) => unsynced.give_up(&error)?,
        }
        Ok(unsynced)
    }

    /// What the last process has left, in order, none of it twice.
    pub(super) fn parts(&self) -> Vec<Part> {
        let mut parts = self.parts.clone();
        parts.sort_unstable();
        parts.dedup_by(|next, before| {
            let end = before.offset.saturating_add(before.length);
            let is_joined = next.offset <= end;
            if is_joined {
                let next_end = next.offset.saturating_add(next.length);
                before.length = end.max(next_end) - before.offset;
            }
            is_joined
        });
        parts
    }

    /// These bytes are about to be written.
    ///
    /// # Errors
    ///
    /// If that cannot be written down, and that it is not neither.
    pub(super) fn note(&mut self, offset: u64, length: usize) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if self.parts.last() == Some(&EVERYTHING) {
            return Ok(());
        }
        let part = Part { offset, length: length as u64 };
        let part = if self.parts.len() + 1 < PARTS_MAX { part } else { EVERYTHING };
        let entry = [self.number, part.offset, part.length].map(u64::to_le_bytes);
        let at = (MAGIC.len() + self.parts.len() * ENTRY_BYTES) as u64;
        self.parts.push(part);
        let sought = file.seek(SeekFrom::Start(at));
        match sought.and_then(|_| file.write_all(entry.as_flattened())) {
            Ok(()) => Ok(()),
            Err(error) => self.give_up(&error),
        }
    }

    /// All that has been written is on the disk.
    pub(super) fn synced(&mut self) {
        // Unless the first part of the next one is there, the old ones stay, which does no harm.
        self.number += 1;
        self.parts.clear();
    }

    /// A sync has failed: from now on nothing is certain.
    ///
    /// # Errors
    ///
    /// If the next process cannot be told so.
    pub(super) fn sync_failed(&mut self) -> io::Result<()> {
        self.give_up(&io::Error::other("a sync has failed"))
    }

    /// Without the file, the next start takes everything for unsynced.
    fn give_up(&mut self, reason: &io::Error) -> io::Result<()> {
        let emptied = self.file.take().map(|file| file.set_len(0));
        let is_emptied = emptied.is_some_and(|emptied| emptied.is_ok());
        match std::fs::remove_file(&self.path) {
            Err(error) if !is_emptied && error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => {
                let path = self.path.display();
                tracing::info!(%path, %reason, "the next start after a crash takes longer");
                Ok(())
            }
        }
    }
}

/// Room for all parts there can be, so that a full disk shows here.
fn create(path: &Path) -> io::Result<File> {
    let mut file = private_file().create(true).truncate(true).open(path)?;
    let mut bytes = vec![0; MAGIC.len() + PARTS_MAX * ENTRY_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    let everything = [1, EVERYTHING.offset, EVERYTHING.length].map(u64::to_le_bytes);
    bytes[MAGIC.len()..][..ENTRY_BYTES].copy_from_slice(everything.as_flattened());
    file.write_all(&bytes)?;
    Ok(file)
}

/// The number of the latest sync that was waited for, and what waited for it.
fn decode(bytes: &[u8]) -> Option<(u64, Vec<Part>)> {
    let entries = bytes.strip_prefix(MAGIC)?;
    let (entries, []) = entries.as_chunks::<ENTRY_BYTES>() else { return None };
    let entries = entries.iter().map(|entry| {
        let (words, _) = entry.as_chunks::<8>();
        [words[0], words[1], words[2]].map(u64::from_le_bytes)
    });
    let entries: Vec<_> = entries.collect();
    let number = entries.first()?[0];
    let latest = entries.iter().take_while(|[of, ..]| *of == number);
    let parts = latest.map(|&[_, offset, length]| Part { offset, length }).collect();
    (entries.len() == PARTS_MAX && number > 0).then_some((number, parts))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn part(offset: u64, length: u64) -> Part {
        Part { offset, length }
    }

    fn open(directory: &Path) -> Unsynced {
        Unsynced::open(directory).expect("a directory of ours")
    }

    #[test]
    fn what_has_not_been_synced_is_known_to_the_next_process() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut first = open(directory.path());
        assert_eq!(first.parts(), [EVERYTHING], "who knows");
        first.synced();
        for offset in [0, 100, 90, 300, 0] {
            first.note(offset, 20).expect("room");
        }
        drop(first);
        let mut second = open(directory.path());
        assert_eq!(second.parts(), [part(0, 20), part(90, 30), part(300, 20)]);
        second.note(310, 20).expect("room");
        drop(second);
        let mut third = open(directory.path());
        assert_eq!(
            third.parts(),
            [part(0, 20), part(90, 30), part(300, 30)],
            "it is not synced yet"
        );
        third.synced();
        third.note(7, 1).expect("room");
        drop(third);
        assert_eq!(open(directory.path()).parts(), [part(7, 1)]);
    }

    #[test]
    fn what_cannot_be_told_apart_is_everything() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut many = open(directory.path());
        many.synced();
        for number in 0..2 * PARTS_MAX as u64 {
            many.note(10 * number, 1).expect("room");
        }
        drop(many);
        let mut again = open(directory.path());
        assert_eq!(again.parts(), [EVERYTHING]);
        again.synced();
        again.note(1, 1).expect("room");
        assert_eq!(open(directory.path()).parts(), [part(1, 1)]);
        again.sync_failed().expect("it can be removed");
        again.note(2, 1).expect("nothing is written any more");
        assert_eq!(open(directory.path()).parts(), [EVERYTHING]);
        let path = directory.path().join(FILE);
        let sound = fs::read(&path).expect("a file");
        for damaged in
            [&sound[..0], &sound[..100], &vec![0; sound.len()], &[&sound[..], b"x"].concat()]
        {
            fs::write(&path, damaged).expect("room");
            assert_eq!(open(directory.path()).parts(), [EVERYTHING]);
        }
    }

    #[test]
    fn where_nothing_can_be_written_down_nothing_is_and_that_is_known() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join(FILE)).expect("a directory in its place");
        let error =
            Unsynced::open(directory.path()).expect_err("neither a file nor to be removed as one");
        assert_ne!(error.kind(), io::ErrorKind::NotFound, "{error}");
    }
}
