//! A state that is whole takes the place of the log: what is written for it, and what waits for it.

use std::slice;

use super::{
    alone::{Alone, accept, heartbeat, memberships, noops, request, sent_to, value},
    checkpoints::{applied, choose, delivered, frozen, read, restored, summary, written},
    fetching::{PATIENCE, STATE, compacted, fetching, number, piece},
    *,
};
use crate::{
    message::{PulledState, ReadReply, StateEnd},
    port::WriteBatch,
    replica::SessionTable,
    types::{BatchBuilder, ClientId},
};

/// A client of the embedder's.
const EMBEDDERS: u64 = 100;

/// Takes over the state as of slot 5, in one piece; returns what comes of it.
fn install(alone: &mut Alone) -> Effects {
    let request = fetching(alone);
    alone.hear(2, piece(request, 0..18))
}

/// The session table as of slot 5 of a log in which slot 1 has these requests, each the lowest of its
/// client that may still want a result.
pub(super) fn sessions(requests: &[RequestId]) -> SessionTable {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
    let mut table =
        SessionTable::restore(&Checkpoint::default(), &membership, limits::SESSIONS_BYTES_MAX)
            .expect("empty");
    let mut builder = BatchBuilder::default();
    requests.iter().for_each(|id| builder.push(*id, id.sequence, Bytes::new()));
    table.take_in(Slot(1), builder.build().as_ref());
    (2..=5).for_each(|slot| drop(table.take_in(Slot(slot), None)));
    table
}

/// As [`install`], with a session table.
pub(super) fn install_with(alone: &mut Alone, table: &SessionTable) -> Effects {
    let number = fetching(alone);
    let Message::PulledState(piece) = piece(number, 0..18) else { unreachable!() };
    let end =
        StateEnd { summary: summary(STATE), sessions: table.encode(), memberships: memberships() };
    alone.hear(2, Message::PulledState(PulledState { end: Some(Box::new(end)), ..piece }))
}

/// Whatever a crash leaves of it, it is all there or nothing of it.
#[test]
fn one_batch_makes_a_checkpoint_of_it_and_lets_the_log_go() {
    let mut alone = Alone::new(|_, _| {});
    let table = sessions(&[request(2, 1)]);
    let effects = install_with(&mut alone, &table);
    assert_eq!(effects.tasks, [], "it is not durable yet");
    let batch = written(effects);
    let WriteBatch { promised: None, chosen, records, state, checkpoint, floor, .. } = batch else {
        panic!("{batch:?}")
    };
    let state: Vec<_> = state.iter().map(|chunk| (chunk.slot.0, &chunk.bytes[..])).collect();
    assert_eq!(state, [(5, STATE)]);
    let sessions = table.encode();
    let expected = Checkpoint { at: noops(5), sessions, state: Some(summary(STATE)) };
    assert_eq!(checkpoint, Some(expected));
    assert_eq!((chosen, floor, records), (Some(noops(5)), Some(Slot(5)), vec![]));
    assert_eq!(alone.replica.learner.sessions(), &table);
    let effects = alone.persist();
    assert_eq!((restored(&effects), effects.tasks.len()), (Some(5), 1));
}

/// What this node has voted for above it stands, and is delivered once it is known to be chosen.
#[test]
fn the_log_above_stays_and_is_delivered_behind_the_state() {
    let mut alone = Alone::following(|_| {});
    for slot in [4, 6, 7] {
        alone.hear(2, accept(slot, Value::Noop, 0));
    }
    let effects = install(&mut alone);
    assert_eq!(written(effects).records, [], "slot 4 is in the state");
    let status = alone.replica.status(alone.now);
    assert_eq!((status.chosen.0, status.highest_accepted.0), (7, 7));
    let effects = alone.persist();
    assert_eq!(delivered(&effects), [0; 0], "not before the state is in place");
    assert_eq!(delivered(&alone.step(applied(5, None))), [6, 7]);
}

#[test]
fn what_is_above_is_pulled_next() {
    let mut alone = Alone::new(|_, _| {});
    install(&mut alone);
    let effects = alone.persist();
    let [Message::Pull(pull)] = &sent_to(&effects, 2)[..] else { panic!("{effects:?}") };
    assert_eq!((pull.from, pull.to), (Slot(6), Slot(9)));
}

/// A leader's watermark is compared with what the state says of the log.
#[test]
fn a_state_of_another_log_is_noticed() {
    let mut alone = Alone::new(|_, _| {});
    let number = fetching(&mut alone);
    let Message::PulledState(mut piece) = piece(number, 0..18) else { unreachable!() };
    piece.at.hash ^= 1;
    alone.hear(2, Message::PulledState(piece));
    let effects = alone.hear(2, heartbeat(5));
    let asks = |message: &Message| matches!(message, Message::Compare(_));
    assert!(sent_to(&effects, 3).iter().any(asks), "{effects:?}");
}

/// The responses were given on other nodes, and nobody here has them.
#[test]
fn commands_that_the_state_has_are_answered_without_their_response() {
    let mut alone = Alone::following(|_| {});
    let settled = [request(1, 1), request(EMBEDDERS, 3), request(EMBEDDERS + 1, 1)];
    let epoch_2 = ClientId { name: EMBEDDERS + 2, epoch: 2 };
    let of_epoch_2 = RequestId { client: epoch_2, sequence: 1 };
    let table = sessions(&[&settled[..], slice::from_ref(&of_epoch_2)].concat());
    for id in settled {
        alone.propose(id, 1);
    }
    let open = [request(1, 2), request(EMBEDDERS, 4), request(EMBEDDERS + 3, 1)];
    let expired = [request(EMBEDDERS, 2), request(EMBEDDERS + 2, 1)];
    for id in open.into_iter().chain(expired) {
        alone.propose(id, 1);
    }
    assert_eq!(alone.answers(), []);
    install_with(&mut alone, &table);
    let mut answers = alone.answers();
    answers.sort_by_key(|(id, _)| *id);
    let [already, expired] = [Refusal::AlreadyApplied, Refusal::Expired].map(Outcome::Refused);
    let expected = [
        (request(1, 1), Outcome::Unknown),
        (request(EMBEDDERS, 2), expired),
        (request(EMBEDDERS, 3), already),
        (request(EMBEDDERS + 1, 1), already),
        (request(EMBEDDERS + 2, 1), expired),
    ];
    assert_eq!(answers, expected);
    alone.persist();
    alone.step(applied(5, None));
    assert_eq!(alone.answers(), [], "the others wait on");
    let sequences: Vec<_> = open.iter().map(|id| (id.client.name, id.sequence)).collect();
    assert_eq!(sequences.len(), alone.replica.origin.open());
}

/// Those have been applied here, and have their responses.
#[test]
fn commands_that_were_delivered_before_are_answered_as_ever() {
    let mut alone = Alone::following(|_| {});
    alone.propose(request(1, 1), 1);
    let mut builder = BatchBuilder::default();
    builder.push(request(1, 1), 1, Bytes::from_static(&[7]));
    let batch = Value::Batch(builder.build().expect("a command"));
    let hash = crate::replica::learner::chain(0, Slot(1), &batch);
    let chosen = Watermark { slot: Slot(1), hash };
    let ballot = super::alone::ballot(1);
    let message = Message::Accept(Accept { ballot, slot: Slot(1), value: batch, chosen });
    assert_eq!(delivered(&alone.hear(2, message)), [1]);
    let heartbeat = Heartbeat { ballot, round: 2, chosen: noops(9) };
    alone.hear(2, Message::Heartbeat(heartbeat));
    let effects = alone.wait(PATIENCE);
    let effects = alone.hear(2, compacted(number(&effects), 5, 9));
    let Message::PulledState(piece) = piece(number(&effects), 0..18) else { unreachable!() };
    let sessions = sessions(&[request(1, 1)]).encode();
    let end = StateEnd { summary: summary(STATE), sessions, memberships: memberships() };
    alone.hear(2, Message::PulledState(PulledState { end: Some(Box::new(end)), ..piece }));
    assert_eq!(alone.answers(), []);
    alone.persist();
    alone.step(applied(5, None));
    let outcome = Outcome::Applied { slot: Slot(1), index: 0 };
    assert_eq!(alone.answers(), [(request(1, 1), outcome)]);
}

#[test]
fn reads_wait_for_the_state() {
    for index in [3, 5] {
        let mut alone = Alone::following(|_| {});
        install(&mut alone);
        let effects = alone.step(quorum_read(7));
        let [Message::Read(request)] = &sent_to(&effects, 2)[..] else { panic!("{effects:?}") };
        let (client, number) = (request.client, request.number);
        let reply = ReadReply { client, number, index: Slot(index) };
        let effects = alone.hear(2, Message::ReadReply(reply));
        assert_eq!(effects.reads_ready, [], "what is applied is older than slot {index}");
        let effects = alone.persist();
        let ready = [effects.reads_ready.clone(), alone.step(Input::Tick).reads_ready].concat();
        assert_eq!((restored(&effects), ready), (Some(5), vec![7]), "behind that task");
    }
}

/// The storage has room for one state beside the newest, and that may not be in place yet.
#[test]
fn the_next_state_waits_until_this_one_is_in_place() {
    let mut alone = Alone::new(|_, _| {});
    install(&mut alone);
    let effects = alone.persist();
    let effects = alone.hear(2, compacted(number(&effects), 8, 9));
    let next = |number| {
        let Message::PulledState(piece) = piece(number, 0..18) else { unreachable!() };
        Message::PulledState(PulledState { at: noops(8), ..piece })
    };
    let request = number(&effects);
    assert!(alone.hear(2, next(request)).persist.is_none());
    alone.step(applied(5, None));
    let batch = written(alone.hear(2, next(request)));
    assert_eq!(batch.checkpoint.map(|checkpoint| checkpoint.at), Some(noops(8)));
}

/// With a state machine in memory the storage is where the state is; one that keeps itself has it twice.
#[test]
fn a_copy_that_the_state_machine_does_not_need_is_dropped_once_it_has_its_own() {
    let mut alone = Alone::following_on_disk(|_| {});
    install(&mut alone);
    alone.persist();
    assert_eq!(written(alone.step(applied(5, Some(4)))).checkpoint, None, "it has not");
    let batch = written(alone.step(applied(5, Some(5))));
    let checkpoint = batch.checkpoint.expect("without its state");
    assert_eq!((checkpoint.at, checkpoint.state), (noops(5), None));
    alone.persist();
    assert_eq!(written(alone.step(applied(5, Some(5)))).checkpoint, None, "once");

    let mut alone = Alone::following(|_| {});
    install(&mut alone);
    alone.persist();
    assert_eq!(written(alone.step(applied(5, None))).checkpoint, None);
}

#[test]
fn a_copy_of_its_own_state_makes_room_for_a_state_that_is_fetched() {
    let mut alone = Alone::following(|config| config.checkpoint_slots = 2);
    let effects = choose(&mut alone, 1..=2);
    let snapshot = frozen(&effects).expect("a copy is begun");
    let (id, _) = read(&effects);
    alone.step(applied(2, None));
    alone.persist();
    let request = fetching(&mut alone);
    let effects = alone.hear(2, piece(request, 0..9));
    assert_eq!(effects.let_go, [snapshot]);
    let late = Input::StateRead { id, bytes: Bytes::from_static(b"late") };
    assert!(alone.step(late).persist.is_none(), "nobody waits for it");
    let effects = alone.persist();
    let batch = written(alone.hear(2, piece(number(&effects), 9..18)));
    assert_eq!(batch.checkpoint.map(|checkpoint| checkpoint.at), Some(noops(5)));
}

#[test]
fn no_copy_is_begun_while_a_state_is_fetched_and_one_that_is_puts_an_end_to_that() {
    let mut alone = Alone::following(|config| {
        (config.checkpoint_slots, config.retransmit_timeout) = (3, SECOND / 2);
    });
    let number_of_first = fetching(&mut alone);
    alone.hear(2, piece(number_of_first, 0..9));
    alone.persist();
    // The log goes on by itself, up to a checkpoint.
    let effects = choose(&mut alone, 1..=3);
    assert_eq!(frozen(&effects), None, "a state is fetched");
    let values = vec![(Slot(4), Value::Noop)];
    let pulled = crate::message::Pulled { number: 0, values, chosen: Slot(4), floor: Slot::ZERO };
    let effects = alone.hear(3, Message::Pulled(pulled));
    assert!(frozen(&effects).is_some(), "somebody has the log, and a checkpoint is overdue");
    alone.persist();
    let effects = alone.wait(SECOND / 2);
    let effects = alone.hear(3, compacted(number(&effects), 8, 9));
    let [Message::PullState(pull)] = &sent_to(&effects, 3)[..] else { panic!("{effects:?}") };
    assert_eq!((pull.slot, pull.offset), (Slot::ZERO, 0), "what was fetched is gone");
}

/// A slot counts towards the next checkpoint from the state on.
#[test]
fn the_next_checkpoint_is_due_so_many_slots_behind_the_state() {
    let mut alone = Alone::following(|config| config.checkpoint_slots = 3);
    choose(&mut alone, 1..=2);
    alone.step(applied(2, None));
    install(&mut alone);
    alone.persist();
    alone.step(applied(5, None));
    let due: Vec<_> =
        (6..=8).filter(|slot| frozen(&choose(&mut alone, *slot..=*slot)).is_some()).collect();
    assert_eq!(due, [8]);
}

/// Nothing of it is below, so nobody is told that there is.
#[test]
fn a_value_for_a_slot_of_the_state_is_passed_over() {
    let mut alone = Alone::following(|_| {});
    install(&mut alone);
    alone.persist();
    for slot in 1..=5 {
        assert!(written(alone.hear(2, accept(slot, value(slot, 1), 0))).records.is_empty());
    }
}
