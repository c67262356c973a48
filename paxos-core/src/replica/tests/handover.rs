//! The leadership goes to another node, on request: when, to whom, and what becomes of what waits meanwhile.

use super::{
    alone::{Alone, accepted, heartbeat_reply, request, sent_to},
    *,
};
use crate::{
    message::{HeartbeatReply, Poll, Prepare, Sound, Sounded, TakeOver},
    replica::TransferRefusal,
    types::{Change, MemberRole},
};

const MILLISECOND: Duration = Duration::from_millis(1);

impl Cluster {
    fn transfer(&mut self, node: u64, to: impl Into<Option<u64>>) {
        let (number, to) = (self.transfers.len() as u64, to.into().map(NodeId));
        let deadline = self.now.after(4 * SECOND);
        self.step(node, Input::Transfer { number, to, deadline });
    }

    fn outcome(&self) -> TransferOutcome {
        self.transfers.last().expect("it has come to an end").1
    }
}

/// A cluster that follows the first of the nodes returned, and the others.
fn led(size: u64) -> (Cluster, u64, Vec<u64>) {
    let mut cluster = Cluster::new(size);
    cluster.run(2 * SECOND);
    let leader = cluster.leaders()[0];
    (cluster, leader, (1..=size).filter(|&node| node != leader).collect())
}

#[test]
fn the_node_that_is_named_leads_and_what_waited_is_done_at_once() {
    for size in [2, 3, 5] {
        let (mut cluster, leader, others) = led(size);
        let to = others[others.len() - 1];
        cluster.transfer(leader, to);
        for node in 1..=size {
            cluster.propose(node, 1, "a");
        }
        let began = cluster.now;
        cluster.settle();
        assert_eq!((cluster.leaders(), cluster.now), (vec![to], began), "no time has passed");
        assert!(matches!(cluster.outcome(), Ok(ballot) if ballot.node == NodeId(to)));
        for node in 1..=size {
            assert_eq!(cluster.applied(node).len() as u64, size, "node {node} of {size}");
        }
        cluster.run(10 * SECOND);
        assert_eq!(cluster.leaders(), [to]);
    }
}

#[test]
fn whoever_is_best_leads_if_nobody_is_named() {
    let (mut cluster, leader, others) = led(3);
    cluster.cut_link(leader, others[0]);
    cluster.propose(leader, 1, "a");
    cluster.run(SECOND / 2);
    cluster.transfer(leader, None);
    cluster.settle();
    assert_eq!(cluster.leaders(), [others[1]]);
}

#[test]
fn whoever_could_not_lead_is_refused_with_a_reason() {
    let (mut cluster, leader, others) = led(7);
    cluster.transfer(leader, 9);
    assert_eq!(cluster.outcome(), Err(TransferRefusal::NotAMember(NodeId(9))));
    cluster.transfer(others[0], others[1]);
    let leads = Some(NodeId(leader));
    assert_eq!(cluster.outcome(), Err(TransferRefusal::NotLeading { leader: leads }));
    cluster.transfer(leader, leader);
    assert!(matches!(cluster.outcome(), Ok(ballot) if ballot.node == NodeId(leader)));
    let (role, deadline) = (MemberRole::Learner, cluster.now.after(SECOND));
    let change = Change::Role { node: NodeId(others[5]), role };
    cluster.step(leader, Input::Change { number: 1, change, deadline });
    cluster.cut_link(leader, others[0]);
    cluster.hanging.insert(NodeId(others[1]));
    cluster.propose(leader, 1, "a");
    cluster.run(3 * SECOND);
    for (node, refusal) in [
        (others[5], TransferRefusal::NotAVoter(NodeId(others[5]))),
        (others[0], TransferRefusal::Silent(NodeId(others[0]))),
        (others[1], TransferRefusal::CannotWrite(NodeId(others[1]))),
    ] {
        cluster.transfer(leader, node);
        assert_eq!(cluster.outcome(), Err(refusal));
    }
    assert_eq!(cluster.leaders(), [leader]);
}

/// It would be elected by nobody: what its leader proposes meanwhile is chosen as ever.
#[test]
fn a_node_that_reaches_too_few_others_does_not_disturb_its_leader() {
    let (mut cluster, leader, others) = led(5);
    for &other in &others[1..] {
        cluster.cut_link(others[0], other);
    }
    cluster.sent.clear();
    cluster.transfer(leader, others[0]);
    cluster.propose(leader, 1, "a");
    cluster.settle();
    assert_eq!(cluster.applied(leader), ["a"]);
    cluster.run(2 * SECOND);
    assert_eq!(cluster.outcome(), Err(TransferRefusal::NotTakenOver(NodeId(others[0]))));
    assert!(!cluster.sent.iter().any(|message| matches!(message, Message::Prepare(_))));
    assert_eq!(cluster.leaders(), [leader]);
}

/// Node 1 leads, and node 2 would be elected; the number of the handover.
fn sounded(alone: &mut Alone, ballot: Ballot) -> u64 {
    alone.hear(2, heartbeat_reply(ballot, 1, 0));
    let deadline = alone.now.after(4 * SECOND);
    let to = Some(NodeId(2));
    let effects = alone.step(Input::Transfer { number: 7, to, deadline });
    let [Message::Sound(Sound { number, .. })] = sent_to(&effects, 2)[..] else {
        panic!("{effects:?}")
    };
    number
}

fn learned(ballot: Ballot, round: u64, chosen: Watermark) -> Message {
    let Message::HeartbeatReply(reply) = heartbeat_reply(ballot, round, 0) else { unreachable!() };
    let highest_accepted = chosen.slot;
    Message::HeartbeatReply(HeartbeatReply { chosen, highest_accepted, ..reply })
}

fn take_overs(effects: &Effects) -> Vec<Slot> {
    let told = |message| match message {
        Message::TakeOver(told) => Some(told.chosen),
        _ => None,
    };
    sent_to(effects, 2).into_iter().filter_map(told).collect()
}

#[test]
fn the_leader_waits_until_all_is_chosen_and_the_other_one_knows_it() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    let number = sounded(&mut alone, ballot);
    assert_eq!(sent_to(&alone.propose(request(1, 1), 1), 2).len(), 1, "an Accept");
    assert_eq!(take_overs(&alone.hear(2, Message::Sounded(Sounded { ballot, number }))), []);
    assert_eq!(alone.propose(request(1, 2), 1).send, [], "what is new waits");
    alone.persist();
    let effects = alone.hear(2, accepted(ballot, 1));
    assert_eq!(take_overs(&effects), []);
    let is_beat = |message: &Message| matches!(message, Message::Heartbeat(_));
    assert_eq!(sent_to(&effects, 2).iter().filter(|message| is_beat(message)).count(), 1);
    let beat = sent_to(&effects, 2).into_iter().find_map(|message| match message {
        Message::Heartbeat(heartbeat) => Some(heartbeat),
        _ => None,
    });
    let Heartbeat { round, chosen, .. } = beat.expect("a round at once");
    assert_eq!(take_overs(&alone.hear(2, learned(ballot, round, chosen))), [Slot(1)]);
    assert_eq!(take_overs(&alone.wait(300 * MILLISECOND)), [Slot(1)], "it may have been lost");
    // The other one does not come, and the leader goes on.
    alone.hear(2, learned(ballot, round, chosen));
    alone.hear(3, learned(ballot, round, chosen));
    let effects = alone.wait(701 * MILLISECOND);
    let refusal = TransferRefusal::NotTakenOver(NodeId(2));
    assert_eq!(effects.transfers, [(7, Err(refusal))]);
    let accepts = |message: &Message| matches!(message, Message::Accept(_));
    assert_eq!(sent_to(&effects, 2).iter().filter(|message| accepts(message)).count(), 1);
    assert_eq!(alone.role(), Role::Leading);
}

#[test]
fn a_leader_goes_on_at_once_if_the_other_one_cannot_lead_any_more() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    let number = sounded(&mut alone, ballot);
    alone.hear(2, Message::Sounded(Sounded { ballot, number }));
    assert_eq!(alone.propose(request(1, 1), 1).send, []);
    let Message::HeartbeatReply(reply) = heartbeat_reply(ballot, 1, 0) else { unreachable!() };
    let effects =
        alone.hear(2, Message::HeartbeatReply(HeartbeatReply { can_write: false, ..reply }));
    assert_eq!(effects.transfers, [(7, Err(TransferRefusal::CannotWrite(NodeId(2))))]);
    assert!(sent_to(&effects, 3).iter().any(|message| matches!(message, Message::Accept(_))));
}

/// Nobody waits until it has been silent for long.
#[test]
fn whoever_is_said_to_be_gone_is_not_waited_for() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    sounded(&mut alone, ballot);
    let effects = alone.step(Input::Lost(NodeId(2)));
    assert_eq!(effects.transfers, [(7, Err(TransferRefusal::Silent(NodeId(2))))]);
}

#[test]
fn one_that_comes_first_is_not_the_one_that_was_to_lead() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    let number = sounded(&mut alone, ballot);
    let effects = alone.hear(2, Message::Sounded(Sounded { ballot, number }));
    assert_eq!(take_overs(&effects), [Slot::ZERO], "there is nothing to wait for");
    let higher = Ballot { round: ballot.round + 1, node: NodeId(3) };
    let prepare = Message::Prepare(Prepare { ballot: higher, from: Slot(1) });
    assert_eq!(alone.hear(3, prepare).transfers, []);
    let heartbeat = Heartbeat { ballot: higher, round: 1, chosen: Watermark::default() };
    let effects = alone.hear(3, Message::Heartbeat(heartbeat));
    assert_eq!(effects.transfers, [(7, Err(TransferRefusal::Overtaken(NodeId(3))))]);
}

/// Node 1 follows node 2, and is asked whether it would be elected.
fn asked(alone: &mut Alone) -> Poll {
    let sound = Sound { ballot: alone::ballot(1), number: 7 };
    let effects = alone.hear(2, Message::Sound(sound));
    let poll = sent_to(&effects, 3).into_iter().find_map(|message| match message {
        Message::Poll(poll) => Some(poll),
        _ => None,
    });
    poll.expect("it asks the others")
}

#[test]
fn who_is_told_to_lead_begins_at_once_and_only_for_its_leader() {
    let told = |number, chosen| {
        let chosen = Slot(chosen);
        Message::TakeOver(TakeOver { ballot: alone::ballot(1), number, chosen })
    };
    let mut alone = Alone::following(|_| {});
    alone.hear(2, told(7, 0));
    assert_eq!(alone.role(), Role::Follower, "it has not been asked");
    let poll = asked(&mut alone);
    assert_eq!(poll.leave, Some(alone::ballot(1)));
    let effects = alone.hear(3, alone::poll_reply(&poll, true, None));
    let sounded = Sounded { ballot: alone::ballot(1), number: 7 };
    assert_eq!(sent_to(&effects, 2), [Message::Sounded(sounded)]);
    for (from, number) in [(3, 7), (2, 6)] {
        alone.hear(from, told(number, 0));
        assert_eq!(alone.role(), Role::Follower, "{from} tells it, {number}");
    }
    let mut late = alone.clone();
    late.hear(2, told(7, 0));
    assert_eq!(late.role(), Role::Preparing);
    // As long after as no handover takes.
    for _ in 0..31 {
        alone.hear(2, alone::heartbeat(0));
        alone.wait(100 * MILLISECOND);
    }
    alone.hear(2, told(7, 0));
    assert_eq!(alone.role(), Role::Follower);
}

#[test]
fn a_follower_grants_a_poll_that_has_the_leave_of_its_own_leader_alone() {
    for (round, granted) in [(1, true), (0, false), (2, false)] {
        let mut alone = Alone::following(|_| {});
        let leave = Some(alone::ballot(round));
        let poll = Message::Poll(Poll { number: 9, chosen: Slot::ZERO, leave });
        let effects = alone.hear(3, poll);
        let [Message::PollReply(reply)] = &sent_to(&effects, 3)[..] else { panic!("{effects:?}") };
        assert_eq!(reply.granted, granted, "with the leave of ballot {round}");
    }
}
