//! Nodes have other states after the same slots.

use super::{
    alone::{Alone, accept, sent_to},
    *,
};
use crate::message::StateDigest;

const OWN: u64 = 7;
const OTHER: u64 = 42;

fn digest(slot: u64, digest: u64) -> StateDigest {
    StateDigest { slot: Slot(slot), digest }
}

/// The slots after which a digest is asked for, among those that are to be applied.
fn asked(effects: &Effects) -> Vec<(&'static str, u64)> {
    let told = |task: &Task| match task {
        Task::Apply(delivery) => ("apply", delivery.slot.0),
        Task::Digest(slot) => ("digest", slot.0),
        Task::Freeze(_) | Task::Restore(_) => panic!("no checkpoint is due"),
    };
    effects.tasks.iter().map(told).collect()
}

#[test]
fn the_digest_is_asked_for_behind_its_slot_and_told_to_all() {
    let mut alone = Alone::following(|config| config.digest_slots = 2);
    for slot in 2..=5 {
        alone.hear(2, accept(slot, Value::Noop, 0));
    }
    let effects = alone.hear(2, accept(1, Value::Noop, 5));
    let expected = [1, 2, 3, 4, 5].map(|slot| ("apply", slot)).to_vec();
    let mut marked = expected.clone();
    marked.insert(2, ("digest", 2));
    marked.insert(5, ("digest", 4));
    assert_eq!(asked(&effects), marked);
    let effects = alone.step(Input::Digested(digest(2, OWN)));
    for peer in [2, 3] {
        assert_eq!(sent_to(&effects, peer), [Message::StateDigest(digest(2, OWN))]);
    }
}

/// What becomes of a node whose state after slot 4 has the digest `OWN`, when nodes say theirs.
fn halt_of(said: &[(u64, StateDigest)]) -> Option<Halt> {
    let mut alone = Alone::following(|_| {});
    let mut halt = None;
    for (from, digest) in said {
        let effects = match from {
            1 => alone.step(Input::Digested(*digest)),
            _ => {
                let message = Message::StateDigest(*digest);
                let from = NodeId(*from);
                alone.replica.step(alone.now, Input::Message { from, message })
            }
        };
        halt = halt.or(effects.halt);
    }
    halt
}

#[test]
fn whoever_has_another_state_than_a_quorum_stops_and_nobody_else() {
    let own = (1, digest(4, OWN));
    let (same, other) = (digest(4, OWN), digest(4, OTHER));
    let diverged = Some(Halt::StateDiverged { slot: Slot(4) });
    for (said, expected) in [
        (vec![own, (2, same), (3, same)], None),
        (vec![own, (2, other), (3, same)], None),
        (vec![own, (2, other)], None),
        (vec![own, (2, other), (3, other)], diverged.clone()),
        (vec![(2, other), (3, other), own], diverged.clone()),
        (vec![own, (2, other), (3, digest(4, OTHER + 1))], diverged),
        (vec![own, (2, other), (3, digest(8, OTHER))], None),
        (vec![own, (2, other), (2, other), (2, other)], None),
        (vec![own, (2, other), (4, other)], None),
    ] {
        assert_eq!(halt_of(&said), expected, "{said:?}");
    }
}

/// A node that is behind compares what the others have said of slots that it has yet to apply.
#[test]
fn the_latest_digests_are_kept() {
    let kept = limits::DIGESTS_KEPT as u64;
    let ahead = |more: u64| -> Vec<_> {
        let said =
            (4..kept + 4 + more).flat_map(|slot| [2, 3].map(|from| (from, digest(slot, OTHER))));
        said.chain([(1, digest(4, OWN))]).collect()
    };
    assert_eq!(halt_of(&ahead(0)), Some(Halt::StateDiverged { slot: Slot(4) }));
    assert_eq!(halt_of(&ahead(1)), None, "there is a bound");
}
