//! Fuzz targets for files that others have written: pages of any bytes, and real files with bytes
//! replaced, behind first pages whose checksum is right. `docs/PROOF.md` has the commands.

use super::{
    PAGE_BYTES,
    meta::{Meta, reseal},
    tests::{Row, file_of, numbered, read_all},
};

/// What a file may make a reader hold at a time: a page for each level, each no longer than the file.
const LEVELS: u64 = 48;
/// And what the rows are that are read, which a reader need not keep.
const ROWS_FACTOR: u64 = 8;

/// Reads a file, which must come to an end in bounded memory, and returns its rows.
fn read(file: &[u8]) -> Option<Vec<(String, Vec<Row>)>> {
    let mut contents = None;
    let allocated = allocation_counter::measure(|| contents = read_all(file).ok());
    let bound = (LEVELS + ROWS_FACTOR) * file.len() as u64 + (64 << 10);
    assert!(allocated.bytes_max <= bound, "{} bytes", allocated.bytes_max);
    let contents = contents?;
    for (_, rows) in &contents {
        assert!(rows.is_sorted_by(|one, next| one.0 < next.0), "keys ascend");
    }
    Some(contents)
}

/// Any bytes, behind first pages that say they are all there. Pages with a sensible kind and number
/// are made of some of them, so that not all end at the first look.
#[test]
fn pages() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let (shape, bytes) = bytes.split_at(bytes.len().min(1));
        let mut body = bytes.to_vec();
        body.resize(body.len().next_multiple_of(PAGE_BYTES / 8).max(PAGE_BYTES / 8), 0);
        let page_bytes = PAGE_BYTES / 8;
        for (index, page) in body.chunks_mut(page_bytes).enumerate() {
            if shape.first().is_some_and(|shape| shape & 1 == 0) {
                page[..8].copy_from_slice(&(index as u64 + 2).to_le_bytes());
                page[8] &= 3;
                page[9] = 0;
                page[11] = 0;
                page[13..16].fill(0);
            }
        }
        let pages = 2 + (body.len() / page_bytes) as u64;
        let meta = Meta { page_bytes, root: 2, freelist: 2, pages, transaction: 1 };
        read(&[meta.encode(0), meta.encode(1), body].concat());
    });
}

#[test]
fn damaged_files() {
    let mut rows = numbered(150, 40);
    rows[7].1 = vec![1; 6000];
    let whole = file_of(&vec![("alarm", vec![]), ("key", rows), ("meta", numbered(3, 8))]);
    assert_eq!(read(&whole).map(|buckets| buckets.len()), Some(3));
    type Damage = (bool, Vec<(u16, u8)>, Option<u16>);
    bolero::check!().with_type::<Damage>().for_each(|(in_headers, edits, cut)| {
        let mut file = whole.clone();
        let pages = file.len() / PAGE_BYTES;
        for (at, byte) in edits.iter().take(6) {
            let at = usize::from(*at);
            let at = match in_headers {
                // Where it hurts most: in front of a page.
                true => at % pages * PAGE_BYTES + at / pages % 64,
                false => at % file.len(),
            };
            file[at] = *byte;
        }
        if let Some(length) = cut {
            file.truncate(usize::from(*length) % file.len());
        }
        read(&file);
        for page in file.chunks_mut(PAGE_BYTES).take(2) {
            reseal(page);
        }
        read(&file);
    });
}
