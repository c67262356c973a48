//! A promise that does not fit one message: where its pages start and end.

use super::{
    alone::{Alone, accept, ballot, sent_to, value},
    *,
};
use crate::message::Prepare;

fn prepare(round: u64, from: u64) -> Message {
    Message::Prepare(Prepare { ballot: ballot(round), from: Slot(from) })
}

/// The slots of the promise that node 2 gets, and where it goes on.
fn page(effects: &Effects) -> Option<(Vec<u64>, Option<u64>)> {
    sent_to(effects, 2).into_iter().find_map(|message| match message {
        Message::Promise(promise) => {
            let slots = promise.records.iter().map(|record| record.slot.0).collect();
            Some((slots, promise.next.map(|next| next.0)))
        }
        _ => None,
    })
}

/// Has accepted `count` values of 100 bytes at slots from 1 on.
fn with_votes(count: u64, page_bytes_max: usize) -> Alone {
    let mut alone = Alone::new(|config, _| config.page_bytes_max = page_bytes_max);
    for slot in 1..=count {
        alone.hear(2, accept(slot, value(slot, 100), 0));
    }
    alone.persist();
    alone
}

#[test]
fn a_page_ends_with_the_record_that_fills_it() {
    let mut alone = with_votes(5, 2 * value(1, 100).encoded_len());
    assert_eq!(page(&alone.hear(2, prepare(1, 1))), Some((vec![1, 2], Some(3))));
    assert_eq!(page(&alone.hear(2, prepare(1, 3))), Some((vec![3, 4], Some(5))));
    assert_eq!(page(&alone.hear(2, prepare(1, 5))), Some((vec![5], None)));
    let mut alone = with_votes(3, 2 * value(1, 100).encoded_len() + 1);
    assert_eq!(page(&alone.hear(2, prepare(1, 1))), Some((vec![1, 2, 3], None)));
}

#[test]
fn a_page_has_a_bounded_number_of_records() {
    let count = limits::PAGE_RECORDS_MAX as u64 + 1;
    let record = |slot| Record { slot: Slot(slot), ballot: ballot(1), value: Value::Noop };
    let mut alone = Alone::new(|_, recovered| {
        recovered.promised = ballot(1);
        recovered.records = (1..=count).map(record).collect();
    });
    let (slots, next) = page(&alone.hear(2, prepare(1, 1))).expect("a promise");
    assert_eq!((slots.len() as u64, next), (count - 1, Some(count)));
}

/// Slots up to 2 are compacted, up to 5 on disk, 6 and 7 in memory.
fn on_disk() -> Alone {
    let record = |slot| Record { slot: Slot(slot), ballot: ballot(1), value: Value::Noop };
    let mut alone = Alone::new(|_, recovered| {
        recovered.incarnation = 2;
        recovered.promised = ballot(1);
        recovered.chosen = Watermark { slot: Slot(5), hash: 7 };
        recovered.floor = Slot(2);
        recovered.checkpoint.at.slot = Slot(5);
        recovered.records = vec![record(6), record(7)];
    });
    alone.step(Input::Tick);
    alone
}

fn chosen(slots: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    let record = |slot| Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value: Value::Noop };
    slots.map(record).collect()
}

/// What is compacted cannot be read, what is in memory need not.
#[test]
fn a_page_is_read_from_disk_if_it_starts_there() {
    for (from, expected) in [
        (1, Some((vec![], None))),
        (2, Some((vec![], None))),
        (3, None),
        (5, None),
        (6, Some((vec![6, 7], None))),
        (7, Some((vec![7], None))),
    ] {
        let mut alone = on_disk();
        let effects = alone.hear(2, prepare(1, from));
        assert_eq!(page(&effects), expected, "from {from}");
        let reads: Vec<_> = effects.log_reads.iter().map(|read| read.slots.clone()).collect();
        let expected = if expected.is_none() { vec![Slot(from)..=Slot(5)] } else { vec![] };
        assert_eq!(reads, expected, "from {from}");
    }
}

#[test]
fn a_page_from_disk_says_where_the_rest_is() {
    let mut alone = on_disk();
    let mut read = |from, records| {
        let effects = alone.hear(2, prepare(1, from));
        let id = effects.log_reads.first().expect("a request").id;
        page(&alone.step(Input::LogRead { id, records }))
    };
    assert_eq!(read(3, chosen(3..=4)), Some((vec![3, 4], Some(5))));
    assert_eq!(read(5, chosen(5..=5)), Some((vec![5], Some(6))));

    let mut alone = Alone::new(|_, recovered| {
        recovered.incarnation = 2;
        recovered.chosen = Watermark { slot: Slot(2), hash: 7 };
        recovered.checkpoint.at.slot = Slot(2);
    });
    let effects = alone.hear(2, prepare(1, 1));
    alone.persist();
    let id = effects.log_reads.first().expect("a request").id;
    let effects = alone.step(Input::LogRead { id, records: chosen(1..=2) });
    assert_eq!(page(&effects), Some((vec![1, 2], None)), "there is no more");
}

/// The promise it would speak of stands no more.
#[test]
fn a_page_that_comes_from_disk_too_late_is_not_sent() {
    let mut alone = on_disk();
    let effects = alone.hear(2, prepare(1, 3));
    let id = effects.log_reads.first().expect("a request").id;
    let higher = Ballot { round: 2, node: NodeId(3) };
    alone.hear(3, Message::Prepare(Prepare { ballot: higher, from: Slot(8) }));
    alone.persist();
    let effects = alone.step(Input::LogRead { id, records: chosen(3..=5) });
    assert_eq!(effects.send, []);
}

/// It has gone on to a higher ballot, or to another page, while the disk was at work.
#[test]
fn what_is_read_serves_the_latest_prepare_of_the_candidate() {
    for (from, is_answered) in [(3, true), (4, false)] {
        let mut alone = on_disk();
        let id = alone.hear(2, prepare(1, 3)).log_reads.first().expect("a request").id;
        let effects = alone.hear(2, prepare(2, from));
        assert_eq!(effects.log_reads, [], "one is under way");
        alone.persist();
        let effects = alone.step(Input::LogRead { id, records: chosen(3..=5) });
        let promise = sent_to(&effects, 2).into_iter().find_map(|message| match message {
            Message::Promise(promise) => Some((promise.ballot, promise.from)),
            _ => None,
        });
        assert_eq!(promise, is_answered.then_some((ballot(2), Slot(3))));
        let reads: Vec<_> = effects.log_reads.iter().map(|read| read.slots.clone()).collect();
        let expected = if is_answered { vec![] } else { vec![Slot(from)..=Slot(5)] };
        assert_eq!(reads, expected, "the page that is wanted now is read");
    }
}

/// What is further ahead is not hoarded: this node has to catch up first.
#[test]
fn a_value_more_than_four_windows_ahead_is_passed_over() {
    let window = limits::WINDOW_SLOTS_DEFAULT;
    for (slot, is_accepted) in [(4 * window, true), (4 * window + 1, false)] {
        let mut alone = Alone::new(|_, _| {});
        alone.hear(2, accept(slot, Value::Noop, 0));
        let status = alone.replica.status(alone.now);
        assert_eq!(status.highest_accepted == Slot(slot), is_accepted, "slot {slot}");
        assert_eq!(status.leader, Some(NodeId(2)), "its leader is one all the same");
    }
}

/// Descheduled for a moment, it finds hundreds of messages and takes them in at once.
#[test]
fn a_follower_that_takes_much_in_at_once_counts_from_what_it_has_been_told_by_then() {
    let count = 8 * limits::WINDOW_SLOTS_DEFAULT;
    let mut alone = Alone::following(|_| {});
    let messages = (1..=count).map(|slot| accept(slot, Value::Noop, slot - 1));
    let inputs = messages.map(|message| Input::Message { from: NodeId(2), message });
    let effects = alone.replica.step_all(alone.now, inputs.collect::<Vec<_>>());
    let (_, batch) = effects.persist.expect("what it accepts");
    assert_eq!(batch.records.len() as u64, count);
}
