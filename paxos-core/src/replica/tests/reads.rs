//! Linearizable reads in a cluster: confirmed, begun anew after a change of leaders, given up.

use super::{
    alone::{Alone, accepted, heartbeat_reply, promise, request, sent_to, value},
    *,
};
use crate::message::ReadRequest;

#[test]
fn reads_are_confirmed_on_every_node() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    cluster.propose(1, 1, "a");
    for node in 1..=3 {
        cluster.step(node, quorum_read(7));
    }
    cluster.run(SECOND / 2);
    for node in 1..=3 {
        assert_eq!(cluster.reads_ready[&NodeId(node)], [7], "node {node}");
    }
}

#[test]
fn a_read_of_a_deposed_leader_waits_for_the_new_one() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let old = cluster.leaders()[0];
    cluster.cut_off(old);
    cluster.step(old, quorum_read(1));
    cluster.run(4 * SECOND);
    assert_eq!(cluster.reads_ready[&NodeId(old)], [] as [u64; 0]);
    cluster.propose(cluster.leaders()[0], 1, "new");
    cluster.cut.clear();
    cluster.run(2 * SECOND);
    assert_eq!(cluster.reads_ready[&NodeId(old)], [1]);
    assert_eq!(cluster.applied(old), ["new"]);
}

/// Another leader may come before that, and leave the slot empty for as long as nobody proposes.
#[test]
fn an_index_that_a_leader_has_recovered_is_told_once_it_is_chosen() {
    let mut alone = Alone::new(|_, _| {});
    let ballot = alone.prepare();
    let vote = Ballot { round: 0, node: NodeId(3) };
    let record = Record { slot: Slot(1), ballot: vote, value: value(1, 1) };
    alone.hear(2, promise(ballot, vec![record]));
    alone.persist();
    let client = request(2, 1).client;
    alone.hear(2, Message::Read(ReadRequest { client, number: 1, hops: 0 }));
    let is_told = |effects: &Effects| {
        sent_to(effects, 2).iter().any(|message| matches!(message, Message::ReadReply(_)))
    };
    for round in 1..=3 {
        assert!(!is_told(&alone.hear(2, heartbeat_reply(ballot, round, 1))), "round {round}");
    }
    assert!(is_told(&alone.hear(2, accepted(ballot, 1))));
}

/// Clients give up and ask again, faster than a leader without a quorum finds out that it has none.
#[test]
fn reads_given_up_are_forgotten() {
    for is_connected in [false, true] {
        let mut cluster = Cluster::new(3);
        cluster.run(2 * SECOND);
        let [leader] = cluster.leaders()[..] else { panic!("one leader") };
        if !is_connected {
            cluster.cut_off(leader);
        }
        for number in 0..5 * limits::READS_MAX as u64 {
            let replica = cluster.replicas.get_mut(&NodeId(leader)).expect("a node");
            let read = [quorum_read(number), Input::GiveUpRead { number }];
            let effects = replica.step_all(cluster.now, read);
            assert_eq!(effects.reads_refused, [0; 0]);
        }
        cluster.step(leader, Input::Tick);
    }
}

fn read_at(cluster: &mut Cluster, node: u64, number: u64, mode: ReadMode) -> Vec<u64> {
    cluster.step(node, Input::Read { number, mode });
    std::mem::take(cluster.reads_ready.get_mut(&NodeId(node)).expect("it has made a step"))
}

#[test]
fn a_read_at_a_known_slot_waits_for_that_and_asks_nobody() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let [leader] = cluster.leaders()[..] else { panic!("one leader") };
    let follower = leader % 3 + 1;
    cluster.propose(leader, 1, "a");
    cluster.run(SECOND);
    cluster.cut_off(follower);
    cluster.propose(leader, 2, "b");
    cluster.run(SECOND / 2);
    let chosen = cluster.replicas[&NodeId(leader)].status(cluster.now).chosen;
    cluster.sent.clear();
    let at_least = |back: u64| ReadMode::AtLeast(Slot(chosen.0 - back));
    assert_eq!(read_at(&mut cluster, follower, 1, at_least(1)), [1]);
    assert_eq!(read_at(&mut cluster, follower, 2, at_least(0)), [0; 0]);
    assert_eq!(cluster.sent, []);
    cluster.cut.clear();
    cluster.run(SECOND);
    assert_eq!(cluster.reads_ready[&NodeId(follower)], [2]);
    assert_eq!(cluster.applied(follower), ["a", "b"]);
}

#[test]
fn a_local_read_waits_for_nothing_however_many_others_wait() {
    let mut cluster = Cluster::new(3);
    let waiting = limits::READS_MAX as u64;
    for number in 0..waiting {
        let mode = if number % 2 == 0 { ReadMode::Quorum } else { ReadMode::AtLeast(Slot(9)) };
        assert_eq!(read_at(&mut cluster, 1, number, mode), [0; 0]);
    }
    assert_eq!(read_at(&mut cluster, 1, waiting, ReadMode::Local), [waiting]);
    for mode in [ReadMode::Quorum, ReadMode::AtLeast(Slot(9))] {
        let effects = cluster.step(1, Input::Read { number: waiting, mode });
        assert_eq!(effects.reads_refused, [waiting]);
    }
}
