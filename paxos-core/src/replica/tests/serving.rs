//! States for peers: from the storage at the offset asked for, or from a snapshot in its order.

use super::{
    alone::{Alone, noops, sent_to},
    checkpoints::{applied, bytes, choose, frozen, read, summary},
    *,
};
use crate::{
    message::{PullState, PulledState},
    replica::{SnapshotId, StateReadId, StateSource},
};

const STATE: &[u8] = b"0123456789";

const SERVED_FOR: Duration = limits::ELECTION_TIMEOUT.saturating_mul(limits::SERVING_TIMEOUTS);

/// Node 3 asks for a piece.
fn pull(alone: &mut Alone, number: u64, chosen: u64, slot: u64, offset: u64) -> Effects {
    pull_from(alone, 3, number, chosen, slot, offset)
}

fn pull_from(
    alone: &mut Alone,
    peer: u64,
    number: u64,
    chosen: u64,
    slot: u64,
    offset: u64,
) -> Effects {
    let pull = PullState { number, chosen: Slot(chosen), slot: Slot(slot), offset };
    alone.hear(peer, Message::PullState(pull))
}

/// The piece that node 3 gets, if any.
fn sent(effects: &Effects) -> Option<PulledState> {
    let mut pieces = sent_to(effects, 3).into_iter().filter_map(|message| match message {
        Message::PulledState(piece) => Some(piece),
        _ => None,
    });
    let first = pieces.next();
    assert_eq!(pieces.next(), None, "one piece at a time");
    first
}

/// Has a checkpoint of slot 5 with its state in the storage, and nine slots chosen.
fn with_stored_state() -> Alone {
    let mut alone = Alone::in_memory(|config, recovered| {
        (config.checkpoint_slots, config.piece_bytes_max) = (1000, 4);
        (recovered.incarnation, recovered.chosen) = (2, noops(5));
        recovered.checkpoint.at = noops(5);
        recovered.checkpoint.state = Some(summary(STATE));
    });
    alone.step(Input::Tick);
    alone.step(applied(5, None));
    alone
}

#[test]
fn a_stored_state_is_read_from_where_the_peer_is_if_it_is_in_that_state() {
    for (chosen, slot, offset, expected) in [
        (0, 0, 0, Some(0)),
        (4, 0, 0, Some(0)),
        (5, 0, 0, None),
        (9, 0, 0, None),
        (0, 5, 0, Some(0)),
        (0, 5, 4, Some(4)),
        (0, 5, 10, Some(10)),
        (0, 5, 11, Some(0)),
        (0, 4, 4, Some(0)),
        (0, 6, 4, Some(0)),
    ] {
        let mut alone = with_stored_state();
        let effects = pull(&mut alone, 1, chosen, slot, offset);
        assert_eq!(sent(&effects), None, "it has to be read");
        assert_eq!(frozen(&effects), None, "no snapshot is needed");
        let read = effects.state_reads.first().map(|read| (read.source, read.bytes_max));
        let stored = |offset| (StateSource::Stored { slot: Slot(5), offset }, 4);
        assert_eq!(read, expected.map(stored), "{chosen} chosen, {offset} bytes of {slot}");
    }
}

#[test]
fn each_piece_of_a_stored_state_says_what_it_is_of_and_the_last_one_what_it_ends() {
    let state = summary(STATE);
    for (offset, end) in [(0, 4), (4, 8), (8, 10), (10, 10)] {
        let mut alone = with_stored_state();
        let (id, _) = read(&pull(&mut alone, 7, 0, 5, offset as u64));
        let piece = sent(&alone.step(bytes(id, &STATE[offset..end]))).expect("a piece");
        assert_eq!((piece.number, piece.at, piece.stamp), (7, noops(5), state.hash));
        assert_eq!((piece.offset, &piece.bytes[..]), (offset as u64, &STATE[offset..end]));
        let summary = piece.end.map(|end| end.summary);
        assert_eq!(summary, (end == 10).then_some(state), "from {offset} on");
    }
}

/// Of the newest checkpoint, not as of now.
#[test]
fn the_end_has_the_sessions_of_the_state() {
    let mut alone = Alone::following(|config| config.checkpoint_slots = 3);
    let sessions = |alone: &Alone| alone.replica.learner.sessions().encode();
    let client = request_of_a_client(&mut alone);
    let effects = choose_from(&mut alone, client, 2..=3);
    let as_of_3 = sessions(&alone);
    let (id, _) = read(&effects);
    alone.persist();
    alone.step(bytes(id, STATE));
    let (id, _) = read(&alone.persist());
    alone.step(bytes(id, b""));
    alone.persist();
    assert_ne!(as_of_3, Bytes::default());
    let (id, _) = read(&pull(&mut alone, 1, 0, 0, 0));
    let piece = sent(&alone.step(bytes(id, STATE))).expect("a piece");
    assert_eq!(piece.end.map(|end| end.sessions), Some(as_of_3));
}

/// Has a command chosen in slot 1; returns the hash of the chosen prefix.
fn request_of_a_client(alone: &mut Alone) -> u64 {
    let value = super::alone::value(1, 1);
    let hash = crate::replica::learner::chain(0, Slot(1), &value);
    hear_accept(alone, Watermark { slot: Slot(1), hash }, value);
    hash
}

/// Goes on with noops behind a prefix of this hash.
fn choose_from(alone: &mut Alone, mut hash: u64, slots: std::ops::RangeInclusive<u64>) -> Effects {
    let mut last = Effects::default();
    for slot in slots.map(Slot) {
        hash = crate::replica::learner::chain(hash, slot, &Value::Noop);
        last = hear_accept(alone, Watermark { slot, hash }, Value::Noop);
    }
    last
}

fn hear_accept(alone: &mut Alone, chosen: Watermark, value: Value) -> Effects {
    let ballot = super::alone::ballot(1);
    alone.hear(2, Message::Accept(Accept { ballot, slot: chosen.slot, value, chosen }))
}

#[test]
fn a_piece_that_is_being_read_answers_the_latest_request_for_it() {
    let mut alone = with_stored_state();
    let (id, _) = read(&pull(&mut alone, 1, 0, 0, 0));
    assert_eq!(pull(&mut alone, 2, 0, 0, 0).state_reads, [], "it is under way");
    let piece = sent(&alone.step(bytes(id, &STATE[..4])));
    assert_eq!(piece.map(|piece| piece.number), Some(2));
    assert_eq!(sent(&alone.step(bytes(id, &STATE[..4]))), None, "an answer counts once");
    // And the peers do not get in each other's way.
    let (one, _) = read(&pull(&mut alone, 3, 0, 5, 4));
    let (other, _) = read(&pull_from(&mut alone, 2, 1, 0, 0, 0));
    assert_ne!(one, other);
    assert_eq!(sent(&alone.step(bytes(other, &STATE[..4]))), None, "it is for node 2");
    assert!(sent(&alone.step(bytes(one, &STATE[4..8]))).is_some());
}

/// The storage has let go of it, or there is less than there should be: nothing is better than nonsense.
#[test]
fn a_piece_of_a_state_that_is_not_the_newest_any_more_is_not_sent() {
    let mut alone = with_stored_state();
    let (id, _) = read(&pull(&mut alone, 1, 0, 0, 0));
    assert_eq!(sent(&alone.step(bytes(id, b""))), None, "it should go on");

    let mut alone = Alone::in_memory(|config, recovered| {
        config.checkpoint_slots = 1;
        (recovered.incarnation, recovered.chosen) = (2, noops(5));
        recovered.checkpoint.at = noops(5);
        recovered.checkpoint.state = Some(summary(b"a"));
    });
    alone.step(Input::Tick);
    alone.step(applied(5, None));
    let (copied, _) = read(&choose(&mut alone, 6..=6));
    alone.persist();
    alone.step(bytes(copied, b"b"));
    let (copied, _) = read(&alone.persist());
    let (served, _) = read(&pull(&mut alone, 1, 0, 0, 0));
    alone.step(bytes(copied, b""));
    assert_eq!(pull_from(&mut alone, 2, 1, 0, 0, 0).state_reads, [], "it is not durable yet");
    alone.persist();
    assert_eq!(sent(&alone.step(bytes(served, b"a"))), None, "there is one of slot 6");
    let (_, source) = read(&pull(&mut alone, 2, 0, 5, 1));
    assert_eq!(source, StateSource::Stored { slot: Slot(6), offset: 0 });
}

#[test]
fn without_a_checkpoint_there_is_nothing_to_send() {
    let mut alone = Alone::following(|_| {});
    choose(&mut alone, 1..=3);
    let effects = pull(&mut alone, 1, 0, 0, 0);
    assert_eq!((effects.state_reads.len(), frozen(&effects)), (0, None));
}

/// Keeps itself, and has applied two slots.
fn with_own_state() -> Alone {
    let mut alone = Alone::following_on_disk(|_| {});
    choose(&mut alone, 1..=2);
    alone.step(applied(2, Some(2)));
    alone.persist();
    alone
}

/// Node 3 begins to fetch; returns the snapshot, and the read of its first piece.
fn begun(alone: &mut Alone, number: u64, chosen: u64) -> (SnapshotId, StateReadId) {
    let effects = pull(alone, number, chosen, 0, 0);
    let snapshot = frozen(&effects).expect("a snapshot is taken");
    let (id, source) = read(&effects);
    assert_eq!(source, StateSource::Snapshot(snapshot));
    (snapshot, id)
}

#[test]
fn a_snapshot_is_taken_for_the_peer_and_read_from_its_beginning_to_its_end() {
    let mut alone = with_own_state();
    let (snapshot, mut id) = begun(&mut alone, 1, 0);
    choose(&mut alone, 3..=4);
    let mut stamps = Vec::new();
    for (number, range) in [(1, 0..4), (2, 4..8), (3, 8..10)] {
        let effects = alone.step(bytes(id, &STATE[range.clone()]));
        let piece = sent(&effects).expect("a piece");
        assert_eq!((piece.number, piece.at), (number, noops(2)), "as of when it was taken");
        assert_eq!((piece.offset, &piece.bytes[..]), (range.start as u64, &STATE[range.clone()]));
        assert_eq!(piece.end, None);
        stamps.push(piece.stamp);
        let effects = pull(&mut alone, number + 1, 0, 2, range.end as u64);
        assert_eq!((frozen(&effects), &effects.let_go[..]), (None, &[][..]));
        assert_eq!(read(&effects).1, StateSource::Snapshot(snapshot));
        id = read(&effects).0;
    }
    let last = sent(&alone.step(bytes(id, b""))).expect("the end");
    assert_eq!((last.offset, last.bytes.len()), (10, 0));
    assert_eq!(last.end.map(|end| end.summary), Some(summary(STATE)));
    assert!(stamps.iter().all(|stamp| *stamp == last.stamp), "all are of one state");
}

/// Of two nodes, or taken twice, states of one slot may have other bytes.
#[test]
fn snapshots_of_one_slot_are_told_apart() {
    let stamp = |alone: &mut Alone, number| {
        let (_, id) = begun(alone, number, 0);
        sent(&alone.step(bytes(id, STATE))).expect("a piece").stamp
    };
    let mut alone = with_own_state();
    let first = stamp(&mut alone, 1);
    alone.wait(SERVED_FOR);
    assert_ne!(first, stamp(&mut alone, 2));
}

/// A snapshot is read once. What has been lost on its way is sent again.
#[test]
fn a_repeated_request_gets_the_same_piece_again() {
    let mut alone = with_own_state();
    let (_, id) = begun(&mut alone, 1, 0);
    let mut piece = sent(&alone.step(bytes(id, &STATE[..4]))).expect("a piece");
    let pulls = [(0, 0), (2, 0)];
    for (number, (slot, offset)) in (2..).zip(pulls) {
        let effects = pull(&mut alone, number, 0, slot, offset);
        piece.number = number;
        assert_eq!(sent(&effects), Some(piece.clone()));
        assert_eq!((effects.state_reads.len(), frozen(&effects)), (0, None));
    }
    let (id, _) = read(&pull(&mut alone, 4, 0, 2, 4));
    let end = sent(&alone.step(bytes(id, b""))).expect("the end");
    let again = sent(&pull(&mut alone, 5, 0, 2, 4)).expect("the end");
    assert_eq!(again, PulledState { number: 5, ..end });
}

#[test]
fn whoever_is_elsewhere_gets_a_new_snapshot() {
    // After two pieces of four bytes, of the snapshot as of slot 2.
    for (chosen, slot, offset, is_new) in [
        (0, 2, 8, false),
        (0, 2, 4, false),
        (0, 2, 0, true),
        (0, 2, 9, true),
        (0, 0, 0, true),
        (0, 1, 8, true),
        (0, 3, 8, true),
    ] {
        let mut alone = with_own_state();
        let (first, id) = begun(&mut alone, 1, 0);
        alone.step(bytes(id, &STATE[..4]));
        let (id, _) = read(&pull(&mut alone, 2, 0, 2, 4));
        alone.step(bytes(id, &STATE[4..8]));
        choose(&mut alone, 3..=3);
        let effects = pull(&mut alone, 3, chosen, slot, offset);
        assert_eq!(frozen(&effects).is_some(), is_new, "{offset} bytes of {slot}");
        let let_go = if is_new { vec![first] } else { vec![] };
        assert_eq!(effects.let_go, let_go);
        if is_new {
            let piece = sent(&alone.step(bytes(read(&effects).0, STATE))).expect("a piece");
            assert_eq!((piece.at, piece.offset), (noops(3), 0), "from its beginning");
        }
    }
}

/// It has got there by the log meanwhile, and lacks something again.
#[test]
fn a_peer_that_knows_more_than_the_snapshot_gets_a_new_one() {
    for (chosen, is_new) in [(1, false), (2, true)] {
        let mut alone = with_own_state();
        let (first, id) = begun(&mut alone, 1, 0);
        alone.step(bytes(id, &STATE[..4]));
        choose(&mut alone, 3..=3);
        let effects = pull(&mut alone, 2, chosen, 0, 0);
        assert_eq!(frozen(&effects).is_some(), is_new, "{chosen} slots are chosen there");
        assert_eq!(effects.let_go, if is_new { vec![first] } else { vec![] });
    }
}

#[test]
fn each_peer_has_a_snapshot_of_its_own() {
    let mut alone = with_own_state();
    let (first, _) = begun(&mut alone, 1, 0);
    let effects = pull_from(&mut alone, 2, 1, 0, 0, 0);
    let second = frozen(&effects).expect("for node 2");
    assert_ne!(first, second);
    assert_eq!(effects.let_go, []);
}

#[test]
fn a_snapshot_is_let_go_of_when_its_peer_has_not_asked_for_long() {
    let moment = Duration::from_millis(1);
    let mut alone = with_own_state();
    let (snapshot, id) = begun(&mut alone, 1, 0);
    alone.step(bytes(id, &STATE[..4]));
    assert_eq!(alone.wait(SERVED_FOR - moment).let_go, []);
    pull(&mut alone, 2, 0, 0, 0);
    assert_eq!(alone.wait(SERVED_FOR - moment).let_go, [], "it has asked since");
    assert_eq!(alone.wait(moment).let_go, [snapshot]);
    assert_eq!(alone.wait(SERVED_FOR).let_go, [], "once");
    let (again, id) = begun(&mut alone, 3, 0);
    assert_ne!(again, snapshot);
    // Even while it is being read; then nobody waits for the piece.
    assert_eq!(alone.wait(SERVED_FOR).let_go, [again]);
    assert_eq!(sent(&alone.step(bytes(id, STATE))), None);
    assert_eq!(alone.replica.state_reads.len(), 0);
}

#[test]
fn the_clock_says_when_that_is() {
    let mut alone = with_own_state();
    begun(&mut alone, 1, 0);
    let mut waited = Duration::ZERO;
    loop {
        waited += alone.deadline();
        let effects = alone.wait(alone.deadline());
        if !effects.let_go.is_empty() {
            break;
        }
    }
    assert_eq!(waited, SERVED_FOR);
}
