//! What only a storage on a real file system can get wrong, and crashes while it starts.
#![cfg(feature = "redb")]

mod support;

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use paxos_core::{
    message::{Record, Watermark},
    port::{Checkpoint, Recovered, Storage, StorageError, WriteBatch, WriteError},
    types::{Ballot, ClusterId, NodeId, Slot, StoreId, Value},
};
use paxos_storage::{
    RedbStorage,
    conformance::{Disk, Fault},
};
use redb::{ReadableTable, TableDefinition};
use support::{RECORDS, SimulatedDisk};

const CLUSTER: ClusterId = ClusterId(1);
const NODE: NodeId = NodeId(1);
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const GROUPS: TableDefinition<u32, &[u8]> = TableDefinition::new("groups");

fn some_batch() -> WriteBatch {
    let ballot = Ballot { round: 2, node: NODE };
    let record = |slot| Record { slot: Slot(slot), ballot, value: Value::Noop };
    WriteBatch {
        promised: Some(ballot),
        chosen: Some(Watermark { slot: Slot(150), hash: 5 }),
        records: (1..=200).map(record).collect(),
        checkpoint: Some(Checkpoint {
            at: Watermark { slot: Slot(3), hash: 4 },
            sessions: Bytes::from(vec![7; 9000]),
            state: None,
        }),
        peers: [(NodeId(2), StoreId(22))].into(),
        memberships: Some(Bytes::from_static(b"memberships")),
        ..WriteBatch::default()
    }
}

async fn recover(directory: &Path) -> Result<Recovered, StorageError> {
    RedbStorage::open(directory)?.recover(CLUSTER, NODE).await
}

/// Leaves a storage with some contents behind.
async fn fill(directory: &Path) {
    let storage = RedbStorage::open(directory).expect("a free directory");
    storage.recover(CLUSTER, NODE).await.expect("a new storage");
    storage.write(some_batch()).await.expect("a write");
    storage.close().await;
}

/// Edits the database past the storage.
fn edit(directory: &Path, edit: impl FnOnce(&redb::WriteTransaction)) {
    let database = redb::Database::create(directory.join("log.redb")).expect("a sound database");
    let transaction = database.begin_write().expect("a transaction");
    edit(&transaction);
    transaction.commit().expect("a commit");
}

/// Whoever went on from the copy has used other request ids than this one will.
#[tokio::test]
async fn a_directory_put_back_from_an_older_copy_has_an_incarnation_of_its_own() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let directory = parent.path().join("node-1");
    fill(&directory).await;
    let copies = [1, 2, 3].map(|number| parent.path().join(format!("copy-{number}")));
    let mut incarnations = vec![recover(&directory).await.expect("a restart").incarnation];
    for copy in &copies {
        fs::create_dir(copy).expect("a directory");
        fs::copy(directory.join("log.redb"), copy.join("log.redb")).expect("a copy");
    }
    for copy in &copies {
        incarnations.push(recover(copy).await.expect("a copy").incarnation);
    }
    incarnations.push(recover(&directory).await.expect("a restart").incarnation);
    assert!(incarnations[1..].iter().all(|later| *later > incarnations[0]));
    incarnations.sort_unstable();
    incarnations.dedup();
    assert_eq!(incarnations.len(), 5, "none is used twice");
}

#[tokio::test]
async fn directory_and_files_are_made_with_their_parents_and_for_nobody_else() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let directory = parent.path().join("some/where/node-1");
    fill(&directory).await;
    let mut names: Vec<_> = fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .collect();
    names.sort();
    assert_eq!(names, ["closed", "lock", "log.redb", "unsynced"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode =
            |path: &Path| fs::metadata(path).expect("it exists").permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("log.redb")), 0o600);
        assert_eq!(mode(&directory.join("lock")), 0o600);
    }
}

/// As `kill -9` leaves it.
#[tokio::test]
async fn a_directory_that_was_not_closed_holds_everything_and_is_closed_the_next_time() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let (open, left) = (parent.path().join("open"), parent.path().join("left"));
    fill(&open).await;
    let storage = RedbStorage::open(&open).expect("a free directory");
    storage.recover(CLUSTER, NODE).await.expect("a sound storage");
    storage.write(some_batch()).await.expect("a write");
    assert!(!open.join("closed").exists(), "it is open");
    fs::create_dir(&left).expect("a directory");
    fs::copy(open.join("log.redb"), left.join("log.redb")).expect("a file");
    storage.close().await;
    let mut last = None;
    for directory in [&open, &left, &left] {
        let storage = RedbStorage::open(directory).expect("a free directory");
        let recovered = storage.recover(CLUSTER, NODE).await.expect("a sound storage");
        assert_eq!(recovered.records, some_batch().records[150..]);
        assert!(recovered.incarnation > recovered.last_incarnation);
        let is_second = last.is_some_and(|(before, _)| before == directory);
        assert!(!is_second || last == Some((directory, recovered.last_incarnation)));
        last = Some((directory, recovered.incarnation));
        assert!(!directory.join("closed").exists(), "it is open");
        drop(storage);
        assert!(directory.join("closed").exists(), "dropping it closes it");
    }
}

#[tokio::test]
async fn a_locked_directory_names_the_lock_and_the_remedy() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let _held = RedbStorage::open(directory.path()).expect("a free directory");
    let error = RedbStorage::open(directory.path()).expect_err("a directory in use");
    assert!(matches!(error, StorageError::Locked { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("lock") && text.contains("another data directory"), "{text}");
    assert!(text.contains("this process") && !text.contains("another process"), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_is_the_same_by_another_name() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let (directory, link) = (parent.path().join("a"), parent.path().join("b"));
    let held = RedbStorage::open(&directory).expect("a free directory");
    std::os::unix::fs::symlink(&directory, &link).expect("a link");
    let error = RedbStorage::open(&link).expect_err("a directory in use").to_string();
    assert!(error.contains("this process"), "{error}");
    drop(held);
    drop(RedbStorage::open(&link).expect("it is let go of"));
}

/// As a new one it would have forgotten what it has promised.
#[tokio::test]
async fn a_log_that_was_deleted_is_missed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path()).await;
    fs::remove_file(directory.path().join("log.redb")).expect("it is there");
    for _ in 0..2 {
        let error = recover(directory.path()).await.expect_err("it has promised something");
        assert!(matches!(error, StorageError::Damaged { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("log.redb") && text.contains("replace it as a new member"), "{text}");
    }
    // What was never more than a start that failed begins anew.
    let fresh = tempfile::tempdir().expect("a temporary directory");
    drop(RedbStorage::open(fresh.path()).expect("a free directory"));
    assert_eq!(recover(fresh.path()).await.expect("a new log").last_incarnation, 0);
}

/// Logs of earlier versions say nothing of it, until they are opened.
#[tokio::test]
async fn a_log_from_before_is_missed_too_once_it_was_opened() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path()).await;
    fs::write(directory.path().join("lock"), "").expect("as it was");
    drop(recover(directory.path()).await.expect("a sound log"));
    fs::remove_file(directory.path().join("log.redb")).expect("it is there");
    assert!(matches!(recover(directory.path()).await, Err(StorageError::Damaged { .. })));
}

#[tokio::test]
async fn a_path_that_is_a_file_is_an_error_that_names_it() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let path = parent.path().join("file");
    fs::write(&path, "not a directory").expect("a file");
    let error = RedbStorage::open(&path).expect_err("a file is no directory");
    assert!(error.to_string().contains("file"), "{error}");
}

#[tokio::test]
async fn a_start_that_was_interrupted_before_it_had_an_identity_starts_anew() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("log.redb.new"), [1; 5000]).expect("a file");
    let recovered = recover(directory.path()).await.expect("a new storage");
    assert_eq!(recovered.incarnation, 1);
}

#[tokio::test]
async fn there_is_a_log_once_a_node_has_been_started() {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let directory = parent.path().join("log");
    let has_log = || RedbStorage::has_log(&directory).expect("a look");
    assert!(!has_log(), "no directory");
    drop(RedbStorage::open(&directory).expect("a free directory"));
    fs::write(directory.join("log.redb.new"), b"an interrupted start").expect("a file");
    assert!(!has_log(), "only a lock, and what nobody has started from");
    fill(&directory).await;
    assert!(has_log());
}

#[tokio::test]
async fn files_that_hold_no_state_are_damage_and_never_a_fresh_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("log.redb");
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(100_000).collect();
    for (what, contents) in
        [("empty", vec![]), ("short", vec![1; 10]), ("zeros", vec![0; 100_000]), ("random", random)]
    {
        fs::write(&file, contents).expect("a file");
        let error = recover(directory.path()).await.expect_err(what);
        assert!(matches!(error, StorageError::Damaged { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("log.redb"), "{what}: {error}");
    }
    fs::remove_file(&file).expect("a file");
    edit(directory.path(), |_| ());
    let error = recover(directory.path()).await.expect_err("a database of nobody");
    assert!(matches!(error, StorageError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn another_format_is_refused_by_number() {
    for (format, refusal) in [
        (9, StorageError::NewerFormat { found: 9, known: 5 }),
        (6, StorageError::NewerFormat { found: 6, known: 5 }),
        (2, StorageError::OlderFormat { found: 2, known: 3 }),
        (1, StorageError::OlderFormat { found: 1, known: 3 }),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fill(directory.path()).await;
        edit(directory.path(), |transaction| {
            let mut meta = transaction.open_table(META).expect("a table");
            meta.insert("format", &u32::to_le_bytes(format)[..]).expect("an insertion");
        });
        assert_eq!(recover(directory.path()).await, Err(refusal));
    }
}

#[tokio::test]
async fn missing_or_foreign_entries_are_damage() {
    for (key, value) in [
        ("format", None),
        ("format", Some(&b"x"[..])),
        ("identity", None),
        ("identity", Some(b"")),
        ("incarnation", None),
        ("incarnation", Some(b"\xff")),
    ] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fill(directory.path()).await;
        edit(directory.path(), |transaction| {
            let mut meta = transaction.open_table(META).expect("a table");
            match value {
                None => drop(meta.remove(key).expect("a removal")),
                Some(value) => drop(meta.insert(key, value).expect("an insertion")),
            }
        });
        let error = recover(directory.path()).await.expect_err(key);
        assert!(matches!(error, StorageError::Damaged { .. }), "{key}: {error:?}");
    }
    for value in [None, Some(&b""[..]), Some(b"\x01\x02")] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fill(directory.path()).await;
        edit(directory.path(), |transaction| {
            let mut groups = transaction.open_table(GROUPS).expect("a table");
            match value {
                None => drop(groups.remove(0).expect("a removal")),
                Some(value) => drop(groups.insert(0, value).expect("an insertion")),
            }
        });
        let error = recover(directory.path()).await.expect_err("no promise");
        assert!(error.to_string().contains("promise"), "{value:?}: {error}");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path()).await;
    edit(directory.path(), |transaction| {
        assert_eq!(transaction.delete_table(RECORDS).ok(), Some(true))
    });
    let error = recover(directory.path()).await.expect_err("no log");
    assert!(error.to_string().contains("records"), "{error}");
}

#[tokio::test]
async fn unreadable_memberships_are_an_error() {
    const MEMBERSHIPS: TableDefinition<u32, &[u8]> = TableDefinition::new("memberships");
    type Damage = fn(&mut Vec<u8>);
    let damage: [(&str, Damage); 6] = [
        ("no bytes", Vec::clear),
        ("half a checksum", |row| row.truncate(2)),
        ("a checksum alone", |row| row.truncate(4)),
        ("cut short", |row| row.truncate(row.len() - 1)),
        ("a bit of the checksum", |row| row[1] ^= 4),
        ("the last bit", |row| *row.last_mut().expect("some bytes") ^= 0x80),
    ];
    for (what, damage) in damage {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fill(directory.path()).await;
        edit(directory.path(), |transaction| {
            let mut memberships = transaction.open_table(MEMBERSHIPS).expect("a table");
            let mut row = memberships.get(0).expect("a look-up").expect("a row").value().to_vec();
            damage(&mut row);
            memberships.insert(0, &row[..]).expect("an insertion");
        });
        expect_no_memberships(directory.path(), what).await;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    fill(directory.path()).await;
    edit(directory.path(), |transaction| {
        let mut memberships = transaction.open_table(MEMBERSHIPS).expect("a table");
        memberships.remove(0).expect("a removal").expect("a row");
    });
    expect_no_memberships(directory.path(), "no row").await;
    edit(directory.path(), |transaction| {
        assert_eq!(transaction.delete_table(MEMBERSHIPS).ok(), Some(true))
    });
    expect_no_memberships(directory.path(), "no table").await;
}

async fn expect_no_memberships(directory: &Path, what: &str) {
    let error = recover(directory).await.expect_err(what);
    assert!(matches!(error, StorageError::Damaged { .. }), "{what}: {error:?}");
    assert!(error.to_string().contains("memberships"), "{what}: {error}");
}

/// The bytes of a storage with some contents that was closed properly.
async fn sound_bytes() -> Vec<u8> {
    let disk = SimulatedDisk::new(0);
    let storage = disk.storage();
    storage.recover(CLUSTER, NODE).await.expect("a new storage");
    storage.write(some_batch()).await.expect("a write");
    storage.close().await;
    disk.contents()
}

#[tokio::test]
async fn a_database_cut_short_is_an_error() {
    let sound = sound_bytes().await;
    for length in (1..sound.len()).step_by(sound.len() / 100) {
        let disk = SimulatedDisk::holding(&sound[..length]);
        let error = disk.storage().recover(CLUSTER, NODE).await.expect_err("a file cut short");
        assert!(matches!(error, StorageError::Damaged { .. }), "{length} bytes: {error:?}");
    }
}

/// Flips every bit of the header and some of every page: either it was of no account, or it is an
/// error. Never is the state another one, and never does a thread panic.
#[tokio::test]
async fn a_flipped_bit_is_an_error_or_of_no_account() {
    let sound = sound_bytes().await;
    let recovered = async |bytes: &[u8]| {
        let recovered = SimulatedDisk::holding(bytes).storage().recover(CLUSTER, NODE).await;
        // Which is drawn at every start.
        recovered.map(|recovered| Recovered { incarnation: 0, ..recovered })
    };
    let expected = recovered(&sound).await;
    let (mut noticed, mut ignored) = (0, 0);
    for bit in (0..320 * 8).chain((320 * 8..sound.len() * 8).step_by(7 * 61)) {
        let mut flipped = sound.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        match recovered(&flipped).await {
            Err(StorageError::Failed) => panic!("bit {bit}: a thread has died"),
            Err(_) => noticed += 1,
            found => {
                assert_eq!(found, expected, "bit {bit}");
                ignored += 1;
            }
        }
    }
    assert!(noticed > 1000 && ignored > 100, "{noticed} noticed, {ignored} of no account");
}

/// The power fails after every operation of a start, and again during the start after it.
#[tokio::test]
async fn a_power_cut_during_a_start_loses_nothing() {
    let batch = some_batch();
    for (seed, operations) in (0..10).flat_map(|seed| (0..60).map(move |count| (seed, count))) {
        let disk = SimulatedDisk::new(seed * 1000 + operations);
        let start = async || {
            let storage: Arc<dyn Storage> = disk.open().await.expect("no lock");
            storage.recover(CLUSTER, NODE).await.map(|recovered| (storage, recovered))
        };
        let (storage, _) = start().await.expect("a new storage");
        storage.write(batch.clone()).await.expect("a write");
        disk.inject(Fault::PowerCut);
        drop(storage);
        for cut in [operations, operations / 2] {
            disk.inject(Fault::PowerCutDuringWrite { operations: cut });
            drop(start().await);
            disk.inject(Fault::PowerCut);
        }
        let (_storage, recovered) = start().await.expect("a sound disk");
        assert_eq!(Some(recovered.promised), batch.promised, "{seed}/{operations}");
        assert_eq!(Some(recovered.chosen), batch.chosen, "{seed}/{operations}");
        assert_eq!(recovered.records, batch.records[150..], "{seed}/{operations}");
        assert_eq!(Some(recovered.checkpoint), batch.checkpoint, "{seed}/{operations}");
    }
}

/// For want of a descriptor, say. Who knows then whether the batch is there? But that passes.
#[tokio::test]
async fn a_full_log_that_cannot_be_opened_again_at_once_is_opened_a_little_later() {
    let disk = SimulatedDisk::new(1);
    let (handles, opened) = (disk.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&opened);
    let open = move || match counted.fetch_add(1, Ordering::Relaxed) {
        1..=3 => Err(io::Error::other("too many open files")),
        _ => Ok(handles.handle()),
    };
    let storage = RedbStorage::with_backend("the simulated disk", open).expect("threads");
    storage.recover(CLUSTER, NODE).await.expect("a new storage");
    disk.inject(Fault::Full(true));
    let full = storage.write(some_batch()).await;
    assert!(matches!(full, Err(WriteError::Full { .. })), "{full:?}");
    assert_eq!(opened.load(Ordering::Relaxed), 5, "the last time it could be");
    disk.inject(Fault::Full(false));
    assert_eq!(storage.write(some_batch()).await, Ok(()));
}

/// A write that finds no room breaks the database, which is opened again at once: reads wait for
/// that, and nobody takes them for failed.
#[tokio::test(flavor = "multi_thread")]
async fn reads_do_not_notice_that_the_disk_is_full() {
    let disk = SimulatedDisk::new(1);
    let storage = Arc::new(disk.storage());
    storage.recover(CLUSTER, NODE).await.expect("a new storage");
    storage.write(some_batch()).await.expect("a write");
    disk.inject(Fault::Full(true));
    let writer = storage.clone();
    let writes = tokio::spawn(async move {
        for _ in 0..100 {
            let ballot = Ballot { round: 2, node: NODE };
            let record = Record { slot: Slot(201), ballot, value: Value::Noop };
            let batch = WriteBatch { records: vec![record], ..WriteBatch::default() };
            let full = writer.write(batch).await;
            assert!(matches!(full, Err(WriteError::Full { .. })), "{full:?}");
        }
    });
    while !writes.is_finished() {
        let read = storage.read(Slot(1)..=Slot(200), usize::MAX).await;
        assert_eq!(read.expect("what was written before").len(), 200);
    }
    writes.await.expect("every write is refused");
}
