//! Stores through backups and back.

use std::{fs, io, path::Path};

use paxos_core::{
    port::StateMachine,
    types::{ClusterId, NodeId, Slot},
};
use proptest::prelude::*;

use super::*;
use crate::{
    proto::{
        etcdserverpb::{
            CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
            request_op,
        },
        mvccpb::KeyValue,
    },
    store::{Backend, Command, Owner, Reader, Rules, Store, import::Import, version::Live},
};

const OWNER: Owner = Owner { cluster: ClusterId(1), member: NodeId(1) };

fn put(key: u8, value: Vec<u8>) -> PutRequest {
    PutRequest { key: vec![b'k', key].into(), value: value.into(), ..PutRequest::default() }
}

fn delete(first: u8, end: u8) -> DeleteRangeRequest {
    let (key, range_end) = (vec![b'k', first].into(), vec![b'k', end].into());
    DeleteRangeRequest { key, range_end, prev_kv: false }
}

/// What is done to a store.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, usize),
    Delete(u8, u8),
    /// Several changes of one revision.
    Txn(u8),
    /// Up to a revision so far below the present one.
    Compact(i64),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..12_u8, prop_oneof![Just(3_usize), Just(6000)]).prop_map(|(k, v)| Step::Put(k, v)),
        3 => (0..12_u8, 0..4_u8).prop_map(|(first, count)| Step::Delete(first, first + count)),
        3 => (0..10_u8).prop_map(Step::Txn),
        1 => (0..6_i64).prop_map(Step::Compact),
        2 => Just(Step::Flush),
    ];
    prop::collection::vec(step, 0..60)
}

/// A store, and the slot of its next command.
struct Fixture {
    store: Store,
    next: Slot,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { store: Store::open(Backend::Memory).expect("memory"), next: Slot(1) }
    }

    fn take(&mut self, steps: &[Step]) {
        for step in steps {
            let command = match *step {
                Step::Put(key, bytes) => Command::Put(put(key, vec![key; bytes])),
                Step::Delete(first, end) => Command::DeleteRange(delete(first, end)),
                Step::Txn(key) => {
                    let operation = |request| RequestOp { request: Some(request) };
                    let first = request_op::Request::RequestPut(put(key, vec![1]));
                    let second = request_op::Request::RequestDeleteRange(delete(key + 1, key + 3));
                    let success = vec![operation(first), operation(second)];
                    Command::Txn(TxnRequest { success, ..TxnRequest::default() })
                }
                Step::Compact(below) => {
                    let revision = self.store.reader().revision() - below;
                    Command::Compact(CompactionRequest { revision, physical: false })
                }
                Step::Flush => {
                    self.store.flush();
                    continue;
                }
            };
            // Some are refused, which changes nothing.
            self.store.apply(self.next, vec![command.under(Rules::KNOWN)]);
            self.next = self.next.next();
        }
    }

    fn backup(&self) -> Backup {
        let frozen =
            self.store.reader().freeze(|| true).expect("it can be read").expect("it is wanted");
        Backup::prepare(frozen, 7, io::sink()).expect("it can be read")
    }
}

fn file_of(backup: &Backup) -> Vec<u8> {
    let mut file = Vec::new();
    let checksum = backup.write(&mut file).expect("memory");
    assert_eq!(file.len() as u64, backup.bytes());
    file.extend(checksum);
    file
}

/// Everything that can be read of a store.
fn contents(reader: &Reader) -> Vec<(i64, Vec<KeyValue>)> {
    let range = |revision| {
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let found = reader.range(&RangeRequest { revision, ..all });
        found.map(|found| found.kvs)
    };
    let first = reader.compacted_revision().max(1);
    if first > 1 {
        range(first - 1).expect_err("it is compacted");
    }
    (first..=reader.revision()).map(|at| (at, range(at).expect("it can be read"))).collect()
}

fn restored(file: &[u8], directory: &Path) -> Result<Store, BackupError> {
    let path = directory.join("backup.db");
    fs::write(&path, file).expect("there is room");
    let mut backup = BackupFile::open(&path, HashCheck::Skipped)?;
    let status = backup.status()?;
    let state = directory.join("state.redb");
    let _ = fs::remove_file(&state);
    let mut import = Import::begin(state.clone(), OWNER).expect("there is room");
    let last = backup.changes(|restorable| {
        import.add(restorable.change).expect("there is room");
        Ok::<_, BackupError>(())
    })?;
    let compacted = backup.compacted()?;
    let revision = last.max(compacted);
    assert_eq!(status.revision, revision);
    import.finish(revision, compacted, Slot(1)).expect("there is room");
    Ok(Store::open(Backend::Redb { file: state, owner: OWNER }).expect("it is whole"))
}

fn memory() -> ProptestConfig {
    ProptestConfig { cases: 48, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(memory())]

    /// Keys, revisions, history, compaction: all of it; and what is done afterwards does the same.
    #[test]
    fn a_store_comes_back_from_its_backup(steps in steps(), more in steps()) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut original = Fixture::new();
        original.take(&steps);
        let file = file_of(&original.backup());
        let mut copy = Fixture {
            store: restored(&file, directory.path()).expect("it is whole"),
            next: Slot(2),
        };
        prop_assert_eq!(contents(&copy.store.reader()), contents(&original.store.reader()));
        let (own, other) = (copy.store.reader(), original.store.reader());
        prop_assert_eq!(own.compacted_revision(), other.compacted_revision());
        original.take(&more);
        copy.take(&more);
        prop_assert_eq!(contents(&copy.store.reader()), contents(&original.store.reader()));
    }

    /// The moment is that of the freezing, whatever is done before the backup is written.
    #[test]
    fn a_backup_is_of_one_moment(steps in steps(), more in steps()) {
        let mut fixture = Fixture::new();
        fixture.take(&steps);
        let expected = file_of(&fixture.backup());
        let backup = fixture.backup();
        fixture.take(&more);
        fixture.take(&[Step::Compact(0), Step::Flush]);
        prop_assert!(file_of(&backup) == expected, "the file has changed");
    }

    #[test]
    fn a_damaged_backup_is_refused_or_read_and_nothing_else(
        steps in steps(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut fixture = Fixture::new();
        fixture.take(&steps);
        let whole = file_of(&fixture.backup());
        let mut file = whole.clone();
        for (place, byte) in changes {
            let place = place.index(file.len());
            file[place] = byte;
        }
        if let Ok(store) = restored(&file, directory.path()) {
            let last = store.reader().revision();
            prop_assert!(last >= 1);
        }
        let path = directory.path().join("backup.db");
        match BackupFile::open(&path, HashCheck::Demanded) {
            Ok(_) => prop_assert!(file == whole),
            Err(error) => {
                let is_checksum = matches!(error, BackupError::WrongChecksum { .. });
                prop_assert!(is_checksum && file != whole, "{error}");
            }
        }
    }
}

/// Changes of a revision that a large value stretches over several pages, and many small ones.
#[test]
fn large_values_and_many_keys_come_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut fixture = Fixture::new();
    let large = Command::Put(put(1, vec![9; 1 << 20]));
    fixture.store.apply(Slot(1), vec![large.under(Rules::KNOWN)]);
    let many = (0..3000_u32).map(|number| {
        let key = number.to_be_bytes().to_vec().into();
        let put = PutRequest { key, value: "v".into(), ..PutRequest::default() };
        Command::Put(put).under(Rules::KNOWN)
    });
    fixture.store.apply(Slot(2), many.collect());
    let file = file_of(&fixture.backup());
    let copy = restored(&file, directory.path()).expect("it is whole");
    let range = |reader: Reader| {
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        reader.range(&all).expect("it can be read").kvs
    };
    assert_eq!(range(copy.reader()), range(fixture.store.reader()));
}

/// A revision above the last change, which only a restore can make, survives a further backup.
#[test]
fn a_raised_revision_comes_back() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (revision, compacted) in [(1000, 1000), (1000, -1), (3, 2)] {
        let state = directory.path().join(format!("{revision}-{compacted}"));
        let mut import = Import::begin(state.clone(), OWNER).expect("there is room");
        let live = Live { create_revision: 2, version: 1, lease: 0, value: "v".into() };
        let position = Position { revision: 2, index: 0 };
        let change = crate::store::feed::Change { position, key: "k".into(), live: Some(live) };
        import.add(change).expect("there is room");
        import.finish(revision, compacted, Slot(1)).expect("there is room");
        let store = Store::open(Backend::Redb { file: state, owner: OWNER }).expect("it is whole");
        let file = file_of(&Fixture { store, next: Slot(2) }.backup());
        let again = restored(&file, directory.path()).expect("it is whole");
        let reader = again.reader();
        assert_eq!((reader.revision(), reader.compacted_revision()), (revision, compacted));
        let key = RangeRequest { key: "k".into(), ..RangeRequest::default() };
        assert_eq!(reader.range(&key).expect("it can be read").count, 1);
    }
}

#[test]
fn positions_are_written_as_by_etcd_and_nothing_else_is_one() {
    let position = Position { revision: 0x0102, index: 3 };
    let key = b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03";
    assert_eq!(encode_position(position), *key);
    assert_eq!(decode_position(key), Some((position, false)));
    assert_eq!(decode_position(&[&key[..], b"t"].concat()), Some((position, true)));
    let negative = [&[0xff; 8][..], &key[8..]].concat();
    for other in [&key[..16], &[&key[..], b"x"].concat(), &[&key[..], b"tt"].concat(), &negative] {
        assert_eq!(decode_position(other), None);
    }
}
