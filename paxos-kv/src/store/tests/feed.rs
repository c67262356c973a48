//! What has changed, in order; and what of it a range as of an earlier revision looks at.

use super::*;
use crate::store::feed::Change;

/// `position key=value`, or `position key` of a deletion.
fn changes(store: &Fixture, first: i64) -> Vec<String> {
    let (view, head) = store.reader.now();
    let mut feed = view.feed(first, head.revision).expect("a feed");
    let changes = std::iter::from_fn(|| feed.next().expect("a change"));
    let text = |Change { position, key, live }: Change| {
        let key = String::from_utf8_lossy(&key).into_owned();
        let value = live.map(|live| format!("={}", String::from_utf8_lossy(&live.value)));
        format!("{}.{} {key}{}", position.revision, position.index, value.unwrap_or_default())
    };
    changes.map(text).collect()
}

#[test]
fn the_feed_has_every_change_from_any_revision_on_wherever_it_is() {
    let limits = flusher::Limits { layer_bytes: 3000, layer_slots: 40 };
    let mut store = Fixture::open(Backend::Memory, limits);
    let mut expected = Vec::new();
    for number in 0..500 {
        let revision = store.reader.revision() + 1;
        let key = format!("{}", number % 7);
        if number % 5 == 4 {
            let operations =
                vec![put_operation("a", &key), delete_operation("b", ""), put_operation("c", "")];
            store.txn(always(operations)).expect("a change");
            expected.push(format!("{revision}.0 a={key}"));
            expected.push(format!("{revision}.1 c="));
        } else if number % 11 == 10 && store.delete(&key, "") == 1 {
            expected.push(format!("{revision}.0 {key}"));
        } else {
            store.put(&key, &number.to_string());
            let revision = store.reader.revision();
            expected.push(format!("{revision}.0 {key}={number}"));
        }
        if number % 100 == 50 {
            store.store.flush();
        }
    }
    for first in [1, 2, 100, 333, store.reader.revision(), store.reader.revision() + 1] {
        let is_due = |change: &&String| {
            let revision = change.split_once('.').expect("a position").0;
            revision.parse::<i64>().expect("a revision") >= first
        };
        let due: Vec<_> = expected.iter().filter(is_due).cloned().collect();
        assert_eq!(changes(&store, first), due, "from revision {first}");
    }
}

/// Whoever watches from the compacted revision on is told of it whole, though nothing of it can be read any more.
#[test]
fn what_happened_at_the_compacted_revision_stays_a_deletion_too() {
    let mut store = Fixture::new();
    store.put("a", "1");
    store.put("b", "1");
    let deleted = vec![delete_operation("a", ""), put_operation("c", "1")];
    store.txn(always(deleted)).expect("a change");
    store.put("b", "2");
    store.put("c", "2");
    for compacted in [4, 5] {
        store.compact(compacted).expect("a compaction");
        store.store.flush();
        store.store.shared.wait_until_clean();
        let all = ["4.0 a", "4.1 c=1", "5.0 b=2", "6.0 c=2"];
        let expected = if compacted == 4 { &all[..] } else { &all[2..] };
        assert_eq!(changes(&store, compacted), expected);
        // All that there is: whatever was before is gone.
        assert_eq!(changes(&store, 0), expected);
    }
    assert_eq!(store.all_at(5), Ok(vec!["b=2".to_owned(), "c=1".to_owned()]));
    assert_eq!(store.all_at(6), Ok(vec!["b=2".to_owned(), "c=2".to_owned()]));
}

/// What is read once after compaction has moved it, in every order of changing, compacting and cleaning up.
#[test]
fn a_version_that_compaction_left_can_be_read_until_it_is_replaced_and_compacted_too() {
    for flushes_before in [false, true] {
        let mut store = Fixture::new();
        store.put("a", "old");
        store.put("b", "1");
        store.put("b", "2");
        if flushes_before {
            store.put("a", "new");
            store.store.flush();
        }
        store.compact(4).expect("a compaction");
        store.store.flush();
        store.store.shared.wait_until_clean();
        if !flushes_before {
            store.put("a", "new");
            store.store.flush();
        }
        assert_eq!(store.all_at(4), Ok(vec!["a=old".to_owned(), "b=2".to_owned()]));
        assert_eq!(store.all_at(5), Ok(vec!["a=new".to_owned(), "b=2".to_owned()]));
        let one = RangeRequest { revision: 4, ..range("a", "") };
        assert_eq!(store.range(one).expect("it can be read").kvs[0].value, "old");
        let before = store.reader.size_in_use();
        store.compact(5).expect("a compaction");
        store.store.flush();
        store.store.shared.wait_until_clean();
        assert!(store.reader.size_in_use() < before);
        assert_eq!(store.all_at(0), Ok(vec!["a=new".to_owned(), "b=2".to_owned()]));
    }
}

/// A key that changes all the time does not make reads of its range as of an earlier revision expensive.
#[test]
fn a_range_as_of_an_earlier_revision_does_not_look_at_what_its_keys_held_otherwise() {
    let cost = |changes: usize| {
        let mut store = Fixture::new();
        store.put("a", "first");
        for chunk in 0..changes / 100 {
            let puts = (0..100).map(|number| Command::Put(put("a", &format!("{chunk} {number}"))));
            store.apply_all(puts.collect());
            if chunk == changes / 200 {
                store.put("b", "middle");
            }
        }
        store.put("c", "last");
        store.store.flush();
        let middle = store.get("b").expect("it is there").mod_revision;
        let mut allocated = 0;
        for (revision, keys) in [(2, 1), (middle, 2), (middle + 1, 2)] {
            let measured = allocation_counter::measure(|| {
                assert_eq!(store.all_at(revision).expect("a range").len(), keys);
            });
            allocated += measured.bytes_total;
        }
        allocated
    };
    let (few, many) = (cost(1000), cost(60_000));
    assert!(many < 3 * few, "{few} bytes read of 1,000 versions, {many} of 60,000");
}
