//! Reading a file: every bucket of it, row by row.

use std::io::{Read, Seek, SeekFrom};

use super::{
    BboltError,
    meta::Meta,
    page::{BUCKET_BYTES, Header, Kind, Page, Row},
};

/// The longest page, pages that belong to it included: what a cursor may hold in memory at once. A
/// row of etcd's is some megabytes at most.
const LEAF_BYTES_MAX: u64 = 256 << 20;
/// The same of a branch, which has keys only.
const BRANCH_BYTES_MAX: u64 = 1 << 20;
/// Levels of a tree: with two children to each page, more rows than any disk can hold.
const DEPTH_MAX: usize = 40;
/// Buckets of a file; etcd has a dozen.
const BUCKETS_MAX: usize = 1024;
/// What the names and the small buckets among them take up at most.
const BUCKETS_BYTES_MAX: usize = 16 << 20;

/// A file to be read.
pub(crate) struct Database<F> {
    file: F,
    meta: Meta,
}

/// A bucket of it.
#[derive(Clone)]
pub(crate) enum Bucket {
    /// A tree of its own, by the page of its root.
    Root(u64),
    /// A page within the element that names it, on that page.
    Inline(u64, Vec<u8>),
}

impl<F: Read + Seek> Database<F> {
    /// Looks at the first pages of a file of this length.
    pub(crate) fn open(mut file: F, length: u64) -> Result<Database<F>, BboltError> {
        let meta = Meta::find(&mut file, length)?;
        Ok(Database { file, meta })
    }

    /// How long it is by what it says itself.
    pub(crate) fn bytes(&self) -> u64 {
        self.meta.pages * self.meta.page_bytes as u64
    }

    /// Its buckets, in ascending order of their names.
    pub(crate) fn buckets(&mut self) -> Result<Vec<(Vec<u8>, Bucket)>, BboltError> {
        let mut buckets = Vec::new();
        let mut bytes = 0;
        let root = Bucket::Root(self.meta.root);
        let mut cursor = self.cursor(&root)?;
        while let Some((page, row)) = cursor.next_element()? {
            let damaged = |reason| BboltError::Damaged { page, reason };
            if !row.is_bucket {
                return Err(damaged("holds a row outside of all buckets"));
            }
            bytes += row.key.len() + row.value.len();
            if buckets.len() == BUCKETS_MAX || bytes > BUCKETS_BYTES_MAX {
                return Err(damaged("has too many buckets"));
            }
            let header = row.value.first_chunk().ok_or(damaged("has a bucket cut short"))?;
            let bucket = match u64::from_le_bytes(*header) {
                0 => {
                    let inline = row.value.get(BUCKET_BYTES..);
                    Bucket::Inline(page, inline.ok_or(damaged("has a bucket cut short"))?.to_vec())
                }
                root => Bucket::Root(root),
            };
            buckets.push((row.key.to_vec(), bucket));
        }
        Ok(buckets)
    }

    /// The rows of a bucket, from the first on.
    pub(crate) fn cursor(&mut self, bucket: &Bucket) -> Result<Cursor<'_, F>, BboltError> {
        let mut cursor = Cursor {
            file: &mut self.file,
            meta: self.meta,
            path: Vec::new(),
            pages: 0,
            last_key: None,
        };
        match bucket {
            Bucket::Root(id) => cursor.descend(*id)?,
            Bucket::Inline(page, bytes) => {
                let page = Page::new(*page, bytes.clone())?;
                if page.kind != Kind::Leaf {
                    let reason = "has a small bucket that is no leaf";
                    return Err(BboltError::Damaged { page: page.number, reason });
                }
                cursor.path.push((page, 0));
            }
        }
        Ok(cursor)
    }
}

/// A row.
pub(crate) type KeyAndValue<'c> = (&'c [u8], &'c [u8]);

/// A walk through a bucket.
pub(crate) struct Cursor<'d, F> {
    file: &'d mut F,
    meta: Meta,
    /// From the root down, each page with the element to go on with.
    path: Vec<(Page, usize)>,
    /// Pages read so far: a tree has each page once, so there cannot be more than the file has.
    pages: u64,
    last_key: Option<Vec<u8>>,
}

impl<F: Read + Seek> Cursor<'_, F> {
    /// The next row.
    pub(crate) fn next(&mut self) -> Result<Option<KeyAndValue<'_>>, BboltError> {
        match self.next_element()? {
            Some((page, row)) if row.is_bucket => {
                Err(BboltError::Damaged { page, reason: "holds a bucket within a bucket" })
            }
            Some((_, row)) => Ok(Some((row.key, row.value))),
            None => Ok(None),
        }
    }

    fn next_element(&mut self) -> Result<Option<(u64, Row<'_>)>, BboltError> {
        loop {
            let Some((page, next)) = self.path.last_mut() else { return Ok(None) };
            if *next == page.count() {
                self.path.pop();
                continue;
            }
            *next += 1;
            let index = *next - 1;
            if page.kind == Kind::Leaf {
                break;
            }
            let child = page.child(index);
            self.descend(child)?;
        }
        let (page, next) = self.path.last().expect("the loop ended at a leaf");
        let row = page.row(next - 1)?;
        if self.last_key.as_deref().is_some_and(|last| row.key <= last) {
            let reason = "has keys that do not ascend";
            return Err(BboltError::Damaged { page: page.number, reason });
        }
        let last_key = self.last_key.get_or_insert_default();
        last_key.clear();
        last_key.extend(row.key);
        Ok(Some((page.number, row)))
    }

    fn descend(&mut self, id: u64) -> Result<(), BboltError> {
        let damaged = |reason| BboltError::Damaged { page: id, reason };
        if self.path.len() == DEPTH_MAX {
            return Err(damaged("lies too deep"));
        }
        self.pages += 1;
        if self.pages > self.meta.pages {
            return Err(damaged("has been read before"));
        }
        let page = self.read(id)?;
        self.path.push((page, 0));
        Ok(())
    }

    fn read(&mut self, id: u64) -> Result<Page, BboltError> {
        let damaged = |reason| BboltError::Damaged { page: id, reason };
        if id < 2 || id >= self.meta.pages {
            return Err(damaged("is not one of the file"));
        }
        let page_bytes = self.meta.page_bytes as u64;
        self.file.seek(SeekFrom::Start(id * page_bytes))?;
        let mut header = [0; Header::BYTES];
        self.file.read_exact(&mut header)?;
        let Header { id: own, kind, overflow, .. } = Header::decode(id, header)?;
        if own != id {
            return Err(damaged("takes itself for another one"));
        }
        if u64::from(overflow) >= self.meta.pages - id {
            return Err(damaged("goes on behind the end of the file"));
        }
        let bytes = (1 + u64::from(overflow)) * page_bytes;
        let bytes_max = if kind == Kind::Leaf { LEAF_BYTES_MAX } else { BRANCH_BYTES_MAX };
        if bytes > bytes_max {
            return Err(damaged("is too long"));
        }
        let mut whole = vec![0; usize::try_from(bytes).map_err(|_| damaged("is too long"))?];
        whole[..Header::BYTES].copy_from_slice(&header);
        self.file.read_exact(&mut whole[Header::BYTES..])?;
        Page::new(id, whole)
    }
}
