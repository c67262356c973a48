//! What a command costs: who reads what, and how much one may change.

use paxos_core::port::Codec;

use super::*;
use crate::{proto::etcdserverpb::range_request::SortOrder, store::Envelope};

/// Every replica carries out a command; what is only answered costs the one that answers.
#[test]
fn what_is_only_answered_is_read_by_whoever_answers() {
    let mut store = Fixture::new();
    for key in 0..200 {
        store.put(&format!("key {key}"), &"v".repeat(50_000));
    }
    store.store.flush();
    let everything = RangeRequest { sort_order: SortOrder::Descend.into(), ..range("\0", "\0") };
    let mut operations: Vec<_> = (0..10).map(|_| range_operation(everything.clone())).collect();
    let overwritten = PutRequest { prev_kv: true, ..put("key 7", "w") };
    operations.push(operation(Request::RequestPut(overwritten)));
    let mut deleted = delete("\0", "\0");
    deleted.prev_kv = true;
    operations.push(operation(Request::RequestDeleteRange(delete("key 1", "key 2"))));
    let commands = vec![Command::Txn(always(operations)), Command::DeleteRange(deleted)];
    let mut answers = Vec::new();
    let taken = allocation_counter::measure(|| answers = store.apply_unread(commands));
    assert!(taken.bytes_max < 1 << 20, "{} bytes to carry it out", taken.bytes_max);
    let mut read = Vec::new();
    let taken = allocation_counter::measure(|| {
        read = answers.into_iter().map(|answer| answer.and_then(Answer::response)).collect();
    });
    assert!(taken.bytes_max > 10 * 200 * 50_000, "{} bytes to answer it", taken.bytes_max);
    let Ok(Response::DeleteRange(deleted)) = &read[1] else { panic!("{read:?}") };
    assert_eq!((deleted.deleted, deleted.prev_kvs.len()), (89, 89));
}

#[test]
fn a_deletion_of_too_much_is_refused_before_anything_is_changed() {
    let mut store = Fixture::new();
    // Keys so long that a hundred of them are more than one command may delete.
    let long = |number: usize| format!("{number:03}{}", "k".repeat(1_400_000));
    for number in 0..100 {
        store.put(&long(number), "");
    }
    let all = || delete("\0", "\0");
    assert_eq!(store.apply(Command::DeleteRange(all())), Err(KvError::DeletesTooMuch));
    let halves = vec![
        put_operation("a", "1"),
        delete_operation("000", "050"),
        txn_operation(always(vec![delete_operation("050", "100")])),
    ];
    assert_eq!(store.txn(always(halves)), Err(KvError::DeletesTooMuch));
    assert_eq!((store.get("a"), store.reader.revision()), (None, 101));
    assert_eq!(store.delete("000", "050"), 50);
    assert_eq!(store.delete("\0", "\0"), 50);
}

/// As those have carried it out that know no other rules.
#[test]
fn a_deletion_under_the_first_rules_is_carried_out_however_large() {
    let mut store = Fixture::new();
    for number in 0..100 {
        store.put(&format!("{number:03}{}", "k".repeat(1_400_000)), "");
    }
    let all = Command::DeleteRange(delete("\0", "\0"));
    let Ok(Response::DeleteRange(response)) = store.apply_under(Rules::FIRST, all) else {
        panic!("it is carried out")
    };
    assert_eq!(response.deleted, 100);
}

type Shape<'a> = Box<dyn Fn(usize) -> Command + 'a>;

/// What is stored of a request does not hold on to the rest of it, and takes up what it is said to.
#[test]
fn a_large_request_that_stores_little_takes_up_little() {
    const REQUESTS: usize = 40;
    let large = || "x".repeat(1_400_000);
    let with = TargetUnion::Value(large().into());
    let condition = || compare("k", CompareTarget::Value, CompareResult::NotEqual, with.clone());
    let txn = |success| TxnRequest { compare: vec![condition()], ..always(success) };
    let shapes: [(&str, Shape<'_>); 4] = [
        ("a value", Box::new(|_| Command::Txn(txn(vec![put_operation("k", "v")])))),
        ("a key", Box::new(|n| Command::Txn(txn(vec![put_operation(&format!("k{n}"), "")])))),
        (
            "a deletion",
            Box::new(|n| {
                let n = format!("k{n}");
                Command::Txn(txn(vec![put_operation("l", ""), delete_operation(&n, "")]))
            }),
        ),
        (
            "a read",
            Box::new(|n| {
                let read = range_operation(range(&large(), &large()));
                Command::Txn(always(vec![put_operation(&format!("m{n}"), "v"), read]))
            }),
        ),
    ];
    let mut store = Fixture::new();
    store.put("k", "a value that is another one");
    for (what, shape) in shapes {
        let before = store.reader.size_in_use();
        let encoded: Vec<_> = (0..REQUESTS)
            .map(|number| shape(number).under(Rules::KNOWN).encode().expect("it encodes"))
            .collect();
        let kept = allocation_counter::measure(|| {
            for encoded in &encoded {
                let Envelope { command, .. } = Envelope::decode(encoded).expect("a command");
                drop(store.apply_unread(vec![command]));
            }
        });
        let kept = u64::try_from(kept.bytes_current).expect("it is still there");
        let counted = store.reader.size_in_use() - before;
        assert!(kept < 40_000, "{what}: {kept} bytes of {REQUESTS} requests");
        assert!(kept < counted * 2 && counted < kept * 2, "{what}: {kept}, {counted} counted");
    }
}
