//! At most once: which requests have had their effect.
//!
//! The table is a function of the chosen log, so every replica has the same one at the same slot,
//! and a restart rebuilds it from a checkpoint and the log behind it. It is bounded: per client it
//! remembers what lies between the lowest unsettled request and [`limits::SESSION_WINDOW`] above
//! it, as ranges; and it has at most [`limits::SESSIONS_MAX`] clients besides the nodes themselves.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    effect::{Refusal, Verdict, Verdicts},
    ranges::Ranges,
};
use crate::{
    limits,
    planted::planted,
    port::Checkpoint,
    types::{Batch, ClientId, Membership, RequestId, Run, Slot},
};

/// The replicated session table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionTable {
    /// The last slot taken in.
    slot: Slot,
    clients: Clients,
    /// The names of the nodes: their sessions are never forgotten.
    nodes: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Clients {
    /// By [`ClientId::name`].
    sessions: BTreeMap<u64, Session>,
    /// The highest epoch of a forgotten session: a client at or below it may be that one, and is
    /// refused.
    forgotten_epoch: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    epoch: u64,
    /// Every request below is settled.
    open_from: u64,
    /// Requests that have had their effect, at or above `open_from`.
    done: Ranges,
    last_used: Slot,
}

impl Session {
    fn new(epoch: u64) -> Session {
        Session { epoch, open_from: 1, done: Ranges::default(), last_used: Slot::ZERO }
    }

    /// The client wants no more of requests below `open_from`.
    fn settle_below(&mut self, open_from: u64) {
        if open_from > self.open_from {
            self.open_from = open_from;
            self.done.remove_below(open_from);
        }
    }

    /// Takes in the requests of a run in `slot`, and calls `verdict` with each piece of them, in
    /// order.
    ///
    /// What is settled or too far ahead to be remembered lies before or behind the rest.
    fn take_in(&mut self, slot: Slot, run: &Run, mut verdict: impl FnMut(u64, Verdict)) {
        assert!(self.last_used <= slot, "a session is not used ahead of its slot");
        self.last_used = slot;
        self.settle_below(run.open_from);
        let (first, end) = (run.first, run.end());
        let open_from = self.open_from.clamp(first, end);
        let open_end = self.open_from.saturating_add(limits::SESSION_WINDOW).clamp(open_from, end);
        if (open_from, open_end) == (first, end) && !self.done.overlaps(&(first..end)) {
            // Mostly all of them are new.
            verdict(end - first, Verdict::Fresh);
            self.done.insert(first..end);
            return;
        }
        verdict(open_from - first, Verdict::Expired);
        for (piece, is_done) in self.done.pieces(open_from..open_end) {
            let is_done = if is_done { Verdict::Duplicate } else { Verdict::Fresh };
            verdict(piece.end - piece.start, is_done);
        }
        verdict(end - open_end, Verdict::Expired);
        self.done.insert(open_from..open_end);
    }
}

/// A session checkpoint that does not decode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session checkpoint at slot {slot} is malformed: replace this node")]
pub struct SessionsError {
    /// The slot of the checkpoint.
    pub slot: Slot,
}

impl SessionTable {
    /// The table of a checkpoint.
    pub(crate) fn restore(
        checkpoint: &Checkpoint,
        membership: &Membership,
    ) -> Result<SessionTable, SessionsError> {
        let malformed = SessionsError { slot: checkpoint.at.slot };
        let clients = if checkpoint.sessions.is_empty() || planted!(SessionsMissing) {
            Clients::default()
        } else {
            postcard::from_bytes(&checkpoint.sessions).map_err(|_| malformed.clone())?
        };
        if clients.sessions.values().any(|session| session.last_used > checkpoint.at.slot) {
            return Err(malformed);
        }
        let nodes = membership.voters().map(|node| node.0).collect();
        Ok(SessionTable { slot: checkpoint.at.slot, clients, nodes })
    }

    /// The table as of [`slot`](SessionTable::slot), for a [`Checkpoint`] of it.
    pub(crate) fn encode(&self) -> Bytes {
        postcard::to_stdvec(&self.clients).expect("plain data encodes").into()
    }

    /// The last slot taken in.
    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether a request needs no slot any more: it has had its effect or never will.
    pub(super) fn is_settled(&self, id: RequestId) -> bool {
        self.refusal(id).is_some()
    }

    /// Whether no request of a run is settled.
    pub(super) fn are_open(&self, client: ClientId, sequences: &Range<u64>) -> bool {
        self.clients.sessions.get(&client.name).is_none_or(|session| {
            session.epoch < client.epoch
                || session.epoch == client.epoch
                    && session.open_from <= sequences.start
                    && !session.done.overlaps(sequences)
        })
    }

    /// Why a request gets no slot any more, if it does not.
    pub(super) fn refusal(&self, id: RequestId) -> Option<Refusal> {
        let session = self.clients.sessions.get(&id.client.name)?;
        match session.epoch.cmp(&id.client.epoch) {
            Ordering::Less => None,
            Ordering::Greater => Some(Refusal::Expired),
            Ordering::Equal if id.sequence < session.open_from => Some(Refusal::Expired),
            Ordering::Equal => {
                session.done.contains(id.sequence).then_some(Refusal::AlreadyApplied)
            }
        }
    }

    /// Takes in the next slot; says for each command of its batch whether to apply it.
    pub(crate) fn take_in(&mut self, slot: Slot, batch: Option<&Batch>) -> Verdicts {
        assert_eq!(slot, self.slot.next(), "sessions take in every slot, in order");
        self.slot = slot;
        let mut verdicts = Verdicts::new();
        for run in batch.map_or(&[][..], Batch::runs) {
            self.take_in_run(run, &mut verdicts);
        }
        let end = verdicts.last().map_or(0, |(range, _)| range.end);
        assert_eq!(end, batch.map_or(0, Batch::len), "a verdict on every command");
        verdicts
    }

    fn take_in_run(&mut self, run: &Run, verdicts: &mut Verdicts) {
        let slot = self.slot;
        let mut start = verdicts.last().map_or(0, |(range, _)| range.end);
        let mut push = |count: u64, verdict| {
            let end = start + usize::try_from(count).expect("a run fits a batch");
            match verdicts.last_mut() {
                _ if count == 0 => {}
                Some((range, last)) if *last == verdict => range.end = end,
                _ => verdicts.push((start..end, verdict)),
            }
            start = end;
        };
        if let Some(session) = self.clients.sessions.get_mut(&run.client.name)
            && (session.epoch == run.client.epoch || planted!(EpochIgnored))
        {
            session.take_in(slot, run, push);
        } else if let Some(session) = self.begin(run.client) {
            session.take_in(slot, run, push);
        } else {
            push(u64::from(run.count), Verdict::Expired);
        }
    }

    /// Begins the session of a `client` that has none yet; `None` if the client is of the past.
    fn begin(&mut self, client: ClientId) -> Option<&mut Session> {
        let known = self.clients.sessions.get(&client.name).map(|session| session.epoch);
        match known {
            Some(epoch) if epoch > client.epoch => return None,
            None if !self.nodes.contains(&client.name) => {
                if client.epoch <= self.clients.forgotten_epoch {
                    return None;
                }
                self.forget_one();
            }
            _ => {}
        }
        let entry = self.clients.sessions.entry(client.name);
        Some(entry.insert_entry(Session::new(client.epoch)).into_mut())
    }

    /// Makes room for a client, if there is none: the one unused for longest goes.
    fn forget_one(&mut self) {
        let others = |(name, _): &(&u64, &Session)| !self.nodes.contains(*name);
        if self.clients.sessions.iter().filter(others).count() < limits::SESSIONS_MAX {
            return;
        }
        let oldest = self
            .clients
            .sessions
            .iter()
            .filter(others)
            .min_by_key(|(_, session)| session.last_used);
        if let Some(name) = oldest.map(|(&name, _)| name)
            && let Some(session) = self.clients.sessions.remove(&name)
        {
            self.clients.forgotten_epoch = self.clients.forgotten_epoch.max(session.epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{message::Watermark, types::BatchBuilder};

    fn table() -> SessionTable {
        let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three voters");
        SessionTable::restore(&Checkpoint::default(), &membership).expect("empty")
    }

    fn id(name: u64, epoch: u64, sequence: u64) -> RequestId {
        RequestId { client: ClientId { name, epoch }, sequence }
    }

    /// Verdicts on one slot with these requests, one by one.
    fn verdicts(table: &mut SessionTable, requests: &[(RequestId, u64)]) -> Vec<Verdict> {
        let mut builder = BatchBuilder::default();
        for (id, open_from) in requests {
            builder.push(*id, *open_from, Bytes::new());
        }
        let batch = builder.build();
        let verdicts = table.take_in(table.slot().next(), batch.as_ref());
        verdicts.into_iter().flat_map(|(range, verdict)| range.map(move |_| verdict)).collect()
    }

    #[test]
    fn a_request_is_fresh_once() {
        let mut table = table();
        let request = [(id(1, 1, 5), 1)];
        assert_eq!(verdicts(&mut table, &request), [Verdict::Fresh]);
        assert_eq!(verdicts(&mut table, &request), [Verdict::Duplicate]);
        assert!(table.is_settled(id(1, 1, 5)) && !table.is_settled(id(1, 1, 4)));
    }

    #[test]
    fn settled_requests_and_older_lives_are_expired() {
        let mut table = table();
        assert_eq!(verdicts(&mut table, &[(id(1, 2, 9), 8)]), [Verdict::Fresh]);
        assert_eq!(verdicts(&mut table, &[(id(1, 2, 7), 1)]), [Verdict::Expired]);
        assert_eq!(verdicts(&mut table, &[(id(1, 1, 99), 1)]), [Verdict::Expired]);
        assert_eq!(verdicts(&mut table, &[(id(1, 3, 7), 1)]), [Verdict::Fresh]);
    }

    #[test]
    fn beyond_the_window_nothing_can_be_remembered_and_nothing_is_applied() {
        let mut table = table();
        let far = 1 + limits::SESSION_WINDOW;
        assert_eq!(verdicts(&mut table, &[(id(1, 1, far), 1)]), [Verdict::Expired]);
        assert_eq!(verdicts(&mut table, &[(id(1, 1, far), 2)]), [Verdict::Fresh]);
    }

    #[test]
    fn a_forgotten_client_is_refused_and_the_table_stays_bounded() {
        let mut table = table();
        for client in 0..=limits::SESSIONS_MAX as u64 {
            let name = 1000 + client;
            assert_eq!(verdicts(&mut table, &[(id(name, client + 1, 1), 1)]), [Verdict::Fresh]);
        }
        assert_eq!(table.clients.sessions.len(), limits::SESSIONS_MAX);
        assert_eq!(verdicts(&mut table, &[(id(1000, 1, 1), 1)]), [Verdict::Expired]);
        assert_eq!(verdicts(&mut table, &[(id(3, 1, 1), 1)]), [Verdict::Fresh], "a node's own");
    }

    #[test]
    fn verdicts_are_given_on_ranges() {
        let mut table = table();
        let mut take_in = |ids: &[RequestId]| {
            let mut builder = BatchBuilder::default();
            ids.iter().for_each(|&id| builder.push(id, 1, Bytes::new()));
            table.take_in(table.slot().next(), builder.build().as_ref())
        };
        take_in(&[id(1, 1, 2)]);
        let expected = [(0..1, Verdict::Fresh), (1..2, Verdict::Duplicate), (2..4, Verdict::Fresh)];
        assert_eq!(take_in(&[1, 2, 3, 4].map(|sequence| id(1, 1, sequence)))[..], expected);
        let of_the_past = [1, 2, 3].map(|sequence| id(1000, 0, sequence));
        let expected = [(0..1, Verdict::Fresh), (1..4, Verdict::Expired), (4..5, Verdict::Fresh)];
        let [first, second, third] = of_the_past;
        assert_eq!(take_in(&[id(1, 1, 9), first, second, third, id(2, 1, 1)])[..], expected);
    }

    #[test]
    fn settling_forgets_what_is_below_and_nothing_else() {
        let mut table = table();
        let done: Vec<_> = (5..10).map(|sequence| (id(1, 1, sequence), 1)).collect();
        verdicts(&mut table, &done);
        assert_eq!(verdicts(&mut table, &[(id(1, 1, 8), 7)]), [Verdict::Duplicate]);
        assert_eq!(table.refusal(id(1, 1, 6)), Some(Refusal::Expired));
        assert_eq!(table.refusal(id(1, 1, 4)), Some(Refusal::Expired), "done or not");
        assert_eq!(table.refusal(id(1, 1, 9)), Some(Refusal::AlreadyApplied));
        assert_eq!(table.refusal(id(1, 1, 10)), None);
        let far = 10 + limits::SESSION_WINDOW;
        assert_eq!(verdicts(&mut table, &[(id(1, 1, far), 10)]), [Verdict::Expired]);
        assert!(table.clients.sessions[&1].done.is_empty(), "all of it is settled");
    }

    proptest! {
        /// Ranges and settling agree with remembering every request; a checkpoint loses nothing.
        #[test]
        fn agrees_with_a_plain_set(
            slots in prop::collection::vec(prop::collection::vec((1..40u64, 0..6u64), 0..8), 1..30),
        ) {
            let mut table = table();
            let mut done = BTreeSet::new();
            let mut open_from = 1;
            for requests in slots {
                let requests: Vec<_> = requests
                    .into_iter()
                    .map(|(sequence, back)| (id(2, 1, sequence), sequence.saturating_sub(back * 8).max(1)))
                    .collect();
                let mut builder = BatchBuilder::default();
                for (id, open_from) in &requests {
                    builder.push(*id, *open_from, Bytes::new());
                }
                let batch = builder.build();
                let mut expected = Vec::new();
                for run in batch.iter().flat_map(Batch::runs) {
                    open_from = open_from.max(run.open_from);
                    for sequence in run.first..run.end() {
                        expected.push(if sequence < open_from {
                            Verdict::Expired
                        } else if done.insert(sequence) {
                            Verdict::Fresh
                        } else {
                            Verdict::Duplicate
                        });
                    }
                }
                prop_assert_eq!(verdicts(&mut table, &requests), expected);
                let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
                let at = Watermark { slot: table.slot(), hash: 0 };
                let checkpoint = Checkpoint { at, sessions: table.encode(), state: None };
                let restored = SessionTable::restore(&checkpoint, &membership);
                prop_assert_eq!(restored.as_ref(), Ok(&table));
            }
        }
    }
}
