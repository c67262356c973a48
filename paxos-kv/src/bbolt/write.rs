//! Writing a file from front to back.
//!
//! The pages of a tree are written as they fill, leaves before the branches above them. What is left
//! of a branch is never less than two elements: bbolt takes such a branch for a mistake when it
//! changes the file later.

use std::io::{self, Write};

use super::{
    PAGE_BYTES,
    meta::Meta,
    page::{BUCKET_BYTES, BUCKET_FLAG, ELEMENT_BYTES, Header, Kind},
};

/// The longest bucket that is kept within the tree of all buckets, as bbolt does.
const INLINE_BYTES_MAX: usize = PAGE_BYTES / 4;
/// The longest key: three of them fit into a branch.
const KEY_BYTES_MAX: usize = 1024;
/// The page of the list of free pages, behind the two meta pages. There are none.
const FREELIST: u64 = 2;

/// What the first pages say of the others. It is found by writing the same rows to
/// [`std::io::sink`] before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    root: u64,
    pages: u64,
}

impl Layout {
    /// How long the file is.
    pub(crate) fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// A file that is being written. Buckets come in ascending order of their names.
pub(crate) struct FileWriter<W> {
    pages: Pages<W>,
    buckets: Tree,
}

impl<W: Write> FileWriter<W> {
    /// Begins a file with this layout.
    pub(crate) fn begin(out: W, layout: Layout) -> io::Result<FileWriter<W>> {
        let mut pages = Pages { out, next: 0 };
        for id in 0..FREELIST {
            let Layout { root, pages: count } = layout;
            let meta = Meta {
                page_bytes: PAGE_BYTES,
                root,
                freelist: FREELIST,
                pages: count,
                transaction: id,
            };
            pages.out.write_all(&meta.encode(id))?;
        }
        pages.next = FREELIST;
        pages.write(Kind::Freelist, 0, &[])?;
        Ok(FileWriter { pages, buckets: Tree::default() })
    }

    /// Begins a bucket, which is there once it is finished.
    pub(crate) fn bucket(&mut self, name: &'static str) -> BucketWriter<'_, W> {
        BucketWriter { file: self, name, tree: Tree::default() }
    }

    /// Ends the file, and returns its layout.
    pub(crate) fn finish(mut self) -> io::Result<Layout> {
        let root = self.buckets.finish(&mut self.pages)?;
        self.pages.out.flush()?;
        Ok(Layout { root, pages: self.pages.next })
    }
}

/// A bucket that is being written. Rows come in ascending order of their keys.
#[must_use = "a bucket is in the file once it is finished"]
pub(crate) struct BucketWriter<'f, W> {
    file: &'f mut FileWriter<W>,
    name: &'static str,
    tree: Tree,
}

impl<W: Write> BucketWriter<'_, W> {
    /// Adds a row.
    ///
    /// # Errors
    ///
    /// If it cannot be written, the key is too long or not above the one before.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.tree.put(0, key, value, &mut self.file.pages)
    }

    /// Ends the bucket.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let pages = &mut self.file.pages;
        let mut value = Vec::with_capacity(BUCKET_BYTES);
        match self.tree.inline() {
            Some(page) => {
                value.resize(BUCKET_BYTES, 0);
                value.extend(page);
            }
            None => {
                value.extend(self.tree.finish(pages)?.to_le_bytes());
                value.resize(BUCKET_BYTES, 0);
            }
        }
        self.file.buckets.put(BUCKET_FLAG, self.name.as_bytes(), &value, pages)
    }
}

/// Pages behind each other.
struct Pages<W> {
    out: W,
    /// The one to be written next.
    next: u64,
}

impl<W: Write> Pages<W> {
    /// Writes a page, as long as it has to be, and returns its id.
    fn write(&mut self, kind: Kind, count: usize, body: &[&[u8]]) -> io::Result<u64> {
        let length = Header::BYTES + body.iter().map(|part| part.len()).sum::<usize>();
        let pages = length.div_ceil(PAGE_BYTES);
        let header = header(self.next, kind, count, pages - 1)?;
        self.out.write_all(&header.encode())?;
        for part in body {
            self.out.write_all(part)?;
        }
        let padding = [0; PAGE_BYTES];
        self.out.write_all(&padding[..pages * PAGE_BYTES - length])?;
        self.next += pages as u64;
        Ok(header.id)
    }
}

fn header(id: u64, kind: Kind, count: usize, overflow: usize) -> io::Result<Header> {
    let overflow = u32::try_from(overflow).map_err(|_| refused("a row is too long"))?;
    let count = u16::try_from(count).expect("a page has room for a few hundred elements");
    Ok(Header { id, kind, count, overflow })
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// A tree that is being written: the leaf that is not full yet, and the branches above it.
#[derive(Default)]
struct Tree {
    leaf: Leaf,
    /// From the one above the leaves upwards.
    branches: Vec<Branch>,
    last_key: Option<Vec<u8>>,
}

impl Tree {
    fn put<W: Write>(
        &mut self,
        flags: u32,
        key: &[u8],
        value: &[u8],
        pages: &mut Pages<W>,
    ) -> io::Result<()> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(refused("a key is empty or too long"));
        }
        if self.last_key.as_deref().is_some_and(|last| key <= last) {
            return Err(refused("keys do not ascend"));
        }
        let value_bytes = u32::try_from(value.len()).map_err(|_| refused("a row is too long"))?;
        if !self.leaf.has_room(key.len() + value.len()) {
            self.end_leaf(pages)?;
        }
        let last_key = self.last_key.get_or_insert_default();
        last_key.clear();
        last_key.extend(key);
        self.leaf.push(flags, key, value, value_bytes);
        Ok(())
    }

    /// The tree as a page within another one, if it is small enough.
    fn inline(&self) -> Option<Vec<u8>> {
        if !self.branches.is_empty() || self.leaf.bytes() > INLINE_BYTES_MAX {
            return None;
        }
        let header =
            header(0, Kind::Leaf, self.leaf.elements.len(), 0).expect("it is less than a page");
        Some([&header.encode()[..], &self.leaf.table(), &self.leaf.data].concat())
    }

    /// Writes what is left, and returns the page of the root.
    fn finish<W: Write>(&mut self, pages: &mut Pages<W>) -> io::Result<u64> {
        if self.branches.is_empty() || !self.leaf.elements.is_empty() {
            self.end_leaf(pages)?;
        }
        let mut level = 0;
        loop {
            let branch = &mut self.branches[level];
            if let [(_, root)] = branch.children[..] {
                let is_top = level + 1 == self.branches.len();
                assert!(is_top, "what is left of a branch is two elements at least");
                return Ok(root);
            }
            let children = std::mem::take(&mut branch.children);
            let fits = fitting(&children);
            // The last page may have to leave one to the next, for that one not to be alone.
            let first = if fits == children.len() { fits } else { fits.min(children.len() - 2) };
            for part in [&children[..first], &children[first..]] {
                if !part.is_empty() {
                    let id = write_branch(part, pages)?;
                    self.add(level + 1, part[0].0.clone(), id, pages)?;
                }
            }
            level += 1;
        }
    }

    fn end_leaf<W: Write>(&mut self, pages: &mut Pages<W>) -> io::Result<()> {
        let leaf = std::mem::take(&mut self.leaf);
        let count = leaf.elements.len();
        let id = pages.write(Kind::Leaf, count, &[&leaf.table(), &leaf.data])?;
        self.add(0, leaf.first_key(), id, pages)
    }

    /// Adds a page to the branch of a level, and writes what has become too much for it.
    fn add<W: Write>(
        &mut self,
        level: usize,
        key: Vec<u8>,
        id: u64,
        pages: &mut Pages<W>,
    ) -> io::Result<()> {
        if level == self.branches.len() {
            self.branches.push(Branch::default());
        }
        let branch = &mut self.branches[level];
        branch.children.push((key, id));
        let fits = fitting(&branch.children);
        if branch.children.len() < fits + 2 {
            return Ok(());
        }
        let rest = branch.children.split_off(fits);
        let full = std::mem::replace(&mut branch.children, rest);
        let id = write_branch(&full, pages)?;
        let key = full.into_iter().next().expect("a full page has elements").0;
        self.add(level + 1, key, id, pages)
    }
}

/// A leaf that is not full yet.
#[derive(Default)]
struct Leaf {
    elements: Vec<Element>,
    /// Keys and values.
    data: Vec<u8>,
}

struct Element {
    flags: u32,
    /// Where in the data.
    start: usize,
    key_bytes: usize,
    value_bytes: u32,
}

impl Leaf {
    fn bytes(&self) -> usize {
        Header::BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    /// Whether one more row fits; the first one always does.
    fn has_room(&self, row_bytes: usize) -> bool {
        self.elements.is_empty() || self.bytes() + ELEMENT_BYTES + row_bytes <= PAGE_BYTES
    }

    fn push(&mut self, flags: u32, key: &[u8], value: &[u8], value_bytes: u32) {
        let start = self.data.len();
        self.elements.push(Element { flags, start, key_bytes: key.len(), value_bytes });
        self.data.extend(key);
        self.data.extend(value);
    }

    fn first_key(&self) -> Vec<u8> {
        self.elements.first().map_or(Vec::new(), |first| self.data[..first.key_bytes].to_vec())
    }

    fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(self.elements.len() * ELEMENT_BYTES);
        for (index, element) in self.elements.iter().enumerate() {
            let ahead = (self.elements.len() - index) * ELEMENT_BYTES;
            for number in [
                element.flags,
                u32::try_from(ahead + element.start).expect("all but the last row fit into a page"),
                u32::try_from(element.key_bytes).expect("a key is short"),
                element.value_bytes,
            ] {
                table.extend(number.to_le_bytes());
            }
        }
        table
    }
}

/// A branch that is not full yet: the first key of each page below it.
#[derive(Default)]
struct Branch {
    children: Vec<(Vec<u8>, u64)>,
}

/// How many of the children fit into one page, from the first on.
fn fitting(children: &[(Vec<u8>, u64)]) -> usize {
    let mut bytes = Header::BYTES;
    let too_much = children.iter().position(|(key, _)| {
        bytes += ELEMENT_BYTES + key.len();
        bytes > PAGE_BYTES
    });
    too_much.unwrap_or(children.len())
}

fn write_branch<W: Write>(children: &[(Vec<u8>, u64)], pages: &mut Pages<W>) -> io::Result<u64> {
    let (mut table, mut keys) = (Vec::new(), Vec::new());
    for (index, (key, id)) in children.iter().enumerate() {
        let position = (children.len() - index) * ELEMENT_BYTES + keys.len();
        for number in [position, key.len()] {
            let number = u32::try_from(number).expect("it is less than a page");
            table.extend(number.to_le_bytes());
        }
        table.extend(id.to_le_bytes());
        keys.extend(key);
    }
    pages.write(Kind::Branch, children.len(), &[&table, &keys])
}
