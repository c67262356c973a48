//! What a node says of slots that its log has let go: chosen, fetch them; never empty.

use super::{
    alone::{Alone, accept, ballot, heartbeat, noops, sent_to},
    checkpoints::{applied, choose},
    *,
};
use crate::message::{Poll, Prepare, Pull, Pulled};

/// Slots up to 2 are compacted, up to 5 in a checkpoint and on disk.
fn compacted() -> Alone {
    let mut alone = Alone::new(|config, recovered| {
        config.checkpoint_slots = 1;
        (recovered.incarnation, recovered.chosen) = (2, noops(5));
        (recovered.floor, recovered.checkpoint.at) = (Slot(2), noops(5));
    });
    alone.step(Input::Tick);
    alone
}

/// The next checkpoint, of slot 6, lets the log up to 5 go.
fn raise(alone: &mut Alone) {
    choose(alone, 6..=6);
    alone.step(applied(6, Some(6)));
    alone.persist();
    assert_eq!(alone.replica.acceptor.log().floor(), Slot(5));
}

fn chosen(slots: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    let record = |slot| Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value: Value::Noop };
    slots.map(record).collect()
}

fn prepare(from: u64) -> Message {
    Message::Prepare(Prepare { ballot: ballot(1), from: Slot(from) })
}

/// Where the promise that node 2 gets begins, its slots, and the floor.
fn promised(effects: &Effects) -> Option<(u64, Vec<u64>, u64)> {
    sent_to(effects, 2).into_iter().find_map(|message| match message {
        Message::Promise(promise) => {
            let slots = promise.records.iter().map(|record| record.slot.0).collect();
            Some((promise.from.0, slots, promise.floor.0))
        }
        _ => None,
    })
}

/// The slots that node 3 gets, and the floor.
fn pulled(effects: &Effects) -> Option<(Vec<u64>, u64)> {
    sent_to(effects, 3).into_iter().find_map(|message| match message {
        Message::Pulled(Pulled { values, floor, .. }) => {
            Some((values.iter().map(|(slot, _)| slot.0).collect(), floor.0))
        }
        _ => None,
    })
}

/// With this node's promise it could not lead, so it does not help it to depose anybody.
#[test]
fn a_poll_from_a_node_behind_the_floor_is_not_granted() {
    for (chosen, expected) in [(0, false), (1, false), (2, true), (5, true), (9, true)] {
        let mut alone = compacted();
        alone.wait(2 * limits::ELECTION_TIMEOUT);
        let effects =
            alone.hear(3, Message::Poll(Poll { number: 1, chosen: Slot(chosen), leave: None }));
        let granted = sent_to(&effects, 3).into_iter().find_map(|message| match message {
            Message::PollReply(reply) => Some(reply.granted),
            _ => None,
        });
        assert_eq!(granted, Some(expected), "it knows {chosen} slots to be chosen");
    }
}

#[test]
fn a_promise_for_slots_below_the_floor_says_so_and_reports_nothing() {
    for (from, expected) in [(1, Some((1, vec![], 2))), (2, Some((2, vec![], 2))), (3, None)] {
        let mut alone = compacted();
        // What is accepted above is of no use to it either.
        alone.hear(2, accept(7, Value::Noop, 0));
        alone.persist();
        let effects = alone.hear(2, prepare(from));
        assert_eq!(promised(&effects), expected, "from {from}");
        assert_eq!(effects.log_reads.len(), usize::from(from == 3));
    }
    let mut alone = compacted();
    let id = alone.hear(2, prepare(3)).log_reads.first().expect("it is on disk").id;
    alone.persist();
    let effects = alone.step(Input::LogRead { id, records: chosen(3..=5) });
    assert_eq!(promised(&effects), Some((3, vec![3, 4, 5], 2)), "the floor is in every promise");
}

/// What the storage returns then may lack anything.
#[test]
fn a_promise_says_so_too_if_the_floor_rises_while_the_log_is_read() {
    for records in [vec![], chosen(4..=5), chosen(3..=5)] {
        let mut alone = compacted();
        let id = alone.hear(2, prepare(3)).log_reads.first().expect("it is on disk").id;
        alone.persist();
        raise(&mut alone);
        let effects = alone.step(Input::LogRead { id, records });
        assert_eq!((promised(&effects), effects.halt), (Some((3, vec![], 5)), None));
    }
}

#[test]
fn a_pull_of_slots_below_the_floor_is_told_so() {
    let pull = |from| Message::Pull(Pull { number: 1, from: Slot(from), to: Slot(9) });
    for (from, expected) in [(1, Some((vec![], 2))), (2, Some((vec![], 2))), (3, None)] {
        let effects = compacted().hear(3, pull(from));
        assert_eq!(pulled(&effects), expected, "from {from}");
        assert_eq!(effects.log_reads.len(), usize::from(from == 3));
    }
    for records in [vec![], chosen(4..=5), chosen(3..=5)] {
        let mut alone = compacted();
        let id = alone.hear(3, pull(3)).log_reads.first().expect("it is on disk").id;
        raise(&mut alone);
        let effects = alone.step(Input::LogRead { id, records });
        assert_eq!((pulled(&effects), effects.halt), (Some((vec![], 5)), None), "it has risen");
    }
    let mut alone = compacted();
    let id = alone.hear(3, pull(3)).log_reads.first().expect("it is on disk").id;
    let effects = alone.step(Input::LogRead { id, records: chosen(3..=5) });
    assert_eq!(pulled(&effects), Some((vec![3, 4, 5], 2)));
}

/// What is above is served from memory as ever.
#[test]
fn slots_above_the_floor_are_served() {
    let mut alone = compacted();
    raise(&mut alone);
    let pull = |from| Message::Pull(Pull { number: 1, from: Slot(from), to: Slot(9) });
    assert_eq!(pulled(&alone.hear(3, pull(5))), Some((vec![], 5)));
    assert_eq!(pulled(&alone.hear(3, pull(6))), Some((vec![6], 5)));
    assert_eq!(alone.hear(2, heartbeat(6)).halt, None);
}
