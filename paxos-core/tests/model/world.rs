//! A world: its bounds, its states, and what can happen in it.

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, RwLock},
    time::Duration,
};

use paxos_core::{
    Config,
    message::Message,
    types::{Membership, NodeId},
};
use stateright::{Model, Path, Property};

use super::{
    digest::digest,
    history::History,
    network::{Envelope, Network},
    node::{Event, Node, Outcome},
    properties,
};

pub(crate) const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// The bounds of a world. Nothing else cuts the exploration short.
pub(crate) struct World {
    pub(crate) name: &'static str,
    /// How many states it has.
    pub(crate) states: usize,
    /// How often each node may try to lead.
    pub(crate) candidacies: [u8; 3],
    /// Commands of each node's own, proposed before anything else happens.
    pub(crate) commands: [u64; 3],
    /// How often each node may crash. A write of a node that may is durable at any time after it was
    /// handed over; elsewhere, where nobody could tell, at once.
    pub(crate) crashes: [u8; 3],
    /// Whether the commands are an embedder's client's, which may wait for them at any node.
    pub(crate) may_wait_anywhere: bool,
    /// What the network carries at all: from whom, to whom, what. It loses everything else.
    pub(crate) carries: fn(NodeId, NodeId, &Message) -> bool,
    /// What is expected to happen in it.
    pub(crate) sometimes: &'static [&'static str],
    #[cfg(paxos_bug_bank)]
    pub(crate) bug: Option<paxos_core::bug_bank::Bug>,
    /// What came of each event at each state of a node, as the same comes of it in every state of
    /// the world.
    pub(crate) known: RwLock<HashMap<(u64, u64), Arc<Step>>>,
}

/// A node with its digest.
pub(crate) struct Hashed {
    digest: u64,
    node: Node,
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.node.fmt(f)
    }
}

pub(crate) struct Step {
    node: Arc<Hashed>,
    sent: Vec<(u64, Arc<Envelope>)>,
    outcome: Outcome,
}

/// Clients that are no nodes have names from here on.
const ROAMING_NAME: u64 = 1000;

#[derive(Clone, Debug)]
pub(crate) struct State {
    nodes: [Arc<Hashed>; 3],
    network: Arc<Network>,
    pub(crate) history: Arc<History>,
    history_digest: u64,
    candidacies: [u8; 3],
    pub(crate) crashes: [u8; 3],
}

impl State {
    fn key(&self) -> ([u64; 5], [u8; 3], [u8; 3]) {
        let [a, b, c] = self.nodes.each_ref().map(|node| node.digest);
        ([a, b, c, self.network.digest(), self.history_digest], self.candidacies, self.crashes)
    }

    fn event(&self, action: &Action) -> Event {
        match *action {
            Action::Candidacy(_) => Event::Candidacy,
            Action::Sync(_) => Event::Sync,
            Action::Crash(_, kept) => Event::Crash(kept),
            Action::Deliver(_, digest) => {
                let envelope = self.network.get(digest);
                Event::Delivery(envelope.from, envelope.message.clone())
            }
        }
    }
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.key() == other.key()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// Something happens to a node; the index is its place in [`NODES`].
#[derive(Clone, PartialEq)]
pub(crate) enum Action {
    Candidacy(usize),
    Deliver(usize, u64),
    Sync(usize),
    Crash(usize, usize),
}

impl World {
    /// The name of the client whose commands this node takes.
    pub(crate) fn client_of(&self, node: NodeId) -> u64 {
        if self.may_wait_anywhere { ROAMING_NAME + node.0 } else { node.0 }
    }

    pub(crate) fn membership(&self) -> Membership {
        Membership::new(NODES.map(|node| (node.0, ""))).expect("three voters")
    }

    pub(crate) fn config(&self, id: NodeId) -> Config {
        Config {
            batch_commands_max: 1,
            // Nothing is pulled: who misses slots learns them from a leader.
            gap_patience: Duration::from_secs(1_000_000),
            ..Config::new(id, self.membership())
        }
    }

    /// Whether the node's writes are durable as soon as they are handed over.
    pub(crate) fn syncs_at_once(&self, id: NodeId) -> bool {
        NODES.iter().zip(self.crashes).any(|(node, crashes)| *node == id && crashes == 0)
    }

    /// What comes of an event, computed once for each state of a node.
    fn step(&self, state: &State, index: usize, action: &Action) -> Arc<Step> {
        let node = &state.nodes[index];
        let action_digest = match *action {
            Action::Candidacy(_) => 0,
            Action::Sync(_) => 1,
            Action::Crash(_, kept) => 2 + kept as u64,
            Action::Deliver(_, digest) => digest,
        };
        let key = (node.digest, action_digest);
        if let Some(known) = self.known.read().expect("no holder panics").get(&key) {
            return Arc::clone(known);
        }
        #[cfg(paxos_bug_bank)]
        let _planted = self.bug.map(paxos_core::bug_bank::plant);
        let (after, mut outcome) = node.node.after(self, &state.event(action));
        let from = NODES[index];
        let envelope = |(to, message)| {
            let envelope = Envelope { from, to, message };
            (envelope.digest(), Arc::new(envelope))
        };
        let sent = std::mem::take(&mut outcome.sent).into_iter().map(envelope).collect();
        let node = Arc::new(Hashed { digest: after.digest(self), node: after });
        let step = Arc::new(Step { node, sent, outcome });
        self.known.write().expect("no holder panics").insert(key, Arc::clone(&step));
        step
    }

    fn apply(&self, before: &State, index: usize, step: &Step) -> Option<State> {
        let Outcome { votes, delivered, broken, .. } = &step.outcome;
        let is_seen = !votes.is_empty() || !delivered.is_empty() || broken.is_some();
        let is_new = |(digest, _): &&(u64, _)| !before.network.contains(*digest);
        let mut has_changed = step.node.digest != before.nodes[index].digest
            || step.sent.iter().any(|sent| is_new(&sent));
        if !has_changed && !is_seen {
            return None;
        }
        let mut state = before.clone();
        state.nodes[index] = Arc::clone(&step.node);
        for (digest, envelope) in step.sent.iter().filter(is_new) {
            Arc::make_mut(&mut state.network).insert(*digest, envelope);
        }
        if is_seen {
            let history = Arc::make_mut(&mut state.history);
            votes.iter().for_each(|vote| history.on_vote(vote));
            for (slot, value) in delivered {
                history.on_delivered(*slot, value.clone());
            }
            if let Some(what) = broken {
                history.on_broken(what.clone());
            }
            state.history_digest = digest(history, &[]);
            has_changed |= state.history_digest != before.history_digest;
        }
        has_changed.then_some(state)
    }
}

impl World {
    /// What has happened on the way to a state, an event a line.
    pub(crate) fn story(&self, path: &Path<State, Action>) -> String {
        let line = |(state, action): (State, Option<Action>)| match action? {
            Action::Deliver(_, digest) => Some(format!("  {:?}\n", state.network.get(digest))),
            action => Some(format!("  {action:?}\n")),
        };
        path.clone().into_vec().into_iter().filter_map(line).collect()
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let node = |index: usize| {
            let node = Node::new(self, NODES[index], self.commands[index]);
            Arc::new(Hashed { digest: node.digest(self), node })
        };
        let history = History::default();
        vec![State {
            nodes: [0, 1, 2].map(node),
            network: Arc::default(),
            history_digest: digest(&history, &[]),
            history: Arc::new(history),
            candidacies: [0; 3],
            crashes: [0; 3],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.history.broken.is_some() {
            return;
        }
        for index in 0..NODES.len() {
            let unsynced = state.nodes[index].node.unsynced();
            if unsynced > 0 {
                actions.push(Action::Sync(index));
            } else if state.candidacies[index] < self.candidacies[index] {
                // Time moves far for it, and a node whose disk is at work for that long is none.
                actions.push(Action::Candidacy(index));
            }
            if state.crashes[index] < self.crashes[index] {
                actions.extend((0..=unsynced).map(|kept| Action::Crash(index, kept)));
            }
        }
        let deliver = |(digest, envelope): (u64, &Arc<Envelope>)| {
            let index = NODES.iter().position(|node| *node == envelope.to);
            Action::Deliver(index.expect("messages are sent to nodes"), digest)
        };
        actions.extend(state.network.envelopes().map(deliver));
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let (Action::Candidacy(index)
        | Action::Sync(index)
        | Action::Crash(index, _)
        | Action::Deliver(index, _)) = action;
        let step = self.step(before, index, &action);
        let mut state = self.apply(before, index, &step)?;
        state.candidacies[index] += u8::from(matches!(action, Action::Candidacy(_)));
        state.crashes[index] += u8::from(matches!(action, Action::Crash(..)));
        Some(state)
    }

    fn properties(&self) -> Vec<Property<World>> {
        properties::of(self)
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Action::Candidacy(index) => write!(f, "node {} prepares a ballot", NODES[index]),
            Action::Sync(index) => write!(f, "a write of node {} is durable", NODES[index]),
            Action::Crash(index, kept) => {
                write!(f, "node {} crashes, keeps {kept} unsynced writes, restarts", NODES[index])
            }
            Action::Deliver(index, digest) => {
                write!(f, "node {} gets message {digest:x}", NODES[index])
            }
        }
    }
}
