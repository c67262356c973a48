//! A candidate that has missed much, and its disk.

use super::{
    alone::{Alone, prepares, promise, value},
    *,
};

const SIZE: usize = 200;

/// A page that starts at slot 1, of an acceptor that knows so many slots to be chosen.
fn page(ballot: Ballot, slots: u64, chosen: u64) -> Message {
    let record = |slot| Record { slot: Slot(slot), ballot, value: value(slot, SIZE) };
    let Message::Promise(page) = promise(ballot, (1..=slots).map(record).collect()) else {
        unreachable!()
    };
    let next = Some(Slot(slots + 1)).filter(|_| slots < chosen);
    Message::Promise(Promise { next, chosen: Slot(chosen), ..page })
}

#[test]
fn the_next_page_is_asked_for_when_the_last_one_is_durable() {
    let mut alone = Alone::new(|_, _| {});
    let ballot = alone.prepare();
    let effects = alone.hear(2, page(ballot, 3, 9));
    let (_, batch) = effects.persist.expect("what it has adopted");
    assert_eq!((batch.records.len(), effects.send), (3, vec![]));
    let effects = alone.wait(limits::RETRANSMIT_TIMEOUT);
    assert_eq!(prepares(&effects), [], "nor asked for again");
    assert_eq!(prepares(&alone.persist()), [(2, 4), (3, 1)]);
}

/// Another acceptor's page would come on top.
#[test]
fn a_candidate_whose_disk_is_behind_passes_pages_over() {
    let mut alone = Alone::new(|config, _| config.backlog_bytes_max = SIZE);
    let ballot = alone.prepare();
    assert!(alone.hear(2, page(ballot, 2, 9)).persist.is_some());
    assert!(alone.replica.status(alone.now).is_disk_behind);
    assert_eq!(alone.hear(3, page(ballot, 3, 9)).persist, None);
    assert_eq!(prepares(&alone.persist()), [(2, 3)]);
    assert_eq!(prepares(&alone.wait(limits::RETRANSMIT_TIMEOUT)), [(2, 3), (3, 1)]);
    let (_, batch) = alone.hear(3, page(ballot, 3, 9)).persist.expect("the one that is new");
    let slots: Vec<_> = batch.records.iter().map(|record| record.slot.0).collect();
    assert_eq!((slots, alone.role()), (vec![3], Role::Preparing));
}
