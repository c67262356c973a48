//! Whose state a file is, and files that are too old to say so.

use std::path::PathBuf;

use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;

use super::*;
use crate::store::{StoreError, blocks::tests::open_tables};

const META: TableDefinition<'_, &str, i64> = TableDefinition::new("meta");

fn state_file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    (directory, file)
}

fn open_as(file: &Path, owner: Owner) -> Result<Fixture, StoreError> {
    let backend = Backend::Redb { file: file.to_owned(), owner };
    let store = Store::open(backend)?;
    let (reader, slot) = (store.reader(), store.shared.durable());
    Ok(Fixture { store, reader, slot })
}

fn refused(file: &Path, owner: Owner) -> StoreError {
    open_as(file, owner).map(|_| ()).expect_err("refused")
}

fn meta(file: &Path) -> Vec<(String, i64)> {
    let database = open_tables(file);
    let reading = database.begin_read().expect("a read");
    let table = reading.open_table(META).expect("the table");
    let rows = table.iter().expect("rows").map(|row| row.expect("a row"));
    rows.map(|(name, value)| (name.value().to_owned(), value.value())).collect()
}

/// A file as the first version left it, row by row: `b`, put and deleted, and `a`, put twice, compacted
/// at its first revision but not yet cleaned up.
fn write_format_1(file: &Path) {
    let current: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("current");
    let history: TableDefinition<'_, (&[u8], i64, u32), &[u8]> = TableDefinition::new("history");
    let feed: TableDefinition<'_, (i64, u32), &[u8]> = TableDefinition::new("feed");
    let members: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("members");
    let live = |revision: u8, create: u8, version: u8, value: &[u8]| {
        let number = |low: u8| [low, 0, 0, 0, 0, 0, 0, 0];
        let numbers = [number(create), number(version), number(0)].concat();
        [&[1], &number(revision)[..], &[0; 4], &numbers, value].concat()
    };
    let database = Database::create(file).expect("a file");
    let writing = database.begin_write().expect("a write");
    {
        let mut current = writing.open_table(current).expect("a table");
        current.insert(&b"a"[..], &live(5, 2, 2, b"two")[..]).expect("a row");
        let mut history = writing.open_table(history).expect("a table");
        let mut old = |key: &[u8], revision, version: &[u8]| {
            history.insert((key, revision, 0), version).expect("a row");
        };
        old(b"a", 2, &live(2, 2, 1, b"one"));
        old(b"b", 3, &live(3, 3, 1, b"1"));
        old(b"b", 4, &[0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut feed = writing.open_table(feed).expect("a table");
        for (revision, key) in [(2, b"a"), (3, b"b"), (4, b"b"), (5, b"a")] {
            feed.insert((revision, 0), &key[..]).expect("a row");
        }
        let attributes = MemberAttributes { member_id: 9, ..MemberAttributes::default() };
        let mut members = writing.open_table(members).expect("a table");
        members.insert(9, &attributes.encode_to_vec()[..]).expect("a row");
        let mut meta = writing.open_table(META).expect("a table");
        for (name, value) in [
            ("format", 1),
            ("applied", 11),
            ("revision", 5),
            ("compacted", 2),
            ("cleaned", -1),
            ("bytes", 311),
        ] {
            meta.insert(name, value).expect("a row");
        }
    }
    writing.commit().expect("a commit");
}

#[test]
fn a_file_is_bound_to_the_member_whose_slots_are_in_it() {
    let (_directory, file) = state_file();
    drop(open_as(&file, owner(2)).expect("a fresh file"));
    let mut store = open_as(&file, owner(1)).expect("nothing is in it yet");
    store.put("a", "1");
    store.store.flush();
    drop(store);
    let other_cluster = Owner { cluster: ClusterId(0xabc), member: NodeId(1) };
    for other in [owner(2), other_cluster] {
        let error = refused(&file, other);
        let path = file.display().to_string();
        assert_eq!(error, StoreError::OtherOwner { path, found: owner(1), owner: other });
        let text = error.to_string();
        assert!(text.contains("member 1 of cluster 7, not to member"), "{text}");
        assert!(text.contains("--data-dir"), "{text}");
    }
    let store = open_as(&file, owner(1)).expect("its own");
    assert_eq!(store.get("a").map(|found| found.version), Some(1));
}

#[test]
fn a_state_that_was_sent_becomes_the_receivers() {
    let (_directory, file) = state_file();
    let (_other_directory, other_file) = state_file();
    let mut source = open_as(&other_file, owner(2)).expect("a fresh file");
    source.put("a", "1");
    let mut store = open_as(&file, owner(1)).expect("a fresh file");
    store.restore(source.slot, source.stream()).expect("a state");
    drop(store);
    assert!(matches!(refused(&file, owner(2)), StoreError::OtherOwner { .. }));
    let store = open_as(&file, owner(1)).expect("its own");
    assert_eq!(store.get("a").map(|found| found.version), Some(1));
}

#[test]
fn a_file_of_format_1_is_read_and_bound() {
    let (_directory, file) = state_file();
    write_format_1(&file);
    let mut store = open_as(&file, owner(1)).expect("an old file");
    assert_eq!((store.slot, store.reader.revision()), (Slot(11), 5));
    assert_eq!(store.all_at(0), Ok(vec!["a=two".to_owned()]));
    assert_eq!(store.all_at(3), Ok(vec!["a=one".to_owned(), "b=1".to_owned()]));
    assert_eq!(store.reader.members().expect("members")[0].member_id, 9);
    store.store.shared.wait_until_clean();
    // A start that is refused for another reason ends here, and has bound nothing.
    drop(store);
    assert!(!meta(&file).iter().any(|(name, _)| name == "member"), "it is nobody's");
    store = open_as(&file, owner(2)).expect("still an old file");
    // A proper end is enough, even if nothing has been applied.
    store.store.flush();
    drop(store);
    let rows = meta(&file);
    for row in [("format", 4), ("cluster", 7), ("member", 2), ("applied", 11), ("cleaned", 2)] {
        assert!(rows.contains(&(row.0.to_owned(), row.1)), "{rows:?}");
    }
    assert!(matches!(refused(&file, owner(1)), StoreError::OtherOwner { .. }));
    let mut store = open_as(&file, owner(2)).expect("its own");
    store.put("a", "three");
    assert_eq!(store.store.digest(), None, "it had no sums");
    assert_eq!(store.get("a").map(|found| found.version), Some(3));
    assert_eq!(store.all_at(3), Ok(vec!["a=one".to_owned(), "b=1".to_owned()]));
}

#[test]
fn an_old_file_is_bound_by_its_first_slots() {
    let (_directory, file) = state_file();
    write_format_1(&file);
    let mut store = open_as(&file, owner(1)).expect("an old file");
    store.put("a", "three");
    store.compact(6).expect("a compaction, which makes it write");
    store.store.shared.wait_until_clean();
    drop(store);
    assert!(matches!(refused(&file, owner(2)), StoreError::OtherOwner { .. }));
}
