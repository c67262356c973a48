use std::{
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use fastrand::Rng;
use redb::{
    Database, TableDefinition,
    backends::{FileBackend, InMemoryBackend},
};

use super::{
    super::{
        disk::{Disk, open_private},
        patient::{is_full, tests::Small},
        tests::{Fixture, in_file},
        *,
    },
    *,
};
use crate::proto::etcdserverpb::{PutRequest, RangeRequest};

/// The tables in a file, past the store.
pub(in crate::store) fn open_tables(file: &std::path::Path) -> Database {
    let inner = FileBackend::new(open_private(file).expect("a file")).expect("a backend");
    let blocks = Blocks::on(Box::new(inner), file.display().to_string());
    Database::builder().create_with_backend(blocks).expect("tables")
}

/// A disk in memory that several look at.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(pub(super) Arc<InMemoryBackend>);

impl StorageBackend for Shared {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

impl Shared {
    fn bytes(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("it fits")];
        self.read(range.start, &mut bytes).expect("it is there");
        bytes
    }

    fn flip(&self, at: u64) {
        let [byte] = self.bytes(at..at + 1)[..] else { unreachable!("one byte") };
        self.write(at, &[byte ^ 4]).expect("in memory");
    }

    fn blocks(&self) -> Blocks {
        Blocks::on(Box::new(self.clone()), "here".to_owned())
    }
}

fn filled(count: u64, of: u8) -> Vec<u8> {
    vec![of; usize::try_from(count).expect("a few") * BLOCK_BYTES]
}

fn read(blocks: &Blocks, block: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut out = filled(count, 0);
    blocks.read(block * BLOCK, &mut out)?;
    Ok(out)
}

/// Whoever changes this needs a new format, and a way for files of this one.
#[test]
fn the_format_is_what_it_was() {
    let (disk, blocks) =
        (Shared::default(), Blocks::on(Box::new(InMemoryBackend::new()), String::new()));
    assert_eq!(blocks.len().expect("a length"), 0);
    let blocks = disk.blocks();
    blocks.set_len(515 * BLOCK).expect("room");
    blocks.write(0, b"a head that redb writes").expect("room");
    blocks.write(BLOCK, &filled(1, 1)).expect("room");
    blocks.write(512 * BLOCK, &filled(2, 2)).expect("room");
    blocks.sync_data().expect("in memory");
    let label = b"paxos-kv state\0\0\x01\0\0\0";
    assert_eq!(disk.bytes(0..20), label);
    for copy in [4096, 3 * 4096] {
        assert_eq!(disk.bytes(copy..copy + 8), 1_u64.to_le_bytes());
        assert_eq!(disk.bytes(copy + 4096..copy + 4096 + 23), b"a head that redb writes");
    }
    let group = 5 * 4096;
    assert_eq!(disk.bytes(group..group + 8), checksum_of(1, &filled(1, 1)));
    assert_eq!(disk.bytes(group + 8..group + 16), [0; 8], "never written");
    assert_eq!(disk.bytes(group + 511 * 8..group + 512 * 8), checksum_of(512, &filled(1, 2)));
    assert_eq!(disk.bytes(group + 4096..group + 2 * 4096), filled(1, 1));
    assert_eq!(disk.bytes(group + 512 * 4096..group + 513 * 4096), filled(1, 2));
    let group = group + 513 * 4096;
    assert_eq!(disk.bytes(group..group + 8), checksum_of(513, &filled(1, 2)));
    assert_eq!(disk.len().expect("a length"), group + 3 * 4096);
    let number = |at| u64::from_le_bytes(disk.bytes(at..at + 8).try_into().expect("eight bytes"));
    let checksums = [4096 - 8, 4096 + 8, 3 * 4096 + 8, group].map(number);
    let golden = [
        0xfcfc_d707_cd9f_06e3,
        0xfb58_d4b9_63d3_ea8c,
        0xfb58_d4b9_63d3_ea8c,
        0x5b27_d4a7_3f56_4268,
    ];
    assert_eq!(checksums, golden);
}

#[test]
fn what_was_written_is_read_over_the_borders_of_groups() {
    let disk = Shared::default();
    for blocks in (1..600).chain([1024, 1025, 1026, 5000]) {
        let length = blocks * BLOCK;
        assert_eq!(Blocks::inner_len(Blocks::outer_len(length)), length);
    }
    let blocks = disk.blocks();
    blocks.set_len(1200 * BLOCK).expect("room");
    blocks.write(0, &filled(1, 9)).expect("room");
    blocks.write(300 * BLOCK, &filled(800, 3)).expect("room");
    let again = disk.blocks();
    assert_eq!(again.len().expect("a length"), 1200 * BLOCK);
    assert_eq!(read(&again, 0, 1).expect("the head"), filled(1, 9));
    assert_eq!(
        read(&again, 299, 802).expect("blocks")[BLOCK_BYTES..][..800 * BLOCK_BYTES],
        filled(800, 3)
    );
    // What was cut off and comes back is empty.
    again.set_len(400 * BLOCK).expect("in memory");
    again.set_len(1200 * BLOCK).expect("room");
    assert_eq!(read(&again, 399, 1).expect("a block"), filled(1, 3));
    assert_eq!(read(&again, 400, 800).expect("blocks"), filled(800, 0));
    for (at, length) in [(BLOCK, 1), (BLOCK + 1, BLOCK_BYTES), (BLOCK - 1, 2)] {
        assert!(again.write(at, &vec![0; length]).is_err(), "{length} bytes at {at}");
    }
}

#[test]
fn a_block_that_is_another_one_or_from_another_place_is_not_read() {
    let disk = Shared::default();
    let blocks = disk.blocks();
    blocks.set_len(9 * BLOCK).expect("room");
    for block in 1..9 {
        blocks.write(block * BLOCK, &filled(1, u8::try_from(block).expect("small"))).expect("room");
    }
    let at = |block: u64| GROUPS_AT + block * BLOCK;
    disk.flip(at(2) + 17);
    let error = read(&blocks, 2, 1).expect_err("rot");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let text = error.to_string();
    assert!(text.contains("here is damaged") && text.contains("from 28672 on"), "{text}");
    assert!(text.contains("replace this node as a new member"), "{text}");
    assert!(read(&blocks, 1, 4).is_err(), "with its neighbours");
    // Two blocks that have changed places, with their checksums.
    let (third, fourth) = (disk.bytes(at(3)..at(4)), disk.bytes(at(4)..at(5)));
    let checksums = disk.bytes(GROUPS_AT + 16..GROUPS_AT + 32);
    disk.write(at(3), &[fourth, third].concat()).expect("in memory");
    disk.write(GROUPS_AT + 16, &[&checksums[8..], &checksums[..8]].concat()).expect("in memory");
    assert!(read(&blocks, 3, 1).is_err() && read(&blocks, 4, 1).is_err());
    // A block that has turned to zeros, and a checksum that has.
    disk.write(at(5), &filled(1, 0)).expect("in memory");
    disk.write(GROUPS_AT + 8 * 5, &[0; 8]).expect("in memory");
    assert!(read(&blocks, 5, 1).is_err() && read(&blocks, 6, 1).is_err());
    assert!(read(&blocks, 7, 2).is_ok());
}

#[test]
fn one_copy_of_the_head_is_enough_and_none_is_damage() {
    let disk = Shared::default();
    let blocks = disk.blocks();
    blocks.set_len(9 * BLOCK).expect("room");
    for head in ["first", "second", "third"] {
        blocks.write(0, head.as_bytes()).expect("room");
        blocks.write(100, head.as_bytes()).expect("room");
        blocks.sync_data().expect("in memory");
    }
    for copy in [BLOCK, 3 * BLOCK] {
        disk.flip(copy + BLOCK + 2);
        let head = read(&disk.blocks(), 0, 1).expect("the other copy");
        assert_eq!((&head[..6], &head[100..105]), (&b"thirdd"[..], &b"third"[..]));
        disk.flip(copy + BLOCK + 2);
    }
    disk.flip(BLOCK);
    disk.flip(3 * BLOCK);
    let text = disk.blocks().len().expect_err("both are damaged").to_string();
    assert!(text.contains("both copies of its head"), "{text}");
    disk.flip(BLOCK);
    disk.write(0, &filled(1, 0)).expect("in memory");
    let text = disk.blocks().len().expect_err("the label is gone").to_string();
    assert!(text.contains("its first block"), "{text}");
    disk.write(0, &label(FORMAT + 1)).expect("in memory");
    let text = disk.blocks().len().expect_err("it is too new").to_string();
    assert!(text.contains("has format 2, this version knows up to 1"), "{text}");
}

#[test]
fn a_sync_of_the_head_that_fails_is_no_write_to_be_tried_again() {
    let small = Small::default();
    let blocks = || Blocks::on(Box::new(small.clone()), "here".to_owned());
    let first = blocks();
    first.set_len(9 * BLOCK).expect("room");
    first.write(0, b"first").expect("room");
    first.sync_data().expect("in memory");
    let second = blocks();
    second.len().expect("a length");
    small.is_full.store(true, Ordering::SeqCst);
    let error = second.write(0, b"second").expect_err("what was read may be on no disk");
    assert_eq!((error.kind(), is_full(&error)), (io::ErrorKind::Other, false), "{error}");
}

/// A store of which next to nothing stays in memory.
fn open(inner: Box<dyn StorageBackend>) -> Result<Fixture, StoreError> {
    let blocks = Blocks::on(inner, "here".to_owned());
    let disk = Disk::on(Box::new(blocks), "here".to_owned(), None, 0)?;
    flusher::Shared::on(disk, flusher::Limits::default()).map(Fixture::of)
}

/// Rows in every table, of every size, and some that compaction has removed.
fn fill(store: &mut Fixture) {
    for round in 0..3 {
        for number in 0..400 {
            store.put(&format!("key {number}"), &format!("{round} {}", "x".repeat(number)));
        }
        store.delete("key 7", "key 8");
        store.put("large", &"y".repeat(50_000));
        store.store.flush();
    }
    let attributes = MemberAttributes { member_id: 3, ..MemberAttributes::default() };
    store.apply(Command::MemberAttributes(attributes)).expect("a member");
    store.compact(500).expect("a compaction");
    store.store.shared.wait_until_clean();
    store.store.flush();
}

fn everything(store: &Fixture) -> Result<String, KvError> {
    let states = [0, 600, 1000].map(|revision| store.all_at(revision));
    let states = states.into_iter().collect::<Result<Vec<_>, _>>()?;
    let found = (0..400)
        .map(|number| store.range(super::super::tests::range(&format!("key {number}"), "")));
    Ok(format!(
        "{states:?} {:?} {:?}",
        found.collect::<Result<Vec<_>, _>>()?,
        store.reader.members()?
    ))
}

/// Flips one bit in every block under an open store, one at a time, and asks for everything: what is
/// answered is right. And again with a store that is opened on it.
#[test]
fn rot_anywhere_is_noticed_or_of_no_account() {
    let disk = Shared::default();
    let mut store = open(Box::new(disk.clone())).expect("a store");
    fill(&mut store);
    let expected = everything(&store).expect("it is sound");
    let mut rng = Rng::with_seed(1);
    let (mut noticed, mut of_no_account) = ([0, 0], 0);
    for block in 0..disk.len().expect("a length") / BLOCK {
        // Of the first ones, which are mostly empty, where something is.
        let at = block * BLOCK + rng.u64(if block < 5 { 0..64 } else { 0..BLOCK });
        disk.flip(at);
        match everything(&store) {
            Ok(found) => {
                assert!(found == expected, "rot at {at} is served");
                of_no_account += 1;
            }
            Err(error) => {
                let text = store.store.failure().expect("the store has failed");
                assert!(text.contains("here is damaged") && text.contains("from"), "{text}");
                assert!(error.to_string().contains("the store of this member failed"), "{error}");
                noticed[0] += 1;
                drop(store);
                match open(Box::new(disk.clone()))
                    .map_err(KvError::from)
                    .and_then(|store| everything(&store))
                {
                    Ok(found) => assert!(found == expected, "rot at {at} is served"),
                    Err(KvError::Store(StoreError::Damaged { .. })) => noticed[1] += 1,
                    Err(error) => panic!("{error}"),
                }
                disk.flip(at);
                store = open(Box::new(disk.clone())).expect("it is sound again");
                continue;
            }
        }
        disk.flip(at);
    }
    assert!(
        noticed[0] > 50 && noticed[1] > 50,
        "{noticed:?} noticed, {of_no_account} of no account"
    );
}

/// A disk whose power may fail at any operation.
#[derive(Debug)]
struct Crashing {
    seen: Shared,
    state: Mutex<Crash>,
}

#[derive(Debug)]
struct Crash {
    durable: Vec<u8>,
    /// Since the last sync, in order.
    pending: Vec<Operation>,
    rng: Rng,
    /// What a crash would have left, with what was known to be durable by then.
    images: Vec<(u64, Vec<u8>)>,
    flushed: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Operation {
    SetLen(u64),
    Write(u64, Vec<u8>),
}

const SECTOR_BYTES: usize = 512;

impl Crash {
    fn apply(image: &mut Vec<u8>, operation: &Operation, mut keeps: impl FnMut() -> bool) {
        match operation {
            Operation::SetLen(length) if keeps() => {
                image.resize(usize::try_from(*length).expect("it fits"), 0);
            }
            Operation::SetLen(_) => {}
            Operation::Write(offset, data) => {
                let mut at = usize::try_from(*offset).expect("it fits");
                let mut rest = &data[..];
                while !rest.is_empty() {
                    let length = rest.len().min(SECTOR_BYTES - at % SECTOR_BYTES);
                    if keeps() && at + length <= image.len() {
                        image[at..at + length].copy_from_slice(&rest[..length]);
                    }
                    at += length;
                    rest = &rest[length..];
                }
            }
        }
    }

    /// What a crash at this moment might leave.
    fn image(&mut self) {
        let mut image = self.durable.clone();
        let part = self.rng.u8(0..4);
        for operation in &self.pending {
            // All, none, or some of the operations, or of their sectors.
            let whole = self.rng.u8(1..4) <= part;
            let rng = &mut self.rng;
            Crash::apply(&mut image, operation, || if part == 2 { rng.bool() } else { whole });
        }
        self.images.push((self.flushed.load(Ordering::SeqCst), image));
    }

    fn operation(&mut self, operation: Operation) {
        self.pending.push(operation);
        if self.rng.u8(0..60) == 0 {
            self.image();
        }
    }
}

impl Crashing {
    fn state(&self) -> MutexGuard<'_, Crash> {
        self.state.lock().expect("no panic")
    }
}

#[derive(Clone, Debug)]
struct Handle(Arc<Crashing>);

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        self.0.seen.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.seen.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.state().operation(Operation::SetLen(len));
        self.0.seen.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.state();
        if state.rng.bool() {
            state.image();
        }
        let Crash { durable, pending, .. } = &mut *state;
        pending.drain(..).for_each(|operation| Crash::apply(durable, &operation, || true));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.state().operation(Operation::Write(offset, data.to_vec()));
        self.0.seen.write(offset, data)
    }
}

#[test]
fn a_crash_at_any_operation_leaves_a_whole_state() {
    let flushed = Arc::new(AtomicU64::new(0));
    let crash = Crash {
        durable: Vec::new(),
        pending: Vec::new(),
        rng: Rng::with_seed(7),
        images: Vec::new(),
        flushed: flushed.clone(),
    };
    let disk = Handle(Arc::new(Crashing { seen: Shared::default(), state: Mutex::new(crash) }));
    // Twice, so that a start and an end are among what is cut short.
    for start in 0..2 {
        let mut store = open(Box::new(disk.clone())).expect("a store");
        for slot in start * 8 + 1..=start * 8 + 8 {
            assert_eq!(store.slot, Slot(slot - 1));
            let value = slot.to_string().repeat(if slot % 5 == 0 { 30_000 } else { 300 });
            let put = |key: u64| {
                Command::Put(PutRequest {
                    key: key.to_string().into(),
                    value: value.clone().into(),
                    ..PutRequest::default()
                })
            };
            store.apply_all((0..40).map(|key| put(key * slot % 97)).collect());
            store.store.flush();
            flushed.store(slot, Ordering::SeqCst);
        }
    }
    let images = std::mem::take(&mut disk.0.state().images);
    assert!(images.len() > 40, "{} images", images.len());
    for (flushed, image) in &images {
        let inner = InMemoryBackend::new();
        inner.set_len(image.len() as u64).expect("room");
        inner.write(0, image).expect("room");
        let store =
            open(Box::new(inner)).unwrap_or_else(|error| panic!("after {flushed}: {error}"));
        let applied = store.slot.0;
        assert!(applied == *flushed || applied == flushed + 1, "{applied} of {flushed}");
        assert_eq!(store.reader.revision(), 1 + i64::try_from(applied * 40).expect("small"));
        let all = RangeRequest { revision: 0, ..super::super::tests::range("\0", "\0") };
        let found = store.range(all).expect("a whole state");
        assert_eq!(found.kvs.is_empty(), applied == 0);
    }
}

/// As earlier versions left it.
fn plain_file(file: &std::path::Path) {
    let meta: TableDefinition<'_, &str, i64> = TableDefinition::new("meta");
    let database = Database::create(file).expect("a file");
    let writing = database.begin_write().expect("a write");
    {
        let mut meta = writing.open_table(meta).expect("a table");
        let rows = [("format", 2), ("applied", 3), ("revision", 3), ("compacted", -1)];
        for (name, value) in rows.into_iter().chain([("cleaned", -1), ("bytes", 0)]) {
            meta.insert(name, value).expect("a row");
        }
        let current: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("current");
        let history: TableDefinition<'_, (&[u8], i64, u32), &[u8]> =
            TableDefinition::new("history");
        let mut current = writing.open_table(current).expect("a table");
        for number in 0_u32..2000 {
            let key = format!("key {number}");
            let numbers = [&[1][..], &3_i64.to_le_bytes(), &number.to_le_bytes()].concat();
            let ages = [3_i64, 1, 0].map(i64::to_le_bytes).concat();
            current
                .insert(key.as_bytes(), &[&numbers[..], &ages, b"v"].concat()[..])
                .expect("a row");
        }
        writing.open_table(history).expect("a table");
        let feed: TableDefinition<'_, (i64, u32), &[u8]> = TableDefinition::new("feed");
        writing.open_table(feed).expect("a table");
        let members: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("members");
        writing.open_table(members).expect("a table");
    }
    writing.commit().expect("a commit");
}

fn state_file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    (directory, file)
}

#[test]
fn a_file_without_checksums_gets_some() {
    let (directory, file) = state_file();
    plain_file(&file);
    std::fs::write(directory.path().join("state.new"), "what a crash left").expect("a file");
    for _ in 0..2 {
        let store = Fixture::open(in_file(&file), flusher::Limits::default());
        assert_eq!((store.slot, store.all_at(0).expect("a read").len()), (Slot(3), 2000));
    }
    let start = std::fs::read(&file).expect("the file");
    assert!(start.starts_with(MAGIC));
    let names = std::fs::read_dir(directory.path()).expect("it is there");
    assert_eq!(names.count(), 1, "nothing is left beside it");
}

#[test]
fn a_file_without_checksums_that_is_damaged_is_refused_and_left_alone() {
    let (_directory, file) = state_file();
    plain_file(&file);
    let mut bytes = std::fs::read(&file).expect("the file");
    let at = bytes.windows(7).position(|word| word == b"key 999").expect("a key");
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).expect("a file");
    let error = Store::open(in_file(&file)).map(|_| ()).expect_err("it is damaged");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(std::fs::read(&file).expect("the file").starts_with(b"redb"));
}
