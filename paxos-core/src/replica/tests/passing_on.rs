//! What a node passes on for peers that the leader does not hear: once, and not back.

use super::{
    alone::{Alone, heartbeat_reply, sent_to},
    *,
};
use crate::{
    message::{Offered, Propose, ReadReply, ReadRequest},
    types::ClientId,
};

/// Where a follower of node 2 sends on what it hears from `from`.
fn passed_on(from: u64, message: Message) -> Vec<(NodeId, Message)> {
    Alone::following(|_| {}).hear(from, message).send
}

fn client(name: u64) -> ClientId {
    ClientId { name, epoch: 1 }
}

#[test]
fn commands_are_passed_on_to_the_leader() {
    let propose = |name, hops| {
        let commands = vec![(1, Bytes::from("x"))];
        Message::Propose(Propose { client: client(name), open_from: 1, commands, hops })
    };
    let id = RequestId { client: client(3), sequence: 1 };
    let offered = Message::Offered(Offered { ballot: super::alone::ballot(1), id, bytes: 1 });
    assert_eq!(
        passed_on(3, propose(3, 0)),
        [(NodeId(2), offered), (NodeId(2), propose(3, 1))],
        "and the leader is told"
    );
    assert_eq!(passed_on(3, propose(3, 1)), [], "they have come a long way");
    assert_eq!(passed_on(3, propose(2, 0)), [], "they are the leader's own");
}

#[test]
fn reads_are_passed_on_to_the_leader_and_answers_to_who_reads() {
    let read = |hops| Message::Read(ReadRequest { client: client(3), number: 7, hops });
    assert_eq!(passed_on(3, read(0)), [(NodeId(2), read(1))]);
    assert_eq!(passed_on(3, read(1)), []);
    assert_eq!(passed_on(2, read(0)), [], "the leader has it");

    let reply = |name| {
        let client = ClientId { name, epoch: 9 };
        Message::ReadReply(ReadReply { client, number: 7, index: Slot(1) })
    };
    assert_eq!(passed_on(2, reply(3)), [(NodeId(3), reply(3))]);
    assert_eq!(passed_on(2, reply(9)), [], "there is no such node");
    assert_eq!(passed_on(2, reply(1)), [], "for another life of this node");
}

/// The quorum may take longer than the patience of the one who reads.
#[test]
fn a_read_that_is_asked_for_again_is_served_by_the_answer_to_the_first_request() {
    let mut alone = Alone::following(|_| {});
    let requests = |effects: Effects| -> Vec<ReadRequest> {
        let request = |message| match message {
            Message::Read(request) => Some(request),
            _ => None,
        };
        sent_to(&effects, 2).into_iter().filter_map(request).collect()
    };
    let first = requests(alone.step(quorum_read(0)));
    let again = requests(alone.wait(limits::RETRANSMIT_TIMEOUT));
    assert_eq!((first.len(), &first), (1, &again));
    let ReadRequest { client, number, .. } = first[0];
    let reply = ReadReply { client, number, index: Slot::ZERO };
    assert_eq!(alone.hear(2, Message::ReadReply(reply)).reads_ready, [0]);
}

/// What exceeds the bound is dropped, and asked for again.
#[test]
fn a_leader_holds_a_bounded_number_of_its_peers_reads() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    for number in 0..=2 * limits::READS_MAX as u64 {
        let read = ReadRequest { client: client(3), number, hops: 0 };
        alone
            .replica
            .step(alone.now, Input::Message { from: NodeId(3), message: Message::Read(read) });
    }
    alone.hear(2, heartbeat_reply(ballot, 1, 0));
    let effects = alone.hear(2, heartbeat_reply(ballot, 2, 0));
    let replies = sent_to(&effects, 3);
    let replies = replies.iter().filter(|message| matches!(message, Message::ReadReply(_)));
    assert_eq!(replies.count(), 2 * limits::READS_MAX);
}

/// The index of the one that is left is not delivered yet when the lists are cleared of others.
#[test]
fn clearing_the_lists_of_reads_given_up_keeps_the_others() {
    let mut alone = Alone::following(|_| {});
    let effects = alone.step(quorum_read(0));
    let [Message::Read(request)] = &sent_to(&effects, 2)[..] else { panic!("{effects:?}") };
    let ReadRequest { client, number, .. } = *request;
    alone.hear(2, Message::ReadReply(ReadReply { client, number, index: Slot(1) }));
    for number in 1..=limits::READS_MAX as u64 {
        let read = [quorum_read(number), Input::GiveUpRead { number }];
        alone.replica.step_all(alone.now, read);
    }
    let effects = alone.hear(2, super::alone::accept(1, Value::Noop, 1));
    assert_eq!(effects.reads_ready, [0]);
}
