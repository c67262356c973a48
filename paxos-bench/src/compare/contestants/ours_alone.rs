//! This project's replica without its node: the only use of `Replica` in this crate.

use bytes::Bytes;
use paxos_core::{
    Config,
    message::{Message, Watermark},
    port::{Recovered, SessionCheckpoint},
    replica::{self, Effects, Outcome, Proposal, Replica, Verdict},
    types::{Ballot, ClusterId, Identity, Instant, Membership, NodeId, Slot, StoreId, Value},
};

use crate::compare::{
    CompareError,
    protocol::{Outbox, Protocol, TICK},
};
use crate::{HarnessError, Tally};

type Input = replica::Input<()>;

/// Longer than any run.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// One replica.
pub(in crate::compare) struct Solo {
    replica: Replica<()>,
    id: NodeId,
    peers: Vec<NodeId>,
    now: Instant,
    /// What the next step takes in.
    inputs: Vec<Input>,
    effects: Effects,
    outgoing: Vec<(NodeId, Message)>,
    /// Applied and not yet reported.
    applied: Tally,
}

impl Solo {
    fn new(id: u64, membership: Membership) -> Result<Solo, CompareError> {
        let node = NodeId(id);
        let recovered = Recovered {
            identity: Identity { cluster: ClusterId(1), node, store: StoreId(id) },
            incarnation: 1,
            promised: Ballot::ZERO,
            chosen: Watermark::default(),
            floor: Slot::default(),
            records: Vec::new(),
            sessions: SessionCheckpoint::default(),
            peers: [].into(),
        };
        let peers = membership.peers_of(node).collect();
        let replica = Replica::new(Config::new(node, membership), recovered, Instant::ZERO);
        let replica = replica.map_err(problem)?;
        Ok(Solo {
            replica,
            id: node,
            peers,
            now: Instant::ZERO,
            inputs: Vec::new(),
            effects: Effects::default(),
            outgoing: Vec::new(),
            applied: Tally::default(),
        })
    }

    /// A turn: steps until nothing follows, for what is written is durable and what is delivered is
    /// applied at once.
    fn turn(&mut self) -> Result<(), CompareError> {
        while !self.inputs.is_empty() {
            self.replica.step_into(self.now, self.inputs.drain(..), &mut self.effects);
            self.carry_out()?;
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), CompareError> {
        let effects = &mut self.effects;
        if let Some(halt) = effects.halt.take() {
            return Err(problem(halt));
        }
        if let Some(read) = effects.log_reads.first() {
            return Err(problem(format!("slots {:?} are no longer in memory", read.slots)));
        }
        for ((), outcome) in self.replica.answers() {
            if !matches!(outcome, Outcome::Applied { .. }) {
                return Err(problem(format!("{outcome:?}")));
            }
        }
        effects.address(self.peers.iter().copied());
        self.outgoing.append(&mut effects.send);
        self.inputs.extend(effects.persist.take().map(|(id, _)| Input::Persisted(id)));
        let Some(last) = effects.deliver.last().map(|delivery| delivery.slot) else {
            return Ok(());
        };
        for delivery in effects.deliver.drain(..) {
            let Value::Batch(batch) = delivery.value else { continue };
            for (range, verdict) in delivery.verdicts {
                if verdict == Verdict::Fresh {
                    for index in range {
                        self.applied.count(batch.command_bytes(index).len());
                    }
                }
            }
        }
        self.inputs.push(Input::Applied { slot: last, durable: last });
        Ok(())
    }
}

fn problem(problem: impl std::fmt::Display) -> CompareError {
    CompareError::Peer { contestant: "ours", problem: problem.to_string() }
}

impl Protocol for Solo {
    type Message = (NodeId, Message);

    fn cluster(nodes: usize) -> Result<Vec<Solo>, CompareError> {
        let ids = 1..=nodes as u64;
        let membership = Membership::new(ids.clone().map(|id| (id, format!("node-{id}"))));
        let membership = membership.map_err(HarnessError::from)?;
        ids.map(|id| Solo::new(id, membership.clone())).collect()
    }

    fn is_leader(&self) -> bool {
        self.replica.status(self.now).leader == Some(self.id)
    }

    fn propose(&mut self, payload: Bytes) -> Result<(), CompareError> {
        let deadline = self.now.after(PATIENCE);
        let proposal = Proposal { id: None, command: payload, deadline, waiter: () };
        self.inputs.push(Input::Propose(proposal));
        Ok(())
    }

    fn receive(&mut self, (from, message): (NodeId, Message)) -> Result<(), CompareError> {
        self.inputs.push(Input::Message { from, message });
        Ok(())
    }

    fn tick(&mut self) {
        self.now = self.now.after(TICK);
        self.inputs.push(Input::Tick);
    }

    fn advance(&mut self) -> Result<Tally, CompareError> {
        self.turn()?;
        Ok(std::mem::take(&mut self.applied))
    }

    fn flush(&mut self, outbox: &mut Outbox<Self::Message>) -> Result<(), CompareError> {
        self.turn()?;
        for (to, message) in self.outgoing.drain(..) {
            outbox.to[to.0 as usize - 1].push((self.id, message));
        }
        Ok(())
    }
}
