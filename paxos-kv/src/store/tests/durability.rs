//! What of a store is on disk, and when.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use futures::FutureExt;
use redb::{StorageBackend, TableDefinition};
use tempfile::TempDir;

use super::*;
use crate::store::{StoreError, blocks::tests::open_tables};

fn state_file() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("state");
    (directory, file)
}

fn open(file: &Path, layer_bytes: usize) -> Fixture {
    let limits = flusher::Limits { layer_bytes, layer_slots: 1 << 20 };
    Fixture::open(in_file(file), limits)
}

fn refusal(file: &Path) -> StoreError {
    Store::open(in_file(file)).map(|_| ()).expect_err("refused")
}

#[test]
fn a_crash_leaves_exactly_the_slots_up_to_the_applied_one() {
    let (_directory, file) = state_file();
    let mut states = vec![Vec::new()];
    let mut starts = Vec::new();
    for _ in 0..4 {
        let mut store = open(&file, 20_000);
        let durable = usize::try_from(store.slot.0).expect("few slots");
        assert_eq!(store.reader.applied(), store.slot);
        assert_eq!(store.all_at(0).expect("a read"), states[durable], "after slot {durable}");
        starts.push(durable);
        states.truncate(durable + 1);
        // Each slot changes several keys, so that half a slot would be noticed.
        for number in durable..durable + 200 {
            let keys = ["x", "y", "z"].map(|key| Command::Put(put(key, &number.to_string())));
            let more = Command::Put(put(&format!("{:02}", number % 50), &number.to_string()));
            store.apply_all(keys.into_iter().chain([more]).collect());
            states.push(store.all_at(0).expect("a read"));
        }
    }
    assert!(starts.is_sorted() && starts[3] > 0, "nothing was flushed: {starts:?}");
}

#[test]
fn a_flush_keeps_everything_and_an_idle_store_writes_nothing() {
    let (_directory, file) = state_file();
    let mut store = open(&file, 1 << 20);
    store.put("a", "1");
    store.store.flush();
    assert_eq!(store.store.durable(), Some(Slot(1)));
    let written = fs::read(&file).expect("the file");
    store.store.flush();
    assert_eq!(store.get("a").map(|found| found.version), Some(1));
    assert!(written == fs::read(&file).expect("the file"), "an idle store has written");
    // A slot that changes nothing still counts as applied.
    store.delete("missing", "");
    store.store.flush();
    drop(store);
    let store = open(&file, 1 << 20);
    assert_eq!((store.slot, store.reader.revision()), (Slot(2), 2));
}

#[test]
fn cleaning_up_goes_on_after_a_restart() {
    let (_directory, file) = state_file();
    let mut store = open(&file, 1 << 30);
    for round in 0..12_000 {
        let commands = (0..5).map(|_| Command::Put(put("key", &round.to_string()))).collect();
        store.apply_all(commands);
    }
    store.store.flush();
    let before = store.reader.size_in_use();
    store.compact(60_001).expect("a compaction");
    store.store.flush();
    drop(store);
    let store = open(&file, 1 << 30);
    store.store.shared.wait_until_clean();
    let after = store.reader.size_in_use();
    assert!(before > 3_000_000 && after < 300, "{before} bytes before, {after} after");
    assert_eq!(store.get("key").map(|found| found.version), Some(60_000));
}

/// A disk that takes its time, and remembers when it was at work.
#[derive(Debug, Default)]
struct Slow {
    inner: Small,
    at_work: Arc<Mutex<Vec<(Instant, Instant)>>>,
}

impl Slow {
    fn work<R>(&self, operation: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let result = operation();
        self.at_work.lock().expect("no panic").push((began, Instant::now()));
        result
    }
}

impl StorageBackend for Slow {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.work(|| {
            thread::sleep(Duration::from_millis(5));
            self.inner.sync_data()
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.work(|| self.inner.write(offset, data))
    }
}

#[test]
fn cleaning_up_leaves_the_disk_to_others_most_of_the_time() {
    let slow = Slow::default();
    let at_work = slow.at_work.clone();
    let disk = Disk::on(Box::new(slow), "a slow disk".to_owned(), None, 1 << 20);
    let limits = flusher::Limits { layer_bytes: 1 << 30, layer_slots: 1 << 20 };
    let mut store =
        Fixture::of(flusher::Shared::on(disk.expect("a disk"), limits).expect("a store"));
    for _ in 0..400 {
        store.apply_all(vec![Command::Put(put("key", "value")); 100]);
    }
    store.store.flush();
    store.compact(40_000).expect("a compaction");
    store.store.flush();
    let first = at_work.lock().expect("no panic").len();
    store.store.shared.wait_until_clean();
    let at_work = &at_work.lock().expect("no panic")[first..];
    let busy: Duration = at_work.iter().map(|(began, ended)| *ended - *began).sum();
    let all = at_work[at_work.len() - 1].1 - at_work[0].0;
    assert!(all > busy * 2, "at work for {busy:?} of {all:?}");
}

#[test]
fn readers_see_whole_slots_while_layers_are_flushed() {
    let mut store =
        Fixture::open(Backend::Memory, flusher::Limits { layer_bytes: 3000, layer_slots: 1 << 20 });
    let done = AtomicBool::new(false);
    let reader = store.reader.clone();
    let reads = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut reads = 0u64;
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let response = reader.range(&range("\0", "\0")).expect("a read");
                let revision = response.header.expect("a header").revision;
                assert!(revision >= last && (revision - 1) % 4 == 0, "{last}, then {revision}");
                last = revision;
                let values: Vec<_> = response.kvs.iter().map(|found| &found.value).collect();
                assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{values:?}");
                assert_eq!(values.len(), if revision == 1 { 0 } else { 4 });
                reads += 1;
            }
            reads
        });
        for round in 0..3000 {
            let value = round.to_string();
            let commands = ["a", "b", "c", "d"].map(|key| Command::Put(put(key, &value)));
            store.apply_all(commands.into());
        }
        done.store(true, Ordering::Relaxed);
        reading.join().expect("the reader")
    });
    assert!(reads > 0, "nothing was read beside the writes");
}

#[test]
fn a_view_outlives_the_moment_it_was_taken() {
    let mut store = Fixture::new();
    for round in 0..3 {
        store.put("a", &round.to_string());
        store.delete("b", "");
        store.put("b", &round.to_string());
        if round < 2 {
            store.store.flush();
        }
    }
    let revisions = 1..=store.reader.revision();
    let before: Vec<_> = revisions.clone().map(|revision| store.all_at(revision)).collect();
    store.store.flush();
    let after: Vec<_> = revisions.map(|revision| store.all_at(revision)).collect();
    assert_eq!(before, after);
}

/// Slots of a megabyte, applied on another thread, and how many there are so far.
fn apply_large(store: &mut Fixture, slots: u64, applied: &AtomicU64) {
    for number in 0..slots {
        store.put(&format!("{number:04}"), &"v".repeat(1 << 20));
        applied.fetch_add(1, Ordering::SeqCst);
    }
}

/// More than there is place for in memory while the disk is full.
const MORE_THAN_FITS: u64 = 80;
const SMALL_LAYERS: flusher::Limits =
    flusher::Limits { layer_bytes: 1 << 20, layer_slots: 1 << 20 };

#[test]
fn a_full_disk_makes_applying_wait_and_holds_up_no_reads() {
    let (small, mut store) = on_a_small_disk(SMALL_LAYERS);
    store.put("a", "1");
    small.is_full.store(true, Ordering::SeqCst);
    let (reader, monitor, applied) =
        (store.reader.clone(), store.store.monitor(), AtomicU64::new(0));
    thread::scope(|scope| {
        let applying = scope.spawn(|| apply_large(&mut store, MORE_THAN_FITS, &applied));
        wait_until("the disk is found full", || monitor.lacks_room());
        // What was under way when that was noticed finds place.
        wait_until("there is place", || applied.load(Ordering::SeqCst) > 60);
        let found = reader.range(&range("a", "")).expect("reads are served").kvs;
        assert_eq!(found[0].value, "1");
        thread::sleep(Duration::from_millis(100));
        assert!(applied.load(Ordering::SeqCst) < MORE_THAN_FITS, "memory has no bound");
        small.is_full.store(false, Ordering::SeqCst);
        applying.join().expect("it goes on");
    });
    assert_eq!(store.store.failure(), None);
    store.store.flush();
    assert!(!monitor.lacks_room());
    drop(store);
    let store = reopened(&small, SMALL_LAYERS);
    assert_eq!(store.all_at(0).expect("a read").len() as u64, MORE_THAN_FITS + 1);
}

#[test]
fn nothing_waits_for_room_at_the_end() {
    let (small, mut store) = on_a_small_disk(SMALL_LAYERS);
    store.put("a", "1");
    store.store.flush();
    small.is_full.store(true, Ordering::SeqCst);
    let (monitor, applied) = (store.store.monitor(), AtomicU64::new(0));
    thread::scope(|scope| {
        let applying = scope.spawn(|| apply_large(&mut store, MORE_THAN_FITS, &applied));
        wait_until("there is place", || applied.load(Ordering::SeqCst) > 60);
        monitor.stop_waiting();
        applying.join().expect("it goes on");
    });
    store.store.flush();
    assert!(store.store.failure().is_none(), "a full disk is no failure");
    drop(store);
    small.is_full.store(false, Ordering::SeqCst);
    let store = reopened(&small, SMALL_LAYERS);
    assert_eq!((store.get("a").map(|found| found.version), store.slot), (Some(1), Slot(1)));
}

#[test]
fn a_store_whose_disk_fails_says_so_and_does_nothing_more() {
    let (small, mut store) = on_a_small_disk(SMALL_LAYERS);
    store.put("a", "1");
    small.is_broken.store(true, Ordering::SeqCst);
    store.store.flush();
    let failure = store.store.failure().expect("a failure");
    assert!(
        failure.contains("a small disk") && failure.contains("start the node again"),
        "{failure}"
    );
    store.slot = store.slot.next();
    let put = Command::Put(put("b", "2")).under(Rules::KNOWN);
    let answers = store.store.apply(store.slot, vec![put]);
    assert_eq!((answers.len(), store.reader.applied()), (0, Slot(1)));
    let told = store.store.monitor().failed().now_or_never().expect("it has failed");
    assert_eq!(told.to_string(), failure);
}

#[test]
fn a_file_in_use_is_refused() {
    let (_directory, file) = state_file();
    let _store = open(&file, 1 << 20);
    assert_eq!(refusal(&file), StoreError::Locked { path: file.display().to_string() });
}

#[test]
fn a_file_of_a_newer_version_is_refused() {
    let (_directory, file) = state_file();
    drop(open(&file, 1 << 20));
    let meta: TableDefinition<'_, &str, i64> = TableDefinition::new("meta");
    let database = open_tables(&file);
    let writing = database.begin_write().expect("a write");
    writing
        .open_table(meta)
        .and_then(|mut meta| Ok(meta.insert("format", 5)?.is_some()))
        .expect("the format");
    writing.commit().expect("a commit");
    drop(database);
    let error = refusal(&file);
    assert!(matches!(error, StoreError::NewerFormat { found: 5, known: 4, .. }), "{error}");
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let (_directory, file) = state_file();
    fs::write(&file, vec![b'x'; 8192]).expect("a file");
    let error = refusal(&file);
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let nowhere = file.join("nowhere");
    assert!(matches!(refusal(&nowhere), StoreError::Io { .. }), "a directory that is a file");
}

#[test]
fn members_are_kept_beside_the_keys_and_take_up_no_revision() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("state");
    let attributes = |member_id, url: &str| MemberAttributes {
        member_id,
        name: format!("n{member_id}"),
        client_urls: vec![url.to_owned()],
        rules: 1,
    };
    let publish = |store: &mut Fixture, attributes| {
        let answer = store.apply(Command::MemberAttributes(attributes));
        assert_eq!(answer, Ok(Response::MemberAttributes));
    };
    let limits = flusher::Limits::default();
    let mut store = Fixture::open(in_file(&file), limits);
    publish(&mut store, attributes(2, "b"));
    publish(&mut store, attributes(1, "a"));
    store.store.flush();
    publish(&mut store, attributes(2, "c"));
    let expected = Ok(vec![attributes(1, "a"), attributes(2, "c")]);
    assert_eq!(store.reader.members(), expected);
    assert_eq!(store.reader.revision(), 1);
    assert_eq!(store.all_at(0), Ok(Vec::new()));
    store.store.flush();
    drop(store);
    let store = Fixture::open(in_file(&file), limits);
    assert_eq!(store.reader.members(), expected);
}

#[test]
fn what_has_gathered_is_durable_soon_after_nothing_more_comes() {
    let (_directory, file) = state_file();
    let mut store = open(&file, 1 << 20);
    for number in 0..100 {
        store.put(&number.to_string(), &"v".repeat(1000));
    }
    wait_until("all is in the tables", || store.store.durable() == Some(store.slot));
    drop(store);
    let store = open(&file, 1 << 20);
    assert_eq!((store.slot, store.reader.revision()), (Slot(100), 101));
}
