//! Commands that wait at the leader for a slot, and how they become batches.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    fmt,
};

use bytes::Bytes;

use super::sessions::SessionTable;
use crate::{
    config::Config,
    types::{Batch, BatchBuilder, RequestId},
};

/// The leader's queue. What does not fit is dropped: its origin sends it again.
#[derive(Clone, Default)]
pub(super) struct Queue {
    commands: VecDeque<(RequestId, u64, Bytes)>,
    bytes: usize,
    /// What is in the queue or in a slot not yet delivered, so that a request sent twice takes one
    /// slot. Never iterated, so its order decides nothing.
    pending: HashSet<RequestId>,
}

impl fmt::Debug for Queue {
    /// In a fixed order, so that equal queues look the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("commands", &self.commands)
            .field("bytes", &self.bytes)
            .field("pending", &self.pending.iter().collect::<BTreeSet<_>>())
            .finish()
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Takes a command that is not pending yet, if there is room.
    pub(super) fn push(&mut self, id: RequestId, open_from: u64, command: Bytes, config: &Config) {
        if self.bytes + command.len() > config.queue_bytes_max || !self.pending.insert(id) {
            return;
        }
        self.bytes += command.len();
        self.commands.push_back((id, open_from, command));
    }

    /// Whether a batch would be full.
    pub(super) fn fills_batch(&self, config: &Config) -> bool {
        self.bytes >= config.batch_bytes_max || self.commands.len() >= config.batch_commands_max
    }

    /// Cuts the next batch, without what has had its effect meanwhile.
    pub(super) fn cut(&mut self, sessions: &SessionTable, config: &Config) -> Option<Batch> {
        let mut builder = BatchBuilder::default();
        while let Some((id, open_from, command)) = self.commands.front() {
            let full = builder.len() >= config.batch_commands_max
                || builder.bytes() + command.len() > config.batch_bytes_max;
            if full && !builder.is_empty() {
                break;
            }
            self.bytes -= command.len();
            if sessions.is_settled(*id) {
                self.pending.remove(id);
                self.commands.pop_front();
                continue;
            }
            let open_from = *open_from;
            let (id, _, command) = self.commands.pop_front().expect("looked at it just now");
            builder.push(id, open_from, command);
        }
        builder.build()
    }

    /// Forgets the requests of a delivered batch.
    pub(super) fn on_delivered(&mut self, batch: &Batch) {
        if self.pending.is_empty() {
            return;
        }
        for run in batch.runs() {
            for sequence in run.first..run.end() {
                self.pending.remove(&RequestId { client: run.client, sequence });
            }
        }
    }

    /// Forgets everything: this node does not lead any more.
    pub(super) fn clear(&mut self) {
        self.commands.clear();
        self.pending.clear();
        self.bytes = 0;
    }
}
