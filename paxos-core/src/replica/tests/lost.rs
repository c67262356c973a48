//! Peers that the transport says are gone, rightly or wrongly.

use super::{
    alone::{Alone, ballot, heartbeat, sent_to},
    *,
};
use crate::message::{Poll, Prepare};

/// Long before any silence tells anything.
const SOON: Duration = Duration::from_millis(50);

impl Cluster {
    fn lose(&mut self, peer: u64, told: &[u64]) {
        for &node in told {
            self.step(node, Input::Lost(NodeId(peer)));
        }
    }

    fn polls(&self) -> usize {
        self.sent.iter().filter(|message| matches!(message, Message::Poll(_))).count()
    }
}

fn grants(alone: &mut Alone, from: u64) -> bool {
    let effects =
        alone.hear(from, Message::Poll(Poll { number: 1, chosen: Slot::ZERO, leave: None }));
    let [Message::PollReply(reply)] = &sent_to(&effects, from)[..] else { panic!("{effects:?}") };
    reply.granted
}

#[test]
fn a_dead_leader_is_replaced_at_once() {
    for size in [3, 5, 7] {
        let mut cluster = Cluster::new(size);
        cluster.run(2 * SECOND);
        let [leader, others @ ..] = &cluster.leader_first()[..] else { panic!("some nodes") };
        cluster.cut_off(*leader);
        cluster.lose(*leader, others);
        cluster.run(SOON);
        let leaders = cluster.leaders();
        assert_eq!(leaders.iter().filter(|node| others.contains(node)).count(), 1, "of {size}");
    }
}

/// Those that have not heard of it are not overruled by those that have.
#[test]
fn it_takes_a_quorum_that_knows_by_itself() {
    let mut cluster = Cluster::new(5);
    cluster.run(2 * SECOND);
    let [leader, a, b, c, d] = cluster.leader_first()[..] else { panic!("five nodes") };
    cluster.cut_off(leader);
    cluster.lose(leader, &[a, b]);
    cluster.run(SOON);
    assert_eq!(cluster.leaders(), [leader], "too few know");
    cluster.lose(leader, &[c]);
    cluster.run(SOON);
    assert!(cluster.leaders().contains(&c), "the last to know has the others' grants");
    cluster.lose(leader, &[d]);
    cluster.run(SECOND / 2);
    assert_eq!(cluster.leaders().len(), 2, "it has promised, and follows by now");
}

#[test]
fn a_false_report_costs_a_poll_and_nothing_else() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let [leader, told, other] = cluster.leader_first()[..] else { panic!("three nodes") };
    let ballots = cluster.ballots();
    let mut polls = 0;
    for round in 1..=5 {
        cluster.sent.clear();
        cluster.lose(leader, &[told]);
        cluster.run(SECOND / 2);
        assert!(
            cluster.polls() <= 2,
            "one, to each of the others, unless the leader is heard before"
        );
        polls += cluster.polls();
        cluster.propose(told, round, "a");
        cluster.run(SECOND / 2);
        assert_eq!(cluster.applied(other).len() as u64, round);
    }
    assert!(polls > 0);
    assert_eq!((cluster.leaders(), cluster.ballots()), (vec![leader], ballots));
}

#[test]
fn only_the_loss_of_who_leads_or_tries_to_is_of_interest() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let [leader, one, other] = cluster.leader_first()[..] else { panic!("three nodes") };
    cluster.sent.clear();
    cluster.lose(one, &[leader, other]);
    cluster.lose(other, &[other]);
    cluster.run(SECOND / 2);
    assert_eq!((cluster.polls(), cluster.leaders()), (0, vec![leader]));
}

#[test]
fn a_leader_is_lost_until_it_is_heard_again() {
    let mut alone = Alone::following(|_| {});
    assert!(!grants(&mut alone, 3));
    alone.step(Input::Lost(NodeId(2)));
    assert!(grants(&mut alone, 3));
    assert!(alone.deadline() <= limits::HEARTBEAT_INTERVAL / limits::LOSS_SPREAD);
    alone.hear(2, heartbeat(0));
    assert!(!grants(&mut alone, 3));
    assert!(alone.deadline() > limits::HEARTBEAT_INTERVAL);
}

#[test]
fn a_candidate_that_is_lost_is_left_no_time() {
    let mut alone = Alone::new(|_, _| {});
    alone.hear(2, Message::Prepare(Prepare { ballot: ballot(1), from: Slot(1) }));
    alone.persist();
    assert!(!grants(&mut alone, 3));
    alone.step(Input::Lost(NodeId(3)));
    assert!(!grants(&mut alone, 3), "that was no candidate");
    alone.step(Input::Lost(NodeId(2)));
    assert!(grants(&mut alone, 3));
    alone.wait(SOON);
    assert_eq!(alone.role(), Role::Polling);
}

/// As long as it has not run for an election timeout, it knows of a leader only by having heard it.
#[test]
fn a_node_that_has_just_been_restarted_grants_when_it_has_lost_whom_it_heard() {
    let mut alone = Alone::new(|_, recovered| recovered.incarnation = 2);
    assert!(!grants(&mut alone, 3));
    alone.hear(2, heartbeat(0));
    alone.step(Input::Lost(NodeId(2)));
    alone.wait(SOON);
    assert_eq!(alone.role(), Role::Polling);
    assert!(grants(&mut alone, 3), "it polls itself, and hears no leader");
}
