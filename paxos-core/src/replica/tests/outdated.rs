//! What is of an earlier leadership, and comes late: it decides nothing any more.

use super::*;

/// A leader that was suspended, its clock with it, does not know that it has been replaced. Then a
/// follower of its successor tells it what is chosen.
#[test]
fn an_outdated_leader_does_not_vouch_for_what_its_successor_chose() {
    let mut cluster = Cluster::new(5);
    cluster.run(2 * SECOND);
    let [old, loyal, _, _, witness] = cluster.leader_first()[..] else { panic!("five nodes") };
    cluster.connect_only(&[]);
    cluster.cut.remove(&(NodeId(old), NodeId(loyal)));
    cluster.propose(old, 1, "of the old leader");
    cluster.settle();
    let suspended_at = cluster.now;
    let suspended = cluster.replicas.remove(&NodeId(old)).expect("it leads");

    cluster.cut.clear();
    cluster.cut_off(loyal);
    for &peer in &[old, loyal] {
        cluster.replicas.keys().for_each(|&node| {
            cluster.cut.extend([(node, NodeId(peer)), (NodeId(peer), node)]);
        });
    }
    cluster.run(4 * SECOND);
    let [new] = cluster.leaders()[..] else { panic!("one leader of the other three") };
    cluster.propose(new, 1, "of the new leader");
    cluster.run(SECOND);
    assert_eq!(cluster.applied(witness), ["of the new leader"]);

    cluster.replicas.insert(NodeId(old), suspended);
    let resumed_at = std::mem::replace(&mut cluster.now, suspended_at);
    let from = NodeId(witness);
    let poll =
        Message::Poll(crate::message::Poll { number: u64::MAX, chosen: Slot(1), leave: None });
    cluster.step(old, Input::Message { from, message: poll });
    cluster.now = cluster.now.after(SECOND / 20);
    cluster.sent.clear();
    cluster.step(old, Input::Tick);
    let pull = cluster.sent.iter().find(|message| matches!(message, Message::Pull(_)));
    let pull = pull.expect("it pulls what it lacks").clone();
    cluster.in_transit.clear();
    cluster.sent.clear();
    let pulled_at = std::mem::replace(&mut cluster.now, resumed_at);
    cluster.step(witness, Input::Message { from: NodeId(old), message: pull });
    let pulled = cluster.sent.iter().find(|message| matches!(message, Message::Pulled(_)));
    let pulled = pulled.expect("the witness has it").clone();
    cluster.in_transit.clear();
    cluster.now = pulled_at;
    cluster.step(old, Input::Message { from, message: pulled });
    assert_eq!(cluster.applied(old), ["of the new leader"]);
    assert_eq!(cluster.leaders(), [new], "what it has pulled says that it does not lead any more");

    cluster.now = resumed_at;
    cluster.cut.clear();
    cluster.settle();
    assert_eq!(cluster.applied(loyal), [] as [&str; 0], "it holds another value for slot 1");
    cluster.run(4 * SECOND);
    for node in 1..=5 {
        let applied = cluster.applied(node);
        assert_eq!(applied, ["of the new leader", "of the old leader"], "node {node}");
    }
}

/// Late, an acceptor's vote for an earlier leadership of the same node says nothing of this one.
#[test]
fn a_vote_at_another_ballot_does_not_count() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let [leader, voter, _] = cluster.leader_first()[..] else { panic!("three nodes") };
    cluster.cut_off(leader);
    cluster.propose(leader, 1, "undecided");
    let status = cluster.replicas[&NodeId(leader)].status(cluster.now);
    let (own, slot) = (status.ballot, status.highest_accepted);
    for (round, count) in [(own.round - 1, 0), (own.round + 1, 0), (own.round, 1)] {
        let ballot = Ballot { round, ..own };
        let message = Message::Accepted(Accepted { ballot, first: slot, last: slot });
        cluster.step(leader, Input::Message { from: NodeId(voter), message });
        assert_eq!(cluster.applied(leader).len(), count, "a vote at {ballot}, own is {own}");
    }
}
