//! What a peer or a client may send without being right: it is passed over, and nobody falls.

use super::*;
use crate::{
    message::{HeartbeatReply, Prepare, Propose, Reject},
    types::{Change, ClientId},
};

impl Cluster {
    /// A cluster of three with its leader, and that leader's ballot.
    fn with_leader() -> (Cluster, u64, Ballot) {
        let mut cluster = Cluster::new(3);
        cluster.run(2 * SECOND);
        let leader = cluster.leaders()[0];
        let ballot = cluster.replicas[&NodeId(leader)].status(cluster.now).ballot;
        (cluster, leader, ballot)
    }

    fn hear(&mut self, node: u64, message: Message) -> Effects {
        let from = NodeId(node % 3 + 1);
        self.step(node, Input::Message { from, message })
    }
}

/// The value of its slot would decode nowhere, neither at the peers nor from disk after a restart.
#[test]
fn a_request_with_the_last_number_there_is_gets_no_slot() {
    let (mut cluster, leader, _) = Cluster::with_leader();
    let client = ClientId { name: 100, epoch: 1 };
    let commands = vec![(u64::MAX, Bytes::from("x")), (u64::MAX - 1, Bytes::from("y"))];
    cluster.sent.clear();
    cluster.hear(leader, Message::Propose(Propose { client, open_from: 1, commands, hops: 0 }));
    let accepted = cluster.sent.iter().find_map(|message| match message {
        Message::Accept(accept) => Some(accept.value.encoded()),
        _ => None,
    });
    let accepted = Value::decode(accepted.expect("the other request"));
    let Ok(Value::Batch(batch)) = accepted else { panic!("no batch, but {accepted:?}") };
    assert_eq!(batch.runs().len(), 1);
    assert_eq!(batch.runs()[0].first, u64::MAX - 1);
    let id = RequestId { client, sequence: u64::MAX };
    cluster.step(leader, proposal(cluster.now, id, Bytes::new()));
    let answers = cluster.replicas.get_mut(&NodeId(leader)).expect("a node").answers();
    assert_eq!(answers.collect::<Vec<_>>(), [(id, Outcome::Refused(Refusal::IdUsed))]);
}

#[test]
fn a_follower_that_claims_to_have_every_slot_does_not_fell_the_leader() {
    let (mut cluster, leader, ballot) = Cluster::with_leader();
    let (chosen, highest_accepted) = (Watermark::default(), Slot(u64::MAX));
    let reply = HeartbeatReply { ballot, round: 1, chosen, highest_accepted, can_write: true };
    cluster.hear(leader, Message::HeartbeatReply(reply));
    assert_eq!(cluster.leaders(), [leader]);
}

#[test]
fn a_ballot_out_of_all_proportion_leaves_room_for_elections() {
    let (mut cluster, leader, ballot) = Cluster::with_leader();
    let promised = Ballot { round: u64::MAX - 1, node: NodeId(2) };
    for node in 1..=3 {
        cluster.hear(node, Message::Reject(Reject { ballot, promised }));
        cluster.hear(node, Message::Prepare(Prepare { ballot: promised, from: Slot(1) }));
    }
    assert_eq!(cluster.leaders(), [leader]);
    cluster.cut_off(leader);
    cluster.run(4 * SECOND);
    let after = cluster.ballots();
    assert!(after.iter().all(|ballot| ballot.round < 100), "{after:?}");
    assert_eq!(cluster.leaders().len(), 1, "a new leader");
}

/// A candidate that counted it would take what it has not heard of for never chosen.
#[test]
fn a_promise_with_a_hole_is_no_promise() {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
    let config = Config::new(NodeId(1), membership);
    let mut replica =
        Replica::new(config, recovered(NodeId(1)), None, Instant::ZERO).expect("sound");
    let now = replica.next_deadline().expect("the poll");
    let effects = replica.step(now, Input::Tick);
    let Some(Message::Poll(poll)) = effects.broadcast.first() else { panic!("{effects:?}") };
    let granted = PollReply {
        number: poll.number,
        granted: true,
        promised: Ballot { round: 5, node: NodeId(2) },
        leader: None,
        chosen: Slot::ZERO,
    };
    let from = NodeId(2);
    let effects = replica.step(now, Input::Message { from, message: Message::PollReply(granted) });
    let (id, batch) = effects.persist.expect("the candidate's own promise");
    replica.step(now, Input::Persisted(id));
    let mut promise = |records, chosen| {
        let message = Message::Promise(Promise {
            ballot: batch.promised.expect("a promise"),
            from: Slot(1),
            records,
            next: None,
            chosen: Slot(chosen),
            floor: Slot::ZERO,
        });
        replica.step(now, Input::Message { from, message });
        replica.check_invariants();
        replica.status(now).role
    };
    let record = |slot, ballot| Record { slot: Slot(slot), ballot, value: Value::Noop };
    let vote = Ballot { round: 1, node: NodeId(3) };
    assert_eq!(promise(vec![record(1, vote), record(3, vote)], 3), Role::Preparing, "slot 2");
    assert_eq!(promise(vec![record(2, vote), record(1, vote)], 2), Role::Preparing, "disorder");
    let above = Ballot { round: 1000, node: NodeId(3) };
    assert_eq!(promise(vec![record(1, above)], 0), Role::Preparing, "a vote above the promise");
    assert_eq!(promise(vec![record(1, vote), record(2, vote)], 2), Role::Leading);
}

#[test]
fn nobody_else_speaks_for_this_node() {
    let mut replica = follower();
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let message = Message::Prepare(crate::message::Prepare { ballot, from: Slot(1) });
    let effects = replica.step(Instant::ZERO, Input::Message { from: NodeId(1), message });
    assert!(effects.persist.is_none() && effects.send.is_empty(), "{effects:?}");
}

/// It may be a member that this node has yet to learn of; but it counts for nothing before.
#[test]
fn strangers_are_answered_and_do_not_count() {
    let (mut alone, ballot) = super::alone::Alone::leading(|_| {});
    alone.propose(RequestId { client: alone.replica.client(), sequence: 1 }, 1);
    for stranger in [4, 5, 6] {
        alone.hear(stranger, super::alone::accepted(ballot, 1));
    }
    assert_eq!(alone.replica.status(alone.now).chosen, Slot::ZERO);
    alone.persist();
    alone.hear(2, super::alone::accepted(ballot, 1));
    assert_eq!(alone.replica.status(alone.now).chosen, Slot(1));
}

#[test]
fn a_watermark_that_nobody_can_have_does_not_stop_a_change() {
    let (mut alone, ballot) = super::alone::Alone::leading(|_| {});
    let chosen = Watermark { slot: Slot(u64::MAX), hash: 7 };
    for peer in [2, 3] {
        let reply = HeartbeatReply {
            ballot,
            round: 1,
            chosen,
            highest_accepted: Slot::ZERO,
            can_write: true,
        };
        alone.hear(peer, Message::HeartbeatReply(reply));
    }
    let (change, deadline) = (Change::Window(8), alone.now.after(SECOND));
    let effects = alone.step(Input::Change { number: 1, change, deadline });
    let is_change = |message: &Message| matches!(message, Message::Accept(accept) if matches!(accept.value, Value::Reconfigure(_)));
    assert!(super::alone::sent_to(&effects, 2).iter().any(is_change), "{effects:?}");
}
