//! What goes to the state machine, how much at once, and which session tables are kept for a
//! restart.

use super::{
    alone::{Alone, accept},
    *,
};

/// Has `count` noops chosen, and nothing applied.
fn with_chosen(count: u64, adjust: impl FnOnce(&mut Config)) -> (Alone, Vec<u64>) {
    let mut alone = Alone::following_on_disk(adjust);
    let mut delivered = Vec::new();
    for slot in 1..=count {
        delivered.extend(slots(&alone.hear(2, accept(slot, Value::Noop, slot))));
    }
    (alone, delivered)
}

fn slots(effects: &Effects) -> Vec<u64> {
    effects.tasks.iter().filter_map(Task::delivery).map(|delivery| delivery.slot.0).collect()
}

fn applied(slot: u64, durable: u64) -> Input {
    Input::Applied { slot: Slot(slot), durable: Some(Slot(durable)) }
}

#[test]
fn no_more_is_in_delivery_than_its_bound_allows() {
    let (_, delivered) = with_chosen(4, |config| config.delivery_bytes_max = 64);
    assert_eq!(delivered, [1], "of 64 bytes");
    let (mut alone, delivered) = with_chosen(4, |config| config.delivery_bytes_max = 65);
    assert_eq!(delivered, [1, 2]);
    assert_eq!(slots(&alone.step(applied(0, 0))), [0; 0]);
    assert_eq!(slots(&alone.step(applied(1, 0))), [3]);
    assert_eq!(slots(&alone.step(applied(3, 0))), [4]);
}

/// A table that is ahead of the state machine would take its commands for duplicates.
#[test]
fn a_session_table_is_kept_once_the_state_machine_is_durable_up_to_it() {
    let (mut alone, _) = with_chosen(2, |config| config.checkpoint_slots = 3);
    let kept = |effects: Effects| {
        let batch = effects.persist.map(|(_, batch)| batch);
        batch.and_then(|batch| batch.checkpoint).map(|checkpoint| checkpoint.at.slot.0)
    };
    assert_eq!(kept(alone.step(applied(2, 2))), None, "too few slots");
    alone.hear(2, accept(3, Value::Noop, 3));
    assert_eq!(kept(alone.step(applied(3, 2))), None, "not durable");
    for slot in 4..=7 {
        alone.hear(2, accept(slot, Value::Noop, slot));
    }
    assert_eq!(kept(alone.step(applied(7, 7))), Some(3), "one at a time");
    for (slot, expected) in [(8, Some(8)), (9, None), (10, None), (11, Some(11))] {
        alone.hear(2, accept(slot, Value::Noop, slot));
        assert_eq!(kept(alone.step(applied(slot, slot))), expected, "slot {slot}");
    }
}
