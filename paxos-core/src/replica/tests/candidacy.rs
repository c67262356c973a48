//! Polls and candidacies that do not go as usual.

use super::{
    alone::{Alone, ballot, heartbeat, poll_reply, prepares, promise, request, sent_to},
    *,
};
use crate::message::{ChosenUpTo, Poll, Prepare, Pull, Reject};

#[test]
fn a_candidate_asks_those_again_that_do_not_answer() {
    let mut alone = Alone::new(|_, _| {});
    alone.prepare();
    let timeout = limits::RETRANSMIT_TIMEOUT;
    assert_eq!(alone.deadline(), timeout);
    assert_eq!(prepares(&alone.wait(timeout - Duration::from_millis(1))), []);
    assert_eq!(prepares(&alone.wait(Duration::from_millis(1))), [(2, 1), (3, 1)]);
    assert_eq!(alone.deadline(), timeout);
    let patience = limits::CANDIDACY_TIMEOUTS * limits::ELECTION_TIMEOUT;
    while alone.now < Instant::ZERO.after(patience) {
        assert_eq!(alone.role(), Role::Preparing);
        alone.wait(alone.deadline());
    }
    while alone.role() == Role::Preparing {
        assert!(alone.now < Instant::ZERO.after(patience + SECOND), "then it gives up");
        alone.wait(alone.deadline());
    }
}

/// Each that fails doubles what the next one is given: disks may be slower than any that it is made for.
#[test]
fn a_candidate_is_given_more_time_each_time_that_it_has_failed() {
    let mut alone = Alone::new(|_, _| {});
    let patience = limits::CANDIDACY_TIMEOUTS * limits::ELECTION_TIMEOUT;
    for doublings in [0, 1, 2, 3, 3] {
        alone.prepare();
        let began = alone.now;
        while alone.role() == Role::Preparing {
            alone.wait(alone.deadline());
        }
        assert_eq!(alone.now.since(began), patience * (1 << doublings));
        let pause = limits::ELECTION_TIMEOUT / 4 * (1 << doublings);
        assert!((pause..=3 * pause).contains(&alone.deadline()) || doublings == 3);
    }
}

fn polled(alone: &mut Alone, from: u64) -> bool {
    let effects =
        alone.hear(from, Message::Poll(Poll { number: 1, chosen: Slot::ZERO, leave: None }));
    let [Message::PollReply(reply)] = &sent_to(&effects, from)[..] else { panic!("{effects:?}") };
    reply.granted
}

fn prepare(ballot: Ballot, from: u64) -> Message {
    Message::Prepare(Prepare { ballot, from: Slot(from) })
}

#[test]
fn a_candidate_is_given_the_time_to_have_its_promise_written_and_received() {
    let timeout = limits::ELECTION_TIMEOUT;
    let mut alone = Alone::new(|_, _| {});
    alone.hear(2, prepare(ballot(1), 1));
    alone.wait(timeout + timeout / 2);
    assert!(!polled(&mut alone, 3) && !polled(&mut alone, 2), "the promise is being written");
    assert_eq!(alone.role(), Role::Follower, "nor does it poll itself");
    alone.persist();
    alone.wait(timeout - Duration::from_millis(1));
    assert!(!polled(&mut alone, 3), "the promise is on its way");
    assert!(polled(&mut alone, 2), "the candidate has given up");
    assert_eq!(alone.role(), Role::Follower);
    alone.wait(Duration::from_millis(1));
    assert!(polled(&mut alone, 3), "it may have died");
    alone.wait(timeout / 2);
    assert_eq!(alone.role(), Role::Polling);
}

#[test]
fn a_candidate_that_asks_for_the_next_page_is_given_as_much_time_again() {
    let mut alone = Alone::new(|_, _| {});
    for page in 1..=9 {
        alone.hear(2, prepare(ballot(1), page));
        alone.persist();
        alone.wait(limits::ELECTION_TIMEOUT - Duration::from_millis(1));
        assert!(!polled(&mut alone, 3), "page {page}");
        assert_eq!(alone.role(), Role::Follower, "page {page}");
        alone.hear(2, prepare(ballot(1), page));
    }
    alone.wait(Duration::from_millis(1));
    assert!(polled(&mut alone, 3), "what it asks for again is nothing new");
}

/// Through its peers it may find a leader that it does not hear.
#[test]
fn a_node_whose_disk_hangs_over_a_promise_polls_all_the_same() {
    let mut alone = Alone::new(|_, _| {});
    alone.hear(2, prepare(ballot(1), 1));
    let hanging = limits::DISK_SILENT_TIMEOUTS * limits::ELECTION_TIMEOUT;
    while alone.role() == Role::Follower {
        assert!(alone.now <= Instant::ZERO.after(2 * hanging));
        alone.wait(alone.deadline());
    }
    assert!(alone.now >= Instant::ZERO.after(hanging));
}

/// Its Prepare would only depose whoever has been elected meanwhile.
#[test]
fn a_candidate_that_gave_up_before_its_disk_was_done_asks_nobody() {
    let mut alone = Alone::new(|_, _| {});
    let poll = alone.poll();
    alone.hear(2, poll_reply(&poll, true, None));
    while alone.role() == Role::Preparing {
        alone.wait(alone.deadline());
    }
    assert_eq!(prepares(&alone.persist()), []);
}

/// Counting one would mean to trust what cannot be right.
#[test]
fn a_promise_that_repeats_a_slot_or_a_page_is_no_promise() {
    let mut alone = Alone::new(|_, _| {});
    let ballot = alone.prepare();
    let vote = Ballot { round: 0, node: NodeId(3) };
    let record = Record { slot: Slot(1), ballot: vote, value: Value::Noop };
    let effects = alone.hear(2, promise(ballot, vec![record.clone(), record.clone()]));
    assert_eq!((effects.send, alone.role()), (vec![], Role::Preparing));
    let Message::Promise(page) = promise(ballot, vec![record]) else { unreachable!() };
    let page = Promise { next: Some(Slot(1)), ..page };
    let effects = alone.hear(2, Message::Promise(page));
    assert_eq!((effects.send, alone.role()), (vec![], Role::Preparing));
}

/// Then it catches up first, with the one that it lacks something of.
#[test]
fn a_candidate_behind_a_floor_pulls_what_is_above() {
    let mut alone = Alone::new(|_, _| {});
    let ballot = alone.prepare();
    let Message::Promise(promise) = promise(ballot, vec![]) else { unreachable!() };
    let promise = Promise { chosen: Slot(9), floor: Slot(5), ..promise };
    alone.hear(2, Message::Promise(promise));
    assert_eq!(alone.role(), Role::Follower);
    let effects = alone.wait(limits::GAP_PATIENCE);
    let [Message::Pull(Pull { from: Slot(1), to: Slot(9), .. })] = sent_to(&effects, 2)[..] else {
        panic!("{effects:?}")
    };
}

/// The record of a chosen slot may have left memory by the time that another reports it.
#[test]
fn a_chosen_slot_reported_twice_is_recorded_once() {
    let mut alone = Alone::new(|config, _| config.cache_bytes_max = 1);
    let ballot = alone.prepare();
    let record =
        Record { slot: Slot(1), ballot: Ballot::CHOSEN, value: super::alone::value(1, 10) };
    let Message::Promise(page) = promise(ballot, vec![record]) else { unreachable!() };
    let page = Promise { chosen: Slot(1), ..page };
    let first = Promise { next: Some(Slot(2)), ..page.clone() };
    assert!(alone.hear(2, Message::Promise(first)).persist.is_some());
    alone.persist();
    let effects = alone.hear(3, Message::Promise(page));
    assert_eq!((effects.persist, alone.role()), (None, Role::Leading));
}

/// Somebody it could reach heard a leader when it polled. It has led itself since, so that says
/// nothing any more.
#[test]
fn a_deposed_leader_knows_no_leader() {
    let mut alone = Alone::new(|_, _| {});
    let poll = alone.poll();
    alone.hear(3, poll_reply(&poll, false, Some(ballot(1))));
    let own = alone.granted(&poll);
    alone.hear(2, promise(own, vec![]));
    assert_eq!(alone.role(), Role::Leading);
    let promised = own.next_of(NodeId(3));
    alone.hear(3, Message::Reject(Reject { ballot: own, promised }));
    assert_eq!(alone.role(), Role::Follower);
    let effects = alone.propose(request(1, 1), 1);
    assert_eq!(effects.send, [], "it waits until it hears of one");
}

#[test]
fn a_poll_is_granted_once_the_leader_is_silent_for_the_election_timeout() {
    for (missing, expected) in [(1, false), (0, true)] {
        let mut alone = Alone::following(|_| {});
        alone.now = alone.now.after(limits::ELECTION_TIMEOUT - Duration::from_millis(missing));
        let effects =
            alone.hear(3, Message::Poll(Poll { number: 1, chosen: Slot::ZERO, leave: None }));
        let [Message::PollReply(reply)] = &sent_to(&effects, 3)[..] else { panic!("{effects:?}") };
        assert_eq!(reply.granted, expected);
    }
}

/// Whoever took it over would leave no ballot above it for anybody.
const OUT_OF_REACH: Ballot = Ballot { round: u64::MAX - 1, node: NodeId(2) };

#[test]
fn a_poll_is_not_answered_by_what_cannot_be() {
    let mut alone = Alone::new(|_, _| {});
    let poll = alone.poll();
    let Message::PollReply(reply) = poll_reply(&poll, true, None) else { unreachable!() };
    for reply in [
        PollReply { promised: OUT_OF_REACH, ..reply.clone() },
        PollReply { leader: Some(OUT_OF_REACH), ..reply },
    ] {
        alone.hear(2, Message::PollReply(reply));
        assert_eq!(alone.role(), Role::Polling);
    }
}

#[test]
fn neither_a_leader_nor_a_candidate_is_believed_what_cannot_be() {
    let prepare = |ballot, from| Message::Prepare(Prepare { ballot, from: Slot(from) });
    let of_node_3 = Ballot { round: 9, node: NodeId(3) };
    let heartbeat_at =
        |ballot| Message::Heartbeat(Heartbeat { ballot, round: 1, chosen: Watermark::default() });
    let accept_at = |ballot, slot| {
        let (slot, value, chosen) = (Slot(slot), Value::Noop, Watermark::default());
        Message::Accept(Accept { ballot, slot, value, chosen })
    };
    let chosen = ChosenUpTo { ballot: OUT_OF_REACH, chosen: Watermark::default() };
    for message in [
        prepare(ballot(9), 0),
        prepare(Ballot::ZERO, 1),
        heartbeat_at(of_node_3),
        heartbeat_at(OUT_OF_REACH),
        accept_at(ballot(1), 0),
        accept_at(OUT_OF_REACH, 1),
        Message::Chosen(chosen),
    ] {
        let mut alone = Alone::new(|_, _| {});
        let effects = alone.hear(2, message.clone());
        assert_eq!((effects.send, effects.persist), (vec![], None), "{message:?}");
        assert_eq!(alone.replica.status(alone.now).leader, None, "{message:?}");
    }
}

#[test]
fn a_node_with_a_full_disk_promises_and_accepts_nothing() {
    for message in [
        Message::Prepare(Prepare { ballot: ballot(1), from: Slot(1) }),
        super::alone::accept(1, Value::Noop, 0),
    ] {
        let mut alone = Alone::new(|_, _| {});
        alone.step(Input::DiskFull(true));
        assert_eq!(alone.hear(2, message.clone()).persist, None, "{message:?}");
        alone.step(Input::DiskFull(false));
        assert!(alone.hear(2, message).persist.is_some());
    }
}

#[test]
fn a_follower_hears_its_leader_again_after_all() {
    let mut alone = Alone::following(|_| {});
    alone.wait(2 * limits::ELECTION_TIMEOUT);
    assert_eq!(alone.role(), Role::Polling);
    alone.hear(2, heartbeat(0));
    assert_eq!(alone.role(), Role::Follower);
}

/// What a quorum of promises reports contradicts what a leader has told: somebody's log is damaged.
#[test]
fn a_candidate_that_finds_damage_halts_and_does_nothing_else() {
    let mut replica = follower();
    let hear = |replica: &mut Replica, now, from, message| {
        replica.step(now, Input::Message { from: NodeId(from), message })
    };
    let ballot = Ballot { round: 1, node: NodeId(2) };
    let chosen = Watermark { slot: Slot(1), hash: 42 };
    let heartbeat = Message::Heartbeat(Heartbeat { ballot, round: 1, chosen });
    hear(&mut replica, Instant::ZERO, 2, heartbeat);
    let now = Instant::ZERO.after(2 * SECOND);
    let effects = replica.step(now, Input::Tick);
    let poll = effects.broadcast.iter().find_map(|message| match message {
        Message::Poll(poll) => Some(poll.number),
        _ => None,
    });
    let granted = PollReply {
        number: poll.expect("it polls"),
        granted: true,
        promised: ballot,
        leader: None,
        chosen: Slot(1),
    };
    let effects = hear(&mut replica, now, 3, Message::PollReply(granted));
    let (id, batch) = effects.persist.expect("its own promise");
    let ballot = batch.promised.expect("its own ballot");
    replica.step(now, Input::Persisted(id));
    let record = Record { slot: Slot(1), ballot: Ballot::CHOSEN, value: Value::Noop };
    let promise = Promise {
        ballot,
        from: Slot(1),
        records: vec![record],
        next: None,
        chosen: Slot(1),
        floor: Slot::ZERO,
    };
    let effects = hear(&mut replica, now, 3, Message::Promise(promise));
    assert_eq!(effects.halt, None, "nobody knows yet who is right");
    let asks = |message: &Message| matches!(message, Message::Compare(_));
    assert!(effects.broadcast.iter().any(asks), "{effects:?}");
}

#[test]
fn a_node_with_a_full_disk_does_not_try_to_lead() {
    let mut replica = follower();
    replica.step(Instant::ZERO, Input::DiskFull(true));
    assert_eq!(replica.next_deadline(), None);
    let now = Instant::ZERO.after(9 * SECOND);
    assert_eq!(replica.step(now, Input::Tick).broadcast, []);
    assert!(replica.status(now).is_disk_full);
    let effects = replica.step(now, Input::DiskFull(false));
    assert!(!replica.status(now).is_disk_full);
    assert!(matches!(effects.broadcast[..], [Message::Poll(_)]), "{effects:?}");
}
