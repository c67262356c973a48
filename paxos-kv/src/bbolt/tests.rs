//! Files that are written and read back.

use std::io::{self, Cursor};

use proptest::prelude::*;

use super::*;

pub(super) type Row = (Vec<u8>, Vec<u8>);

/// Buckets with rows; names ascend.
pub(super) type Contents = Vec<(&'static str, Vec<Row>)>;

fn write_all<W: io::Write>(contents: &Contents, out: W, layout: Layout) -> io::Result<Layout> {
    let mut file = FileWriter::begin(out, layout)?;
    for (name, rows) in contents {
        let mut bucket = file.bucket(name);
        for (key, value) in rows {
            bucket.put(key, value)?;
        }
        bucket.finish()?;
    }
    file.finish()
}

pub(super) fn file_of(contents: &Contents) -> Vec<u8> {
    let layout = write_all(contents, io::sink(), Layout::default()).expect("nothing is written");
    let mut file = Vec::new();
    let again = write_all(contents, &mut file, layout).expect("memory");
    assert_eq!((again, layout.bytes()), (layout, file.len() as u64));
    file
}

pub(super) fn read_all(file: &[u8]) -> Result<Vec<(String, Vec<Row>)>, BboltError> {
    let mut database = Database::open(Cursor::new(file), file.len() as u64)?;
    let mut contents = Vec::new();
    for (name, bucket) in database.buckets()? {
        let mut rows = Vec::new();
        let mut cursor = database.cursor(&bucket)?;
        while let Some((key, value)) = cursor.next()? {
            rows.push((key.to_vec(), value.to_vec()));
        }
        contents.push((String::from_utf8_lossy(&name).into_owned(), rows));
    }
    Ok(contents)
}

pub(super) fn numbered(count: u32, value_bytes: usize) -> Vec<Row> {
    (0..count).map(|number| (number.to_be_bytes().to_vec(), vec![7; value_bytes])).collect()
}

fn assert_comes_back(contents: &Contents) {
    let expected = contents.iter().map(|(name, rows)| ((*name).to_owned(), rows.clone()));
    assert_eq!(read_all(&file_of(contents)).expect("whole"), expected.collect::<Vec<_>>());
}

#[test]
fn what_is_written_comes_back() {
    assert_comes_back(&vec![]);
    assert_comes_back(&vec![("a", vec![]), ("b", numbered(1, 0)), ("c", numbered(3, 900))]);
    // A row of many pages among short ones.
    let mut rows = numbered(50, 10);
    rows[20].1 = vec![9; 3 * PAGE_BYTES + 17];
    assert_comes_back(&vec![("key", rows)]);
    assert_comes_back(&vec![("key", numbered(20_000, 100)), ("meta", numbered(2, 8))]);
}

/// Whatever the number of leaves: bbolt takes such a branch for a mistake.
#[test]
fn no_branch_is_left_with_a_single_child() {
    // One row to a leaf, four leaves to a branch.
    let row = |number: u32| {
        let mut key = number.to_be_bytes().to_vec();
        key.resize(1000, 0);
        (key, vec![7; 2500])
    };
    for leaves in 1..140 {
        let file = file_of(&vec![("key", (0..leaves).map(row).collect())]);
        let mut branches = 0;
        for page in file.chunks(PAGE_BYTES).filter(|page| page[8..10] == [1, 0]) {
            let count = u16::from_le_bytes([page[10], page[11]]);
            assert!((2..=4).contains(&count), "{leaves} leaves, a branch with {count}");
            branches += 1;
        }
        assert!(branches >= (leaves - 1) / 4);
        assert_eq!(read_all(&file).expect("whole")[0].1.len(), leaves as usize);
    }
}

#[test]
fn rows_out_of_order_are_refused() {
    let row = |key: &[u8]| (key.to_vec(), Vec::new());
    for rows in [vec![row(b"b"), row(b"a")], vec![row(b"a"), row(b"a")], vec![row(b"")]] {
        let error = write_all(&vec![("key", rows)], io::sink(), Layout::default());
        assert_eq!(error.expect_err("refused").kind(), io::ErrorKind::InvalidInput);
    }
    let error = write_all(&vec![("b", vec![]), ("a", vec![])], io::sink(), Layout::default());
    assert!(error.is_err());
}

/// A branch that leads to itself, or twice to the same page, comes to an end.
#[test]
fn a_tree_in_circles_is_noticed() {
    let whole = file_of(&vec![("key", numbered(500, 900))]);
    let branch = whole.chunks(PAGE_BYTES).position(|page| page[8..10] == [1, 0]);
    let at = branch.expect("there is a branch") * PAGE_BYTES;
    let own: [u8; 8] = whole[at..at + 8].try_into().expect("eight bytes");
    let first: [u8; 8] = whole[at + 24..at + 32].try_into().expect("eight bytes");
    for (element, target) in [(0, own), (1, first), (1, own)] {
        let mut file = whole.clone();
        let place = at + 16 + element * 16 + 8;
        file[place..place + 8].copy_from_slice(&target);
        let error = read_all(&file).expect_err("damaged");
        assert!(matches!(error, BboltError::Damaged { .. }), "{error}");
    }
}

proptest! {
    #[test]
    fn any_rows_come_back(
        keys in prop::collection::btree_map(
            prop::collection::vec(any::<u8>(), 1..40), 0..6000_usize, 0..300),
    ) {
        let rows = keys.into_iter().map(|(key, bytes)| (key, vec![3; bytes])).collect();
        assert_comes_back(&vec![("key", rows)]);
    }
}
