//! A leader that is heard and gets nothing chosen: when it makes room, and when that is no fault of its own.

use super::{
    alone::{Alone, accepted, request},
    *,
};
use crate::{
    message::HeartbeatReply,
    types::{Change, MemberRole},
};

/// Its peers answer each round of heartbeats for so long; says whether it still leads then.
fn leads_after(
    alone: &mut Alone,
    ballot: Ballot,
    time: Duration,
    answer: impl Fn(u64) -> (bool, u64),
) -> bool {
    let end = alone.now.after(time);
    while alone.now < end && alone.role() == Role::Leading {
        let beat = alone.wait(alone.deadline().min(end.since(alone.now)));
        let round = beat.broadcast.iter().chain(beat.send.iter().map(|(_, message)| message));
        let round = round.filter_map(|message| match message {
            Message::Heartbeat(heartbeat) => Some(heartbeat.round),
            _ => None,
        });
        for (round, peer) in round.last().into_iter().flat_map(|round| [(round, 2), (round, 3)]) {
            let (can_write, chosen) = answer(peer);
            let chosen = Watermark { slot: Slot(chosen), hash: 0 };
            let highest_accepted = Slot::ZERO;
            alone.hear(
                peer,
                Message::HeartbeatReply(HeartbeatReply {
                    ballot,
                    round,
                    chosen,
                    highest_accepted,
                    can_write,
                }),
            );
        }
    }
    alone.role() == Role::Leading
}

const PATIENCE: Duration = Duration::from_secs(limits::STALL_TIMEOUTS as u64);

#[test]
fn a_leader_that_gets_nothing_chosen_makes_room() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    assert!(
        leads_after(&mut alone, ballot, 4 * PATIENCE, |_| (true, 0)),
        "there is nothing to choose"
    );
    alone.propose(request(1, 1), 1);
    alone.persist();
    assert!(leads_after(&mut alone, ballot, PATIENCE - SECOND / 10, |_| (true, 0)));
    assert!(!leads_after(&mut alone, ballot, SECOND, |_| (true, 0)));
    let others_need = 2 * limits::ELECTION_TIMEOUT;
    assert!(alone.deadline() > others_need, "it leaves them the time");
}

#[test]
fn a_leader_that_gets_anything_chosen_stays() {
    let (mut alone, ballot) = Alone::leading(|config| config.batch_commands_max = 1);
    for slot in 1..=10 {
        alone.propose(request(1, slot), 1);
        alone.propose(request(1, 100 + slot), 1);
        alone.persist();
        assert!(leads_after(&mut alone, ballot, PATIENCE / 2, |_| (true, 0)), "slot {slot}");
        alone.hear(2, accepted(ballot, slot));
    }
}

/// One of two that it needs besides its own disk, which hangs: there is no quorum that could write.
#[test]
fn slow_disks_are_no_fault_of_the_leader() {
    let (mut alone, ballot) = Alone::leading(|_| {});
    alone.propose(request(1, 1), 1);
    assert!(leads_after(&mut alone, ballot, 4 * PATIENCE, |peer| (peer == 2, 0)));
}

/// A learner's disk writes, and its vote counts for nothing.
#[test]
fn learners_are_not_among_those_that_could_vote() {
    let (mut alone, ballot) = Alone::leading(|config| {
        let change = Change::Role { node: NodeId(3), role: MemberRole::Learner };
        config.membership = config.membership.changed(&change).expect("two vote");
    });
    alone.propose(request(1, 1), 1);
    alone.persist();
    assert!(leads_after(&mut alone, ballot, 4 * PATIENCE, |peer| (peer == 3, 0)));
}

#[test]
fn followers_that_have_to_catch_up_are_no_fault_of_the_leader() {
    let chosen = limits::LOG_AHEAD_WINDOWS * limits::WINDOW_SLOTS_DEFAULT;
    let mut alone = Alone::new(|_, recovered| {
        recovered.incarnation = 2;
        recovered.chosen = Watermark { slot: Slot(chosen), hash: 7 };
        recovered.checkpoint.at = recovered.chosen;
    });
    let ballot = alone.prepare();
    let Message::Promise(promise) = super::alone::promise(ballot, vec![]) else { unreachable!() };
    alone.hear(
        2,
        Message::Promise(Promise { from: Slot(chosen + 1), chosen: Slot(chosen), ..promise }),
    );
    assert_eq!(alone.role(), Role::Leading);
    alone.propose(request(9, 1), 1);
    alone.persist();
    assert!(leads_after(&mut alone, ballot, 4 * PATIENCE, |_| (true, 0)));
    assert!(!leads_after(&mut alone, ballot, 2 * PATIENCE, |_| (true, 1)), "they could vote");
}

#[test]
fn whoever_is_heard_in_vain_is_replaced_and_follows() {
    for size in [3, 5] {
        let mut cluster = Cluster::new(size);
        cluster.run(2 * SECOND);
        let [leader, other, ..] = cluster.leader_first()[..] else { panic!("several nodes") };
        cluster.in_vain.insert(NodeId(leader));
        cluster.propose(other, 1, "kept");
        cluster.run(8 * SECOND);
        assert_eq!(cluster.applied(other), ["kept"], "{size} nodes");
        let [new] = cluster.leaders()[..] else { panic!("one leads") };
        assert_ne!(new, leader);
        let ballots = cluster.ballots();
        cluster.propose(new, 1, "and more");
        cluster.run(60 * SECOND);
        assert_eq!(cluster.applied(leader).len(), 2, "it learns what is chosen");
        assert_eq!(cluster.ballots(), ballots, "whose leader has to stay");
    }
}

#[test]
fn leaders_that_get_nothing_through_change_less_and_less() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    cluster.in_vain.extend([1, 2, 3].map(NodeId));
    cluster.propose(cluster.leaders()[0], 1, "stuck");
    let round = |cluster: &Cluster| cluster.ballots().last().expect("nodes").round;
    cluster.run(100 * SECOND);
    let early = round(&cluster);
    cluster.run(1000 * SECOND);
    let late = round(&cluster);
    assert!(late - early <= 2 * early, "{early} ballots in 100 s, {late} in 1100 s");
}
