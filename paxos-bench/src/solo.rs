//! A replica by itself, driven by hand: no tasks, no channels, no network, no clock but the caller's.
//!
//! This is the only use of [`Replica`] in this crate, and a driver of an embedder's own in small: what
//! is to be written is durable at once, what is chosen is counted and thereby applied.

use std::{fmt::Display, time::Duration};

use bytes::Bytes;
use paxos_core::{
    Config,
    message::Message,
    port::Recovered,
    replica::{self, Effects, Outcome, Proposal, Replica, Task, Verdict},
    types::{ClusterId, Identity, Instant, Membership, NodeId, Slot, StoreId, Value},
};

use crate::{HarnessError, Tally};

type Input = replica::Input<()>;

/// Longer than any run.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// One replica of a cluster.
///
/// - Made by [`cluster`](Solo::cluster), [`with`](Solo::with).
/// - Inputs, which gather: [`propose`](Solo::propose), [`receive`](Solo::receive),
///   [`tick`](Solo::tick).
/// - Work: [`turn`](Solo::turn), after which [`outgoing`](Solo::outgoing) is what to send, and
///   [`take_applied`](Solo::take_applied) what has been chosen.
#[derive(Debug)]
pub struct Solo {
    replica: Replica<()>,
    id: NodeId,
    peers: Vec<NodeId>,
    now: Instant,
    /// What the next step takes in.
    inputs: Vec<Input>,
    effects: Effects,
    outgoing: Vec<(NodeId, Message)>,
    /// Applied and not yet asked for.
    applied: Tally,
}

impl Solo {
    /// The replicas of a new cluster, nodes 1 to `nodes`, none of which leads.
    ///
    /// # Errors
    ///
    /// If there cannot be so many.
    pub fn cluster(nodes: usize) -> Result<Vec<Solo>, HarnessError> {
        let ids = 1..=nodes as u64;
        let membership = Membership::new(ids.clone().map(|id| (id, format!("node-{id}"))))?;
        ids.map(|id| Solo::with(Config::new(NodeId(id), membership.clone()))).collect()
    }

    /// One with these settings.
    ///
    /// # Errors
    ///
    /// If they contradict each other.
    pub fn with(config: Config) -> Result<Solo, HarnessError> {
        let id = config.id;
        let identity = Identity { cluster: ClusterId(1), node: id, store: StoreId(id.0) };
        let peers = config.membership.peers_of(id).collect();
        let replica =
            Replica::new(config, Recovered::first(identity), Some(Slot::ZERO), Instant::ZERO);
        Ok(Solo {
            replica: replica.map_err(problem)?,
            id,
            peers,
            now: Instant::ZERO,
            inputs: Vec::new(),
            effects: Effects::default(),
            outgoing: Vec::new(),
            applied: Tally::default(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Whether it leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.replica.status(self.now).leader == Some(self.id)
    }

    /// Takes a command for the next turn.
    pub fn propose(&mut self, command: Bytes) {
        let deadline = self.now.after(PATIENCE);
        self.inputs.push(Input::Propose(Proposal { id: None, command, deadline, waiter: () }));
    }

    /// Takes a message of another replica for the next turn.
    pub fn receive(&mut self, from: NodeId, message: Message) {
        self.inputs.push(Input::Message { from, message });
    }

    /// So much time passes before the next turn.
    pub fn tick(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.inputs.push(Input::Tick);
    }

    /// Steps until nothing follows.
    ///
    /// # Errors
    ///
    /// If the replica halts, refuses a command, or wants back what it has forgotten.
    pub fn turn(&mut self) -> Result<(), HarnessError> {
        while !self.inputs.is_empty() {
            self.replica.step_into(self.now, self.inputs.drain(..), &mut self.effects);
            self.carry_out()?;
        }
        Ok(())
    }

    /// What has been applied since this was asked last.
    pub fn take_applied(&mut self) -> Tally {
        std::mem::take(&mut self.applied)
    }

    /// What is to be sent, each message with its receiver.
    pub fn outgoing(&mut self) -> impl Iterator<Item = (NodeId, Message)> + '_ {
        self.outgoing.drain(..)
    }

    fn carry_out(&mut self) -> Result<(), HarnessError> {
        let effects = &mut self.effects;
        if let Some(halt) = effects.halt.take() {
            return Err(problem(halt));
        }
        if let Some(read) = effects.log_reads.first() {
            return Err(problem(format_args!("slots {:?} are no longer in memory", read.slots)));
        }
        for ((), outcome) in self.replica.answers() {
            if !matches!(outcome, Outcome::Applied { .. }) {
                return Err(problem(format_args!("a command is {outcome:?}")));
            }
        }
        effects.address(self.peers.iter().copied());
        self.outgoing.append(&mut effects.send);
        self.inputs.extend(effects.persist.take().map(|(id, _)| Input::Persisted(id)));
        let last = effects.tasks.iter().rev().find_map(Task::delivery);
        let Some(last) = last.map(|delivery| delivery.slot) else {
            return Ok(());
        };
        for task in effects.tasks.drain(..) {
            let Task::Apply(delivery) = task else { continue };
            let Value::Batch(batch) = delivery.value else { continue };
            for (range, verdict) in delivery.verdicts {
                if verdict == Verdict::Fresh {
                    for index in range {
                        self.applied.count(batch.command_bytes(index).len());
                    }
                }
            }
        }
        self.inputs.push(Input::Applied { slot: last, durable: Some(last) });
        Ok(())
    }
}

fn problem(problem: impl Display) -> HarnessError {
    HarnessError::Replica(problem.to_string())
}
