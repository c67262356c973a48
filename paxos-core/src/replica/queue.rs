//! Commands that wait at the leader for a slot, in the batches that they will be.
//!
//! A command is copied into the next batch when it comes: what it came in, a proposal or a message of
//! many, is held no longer.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use super::{ranges::Ranges, sessions::SessionTable};
use crate::{
    config::Config,
    planted::planted,
    types::{Batch, BatchBuilder, ClientId, RequestId, Run},
};

/// What a command takes up in the queue beside its bytes, so that empty ones are bounded too.
const OVERHEAD_BYTES: usize = 64;

/// The leader's queue. What does not fit is dropped: its origin sends it again.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// The last one takes what comes, until it is full.
    batches: VecDeque<BatchBuilder>,
    /// Of all batches.
    commands: usize,
    /// Of the commands alone.
    bytes: usize,
    pending: Pending,
}

/// What is in the queue or in a slot not delivered yet, so that a request sent twice takes one slot.
/// After that the session table knows.
#[derive(Clone, Debug, Default)]
struct Pending {
    clients: BTreeMap<ClientId, Ranges>,
    /// Of all clients.
    ranges: usize,
    /// Clients with nothing pending are forgotten when there are more than this.
    clients_kept: usize,
}

/// Clients that it is not worth looking through.
const CLIENTS_KEPT_MIN: usize = 64;

impl Pending {
    /// Requests that are not pending any more. If a range that is cut in two is one too many, the first
    /// one is forgotten: of these, one that is sent again takes another slot, and has no effect there.
    fn remove(&mut self, client: ClientId, sequences: &Range<u64>, ranges_max: usize) {
        let Some(known) = self.clients.get_mut(&client) else { return };
        let others = self.ranges - known.len();
        known.remove(sequences);
        if others + known.len() > ranges_max {
            known.pop_first();
        }
        self.ranges = others + known.len();
    }

    /// Forgets clients with nothing pending, if there are many.
    fn prune(&mut self) {
        if self.clients.len() > self.clients_kept.max(CLIENTS_KEPT_MIN) {
            self.clients.retain(|_, known| !known.is_empty());
            self.clients_kept = 2 * self.clients.len();
        }
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.commands
    }

    /// What the commands take up.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.commands * OVERHEAD_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// Whether a request is pending.
    pub(super) fn is_pending(&self, id: RequestId) -> bool {
        self.pending.clients.get(&id.client).is_some_and(|known| known.contains(id.sequence))
    }

    /// Ranges of requests that are pending.
    pub(super) fn pending(&self) -> usize {
        self.pending.ranges
    }

    /// Takes commands of a client that are not pending yet, as long as there is room.
    pub(super) fn push(
        &mut self,
        client: ClientId,
        open_from: u64,
        mut commands: impl Iterator<Item = (u64, impl AsRef<[u8]>)>,
        config: &Config,
    ) {
        self.pending.prune();
        let Queue { batches, commands: count, bytes, pending } = self;
        let known = pending.clients.entry(client).or_default();
        let others = pending.ranges - known.len();
        while let Some((sequence, command)) = commands.next() {
            let command = command.as_ref();
            let weight = *bytes + (*count + 1) * OVERHEAD_BYTES + command.len();
            if weight > config.queue_bytes_max && *count > 0 {
                break;
            }
            if known.contains(sequence) {
                continue;
            }
            let request = sequence..sequence + 1;
            known.insert(request.clone());
            if others + known.len() > ranges_max(config) {
                known.remove(&request);
                continue;
            }
            let expected = commands.size_hint().1.unwrap_or(0) + 1;
            let batch = batch_with_room(batches, command.len(), expected, config);
            batch.push(RequestId { client, sequence }, open_from, command);
            *bytes += command.len();
            *count += 1;
        }
        pending.ranges = others + known.len();
    }

    /// Whether a batch is full.
    pub(super) fn fills_batch(&self, config: &Config) -> bool {
        self.bytes >= config.batch_bytes_max || self.commands >= config.batch_commands_max
    }

    /// Cuts the next batch, without what has had its effect meanwhile.
    pub(super) fn cut(&mut self, sessions: &SessionTable, config: &Config) -> Option<Batch> {
        let mut batch = None;
        while batch.is_none()
            && let Some(next) = self.batches.pop_front()
        {
            self.bytes -= next.bytes();
            self.commands -= next.len();
            batch = next.build().and_then(|next| self.without_settled(next, sessions, config));
        }
        assert_eq!(self.batches.is_empty(), self.commands == 0, "a batch has commands");
        assert!(self.commands > 0 || self.bytes == 0, "no command has {} bytes", self.bytes);
        batch
    }

    /// What is left of a batch without requests that need no slot any more.
    fn without_settled(
        &mut self,
        batch: Batch,
        sessions: &SessionTable,
        config: &Config,
    ) -> Option<Batch> {
        let is_open = |run: &Run| sessions.are_open(run.client, &(run.first..run.end()));
        if batch.runs().iter().all(is_open) {
            return Some(batch);
        }
        let mut rest = BatchBuilder::default();
        let open_from =
            batch.runs().iter().flat_map(|run| (run.first..run.end()).map(|_| run.open_from));
        for ((id, command), open_from) in batch.requests().zip(open_from) {
            if sessions.is_settled(id) {
                self.forget(id.client, id.sequence..id.sequence + 1, config);
            } else {
                rest.push(id, open_from, command);
            }
        }
        rest.build()
    }

    /// Forgets the requests of a batch that has been delivered.
    pub(super) fn on_delivered(&mut self, batch: &Batch, config: &Config) {
        for run in batch.runs() {
            self.forget(run.client, run.first..run.end(), config);
        }
    }

    fn forget(&mut self, client: ClientId, sequences: Range<u64>, config: &Config) {
        self.pending.remove(client, &sequences, ranges_max(config));
    }

    /// Forgets everything: this node does not lead any more.
    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }
}

/// How many ranges of requests may be pending.
fn ranges_max(config: &Config) -> usize {
    if planted!(PendingUnbounded) { usize::MAX } else { config.pending_ranges_max }
}

/// The last batch, if a command of `len` bytes fits into it, or else another, with room for `expected`
/// commands like it. An empty one takes any command.
fn batch_with_room<'a>(
    batches: &'a mut VecDeque<BatchBuilder>,
    len: usize,
    expected: usize,
    config: &Config,
) -> &'a mut BatchBuilder {
    let has_room = batches.back().is_some_and(|batch| {
        batch.len() < config.batch_commands_max && batch.bytes() + len <= config.batch_bytes_max
    });
    if !has_room {
        let commands = expected.min(config.batch_commands_max);
        let bytes = len.saturating_mul(commands).min(config.batch_bytes_max.max(len));
        batches.push_back(BatchBuilder::with_capacity(commands, bytes));
    }
    batches.back_mut().expect("there is one by now")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        port::Checkpoint,
        types::{Membership, NodeId, Slot},
    };

    const CLIENT: ClientId = ClientId { name: 1, epoch: 1 };

    fn config() -> Config {
        let membership = Membership::new([(1, "")]).expect("one");
        Config {
            queue_bytes_max: 10 + 4 * OVERHEAD_BYTES,
            batch_bytes_max: 5,
            batch_commands_max: 3,
            ..Config::new(NodeId(1), membership)
        }
    }

    fn sessions() -> SessionTable {
        let membership = Membership::new([(1, "")]).expect("one");
        let bytes_max = config().sessions_bytes_max;
        SessionTable::restore(&Checkpoint::default(), &membership, bytes_max).expect("empty")
    }

    fn push(queue: &mut Queue, sequence: u64, size: usize) {
        let command = std::iter::once((sequence, Bytes::from(vec![7; size])));
        queue.push(CLIENT, 1, command, &config());
    }

    /// A queue after commands of these sizes, numbered from 1 on.
    fn queue(sizes: &[usize]) -> Queue {
        let mut queue = Queue::default();
        for (sequence, &size) in (1..).zip(sizes) {
            push(&mut queue, sequence, size);
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
        for (sizes, len, bytes) in [
            (&[100, 38][..], 2, 138),
            (&[100, 39, 38], 2, 138),
            (&[0; 5], 4, 0),
            (&[999, 0], 1, 999),
        ] {
            let queue = queue(sizes);
            assert_eq!((queue.len(), queue.bytes), (len, bytes), "{sizes:?}");
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
            assert_eq!(queue.bytes, 0);
        }
    }

    #[test]
    fn a_request_is_pending_until_it_is_delivered_or_had_its_effect_before() {
        let again = |queue: &mut Queue| {
            push(queue, 1, 1);
            queue.len()
        };
        let mut queue = queue(&[1]);
        assert_eq!(again(&mut queue), 1, "it waits");
        let batch = queue.cut(&sessions(), &config()).expect("a batch");
        assert_eq!(again(&mut queue), 0, "it is in a slot");
        queue.on_delivered(&batch, &config());
        assert_eq!(again(&mut queue), 1);

        let mut sessions = sessions();
        sessions.take_in(Slot(1), Some(&batch));
        assert!(queue.cut(&sessions, &config()).is_none());
        assert_eq!((again(&mut queue), queue.bytes), (1, 1));
        queue.clear();
        assert_eq!((queue.len(), queue.bytes), (0, 0));
        assert_eq!(again(&mut queue), 1);
    }

    /// Without end they would take slot after slot for what is sent again while it waits.
    #[test]
    fn requests_beyond_the_bound_wait_at_their_origin() {
        let config = Config { pending_ranges_max: 2, ..config() };
        let mut queue = Queue::default();
        let mut push = |name, sequence| {
            let command = std::iter::once((sequence, Bytes::new()));
            queue.push(ClientId { name, epoch: 1 }, 1, command, &config);
            (queue.cut(&sessions(), &config), queue.pending())
        };
        let (batch, pending) = push(1, 1);
        assert_eq!((batch.is_some(), pending), (true, 1));
        assert_eq!(push(1, 3).1, 2);
        for (name, sequence) in [(2, 1), (1, 5), (1, 3)] {
            let (cut, pending) = push(name, sequence);
            assert!(cut.is_none(), "{name}#{sequence} is one too many, or waits already");
            assert_eq!(pending, 2);
        }
        assert_eq!(push(1, 2).1, 1, "it joins two ranges");
        assert_eq!(push(2, 1).1, 2);
        queue.forget(ClientId { name: 1, epoch: 1 }, 2..3, &config);
        assert_eq!(queue.pending(), 2, "a range that is cut in two is one too many");
        assert!(batch.is_some());
    }

    #[test]
    fn clients_with_nothing_pending_are_forgotten_when_there_are_many() {
        let mut pending = Pending::default();
        for name in 0..1000 {
            let client = ClientId { name, epoch: 1 };
            pending.clients.entry(client).or_default().insert(1..2);
            pending.ranges += 1;
            pending.remove(client, &(1..2), usize::MAX);
            assert_eq!(pending.ranges, 0);
            pending.prune();
            assert!(pending.clients.len() <= CLIENTS_KEPT_MIN + 1);
        }
    }

    /// Model checkers tell states apart by it.
    #[test]
    fn equal_queues_look_the_same_and_others_do_not() {
        let look = |sizes: &[usize]| format!("{:?}", queue(sizes));
        assert_eq!(look(&[1, 2, 3]), look(&[1, 2, 3]));
        assert_ne!(look(&[1, 2, 3]), look(&[1, 2]));
    }
}
