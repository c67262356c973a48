//! A leader that hears the others and does not get their commands: when it makes room, and when no other could
//! do better.

use super::{
    alone::{Alone, request},
    *,
};
use crate::message::{Offered, Propose};

#[test]
fn a_leader_that_commands_do_not_reach_is_replaced() {
    for size in [3, 5, 7] {
        let mut cluster = Cluster::new(size);
        cluster.run(2 * SECOND);
        let [leader, other, ..] = cluster.leader_first()[..] else { panic!("several nodes") };
        cluster.unreached.insert(NodeId(leader));
        cluster.propose(other, 1, "gets there");
        cluster.run(8 * SECOND);
        assert_eq!(cluster.applied(other), ["gets there"], "{size} nodes");
        let [new] = cluster.leaders()[..] else { panic!("one leads") };
        assert_ne!(new, leader);
        let ballots = cluster.ballots();
        cluster.propose(other, 2, "and more");
        cluster.run(60 * SECOND);
        assert_eq!(cluster.applied(other).len(), 2);
        assert_eq!(cluster.ballots(), ballots, "whose leader has to stay");
    }
}

/// Nobody would get what it proposes.
#[test]
fn a_node_whose_commands_are_lost_everywhere_moves_no_leader() {
    for size in [3, 5] {
        let mut cluster = Cluster::new(size);
        cluster.run(2 * SECOND);
        let [leader, muffled, ..] = cluster.leader_first()[..] else { panic!("several nodes") };
        let ballots = cluster.ballots();
        cluster.muffled.insert(NodeId(muffled));
        cluster.propose(muffled, 1, "lost");
        cluster.run(60 * SECOND);
        cluster.propose(leader, 1, "kept");
        cluster.run(SECOND);
        assert_eq!(cluster.applied(leader), ["kept"], "{size} nodes");
        assert_eq!(cluster.ballots(), ballots);
    }
}

#[test]
fn a_command_that_gets_there_by_another_way_moves_no_leader() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let [leader, other, _] = cluster.leader_first()[..] else { panic!("three nodes") };
    let ballots = cluster.ballots();
    cluster.cut.insert((NodeId(other), NodeId(leader)));
    cluster.propose(other, 1, "gets there");
    cluster.run(10 * SECOND);
    assert_eq!(cluster.applied(other), ["gets there"]);
    assert_eq!(cluster.ballots(), ballots);
}

/// If nobody can do better, leaders change less and less.
#[test]
fn where_no_leader_is_reached_they_change_less_and_less() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    cluster.unreached.extend([1, 2, 3].map(NodeId));
    let mut sequence = 0;
    let mut rounds_after = |seconds| {
        for _ in 0..seconds {
            sequence += 1;
            let leaders = cluster.leaders();
            for node in (1..=3).filter(|node| !leaders.contains(node)) {
                cluster.propose(node, sequence, "waits until its node leads");
            }
            cluster.run(SECOND);
        }
        cluster.ballots().last().expect("nodes").round
    };
    let (early, late) = (rounds_after(100), rounds_after(1000));
    assert!(early > 3, "they change");
    assert!(late - early <= 2 * early, "{early} ballots in 100 s, {late} in 1100 s");
}

fn said_by_both(alone: &mut Alone, message: Message) {
    for peer in [2, 3] {
        alone.hear(peer, message.clone());
    }
}

fn offered(ballot: Ballot, id: RequestId) -> Message {
    Message::Offered(Offered { ballot, id, bytes: 100 })
}

/// Peers 2 and 3 answer and say for so many election timeouts that they have a command, of which `said` tells the
/// leader more; says whether it still leads then.
fn leads_on(said: impl Fn(&mut Alone, Ballot, u32), timeouts: u32) -> bool {
    let (mut alone, ballot) = Alone::leading(|_| {});
    alone.persist();
    for timeout in 0..timeouts {
        said(&mut alone, ballot, timeout);
        for _ in 0..5 {
            let beat = alone.wait(limits::ELECTION_TIMEOUT / 5);
            let sent = beat.broadcast.iter().chain(beat.send.iter().map(|(_, message)| message));
            let rounds = sent.filter_map(|message| match message {
                Message::Heartbeat(heartbeat) => Some(heartbeat.round),
                _ => None,
            });
            for round in rounds.collect::<Vec<_>>() {
                for peer in [2, 3] {
                    alone.hear(peer, super::alone::heartbeat_reply(ballot, round, 0));
                }
            }
        }
        if alone.role() != Role::Leading {
            return false;
        }
    }
    true
}

const PATIENCE: u32 = limits::UNREACHED_TIMEOUTS;

#[test]
fn a_quorum_of_others_has_to_have_it_and_for_long_enough() {
    let id = request(9, 1);
    let by = |peers: &'static [u64]| {
        move |alone: &mut Alone, ballot: Ballot, _| {
            for &peer in peers {
                alone.hear(peer, offered(ballot, id));
            }
        }
    };
    assert!(leads_on(by(&[2, 3]), PATIENCE - 1));
    assert!(!leads_on(by(&[2, 3]), PATIENCE + 1));
    assert!(leads_on(by(&[2]), 10 * PATIENCE));
    let of_another = |alone: &mut Alone, ballot: Ballot, _| {
        let earlier = Ballot { round: ballot.round - 1, ..ballot };
        said_by_both(alone, offered(earlier, id));
    };
    assert!(leads_on(of_another, 10 * PATIENCE));
}

#[test]
fn what_has_arrived_or_is_not_sent_any_more_moves_no_leader() {
    let id = request(9, 1);
    let propose = move |sequence, bytes| {
        let commands = vec![(sequence, Bytes::from(vec![7; bytes]))];
        Message::Propose(Propose { client: id.client, open_from: 1, commands, hops: 0 })
    };
    let offer = move |alone: &mut Alone, ballot: Ballot| {
        said_by_both(alone, offered(ballot, id));
    };
    // It waits for votes.
    let arrives_first = move |alone: &mut Alone, ballot: Ballot, timeout| {
        if timeout == 0 {
            alone.hear(2, propose(id.sequence, 1));
        }
        offer(alone, ballot);
    };
    assert!(leads_on(arrives_first, 2 * PATIENCE));
    // Behind others that are as large, on a link that is merely slow.
    let follows = |bytes| {
        move |alone: &mut Alone, ballot: Ballot, timeout: u32| {
            offer(alone, ballot);
            alone.hear(2, propose(100 + u64::from(timeout), bytes));
        }
    };
    assert!(leads_on(follows(100), 2 * PATIENCE));
    assert!(!leads_on(follows(99), 2 * PATIENCE), "what is smaller proves nothing");
    let ends = move |alone: &mut Alone, ballot: Ballot, timeout| {
        if timeout % (2 * PATIENCE) == 0 {
            offer(alone, ballot);
        }
    };
    assert!(leads_on(ends, 10 * PATIENCE));
}

#[test]
fn a_leader_keeps_a_bounded_number_of_offers_in_mind() {
    let many = |alone: &mut Alone, ballot: Ballot, _| {
        for sequence in 1..=4 * limits::OFFERS_MAX as u64 {
            said_by_both(alone, offered(ballot, request(9, sequence)));
            alone.replica.check_invariants();
        }
    };
    assert!(!leads_on(many, 2 * PATIENCE));
}
