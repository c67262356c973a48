//! When a checkpoint is due, how its state gets to the disk, and how far the log may go for it.

use std::ops::RangeInclusive;

use super::{
    alone::{Alone, accept, noops},
    *,
};
use crate::{
    message::PullState,
    port::{StateChunk, StateHasher, StateSummary, WriteBatch},
    replica::{ReplicaError, SnapshotId, StateRead, StateReadId, StateSource},
};

/// What a slot without commands counts for.
const NOOP_BYTES: u64 = 65;

/// Far beyond what any test reaches.
const NEVER: u64 = 1 << 40;

/// Node 2 has noops chosen in these slots, and the state machine has applied them; returns what comes
/// of the last one, before it is applied.
pub(super) fn choose(alone: &mut Alone, slots: RangeInclusive<u64>) -> Effects {
    let mut last = Effects::default();
    for slot in slots {
        last = alone.hear(2, accept(slot, Value::Noop, slot));
    }
    last
}

pub(super) fn applied(slot: u64, durable: Option<u64>) -> Input {
    Input::Applied { slot: Slot(slot), durable: durable.map(Slot) }
}

pub(super) fn summary(state: &[u8]) -> StateSummary {
    let mut hasher = StateHasher::default();
    hasher.update(state);
    hasher.summary()
}

/// The snapshot that is to be taken, if any.
pub(super) fn frozen(effects: &Effects) -> Option<SnapshotId> {
    effects.tasks.iter().find_map(|task| match task {
        Task::Freeze(id) => Some(*id),
        Task::Apply(_) | Task::Digest(_) | Task::Restore(_) => None,
    })
}

/// The state that is to be put in place, if any.
pub(super) fn restored(effects: &Effects) -> Option<u64> {
    effects.tasks.iter().find_map(|task| match task {
        Task::Restore(slot) => Some(slot.0),
        Task::Apply(_) | Task::Freeze(_) | Task::Digest(_) => None,
    })
}

pub(super) fn delivered(effects: &Effects) -> Vec<u64> {
    effects.tasks.iter().filter_map(Task::delivery).map(|delivery| delivery.slot.0).collect()
}

/// What is written.
pub(super) fn written(effects: Effects) -> WriteBatch {
    effects.persist.map(|(_, batch)| batch).unwrap_or_default()
}

/// The one piece of a state that is asked for.
pub(super) fn read(effects: &Effects) -> (StateReadId, StateSource) {
    let [StateRead { id, source, .. }] = effects.state_reads[..] else {
        panic!("one piece is wanted: {effects:?}")
    };
    (id, source)
}

pub(super) fn bytes(id: StateReadId, bytes: &'static [u8]) -> Input {
    Input::StateRead { id, bytes: Bytes::from_static(bytes) }
}

/// Copies a state of these pieces, begun by `effects`; returns what is written at its end.
fn copy(alone: &mut Alone, mut effects: Effects, pieces: &[&'static [u8]]) -> WriteBatch {
    for piece in pieces {
        let (id, _) = read(&effects);
        assert_eq!(written(alone.step(bytes(id, piece))).state.len(), 1);
        effects = alone.persist();
    }
    let (id, _) = read(&effects);
    let batch = written(alone.step(bytes(id, b"")));
    alone.persist();
    batch
}

/// The slot behind which the next checkpoint is begun, of those up to `last`.
fn next_due(alone: &mut Alone, slots: RangeInclusive<u64>) -> Option<(u64, Effects)> {
    for slot in slots {
        let effects = choose(alone, slot..=slot);
        if frozen(&effects).is_some() {
            return Some((slot, effects));
        }
    }
    None
}

fn floor(alone: &Alone) -> u64 {
    alone.replica.acceptor.log().floor().0
}

/// Follows node 2 with a state in memory.
fn following(slots: u64, bytes: u64) -> Alone {
    Alone::following(|config| {
        (config.checkpoint_slots, config.checkpoint_bytes) = (slots, bytes);
    })
}

fn pull(number: u64, chosen: u64, slot: u64, offset: u64) -> Message {
    Message::PullState(PullState { number, chosen: Slot(chosen), slot: Slot(slot), offset })
}

#[test]
fn one_is_due_after_so_many_slots_or_bytes_of_the_log_whatever_comes_first() {
    for (slots, bytes, due) in [
        (3, NEVER, 3),
        (NEVER, 3 * NOOP_BYTES - 1, 3),
        (NEVER, 3 * NOOP_BYTES, 3),
        (NEVER, 3 * NOOP_BYTES + 1, 4),
        (2, 3 * NOOP_BYTES, 2),
    ] {
        let mut alone = following(slots, bytes);
        let (slot, effects) = next_due(&mut alone, 1..=9).expect("one is due");
        assert_eq!(slot, due, "of {slots} slots or {bytes} bytes");
        copy(&mut alone, effects, &[b"s"]);
        let (slot, _) = next_due(&mut alone, due + 1..=2 * due).expect("and again");
        assert_eq!(slot, 2 * due, "of {slots} slots or {bytes} bytes");
    }
}

/// Else a large state would be copied far more often than the log is written.
#[test]
fn none_is_due_before_the_log_has_grown_by_as_much_as_the_state() {
    const STATE: [u8; 6 * NOOP_BYTES as usize + 1] = [7; 6 * NOOP_BYTES as usize + 1];
    for (length, due) in [(STATE.len() - 1, 9), (STATE.len(), 10)] {
        let mut alone = following(3, NEVER);
        let effects = choose(&mut alone, 1..=3);
        copy(&mut alone, effects, &[&STATE[..length]]);
        let due_at = next_due(&mut alone, 4..=12).map(|(slot, _)| slot);
        assert_eq!(due_at, Some(due), "with a state of {length} bytes");
    }
}

/// A new one would take the state away from under the peer.
#[test]
fn it_is_put_off_while_a_peer_reads_the_last_one_and_not_for_ever() {
    let patience = limits::SERVING_CHECKPOINTS * 3;
    for (is_read, is_silent, due) in
        [(false, false, 6), (true, false, 3 + patience), (true, true, 6)]
    {
        let mut alone = following(3, NEVER);
        let effects = choose(&mut alone, 1..=3);
        alone.step(applied(3, None));
        copy(&mut alone, effects, &[b"state"]);
        if is_read {
            let asked = alone.hear(3, pull(1, 0, 0, 0));
            assert_eq!(asked.state_reads.len(), 1);
        }
        if is_silent {
            alone.wait(limits::ELECTION_TIMEOUT * limits::SERVING_TIMEOUTS);
        }
        let due_at = next_due(&mut alone, 4..=40).map(|(slot, _)| slot);
        assert_eq!(due_at, Some(due), "read: {is_read}, then silent: {is_silent}");
    }
}

#[test]
fn there_is_one_at_a_time() {
    let mut alone = following(3, NEVER);
    let effects = choose(&mut alone, 1..=3);
    assert!(next_due(&mut alone, 4..=20).is_none(), "the first is not whole");
    copy(&mut alone, effects, &[b"state"]);
    assert!(next_due(&mut alone, 21..=21).is_some(), "then the next one is overdue");
}

/// Session table and hash are taken where the mark stands, and so is the state.
#[test]
fn the_mark_stands_behind_the_slot_that_it_is_as_of() {
    let mut alone = following(2, NEVER);
    alone.hear(2, accept(2, Value::Noop, 0));
    alone.hear(2, accept(3, Value::Noop, 0));
    // All three become chosen at once.
    let effects = alone.hear(2, accept(1, Value::Noop, 3));
    let kinds: Vec<_> = effects
        .tasks
        .iter()
        .map(|task| match task {
            Task::Apply(delivery) => delivery.slot.0,
            Task::Freeze(_) => 0,
            Task::Digest(_) | Task::Restore(_) => panic!("nothing is restored"),
        })
        .collect();
    assert_eq!(kinds, [1, 2, 0, 3]);
    alone.persist();
    let batch = copy(&mut alone, effects, &[b"state"]);
    assert_eq!(batch.checkpoint.map(|checkpoint| checkpoint.at), Some(noops(2)));
}

#[test]
fn a_state_in_memory_is_copied_piece_by_piece_each_durable_before_the_next_is_read() {
    let mut alone = Alone::following(|config| {
        (config.checkpoint_slots, config.piece_bytes_max) = (3, 4);
    });
    let effects = choose(&mut alone, 1..=3);
    let snapshot = frozen(&effects).expect("a snapshot is taken");
    assert_eq!(effects.state_reads[0].bytes_max, 4);
    let (mut id, source) = read(&effects);
    assert_eq!(source, StateSource::Snapshot(snapshot));
    alone.step(applied(3, None));
    for (offset, piece) in [(0, &b"abcd"[..]), (4, b"efgh"), (8, b"i")] {
        let effects = alone.step(bytes(id, piece));
        assert_eq!(effects.state_reads, [], "the piece is not durable yet");
        let chunk = StateChunk { slot: Slot(3), offset, bytes: Bytes::from_static(piece) };
        assert_eq!(written(effects), WriteBatch { state: vec![chunk], ..WriteBatch::default() });
        assert_eq!(alone.step(Input::Tick).state_reads, [], "nor has time anything to do with it");
        let effects = alone.persist();
        assert_eq!(read(&effects).1, StateSource::Snapshot(snapshot));
        id = read(&effects).0;
    }
    let effects = alone.step(bytes(id, b""));
    assert_eq!(effects.let_go, [snapshot]);
    let checkpoint = written(effects).checkpoint.expect("it is whole");
    assert_eq!(checkpoint.at, noops(3));
    assert_eq!(checkpoint.state, Some(summary(b"abcdefghi")));
    assert_eq!(checkpoint.sessions, alone.replica.learner.sessions().encode());
    assert_eq!(alone.persist().state_reads, []);
}

#[test]
fn an_answer_to_another_request_is_no_piece() {
    let mut alone = following(3, NEVER);
    let (id, _) = read(&choose(&mut alone, 1..=3));
    alone.persist();
    assert!(alone.step(bytes(StateReadId(id.0 + 1), b"x")).persist.is_none());
    assert!(alone.step(bytes(id, b"abc")).persist.is_some());
    assert!(alone.step(bytes(id, b"abc")).persist.is_none(), "an answer counts once");
}

/// Five writes of noops are more than the disk may be behind.
#[test]
fn a_disk_that_is_behind_holds_the_copy_up() {
    let behind = |slots: u64| {
        Alone::following(|config| {
            config.checkpoint_slots = slots;
            config.backlog_bytes_max = 4 * usize::try_from(NOOP_BYTES).expect("small");
        })
    };
    let mut alone = behind(5);
    let effects = choose(&mut alone, 1..=5);
    assert!(frozen(&effects).is_some(), "the snapshot is of this slot");
    assert_eq!(effects.state_reads, [], "and is read when there is time");
    assert_eq!(alone.persist().state_reads.len(), 1);

    let mut alone = behind(3);
    let (id, _) = read(&choose(&mut alone, 1..=3));
    choose(&mut alone, 4..=5);
    let effects = alone.step(bytes(id, b"abc"));
    assert!(effects.persist.is_none(), "the piece waits");
    assert_eq!(written(alone.persist()).state.len(), 1);
}

/// A checkpoint that is whole is one more write, which a disk that is behind need not have at once.
#[test]
fn a_state_machine_that_keeps_itself_is_not_copied_and_its_checkpoint_waits_for_it() {
    let mut alone = Alone::following_on_disk(|config| config.checkpoint_slots = 3);
    let effects = choose(&mut alone, 1..=4);
    assert_eq!((frozen(&effects), effects.state_reads.len()), (None, 0));
    alone.persist();
    let mut checkpoint = |slot, durable| {
        let batch = written(alone.step(applied(slot, Some(durable))));
        assert_eq!(batch.state, []);
        batch.checkpoint.map(|checkpoint| (checkpoint.at, checkpoint.state))
    };
    assert_eq!(checkpoint(4, 0), None);
    assert_eq!(checkpoint(4, 2), None, "its sessions would be ahead of the state");
    assert_eq!(checkpoint(4, 3), Some((noops(3), None)));
    assert_eq!(checkpoint(4, 4), None);
}

#[test]
#[should_panic(expected = "keeps itself or it does not")]
fn a_state_machine_does_not_change_its_mind_about_who_keeps_its_state() {
    let mut alone = Alone::following_on_disk(|_| {});
    choose(&mut alone, 1..=1);
    alone.step(applied(1, None));
}

/// A peer that lags by less than a checkpoint finds its slots.
#[test]
fn the_floor_rises_to_the_checkpoint_before_the_newest() {
    let mut alone = following(3, NEVER);
    for (last, expected) in [(3, None), (6, Some(3)), (9, Some(6))] {
        let effects = choose(&mut alone, last - 2..=last);
        alone.persist();
        assert_eq!(floor(&alone), last.saturating_sub(6), "not before the newest is whole");
        let batch = copy(&mut alone, effects, &[b"state"]);
        assert_eq!(batch.checkpoint.map(|checkpoint| checkpoint.at.slot), Some(Slot(last)));
        assert_eq!(batch.floor, expected.map(Slot), "of the checkpoint of slot {last}");
        assert_eq!(floor(&alone), expected.unwrap_or(0));
    }
}

/// Has checkpoints of `slot` and of the one behind it, and can begin to let the log up to `slot` go.
fn with_long_log(slot: u64) -> (Alone, Effects) {
    let mut alone = Alone::new(|config, recovered| {
        config.checkpoint_slots = 1;
        recovered.incarnation = 2;
        recovered.chosen = noops(slot);
        recovered.checkpoint.at = noops(slot);
    });
    choose(&mut alone, slot + 1..=slot + 1);
    let effects = alone.step(applied(slot + 1, Some(slot + 1)));
    (alone, effects)
}

#[test]
fn the_floor_rises_in_steps_each_durable_before_the_next() {
    let step = limits::FLOOR_STEP_SLOTS;
    let (mut alone, effects) = with_long_log(2 * step + 100);
    assert_eq!(written(effects).floor, Some(Slot(step)));
    assert_eq!(written(alone.step(Input::Tick)).floor, None, "the first step is not durable");
    assert_eq!(written(alone.persist()).floor, Some(Slot(2 * step)));
    assert_eq!(written(alone.persist()).floor, Some(Slot(2 * step + 100)));
    assert_eq!(written(alone.persist()).floor, None, "there it stays");
}

/// Lets slots be chosen, applied and made durable, one by one; returns the floor behind each.
fn floors(alone: &mut Alone, slots: RangeInclusive<u64>) -> Vec<u64> {
    let mut floors = Vec::new();
    for slot in slots {
        choose(alone, slot..=slot);
        alone.step(applied(slot, Some(slot)));
        alone.persist();
        floors.push(floor(alone));
    }
    floors
}

/// The log behind it is what the peer goes on with.
#[test]
fn the_floor_does_not_rise_over_a_state_that_a_peer_fetches() {
    let mut alone = Alone::following_on_disk(|config| config.checkpoint_slots = 3);
    floors(&mut alone, 1..=2);
    let snapshot = frozen(&alone.hear(3, pull(1, 0, 0, 0))).expect("for the peer");
    assert_eq!(floors(&mut alone, 3..=9), [0, 0, 0, 2, 2, 2, 2]);
    alone.wait(limits::ELECTION_TIMEOUT * limits::SERVING_TIMEOUTS - SECOND / 1000);
    alone.step(Input::Tick);
    assert_eq!(floor(&alone), 2, "it may ask yet");
    assert_eq!(alone.wait(SECOND / 1000).let_go, [snapshot]);
    alone.step(Input::Tick);
    assert_eq!(floor(&alone), 6, "it has been silent for long");
}

/// In bytes: eight checkpoints' worth of the log stays for it.
#[test]
fn the_floor_rises_over_a_state_whose_peer_takes_too_long() {
    let mut alone = Alone::following_on_disk(|config| {
        (config.checkpoint_slots, config.checkpoint_bytes) = (3, 3 * NOOP_BYTES);
    });
    floors(&mut alone, 1..=2);
    alone.hear(3, pull(1, 0, 0, 0));
    let kept = 3 * limits::SERVING_CHECKPOINTS;
    let floors = floors(&mut alone, 3..=2 + kept);
    let (last, before) = floors.split_last().expect("some");
    assert!(before.iter().all(|floor| *floor <= 2), "{before:?}");
    assert_eq!(*last, kept - 3, "the checkpoint before the newest");
}

#[test]
fn a_state_that_is_behind_a_checkpoint_without_one_is_missing() {
    let state = Some(summary(b"state"));
    for (durable, checkpoint, state, expected) in [
        (None, 0, None, Ok(None)),
        (None, 5, None, Err(0)),
        (Some(0), 5, None, Err(0)),
        (Some(4), 5, None, Err(4)),
        (Some(5), 5, None, Ok(None)),
        (Some(6), 5, None, Ok(None)),
        (None, 5, state, Ok(Some(5))),
        (Some(4), 5, state, Ok(Some(5))),
        (Some(5), 5, state, Ok(None)),
    ] {
        let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
        let config = Config::new(NodeId(1), membership);
        let mut recovered = recovered(NodeId(1));
        (recovered.incarnation, recovered.chosen) = (2, noops(checkpoint));
        recovered.checkpoint.at = noops(checkpoint);
        recovered.checkpoint.state = state;
        let replica = Replica::new(config, recovered, durable.map(Slot), Instant::ZERO);
        let begun = replica.map(|mut replica| {
            let effects = replica.step(Instant::ZERO, Input::Tick);
            restored(&effects)
        });
        let expected = expected.map_err(|durable| {
            let (durable, checkpoint) = (Slot(durable), Slot(checkpoint));
            ReplicaError::StateMissing { durable, checkpoint }
        });
        assert_eq!(begun, expected, "durable {durable:?}, checkpoint {checkpoint}, {state:?}");
    }
}

/// Chosen slots are delivered behind the state, not to the empty state machine before it.
#[test]
fn a_restart_puts_the_state_in_place_and_goes_on_behind_it() {
    let mut alone = Alone::in_memory(|_, recovered| {
        recovered.incarnation = 2;
        recovered.chosen = noops(7);
        recovered.checkpoint.at = noops(5);
        recovered.checkpoint.state = Some(summary(b"state"));
    });
    let effects = alone.step(Input::Tick);
    assert_eq!((restored(&effects), effects.tasks.len()), (Some(5), 1));
    let effects = alone.step(applied(5, None));
    let slots = effects.log_reads.first().map(|read| read.slots.clone());
    assert_eq!(slots, Some(Slot(6)..=Slot(7)));
}

/// The log might need the one who asks to get there, as that of seed 41166 of the simulator did.
#[test]
fn a_state_machine_that_is_ahead_of_the_log_gives_a_snapshot_all_the_same() {
    let mut alone = Alone::with_state(Some(Slot(7)), |_, recovered| {
        recovered.incarnation = 2;
        recovered.chosen = noops(5);
        recovered.checkpoint.at = noops(5);
    });
    assert!(frozen(&alone.hear(3, pull(1, 0, 0, 0))).is_some());
}
