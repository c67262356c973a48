//! The state on its way from one store to another.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::*;
use crate::store::snapshot::reseal;

/// Where the compacted revision stands in a stream: behind magic, format, slot and revision.
const COMPACTED_AT: usize = 8 + 4 + 8 + 8;

fn member(member_id: u64) -> MemberAttributes {
    let client_urls = vec!["a".to_owned(), format!("b{member_id}")];
    MemberAttributes { member_id, name: format!("n{member_id}"), client_urls, rules: 1 }
}

/// A store with rows in every table, at revision 7.
fn filled() -> Fixture {
    let mut store = Fixture::new();
    store.put("a", "1");
    store.put("b", "1");
    store.put("a", "2");
    store.delete("b", "");
    store.txn(always(vec![put_operation("b", "3"), put_operation("c", "")])).expect("a change");
    store.put("a", "3");
    for id in [3, 1 << 40] {
        store.apply(Command::MemberAttributes(member(id))).expect("a member");
    }
    store
}

/// A store that has what another one must not have afterwards.
fn other() -> Fixture {
    let mut store = Fixture::new();
    store.put("z", "old");
    store.apply(Command::MemberAttributes(member(9))).expect("a member");
    store.store.flush();
    store.put("a", "old");
    store
}

fn everything(store: &Fixture) -> String {
    let reader = &store.reader;
    let states: Vec<_> = (1..=reader.revision()).map(|revision| store.all_at(revision)).collect();
    let head = (reader.revision(), reader.compacted_revision(), reader.applied());
    format!("{head:?} {states:?} {:?}", reader.members())
}

#[test]
fn a_state_replaces_all_that_was_there_and_is_durable() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = in_file(&directory.path().join("state"));
    let source = filled();
    let mut store = Fixture::open(file.clone(), flusher::Limits::default());
    store.put("z", "old");
    store.apply(Command::MemberAttributes(member(9))).expect("a member");
    store.store.flush();
    store.put("a", "old");
    store.restore(source.slot, source.stream()).expect("a state");
    assert_eq!(everything(&store), everything(&source));
    assert_eq!(store.store.durable(), Some(source.slot));
    assert_eq!(store.stream(), source.stream(), "and it is sent on as it came");
    assert_eq!(store.reader.size_in_use(), source.reader.size_in_use());
    drop(store);
    let mut store = Fixture::open(file, flusher::Limits::default());
    assert_eq!(everything(&store), everything(&source));
    store.put("a", "4");
    assert_eq!(store.get("a").map(|found| found.version), Some(4));
    store.store.flush();
    assert_eq!(store.store.durable(), Some(source.slot.next()));
}

#[test]
fn equal_stores_send_equal_bytes_however_they_came_by_their_tables() {
    let streams = [1, 700, 1 << 20].map(|layer_bytes| {
        let limits = flusher::Limits { layer_bytes, layer_slots: 1 << 20 };
        let mut store = Fixture::open(Backend::Memory, limits);
        for number in 0..300 {
            store.put(&format!("{:02}", number % 40), &number.to_string());
            if number % 7 == 0 {
                store.delete(&format!("{:02}", number % 11), "05");
            }
            if number % 100 == 99 {
                store.compact(number).expect("a compaction");
            }
        }
        store.store.flush();
        store.store.shared.wait_until_clean();
        store.stream()
    });
    assert!(streams[0] == streams[1] && streams[1] == streams[2]);
}

#[test]
fn a_snapshot_stays_as_it_was_while_commands_are_applied() {
    let mut store = filled();
    let before = everything(&store);
    let snapshots = [store.store.snapshot(), store.store.snapshot()];
    let slot = store.slot;
    for number in 0..100 {
        store.put("a", &number.to_string());
        store.delete("b", "\0");
        store.put("z", "new");
    }
    store.compact(200).expect("a compaction");
    store.store.flush();
    store.store.shared.wait_until_clean();
    let [one, two] = snapshots.map(read_out);
    assert!(one == two);
    let mut fresh = Fixture::new();
    fresh.restore(slot, one).expect("a state");
    assert_eq!(everything(&fresh), before);
}

#[test]
fn a_state_cut_short_anywhere_changes_nothing() {
    let source = filled();
    let stream = source.stream();
    let mut store = other();
    let (before, slot) = (everything(&store), source.slot);
    for length in 0..stream.len() {
        let error = store.restore(slot, stream[..length].to_vec()).expect_err("cut short");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length} bytes: {error}");
        assert!(error.to_string().contains("cut short"), "{length} bytes: {error}");
        assert_eq!(everything(&store), before, "{length} bytes");
    }
    let longer = [&stream[..], b"x"].concat();
    let error = store.restore(slot, longer).expect_err("too long");
    assert!(error.to_string().contains("behind its end"), "{error}");
    store.put("y", "1");
    store.store.flush();
    assert_eq!(store.get("y").map(|found| found.mod_revision), Some(4));
    store.restore(slot, stream).expect("the whole state");
    assert_eq!(everything(&store), everything(&source));
}

/// Slots without commands are left out of what a store sees, and a store may be ahead of its log.
#[test]
fn a_state_counts_for_the_later_of_its_own_slot_and_the_one_that_it_is_sent_for() {
    let source = filled();
    let slot = source.slot;
    for (sent_for, expected) in [(slot.previous(), slot), (slot, slot), (slot.next(), slot.next())]
    {
        let mut store = other();
        store.restore(sent_for, source.stream()).expect("a state");
        assert_eq!(store.reader.applied(), expected, "sent for {sent_for}");
        assert_eq!(store.store.durable(), Some(expected));
    }
}

/// A state that stops in the middle, with an error if that is not all that comes.
struct Interrupted<F> {
    sound: Cursor<Vec<u8>>,
    then: Option<F>,
}

impl<F: FnOnce() -> io::Result<()>> Read for Interrupted<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match (self.sound.read(out)?, self.then.take_if(|_| !out.is_empty())) {
            (0, Some(then)) => then().map(|()| 0),
            (length, then) => {
                self.then = then;
                Ok(length)
            }
        }
    }
}

#[test]
fn a_crash_in_the_middle_and_a_source_that_fails_leave_the_old_state() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, copy) = (directory.path().join("state"), directory.path().join("copy"));
    let (source, limits) = (filled(), flusher::Limits::default());
    let mut store = Fixture::open(in_file(&file), limits);
    store.put("a", "old");
    store.store.flush();
    let before = everything(&store);
    let mut half = source.stream();
    half.truncate(half.len() / 2);
    let crashed = copy.clone();
    let then = move || {
        fs::copy(&file, &crashed)?;
        Err(io::Error::new(io::ErrorKind::ConnectionReset, "the peer is gone"))
    };
    let reader = Interrupted { sound: Cursor::new(half), then: Some(then) };
    let snapshot = StoreSnapshot::from_reader(Box::new(reader)).expect("not read yet");
    let error = store.store.restore(source.slot, snapshot).expect_err("it fails");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(everything(&store), before);
    let copied = Fixture::open(in_file(&copy), limits);
    assert_eq!(everything(&copied), before);
}

#[test]
fn without_room_a_state_that_comes_waits_and_the_old_one_is_served() {
    let (small, mut store) = on_a_small_disk(flusher::Limits::default());
    let source = filled();
    store.put("a", "old");
    store.store.flush();
    let (reader, monitor) = (store.reader.clone(), store.store.monitor());
    small.is_full.store(true, Ordering::Relaxed);
    thread::scope(|scope| {
        let restoring = scope.spawn(|| store.restore(source.slot, source.stream()));
        wait_until("it waits", || monitor.lacks_room());
        let found = reader.range(&range("a", "")).expect("a read").kvs;
        assert_eq!(found[0].value, "old");
        small.is_full.store(false, Ordering::Relaxed);
        restoring.join().expect("no panic").expect("there is room again");
    });
    assert!(!monitor.lacks_room());
    assert_eq!(everything(&store), everything(&source));
}

#[test]
fn at_the_end_a_state_waits_for_no_room_and_the_old_one_stays() {
    let (small, mut store) = on_a_small_disk(flusher::Limits::default());
    let source = filled();
    store.put("a", "old");
    store.store.flush();
    let before = everything(&store);
    let monitor = store.store.monitor();
    small.is_full.store(true, Ordering::Relaxed);
    let error = thread::scope(|scope| {
        let restoring = scope.spawn(|| store.restore(source.slot, source.stream()));
        wait_until("it waits", || monitor.lacks_room());
        monitor.stop_waiting();
        restoring.join().expect("no panic").expect_err("there is no room")
    });
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    drop(store);
    small.is_full.store(false, Ordering::Relaxed);
    assert_eq!(everything(&reopened(&small, flusher::Limits::default())), before);
}

#[test]
fn without_room_no_state_is_given_away() {
    let (small, mut store) = on_a_small_disk(flusher::Limits::default());
    let source = filled();
    store.put("b", "new");
    // What is in memory cannot be brought into the tables, and whoever reads the state is told.
    small.is_full.store(true, Ordering::Relaxed);
    let error = store.store.snapshot().into_reader().map(|_| ()).expect_err("there is no room");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    assert_eq!(store.get("b").map(|found| found.version), Some(1));
    // A state that comes waits behind what waits for room, until the end is near.
    store.store.monitor().stop_waiting();
    let error = store.restore(source.slot, source.stream()).expect_err("there is no room");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    small.is_full.store(false, Ordering::Relaxed);
    wait_until("it tries again", || store.store.durable() == Some(store.slot));
    store.restore(source.slot, source.stream()).expect("there is room again");
    assert_eq!(everything(&store), everything(&source));
}

#[test]
fn readers_see_the_one_state_or_the_other() {
    let of = |value: &str, keys: usize| {
        let mut store = Fixture::new();
        for round in [value, "x", value] {
            let key = |number: usize| format!("{number:04}");
            let commands = (0..keys).map(|number| Command::Put(put(&key(number), round)));
            store.apply_all(commands.collect());
        }
        store
    };
    let mut store = of("old", 300);
    let source = of("new", 2000);
    let stream = source.stream();
    // Whoever held a layer of the old state goes on reading it.
    store.put("0000", "old");
    let (done, reader) = (AtomicBool::new(false), store.reader.clone());
    let seen = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut seen = vec![];
            while !done.load(Ordering::Relaxed) || seen.len() < 2 {
                let response = reader.range(&range("\0", "\0")).expect("a read");
                let value = response.kvs[0].value.clone();
                assert!(response.kvs.iter().all(|found| found.value == value), "half of each");
                assert_eq!(response.kvs.len(), if value == "old" { 300 } else { 2000 });
                let revision = response.header.expect("a header").revision;
                assert_eq!(revision, if value == "old" { 902 } else { 6001 });
                if seen.last() != Some(&value) {
                    seen.push(value);
                }
            }
            seen
        });
        let slot = Slot(100);
        let mut stream = stream;
        stream[12..20].copy_from_slice(&slot.0.to_le_bytes());
        reseal(&mut stream);
        store.restore(slot, stream).expect("a state");
        done.store(true, Ordering::Relaxed);
        reading.join().expect("the reader")
    });
    assert_eq!(seen, ["old", "new"]);
}

#[test]
fn what_a_compaction_left_is_cleaned_up_after_the_state_has_come() {
    // More rows than are cleaned up in one go, in two ways that come to the same.
    let history = |store: &mut Fixture| {
        for round in 0..12_000 {
            let value = round.to_string();
            store.apply_all(vec![Command::Put(put("key", &value)), Command::Put(put("b", &value))]);
        }
        store.delete("b", "");
    };
    let mut source = Fixture::new();
    history(&mut source);
    let slot = source.slot.next();
    let mut uncleaned = source.stream();
    uncleaned[12..20].copy_from_slice(&slot.0.to_le_bytes());
    uncleaned[COMPACTED_AT..COMPACTED_AT + 8].copy_from_slice(&24_000_i64.to_le_bytes());
    reseal(&mut uncleaned);
    source.compact(24_000).expect("a compaction");
    source.store.flush();
    source.store.shared.wait_until_clean();
    // While it cleans up for the same revision itself: where it was means nothing in other tables.
    let mut store = Fixture::new();
    history(&mut store);
    store.restore(slot, uncleaned.clone()).expect("a state");
    assert!(store.reader.compacted_revision() == 24_000);
    store.store.shared.wait_until_clean();
    assert!(store.stream() == source.stream());
    let [is, should] = [&store, &source].map(|store| store.reader.size_in_use());
    assert_eq!(is, should);
    assert!(is < 400, "{is} bytes");
}

#[test]
fn a_restore_meets_the_thread_in_the_middle_of_its_work() {
    let limits = flusher::Limits { layer_bytes: 2000, layer_slots: 1 << 20 };
    let mut source = Fixture::open(Backend::Memory, limits);
    let mut store = Fixture::open(Backend::Memory, limits);
    for number in 0..2000 {
        source.put(&format!("{:03}", number % 100), &number.to_string());
    }
    for round in 0..10 {
        let applied = store.slot.0;
        for number in 0..150 {
            store.put(&format!("{:03}", number % 70), "old");
            if number % 40 == 39 {
                let revision = store.reader.revision();
                store.compact(revision - 10).expect("a compaction");
            }
        }
        assert!(store.slot.0 > applied && store.slot < source.slot, "round {round}");
        store.restore(source.slot, source.stream()).expect("a state");
        assert_eq!(store.all_at(0), source.all_at(0), "round {round}");
        for number in 0..100 {
            for fixture in [&mut store, &mut source] {
                fixture.put(&format!("{number:03}"), &round.to_string());
            }
        }
        assert_eq!(store.all_at(0), source.all_at(0), "round {round}");
        assert!(store.stream() == source.stream(), "round {round}");
        // The other one is ahead again.
        for _ in 0..400 {
            source.put("ahead", &round.to_string());
        }
    }
}

#[test]
fn what_is_read_ahead_is_bounded() {
    /// The longest read asked for.
    struct Watched(Cursor<Vec<u8>>, Arc<Mutex<usize>>);

    impl Read for Watched {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let mut longest = self.1.lock().expect("no panic");
            *longest = out.len().max(*longest);
            self.0.read(out)
        }
    }

    let mut source = Fixture::new();
    for number in 0..3000 {
        source.put(&number.to_string(), &"x".repeat(2000));
    }
    let stream = source.stream();
    assert!(stream.len() > 6_000_000);
    let longest = Arc::new(Mutex::new(0));
    let reader = Watched(Cursor::new(stream), longest.clone());
    let snapshot = StoreSnapshot::from_reader(Box::new(reader)).expect("not read yet");
    assert_eq!(*longest.lock().expect("no panic"), 0);
    Fixture::new().store.restore(source.slot, snapshot).expect("a state");
    let longest = *longest.lock().expect("no panic");
    assert!(longest <= 100_000, "{longest} bytes at once");
}
