//! Pages: a header, a table of elements, and what they hold behind it.
//!
//! ```text
//! header   id u64, kind u16, count u16, overflow u32
//! leaf     count × (flags u32, position u32, key length u32, value length u32), keys and values
//! branch   count × (position u32, key length u32, page u64), keys
//! ```
//!
//! A position counts from the element that has it. `overflow` is how many pages follow that belong to
//! this one.

use super::BboltError;

/// In front of every page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) count: u16,
    pub(super) overflow: u32,
}

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Branch = 1,
    Leaf = 2,
    Meta = 4,
    Freelist = 16,
}

impl Header {
    pub(super) const BYTES: usize = 16;

    pub(super) fn encode(self) -> [u8; Header::BYTES] {
        let mut bytes = [0; Header::BYTES];
        bytes[..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..10].copy_from_slice(&(self.kind as u16).to_le_bytes());
        bytes[10..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..].copy_from_slice(&self.overflow.to_le_bytes());
        bytes
    }

    /// Of a page of the tree; `page` is what errors call it.
    pub(super) fn decode(page: u64, bytes: [u8; Header::BYTES]) -> Result<Header, BboltError> {
        let short = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let kind = match short(8) {
            1 => Kind::Branch,
            2 => Kind::Leaf,
            _ => return Err(BboltError::Damaged { page, reason: "is neither branch nor leaf" }),
        };
        Ok(Header {
            id: u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")),
            kind,
            count: short(10),
            overflow: u32::from_le_bytes(bytes[12..].try_into().expect("four bytes")),
        })
    }
}

/// Of every element, in leaves and branches.
pub(super) const ELEMENT_BYTES: usize = 16;
/// The flag of an element whose value is a bucket.
pub(super) const BUCKET_FLAG: u32 = 1;
/// In front of the value of such an element: the root's page, or 0 if the bucket follows as a page of
/// its own; and a counter that nobody needs here.
pub(super) const BUCKET_BYTES: usize = 16;

/// A page of the tree that has been read.
pub(super) struct Page {
    /// What errors call it.
    pub(super) number: u64,
    pub(super) kind: Kind,
    count: usize,
    bytes: Vec<u8>,
}

/// A row of a leaf.
pub(super) struct Row<'p> {
    pub(super) is_bucket: bool,
    pub(super) key: &'p [u8],
    pub(super) value: &'p [u8],
}

impl Page {
    /// Takes the bytes of a whole page, header included.
    pub(super) fn new(number: u64, bytes: Vec<u8>) -> Result<Page, BboltError> {
        let damaged = |reason| BboltError::Damaged { page: number, reason };
        let header = bytes.first_chunk().ok_or(damaged("is cut short"))?;
        let Header { kind, count, .. } = Header::decode(number, *header)?;
        let count = usize::from(count);
        if Header::BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(damaged("has more elements than there is room for"));
        }
        Ok(Page { number, kind, count, bytes })
    }

    /// How many elements it has.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The page that an element of a branch leads to.
    pub(super) fn child(&self, index: usize) -> u64 {
        debug_assert_eq!(self.kind, Kind::Branch);
        let at = Header::BYTES + index * ELEMENT_BYTES + 8;
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    /// An element of a leaf.
    pub(super) fn row(&self, index: usize) -> Result<Row<'_>, BboltError> {
        debug_assert_eq!(self.kind, Kind::Leaf);
        let start = Header::BYTES + index * ELEMENT_BYTES;
        let number = |field: usize| {
            let at = start + 4 * field;
            u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
        };
        let part = |from: u64, length: u32| {
            let from = usize::try_from(from).ok()?;
            self.bytes.get(from..from.checked_add(length as usize)?)
        };
        let key_at = start as u64 + u64::from(number(1));
        let key = part(key_at, number(2));
        let value = part(key_at + u64::from(number(2)), number(3));
        let (Some(key), Some(value)) = (key, value) else {
            let reason = "has an element that lies outside of it";
            return Err(BboltError::Damaged { page: self.number, reason });
        };
        Ok(Row { is_bucket: number(0) & BUCKET_FLAG != 0, key, value })
    }
}
