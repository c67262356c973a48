//! What clients want: commands and reads at any node, some of them given up, some proposed twice.
//!
//! Three kinds of clients: the nodes themselves, whose requests die with the process; roaming
//! ones with names of their own, which take the same request to another node when no answer comes; and
//! sparse ones, where the session table is small, which leave out every second number and ask for no
//! answer. Where it is too small for all clients, roaming ones are forgotten at times: then they go on in
//! a new epoch.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    application::{Answer, Application, Calls, ReadId},
    history::Waiting,
    plan::Plan,
};
use crate::types::{ClientId, NodeId, ReadMode, RequestId, Slot};

/// Roaming clients have names from here on.
const ROAMING_NAME: u64 = 1000;
const ROAMING_CLIENTS: u64 = 3;

/// Clients that leave holes have names from here on.
const SPARSE_NAME: u64 = 2000;
const SPARSE_CLIENTS: u64 = 2;

/// One proposal in so many is waited for so long only that it may have no answer by then.
const HASTY_ONE_IN: u8 = 8;
const HASTY_INTERVALS_MAX: f64 = 40.0;

/// Longer than any run.
pub(super) const PATIENCE: Duration = Duration::from_secs(100 * 3600);

/// How long a client waits for its command: most until the end of the run.
fn patience(plan: &Plan, rng: &mut fastrand::Rng) -> Duration {
    if rng.u8(..HASTY_ONE_IN) == 0 {
        plan.client_interval.mul_f64(HASTY_INTERVALS_MAX * rng.f64())
    } else {
        PATIENCE
    }
}

/// What a client does next.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Propose these at a node, together, and wait for each so long.
    Propose(Vec<(RequestId, Bytes, Duration)>),
    /// Propose another command under a request id that has been answered.
    Reuse(RequestId, Bytes),
    /// Read, in this mode.
    Read(u64, ReadMode),
    /// Give a read up.
    GiveUpRead(u64),
}

/// A process on a node: what was asked of it dies with it.
type Life = (NodeId, u64);

#[derive(Debug, Default)]
struct Numbers {
    sequence: u64,
    read: u64,
    /// The last command answered.
    answered: u64,
}

/// A client that is bound to no node.
#[derive(Debug)]
struct Roamer {
    client: ClientId,
    sequence: u64,
    /// Whether the request of this sequence number is still open.
    is_open: bool,
    command: Bytes,
    /// Where it has been proposed.
    asked: BTreeSet<Life>,
}

/// The clients and what they wait for.
pub(super) struct Workload {
    application: Arc<dyn Application>,
    numbers: BTreeMap<Life, Numbers>,
    /// Commands of the nodes' own that somebody waits for.
    waiting: BTreeMap<RequestId, Life>,
    reads: BTreeSet<ReadId>,
    roamers: Vec<Roamer>,
    sparse: Vec<RequestId>,
    /// The highest epoch of those that are not nodes.
    epoch: u64,
    /// Nodes that are no members any more: their own sessions may be forgotten, as those of any client.
    removed: BTreeSet<NodeId>,
    /// Whether clients are forgotten, so that what one waits for may expire.
    forgets: bool,
    /// The last answer that any client has heard.
    heard: Option<Answer>,
    /// The slot of the command that was acknowledged last.
    written: Slot,
}

impl Waiting for Workload {
    fn is_awaited(&self, id: RequestId) -> bool {
        let roams = || self.roamers.iter().any(|roamer| roamer.waits_for(id));
        let is_known = |life: &Life| !self.removed.contains(&life.0);
        self.waiting.get(&id).is_some_and(is_known) || !self.forgets && roams()
    }
}

impl Roamer {
    fn waits_for(&self, id: RequestId) -> bool {
        self.is_open && self.id() == id
    }

    fn id(&self) -> RequestId {
        RequestId { client: self.client, sequence: self.sequence }
    }
}

impl Workload {
    pub(super) fn new(application: Arc<dyn Application>, forgets: bool) -> Workload {
        let roamer = |index| Roamer {
            client: ClientId { name: ROAMING_NAME + index, epoch: 1 },
            sequence: 0,
            is_open: false,
            command: Bytes::new(),
            asked: BTreeSet::new(),
        };
        let sparse = |index| RequestId {
            client: ClientId { name: SPARSE_NAME + index, epoch: 1 },
            sequence: 0,
        };
        Workload {
            application,
            numbers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            reads: BTreeSet::new(),
            roamers: (0..ROAMING_CLIENTS).map(roamer).collect(),
            sparse: (0..SPARSE_CLIENTS).map(sparse).collect(),
            epoch: 1,
            removed: BTreeSet::new(),
            forgets,
            heard: None,
            written: Slot::ZERO,
        }
    }

    /// What some client does next at this node in this life.
    pub(super) fn act(&mut self, life: Life, plan: &Plan, rng: &mut fastrand::Rng) -> Vec<Action> {
        match rng.u8(..20) {
            0..=6 => {
                let patience = patience(plan, rng);
                vec![self.propose(life, 1, patience, plan, rng)]
            }
            7 | 8 => {
                let (count, patience) = (rng.u64(2..12), patience(plan, rng));
                vec![self.propose(life, count, patience, plan, rng)]
            }
            9..=13 => {
                let mode = self.mode(rng);
                vec![self.read(life, mode)]
            }
            14 => self.give_up(life, rng),
            15 => self.reuse(life, plan, rng),
            16 if plan.leaves_holes() => vec![self.leave_holes(plan, rng)],
            _ => vec![self.roam(life, plan, rng)],
        }
    }

    /// A command and reads of this node, which the end of the run waits for.
    pub(super) fn last_wishes(
        &mut self,
        life: Life,
        plan: &Plan,
        rng: &mut fastrand::Rng,
    ) -> Vec<Action> {
        let modes = [ReadMode::Quorum, ReadMode::AtLeast(self.written), ReadMode::Local];
        let reads = modes.map(|mode| self.read(life, mode));
        [self.propose(life, 1, PATIENCE, plan, rng)].into_iter().chain(reads).collect()
    }

    /// Whether what the clients have seen is what the application should have shown them.
    pub(super) fn judge(&self, calls: &Calls) -> Result<(), String> {
        self.application.judge(calls)
    }

    fn command(&self, plan: &Plan, rng: &mut fastrand::Rng) -> Bytes {
        self.application.command(rng, plan.command_bytes_max, self.heard.as_ref())
    }

    /// So many new commands of this node, together, each waited for so long.
    pub(super) fn propose(
        &mut self,
        life: Life,
        count: u64,
        patience: Duration,
        plan: &Plan,
        rng: &mut fastrand::Rng,
    ) -> Action {
        let client = ClientId { name: life.0.0, epoch: life.1 };
        let mut requests = Vec::new();
        for _ in 0..count {
            let numbers = self.numbers.entry(life).or_default();
            numbers.sequence += 1;
            let id = RequestId { client, sequence: numbers.sequence };
            self.waiting.insert(id, life);
            requests.push((id, self.command(plan, rng), patience));
        }
        Action::Propose(requests)
    }

    /// What some client wants of a read.
    fn mode(&self, rng: &mut fastrand::Rng) -> ReadMode {
        match rng.u8(..8) {
            0 => ReadMode::Local,
            1 | 2 => ReadMode::AtLeast(self.written),
            _ => ReadMode::Quorum,
        }
    }

    /// A new read of this node.
    pub(super) fn read(&mut self, life: Life, mode: ReadMode) -> Action {
        let numbers = self.numbers.entry(life).or_default();
        numbers.read += 1;
        self.reads.insert((life.0, life.1, numbers.read));
        Action::Read(numbers.read, mode)
    }

    fn give_up(&mut self, life: Life, rng: &mut fastrand::Rng) -> Vec<Action> {
        let reads: Vec<_> =
            self.reads.iter().filter(|read| (read.0, read.1) == life).copied().collect();
        let Some(read) = rng.choice(reads) else { return Vec::new() };
        self.reads.remove(&read);
        vec![Action::GiveUpRead(read.2)]
    }

    fn reuse(&mut self, life: Life, plan: &Plan, rng: &mut fastrand::Rng) -> Vec<Action> {
        let client = ClientId { name: life.0.0, epoch: life.1 };
        let sequence = self.numbers.get(&life).map_or(0, |numbers| numbers.answered);
        if sequence == 0 {
            return Vec::new();
        }
        let id = RequestId { client, sequence };
        vec![Action::Reuse(id, self.command(plan, rng))]
    }

    /// A roaming client comes to a node: with a new request if the last one is answered, with the
    /// same one if it is not and this node has not seen it.
    fn roam(&mut self, life: Life, plan: &Plan, rng: &mut fastrand::Rng) -> Action {
        let command = self.command(plan, rng);
        let index = rng.usize(..self.roamers.len());
        let roamer = &mut self.roamers[index];
        if !roamer.is_open {
            roamer.sequence += 1;
            roamer.is_open = true;
            roamer.command = command;
            roamer.asked.clear();
        } else if roamer.asked.contains(&life) {
            return self.read(life, ReadMode::Quorum);
        }
        let roamer = &mut self.roamers[index];
        roamer.asked.insert(life);
        Action::Propose(vec![(roamer.id(), roamer.command.clone(), PATIENCE)])
    }

    /// Some requests of a client that leaves a hole before each of them.
    fn leave_holes(&mut self, plan: &Plan, rng: &mut fastrand::Rng) -> Action {
        let (index, count) = (rng.usize(..self.sparse.len()), rng.u8(1..6));
        let propose = |_| {
            let command = self.command(plan, rng);
            let id = &mut self.sparse[index];
            id.sequence += 2;
            (*id, command, patience(plan, rng))
        };
        Action::Propose((0..count).map(propose).collect())
    }

    /// A node says that a request is too old.
    pub(super) fn expired(&mut self, id: RequestId) {
        let next = ClientId { name: id.client.name, epoch: self.epoch + 1 };
        let roamer = self.roamers.iter_mut().find(|roamer| roamer.waits_for(id));
        let sparse = self.sparse.iter_mut().find(|sparse| sparse.client == id.client);
        if let Some(roamer) = roamer {
            (roamer.client, roamer.sequence, roamer.is_open) = (next, 0, false);
        } else if let Some(sparse) = sparse.filter(|_| self.forgets) {
            *sparse = RequestId { client: next, sequence: 0 };
        } else {
            return;
        }
        self.epoch = next.epoch;
    }

    /// A node has a result for a command: says whether somebody waited for it there.
    pub(super) fn answered(&mut self, life: Life, id: RequestId) -> bool {
        if self.waiting.get(&id) == Some(&life) {
            self.waiting.remove(&id);
            self.numbers.entry(life).or_default().answered = id.sequence;
            return true;
        }
        let roamer = self
            .roamers
            .iter_mut()
            .find(|roamer| roamer.waits_for(id) && roamer.asked.contains(&life));
        match roamer {
            Some(roamer) => {
                roamer.is_open = false;
                true
            }
            None => false,
        }
    }

    /// A client of a node's own does not wait for its command any more.
    pub(super) fn given_up(&mut self, id: RequestId) {
        self.waiting.remove(&id);
    }

    /// Some client has heard an answer.
    pub(super) fn hears(&mut self, answer: &Answer) {
        self.heard = Some(answer.clone());
    }

    /// Some client knows in which slot its command has had its effect.
    pub(super) fn wrote(&mut self, slot: Option<Slot>) {
        self.written = slot.unwrap_or(self.written);
    }

    /// A node has refused a command; a roaming client may come again.
    pub(super) fn refused(&mut self, life: Life, id: RequestId) {
        self.waiting.remove(&id);
        for roamer in self.roamers.iter_mut().filter(|roamer| roamer.waits_for(id)) {
            roamer.asked.remove(&life);
        }
    }

    /// Whether a request id of a node's own has just been made, and not been answered or given up.
    pub(super) fn is_new(&self, life: Life, id: RequestId) -> bool {
        self.waiting.get(&id) == Some(&life)
    }

    /// A read was served or refused.
    pub(super) fn read_ended(&mut self, read: ReadId) {
        self.reads.remove(&read);
    }

    /// These nodes are no members any more.
    pub(super) fn removed(&mut self, nodes: &BTreeSet<NodeId>) {
        if self.removed.len() < nodes.len() {
            self.removed.clone_from(nodes);
        }
    }

    /// A node has crashed.
    pub(super) fn crashed(&mut self, node: NodeId) {
        self.waiting.retain(|_, life| life.0 != node);
        self.reads.retain(|read| read.0 != node);
    }

    /// Commands and reads that somebody waits for at this node in this life.
    pub(super) fn open_at(&self, life: Life) -> (usize, usize) {
        let commands = self.waiting.values().filter(|&&at| at == life).count();
        let reads = self.reads.iter().filter(|read| (read.0, read.1) == life).count();
        let roaming =
            self.roamers.iter().filter(|roamer| roamer.is_open && roamer.asked.contains(&life));
        (commands + roaming.count(), reads)
    }
}
