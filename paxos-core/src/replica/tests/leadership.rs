//! What a leader proposes and sends again, and what makes it stay or step down.

use super::{
    alone::{Alone, accepted, heartbeat_reply, poll_reply, promise, request, sent_to, value},
    *,
};
use crate::message::{HeartbeatReply, Propose, Pulled, Reject};

const MILLISECOND: Duration = Duration::from_millis(1);

/// The slots of the Accepts among `effects` that go to `to`.
fn proposed(effects: &Effects, to: u64) -> Vec<u64> {
    let accept = |message| match message {
        Message::Accept(accept) => Some(accept.slot.0),
        _ => None,
    };
    sent_to(effects, to).into_iter().filter_map(accept).collect()
}

fn command(alone: &mut Alone, sequence: u64) -> Vec<u64> {
    proposed(&alone.propose(request(1, sequence), 1), 2)
}

#[test]
fn the_more_slots_are_undecided_the_more_commands_make_a_batch() {
    let (mut alone, _) = Alone::leading(|_| {});
    assert_eq!(command(&mut alone, 1), [1]);
    assert_eq!(command(&mut alone, 2), [2]);
    assert_eq!(command(&mut alone, 3), [], "two slots are undecided");
    assert_eq!(command(&mut alone, 4), [3]);
    let (mut alone, _) = Alone::leading(|config| config.batch_commands_max = 1);
    for sequence in 1..=4 {
        assert_eq!(command(&mut alone, sequence), [sequence], "a full batch waits for nothing");
    }
}

/// Slot 3 is chosen, so the Accepts or votes of slots 1 and 2 have probably been lost.
#[test]
fn a_command_waits_for_no_slot_that_another_has_overtaken() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    assert_eq!(command(&mut alone, 1), [1]);
    assert_eq!(command(&mut alone, 2), [2]);
    assert_eq!(command(&mut alone, 3), []);
    assert_eq!(command(&mut alone, 4), [3]);
    alone.hear(2, accepted(ballot, 3));
    assert_eq!(proposed(&alone.persist(), 2), [0; 0]);
    assert_eq!(command(&mut alone, 5), [4]);
    assert_eq!(command(&mut alone, 6), [5], "as if slot 4 were the only one");
    assert_eq!(command(&mut alone, 7), []);
}

#[test]
fn a_command_waits_for_no_slot_that_had_to_be_sent_again() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    assert_eq!(command(&mut alone, 1), [1]);
    assert_eq!(command(&mut alone, 2), [2]);
    assert_eq!(command(&mut alone, 3), []);
    alone.wait(100 * MILLISECOND);
    let effects = alone.hear(2, heartbeat_reply(ballot, 2, 0));
    assert_eq!(proposed(&effects, 2), [1, 2, 3], "what it lacks, and the command that waited");
}

/// However far the state machines lag: what is sent again for want of an answer would otherwise make
/// the log grow faster than they apply it.
#[test]
fn what_is_chosen_and_not_delivered_gets_no_second_slot() {
    let (mut alone, ballot) = Alone::leading(|config| config.delivery_bytes_max = 1);
    let propose = |sequence| {
        let client = request(2, sequence).client;
        let commands = vec![(sequence, Bytes::from("command"))];
        Message::Propose(Propose { client, open_from: 1, commands, hops: 0 })
    };
    let mut delivered = Vec::new();
    for sequence in [1, 2] {
        assert_eq!(proposed(&alone.hear(2, propose(sequence)), 2), [sequence]);
        let mut effects = alone.persist();
        delivered.append(&mut deliveries(&mut effects));
        delivered.append(&mut deliveries(&mut alone.hear(2, accepted(ballot, sequence))));
    }
    let slots = |delivered: &[Delivery]| delivered.iter().map(|d| d.slot.0).collect::<Vec<_>>();
    assert_eq!(slots(&delivered), [1], "the state machine is still busy with it");
    assert_eq!(alone.replica.status(alone.now).chosen, Slot(2));
    assert_eq!(proposed(&alone.hear(2, propose(2)), 2), [0; 0]);
    let mut applied = alone.step(Input::Applied { slot: Slot(1), durable: None });
    assert_eq!(slots(&deliveries(&mut applied)), [2]);
    assert_eq!(proposed(&alone.hear(2, propose(2)), 2), [0; 0], "it has had its effect");
}

/// It may overshoot by one value, so that the largest gets its slot.
#[test]
fn the_window_counts_bytes_too() {
    let size = value(1, 100).encoded_len();
    for (bytes_max, slots) in [(1, 1), (size, 1), (size + 1, 2), (3 * size, 3)] {
        let (mut alone, ballot) = Alone::leading(|config| {
            config.window_bytes_max = bytes_max;
            config.batch_commands_max = 1;
        });
        let mut proposed_so_far = Vec::new();
        for sequence in 1..=5 {
            let effects = alone.propose(request(2, sequence), 100);
            proposed_so_far.extend(proposed(&effects, 2));
        }
        assert_eq!(proposed_so_far, (1..=slots).collect::<Vec<_>>(), "{bytes_max}");
        alone.persist();
        let effects = alone.hear(2, accepted(ballot, 1));
        assert_eq!(proposed(&effects, 2), [slots + 1], "{bytes_max}");
    }
}

/// Of its own promise and another's, the value of the higher ballot is proposed.
#[test]
fn the_value_of_the_highest_ballot_reported_is_proposed() {
    for (own, other, expected) in [(1, 2, 20), (2, 1, 10), (1, 1, 10)] {
        let record = |round, size| {
            let ballot = Ballot { round, node: NodeId(3) };
            Record { slot: Slot(1), ballot, value: value(1, size) }
        };
        let mut alone = Alone::new(|_, recovered| {
            recovered.promised = Ballot { round: 2, node: NodeId(3) };
            recovered.records = vec![record(own, 10)];
        });
        let ballot = alone.prepare();
        let other = if own == other { record(other, 10) } else { record(other, 20) };
        let effects = alone.hear(2, promise(ballot, vec![other]));
        let proposed = sent_to(&effects, 3).into_iter().find_map(|message| match message {
            Message::Accept(accept) => Some(accept.value),
            _ => None,
        });
        assert_eq!(proposed, Some(value(1, expected)));
    }
}

/// A read that arrives before what phase 1 reported is chosen has to see it.
#[test]
fn a_read_waits_for_what_earlier_leaders_may_have_acknowledged() {
    let mut alone = Alone::new(|_, _| {});
    let ballot = alone.prepare();
    let vote = Ballot { round: 0, node: NodeId(3) };
    let record = Record { slot: Slot(1), ballot: vote, value: value(1, 10) };
    alone.hear(2, promise(ballot, vec![record]));
    alone.step(quorum_read(7));
    alone.hear(2, heartbeat_reply(ballot, 1, 0));
    let ready = |effects: Effects| effects.reads_ready;
    assert_eq!(ready(alone.hear(2, heartbeat_reply(ballot, 2, 0))), [0; 0], "slot 1 is not chosen");
    alone.persist();
    assert_eq!(ready(alone.hear(2, accepted(ballot, 1))), [7]);
}

#[test]
fn what_is_overdue_is_sent_again_to_those_who_have_not_voted() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    alone.wait(200 * MILLISECOND);
    alone.hear(2, heartbeat_reply(ballot, 1, 0));
    assert_eq!(command(&mut alone, 1), [1]);
    alone.hear(2, accepted(ballot, 1));
    for (time, expected) in [(100, vec![]), (200, vec![]), (100, vec![1]), (100, vec![])] {
        let effects = alone.wait(time * MILLISECOND);
        assert_eq!(proposed(&effects, 3), expected, "{:?}", alone.now);
        assert_eq!(proposed(&effects, 2), [0; 0], "node 2 has voted");
    }
}

#[test]
fn a_peer_that_has_missed_a_proposal_gets_it_at_once() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    assert_eq!(command(&mut alone, 1), [1]);
    let resent = |alone: &mut Alone, round, highest| {
        proposed(&alone.hear(2, heartbeat_reply(ballot, round, highest)), 2)
    };
    assert_eq!(resent(&mut alone, 1, 0), [], "it was sent after the first round");
    alone.wait(100 * MILLISECOND);
    alone.wait(100 * MILLISECOND);
    assert_eq!(resent(&mut alone, 2, 1), [], "it has it");
    assert_eq!(resent(&mut alone, 2, 0), [1], "it has answered the second round without it");
    assert_eq!(resent(&mut alone, 4, 0), [], "there is no such round");
}

/// However many rounds of reads show the same.
#[test]
fn what_a_peer_lacks_is_sent_again_once_in_a_retransmit_timeout() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    alone.hear(2, heartbeat_reply(ballot, 1, 0));
    assert_eq!(command(&mut alone, 1), [1]);
    let mut sent_at = Vec::new();
    let (began, mut rounds) = (alone.now, 0);
    for number in 1..=65 {
        let mut sent = alone.wait(10 * MILLISECOND).send;
        sent.extend(alone.step(quorum_read(number)).send);
        let begun = sent.iter().filter_map(|(_, message)| match message {
            Message::Heartbeat(heartbeat) => Some(heartbeat.round),
            _ => None,
        });
        for round in begun.collect::<BTreeSet<_>>() {
            rounds += 1;
            sent.extend(alone.hear(2, heartbeat_reply(ballot, round, 0)).send);
        }
        let is_accept = |(to, message): &&(NodeId, Message)| {
            *to == NodeId(2) && matches!(message, Message::Accept(_))
        };
        let accepts = sent.iter().filter(is_accept);
        sent_at.extend(accepts.map(|_| alone.now.since(began).as_millis()));
    }
    assert!(rounds > 60, "each read begins a round");
    assert_eq!(sent_at, [10, 300, 600]);
}

/// A value that it proposed itself is no sign of another leader.
#[test]
fn a_leader_that_learns_another_value_than_its_own_steps_down() {
    for (size, role) in [(1, Role::Leading), (2, Role::Follower)] {
        let (mut alone, _) = Alone::leading(|_| {});
        let own = alone.propose(request(1, 1), 1);
        let [Message::Accept(accept), ..] = &sent_to(&own, 2)[..] else { panic!("{own:?}") };
        let own = accept.value.clone();
        let value = if size == 1 { own } else { value(1, size) };
        let values = vec![(Slot(1), value)];
        let pulled = Pulled { number: 0, values, chosen: Slot(1), floor: Slot::ZERO };
        alone.hear(2, Message::Pulled(pulled));
        assert_eq!(alone.role(), role);
    }
}

/// Only a promise above what was refused says anything.
#[test]
fn a_refusal_that_makes_no_sense_fells_no_leader() {
    let at = |round| Ballot { round, node: NodeId(3) };
    for (ballot, promised, role) in [
        (at(9), at(9), Role::Leading),
        (at(9), at(8), Role::Leading),
        (at(1), at(9), Role::Follower),
    ] {
        let (mut alone, _) = Alone::leading(|_| {});
        alone.hear(3, Message::Reject(Reject { ballot, promised }));
        assert_eq!(alone.role(), role, "{ballot} refused for {promised}");
    }
}

#[test]
fn votes_show_that_a_follower_is_there() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    for time in [500, 499, 2] {
        alone.wait(time * MILLISECOND);
        assert_eq!(alone.role(), Role::Leading);
        alone.hear(2, accepted(ballot, 1));
    }
    let silent: Vec<_> = alone.replica.status(alone.now).peers;
    let silent: Vec<_> = silent.iter().map(|peer| (peer.id.0, peer.silent_for)).collect();
    assert_eq!(silent, [(2, Duration::ZERO), (3, 1001 * MILLISECOND)]);
    alone.wait(999 * MILLISECOND);
    let earlier = Ballot { round: 0, ..ballot };
    alone.hear(2, accepted(earlier, 1));
    alone.wait(MILLISECOND);
    assert_ne!(alone.role(), Role::Leading, "a vote for an earlier leadership shows nothing");
}

/// It wakes for it, between two heartbeats.
#[test]
fn a_leader_that_hears_nobody_steps_down_on_time() {
    let timeout = 350 * MILLISECOND;
    let (mut alone, _) = Alone::leading(|config| config.election_timeout = timeout);
    let since = alone.now;
    while alone.role() == Role::Leading {
        alone.wait(alone.deadline());
    }
    assert_eq!(alone.now.since(since), timeout);
}

#[test]
fn a_leader_wakes_to_send_again_what_is_undecided() {
    let (mut alone, _) = Alone::leading(|config| config.retransmit_timeout = 50 * MILLISECOND);
    assert_eq!(alone.deadline(), 100 * MILLISECOND, "the next heartbeat");
    command(&mut alone, 1);
    assert_eq!(alone.deadline(), 50 * MILLISECOND);
}

fn reply(ballot: Ballot, can_write: bool) -> Message {
    reply_in_round(ballot, 1, can_write)
}

fn reply_in_round(ballot: Ballot, round: u64, can_write: bool) -> Message {
    let Message::HeartbeatReply(reply) = heartbeat_reply(ballot, round, 0) else { unreachable!() };
    Message::HeartbeatReply(HeartbeatReply { can_write, ..reply })
}

/// Node 2 cannot write; whether node 3 can counts for as long as it is heard.
#[test]
fn a_follower_that_falls_silent_is_not_counted_among_those_that_can_write() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    alone.hear(3, reply(ballot, true));
    let heard = alone.now;
    while alone.role() == Role::Leading {
        alone.hear(2, reply(ballot, false));
        alone.wait(100 * MILLISECOND);
    }
    assert_eq!(alone.now.since(heard), limits::ELECTION_TIMEOUT);
}

/// Node 3 is silent, so that the leader needs node 2.
#[test]
fn that_a_follower_could_not_write_long_ago_does_not_count() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    for round in 2..20 {
        alone.wait(100 * MILLISECOND);
        alone.hear(2, reply_in_round(ballot, round, true));
        alone.hear(2, reply_in_round(ballot, round - 1, false));
        assert_eq!(alone.role(), Role::Leading, "in round {round}");
    }
}

/// Of four, two cannot write, so no others could lead, and the leader stays for the sake of reads:
/// until it cannot confirm those either.
#[test]
fn a_leader_that_hears_no_quorum_steps_down_although_nobody_could_lead() {
    let four = Membership::new((1..=4).map(|id| (id, ""))).expect("four");
    let mut alone = Alone::new(|config, _| config.membership = four);
    let poll = alone.poll();
    alone.hear(3, poll_reply(&poll, true, None));
    let ballot = alone.granted(&poll);
    alone.hear(2, promise(ballot, vec![]));
    alone.hear(3, promise(ballot, vec![]));
    command(&mut alone, 1);
    let began = alone.now;
    let patience = limits::DISK_SILENT_TIMEOUTS * limits::ELECTION_TIMEOUT;
    while alone.now < began.after(2 * patience) {
        let is_hanging = alone.now >= began.after(patience);
        alone.hear(3, reply(ballot, true));
        alone.hear(4, reply(ballot, true));
        alone.hear(2, reply(ballot, !is_hanging));
        alone.wait(100 * MILLISECOND);
        assert_eq!(alone.role(), Role::Leading);
    }
    for _ in 0..10 {
        alone.hear(2, reply(ballot, false));
        alone.wait(100 * MILLISECOND);
    }
    assert_eq!(alone.role(), Role::Follower);
}
