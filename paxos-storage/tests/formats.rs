//! A log is opened by every later version: one of each format lies in `tests/data`.
//!
//! The file of the present format is made by
//!
//! ```sh
//! UPDATE_FORMATS=1 cargo test -p paxos-storage --test formats
//! ```
//!
//! which is for a format that nobody has written yet. The files of earlier formats stay as they are.
#![cfg(feature = "redb")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use paxos_core::{
    message::{Record, Watermark},
    port::{
        Checkpoint, Image, Recovered, StateChunk, StateSummary, Storage, StorageError, WriteBatch,
    },
    types::{Ballot, BatchBuilder, ClientId, ClusterId, NodeId, RequestId, Slot, StoreId, Value},
};
use paxos_storage::{
    RedbStorage,
    conformance::{Disk, Fault},
};
use redb::{ReadableTable, TableDefinition};
use support::SimulatedDisk;

const CLUSTER: ClusterId = ClusterId(0x00c1_0571);
const NODE: NodeId = NodeId(3);

/// The format that this version writes.
const PRESENT: u32 = 5;
/// The first format that has memberships.
const WITH_MEMBERSHIPS: u32 = 5;

/// Each format, and the name of the store in its file.
const FORMATS: [(u32, StoreId); 3] = [
    (3, StoreId(9_161_663_868_345_930_295)),
    (4, StoreId(8_262_881_611_195_971_781)),
    (5, StoreId(3_292_857_503_420_010_965)),
];

fn golden(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/format-{format}.redb"))
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: NodeId(1 + round % 3) }
}

fn value(slot: u64) -> Value {
    let mut builder = BatchBuilder::default();
    let client = ClientId { name: slot, epoch: 2 };
    for sequence in [7, 8] {
        let command = Bytes::from(format!("command {sequence} in slot {slot}"));
        builder.push(RequestId { client, sequence }, 7, command);
    }
    Value::Batch(builder.build().expect("two commands"))
}

fn record(slot: u64, round: u64) -> Record {
    // Every kind of value, and of ballot.
    let value = if slot.is_multiple_of(5) { Value::Noop } else { value(slot) };
    let ballot = if slot == 6 { Ballot::CHOSEN } else { ballot(round) };
    Record { slot: Slot(slot), ballot, value }
}

fn chunk(slot: u64, offset: u64, byte: u8, bytes: usize) -> StateChunk {
    StateChunk { slot: Slot(slot), offset, bytes: Bytes::from(vec![byte; bytes]) }
}

/// What is in the file of a format: records, twice in some slots, a watermark, a checkpoint with its
/// state and one without, a floor, a state that is not finished, peers, and memberships where there are any.
fn written(format: u32) -> Vec<WriteBatch> {
    let summary = StateSummary { bytes: 5000, hash: 0x57a7e };
    let checkpoint = |slot, state| Checkpoint {
        at: Watermark { slot: Slot(slot), hash: 0xcafe + slot },
        sessions: Bytes::from_static(b"the session table"),
        state,
    };
    vec![
        WriteBatch {
            promised: Some(ballot(4)),
            records: (1..=12).map(|slot| record(slot, 4)).collect(),
            peers: [(NodeId(1), StoreId(101)), (NodeId(2), StoreId(102))].into(),
            ..WriteBatch::default()
        },
        WriteBatch {
            promised: Some(ballot(9)),
            chosen: Some(Watermark { slot: Slot(8), hash: 0x8888 }),
            records: vec![record(11, 9), record(14, 9)],
            memberships: (format >= WITH_MEMBERSHIPS)
                .then(|| Bytes::from_static(b"the memberships")),
            checkpoint: Some(checkpoint(2, None)),
            ..WriteBatch::default()
        },
        WriteBatch { state: vec![chunk(4, 0, 1, 3000)], ..WriteBatch::default() },
        WriteBatch {
            state: vec![chunk(4, 3000, 2, 2000)],
            checkpoint: Some(checkpoint(4, Some(summary))),
            floor: Some(Slot(3)),
            ..WriteBatch::default()
        },
        WriteBatch { state: vec![chunk(7, 0, 3, 100)], ..WriteBatch::default() },
    ]
}

/// What a later version writes to it.
fn more() -> Vec<WriteBatch> {
    vec![
        WriteBatch {
            promised: Some(ballot(12)),
            chosen: Some(Watermark { slot: Slot(9), hash: 0x9999 }),
            records: vec![record(13, 12), record(14, 12)],
            state: vec![chunk(7, 100, 4, 50)],
            peers: [(NodeId(4), StoreId(104))].into(),
            memberships: Some(Bytes::from_static(b"other memberships")),
            ..WriteBatch::default()
        },
        WriteBatch {
            checkpoint: Some(Checkpoint {
                at: Watermark { slot: Slot(7), hash: 0x7777 },
                sessions: Bytes::from_static(b"another session table"),
                state: Some(StateSummary { bytes: 150, hash: 0x57a7f }),
            }),
            floor: Some(Slot(5)),
            ..WriteBatch::default()
        },
    ]
}

fn image_of(batches: &[WriteBatch]) -> Image {
    let mut image = Image::default();
    batches.iter().for_each(|batch| image.apply(batch));
    image
}

/// Opens a directory whose log has to hold `image`, all of it.
async fn open(directory: &Path, image: &Image) -> (RedbStorage, Recovered) {
    let storage = RedbStorage::open(directory).expect("a free directory");
    let recovered = check(&storage, image).await;
    (storage, recovered)
}

/// Recovers a log that has to hold `image`, all of it.
async fn check(storage: &RedbStorage, image: &Image) -> Recovered {
    let recovered = storage.recover(CLUSTER, NODE).await.expect("a known format");
    let Recovered { identity, incarnation, last_incarnation, .. } = recovered;
    assert_eq!(recovered, Recovered { last_incarnation, ..image.recovered(identity, incarnation) });
    let log = storage.read(Slot(1)..=Slot(u64::MAX), usize::MAX).await.expect("sound records");
    assert!(log.iter().eq(image.records.values()), "{log:?}");
    for slot in (1..10).map(Slot) {
        let mut state = Vec::new();
        loop {
            let piece = storage.read_state(slot, state.len() as u64, 999).await.expect("sound");
            if piece.is_empty() {
                break;
            }
            state.extend_from_slice(&piece);
        }
        assert_eq!(state, image.states.read(slot, 0, usize::MAX), "the state as of {slot}");
    }
    recovered
}

async fn write_all(storage: &RedbStorage, batches: &[WriteBatch]) {
    for batch in batches {
        storage.write(batch.clone()).await.expect("a write");
    }
}

async fn make(format: u32) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (storage, recovered) = open(directory.path(), &Image::default()).await;
    write_all(&storage, &written(format)).await;
    storage.close().await;
    fs::create_dir_all(golden(format).parent().expect("in a directory")).expect("a directory");
    fs::copy(directory.path().join("log.redb"), golden(format)).expect("a file");
    println!("{}: FORMATS has to name the {:?}", golden(format).display(), recovered.identity);
}

#[tokio::test]
async fn the_log_of_every_format_is_opened_and_goes_on() {
    if std::env::var_os("UPDATE_FORMATS").is_some() {
        make(PRESENT).await;
    }
    for (format, store) in FORMATS {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::copy(golden(format), directory.path().join("log.redb")).expect("the file");
        let mut batches = written(format);
        let (storage, recovered) = open(directory.path(), &image_of(&batches)).await;
        assert_eq!(recovered.identity.store, store, "format {format}");
        let first = recovered.incarnation;
        assert!(first > 1, "format {format}");
        // Whatever was done to understand it has not to be done again.
        storage.close().await;
        let (storage, recovered) = open(directory.path(), &image_of(&batches)).await;
        let second = recovered.incarnation;
        assert!(recovered.identity.store == store && second > first);
        write_all(&storage, &more()).await;
        storage.close().await;
        batches.extend(more());
        let (_storage, recovered) = open(directory.path(), &image_of(&batches)).await;
        assert!(recovered.identity.store == store && recovered.incarnation > second);
    }
}

/// A power cut after any operation of the first start leaves the earlier format or the present one.
#[tokio::test]
async fn a_power_cut_while_the_format_is_changed_loses_nothing() {
    for format in [3, 4] {
        let (before, image) =
            (fs::read(golden(format)).expect("the file"), image_of(&written(format)));
        let mut cuts = 0;
        for operations in 0.. {
            let disk = SimulatedDisk::holding(&before);
            disk.inject(Fault::PowerCutDuringWrite { operations });
            let started = disk.storage().recover(CLUSTER, NODE).await;
            disk.inject(Fault::PowerCut);
            let recovered = check(&disk.storage(), &image).await;
            assert!(recovered.incarnation > 1, "after {operations} operations");
            if let Ok(started) = started {
                assert!(
                    recovered.incarnation > started.incarnation,
                    "a start that has succeeded counts"
                );
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 5, "{cuts} power cuts during the first start on format {format}");
    }
}

/// Both formats have to have room side by side.
#[tokio::test]
async fn a_change_of_the_format_waits_until_there_is_room() {
    for format in [3, 4] {
        let disk = SimulatedDisk::holding(&fs::read(golden(format)).expect("the file"));
        disk.inject(Fault::Full(true));
        let storage = disk.storage();
        for _ in 0..2 {
            let full = storage.recover(CLUSTER, NODE).await;
            assert!(matches!(full, Err(StorageError::Full { .. })), "{full:?}");
        }
        disk.inject(Fault::Full(false));
        check(&storage, &image_of(&written(format))).await;
    }
}

/// What a change of the format would otherwise make whole again.
#[tokio::test]
async fn damage_in_an_earlier_format_is_an_error() {
    const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
    const STATES: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("states");
    type Damage = fn(&redb::WriteTransaction);
    let damage: [(&str, Damage); 4] = [
        ("slot 6", |transaction| {
            let mut log = transaction.open_table(LOG).expect("a table");
            let mut record = log.get(6).expect("a look-up").expect("a record").value().to_vec();
            record[3] ^= 1;
            log.insert(6, &record[..]).expect("an insertion");
        }),
        ("slot 9", |transaction| {
            let mut log = transaction.open_table(LOG).expect("a table");
            log.insert(9, &b"too short"[..]).expect("an insertion");
        }),
        ("slot 4 is unreadable from byte 3000", |transaction| {
            let mut states = transaction.open_table(STATES).expect("a table");
            states.insert((4, 3000), &b"another piece"[..]).expect("an insertion");
        }),
        ("\"checkpoint\" is missing", |transaction| {
            let table = TableDefinition::<u64, &[u8]>::new("checkpoint");
            assert!(transaction.delete_table(table).expect("no table is open"));
        }),
    ];
    for (text, damage) in damage {
        let disk = SimulatedDisk::holding(&fs::read(golden(3)).expect("the file"));
        let database = disk.database();
        let transaction = database.begin_write().expect("a transaction");
        damage(&transaction);
        transaction.commit().expect("a commit");
        drop(database);
        for _ in 0..2 {
            let error = disk.storage().recover(CLUSTER, NODE).await.expect_err(text);
            assert!(matches!(error, StorageError::Damaged { .. }), "{text}: {error:?}");
            assert!(error.to_string().contains(text), "{error} instead of {text}");
        }
    }
}
