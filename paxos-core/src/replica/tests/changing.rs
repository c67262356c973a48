//! The membership changes: nodes join, vote, are replaced, and leave.

use std::sync::Arc;

use super::*;
use crate::{
    message::{Accept, NotReady, Reconfigure, Removed},
    replica::{ChangeOutcome, ChangeRefusal},
    types::{Change, MemberRole},
};

/// A cluster of which some nodes may have stopped because they were removed.
struct Changing {
    seed: u64,
    now: Instant,
    replicas: BTreeMap<NodeId, Replica>,
    peers: BTreeMap<NodeId, Vec<NodeId>>,
    in_transit: VecDeque<(NodeId, NodeId, Message)>,
    ended: BTreeMap<NodeId, Halt>,
    outcomes: BTreeMap<u64, ChangeOutcome>,
    /// What each node has applied.
    applied: BTreeMap<NodeId, Vec<Value>>,
}

impl Changing {
    fn of(size: u64) -> Changing {
        Changing::seeded(size, 0)
    }

    fn seeded(size: u64, seed: u64) -> Changing {
        let mut cluster = Changing {
            seed,
            now: Instant::ZERO,
            replicas: BTreeMap::new(),
            peers: BTreeMap::new(),
            in_transit: VecDeque::new(),
            ended: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            applied: BTreeMap::new(),
        };
        (1..=size).for_each(|id| cluster.begin(id, size, false));
        cluster.run(SECOND * 2);
        cluster
    }

    /// Starts a node that is told of the first nodes.
    fn begin(&mut self, id: u64, size: u64, joins: bool) {
        let first = Membership::new((1..=size).map(|id| (id, ""))).expect("small");
        let first = first.with_window(8).expect("a window");
        let mut config = Config::new(NodeId(id), first);
        config.joins = joins;
        config.seed = id + 100 * self.seed;
        let replica = Replica::new(config, recovered(NodeId(id)), None, self.now).expect("sound");
        self.replicas.insert(NodeId(id), replica);
    }

    fn step(&mut self, node: NodeId, input: Input) {
        let Some(replica) = self.replicas.get_mut(&node) else { return };
        let mut effects = replica.step(self.now, input);
        if let Some(halt) = effects.halt {
            self.replicas.remove(&node);
            self.ended.insert(node, halt);
            return;
        }
        replica.check_invariants();
        if let Some(peers) = effects.peers.take() {
            self.peers.insert(node, peers.into_iter().map(|peer| peer.id).collect());
        }
        effects.address(self.peers.get(&node).into_iter().flatten().copied());
        for (_, message) in &effects.send {
            let Message::Accept(Accept { slot, chosen, .. }) = message else { continue };
            let window = replica.memberships.governing(*slot).window();
            assert!(*slot <= chosen.slot.plus(window), "{slot} is beyond a window of {window}");
        }
        self.in_transit.extend(effects.send.drain(..).map(|(to, message)| (node, to, message)));
        self.outcomes.extend(effects.changes.drain(..));
        let deliveries = deliveries(&mut effects);
        if let Some((id, _)) = effects.persist {
            self.step(node, Input::Persisted(id));
        }
        if let Some(last) = deliveries.last().map(|delivery| delivery.slot) {
            let values = deliveries.into_iter().map(|delivery| delivery.value);
            self.applied.entry(node).or_default().extend(values);
            self.step(node, Input::Applied { slot: last, durable: None });
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        let mut delivered = 0;
        loop {
            while let Some((from, to, message)) = self.in_transit.pop_front() {
                delivered += 1;
                assert!(delivered < 100_000, "messages go round in circles");
                self.step(to, Input::Message { from, message });
            }
            let deadlines = self.replicas.iter();
            let deadlines =
                deadlines.filter_map(|(&id, replica)| Some((replica.next_deadline()?, id)));
            match deadlines.min().filter(|(deadline, _)| *deadline <= end) {
                None => break,
                Some((deadline, node)) => {
                    self.now = self.now.max(deadline);
                    self.step(node, Input::Tick);
                }
            }
        }
        self.now = end;
    }

    /// Asks a node for a change, and waits for what becomes of it.
    fn change(&mut self, node: u64, change: Change) -> ChangeOutcome {
        let number = self.outcomes.len() as u64;
        let deadline = self.now.after(SECOND * 5);
        self.step(NodeId(node), Input::Change { number, change, deadline });
        for _ in 0..60 {
            self.run(SECOND / 10);
            if let Some(outcome) = self.outcomes.get(&number) {
                return outcome.clone();
            }
        }
        panic!("no answer after the deadline");
    }

    /// Proposes a command, and sees it done at this node within two election timeouts.
    fn propose(&mut self, node: u64, sequence: u64) {
        let id = RequestId { client: self.replicas[&NodeId(node)].client(), sequence };
        self.step(NodeId(node), proposal(self.now, id, Bytes::from_static(b"x")));
        self.run(SECOND * 3);
        let replica = self.replicas.get_mut(&NodeId(node)).expect("it runs");
        let answers: Vec<_> = replica.answers().collect();
        let is_done = |(answered, outcome): &(RequestId, Outcome)| {
            *answered == id && matches!(outcome, Outcome::Applied { .. })
        };
        assert!(answers.iter().any(is_done), "node {node}: {answers:?}");
    }

    fn leader(&self) -> u64 {
        let leads =
            |(_, replica): &(&NodeId, &Replica)| replica.status(self.now).role == Role::Leading;
        let mut leaders = self.replicas.iter().filter(leads);
        let leader = leaders.next().expect("somebody leads").0.0;
        assert_eq!(leaders.next().map(|(id, _)| id), None, "one leads");
        leader
    }

    fn follower(&self) -> u64 {
        let leader = self.leader();
        let mut others = self.replicas.keys().filter(|id| id.0 != leader);
        others.next().expect("another node").0
    }
}

fn add(node: u64, role: MemberRole) -> Change {
    Change::Add { node: NodeId(node), address: format!("node-{node}"), role }
}

fn role(node: u64, role: MemberRole) -> Change {
    Change::Role { node: NodeId(node), role }
}

fn remove(node: u64) -> Change {
    Change::Remove { node: NodeId(node) }
}

#[test]
fn a_node_joins_as_a_learner_catches_up_and_becomes_a_voter() {
    let mut cluster = Changing::of(3);
    cluster.propose(1, 1);
    cluster.begin(4, 3, true);
    let follower = cluster.follower();
    cluster.change(follower, add(4, MemberRole::Learner)).expect("a learner");
    cluster.propose(4, 1);
    assert_eq!(cluster.applied[&NodeId(4)], cluster.applied[&NodeId(1)]);
    let promoted = cluster.change(4, role(4, MemberRole::Voter)).expect("a voter");
    assert_eq!((promoted.version(), promoted.voters().count()), (2, 4));
    // Three of four go on without the leader.
    let leader = cluster.leader();
    cluster.replicas.remove(&NodeId(leader));
    cluster.run(SECOND * 4);
    cluster.propose(4, 2);
}

/// Whoever was asked, and whoever leads by then.
#[test]
fn a_newcomer_becomes_a_voter_by_itself_although_its_leader_dies() {
    let mut cluster = Changing::of(3);
    let (asked, leader) = (cluster.follower(), cluster.leader());
    cluster.change(asked, add(4, MemberRole::Newcomer)).expect("a newcomer");
    cluster.run(SECOND);
    let role_of = |cluster: &Changing, node| {
        let status = cluster.replicas[&NodeId(asked)].status(cluster.now);
        status.membership.role(NodeId(node))
    };
    assert_eq!(role_of(&cluster, 4), Some(MemberRole::Newcomer), "it does not run yet");
    cluster.replicas.remove(&NodeId(leader));
    cluster.run(SECOND * 4);
    cluster.begin(4, 3, true);
    cluster.run(SECOND * 4);
    assert_eq!(role_of(&cluster, 4), Some(MemberRole::Voter));
    cluster.propose(4, 1);
}

/// Nothing depends at any time on a node that has nothing.
#[test]
fn a_learner_that_has_caught_up_takes_the_place_of_a_voter_in_one_step() {
    let mut cluster = Changing::of(3);
    let gone = cluster.follower();
    cluster.begin(4, 3, true);
    cluster.change(gone, add(4, MemberRole::Learner)).expect("a learner");
    cluster.run(SECOND * 2);
    let (node, by, address) = (NodeId(gone), NodeId(4), "elsewhere".to_owned());
    let replaced = cluster.change(gone, Change::Replace { node, by, address }).expect("a change");
    assert_eq!((replaced.voters().count(), replaced.address(by)), (3, Some("elsewhere")));
    assert!(replaced.is_voter(by) && replaced.has_removed(node));
    cluster.propose(4, 1);
}

#[test]
fn whoever_has_not_caught_up_does_not_get_a_vote() {
    let mut cluster = Changing::of(3);
    cluster.change(1, add(4, MemberRole::Learner)).expect("a learner that does not run");
    let refused = cluster.change(1, role(4, MemberRole::Voter));
    assert_eq!(refused, Err(NotReady::Behind(NodeId(4)).into()));
    // And nobody goes whom the rest needs.
    cluster.replicas.remove(&NodeId(cluster.follower()));
    cluster.run(SECOND * 3);
    let leader = cluster.leader();
    assert_eq!(cluster.change(leader, remove(leader)), Err(NotReady::NoQuorum.into()));
}

#[test]
fn a_member_that_is_removed_stops_and_is_told_if_it_comes_back() {
    let mut cluster = Changing::of(3);
    let gone = cluster.follower();
    let leader = cluster.leader();
    let before = cluster.replicas[&NodeId(gone)].clone();
    cluster.change(leader, remove(gone)).expect("two are left");
    cluster.run(SECOND);
    assert_eq!(cluster.ended.get(&NodeId(gone)), Some(&Halt::Removed));
    cluster.propose(leader, 1);
    // As it was before it heard of that.
    for sequence in 2..40 {
        cluster.propose(leader, sequence);
    }
    cluster.ended.clear();
    cluster.replicas.insert(NodeId(gone), before);
    cluster.run(SECOND * 4);
    assert_eq!(cluster.ended.get(&NodeId(gone)), Some(&Halt::Removed));
    assert_eq!(cluster.leader(), leader, "it disturbs nobody");
}

#[test]
fn a_leader_that_is_removed_hands_over() {
    let mut cluster = Changing::of(3);
    let leader = cluster.leader();
    cluster.change(leader, remove(leader)).expect("two are left");
    cluster.run(SECOND);
    assert_eq!(cluster.ended.get(&NodeId(leader)), Some(&Halt::Removed));
    let next = cluster.leader();
    assert_ne!(next, leader);
    cluster.propose(next, 1);
}

/// Until none of the first ones is left.
#[test]
fn every_member_is_replaced_one_after_the_other() {
    let mut cluster = Changing::of(3);
    for (gone, by) in [(1, 4), (2, 5), (3, 6)] {
        cluster.propose(gone, 1);
        cluster.begin(by, 3, true);
        let change = Change::Replace { node: NodeId(gone), by: NodeId(by), address: String::new() };
        cluster.change(gone, change).expect("a replacement");
        cluster.run(SECOND * 2);
        assert_eq!(cluster.ended.get(&NodeId(gone)), Some(&Halt::Removed));
        cluster.propose(by, 1);
    }
    assert_eq!(cluster.replicas.keys().map(|id| id.0).collect::<Vec<_>>(), [4, 5, 6]);
    cluster.run(SECOND);
    assert_eq!(cluster.applied[&NodeId(4)], cluster.applied[&NodeId(6)]);
}

#[test]
fn one_change_at_a_time_each_on_the_newest_membership() {
    let mut cluster = Changing::of(3);
    let leader = cluster.leader();
    let deadline = cluster.now.after(SECOND);
    for (number, window) in [(0, 2), (1, 3)] {
        let change = Change::Window(window);
        cluster.step(NodeId(leader), Input::Change { number, change, deadline });
    }
    cluster.run(SECOND);
    assert_eq!(cluster.outcomes[&1], Err(ChangeRefusal::Busy));
    assert_eq!(cluster.outcomes[&0].clone().map(|now| now.window()), Ok(2));
    // What comes late, again, has no effect.
    let old = Membership::new((1..=3).map(|id| (id, ""))).expect("three");
    let membership = Arc::new(old.changed(&Change::Window(5)).expect("a change"));
    let message = Message::Reconfigure(Reconfigure { membership });
    cluster.step(NodeId(leader), Input::Message { from: NodeId(cluster.follower()), message });
    cluster.run(SECOND);
    let status = cluster.replicas[&NodeId(leader)].status(cluster.now);
    assert_eq!((status.membership.version(), status.membership.window()), (1, 2));
}

#[test]
fn two_who_ask_at_once_get_one_change() {
    let mut cluster = Changing::of(3);
    let deadline = cluster.now.after(SECOND * 3);
    for (number, node) in [(0, 1), (1, 2), (2, 3)] {
        let change = Change::Window(number + 2);
        cluster.step(NodeId(node), Input::Change { number, change, deadline });
    }
    cluster.run(SECOND * 4);
    let made = cluster.outcomes.values().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(made, 1, "{:?}", cluster.outcomes);
    let overtaken = |outcome: &&ChangeOutcome| **outcome == Err(ChangeRefusal::Overtaken);
    assert_eq!(cluster.outcomes.values().filter(overtaken).count(), 2);
}

#[test]
fn a_node_that_has_been_removed_has_no_say() {
    let mut cluster = Changing::of(3);
    let (leader, gone) = (cluster.leader(), cluster.follower());
    cluster.change(leader, remove(gone)).expect("two are left");
    for sequence in 1..40 {
        cluster.propose(leader, sequence);
    }
    let replica = cluster.replicas.get_mut(&NodeId(leader)).expect("it runs");
    let ballot = Ballot { round: 1000, node: NodeId(gone) };
    let message = Message::Prepare(crate::message::Prepare { ballot, from: Slot(1) });
    let from = NodeId(gone);
    let effects = replica.step(cluster.now, Input::Message { from, message });
    let told = Message::Removed(Removed { version: 1 });
    assert_eq!((effects.send, effects.persist), (vec![(from, told)], None));
    assert_eq!(replica.status(cluster.now).role, Role::Leading);
}

/// Until it votes it proposes by the membership before, which it is no voter of.
#[test]
fn a_new_voter_that_is_elected_before_it_votes_leads() {
    let mut first = 0;
    for seed in 0..20 {
        let mut cluster = Changing::seeded(4, seed);
        let (leader, new) = (cluster.leader(), cluster.follower());
        cluster.change(leader, role(new, MemberRole::Learner)).expect("three vote");
        let (change, deadline) = (role(new, MemberRole::Voter), cluster.now.after(SECOND));
        cluster.step(NodeId(leader), Input::Change { number: 7, change, deadline });
        let knows = |cluster: &Changing| {
            let status = cluster.replicas[&NodeId(new)].status(cluster.now);
            status.membership.is_voter(NodeId(new))
        };
        while !knows(&cluster) {
            let (from, to, message) = cluster.in_transit.pop_front().expect("it hears of it");
            cluster.step(to, Input::Message { from, message });
        }
        // The leader dies before the change is in force.
        cluster.replicas.remove(&NodeId(leader));
        cluster.in_transit.clear();
        cluster.run(SECOND * 4);
        let next = cluster.leader();
        first += usize::from(next == new);
        cluster.propose(next, 1);
        assert_eq!(cluster.leader(), next, "it stays");
    }
    assert!(first > 0, "the new voter was never the first to notice");
}

/// It knows of the change from its predecessor, and has more to propose than both windows hold.
#[test]
fn a_new_leader_keeps_within_a_window_that_becomes_smaller() {
    const COMMANDS: u64 = 40;
    let mut cluster = Changing::of(3);
    let (leader, next) = (cluster.leader(), cluster.follower());
    for replica in cluster.replicas.values_mut() {
        replica.config.batch_commands_max = 1;
    }
    let (change, deadline) = (Change::Window(2), cluster.now.after(SECOND));
    cluster.step(NodeId(leader), Input::Change { number: 0, change, deadline });
    let mut changed = None;
    while let Some((from, to, message)) = cluster.in_transit.pop_front() {
        if let Message::Accept(accept) = &message {
            let changed = changed.get_or_insert(accept.slot);
            // Of what comes behind the change, one slot arrives, at the one that is going to lead.
            if accept.slot > changed.next() || accept.slot == changed.next() && to != NodeId(next) {
                continue;
            }
        }
        cluster.step(to, Input::Message { from, message });
    }
    let chosen = cluster.replicas[&NodeId(next)].status(cluster.now).chosen;
    assert_eq!(Some(chosen), changed, "the change, and nothing behind it");
    cluster.replicas.remove(&NodeId(leader));
    let client = cluster.replicas[&NodeId(next)].client();
    for sequence in 1..=COMMANDS {
        let id = RequestId { client, sequence };
        cluster.step(NodeId(next), proposal(cluster.now, id, Bytes::from_static(b"x")));
    }
    cluster.run(SECOND * 10);
    assert_eq!(cluster.leader(), next);
    let replica = cluster.replicas.get_mut(&NodeId(next)).expect("it runs");
    assert_eq!(replica.answers().count() as u64, COMMANDS);
}
