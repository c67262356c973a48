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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        port::SessionCheckpoint,
        types::{ClientId, Membership, NodeId, Slot},
    };

    fn id(sequence: u64) -> RequestId {
        RequestId { client: ClientId { name: 1, epoch: 1 }, sequence }
    }

    fn config() -> Config {
        let membership = Membership::new([(1, "")]).expect("one");
        Config {
            queue_bytes_max: 10,
            batch_bytes_max: 5,
            batch_commands_max: 3,
            ..Config::new(NodeId(1), membership)
        }
    }

    fn sessions() -> SessionTable {
        let membership = Membership::new([(1, "")]).expect("one");
        SessionTable::restore(&SessionCheckpoint::default(), &membership).expect("empty")
    }

    /// A queue after commands of these sizes, numbered from 1 on.
    fn queue(sizes: &[usize]) -> Queue {
        let mut queue = Queue::default();
        for (sequence, &size) in (1..).zip(sizes) {
            queue.push(id(sequence), 1, Bytes::from(vec![7; size]), &config());
        }
        queue
    }

    fn cut(queue: &mut Queue) -> Vec<u64> {
        let batch = queue.cut(&sessions(), &config());
        let batch = batch.iter().flat_map(Batch::requests);
        batch.map(|(id, _)| id.sequence).collect()
    }

    #[test]
    fn what_does_not_fit_is_dropped() {
        for (sizes, len, bytes) in
            [(&[6, 4][..], 2, 10), (&[6, 5, 4], 2, 10), (&[6, 9, 3], 2, 9), (&[0, 0, 0], 3, 0)]
        {
            let queue = queue(sizes);
            assert_eq!((queue.len(), queue.bytes()), (len, bytes), "{sizes:?}");
        }
    }

    #[test]
    fn a_batch_is_full_by_bytes_or_by_commands() {
        for (sizes, fills) in [(&[2, 2][..], false), (&[2, 3], true), (&[1, 1, 1], true)] {
            assert_eq!(queue(sizes).fills_batch(&config()), fills, "{sizes:?}");
        }
    }

    /// One that exceeds the limit by itself still gets its slot.
    #[test]
    fn batches_are_as_large_as_allowed() {
        for (sizes, batches) in [
            (&[2, 3, 1][..], &[&[1, 2][..], &[3]][..]),
            (&[2, 4, 1], &[&[1], &[2, 3]]),
            (&[1, 1, 1, 1], &[&[1, 2, 3], &[4]]),
            (&[8, 1], &[&[1], &[2]]),
        ] {
            let mut queue = queue(sizes);
            for expected in batches {
                assert_eq!(cut(&mut queue), *expected, "{sizes:?}");
            }
            assert!(queue.is_empty());
            assert_eq!(queue.bytes(), 0);
        }
    }

    #[test]
    fn a_request_is_pending_until_it_is_delivered_or_had_its_effect_before() {
        let again = |queue: &mut Queue| {
            queue.push(id(1), 1, Bytes::from("x"), &config());
            queue.len()
        };
        let mut queue = queue(&[1]);
        assert_eq!(again(&mut queue), 1, "it waits");
        let batch = queue.cut(&sessions(), &config()).expect("a batch");
        assert_eq!(again(&mut queue), 0, "it is in a slot");
        queue.on_delivered(&batch);
        assert_eq!(again(&mut queue), 1);

        let mut sessions = sessions();
        sessions.take_in(Slot(1), Some(&batch));
        assert!(queue.cut(&sessions, &config()).is_none());
        assert_eq!((again(&mut queue), queue.bytes()), (1, 1));
        queue.clear();
        assert_eq!((queue.len(), queue.bytes()), (0, 0));
        assert_eq!(again(&mut queue), 1);
    }

    /// Model checkers tell states apart by it.
    #[test]
    fn equal_queues_look_the_same_and_others_do_not() {
        let look = |sizes: &[usize]| format!("{:?}", queue(sizes));
        assert_eq!(look(&[1, 2, 3]), look(&[1, 2, 3]));
        assert_ne!(look(&[1, 2, 3]), look(&[1, 2]));
    }
}
