//! The outbox: what waits for the disk waits once, and what becomes durable together travels
//! together.

use super::{
    alone::{Alone, accept, ballot, heartbeat, promise, sent_to},
    *,
};
use crate::{
    message::Prepare,
    replica::{held::AfterPersist, outbox::Outbox},
};

const TO: NodeId = NodeId(2);

/// What leaves when the disk is done, of messages that all waited for it.
fn released(messages: &[AfterPersist]) -> Vec<Message> {
    let membership = Membership::new([(1, ""), (2, "")]).expect("two voters");
    let mut outbox = Outbox::new(&Config::new(NodeId(1), membership), Watermark::default());
    assert!(outbox.admit());
    outbox.persist_record(Record { slot: Slot(1), ballot: ballot(1), value: Value::Noop });
    for message in messages {
        outbox.send_after_persist(TO, message.clone());
    }
    let now = Instant::ZERO;
    let mut effects = Effects::default();
    outbox.finish(Watermark::default(), now, &mut effects);
    assert_eq!(effects.send, []);
    let (id, _) = effects.persist.take().expect("a write");
    outbox.on_persisted(id, now);
    outbox.finish(Watermark::default(), now, &mut effects);
    effects.send.into_iter().map(|(_, message)| message).collect()
}

fn vote(round: u64, slot: u64) -> AfterPersist {
    AfterPersist::Accepted { ballot: ballot(round), slot: Slot(slot) }
}

/// The first and last slot in each message.
fn votes(messages: &[AfterPersist]) -> Vec<(u64, u64)> {
    let slots = |message| match message {
        Message::Accepted(Accepted { first, last, .. }) => (first.0, last.0),
        _ => panic!("no vote, but {message:?}"),
    };
    released(messages).into_iter().map(slots).collect()
}

/// A range that covers a slot in between would be a vote that nobody gave.
#[test]
fn votes_travel_together_and_none_is_made_up() {
    assert_eq!(votes(&[vote(1, 1), vote(1, 2)]), [(1, 2)]);
    assert_eq!(votes(&[vote(1, 1), vote(1, 3)]), [(1, 1), (3, 3)]);
    assert_eq!(votes(&[vote(1, 2), vote(1, 1)]), [(2, 2), (1, 1)]);
}

#[test]
fn what_waits_is_not_queued_again_and_gives_way_to_what_is_asked_later() {
    assert_eq!(
        votes(&[vote(1, 1), vote(2, 2)]),
        [(2, 2)],
        "the leader of ballot 1 has had its time"
    );

    assert_eq!(votes(&[vote(1, 1), vote(1, 1)]), [(1, 1)]);
    assert_eq!(votes(&[vote(1, 1), vote(1, 3), vote(1, 1), vote(1, 2)]), [(1, 1), (3, 3), (2, 2)]);

    let promise_from = |round, from| {
        let Message::Promise(promise) = promise(ballot(round), vec![]) else { unreachable!() };
        AfterPersist::Promise(Promise { from: Slot(from), ..promise })
    };
    let prepare =
        |round, from| AfterPersist::Prepare(Prepare { ballot: ballot(round), from: Slot(from) });
    for message in [promise_from, prepare] {
        assert_eq!(released(&[message(1, 1), message(1, 1)]).len(), 1);
        for (round, from) in [(1, 2), (2, 1)] {
            let [last] = &released(&[message(1, 1), message(round, from)])[..] else {
                panic!("one of a kind")
            };
            let ballot = ballot(round);
            let from = Slot(from);
            match last {
                Message::Promise(promise) => {
                    assert_eq!((promise.ballot, promise.from), (ballot, from));
                }
                Message::Prepare(prepare) => assert_eq!(*prepare, Prepare { ballot, from }),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(released(&[promise_from(1, 1), prepare(1, 1), vote(1, 1)]).len(), 3);
}

/// A leader whose Accepts arrive again and again, of slots long chosen too, costs no more than so much.
#[test]
fn votes_that_wait_are_bounded() {
    let bound = limits::LOG_AHEAD_WINDOWS * limits::WINDOW_SLOTS_DEFAULT;
    let apart: Vec<_> = (1..=bound + 10).map(|slot| vote(1, 2 * slot)).collect();
    let waiting = votes(&apart);
    let [first, last] = [11, bound + 10].map(|slot| (2 * slot, 2 * slot));
    assert_eq!(waiting.len() as u64, bound);
    assert_eq!((waiting.first(), waiting.last()), (Some(&first), Some(&last)), "the latest");
}

/// From then on it does not vouch for its disk any more, whatever was written before.
#[test]
fn a_disk_is_waited_for_a_number_of_election_timeouts() {
    let patience = limits::DISK_SILENT_TIMEOUTS * limits::ELECTION_TIMEOUT;
    for (missing, expected) in [(1, true), (0, false)] {
        let mut alone = Alone::following(|_| {});
        alone.hear(2, accept(1, Value::Noop, 0));
        alone.persist();
        assert!(alone.hear(2, accept(2, Value::Noop, 0)).persist.is_some());
        alone.now = alone.now.after(patience - Duration::from_millis(missing));
        alone.step(Input::Persisted(WriteId(1)));
        let effects = alone.hear(2, heartbeat(0));
        let [Message::HeartbeatReply(reply)] = &sent_to(&effects, 2)[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(reply.can_write, expected);
    }
}

/// The disk hangs, and meanwhile everything is asked again and again, at ever higher ballots.
#[test]
fn what_waits_for_a_hanging_disk_waits_once() {
    let mut replica = follower();
    let mut issued = WriteId(0);
    let mut tell = |from, message| {
        let from = NodeId(from);
        let effects = replica.step(Instant::ZERO, Input::Message { from, message });
        issued = effects.persist.map_or(issued, |(id, _)| id);
        assert_eq!((&effects.send[..], &effects.broadcast[..]), (&[][..], &[][..]));
        replica.check_invariants();
        issued
    };
    let mut last = WriteId(0);
    for round in 1..=20 {
        let ballot = Ballot { round, node: NodeId(2) };
        for _ in 0..50 {
            tell(2, Message::Prepare(crate::message::Prepare { ballot, from: Slot(1) }));
            for slot in [1, 2] {
                let chosen = Watermark::default();
                let accept = Accept { ballot, slot: Slot(slot), value: Value::Noop, chosen };
                last = tell(2, Message::Accept(accept));
            }
        }
    }
    let effects = replica.step(Instant::ZERO, Input::Persisted(last));
    let ballot = Ballot { round: 20, node: NodeId(2) };
    let vote = Accepted { ballot, first: Slot(1), last: Slot(2) };
    let [(_, Message::Promise(promise)), (_, Message::Accepted(accepted))] = &effects.send[..]
    else {
        panic!("one promise and one vote: {:?}", effects.send)
    };
    assert_eq!((promise.ballot, accepted), (ballot, &vote));
}
