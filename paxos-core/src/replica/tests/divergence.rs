//! Two nodes have different hashes of the same chosen prefix.

use super::{
    alone::{Alone, accept, ballot, noops, sent_to},
    *,
};
use crate::message::{Compare, Compared, HeartbeatReply};

const OTHER: u64 = 42;

/// Knows three slots to be chosen, of which node 2, its leader, has told it.
fn with_three_chosen() -> Alone {
    let mut alone = Alone::following(|_| {});
    for slot in 1..=3 {
        alone.hear(2, accept(slot, Value::Noop, slot));
    }
    alone
}

fn leader_says(slot: u64, hash: u64) -> Message {
    let chosen = Watermark { slot: Slot(slot), hash };
    Message::Heartbeat(Heartbeat { ballot: ballot(1), round: 2, chosen })
}

fn has(slot: u64, hash: u64) -> Message {
    Message::Compared(Compared { slot: Slot(slot), hash })
}

/// What the node asks the others for.
fn asked(effects: &Effects) -> Vec<Watermark> {
    let asked = |message| match message {
        Message::Compare(Compare { at }) => Some(at),
        _ => None,
    };
    sent_to(effects, 3).into_iter().filter_map(asked).collect()
}

#[test]
fn a_difference_is_asked_about_whether_the_leader_is_behind_or_ahead() {
    for slot in 1..=3 {
        let mut alone = with_three_chosen();
        let effects = alone.hear(2, leader_says(slot, OTHER));
        assert_eq!((asked(&effects), effects.halt), (vec![noops(slot)], None), "slot {slot}");
        assert_eq!(asked(&alone.hear(2, leader_says(slot, OTHER))), [], "it has been asked");
    }
    let mut alone = with_three_chosen();
    assert_eq!(asked(&alone.hear(2, leader_says(4, OTHER))), [], "it cannot be told yet");
    assert_eq!(asked(&alone.hear(2, accept(4, Value::Noop, 4))), [noops(4)]);
    assert_eq!(asked(&with_three_chosen().hear(2, leader_says(3, noops(3).hash))), []);
}

/// One damaged leader stops nobody but itself.
#[test]
fn whoever_agrees_with_a_quorum_goes_on_and_whoever_differs_from_one_stops() {
    let diverged = Some(Halt::Diverged { slot: Slot(3) });
    for (hash, expected) in
        [(noops(3).hash, None), (OTHER, diverged.clone()), (OTHER + 1, diverged)]
    {
        let mut alone = with_three_chosen();
        alone.hear(2, leader_says(3, OTHER));
        let effects = alone
            .replica
            .step(alone.now, Input::Message { from: NodeId(3), message: has(3, hash) });
        assert_eq!(effects.halt, expected, "{hash}");
    }
}

#[test]
fn what_is_said_of_another_slot_or_twice_decides_nothing() {
    let mut alone = with_three_chosen();
    alone.hear(2, leader_says(3, OTHER));
    for message in [has(2, OTHER), has(4, OTHER)] {
        assert_eq!(alone.hear(3, message).halt, None);
    }
    assert_eq!(alone.hear(2, has(3, OTHER)).halt, None);
    alone.hear(3, has(3, noops(3).hash));
    assert_eq!(alone.hear(3, has(3, OTHER)).halt, None, "it is settled");
}

#[test]
fn it_is_asked_again_if_the_others_do_not_know() {
    let mut alone = with_three_chosen();
    alone.hear(2, leader_says(2, OTHER));
    alone.wait(limits::RETRANSMIT_TIMEOUT);
    assert_eq!(asked(&alone.hear(2, leader_says(3, OTHER))), [noops(3)]);
}

/// So the one that is wrong finds out, too.
#[test]
fn whoever_is_asked_answers_and_asks_in_its_turn_if_it_differs() {
    let mut alone = with_three_chosen();
    let mut asks = |slot, hash| {
        let at = Watermark { slot: Slot(slot), hash };
        let effects = alone.hear(3, Message::Compare(Compare { at }));
        let answers =
            sent_to(&effects, 3).into_iter().filter(|m| matches!(m, Message::Compared(_)));
        (answers.collect::<Vec<_>>(), asked(&effects))
    };
    assert_eq!(asks(3, noops(3).hash), (vec![has(3, noops(3).hash)], vec![]));
    assert_eq!(asks(4, OTHER), (vec![], vec![]), "it has yet to come there");
    assert_eq!(asks(2, OTHER), (vec![has(2, noops(2).hash)], vec![noops(2)]));
}

#[test]
fn a_leader_compares_what_its_followers_have() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    alone.propose(RequestId { client: alone.replica.client(), sequence: 1 }, 1);
    alone.hear(2, super::alone::accepted(ballot, 1));
    alone.hear(3, super::alone::accepted(ballot, 1));
    assert_eq!(alone.replica.status(alone.now).chosen, Slot(1));
    let reply = |hash| {
        let chosen = Watermark { slot: Slot(1), hash };
        let highest_accepted = Slot(1);
        let reply = HeartbeatReply { ballot, round: 1, chosen, highest_accepted, can_write: true };
        Message::HeartbeatReply(reply)
    };
    assert_eq!(asked(&alone.hear(2, reply(OTHER))).len(), 1);
    let right = asked(&alone.hear(3, reply(OTHER)));
    assert_eq!(right, [], "one question at a time");
}
