//! The first two pages: what the file is, and where its tree begins.
//!
//! Each names a whole state of the file; of those that are intact, that of the later transaction
//! counts. All numbers are in the byte order of the machine that wrote them, which is little-endian
//! wherever etcd runs.

use std::io::{Read, Seek, SeekFrom};

use super::{
    BboltError, PAGE_BYTES,
    page::{Header, Kind},
};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// Behind the header of its page: everything but the checksum, then the checksum.
const CHECKED_BYTES: usize = 56;
const META_BYTES: usize = CHECKED_BYTES + 8;
/// Page sizes that there are, as powers of two.
const PAGE_BYTES_MIN: usize = 512;
const PAGE_BYTES_MAX: usize = 64 << 10;

/// A state of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) page_bytes: usize,
    /// The page that the tree of the buckets begins with.
    pub(super) root: u64,
    /// Where the list of free pages is.
    pub(super) freelist: u64,
    /// The first page that is not there any more.
    pub(super) pages: u64,
    pub(super) transaction: u64,
}

impl Meta {
    /// As the page `id`, which is 0 or 1.
    pub(super) fn encode(&self, id: u64) -> Vec<u8> {
        let mut page = Header { id, kind: Kind::Meta, count: 0, overflow: 0 }.encode().to_vec();
        page.extend(MAGIC.to_le_bytes());
        page.extend(VERSION.to_le_bytes());
        page.extend(u32::try_from(self.page_bytes).expect("a page is small").to_le_bytes());
        page.extend(0_u32.to_le_bytes());
        for number in [self.root, 0, self.freelist, self.pages, self.transaction] {
            page.extend(number.to_le_bytes());
        }
        let checksum = fnv_64a(&page[Header::BYTES..]);
        page.extend(checksum.to_le_bytes());
        page.resize(self.page_bytes, 0);
        page
    }

    /// Finds the newest state in a file.
    pub(super) fn find(file: &mut (impl Read + Seek), length: u64) -> Result<Meta, BboltError> {
        let first = Meta::read(file, 0)?;
        let second = match &first {
            Ok(meta) => Meta::read(file, meta.page_bytes as u64)?,
            // The first one would say where the second is.
            Err(reason) => {
                let mut second = Err(*reason);
                let mut offset = PAGE_BYTES_MIN;
                while second.is_err() && offset <= PAGE_BYTES_MAX {
                    second = Meta::read(file, offset as u64)?;
                    second = second.and_then(|meta| match meta.page_bytes == offset {
                        true => Ok(meta),
                        false => Err("its page size is another one"),
                    });
                    offset *= 2;
                }
                second
            }
        };
        let meta = match (first, second) {
            (Ok(first), Ok(second)) if second.transaction > first.transaction => second,
            (Ok(meta), _) | (Err(_), Ok(meta)) => meta,
            (Err(reason), Err(_)) => return Err(BboltError::NotADatabase(reason)),
        };
        let expected = meta.pages.saturating_mul(meta.page_bytes as u64);
        if length < expected {
            return Err(BboltError::CutShort { length, expected });
        }
        if meta.root < 2 || meta.root >= meta.pages {
            return Err(BboltError::Damaged { page: meta.root, reason: "cannot be the root" });
        }
        Ok(meta)
    }

    /// The state in the page at `offset`, or why it is none.
    fn read(
        file: &mut (impl Read + Seek),
        offset: u64,
    ) -> Result<Result<Meta, &'static str>, BboltError> {
        let mut page = [0; Header::BYTES + META_BYTES];
        file.seek(SeekFrom::Start(offset))?;
        match file.read_exact(&mut page) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Ok(Err("it is too short"));
            }
            result => result?,
        }
        Ok(Meta::decode(&page[Header::BYTES..]))
    }

    fn decode(meta: &[u8]) -> Result<Meta, &'static str> {
        let half = |at: usize| u32::from_le_bytes(meta[at..at + 4].try_into().expect("four"));
        let number = |at: usize| u64::from_le_bytes(meta[at..at + 8].try_into().expect("eight"));
        if half(0) != MAGIC {
            return Err("it does not begin like one");
        }
        if half(4) != VERSION {
            return Err("it is of another version of the format");
        }
        if number(CHECKED_BYTES) != fnv_64a(&meta[..CHECKED_BYTES]) {
            return Err("the checksum of its first page is wrong");
        }
        let page_bytes = half(8) as usize;
        if !page_bytes.is_power_of_two() || !(PAGE_BYTES_MIN..=PAGE_BYTES_MAX).contains(&page_bytes)
        {
            return Err("its page size makes no sense");
        }
        Ok(Meta {
            page_bytes,
            root: number(16),
            freelist: number(32),
            pages: number(40),
            transaction: number(48),
        })
    }
}

/// The checksum that the format prescribes.
fn fnv_64a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Makes the checksum of a page right again, if there is place for one.
#[cfg(test)]
pub(super) fn reseal(page: &mut [u8]) {
    if let Some(meta) = page.get_mut(Header::BYTES..Header::BYTES + META_BYTES) {
        let checksum = fnv_64a(&meta[..CHECKED_BYTES]);
        meta[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    }
}

const _: () = assert!(PAGE_BYTES >= PAGE_BYTES_MIN && PAGE_BYTES <= PAGE_BYTES_MAX);

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn meta(transaction: u64) -> Meta {
        Meta { page_bytes: PAGE_BYTES, root: 3, freelist: 2, pages: 4, transaction }
    }

    fn file(metas: [Meta; 2]) -> Vec<u8> {
        let mut file = [metas[0].encode(0), metas[1].encode(1)].concat();
        file.resize(4 * PAGE_BYTES, 0);
        file
    }

    fn find(file: Vec<u8>) -> Result<Meta, BboltError> {
        let length = file.len() as u64;
        Meta::find(&mut Cursor::new(file), length)
    }

    #[test]
    fn the_checksum_is_the_one_of_the_format() {
        // The test vectors of its authors.
        assert_eq!(fnv_64a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_64a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_newest_intact_state_counts() {
        assert_eq!(find(file([meta(4), meta(5)])).expect("whole"), meta(5));
        assert_eq!(find(file([meta(6), meta(5)])).expect("whole"), meta(6));
        for (damaged, expected) in [(0, 5), (1, 6)] {
            let mut bytes = file([meta(6), meta(5)]);
            bytes[damaged * PAGE_BYTES + 40] ^= 1;
            assert_eq!(find(bytes).expect("one is whole"), meta(expected));
        }
    }

    #[test]
    fn what_is_no_database_is_refused_with_the_reason() {
        let refusal = |bytes| find(bytes).expect_err("no database").to_string();
        assert!(refusal(vec![0; 9000]).contains("does not begin like one"));
        assert!(refusal(Vec::new()).contains("too short"));
        let mut short = file([meta(1), meta(2)]);
        short.truncate(4 * PAGE_BYTES - 1);
        assert!(refusal(short).contains("cut short"));
        let nowhere = Meta { root: 4, ..meta(2) };
        assert!(refusal(file([meta(1), nowhere])).contains("root"));
    }
}
