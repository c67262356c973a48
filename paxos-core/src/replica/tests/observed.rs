//! What the invariants look at is what is there, and a broken one is noticed.

use super::{
    alone::{Alone, accept, request},
    *,
};
use crate::replica::Proposing;

#[test]
#[should_panic(expected = "invariant 11")]
fn a_queue_beyond_its_bound_is_noticed() {
    let mut alone = Alone::following(|_| {});
    alone.propose(request(1, 1), 5);
    alone.replica.config.outstanding_bytes_max = 4;
    alone.replica.check_invariants();
}

#[test]
fn what_waits_is_counted() {
    let mut alone = Alone::following(|_| {});
    alone.propose(request(1, 1), 5);
    assert_eq!(alone.replica.origin.bytes(), 5);
    for number in 1..=3 {
        alone.step(quorum_read(number));
    }
    let reader = &alone.replica.reader;
    assert_eq!((reader.len(), reader.listed()), (3, 3), "one asked for, and two that gather");
    for slot in 1..=2 {
        alone.hear(2, accept(slot, Value::Noop, slot));
    }
    assert_eq!(alone.replica.learner.bytes_in_delivery(), 2 * 64);

    let (mut alone, _) = Alone::leading(|_| {});
    alone.propose(request(1, 1), 5);
    alone.propose(request(1, 2), 5);
    let Proposing::Leading(leading, _) = &alone.replica.proposing else { panic!("it leads") };
    assert_eq!((leading.in_flight(), leading.next()), (2, Slot(3)));
}
