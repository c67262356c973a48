//! What etcd's users rely on, one fact to a test.

use paxos_core::port::Codec;

use super::*;
use crate::{
    proto::etcdserverpb::{
        ResponseHeader, ResponseOp,
        range_request::{SortOrder, SortTarget},
        response_op,
    },
    store::{Envelope, RequestLimits, validate},
};

fn keys(response: &RangeResponse) -> Vec<String> {
    let text = |found: &KeyValue| String::from_utf8_lossy(&found.key).into_owned();
    response.kvs.iter().map(text).collect()
}

fn inner_range(response: &ResponseOp) -> &RangeResponse {
    match &response.response {
        Some(response_op::Response::ResponseRange(range)) => range,
        other => panic!("{other:?}"),
    }
}

fn inner_txn(response: &ResponseOp) -> &TxnResponse {
    match &response.response {
        Some(response_op::Response::ResponseTxn(txn)) => txn,
        other => panic!("{other:?}"),
    }
}

fn revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().expect("a header").revision
}

#[test]
fn a_fresh_store_is_at_revision_1() {
    let store = Fixture::new();
    assert_eq!((store.reader.revision(), store.reader.compacted_revision()), (1, -1));
    let response = store.range(range("key", "")).expect("a read");
    assert_eq!((revision(&response.header), response.count), (1, 0));
    assert_eq!(
        store.range(RangeRequest { revision: 1, ..range("key", "") }).map(|r| r.count),
        Ok(0)
    );
}

#[test]
fn revisions_and_versions_count_puts_and_start_again_after_a_deletion() {
    let mut store = Fixture::new();
    store.put("key", "a");
    store.put("other", "x");
    store.put("key", "b");
    let found = store.get("key").expect("the key");
    assert_eq!((found.create_revision, found.mod_revision, found.version), (2, 4, 2));
    assert_eq!(store.delete("key", ""), 1);
    assert_eq!(store.get("key"), None);
    store.put("key", "c");
    let found = store.get("key").expect("the key");
    assert_eq!((found.create_revision, found.mod_revision, found.version), (6, 6, 1));
}

#[test]
fn what_changes_nothing_adds_no_revision() {
    let mut store = Fixture::new();
    store.put("key", "a");
    assert_eq!(store.delete("missing", ""), 0);
    let response = store.txn(always(vec![])).expect("an empty transaction");
    assert_eq!((revision(&response.header), response.succeeded), (2, true));
    store.txn(always(vec![delete_operation("missing", "")])).expect("a transaction");
    assert_eq!(store.reader.revision(), 2);
}

#[test]
fn puts_answer_with_what_was_there() {
    let mut store = Fixture::new();
    let request = PutRequest { prev_kv: true, ..put("key", "a") };
    let Ok(Response::Put(response)) = store.apply(Command::Put(request.clone())) else {
        panic!("a put")
    };
    assert_eq!((revision(&response.header), response.prev_kv), (2, None));
    let Ok(Response::Put(response)) = store.apply(Command::Put(request)) else { panic!("a put") };
    let before = response.prev_kv.expect("the value before");
    assert_eq!((&before.value[..], before.version), (&b"a"[..], 1));
}

#[test]
fn ignore_value_and_ignore_lease_keep_them_and_count() {
    let mut store = Fixture::new();
    let keep = PutRequest { ignore_value: true, ..put("key", "") };
    let answer = store.apply(Command::Put(keep.clone())).expect_err("no such key");
    assert_eq!(answer, KvError::KeyNotFound);
    store.put("key", "a");
    store.apply(Command::Put(keep)).expect("a put");
    let keep_lease = PutRequest { ignore_lease: true, ..put("key", "b") };
    store.apply(Command::Put(keep_lease)).expect("a put");
    let found = store.get("key").expect("the key");
    assert_eq!((&found.value[..], found.version), (&b"b"[..], 3));
}

#[test]
fn malformed_puts_are_refused_in_order() {
    let mut store = Fixture::new();
    let mut refused = |request| store.apply(Command::Put(request)).expect_err("refused");
    assert_eq!(refused(put("", "a")), KvError::EmptyKey);
    let both = PutRequest { ignore_value: true, ignore_lease: true, lease: 1, ..put("k", "v") };
    assert_eq!(refused(both), KvError::ValueProvided);
    let lease = PutRequest { ignore_lease: true, lease: 1, ..put("k", "v") };
    assert_eq!(refused(lease), KvError::LeaseProvided);
    assert_eq!(refused(PutRequest { lease: 7, ..put("k", "v") }), KvError::LeaseNotFound);
    let large =
        PutRequest { value: vec![0; RequestLimits::MAX.request_bytes_max].into(), ..put("k", "") };
    assert_eq!(refused(large), KvError::RequestTooLarge);
    assert_eq!(store.reader.revision(), 1);
}

#[test]
fn ends_select_one_key_a_range_or_everything_behind() {
    let mut store = Fixture::new();
    for key in ["a", "b", "ba", "c"] {
        store.put(key, "x");
    }
    let found = |key, end| keys(&store.range(range(key, end)).expect("a read"));
    assert_eq!(found("b", ""), ["b"]);
    assert_eq!(found("b", "c"), ["b", "ba"]);
    assert_eq!(found("b", "\0"), ["b", "ba", "c"]);
    assert_eq!(found("\0", "\0"), ["a", "b", "ba", "c"]);
    assert_eq!(found("c", "b"), [""; 0]);
    assert_eq!(found("b", "b"), [""; 0]);
    assert_eq!(store.range(range("", "\0")), Err(KvError::EmptyKey));
}

#[test]
fn a_limit_does_not_change_the_count() {
    let mut store = Fixture::new();
    for key in ["a", "b", "c"] {
        store.put(key, "x");
    }
    let limited = |limit| {
        let request = RangeRequest { limit, ..range("a", "z") };
        let response = store.range(request).expect("a read");
        (response.kvs.len(), response.more, response.count)
    };
    assert_eq!(limited(2), (2, true, 3));
    assert_eq!(limited(3), (3, false, 3));
    assert_eq!(limited(0), (3, false, 3));
    assert_eq!(limited(-1), (3, false, 3));
    let counted = RangeRequest { count_only: true, limit: 1, ..range("a", "z") };
    let response = store.range(counted).expect("a read");
    assert_eq!((response.kvs.len(), response.more, response.count), (0, false, 3));
    let keys_only = RangeRequest { keys_only: true, ..range("a", "") };
    let response = store.range(keys_only).expect("a read");
    assert_eq!((response.kvs[0].value.len(), response.kvs[0].mod_revision), (0, 2));
}

#[test]
fn sorting_and_filters_come_before_the_limit() {
    let mut store = Fixture::new();
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("a", "3"), ("c", "2"), ("a", "3")] {
        store.put(key, value);
    }
    let sorted = |order: SortOrder, target: SortTarget, limit| {
        let request = RangeRequest {
            sort_order: order.into(),
            sort_target: target.into(),
            limit,
            ..range("a", "z")
        };
        let response = store.range(request).expect("a read");
        assert_eq!((response.count, response.more), (3, limit > 0));
        keys(&response)
    };
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Key, 2), ["c", "b"]);
    assert_eq!(sorted(SortOrder::Ascend, SortTarget::Version, 0), ["b", "c", "a"]);
    assert_eq!(sorted(SortOrder::None, SortTarget::Mod, 0), ["b", "c", "a"]);
    assert_eq!(sorted(SortOrder::Descend, SortTarget::Create, 1), ["c"]);
    assert_eq!(sorted(SortOrder::None, SortTarget::Value, 1), ["b"]);
    let filtered = |request| {
        let response = store.range(request).expect("a read");
        assert_eq!(response.count, 3);
        (keys(&response), response.more)
    };
    let base = range("a", "z");
    let by_mod = RangeRequest { min_mod_revision: 4, max_mod_revision: 6, ..base.clone() };
    assert_eq!(filtered(by_mod), (vec!["c".to_owned()], false));
    let by_create = RangeRequest { min_create_revision: 3, limit: 1, ..base.clone() };
    assert_eq!(filtered(by_create), (vec!["b".to_owned()], true));
    let none = RangeRequest { max_create_revision: 1, ..base };
    assert_eq!(filtered(none), (vec![], false));
}

#[test]
fn without_an_order_a_limit_comes_before_sorting() {
    let mut store = Fixture::new();
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "1")] {
        store.put(key, value);
    }
    let first = |sort_order: SortOrder| {
        let request = RangeRequest {
            sort_order: sort_order.into(),
            sort_target: SortTarget::Value.into(),
            limit: 1,
            ..range("a", "z")
        };
        let response = store.range(request).expect("a read");
        assert_eq!((response.count, response.more), (3, true));
        keys(&response)
    };
    assert_eq!(first(SortOrder::Ascend), ["c"]);
    assert_eq!(first(SortOrder::None), ["b"], "the smaller of the first two");
}

#[test]
fn unknown_enum_values_are_invalid_sort_options() {
    let store = Fixture::new();
    let order = RangeRequest { sort_order: 3, ..range("a", "") };
    assert_eq!(store.range(order), Err(KvError::InvalidSortOption));
    let target = RangeRequest { sort_target: -1, ..range("a", "") };
    assert_eq!(store.range(target), Err(KvError::InvalidSortOption));
}

#[test]
fn old_revisions_stay_readable_until_compacted() {
    let mut store = Fixture::new();
    store.put("a", "1");
    store.put("b", "1");
    store.put("a", "2");
    store.delete("b", "");
    let expected = |store: &Fixture| {
        assert_eq!(store.all_at(2).expect("a read"), ["a=1"]);
        assert_eq!(store.all_at(3).expect("a read"), ["a=1", "b=1"]);
        assert_eq!(store.all_at(4).expect("a read"), ["a=2", "b=1"]);
        assert_eq!(store.all_at(5).expect("a read"), ["a=2"]);
        assert_eq!(store.all_at(-7).expect("a read"), ["a=2"]);
        assert_eq!(store.all_at(6), Err(KvError::FutureRevision));
    };
    expected(&store);
    store.store.flush();
    expected(&store);

    store.compact(4).expect("a compaction");
    store.store.shared.wait_until_clean();
    assert_eq!(store.reader.compacted_revision(), 4);
    assert_eq!(store.all_at(3), Err(KvError::Compacted));
    assert_eq!(store.all_at(4).expect("a read"), ["a=2", "b=1"]);
    assert_eq!(store.compact(4), Err(KvError::Compacted));
    assert_eq!(store.compact(6), Err(KvError::FutureRevision));
    store.compact(5).expect("a compaction");
    store.store.shared.wait_until_clean();
    assert_eq!(store.all_at(5).expect("a read"), ["a=2"]);
}

#[test]
fn a_fresh_store_can_be_compacted_at_zero() {
    let mut store = Fixture::new();
    assert_eq!(store.compact(-1), Err(KvError::Compacted));
    assert_eq!(store.compact(0), Ok(()));
    assert_eq!(store.compact(1), Ok(()));
    assert_eq!(store.compact(1), Err(KvError::Compacted));
}

#[test]
fn compaction_frees_what_nobody_can_read() {
    let mut store = Fixture::new();
    for round in 0..50 {
        store.put("key", &format!("{round:0100}"));
        store.put("gone", "x");
        store.delete("gone", "");
    }
    store.store.flush();
    let before = store.reader.size_in_use();
    store.compact(store.reader.revision()).expect("a compaction");
    store.store.shared.wait_until_clean();
    let after = store.reader.size_in_use();
    assert!(before > 10_000 && after < 300, "{before} bytes before, {after} after");
    assert_eq!(store.all_at(0).expect("a read").len(), 1);
}

#[test]
fn deletions_answer_with_what_was_there() {
    let mut store = Fixture::new();
    store.put("a", "1");
    store.put("b", "2");
    let request = DeleteRangeRequest { prev_kv: true, ..delete("a", "z") };
    let Ok(Response::DeleteRange(response)) = store.apply(Command::DeleteRange(request)) else {
        panic!("a deletion")
    };
    let values: Vec<_> = response.prev_kvs.iter().map(|found| &found.value[..]).collect();
    assert_eq!((response.deleted, values), (2, vec![&b"1"[..], b"2"]));
    assert_eq!(revision(&response.header), 4);
    assert_eq!(store.apply(Command::DeleteRange(delete("", ""))), Err(KvError::EmptyKey));
}

#[test]
fn every_target_can_be_compared() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let mut store = Fixture::new();
    store.put("key", "m");
    store.put("key", "m");
    let mut holds = |compare: Compare| {
        let request = TxnRequest { compare: vec![compare], ..TxnRequest::default() };
        store.txn(request).expect("a transaction").succeeded
    };
    assert!(holds(compare("key", CompareTarget::Version, Equal, TargetUnion::Version(2))));
    assert!(holds(compare("key", CompareTarget::Create, Less, TargetUnion::CreateRevision(3))));
    assert!(holds(compare("key", CompareTarget::Mod, Greater, TargetUnion::ModRevision(2))));
    assert!(holds(compare("key", CompareTarget::Value, NotEqual, TargetUnion::Value("n".into()))));
    assert!(holds(compare("key", CompareTarget::Lease, Equal, TargetUnion::Lease(0))));
    assert!(!holds(compare("key", CompareTarget::Value, Greater, TargetUnion::Value("n".into()))));
    // On a missing key: zeros, and never a value.
    assert!(holds(compare("none", CompareTarget::Version, Equal, TargetUnion::Version(0))));
    assert!(holds(compare("none", CompareTarget::Mod, Less, TargetUnion::ModRevision(1))));
    assert!(!holds(compare("none", CompareTarget::Value, Equal, TargetUnion::Value("".into()))));
    assert!(!holds(compare(
        "none",
        CompareTarget::Value,
        NotEqual,
        TargetUnion::Value("x".into())
    )));
    // What does not fit the target counts as zero.
    assert!(holds(compare("none", CompareTarget::Version, Equal, TargetUnion::Lease(7))));
}

#[test]
fn a_compared_range_has_to_hold_for_every_key() {
    let mut store = Fixture::new();
    store.put("a", "1");
    store.put("b", "1");
    store.put("b", "2");
    let mut holds = |end: &str, target, with| {
        let compare =
            Compare { range_end: bytes(end), ..compare("a", target, CompareResult::Equal, with) };
        store
            .txn(TxnRequest { compare: vec![compare], ..TxnRequest::default() })
            .map(|r| r.succeeded)
    };
    assert_eq!(holds("b", CompareTarget::Version, TargetUnion::Version(1)), Ok(true));
    assert_eq!(holds("z", CompareTarget::Version, TargetUnion::Version(1)), Ok(false));
    assert_eq!(holds("\0", CompareTarget::Lease, TargetUnion::Lease(0)), Ok(true));
    assert_eq!(holds("A", CompareTarget::Version, TargetUnion::Version(0)), Ok(true), "no key");
}

#[test]
fn a_transaction_has_one_revision_and_its_reads_see_its_writes() {
    let mut store = Fixture::new();
    store.put("a", "1");
    let response = store
        .txn(always(vec![
            range_operation(range("a", "z")),
            put_operation("b", "2"),
            range_operation(range("a", "z")),
            delete_operation("a", ""),
            range_operation(range("a", "z")),
        ]))
        .expect("a transaction");
    assert_eq!(revision(&response.header), 3);
    let reads = [0, 2, 4].map(|index| inner_range(&response.responses[index]));
    assert_eq!(reads.map(|read| revision(&read.header)), [2, 3, 3]);
    assert_eq!(reads.map(|read| keys(read).join(",")), ["a", "a,b", "b"]);
    assert_eq!(store.reader.revision(), 3);
    assert_eq!(store.get("b").map(|found| found.mod_revision), Some(3));
}

#[test]
fn nested_conditions_are_about_the_store_before_the_first_write() {
    let mut store = Fixture::new();
    let missing =
        compare("a", CompareTarget::Version, CompareResult::Equal, TargetUnion::Version(0));
    let nested = TxnRequest {
        compare: vec![missing],
        success: vec![put_operation("b", "then")],
        failure: vec![put_operation("b", "else")],
    };
    let request = always(vec![put_operation("a", "1"), txn_operation(nested)]);
    let response = store.txn(request).expect("a transaction");
    let inner = inner_txn(&response.responses[1]);
    assert_eq!((inner.succeeded, inner.header), (true, Some(ResponseHeader::default())));
    assert_eq!(store.all_at(0).expect("a read"), ["a=1", "b=then"]);
    assert_eq!(store.reader.revision(), 2);
}

#[test]
fn errors_in_a_transaction_are_found_before_any_write() {
    let mut store = Fixture::new();
    store.put("a", "1");
    store.put("a", "2");
    store.compact(3).expect("a compaction");
    let at = |revision| range_operation(RangeRequest { revision, ..range("a", "") });
    let keep =
        |key| operation(Request::RequestPut(PutRequest { ignore_value: true, ..put(key, "") }));
    let lease = operation(Request::RequestPut(PutRequest { lease: 9, ..put("x", "") }));
    for (bad, error) in [
        (at(4), KvError::FutureRevision),
        (at(2), KvError::Compacted),
        (keep("missing"), KvError::KeyNotFound),
        (lease, KvError::LeaseNotFound),
    ] {
        let nested = txn_operation(always(vec![bad.clone()]));
        for bad in [bad, nested] {
            let request = always(vec![put_operation("b", "1"), bad.clone()]);
            assert_eq!(store.txn(request), Err(error.clone()));
            // The branch not taken does not matter.
            let untaken = TxnRequest { failure: vec![bad], ..TxnRequest::default() };
            assert!(store.txn(untaken).is_ok());
        }
    }
    // On its own, a negative revision is the latest; in a transaction it is a compacted one.
    assert_eq!(store.all_at(-1), Ok(vec!["a=2".to_owned()]));
    assert_eq!(store.txn(always(vec![at(-1)])), Err(KvError::Compacted));
    let gone = always(vec![delete_operation("a", "\0"), keep("a")]);
    assert_eq!(store.txn(gone), Err(KvError::KeyNotFound), "deleted just before");
    assert_eq!(store.all_at(0).expect("a read"), ["a=2"]);
    assert_eq!(store.reader.revision(), 3);
}

#[test]
fn a_key_may_be_written_once_per_transaction() {
    let duplicate = |operations: Vec<RequestOp>| {
        let answer = validate::txn(&always(operations.clone()), RequestLimits::default());
        let other = TxnRequest { failure: operations, ..TxnRequest::default() };
        assert_eq!(answer, validate::txn(&other, RequestLimits::default()), "in the other branch");
        assert!(answer.is_ok() || answer == Err(KvError::DuplicateKey), "{answer:?}");
        answer.is_err()
    };
    let put = |key| put_operation(key, "");
    let nested = |success, failure| txn_operation(TxnRequest { compare: vec![], success, failure });
    assert!(duplicate(vec![put("a"), put("a")]));
    assert!(duplicate(vec![put("b"), delete_operation("a", "c")]));
    assert!(duplicate(vec![delete_operation("b", ""), put("b")]));
    assert!(!duplicate(vec![delete_operation("a", "b"), put("b")]));
    assert!(!duplicate(vec![delete_operation("a", "c"), delete_operation("b", "")]));
    assert!(duplicate(vec![put("a"), nested(vec![put("a")], vec![])]));
    assert!(duplicate(vec![nested(vec![], vec![put("a")]), delete_operation("a", "")]));
    assert!(duplicate(vec![nested(vec![put("a")], vec![]), nested(vec![], vec![put("a")])]));
    assert!(!duplicate(vec![nested(vec![put("a")], vec![put("a")])]));
    assert!(duplicate(vec![put("a"), nested(vec![delete_operation("a", "")], vec![])]));
    // etcd's gaps: an end of "\0", and a deletion nested behind a nested put.
    assert!(!duplicate(vec![delete_operation("a", "\0"), put("b")]));
    assert!(!duplicate(vec![
        nested(vec![put("a")], vec![]),
        nested(vec![delete_operation("a", "")], vec![]),
    ]));
    assert!(duplicate(vec![
        nested(vec![delete_operation("a", "")], vec![]),
        nested(vec![put("a")], vec![]),
    ]));
    // Ranges that overlap are one, those that do not are several.
    let ranges = [("m", "p"), ("a", "c"), ("b", "d"), ("o", "q"), ("c", "e")];
    let covered = |key| {
        let deletes = ranges.iter().map(|(start, end)| delete_operation(start, end));
        duplicate(deletes.chain([put(key)]).collect())
    };
    assert_eq!(["a", "d", "m", "pz"].map(covered), [true; 4]);
    assert_eq!(["A", "e", "l", "q"].map(covered), [false; 4]);
}

#[test]
fn transactions_are_bounded_in_operations_and_depth() {
    let reads = |count| vec![range_operation(range("a", "")); count];
    assert_eq!(validate::txn(&always(reads(128)), RequestLimits::default()), Ok(()));
    assert_eq!(
        validate::txn(&always(reads(129)), RequestLimits::default()),
        Err(KvError::TooManyOperations)
    );
    let nested = |outer: usize, inner: usize| {
        let mut operations = reads(outer - 1);
        operations.push(txn_operation(always(reads(inner))));
        validate::txn(&always(operations), RequestLimits::default())
    };
    assert_eq!(nested(100, 28), Ok(()));
    assert_eq!(nested(100, 29), Err(KvError::TooManyOperations));
    let mut deep = always(reads(1));
    for _ in 1..validate::TXN_DEPTH_MAX {
        deep = always(vec![txn_operation(deep)]);
    }
    assert_eq!(validate::txn(&deep, RequestLimits::default()), Ok(()));
    let command = Command::Txn(deep.clone());
    let envelope = command.under(Rules::KNOWN);
    assert_eq!(Envelope::decode(&envelope.encode().expect("infallible")), Ok(envelope));
    let deeper = always(vec![txn_operation(deep)]);
    assert_eq!(validate::txn(&deeper, RequestLimits::default()), Err(KvError::TooManyOperations));
}

#[test]
fn malformed_transactions_are_refused() {
    let empty = RequestOp { request: None };
    assert_eq!(
        validate::txn(&always(vec![empty]), RequestLimits::default()),
        Err(KvError::KeyNotFound)
    );
    let no_key = compare("", CompareTarget::Mod, CompareResult::Equal, TargetUnion::ModRevision(0));
    let request = TxnRequest { compare: vec![no_key], ..TxnRequest::default() };
    assert_eq!(validate::txn(&request, RequestLimits::default()), Err(KvError::EmptyKey));
    assert_eq!(
        validate::txn(&always(vec![put_operation("", "")]), RequestLimits::default()),
        Err(KvError::EmptyKey)
    );
}

#[test]
fn read_only_transactions_need_no_slot() {
    let mut store = Fixture::new();
    store.put("a", "1");
    let nested = always(vec![range_operation(range("a", ""))]);
    let request = always(vec![range_operation(range("a", "")), txn_operation(nested)]);
    assert!(validate::is_read_only(&request));
    let response = store.reader.txn(&request).expect("a transaction");
    assert_eq!(store.txn(request), Ok(response), "the same as through the log");
    let writes = always(vec![txn_operation(always(vec![delete_operation("a", "")]))]);
    assert!(!validate::is_read_only(&writes));
}

#[test]
fn the_commands_of_a_slot_see_each_other_and_readers_see_whole_slots() {
    let mut store = Fixture::new();
    let commands = vec![
        Command::Put(put("a", "1")),
        Command::Put(PutRequest { prev_kv: true, ..put("a", "2") }),
        Command::Put(put("", "")),
        Command::DeleteRange(delete("a", "")),
    ];
    let answers = store.apply_all(commands);
    let Ok(Response::Put(second)) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(second.prev_kv.as_ref().map(|before| &before.value[..]), Some(&b"1"[..]));
    assert_eq!(answers[2], Err(KvError::EmptyKey));
    assert_eq!((store.reader.revision(), store.get("a")), (4, None));
}

#[test]
fn anything_but_a_command_is_refused() {
    for bytes in
        [&b""[..], b"\x7a\x00", b"\xff\xff", b"\x0a\x05abc", b"\x01", b"\x01\x01", b"\x01\xff\xff"]
    {
        let refused = Envelope::decode(bytes);
        assert!(refused.is_err(), "{bytes:?}");
    }
}

#[test]
fn a_server_may_lower_its_limits_and_raise_them_up_to_the_stores() {
    let command =
        |bytes: usize| Command::Put(PutRequest { value: vec![0; bytes].into(), ..put("k", "") });
    let limits = RequestLimits { request_bytes_max: 2 << 20, txn_operations_max: 2 };
    assert_eq!(command(1_600_000).validate(limits), Ok(()));
    assert_eq!(
        command(1_600_000).validate(RequestLimits::default()),
        Err(KvError::RequestTooLarge)
    );
    let reads = always(vec![range_operation(range("a", "")); 3]);
    assert_eq!(validate::txn(&reads, limits), Err(KvError::TooManyOperations));
}
