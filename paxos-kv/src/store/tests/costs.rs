//! What a command costs: who reads what, and how much one may change.

use super::*;
use crate::proto::etcdserverpb::range_request::SortOrder;

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
