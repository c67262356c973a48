//! Which peer a node asks for what it misses, when, and what it makes of the answer.

use super::{
    alone::{Alone, accept, heartbeat, sent_to, value},
    *,
};
use crate::message::{Pull, Pulled};

const PATIENCE: Duration = limits::GAP_PATIENCE;
const TIMEOUT: Duration = limits::RETRANSMIT_TIMEOUT;

/// Whom it asks, and for which slots.
fn asked(effects: &Effects) -> Option<(u64, u64, u64)> {
    pull(effects).map(|(peer, pull)| (peer, pull.from.0, pull.to.0))
}

fn pull(effects: &Effects) -> Option<(u64, Pull)> {
    effects.send.iter().find_map(|(peer, message)| match message {
        Message::Pull(pull) => Some((peer.0, pull.clone())),
        _ => None,
    })
}

fn pulled(number: u64, slots: &[u64], chosen: u64) -> Message {
    let values = slots.iter().map(|&slot| (Slot(slot), Value::Noop)).collect();
    Message::Pulled(Pulled { number, values, chosen: Slot(chosen), floor: Slot::ZERO })
}

fn chosen(alone: &Alone) -> u64 {
    alone.replica.status(alone.now).chosen.0
}

/// Has heard of node 2 that nine slots are chosen, and asks it for them.
fn behind() -> (Alone, Pull) {
    let mut alone = Alone::new(|_, _| {});
    assert_eq!(asked(&alone.hear(2, heartbeat(9))), None, "they may be on their way");
    let effects = alone.wait(PATIENCE);
    assert_eq!(asked(&effects), Some((2, 1, 9)));
    (alone, pull(&effects).expect("asked").1)
}

/// Says of node 3 that it knows `slot` to be chosen.
fn node_3_knows(alone: &mut Alone, slot: u64) -> Effects {
    let poll = crate::message::Poll { number: 1, chosen: Slot(slot), leave: None };
    alone.hear(3, Message::Poll(poll))
}

#[test]
fn what_comes_in_meanwhile_is_not_asked_for_and_gives_patience_anew() {
    let mut alone = Alone::new(|_, _| {});
    alone.hear(2, heartbeat(9));
    alone.wait(PATIENCE / 2);
    alone.hear(2, accept(1, Value::Noop, 9));
    assert_eq!(chosen(&alone), 1);
    assert_eq!(asked(&alone.wait(PATIENCE / 2)), None, "it goes on by itself");
    assert_eq!(asked(&alone.wait(PATIENCE / 2)), Some((2, 2, 9)));
}

/// The others are in order, and then it is the first one's turn again.
#[test]
fn the_next_page_is_asked_of_the_next_peer_once_the_last_is_durable() {
    let (mut alone, mut last) = behind();
    node_3_knows(&mut alone, 9);
    for (slot, peer, next) in [(1, 2, 3), (2, 3, 2), (3, 2, 3)] {
        let effects = alone.hear(peer, pulled(last.number, &[slot], 9));
        assert_eq!(asked(&effects), None, "its record is not durable yet");
        let effects = alone.persist();
        assert_eq!(asked(&effects), Some((next, slot + 1, 9)), "without patience");
        last = pull(&effects).expect("asked").1;
    }
}

#[test]
fn a_peer_that_does_not_answer_is_passed_over_for_any() {
    let (mut alone, _) = behind();
    assert_eq!(asked(&alone.wait(TIMEOUT - Duration::from_millis(1))), None);
    assert_eq!(asked(&alone.wait(Duration::from_millis(1))), Some((3, 1, 9)));
}

#[test]
fn a_peer_that_answers_is_relied_upon_again() {
    let (mut alone, _) = behind();
    let (_, request) = pull(&alone.wait(TIMEOUT)).expect("node 3 is asked");
    alone.hear(3, pulled(request.number, &[1], 1));
    assert_eq!(asked(&alone.persist()), Some((2, 2, 9)), "node 3 has no more");
    let request = alone.wait(TIMEOUT);
    assert_eq!(asked(&request), Some((3, 2, 9)), "but may have by now");
}

/// Only the answer to the request ends it; the values of another are as good as any.
#[test]
fn an_answer_to_another_request_is_used_and_ends_nothing() {
    for (from, number) in [(2, 1), (3, 0)] {
        let (mut alone, request) = behind();
        alone.hear(from, pulled(request.number + number, &[1], 9));
        assert_eq!(asked(&alone.persist()), None, "from node {from}");
        assert_eq!(chosen(&alone), 1);
        assert!(asked(&alone.wait(TIMEOUT)).is_some());
    }
}

#[test]
fn a_page_is_used_as_far_as_it_goes_on_from_what_is_known() {
    for (slots, until) in
        [(&[1, 2, 3][..], 3), (&[1, 3, 2], 1), (&[2, 3], 0), (&[3, 1], 0), (&[1, 1, 2], 2)]
    {
        let (mut alone, request) = behind();
        alone.hear(2, pulled(request.number, slots, 9));
        assert_eq!(chosen(&alone), until, "from {slots:?}");
    }
    let (mut alone, request) = behind();
    alone.hear(2, accept(1, Value::Noop, 9));
    alone.hear(2, pulled(request.number, &[1, 2], 9));
    assert_eq!(chosen(&alone), 2, "slot 1 was known by then");
}

/// An empty page means that the peer has been overrated.
#[test]
fn a_peer_that_has_nothing_is_not_asked_again() {
    let (mut alone, request) = behind();
    node_3_knows(&mut alone, 5);
    let effects = alone.hear(2, pulled(request.number, &[], 9));
    let Some((3, request)) = pull(&effects) else { panic!("{effects:?}") };
    assert_eq!(request.to, Slot(5));
    let effects = alone.hear(3, pulled(request.number, &[], 0));
    assert_eq!(asked(&effects), None, "nobody has anything");
}

/// It asks up to the first slot that it has already.
#[test]
fn a_gap_ends_where_something_is_known() {
    let mut alone = Alone::new(|_, _| {});
    alone.hear(2, heartbeat(9));
    alone.hear(2, accept(4, Value::Noop, 9));
    assert_eq!(
        asked(&alone.wait(PATIENCE)),
        Some((2, 1, 3)),
        "slot 4 was accepted from this leader"
    );

    let of_another = Ballot { round: 1, node: NodeId(1) };
    let record = Record { slot: Slot(4), ballot: of_another, value: Value::Noop };
    let mut alone = Alone::new(|_, recovered| {
        recovered.promised = of_another;
        recovered.records = vec![record];
    });
    alone.hear(2, heartbeat(9));
    assert_eq!(asked(&alone.wait(PATIENCE)), Some((2, 1, 9)), "another value may be chosen");

    let mut alone = Alone::new(|_, _| {});
    alone.hear(2, heartbeat(3));
    alone.hear(2, accept(5, Value::Noop, 3));
    node_3_knows(&mut alone, 9);
    assert_eq!(asked(&alone.wait(PATIENCE)), Some((2, 1, 9)), "slot 5 may not be chosen");
}

#[test]
fn the_clock_is_needed_unless_a_write_ends_the_wait() {
    let mut alone = Alone::new(|_, _| {});
    alone.hear(2, heartbeat(9));
    assert_eq!(alone.deadline(), PATIENCE);
    let effects = alone.wait(PATIENCE);
    assert_eq!(alone.deadline(), TIMEOUT);
    let (_, request) = pull(&effects).expect("asked");
    alone.hear(2, pulled(request.number, &[1], 9));
    assert!(alone.deadline() > TIMEOUT, "the write ends this wait");
}

/// The answers to a request for the slots from `from` on, and what is read from disk for it.
fn served(alone: &mut Alone, from: u64) -> (Vec<Pulled>, usize) {
    let pull = Pull { number: 1, from: Slot(from), to: Slot(9) };
    let effects = alone.hear(3, Message::Pull(pull));
    let pulled = |message| match message {
        Message::Pulled(pulled) => Some(pulled),
        _ => None,
    };
    let answers = sent_to(&effects, 3).into_iter().filter_map(pulled).collect();
    (answers, effects.log_reads.len())
}

#[test]
fn a_page_of_chosen_slots_ends_with_the_one_that_fills_it() {
    let size = value(1, 100).encoded_len();
    let mut alone = Alone::following(|config| config.page_bytes_max = 2 * size);
    for slot in 1..=5 {
        alone.hear(2, accept(slot, value(slot, 100), 9));
    }
    for (from, expected) in [(1, &[1, 2][..]), (3, &[3, 4]), (5, &[5])] {
        let (answers, _) = served(&mut alone, from);
        let slots: Vec<_> = answers[0].values.iter().map(|(slot, _)| slot.0).collect();
        assert_eq!(slots, expected);
    }
}

#[test]
fn what_is_compacted_is_not_looked_for_on_disk() {
    let mut alone = Alone::new(|_, recovered| {
        recovered.incarnation = 2;
        recovered.chosen = Watermark { slot: Slot(5), hash: 7 };
        recovered.floor = Slot(2);
        recovered.checkpoint.at.slot = Slot(5);
    });
    let nothing = |number| Pulled { number, values: vec![], chosen: Slot(5), floor: Slot(2) };
    assert_eq!(served(&mut alone, 2), (vec![nothing(1)], 0));
    assert_eq!(served(&mut alone, 3), (vec![], 1));
    assert_eq!(served(&mut alone, 6), (vec![nothing(1)], 0));
}

/// Two nodes hear the leader, which does not hear them, and each other; that the rest has what they miss
/// they do not know. Seed 27577 of the simulator, once.
#[test]
fn whoever_gets_nothing_from_those_it_knows_asks_everybody() {
    let mut cluster = Cluster::new(5);
    cluster.run(2 * SECOND);
    let [leader] = cluster.leaders()[..] else { panic!("one leader") };
    // Each is the next to be asked by the other when the leader has not answered.
    let [first, second] = [leader, leader + 1].map(|id| id % 5 + 1);
    cluster.cut_off(first);
    cluster.cut_off(second);
    cluster.propose(leader, 1, "missed");
    cluster.run(SECOND / 2);
    cluster.cut.clear();
    cluster.cut.extend([first, second].map(|node| (NodeId(node), NodeId(leader))));
    cluster.run(4 * SECOND);
    for node in [first, second] {
        assert_eq!(cluster.applied(node), ["missed"], "node {node}");
    }
    assert_eq!(cluster.leaders(), [leader]);
}
