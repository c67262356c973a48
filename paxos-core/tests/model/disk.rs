//! The disk of a node: what is durable, and what is written and not yet durable.

use std::collections::VecDeque;

use paxos_core::{
    message::Record,
    port::{Image, Recovered, WriteBatch},
    replica::{LogRead, WriteId},
    types::{Ballot, ClusterId, Identity, NodeId, Slot, StoreId, Value},
};

/// A vote that has become durable.
#[derive(Clone, Debug)]
pub(crate) struct Vote {
    pub(crate) node: NodeId,
    pub(crate) slot: Slot,
    pub(crate) ballot: Ballot,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    incarnation: u64,
    durable: Image,
    unsynced: VecDeque<(WriteId, WriteBatch)>,
}

impl Disk {
    /// What a node finds when it starts.
    pub(crate) fn recover(&mut self, node: NodeId) -> Recovered {
        self.incarnation += 1;
        let identity = Identity { cluster: ClusterId(1), node, store: StoreId(node.0) };
        self.durable.recovered(identity, self.incarnation)
    }

    pub(crate) fn write(&mut self, id: WriteId, batch: WriteBatch) {
        self.unsynced.push_back((id, batch));
    }

    /// How many writes are not durable yet.
    pub(crate) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    /// The power fails: of the writes that are not durable the first `kept` are there afterwards.
    pub(crate) fn crash(&mut self, node: NodeId, kept: usize) -> Result<Vec<Vote>, String> {
        let mut votes = Vec::new();
        for _ in 0..kept {
            votes.extend(self.sync(node)?.map(|(_, votes)| votes).unwrap_or_default());
        }
        self.unsynced.clear();
        Ok(votes)
    }

    /// Makes the next write durable, if there is one. Fails if the promise has become lower or a
    /// vote lies below it.
    pub(crate) fn sync(&mut self, node: NodeId) -> Result<Option<(WriteId, Vec<Vote>)>, String> {
        let Some((id, batch)) = self.unsynced.pop_front() else { return Ok(None) };
        if let Some(promised) = batch.promised.filter(|promised| *promised < self.durable.promised)
        {
            return Err(format!(
                "the promise of node {node}, {}, sinks to {promised}",
                self.durable.promised
            ));
        }
        let mut votes = Vec::new();
        for Record { slot, ballot, value } in batch.records.iter().cloned() {
            if ballot < self.durable.promised {
                let promised = self.durable.promised;
                return Err(format!("node {node} votes at {ballot}, below its {promised}"));
            }
            if ballot.is_proposable() {
                votes.push(Vote { node, slot, ballot, value });
            }
        }
        self.durable.apply(&batch);
        Ok(Some((id, votes)))
    }

    /// Answers a read of the log.
    pub(crate) fn read(&self, read: &LogRead) -> Vec<Record> {
        self.durable.records.range(read.slots.clone()).map(|(_, record)| record.clone()).collect()
    }
}
