//! A state that is fetched: from whom, piece after piece, and what is made of a piece that does not fit.

use std::ops::Range;

use super::{
    alone::{Alone, heartbeat, memberships, noops, poll_reply, promise, sent_to},
    checkpoints::{bytes, read, summary, written},
    *,
};
use crate::{
    message::{Poll, Pull, PullState, Pulled, PulledState, StateEnd},
    replica::StateSource,
};

pub(super) const PATIENCE: Duration = limits::GAP_PATIENCE;
pub(super) const TIMEOUT: Duration = limits::RETRANSMIT_TIMEOUT;

/// The state as of slot 5.
pub(super) const STATE: &[u8] = b"all that slots say";

/// What is asked for, and of whom.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The log from a slot on.
    Log(u64, u64),
    /// A state as of a slot, from an offset on.
    State(u64, u64, u64),
    Nothing,
}

pub(super) fn asked(effects: &Effects) -> Asked {
    let mut requests = effects.send.iter().filter_map(|(to, message)| match message {
        Message::Pull(pull) => Some(Asked::Log(to.0, pull.from.0)),
        Message::PullState(pull) => Some(Asked::State(to.0, pull.slot.0, pull.offset)),
        _ => None,
    });
    let first = requests.next().unwrap_or(Asked::Nothing);
    assert_eq!(requests.next(), None, "one thing at a time");
    first
}

/// The number of the request, whatever for.
pub(super) fn number(effects: &Effects) -> u64 {
    let number = effects.send.iter().find_map(|(_, message)| match message {
        Message::Pull(Pull { number, .. }) | Message::PullState(PullState { number, .. }) => {
            Some(*number)
        }
        _ => None,
    });
    number.expect("something is asked for")
}

/// Nothing from `floor` down is in the log, and whoever says so knows `chosen` slots to be chosen.
pub(super) fn compacted(number: u64, floor: u64, chosen: u64) -> Message {
    let (chosen, floor) = (Slot(chosen), Slot(floor));
    Message::Pulled(Pulled { number, values: vec![], chosen, floor })
}

fn log(number: u64, slots: Range<u64>) -> Message {
    let values = slots.map(|slot| (Slot(slot), Value::Noop)).collect();
    Message::Pulled(Pulled { number, values, chosen: Slot(9), floor: Slot::ZERO })
}

/// Bytes of a state as of a slot, with its end if they reach there.
fn piece_of(state: &'static [u8], slot: u64, number: u64, range: Range<usize>) -> PulledState {
    let summary = summary(state);
    let end = (range.end == state.len()).then(|| {
        Box::new(StateEnd { summary, sessions: Bytes::default(), memberships: memberships() })
    });
    let (at, stamp, offset) = (noops(slot), summary.hash, range.start as u64);
    PulledState { number, at, stamp, offset, bytes: Bytes::from_static(&state[range]), end }
}

pub(super) fn piece(number: u64, range: Range<usize>) -> Message {
    Message::PulledState(piece_of(STATE, 5, number, range))
}

/// Lacks nine slots of which node 2 has compacted five; returns the number of the request for a state.
pub(super) fn fetching(alone: &mut Alone) -> u64 {
    alone.hear(2, heartbeat(9));
    let effects = alone.wait(PATIENCE);
    let effects = alone.hear(2, compacted(number(&effects), 5, 9));
    assert_eq!(asked(&effects), Asked::State(2, 0, 0));
    number(&effects)
}

/// As [`fetching`], and half of the state has come.
fn halfway() -> (Alone, u64) {
    let mut alone = Alone::new(|_, _| {});
    let request = fetching(&mut alone);
    alone.hear(2, piece(request, 0..9));
    let effects = alone.persist();
    assert_eq!(asked(&effects), Asked::State(2, 5, 9));
    (alone, number(&effects))
}

/// Says of node 3 that it knows nine slots to be chosen.
fn node_3_knows(alone: &mut Alone) {
    alone.hear(3, Message::Poll(Poll { number: 1, chosen: Slot(9), leave: None }));
}

/// What is written of a state: where it begins, and how long it is.
pub(super) fn stored(effects: Effects) -> Option<(u64, u64, usize)> {
    let chunks = written(effects).state;
    assert!(chunks.len() <= 1, "{chunks:?}");
    chunks.first().map(|chunk| (chunk.slot.0, chunk.offset, chunk.bytes.len()))
}

fn chosen(alone: &Alone) -> u64 {
    alone.replica.status(alone.now).chosen.0
}

#[test]
fn a_peer_that_has_compacted_what_is_missing_is_asked_for_its_state() {
    let after = |is_answer: bool, floor| {
        let mut alone = Alone::new(|_, _| {});
        alone.hear(2, heartbeat(9));
        let pull = number(&alone.wait(PATIENCE));
        asked(&alone.hear(2, compacted(pull + u64::from(!is_answer), floor, 9)))
    };
    assert_eq!(after(true, 5), Asked::State(2, 0, 0));
    assert_eq!(after(true, 1), Asked::State(2, 0, 0), "slot 1 is missing");
    assert_eq!(after(true, 0), Asked::Nothing, "it has nothing");
    assert_eq!(after(false, 5), Asked::Nothing, "an answer to something else");
}

#[test]
fn pieces_come_in_order_and_each_is_durable_before_the_next_is_asked_for() {
    let mut alone = Alone::new(|_, _| {});
    let mut request = fetching(&mut alone);
    for (range, next) in [(0..4, 4), (4..5, 5), (5..17, 17)] {
        let effects = alone.hear(2, piece(request, range.clone()));
        assert_eq!(asked(&effects), Asked::Nothing, "it is not durable yet");
        assert_eq!(stored(effects), Some((5, range.start as u64, range.len())));
        let effects = alone.persist();
        assert_eq!(asked(&effects), Asked::State(2, 5, next));
        request = number(&effects);
    }
    alone.hear(2, piece(request, 17..18));
    assert_eq!(chosen(&alone), 5, "now it is whole");
}

/// On a slow link all pieces come late.
#[test]
fn a_late_piece_that_fits_is_as_good_as_any() {
    let (mut alone, late) = halfway();
    let effects = alone.wait(TIMEOUT);
    assert_eq!(asked(&effects), Asked::State(2, 5, 9), "again");
    let again = number(&effects);
    assert_eq!(stored(alone.hear(2, piece(late, 9..12))), Some((5, 9, 3)));
    assert_eq!(asked(&alone.persist()), Asked::Nothing, "the second request is under way");
    // What that brings is there by now; it does not stand for another state.
    let effects = alone.hear(2, piece(again, 9..12));
    assert_eq!(asked(&effects), Asked::State(2, 5, 12));
    let request = number(&effects);
    assert_eq!(stored(effects), None);
    alone.hear(2, piece(request, 12..18));
    assert_eq!(chosen(&alone), 5);
}

#[test]
fn a_late_piece_that_does_not_fit_changes_nothing() {
    let (mut alone, request) = halfway();
    for piece in [
        piece_of(STATE, 5, request - 1, 0..9),
        piece_of(STATE, 5, request - 1, 8..18),
        piece_of(STATE, 5, request - 1, 10..18),
        piece_of(STATE, 6, request - 1, 9..18),
        piece_of(b"another state of 5", 5, request - 1, 9..18),
        piece_of(STATE, 7, request - 1, 0..18),
    ] {
        let message = Message::PulledState(piece.clone());
        assert_eq!(stored(alone.hear(2, message)), None, "{piece:?}");
    }
    assert_eq!(stored(alone.hear(2, piece(request, 9..12))), Some((5, 9, 3)));
}

/// The peer has made a newer checkpoint meanwhile, say.
#[test]
fn another_state_is_begun_anew() {
    for (state, slot) in [(STATE, 6), (&b"another state of 5"[..], 5)] {
        let (mut alone, request) = halfway();
        let piece = |number, range| Message::PulledState(piece_of(state, slot, number, range));
        assert_eq!(stored(alone.hear(2, piece(request, 0..9))), Some((slot, 0, 9)));
        let effects = alone.persist();
        assert_eq!(asked(&effects), Asked::State(2, slot, 9));
        alone.hear(2, piece(number(&effects), 9..18));
        assert_eq!(chosen(&alone), slot);

        let (mut alone, request) = halfway();
        let effects = alone.hear(2, piece(request, 9..18));
        assert_eq!(asked(&effects), Asked::State(2, 0, 0), "this is not how it begins");
        assert_eq!(stored(effects), None);
    }
}

/// Whatever is wrong, somebody else has another one.
#[test]
fn a_state_that_is_not_what_its_sender_says_is_thrown_away_and_another_peer_asked() {
    let ending = |spoil: fn(&mut StateEnd)| {
        let (mut alone, request) = halfway();
        node_3_knows(&mut alone);
        let mut last = piece_of(STATE, 5, request, 9..18);
        last.end.as_deref_mut().into_iter().for_each(spoil);
        let effects = alone.hear(2, Message::PulledState(last));
        let is_installed = written(effects).checkpoint.is_some();
        assert_eq!(is_installed, chosen(&alone) == 5);
        let effects = alone.persist();
        let pull = asked(&effects);
        if chosen(&alone) == 0 {
            // What there is of it counts for nothing.
            let effects = alone.hear(3, compacted(number(&effects), 5, 9));
            assert_eq!(asked(&effects), Asked::State(3, 0, 0));
        }
        (chosen(&alone), pull)
    };
    assert_eq!(ending(|_| {}), (5, Asked::Log(3, 6)));
    let thrown_away = (0, Asked::Log(3, 1));
    assert_eq!(ending(|end| end.summary.hash ^= 1), thrown_away);
    assert_eq!(ending(|end| end.summary.bytes += 1), thrown_away);
    assert_eq!(ending(|end| end.sessions = Bytes::from_static(&[255])), thrown_away);
}

#[test]
fn a_peer_that_falls_silent_is_let_go_of_and_what_it_has_sent_kept() {
    let (mut alone, _) = halfway();
    for _ in 0..3 {
        assert_eq!(asked(&alone.wait(TIMEOUT)), Asked::State(2, 5, 9));
    }
    let effects = alone.wait(TIMEOUT);
    assert_eq!(asked(&effects), Asked::Log(3, 1), "any other may have the log");
    let effects = alone.hear(3, compacted(number(&effects), 5, 9));
    assert_eq!(asked(&effects), Asked::State(3, 5, 9), "or the same state");
}

#[test]
fn a_peer_that_answers_now_and_then_is_kept() {
    let (mut alone, _) = halfway();
    for offset in [9, 10, 11] {
        let mut request = 0;
        for _ in 0..3 {
            let effects = alone.wait(TIMEOUT);
            assert_eq!(asked(&effects), Asked::State(2, 5, offset as u64));
            request = number(&effects);
        }
        alone.hear(2, piece(request, offset..offset + 1));
        alone.persist();
    }
}

/// Nine bytes of the state as of slot 5 are in the storage, and the node starts again.
fn restarted(piece_bytes_max: usize, chosen: u64) -> (Alone, Effects) {
    let mut alone = Alone::new(|config, recovered| {
        config.piece_bytes_max = piece_bytes_max;
        recovered.incarnation = 2;
        recovered.chosen = noops(chosen);
        recovered.checkpoint.at = noops(chosen);
        recovered.unfinished = Some((Slot(5), 9));
    });
    alone.hear(2, heartbeat(9));
    let effects = alone.wait(PATIENCE);
    let effects = alone.hear(2, compacted(number(&effects), 8, 9));
    (alone, effects)
}

/// Only so it can be verified as a whole.
#[test]
fn after_a_restart_what_is_there_is_read_back_before_the_rest_is_asked_for() {
    let (mut alone, mut effects) = restarted(4, 0);
    for (offset, piece) in [(0, &STATE[..4]), (4, &STATE[4..8]), (8, &STATE[8..9])] {
        assert_eq!(asked(&effects), Asked::Nothing);
        let (id, source) = read(&effects);
        assert_eq!(source, StateSource::Stored { slot: Slot(5), offset });
        assert_eq!(effects.state_reads[0].bytes_max, 4);
        assert_eq!(alone.wait(TIMEOUT).state_reads, [], "it is asked for once");
        effects = alone.step(bytes(id, piece));
    }
    assert_eq!(asked(&effects), Asked::State(2, 5, 9));
    alone.hear(2, piece(number(&effects), 9..18));
    assert_eq!(chosen(&alone), 5, "both halves together are what the peer says");
}

/// It fits what has been read back, and not what is in the storage.
#[test]
fn nothing_is_taken_in_before_all_of_it_is_read_back() {
    let (mut alone, effects) = restarted(4, 0);
    assert_eq!(stored(alone.hear(2, piece(0, 0..9))), None);
    let effects = alone.step(bytes(read(&effects).0, &STATE[..4]));
    assert_eq!(stored(alone.hear(2, piece(0, 4..9))), None);
    let effects = alone.step(bytes(read(&effects).0, &STATE[4..9]));
    assert_eq!(asked(&effects), Asked::State(2, 5, 9));
}

#[test]
fn what_is_read_back_and_is_not_of_the_peers_state_is_found_out_in_the_end() {
    let (mut alone, effects) = restarted(9, 0);
    let effects = alone.step(bytes(read(&effects).0, b"something"));
    assert_eq!(asked(&effects), Asked::State(2, 5, 9));
    alone.hear(2, piece(number(&effects), 9..18));
    assert_eq!(chosen(&alone), 0);
}

#[test]
fn a_state_from_before_a_restart_is_of_use_if_it_is_there_and_ahead() {
    let (mut alone, effects) = restarted(9, 0);
    let effects = alone.step(bytes(read(&effects).0, b""));
    assert_eq!(asked(&effects), Asked::State(2, 0, 0), "another one has been begun in its place");
    for (own, expected) in [(4, Asked::Nothing), (5, Asked::State(2, 0, 0))] {
        let (_, effects) = restarted(9, own);
        assert_eq!(asked(&effects), expected, "{own} slots are chosen here");
        assert_eq!(effects.state_reads.len(), usize::from(own == 4));
    }
}

/// A state is of no use to whoever knows its slot.
#[test]
fn it_is_dropped_if_the_log_gets_there_first() {
    let (mut alone, request) = halfway();
    alone.hear(3, log(0, 1..6));
    assert_eq!(chosen(&alone), 5);
    assert_eq!(stored(alone.hear(2, piece(request - 1, 9..12))), None, "unasked for");
    assert_eq!(stored(alone.hear(2, piece(request, 9..18))), None, "nor as an answer");
    let effects = alone.persist();
    assert_eq!(asked(&effects), Asked::Log(2, 6));
    let effects = alone.hear(2, compacted(number(&effects), 8, 9));
    assert_eq!(asked(&effects), Asked::State(2, 0, 0), "another one, from its beginning");
}

/// Part of the log is as much as nothing of it, but the peer is not asked for its state any more.
#[test]
fn whoever_has_the_log_is_relied_upon_and_the_state_kept_in_case_it_has_not() {
    let (mut alone, _) = halfway();
    alone.hear(3, log(0, 1..3));
    assert_eq!(chosen(&alone), 2);
    alone.persist();
    let effects = alone.wait(TIMEOUT);
    assert_eq!(asked(&effects), Asked::Log(3, 3));
    let effects = alone.hear(3, compacted(number(&effects), 4, 9));
    assert_eq!(asked(&effects), Asked::State(3, 5, 9));
}

/// Whoever leads needs the log as it is; whoever prepares has asked for what is behind its own.
#[test]
fn nothing_is_taken_in_while_it_leads_or_is_about_to() {
    let mut alone = Alone::new(|config, _| config.retransmit_timeout = 60 * SECOND);
    let request = fetching(&mut alone);
    let poll = alone.poll();
    assert_eq!(stored(alone.hear(2, piece(request - 1, 0..18))), None, "unasked for");
    let effects = alone.hear(2, poll_reply(&poll, true, None));
    let ballot = written(effects).promised.expect("its own promise");
    alone.persist();
    assert_eq!(alone.role(), Role::Preparing);
    assert_eq!(stored(alone.hear(2, piece(request, 0..18))), None, "it prepares");
    alone.hear(2, promise(ballot, vec![]));
    assert_eq!(alone.role(), Role::Leading);
    assert_eq!(stored(alone.hear(2, piece(request, 0..18))), None, "it leads");
    let ballot = Ballot { round: ballot.round + 1, node: NodeId(3) };
    let chosen = noops(9);
    alone.hear(3, Message::Heartbeat(Heartbeat { ballot, round: 1, chosen }));
    assert_eq!(stored(alone.hear(2, piece(request, 0..18))), Some((5, 0, 18)), "it follows");
}

#[test]
fn nothing_is_taken_in_while_the_disk_is_full_or_behind() {
    let mut alone = Alone::new(|_, _| {});
    let request = fetching(&mut alone);
    alone.step(Input::DiskFull(true));
    assert_eq!(stored(alone.hear(2, piece(request, 0..9))), None);
    let effects = alone.step(Input::DiskFull(false));
    assert_eq!(asked(&effects), Asked::Nothing, "the request is under way");
    assert_eq!(stored(alone.hear(2, piece(request, 0..9))), Some((5, 0, 9)));

    let mut alone = Alone::new(|config, _| config.backlog_bytes_max = 10);
    let request = fetching(&mut alone);
    alone.hear(2, piece(request, 0..9));
    assert_eq!(stored(alone.hear(2, piece(request, 9..18))), None, "the first is not durable");
    assert_eq!(asked(&alone.persist()), Asked::State(2, 5, 9));
}

/// The write of the last piece ends the wait for the next, and reading back needs no clock either.
#[test]
fn the_clock_is_needed_for_the_answer_alone() {
    let mut alone = Alone::new(|_, _| {});
    let request = fetching(&mut alone);
    assert_eq!(alone.deadline(), TIMEOUT);
    alone.hear(2, piece(request, 0..9));
    assert!(alone.deadline() > TIMEOUT);
    let (alone, effects) = restarted(9, 0);
    assert_eq!(effects.state_reads.len(), 1);
    assert!(alone.deadline() > TIMEOUT);
}

/// A candidate that is behind somebody's floor does not lead: it asks for the state first.
#[test]
fn a_candidate_behind_a_floor_steps_back_and_fetches() {
    let mut alone = Alone::new(|_, _| {});
    let ballot = alone.prepare();
    let Message::Promise(page) = promise(ballot, vec![]) else { unreachable!() };
    alone.hear(2, Message::Promise(Promise { chosen: Slot(9), floor: Slot(1), ..page }));
    assert_eq!(alone.role(), Role::Follower);
    let effects = alone.wait(PATIENCE);
    assert!(matches!(sent_to(&effects, 2)[..], [Message::Pull(_)]), "{effects:?}");
    assert_eq!(asked(&alone.hear(2, compacted(number(&effects), 5, 9))), Asked::State(2, 0, 0));
}
