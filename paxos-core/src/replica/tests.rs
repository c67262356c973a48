//! A few replicas in one thread, driven by hand: the network delivers at once or loses, the disk
//! writes at once, time moves when told to.

mod alone;
mod backlog;
mod bad_input;
mod candidacy;
mod chosen_records;
mod corpus;
mod delivery;
mod hanging_disks;
mod held_back;
mod leadership;
mod log_reads;
mod observed;
mod own_requests;
mod pages;
mod passing_on;
mod pulling;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::{Delivery, Effects, Halt, Outcome, Proposal, Refusal, Role, Verdict, WriteId};
use crate::{
    config::Config,
    limits,
    message::{Accept, Accepted, Heartbeat, Message, PollReply, Promise, Record, Watermark},
    port::{Recovered, SessionCheckpoint},
    types::{
        Ballot, ClusterId, Identity, Instant, Membership, NodeId, RequestId, Slot, StoreId, Value,
    },
};

type Input = super::Input<RequestId>;
type Replica = super::Replica<RequestId>;

/// A proposal that is waited for under its own name, for an hour.
fn proposal(now: Instant, id: RequestId, command: Bytes) -> Input {
    let deadline = now.after(Duration::from_secs(3600));
    Input::Propose(Proposal { id: Some(id), command, deadline, waiter: id })
}

struct Cluster {
    now: Instant,
    replicas: BTreeMap<NodeId, Replica>,
    delivered: BTreeMap<NodeId, Vec<Delivery>>,
    reads_ready: BTreeMap<NodeId, Vec<u64>>,
    in_transit: VecDeque<(NodeId, NodeId, Message)>,
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes whose disks bring no write to its end.
    hanging: BTreeSet<NodeId>,
    sent: Vec<Message>,
}

fn recovered(node: NodeId) -> Recovered {
    Recovered {
        identity: Identity { cluster: ClusterId(1), node, store: StoreId(node.0) },
        incarnation: 1,
        promised: Ballot::ZERO,
        chosen: Watermark::default(),
        floor: Slot::ZERO,
        records: Vec::new(),
        sessions: SessionCheckpoint::default(),
        peers: BTreeMap::new(),
    }
}

impl Cluster {
    fn new(size: u64) -> Cluster {
        Cluster::with(size, |_| {})
    }

    fn with(size: u64, adjust: impl Fn(&mut Config)) -> Cluster {
        let membership = Membership::new((1..=size).map(|id| (id, ""))).expect("small");
        let replica = |id| {
            let id = NodeId(id);
            let mut config = Config::new(id, membership.clone());
            adjust(&mut config);
            (id, Replica::new(config, recovered(id), Instant::ZERO).expect("sound"))
        };
        Cluster {
            now: Instant::ZERO,
            replicas: (1..=size).map(replica).collect(),
            delivered: BTreeMap::new(),
            reads_ready: BTreeMap::new(),
            in_transit: VecDeque::new(),
            cut: BTreeSet::new(),
            hanging: BTreeSet::new(),
            sent: Vec::new(),
        }
    }

    fn step(&mut self, node: u64, input: Input) -> Effects {
        let node = NodeId(node);
        let replica = self.replicas.get_mut(&node).expect("a node");
        let mut effects = replica.step(self.now, input);
        replica.check_invariants();
        let peers: Vec<_> = self.replicas.keys().copied().filter(|&peer| peer != node).collect();
        effects.address(peers.into_iter());
        let sent = std::mem::take(&mut effects.send);
        self.sent.extend(sent.iter().map(|(_, message)| message.clone()));
        self.in_transit.extend(sent.into_iter().map(|(to, message)| (node, to, message)));
        self.delivered.entry(node).or_default().append(&mut effects.deliver);
        self.reads_ready.entry(node).or_default().append(&mut effects.reads_ready);
        assert_eq!(effects.halt, None);
        if let Some((id, _)) = effects.persist.take()
            && !self.hanging.contains(&node)
        {
            self.step(node.0, Input::Persisted(id));
        }
        effects
    }

    /// Delivers messages until none is left.
    fn settle(&mut self) {
        while let Some((from, to, message)) = self.in_transit.pop_front() {
            if !self.cut.contains(&(from, to)) {
                self.step(to.0, Input::Message { from, message });
            }
        }
    }

    /// Lets time pass, a deadline at a time.
    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        self.settle();
        while let Some((deadline, node)) = self
            .replicas
            .iter()
            .filter_map(|(&id, replica)| Some((replica.next_deadline()?, id)))
            .min()
            && deadline <= end
        {
            self.now = self.now.max(deadline);
            self.step(node.0, Input::Tick);
            self.settle();
        }
        self.now = end;
    }

    fn propose(&mut self, node: u64, sequence: u64, command: &'static str) -> RequestId {
        let id = RequestId { client: self.replicas[&NodeId(node)].client(), sequence };
        self.step(node, proposal(self.now, id, Bytes::from(command)));
        let replica = self.replicas.get_mut(&NodeId(node)).expect("a node");
        assert_eq!(replica.answers().next(), None);
        id
    }

    fn leaders(&self) -> Vec<u64> {
        let leads =
            |(_, replica): &(&NodeId, &Replica)| replica.status(self.now).role == Role::Leading;
        self.replicas.iter().filter(leads).map(|(id, _)| id.0).collect()
    }

    /// The commands that `node` would have applied.
    fn applied(&self, node: u64) -> Vec<Bytes> {
        let mut commands = Vec::new();
        for delivery in self.delivered.get(&NodeId(node)).into_iter().flatten() {
            let Value::Batch(batch) = &delivery.value else { continue };
            for (range, verdict) in &delivery.verdicts {
                if *verdict == Verdict::Fresh {
                    commands.extend(range.clone().map(|index| batch.command(index)));
                }
            }
        }
        commands
    }

    fn cut_link(&mut self, one: u64, other: u64) {
        let (one, other) = (NodeId(one), NodeId(other));
        self.cut.extend([(one, other), (other, one)]);
    }

    fn cut_off(&mut self, node: u64) {
        for peer in self.replicas.keys().map(|peer| peer.0).collect::<Vec<_>>() {
            self.cut_link(node, peer);
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_size_elects_one_leader_and_replicates_from_every_node() {
    for size in [1, 3, 5, 7] {
        let mut cluster = Cluster::new(size);
        cluster.run(2 * SECOND);
        assert_eq!(cluster.leaders().len(), 1, "of {size}");
        for node in 1..=size {
            cluster.propose(node, 1, "a");
        }
        cluster.run(SECOND / 2);
        for node in 1..=size {
            assert_eq!(cluster.applied(node).len() as u64, size, "node {node} of {size}");
            assert_eq!(cluster.applied(node), cluster.applied(1));
        }
    }
}

#[test]
fn nothing_durable_is_said_before_the_disk() {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
    let config = Config::new(NodeId(1), membership);
    let mut replica = Replica::new(config, recovered(NodeId(1)), Instant::ZERO).expect("sound");
    let ballot = Ballot { round: 1, node: NodeId(2) };
    let message = Message::Prepare(crate::message::Prepare { ballot, from: Slot(1) });
    let effects = replica.step(Instant::ZERO, Input::Message { from: NodeId(2), message });
    assert_eq!(effects.send, []);
    let (id, batch) = effects.persist.expect("the promise");
    assert_eq!((id, batch.promised), (WriteId(1), Some(ballot)));
    let effects = replica.step(Instant::ZERO, Input::Persisted(id));
    assert!(matches!(effects.send[..], [(NodeId(2), Message::Promise(_))]), "{effects:?}");
}

#[test]
fn a_leader_cut_off_is_replaced_and_its_command_survives() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let old = cluster.leaders()[0];
    cluster.cut_off(old);
    cluster.propose(old, 1, "kept");
    cluster.run(4 * SECOND);
    let new: Vec<_> = cluster.leaders();
    assert_eq!(new.len(), 1);
    assert_ne!(new[0], old);
    cluster.propose(new[0], 1, "new");
    cluster.run(SECOND);
    cluster.cut.clear();
    cluster.run(4 * SECOND);
    for node in 1..=3 {
        assert_eq!(cluster.applied(node), ["new", "kept"], "node {node}");
    }
    assert_eq!(cluster.leaders(), new, "the returned node disturbs nobody");
}

#[test]
fn reads_are_confirmed_on_every_node() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    cluster.propose(1, 1, "a");
    for node in 1..=3 {
        cluster.step(node, Input::Read { number: 7 });
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
    cluster.step(old, Input::Read { number: 1 });
    cluster.run(4 * SECOND);
    assert_eq!(cluster.reads_ready[&NodeId(old)], [] as [u64; 0]);
    cluster.propose(cluster.leaders()[0], 1, "new");
    cluster.cut.clear();
    cluster.run(2 * SECOND);
    assert_eq!(cluster.reads_ready[&NodeId(old)], [1]);
    assert_eq!(cluster.applied(old), ["new"]);
}

#[test]
fn an_idle_cluster_writes_nothing_and_only_heartbeats() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    cluster.propose(1, 1, "a");
    cluster.run(SECOND);
    cluster.sent.clear();
    cluster.run(10 * SECOND);
    let heartbeats =
        |message: &Message| matches!(message, Message::Heartbeat(_) | Message::HeartbeatReply(_));
    assert!(cluster.sent.iter().all(heartbeats));
    assert!(cluster.sent.len() <= 404, "{}", cluster.sent.len());
}

impl Cluster {
    /// Cuts every link but these, which work both ways.
    fn connect_only(&mut self, links: &[(u64, u64)]) {
        let nodes: Vec<_> = self.replicas.keys().copied().collect();
        self.cut.clear();
        for &from in &nodes {
            for &to in &nodes {
                let link = |&(a, b): &(u64, u64)| {
                    (NodeId(a), NodeId(b)) == (from, to) || (NodeId(b), NodeId(a)) == (from, to)
                };
                if !links.iter().any(link) {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    /// Nodes 1 to `size`, renumbered so that the present leader comes first.
    fn leader_first(&self) -> Vec<u64> {
        let mut nodes: Vec<_> = self.replicas.keys().map(|id| id.0).collect();
        nodes.sort_by_key(|id| !self.leaders().contains(id));
        nodes
    }

    fn ballots(&self) -> BTreeSet<Ballot> {
        self.replicas.values().map(|replica| replica.status(self.now).ballot).collect()
    }
}

/// Within four election timeouts `node` takes a command for which it has to have a leader, and the
/// leadership then holds.
fn has_a_stable_leader(cluster: &mut Cluster, node: u64) {
    let timeout = SECOND;
    cluster.run(4 * timeout);
    let before = cluster.applied(node).len();
    cluster.propose(node, 1000 + before as u64, "probe");
    cluster.run(timeout / 2);
    assert_eq!(cluster.applied(node).len(), before + 1, "no leader for node {node}");
    let ballots = cluster.ballots();
    cluster.run(20 * timeout);
    assert_eq!(cluster.ballots(), ballots, "the leader did not last");
}

#[test]
fn quorum_loss_everyone_reaches_only_the_hub() {
    let mut cluster = Cluster::new(5);
    cluster.run(2 * SECOND);
    let [leader, hub, b, c, d] = cluster.leader_first()[..] else { panic!("five nodes") };
    cluster.connect_only(&[(hub, leader), (hub, b), (hub, c), (hub, d)]);
    has_a_stable_leader(&mut cluster, hub);
    assert_eq!(cluster.leaders(), [hub]);
}

#[test]
fn constrained_election_the_only_candidate_has_an_old_log() {
    let mut cluster = Cluster::new(5);
    cluster.run(2 * SECOND);
    let [leader, old, b, c, d] = cluster.leader_first()[..] else { panic!("five nodes") };
    cluster.cut_off(old);
    cluster.propose(leader, 1, "missed");
    cluster.run(SECOND / 2);
    cluster.connect_only(&[(old, b), (old, c), (old, d)]);
    has_a_stable_leader(&mut cluster, old);
    assert_eq!(cluster.applied(old), ["missed", "probe"]);
}

#[test]
fn chained_the_end_of_the_chain_disturbs_nobody_and_is_served() {
    let mut cluster = Cluster::new(3);
    cluster.run(2 * SECOND);
    let [leader, middle, end] = cluster.leader_first()[..] else { panic!("three nodes") };
    cluster.connect_only(&[(leader, middle), (middle, end)]);
    let ballots = cluster.ballots();
    cluster.propose(end, 1, "from the end");
    cluster.step(end, Input::Read { number: 9 });
    cluster.run(4 * SECOND);
    assert_eq!(cluster.ballots(), ballots, "the leader lost its place");
    assert_eq!(cluster.applied(leader), ["from the end"]);
    assert_eq!(cluster.applied(end), ["from the end"]);
    assert_eq!(cluster.reads_ready[&NodeId(end)], [9]);
}

#[test]
fn a_leader_that_only_sends_or_only_hears_is_replaced() {
    for hears in [true, false] {
        let mut cluster = Cluster::new(3);
        cluster.run(2 * SECOND);
        let [leader, b, c] = cluster.leader_first()[..] else { panic!("three nodes") };
        for peer in [b, c] {
            let (from, to) = if hears { (leader, peer) } else { (peer, leader) };
            cluster.cut.insert((NodeId(from), NodeId(to)));
        }
        has_a_stable_leader(&mut cluster, b);
        assert_ne!(cluster.leaders(), [leader], "hears: {hears}");
    }
}

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
    let poll = Message::Poll(crate::message::Poll { number: u64::MAX, chosen: Slot(1) });
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

fn follower() -> Replica {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
    let config = Config::new(NodeId(1), membership);
    Replica::new(config, recovered(NodeId(1)), Instant::ZERO).expect("sound")
}

/// The disk hangs, and meanwhile everything is asked again and again, at ever higher ballots.
#[test]
fn what_waits_for_a_hanging_disk_waits_once() {
    let mut replica = follower();
    let mut issued = WriteId(0);
    let mut tell = |from, message| {
        let from = NodeId(from);
        let effects = replica.step(Instant::ZERO, Input::Message { from, message });
        issued = effects.persist.map_or(issued, |(id, _)| id);
        assert_eq!((&effects.send[..], &effects.broadcast[..]), (&[][..], &[][..]));
        replica.check_invariants();
        issued
    };
    let mut last = WriteId(0);
    for round in 1..=20 {
        let ballot = Ballot { round, node: NodeId(2) };
        for _ in 0..50 {
            tell(2, Message::Prepare(crate::message::Prepare { ballot, from: Slot(1) }));
            for slot in [1, 2] {
                let chosen = Watermark::default();
                let accept = Accept { ballot, slot: Slot(slot), value: Value::Noop, chosen };
                last = tell(2, Message::Accept(accept));
            }
        }
    }
    let effects = replica.step(Instant::ZERO, Input::Persisted(last));
    let ballot = Ballot { round: 20, node: NodeId(2) };
    let vote = Accepted { ballot, first: Slot(1), last: Slot(2) };
    let [(_, Message::Promise(promise)), (_, Message::Accepted(accepted))] = &effects.send[..]
    else {
        panic!("one promise and one vote: {:?}", effects.send)
    };
    assert_eq!((promise.ballot, accepted), (ballot, &vote));
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
            let read = [Input::Read { number }, Input::GiveUpRead { number }];
            let effects = replica.step_all(cluster.now, read);
            assert_eq!(effects.reads_refused, [0; 0]);
        }
        cluster.step(leader, Input::Tick);
    }
}

/// What a quorum of promises reports contradicts what a leader has told: somebody's log is damaged.
#[test]
fn a_candidate_that_finds_damage_halts_and_does_nothing_else() {
    let mut replica = follower();
    let hear = |replica: &mut Replica, now, from, message| {
        replica.step(now, Input::Message { from: NodeId(from), message })
    };
    let ballot = Ballot { round: 1, node: NodeId(2) };
    let chosen = Watermark { slot: Slot(1), hash: 42 };
    let heartbeat = Message::Heartbeat(Heartbeat { ballot, round: 1, chosen });
    hear(&mut replica, Instant::ZERO, 2, heartbeat);
    let now = Instant::ZERO.after(2 * SECOND);
    let effects = replica.step(now, Input::Tick);
    let poll = effects.broadcast.iter().find_map(|message| match message {
        Message::Poll(poll) => Some(poll.number),
        _ => None,
    });
    let granted = PollReply {
        number: poll.expect("it polls"),
        granted: true,
        promised: ballot,
        leader: None,
        chosen: Slot(1),
    };
    let effects = hear(&mut replica, now, 3, Message::PollReply(granted));
    let (id, batch) = effects.persist.expect("its own promise");
    let ballot = batch.promised.expect("its own ballot");
    replica.step(now, Input::Persisted(id));
    let record = Record { slot: Slot(1), ballot: Ballot::CHOSEN, value: Value::Noop };
    let promise = Promise {
        ballot,
        from: Slot(1),
        records: vec![record],
        next: None,
        chosen: Slot(1),
        floor: Slot::ZERO,
    };
    let effects = hear(&mut replica, now, 3, Message::Promise(promise));
    assert!(matches!(effects.halt, Some(Halt::Diverged { slot: Slot(1), .. })), "{effects:?}");
    assert_eq!((effects.send, effects.persist, effects.deliver), (vec![], None, vec![]));
}

#[test]
fn only_the_other_voters_are_heard() {
    for from in [1, 4] {
        let mut replica = follower();
        let ballot = Ballot { round: 1, node: NodeId(from) };
        let message = Message::Prepare(crate::message::Prepare { ballot, from: Slot(1) });
        let from = NodeId(from);
        let effects = replica.step(Instant::ZERO, Input::Message { from, message });
        assert!(effects.persist.is_none() && effects.send.is_empty(), "{from}: {effects:?}");
    }
}

#[test]
fn a_node_with_a_full_disk_does_not_try_to_lead() {
    let mut replica = follower();
    replica.step(Instant::ZERO, Input::DiskFull(true));
    assert_eq!(replica.next_deadline(), None);
    let now = Instant::ZERO.after(9 * SECOND);
    assert_eq!(replica.step(now, Input::Tick).broadcast, []);
    let effects = replica.step(now, Input::DiskFull(false));
    assert!(matches!(effects.broadcast[..], [Message::Poll(_)]), "{effects:?}");
}
