//! Which keys changed at which positions, put in order of the positions in bounded memory.
//!
//! What does not fit into memory is sorted piece by piece into a file without a name, which is gone
//! with the process however that ends; reading merges the pieces.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    fs::File,
    io::{self, BufWriter, Read, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
};

use bytes::Bytes;

use super::version::Position;

/// Keys in memory at a time, with what it takes to keep them.
const PIECE_BYTES: usize = 32 << 20;
/// What an entry takes up besides its key.
const ENTRY_BYTES: usize = size_of::<(Position, Bytes)>() + 32;
/// Read of each piece at a time.
const BUFFER_BYTES: usize = 64 << 10;

/// Takes them in any order.
pub(super) struct Sorter {
    /// Where the file may be; without one, all stays in memory.
    directory: Option<PathBuf>,
    piece_bytes: usize,
    piece: Vec<(Position, Bytes)>,
    bytes: usize,
    spilled: Option<Spilled>,
}

/// Sorted pieces in a file.
struct Spilled {
    file: File,
    pieces: Vec<Range<u64>>,
}

impl Sorter {
    pub(super) fn new(directory: Option<PathBuf>) -> Sorter {
        let piece_bytes = PIECE_BYTES;
        Sorter { directory, piece_bytes, piece: Vec::new(), bytes: 0, spilled: None }
    }

    pub(super) fn push(&mut self, at: Position, key: Bytes) -> io::Result<()> {
        self.bytes += ENTRY_BYTES + key.len();
        self.piece.push((at, key));
        match &self.directory {
            Some(_) if self.bytes >= self.piece_bytes => self.spill(),
            _ => Ok(()),
        }
    }

    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        if self.spilled.is_some() {
            self.spill()?;
        }
        self.piece.sort_unstable();
        Ok(Sorted { piece: self.piece, spilled: self.spilled })
    }

    fn spill(&mut self) -> io::Result<()> {
        self.piece.sort_unstable();
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => {
                let directory = self.directory.as_deref().expect("only with one is spilled");
                let file = tempfile::tempfile_in(directory)?;
                none.insert(Spilled { file, pieces: Vec::new() })
            }
        };
        let start = spilled.pieces.last().map_or(0, |piece| piece.end);
        let mut end = start;
        // The file is only ever written at its end.
        let mut file = BufWriter::new(&spilled.file);
        for (at, key) in self.piece.drain(..) {
            let key_bytes = u32::try_from(key.len()).expect("a key is shorter than a request");
            file.write_all(&at.revision.to_le_bytes())?;
            file.write_all(&at.index.to_le_bytes())?;
            file.write_all(&key_bytes.to_le_bytes())?;
            file.write_all(&key)?;
            end += u64::from(8 + 4 + 4 + key_bytes);
        }
        file.flush()?;
        drop(file);
        spilled.pieces.push(start..end);
        self.bytes = 0;
        Ok(())
    }
}

/// Gives them out in order, as often as wanted.
pub(super) struct Sorted {
    piece: Vec<(Position, Bytes)>,
    spilled: Option<Spilled>,
}

impl Sorted {
    /// From the first on.
    pub(super) fn iter(&self) -> io::Result<SortedIter<'_>> {
        let Some(Spilled { file, pieces }) = &self.spilled else {
            return Ok(SortedIter::Memory(self.piece.iter()));
        };
        let mut heap = BinaryHeap::with_capacity(pieces.len());
        for piece in pieces {
            let source = At { file, next: piece.start, end: piece.end };
            let mut source = io::BufReader::with_capacity(BUFFER_BYTES, source);
            if let Some(first) = read_entry(&mut source)? {
                heap.push(Reverse(Piece { first, source }));
            }
        }
        Ok(SortedIter::Merged(heap))
    }
}

/// See [`Sorted::iter`].
pub(super) enum SortedIter<'s> {
    Memory(std::slice::Iter<'s, (Position, Bytes)>),
    Merged(BinaryHeap<Reverse<Piece<'s>>>),
}

impl SortedIter<'_> {
    pub(super) fn next(&mut self) -> io::Result<Option<(Position, Bytes)>> {
        let heap = match self {
            SortedIter::Memory(iter) => return Ok(iter.next().cloned()),
            SortedIter::Merged(heap) => heap,
        };
        let Some(mut least) = heap.peek_mut() else { return Ok(None) };
        let Piece { first, source } = &mut least.0;
        match read_entry(source)? {
            Some(next) => Ok(Some(std::mem::replace(first, next))),
            None => Ok(Some(PeekMut::pop(least).0.first)),
        }
    }
}

/// A piece with its first entry read; pieces are compared by that.
pub(super) struct Piece<'s> {
    first: (Position, Bytes),
    source: io::BufReader<At<'s>>,
}

impl PartialEq for Piece<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first
    }
}

impl Eq for Piece<'_> {}

impl PartialOrd for Piece<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Piece<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.first.cmp(&other.first)
    }
}

/// A part of a file, which several read at once.
struct At<'s> {
    file: &'s File,
    next: u64,
    end: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(rest);
        let read = self.file.read_at(&mut buffer[..wanted], self.next)?;
        self.next += read as u64;
        Ok(read)
    }
}

fn read_entry(source: &mut io::BufReader<At<'_>>) -> io::Result<Option<(Position, Bytes)>> {
    if io::BufRead::fill_buf(source)?.is_empty() {
        return Ok(None);
    }
    let (mut revision, mut index, mut key_bytes) = ([0; 8], [0; 4], [0; 4]);
    source.read_exact(&mut revision)?;
    source.read_exact(&mut index)?;
    source.read_exact(&mut key_bytes)?;
    let mut key = vec![0; u32::from_le_bytes(key_bytes) as usize];
    source.read_exact(&mut key)?;
    let position =
        Position { revision: i64::from_le_bytes(revision), index: u32::from_le_bytes(index) };
    Ok(Some((position, key.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: i64) -> (Position, Bytes) {
        // Scattered, each once.
        let revision = number * 7919 % 10_007;
        (Position { revision, index: 0 }, Bytes::from(format!("key {number}")))
    }

    fn sorted(directory: Option<PathBuf>, piece_bytes: usize) -> Sorted {
        let mut sorter = Sorter { piece_bytes, ..Sorter::new(directory) };
        for number in 0..10_007 {
            let (at, key) = entry(number);
            sorter.push(at, key).expect("there is room");
        }
        sorter.finish().expect("there is room")
    }

    #[test]
    fn entries_come_in_order_in_memory_and_out_of_a_file_more_than_once() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut expected: Vec<_> = (0..10_007).map(entry).collect();
        expected.sort_unstable();
        let place = || Some(directory.path().to_owned());
        for (sorted, pieces) in
            [(sorted(None, 1000), 0), (sorted(place(), 64 << 20), 0), (sorted(place(), 10_000), 2)]
        {
            let found = sorted.spilled.as_ref().map_or(0, |spilled| spilled.pieces.len());
            assert!(found >= pieces && (found == 0) == (pieces == 0), "{found} pieces");
            for _ in 0..2 {
                let mut iter = sorted.iter().expect("it can be read");
                for expected in &expected {
                    assert_eq!(iter.next().expect("it can be read").as_ref(), Some(expected));
                }
                assert!(iter.next().expect("it can be read").is_none());
            }
        }
        let files = std::fs::read_dir(directory.path()).expect("it is there").count();
        assert_eq!(files, 0, "the file has no name");
    }
}
