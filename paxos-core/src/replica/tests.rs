//! A few replicas in one thread, driven by hand: the network delivers at once or loses, the disk
//! writes at once, time moves when told to.

mod alone;
mod backlog;
mod bad_input;
mod candidacy;
mod changing;
mod checkpoints;
mod chosen_records;
mod corpus;
mod delivery;
mod digests;
mod divergence;
mod far_behind;
mod fetching;
mod floors;
mod handover;
mod hanging_disks;
mod held_back;
mod installing;
mod leadership;
mod log_reads;
mod lost;
mod observed;
mod older_copy;
mod outdated;
mod own_requests;
mod pages;
mod partial_connectivity;
mod passing_on;
mod pulling;
mod reads;
mod serving;
mod slow_disks;
mod slow_links;
mod slow_pieces;
mod stalled;
mod unreached;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Delivery, Effects, Halt, Outcome, Proposal, Refusal, Role, Task, TransferOutcome, Verdict,
    WriteId,
};
use crate::{
    config::Config,
    limits,
    message::{Accept, Accepted, Heartbeat, Message, PollReply, Promise, Record, Watermark},
    port::{Checkpoint, Recovered},
    types::{
        Ballot, ClusterId, Identity, Instant, Membership, NodeId, ReadMode, RequestId, Slot,
        StoreId, Value,
    },
};

type Input = super::Input<RequestId>;
type Replica = super::Replica<RequestId>;

/// A proposal that is waited for under its own name, for an hour.
fn proposal(now: Instant, id: RequestId, command: Bytes) -> Input {
    let deadline = now.after(Duration::from_secs(3600));
    Input::Propose(Proposal { id: Some(id), command, deadline, waiter: id })
}

/// A linearizable read.
fn quorum_read(number: u64) -> Input {
    Input::Read { number, mode: ReadMode::Quorum }
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
    /// Nodes whose Accepts are lost, say because they are too large for a path.
    in_vain: BTreeSet<NodeId>,
    /// Nodes that get no proposals while they lead, and nodes whose own are lost wherever they go.
    unreached: BTreeSet<NodeId>,
    muffled: BTreeSet<NodeId>,
    /// How long a write takes; what comes meanwhile is one write behind it.
    sync: Duration,
    /// When the write under way ends, which it is, and the last that waits behind it.
    writing: BTreeMap<NodeId, (Instant, WriteId, WriteId)>,
    sent: Vec<Message>,
    transfers: Vec<(u64, TransferOutcome)>,
}

fn recovered(node: NodeId) -> Recovered {
    Recovered::first(Identity { cluster: ClusterId(1), node, store: StoreId(node.0) })
}

/// Takes out the slots that are to be applied.
fn deliveries(effects: &mut Effects) -> Vec<Delivery> {
    let delivery = |task| match task {
        Task::Apply(delivery) => Some(delivery),
        Task::Freeze(_) | Task::Digest(_) | Task::Restore(_) => None,
    };
    effects.tasks.drain(..).filter_map(delivery).collect()
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
            (id, Replica::new(config, recovered(id), None, Instant::ZERO).expect("sound"))
        };
        Cluster {
            now: Instant::ZERO,
            replicas: (1..=size).map(replica).collect(),
            delivered: BTreeMap::new(),
            reads_ready: BTreeMap::new(),
            in_transit: VecDeque::new(),
            cut: BTreeSet::new(),
            hanging: BTreeSet::new(),
            in_vain: BTreeSet::new(),
            unreached: BTreeSet::new(),
            muffled: BTreeSet::new(),
            sync: Duration::ZERO,
            writing: BTreeMap::new(),
            sent: Vec::new(),
            transfers: Vec::new(),
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
        self.delivered.entry(node).or_default().append(&mut deliveries(&mut effects));
        self.reads_ready.entry(node).or_default().append(&mut effects.reads_ready);
        assert_eq!(effects.halt, None);
        self.transfers.append(&mut effects.transfers);
        if let Some((id, _)) = effects.persist.take()
            && !self.hanging.contains(&node)
        {
            self.write(node, id);
        }
        effects
    }

    fn write(&mut self, node: NodeId, id: WriteId) {
        if self.sync.is_zero() {
            self.step(node.0, Input::Persisted(id));
        } else {
            let idle = (self.now.after(self.sync), id, id);
            self.writing.entry(node).or_insert(idle).2 = id;
        }
    }

    /// The write under way ends; the next one begins.
    fn written(&mut self, node: NodeId) {
        let (ended, id, last) = self.writing.remove(&node).expect("a write under way");
        if last > id {
            self.writing.insert(node, (ended.after(self.sync), last, last));
        }
        self.step(node.0, Input::Persisted(id));
    }

    /// Delivers messages until none is left.
    fn settle(&mut self) {
        while let Some((from, to, message)) = self.in_transit.pop_front() {
            let is_lost = match message {
                Message::Accept(_) => self.in_vain.contains(&from),
                Message::Propose(_) => {
                    let is_unreached = self.unreached.contains(&to);
                    is_unreached && self.leaders().contains(&to.0) || self.muffled.contains(&from)
                }
                _ => false,
            };
            if !is_lost && !self.cut.contains(&(from, to)) {
                self.step(to.0, Input::Message { from, message });
            }
        }
    }

    /// Lets time pass, a deadline at a time.
    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        self.settle();
        loop {
            let deadlines = self.replicas.iter();
            let deadlines =
                deadlines.filter_map(|(&id, replica)| Some((replica.next_deadline()?, id)));
            let tick = deadlines.min().filter(|(at, _)| *at <= end);
            let writes = self.writing.iter().map(|(&id, &(at, ..))| (at, id));
            let written = writes.min().filter(|(at, _)| *at <= end);
            match (written, tick) {
                (Some((at, node)), tick) if tick.is_none_or(|(deadline, _)| at <= deadline) => {
                    self.now = self.now.max(at);
                    self.written(node);
                }
                (_, Some((deadline, node))) => {
                    self.now = self.now.max(deadline);
                    self.step(node.0, Input::Tick);
                }
                (_, None) => break,
            }
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

fn follower() -> Replica {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
    let config = Config::new(NodeId(1), membership);
    Replica::new(config, recovered(NodeId(1)), None, Instant::ZERO).expect("sound")
}

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
    let mut replica =
        Replica::new(config, recovered(NodeId(1)), None, Instant::ZERO).expect("sound");
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
