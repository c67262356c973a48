//! Members whose states are the same, and one whose state has been damaged.

use paxos_core::{Node, node::NodeError, replica::Halt, types::Membership};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;

use super::*;
use crate::store::import::Import;

fn digest(store: &Fixture) -> u64 {
    store.store.digest().expect("a store that has always had sums")
}

/// Turns one bit of the value.
fn damage(held: &mut [u8]) {
    *held.last_mut().expect("a version") ^= 1;
}

#[test]
fn what_commands_come_across_counts_and_what_they_make_of_it() {
    let [mut one, mut other] = [(); 2].map(|()| Fixture::new());
    assert_eq!(digest(&one), digest(&other));
    for store in [&mut one, &mut other] {
        store.put("a", "1");
        store.put("b", "1");
    }
    assert_eq!(digest(&one), digest(&other));
    one.put("a", "2");
    other.put("a", "3");
    assert_ne!(digest(&one), digest(&other));
    // The same again, though not for those who read what has been.
    for store in [&mut one, &mut other] {
        store.put("a", "4");
    }
    assert_ne!(digest(&one), digest(&other));
}

#[test]
fn every_part_of_the_state_counts() {
    type Change = fn(&mut Fixture);
    let changes: [Change; 6] = [
        |store| store.put("a", "1"),
        |store| store.put("b", "1"),
        |store| assert_eq!(store.delete("c", ""), 1),
        |store| store.compact(2).expect("a compaction"),
        |store| {
            let attributes = MemberAttributes { member_id: 7, ..MemberAttributes::default() };
            store.apply(Command::MemberAttributes(attributes)).expect("attributes");
        },
        |store| drop(store.apply(Command::RaiseRules(Rules::KNOWN.0)).expect("rules")),
    ];
    let mut seen = Vec::new();
    for change in changes {
        let mut store = Fixture::new();
        store.put("c", "1");
        store.put("a", "0");
        seen.push(digest(&store));
        change(&mut store);
        seen.push(digest(&store));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 1 + changes.len());
}

#[test]
fn what_was_damaged_shows_once_it_is_replaced_or_deleted() {
    let replace: [fn(&mut Fixture); 3] = [
        |store| store.put("a", "2"),
        |store| assert_eq!(store.delete("a", ""), 1),
        |store| assert_eq!(store.delete("a", "c"), 2),
    ];
    for replace in replace {
        let [mut sound, mut damaged] = [(); 2].map(|()| Fixture::new());
        for store in [&mut sound, &mut damaged] {
            store.put("a", "1");
            store.put("b", "1");
        }
        damaged.reader.inner.damage(b"a", damage);
        assert_eq!(damaged.get("a").expect("it exists").value, "0");
        for store in [&mut sound, &mut damaged] {
            store.put("b", "2");
        }
        assert_eq!(digest(&sound), digest(&damaged), "nobody has come across it");
        replace(&mut sound);
        replace(&mut damaged);
        assert_ne!(digest(&sound), digest(&damaged));
    }
}

#[test]
fn the_sums_survive_and_a_state_that_they_do_not_fit_is_not_sent() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = in_file(&directory.path().join("state"));
    let mut store = Fixture::open(file.clone(), flusher::Limits::default());
    store.put("a", "1");
    store.put("b", "1");
    let before = digest(&store);
    let sound = store.stream();
    store.reader.inner.damage(b"a", damage);
    drop(store);
    let mut store = Fixture::open(file, flusher::Limits::default());
    assert_eq!(digest(&store), before);
    let read = |store: &Fixture| {
        let mut reader = store.store.snapshot().into_reader().expect("a reader");
        reader.read_to_end(&mut Vec::new()).expect_err("a state that is damaged")
    };
    let error = read(&store).to_string();
    assert!(error.contains("keys do not hold what its commands have led to"), "{error}");
    // And a receiver would see for itself.
    let mut doctored = sound.clone();
    let head_bytes = 8 + 4 + 5 * 8 + 1 + 2 * 8;
    let value = doctored.iter().skip(head_bytes).position(|byte| *byte == b'1').expect("a value");
    doctored[head_bytes + value] ^= 1;
    crate::store::snapshot::reseal(&mut doctored);
    let mut other = Fixture::new();
    let error = other.restore(Slot(9), doctored).expect_err("not the state that was made");
    assert!(error.to_string().contains("what its commands have led to"), "{error}");
    other.restore(Slot(9), sound).expect("a sound state");
    assert_eq!(digest(&other), before);
    store.put("a", "1");
    other.put("a", "1");
    assert_ne!(digest(&store), digest(&other));
}

/// Commands to a store of three nodes over memory, one of which is damaged while they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_state_is_damaged_stops_and_the_others_go_on() {
    let network = MemoryNetwork::new(1);
    let membership =
        Membership::new((1..=3).map(|id| (id, format!("node-{id}")))).expect("three nodes");
    let (mut nodes, mut readers) = (Vec::new(), Vec::new());
    for id in 1..=3 {
        let store = Fixture::new().store;
        readers.push(store.reader());
        let node = Node::builder(id, membership.clone())
            .storage(MemoryStorage::new())
            .transport(network.join(id))
            .configure(|config| config.digest_slots = 4)
            .start(store);
        nodes.push(node.await.expect("a node"));
    }
    let change = |key: &'static str, number: u32| {
        nodes[0].propose(Command::Put(put(key, &format!("{number:03}"))).under(Rules::KNOWN))
    };
    for number in 0..10 {
        change("a", number).await.expect("an answer").expect("a put");
        change("b", number).await.expect("an answer").expect("a put");
    }
    wait_until("all have it", || readers.iter().all(|reader| reader.revision() == 21));
    readers[1].inner.damage(b"a", damage);
    for number in 0..30 {
        change("b", number).await.expect("an answer").expect("a put");
    }
    wait_until("all have it", || readers.iter().all(|reader| reader.revision() == 51));
    let stopped = nodes[1].stopped();
    let mut number = 0;
    let ended = tokio::select! {
        ended = stopped => ended.expect_err("its state is damaged"),
        () = async {
            loop {
                change("a", number).await.expect("two of three go on").expect("a put");
                number += 1;
                assert!(number < 1000, "a member with another state goes on");
            }
        } => unreachable!("it goes on until one has stopped"),
    };
    assert!(matches!(ended, NodeError::Halted(Halt::StateDiverged { .. })), "{ended}");
    for number in 0..30 {
        change("a", number).await.expect("two of three go on").expect("a put");
    }
    wait_until("both have it", || readers[0].revision() == readers[2].revision());
    let digests = [0, 2].map(|at| readers[at].now().1.digest().expect("sums"));
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn all_that_are_made_of_one_backup_have_the_same_digest() {
    let mut source = Fixture::new();
    for number in 0..20 {
        source.put(&format!("{}", number % 7), &number.to_string());
    }
    source.delete("3", "5");
    source.compact(9).expect("a compaction");
    let frozen = source.reader.freeze(|| true).expect("tables").expect("it is wanted");
    let directory = tempfile::tempdir().expect("a directory");
    let digests = ["one", "other"].map(|name| {
        let file = directory.path().join(name);
        let mut import = Import::begin(file.clone(), owner(1)).expect("a file");
        let mut changes = frozen.changes().expect("changes");
        while let Some(change) = changes.next().expect("a change") {
            import.add(change).expect("room");
        }
        import.finish(source.reader.revision(), 9, Slot(1)).expect("room");
        let mut store = Fixture::open(in_file(&file), flusher::Limits::default());
        assert_eq!(store.all_at(0), source.all_at(0));
        store.put("5", "new");
        store.delete("0", "3");
        store.stream();
        digest(&store)
    });
    assert_eq!(digests[0], digests[1]);
}
