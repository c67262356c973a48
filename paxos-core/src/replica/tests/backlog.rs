//! Disks that are slower than what comes in: what a node does without while too much waits.

use super::{
    alone::{Alone, accept, accepted, heartbeat, promise, request, sent_to, value},
    *,
};
use crate::message::{HeartbeatReply, Propose, Pulled};

/// What a slot without commands takes.
const NOOP_BYTES: usize = 65;

/// Follows node 2, and so many writes of noops have to wait before it takes in nothing more.
fn following(writes_max: usize) -> Alone {
    Alone::following(|config| config.backlog_bytes_max = writes_max * NOOP_BYTES)
}

/// Votes for slots without commands up to `last`, a write each; the first is write 1.
fn vote_up_to(alone: &mut Alone, last: u64) {
    for slot in 1..=last {
        assert!(alone.hear(2, accept(slot, Value::Noop, 0)).persist.is_some());
    }
}

fn is_behind(alone: &Alone) -> bool {
    alone.replica.status(alone.now).is_disk_behind
}

/// What it says of itself in answer to a heartbeat.
fn can_write(alone: &mut Alone) -> bool {
    let effects = alone.hear(2, heartbeat(0));
    let [Message::HeartbeatReply(HeartbeatReply { can_write, .. })] = sent_to(&effects, 2)[..]
    else {
        panic!("heartbeats are answered whatever the disk does: {effects:?}")
    };
    can_write
}

#[test]
fn proposals_are_refused_above_the_limit_and_taken_again_from_half_of_it_on() {
    let mut alone = following(4);
    let mut sequence = 0;
    let mut answers = |alone: &mut Alone| {
        sequence += 1;
        alone.propose(request(1, sequence), 1);
        alone.answers()
    };
    vote_up_to(&mut alone, 4);
    assert_eq!(answers(&mut alone), [], "the limit may be reached");
    alone.hear(2, accept(5, Value::Noop, 0));
    for persisted in 0..=2 {
        alone.step(Input::Persisted(WriteId(persisted)));
        let busy = [(request(1, persisted + 2), Outcome::Refused(Refusal::Busy))];
        assert_eq!(answers(&mut alone), busy, "{persisted} of five are durable");
    }
    alone.step(Input::Persisted(WriteId(3)));
    assert_eq!(answers(&mut alone), []);
}

#[test]
fn messages_with_values_are_passed_over_while_the_disk_is_behind() {
    let mut alone = following(1);
    vote_up_to(&mut alone, 2);
    assert!(is_behind(&alone));
    let pulled = Pulled {
        number: 1,
        values: vec![(Slot(1), Value::Noop)],
        chosen: Slot(1),
        floor: Slot::ZERO,
    };
    let commands = vec![(1, Bytes::from("command"))];
    let propose = Propose { client: request(3, 1).client, open_from: 1, commands, hops: 0 };
    for message in
        [accept(3, Value::Noop, 0), Message::Pulled(pulled), Message::Propose(propose.clone())]
    {
        let effects = alone.hear(2, message);
        assert!(effects.persist.is_none() && effects.send.is_empty(), "{effects:?}");
    }
    let votes = alone.persist();
    assert!(matches!(sent_to(&votes, 2)[..], [Message::Accepted(_)]), "those before: {votes:?}");
    assert!(alone.hear(2, accept(3, Value::Noop, 0)).persist.is_some());
    alone.persist();
    let passed_on = alone.hear(3, Message::Propose(propose));
    assert!(matches!(sent_to(&passed_on, 2)[..], [Message::Offered(_), Message::Propose(_)]));
}

/// One message may overshoot the limit, by all that it brings.
#[test]
fn what_a_message_brings_is_taken_in_whole() {
    let mut alone = Alone::new(|config, _| config.backlog_bytes_max = 1);
    let ballot = alone.prepare();
    let record = |slot| Record { slot: Slot(slot), ballot: Ballot::CHOSEN, value: Value::Noop };
    let Message::Promise(promise) = promise(ballot, (1..=9).map(record).collect()) else {
        unreachable!()
    };
    let effects = alone.hear(2, Message::Promise(Promise { chosen: Slot(9), ..promise }));
    assert_eq!(effects.persist.map(|(_, batch)| batch.records.len()), Some(9));
    assert!(is_behind(&alone));
}

#[test]
fn nothing_is_pulled_while_the_disk_is_behind() {
    let mut alone = following(1);
    vote_up_to(&mut alone, 2);
    alone.hear(3, Message::Poll(crate::message::Poll { number: 1, chosen: Slot(9), leave: None }));
    let pulls = |effects: &Effects| {
        effects.send.iter().any(|(_, message)| matches!(message, Message::Pull(_)))
    };
    let effects = alone.wait(limits::GAP_PATIENCE);
    assert!(!pulls(&effects));
    let deadline = alone.deadline();
    assert!(deadline > Duration::ZERO, "it does not ask for ticks in vain");
    alone.persist();
    assert!(pulls(&alone.wait(limits::GAP_PATIENCE)));
}

#[test]
fn a_leader_proposes_nothing_while_its_disk_is_behind() {
    let (mut alone, ballot) = Alone::leading(|config| config.backlog_bytes_max = 100);
    let proposes = |effects: &Effects| {
        let accept = |(_, message): &(_, Message)| matches!(message, Message::Accept(_));
        effects.send.iter().any(accept)
    };
    // A command that it has taken has to wait for the next slot.
    let inputs = [1, 2].map(|sequence| {
        proposal(alone.now, request(1, sequence), Bytes::from(vec![7; limits::BATCH_BYTES_MAX]))
    });
    let mut effects = alone.replica.step_all(alone.now, inputs);
    alone.replica.check_invariants();
    effects.address([NodeId(2)].into_iter());
    assert_eq!(effects.send.iter().filter(|(_, m)| matches!(m, Message::Accept(_))).count(), 1);
    let (write, _) = effects.persist.expect("its own record");
    assert!(!proposes(&alone.hear(2, accepted(ballot, 1))), "chosen without it, too");
    assert!(proposes(&alone.step(Input::Persisted(write))));
}

#[test]
fn a_session_table_waits_until_the_disk_has_caught_up() {
    let mut alone = Alone::following_on_disk(|config| {
        config.backlog_bytes_max = 1;
        config.checkpoint_slots = 1;
    });
    let value = value(1, 1);
    let hash = crate::replica::learner::chain(0, Slot(1), &value);
    alone.hear(2, accept(1, value, 0));
    alone.persist();
    let chosen = Watermark { slot: Slot(1), hash };
    let heartbeat = Heartbeat { ballot: super::alone::ballot(1), round: 2, chosen };
    assert_eq!(alone.hear(2, Message::Heartbeat(heartbeat)).tasks.len(), 1);
    alone.hear(2, accept(2, Value::Noop, 0));
    assert!(is_behind(&alone));
    let applied = Input::Applied { slot: Slot(1), durable: Some(Slot(1)) };
    assert!(alone.step(applied).persist.is_none());
    let (_, batch) = alone.persist().persist.expect("it is late, and not lost");
    assert_eq!(batch.checkpoint.map(|checkpoint| checkpoint.at.slot), Some(Slot(1)));
}

/// A disk that is behind for a moment costs nobody the leadership.
#[test]
fn a_disk_may_be_behind_for_so_long_before_it_counts_as_one_that_cannot_write() {
    let patience = limits::DISK_BEHIND_TIMEOUTS * limits::ELECTION_TIMEOUT;
    let mut alone = following(2);
    vote_up_to(&mut alone, 3);
    for (time, persisted, expected) in [
        (Duration::ZERO, 0, true),
        (patience - Duration::from_millis(1), 1, true),
        (Duration::from_millis(1), 1, false),
        (Duration::ZERO, 2, true),
    ] {
        alone.now = alone.now.after(time);
        alone.step(Input::Persisted(WriteId(persisted)));
        assert_eq!(can_write(&mut alone), expected, "after {time:?}, {persisted} are durable");
    }
    assert!(alone.hear(2, accept(4, Value::Noop, 0)).persist.is_some());
    assert!(alone.hear(2, accept(5, Value::Noop, 0)).persist.is_some());
    assert!(is_behind(&alone) && can_write(&mut alone), "time counts anew");
}

/// Five nodes, the leader first. Two commands take its disk, which does nothing, beyond the limit.
fn with_an_overloaded_leader(hanging_followers: usize) -> (Cluster, Vec<u64>) {
    let mut cluster = Cluster::with(5, |config| config.backlog_bytes_max = 100);
    cluster.run(2 * SECOND);
    let nodes = cluster.leader_first();
    cluster.hanging.extend(nodes[..=hanging_followers].iter().copied().map(NodeId));
    for sequence in [1, 2] {
        cluster.propose(nodes[0], sequence, "taken");
        cluster.run(SECOND / 10);
    }
    assert!(cluster.replicas[&NodeId(nodes[0])].status(cluster.now).is_disk_behind);
    (cluster, nodes)
}

#[test]
fn a_leader_whose_disk_is_behind_makes_room_while_a_quorum_of_the_others_can_write() {
    for hanging_followers in [0, 1] {
        let (mut cluster, nodes) = with_an_overloaded_leader(hanging_followers);
        let (old, other) = (nodes[0], nodes[4]);
        cluster.propose(other, 1, "of another");
        cluster.run(4 * SECOND);
        assert_eq!(cluster.applied(other), ["taken", "taken", "of another"]);
        let [new] = cluster.leaders()[..] else { panic!("one leads") };
        assert!(nodes[1 + hanging_followers..].contains(&new));
        cluster.run(20 * SECOND);
        assert_eq!(cluster.leaders(), [new], "the old one does not come back");

        cluster.hanging.remove(&NodeId(old));
        let replica = &cluster.replicas[&NodeId(old)];
        let last = replica.out.last_write();
        cluster.step(old, Input::Persisted(last));
        cluster.run(SECOND);
        assert_eq!(cluster.applied(old), cluster.applied(other), "it catches up");
        assert_eq!(cluster.leaders(), [new]);
    }
}

#[test]
fn a_leader_whose_disk_is_behind_stays_where_no_quorum_could_do_without_it() {
    let (mut cluster, nodes) = with_an_overloaded_leader(2);
    cluster.run(20 * SECOND);
    assert_eq!(cluster.leaders(), [nodes[0]]);
    cluster.step(nodes[0], quorum_read(1));
    cluster.run(SECOND / 2);
    assert_eq!(cluster.reads_ready[&NodeId(nodes[0])], [1]);
}
