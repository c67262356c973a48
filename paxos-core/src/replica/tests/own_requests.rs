//! What a node takes of its own clients' commands, and how it sends them to the leader.

use super::{
    alone::{Alone, accepted, heartbeat, request, sent_to},
    *,
};

const HALF_WINDOW: u64 = limits::SESSION_WINDOW / 2;

/// A client of the embedder's.
const EMBEDDERS: u64 = 100;

/// Of each message to the leader: the lowest open sequence number, and those of its commands.
fn forwarded(effects: &Effects) -> Vec<(u64, Vec<u64>)> {
    let propose = |message| match message {
        Message::Propose(propose) => {
            let sequences = propose.commands.iter().map(|(sequence, _)| *sequence).collect();
            Some((propose.open_from, sequences))
        }
        _ => None,
    };
    sent_to(effects, 2).into_iter().filter_map(propose).collect()
}

/// How long somebody waits who does not wait for long.
const SHORT: Duration = Duration::from_millis(5);

/// Why a command is not taken, if it is not.
fn refusal(alone: &mut Alone, id: RequestId, size: usize) -> Option<Refusal> {
    alone.propose(id, size);
    refused(alone)
}

fn refused(alone: &mut Alone) -> Option<Refusal> {
    match alone.answers()[..] {
        [(_, Outcome::Refused(refusal))] => Some(refusal),
        [] => None,
        ref answers => panic!("{answers:?}"),
    }
}

/// The short time passes: whoever waits for this command is let go.
fn expire(alone: &mut Alone, id: RequestId) {
    alone.wait(SHORT * 2);
    assert_eq!(alone.answers(), [(id, Outcome::Unknown)]);
}

#[test]
fn a_command_may_be_as_large_as_the_limit() {
    let mut alone = Alone::following(|config| config.command_bytes_max = 10);
    assert_eq!(refusal(&mut alone, request(1, 1), 10), None);
    assert_eq!(refusal(&mut alone, request(1, 2), 11), Some(Refusal::TooLarge));
    assert_eq!(refusal(&mut alone, request(1, 3), 12), Some(Refusal::TooLarge));
}

#[test]
fn each_bound_on_what_waits_refuses_by_itself() {
    let mut alone = Alone::following(|config| config.outstanding_commands_max = 3);
    for (sequence, expected) in [(1, None), (2, None), (3, None), (4, Some(Refusal::Busy))] {
        assert_eq!(refusal(&mut alone, request(1, sequence), 1), expected);
    }

    let mut alone = Alone::following(|config| config.outstanding_bytes_max = 10);
    alone.propose_within(request(1, 1), 6, SHORT);
    assert_eq!(refusal(&mut alone, request(1, 2), 5), Some(Refusal::Busy));
    assert_eq!(refusal(&mut alone, request(1, 3), 8), Some(Refusal::Busy));
    assert_eq!(refusal(&mut alone, request(1, 4), 4), None);
    expire(&mut alone, request(1, 1));
    assert_eq!(refusal(&mut alone, request(1, 5), 7), Some(Refusal::Busy));
    assert_eq!(refusal(&mut alone, request(1, 6), 6), None, "what is given up makes room");

    let mut alone = Alone::following(|_| {});
    assert_eq!(refusal(&mut alone, request(1, 1), 1), None);
    assert_eq!(refusal(&mut alone, request(1, HALF_WINDOW), 1), None);
    let beyond = request(1, 1 + HALF_WINDOW);
    assert_eq!(refusal(&mut alone, beyond, 1), Some(Refusal::Busy));
    assert_eq!(refusal(&mut alone, request(EMBEDDERS, 1 + HALF_WINDOW), 1), None, "another");
}

/// Of an embedder's client it knows only what waits here.
#[test]
fn a_number_of_its_own_is_used_once() {
    for (name, expected) in [(1, Some(Refusal::IdUsed)), (EMBEDDERS, None)] {
        let mut alone = Alone::following(|_| {});
        alone.propose_within(request(name, 5), 1, SHORT);
        assert_eq!(refusal(&mut alone, request(name, 5), 1), Some(Refusal::IdUsed));
        expire(&mut alone, request(name, 5));
        assert_eq!(refusal(&mut alone, request(name, 5), 1), expected);
    }
}

/// What is below is settled everywhere, and would be refused for ever.
#[test]
fn the_lowest_number_that_may_still_want_a_result_is_told() {
    let mut alone = Alone::following(|_| {});
    alone.propose_within(request(1, 5), 1, SHORT);
    assert_eq!(forwarded(&alone.propose(request(1, 7), 1)), [(5, vec![7])], "5 waits");
    expire(&mut alone, request(1, 5));
    assert_eq!(forwarded(&alone.propose(request(1, 9), 1)), [(7, vec![9])]);

    let mut alone = Alone::following(|_| {});
    assert_eq!(forwarded(&alone.propose(request(EMBEDDERS, 5), 1)), [(1, vec![5])]);
    alone.wait(SECOND * 3601);
    assert_eq!(alone.answers(), [(request(EMBEDDERS, 5), Outcome::Unknown)]);
    alone.hear(2, heartbeat(0));
    let (sequence, open_from) = (HALF_WINDOW + 7000, 7000);
    let forwarded = forwarded(&alone.propose(request(EMBEDDERS, sequence), 1));
    assert_eq!(forwarded, [(open_from, vec![sequence])], "others may wait at other nodes");
}

#[test]
fn what_has_gathered_goes_to_a_new_leader_in_bounded_messages() {
    let gathered = |count: u64, size| {
        let mut alone = Alone::new(|config, _| config.page_bytes_max = 10);
        for sequence in 1..=count {
            alone.propose(request(1, sequence), size);
        }
        let messages = forwarded(&alone.hear(2, heartbeat(0)));
        messages.into_iter().map(|(_, sequences)| sequences.len()).collect::<Vec<_>>()
    };
    assert_eq!(gathered(5, 5), [2, 2, 1]);
    assert_eq!(gathered(4, 6), [2, 2], "the one that fills it is in");
    let records_max = limits::PAGE_RECORDS_MAX;
    assert_eq!(gathered(records_max as u64 + 1, 0), [records_max, 1]);
}

/// Of the node's own, whoever proposes need not count.
#[test]
fn a_command_without_a_name_gets_the_next_number() {
    let mut alone = Alone::following(|_| {});
    alone.propose(request(1, 4), 1);
    let command = Bytes::from("x");
    let (deadline, waiter) = (alone.now.after(SECOND), request(7, 7));
    let proposal = Proposal { id: None, command, deadline, waiter };
    assert_eq!(forwarded(&alone.step(Input::Propose(proposal))), [(4, vec![5])]);
    assert_eq!(alone.answers(), []);
}

/// A state machine that does not get on costs nobody more than the time they wait.
#[test]
fn a_deadline_holds_until_the_command_is_applied() {
    for is_applied in [true, false] {
        let (mut alone, ballot) = Alone::leading(|_| {});
        alone.propose_within(request(1, 1), 1, SHORT);
        let effects = alone.hear(2, accepted(ballot, 1));
        assert_eq!(effects.tasks, []);
        let effects = alone.hear(3, accepted(ballot, 1));
        assert_eq!(effects.tasks.len(), 1);
        assert_eq!(alone.answers(), [], "delivered is not applied");
        let applied = Input::Applied { slot: Slot(1), durable: None };
        let outcome = if is_applied {
            alone.step(applied);
            Outcome::Applied { slot: Slot(1), index: 0 }
        } else {
            alone.wait(SHORT * 2);
            Outcome::Unknown
        };
        assert_eq!(alone.answers(), [(request(1, 1), outcome)]);
        alone.wait(SHORT * 2);
        alone.step(Input::Applied { slot: Slot(1), durable: None });
        assert_eq!(alone.answers(), [], "each is answered once");
    }
}

#[test]
fn commands_without_an_answer_are_bounded_while_the_state_machine_stands_still() {
    let (mut alone, ballot) = Alone::leading(|config| config.outstanding_commands_max = 3);
    for number in 1..=3 {
        alone.propose(request(1, number), 1);
        alone.hear(2, accepted(ballot, number));
        alone.hear(3, accepted(ballot, number));
    }
    assert_eq!(refusal(&mut alone, request(1, 4), 1), Some(Refusal::Busy));
    alone.step(Input::Applied { slot: Slot(1), durable: None });
    assert_eq!(alone.answers().len(), 1);
    assert_eq!(refusal(&mut alone, request(1, 4), 1), None);
}

/// A lost message takes up the places of all that is answered after it: it goes again long before others are refused
/// for that.
#[test]
fn what_is_lost_among_many_that_have_answers_goes_again_soon() {
    let soon = Config::new(NodeId(1), Membership::new([(1, "")]).expect("one")).heartbeat_interval;
    for (others, goes_soon) in [(limits::SPREAD_WITH_GAPS as u64, true), (100, false)] {
        let mut alone = Alone::following(|_| {});
        alone.propose(request(1, 1), 1);
        (2..2 + others).for_each(|number| alone.propose_within(request(1, number), 1, SHORT));
        alone.wait(SHORT * 2);
        assert_eq!(alone.answers().len() as u64, others);
        alone.now = alone.now.after(soon);
        let again = forwarded(&alone.hear(2, heartbeat(0)));
        assert_eq!(again, if goes_soon { vec![(1, vec![1])] } else { Vec::new() });
    }
}

/// Whoever still waits, and what is delivered, stays.
#[test]
fn those_that_nobody_waits_for_give_their_places_back() {
    let (mut alone, ballot) = Alone::leading(|config| config.outstanding_commands_max = 4);
    alone.propose(request(1, 1), 1);
    alone.hear(2, accepted(ballot, 1));
    alone.hear(3, accepted(ballot, 1));
    alone.propose(request(1, 2), 1);
    assert!(!alone.replica.is_crowded());
    alone.propose(request(1, 3), 1);
    alone.propose(request(EMBEDDERS, 1), 1);
    assert!(alone.replica.is_crowded());
    assert_eq!(refusal(&mut alone, request(1, 4), 1), Some(Refusal::Busy));
    alone.replica.let_go(|waiter| *waiter != request(1, 3));
    assert_eq!(alone.replica.status(alone.now).outstanding, 2);
    for (number, expected) in [(4, None), (5, None), (6, Some(Refusal::Busy))] {
        assert_eq!(refusal(&mut alone, request(1, number), 1), expected);
    }
    alone.step(Input::Applied { slot: Slot(1), durable: None });
    let applied = Outcome::Applied { slot: Slot(1), index: 0 };
    assert_eq!(alone.answers(), [(request(1, 1), applied)]);
}
