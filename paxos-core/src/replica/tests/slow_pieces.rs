//! How a state is asked for, a piece at a time, when pieces are slow, late or sent twice.

use super::{
    alone::{Alone, heartbeat},
    *,
};
use crate::{
    message::{Pull, PullState, Pulled, PulledState},
    port::StateChunk,
};

const TIMEOUT: Duration = limits::RETRANSMIT_TIMEOUT;

/// The slot of the state.
const AT: u64 = 7;

fn pull(effects: &Effects) -> Option<Pull> {
    effects.send.iter().find_map(|(_, message)| match message {
        Message::Pull(pull) => Some(pull.clone()),
        _ => None,
    })
}

fn asked(effects: &Effects) -> Option<(u64, PullState)> {
    effects.send.iter().find_map(|(peer, message)| match message {
        Message::PullState(pull) => Some((peer.0, pull.clone())),
        _ => None,
    })
}

fn piece(number: u64, offset: u64) -> Message {
    let at = Watermark { slot: Slot(AT), hash: 5 };
    let bytes = Bytes::from_static(b"piece");
    Message::PulledState(PulledState { number, at, stamp: 3, offset, bytes, end: None })
}

fn stored(effects: &Effects) -> Option<StateChunk> {
    effects.persist.as_ref().and_then(|(_, batch)| batch.state.first().cloned())
}

/// Has been told by node 2 that the log up to slot 9 is compacted, and asks it for a state.
fn fetching() -> (Alone, PullState) {
    let mut alone = Alone::new(|_, _| {});
    alone.hear(2, heartbeat(9));
    let number = pull(&alone.wait(limits::GAP_PATIENCE)).expect("asked").number;
    let pulled = Pulled { number, values: Vec::new(), chosen: Slot(9), floor: Slot(9) };
    let (peer, request) = asked(&alone.hear(2, Message::Pulled(pulled))).expect("asked");
    assert_eq!((peer, request.slot, request.offset), (2, Slot::ZERO, 0));
    (alone, request)
}

#[test]
fn a_piece_that_comes_twice_does_not_undo_what_is_there() {
    let (mut alone, first) = fetching();
    let effects = alone.hear(2, piece(first.number, 0));
    assert!(stored(&effects).is_some());
    let (_, second) = asked(&alone.persist()).expect("the next piece");
    assert_eq!((second.slot, second.offset), (Slot(AT), 5));
    let (_, again) = asked(&alone.wait(TIMEOUT)).expect("asked again");
    assert_eq!((again.slot, again.offset), (Slot(AT), 5));
    assert!(stored(&alone.hear(2, piece(second.number, 5))).is_some(), "late, and as good");
    alone.persist();
    let effects = alone.hear(2, piece(again.number, 5));
    assert_eq!(stored(&effects), None, "it is here already");
    let next = asked(&effects).or_else(|| asked(&alone.persist())).expect("the next piece").1;
    assert_eq!((next.slot, next.offset), (Slot(AT), 10), "it goes on where it was");
}

#[test]
fn the_first_piece_counts_however_late() {
    let (mut alone, first) = fetching();
    let (_, again) = asked(&alone.wait(TIMEOUT)).expect("asked again");
    assert_eq!((again.slot, again.offset), (Slot::ZERO, 0));
    assert!(stored(&alone.hear(2, piece(first.number, 0))).is_some());
}

/// Each piece is sent as often as it is asked for.
#[test]
fn who_is_slow_is_given_twice_the_time_of_the_last_piece() {
    let (mut alone, first) = fetching();
    let (_, again) = asked(&alone.wait(TIMEOUT)).expect("asked again");
    assert_eq!(again.offset, 0);
    alone.wait(TIMEOUT / 2);
    alone.hear(2, piece(first.number, 0));
    alone.persist();
    let (_, second) = asked(&alone.wait(TIMEOUT / 2)).expect("the next piece");
    assert_eq!(second.offset, 5);
    let nearly = 3 * TIMEOUT - Duration::from_millis(1);
    assert_eq!(asked(&alone.wait(nearly)), None, "the last piece took one and a half");
    assert!(asked(&alone.wait(Duration::from_millis(1))).is_some());
}
