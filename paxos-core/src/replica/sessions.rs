//! At most once: which requests have had their effect.
//!
//! The table is a function of the chosen log, so every replica has the same one at the same slot,
//! and a restart rebuilds it from a checkpoint and the log behind it. It guarantees:
//!
//! - **A request has its effect once at most.** What is forgotten is refused: its verdict is
//!   [`Verdict::Expired`] from then on, never [`Verdict::Fresh`].
//! - **A table takes a megabyte at most**, encoded, and its memory is in proportion: it is encoded in
//!   the driver's turn for every checkpoint, and sent in one message.
//!
//! Per client it remembers what lies between the lowest unsettled request and
//! [`limits::SESSION_WINDOW`] above it, as ranges: one, for whoever leaves no holes between its requests. A
//! client with holes takes up more, so what all may take is bounded in bytes, as follows.
//!
//! - The **nodes' own** sessions are never forgotten, and count for themselves: nobody else can take their
//!   room. The window bounds each of them.
//! - **All others** share [`Config::sessions_bytes_max`](crate::Config::sessions_bytes_max). When they
//!   exceed it, a sixteenth of it is freed, so that to look for it costs little in the long run:
//!   1. Those with most ranges pay, down to one common level: of each its lowest ranges are forgotten,
//!      and everything below what is left counts as settled. So whoever leaves holes loses its own
//!      oldest requests, and nobody loses any by a client that takes up more than itself.
//!   2. At [`limits::SESSION_RANGES_KEPT`] ranges that ends: no client has to have fewer for the sake of others.
//!      If all have come down to it and it does not do, the clients unused for longest are forgotten as
//!      a whole.
//!
//! So a client that leaves no more holes than that loses a request in one way alone: thousands of others
//! were used since its last one. A client that was forgotten is known by its epoch alone: whoever is not in
//! the table and has no higher one than all that were forgotten is refused. That is why epochs of clients
//! that come and go have to be taken from one clock or counter.

mod room;
mod session;
#[cfg(test)]
mod tests;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    ops::Range,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::session::Session;
use super::effect::{Refusal, Verdict, Verdicts};
use crate::{
    limits,
    planted::planted,
    port::Checkpoint,
    types::{Batch, ClientId, Membership, RequestId, Run, Slot},
};

/// What an encoding has besides the sessions, at most.
const HEADER_BYTES: usize = 32;

/// An encoding, in bytes, at most: every node has all the holes that its window has room for, and so have
/// others, as far as they may.
const ENCODED_BYTES_MAX: usize =
    HEADER_BYTES + limits::VOTERS_MAX * session::BYTES_MAX + limits::SESSIONS_BYTES_MAX;
const _: () = assert!(ENCODED_BYTES_MAX <= 1 << 20, "a table takes a megabyte at most");

/// The replicated session table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionTable {
    /// The last slot taken in.
    slot: Slot,
    clients: Clients,
    /// The names of the nodes: their sessions are never forgotten.
    nodes: BTreeSet<u64>,
    /// What the sessions of all others take up.
    bytes: usize,
}

/// What is encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Clients {
    /// What the sessions of all but the nodes may take up. The verdicts depend on it, so a table goes on
    /// with the one it has begun with or not at all.
    bytes_max: usize,
    /// By [`ClientId::name`].
    sessions: BTreeMap<u64, Session>,
    /// The highest epoch of a forgotten session: a client at or below it may be that one, and is
    /// refused.
    forgotten_epoch: u64,
}

/// A session checkpoint that no node has made, or none with these settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the session checkpoint at slot {slot} is malformed, or was made with another `sessions_bytes_max`: \
     correct the setting, or replace this node"
)]
pub struct SessionsError {
    /// The slot of the checkpoint.
    pub slot: Slot,
}

impl SessionTable {
    /// The table of a checkpoint. `bytes_max` is [`Config::sessions_bytes_max`](crate::Config::sessions_bytes_max).
    pub(crate) fn restore(
        checkpoint: &Checkpoint,
        membership: &Membership,
        bytes_max: usize,
    ) -> Result<SessionTable, SessionsError> {
        let slot = checkpoint.at.slot;
        let malformed = SessionsError { slot };
        let encoded = &checkpoint.sessions;
        let clients = if encoded.is_empty() || planted!(SessionsMissing) {
            Clients { bytes_max, sessions: BTreeMap::new(), forgotten_epoch: 0 }
        } else if encoded.len() > ENCODED_BYTES_MAX {
            return Err(malformed);
        } else {
            postcard::from_bytes(encoded).map_err(|_| malformed.clone())?
        };
        let nodes = names_of(membership);
        let mut table = SessionTable { slot, clients, nodes, bytes: 0 };
        table.bytes = table.others().map(|(_, session)| session.bytes()).sum();
        let is_sound = table.clients.bytes_max == bytes_max
            && table.clients.sessions.values().all(|session| session.is_sound(slot))
            && table.bytes <= bytes_max;
        if is_sound { Ok(table) } else { Err(malformed) }
    }

    /// The table as of [`slot`](SessionTable::slot), for a [`Checkpoint`] of it.
    pub(crate) fn encode(&self) -> Bytes {
        let encoded = Vec::with_capacity(self.encoded_bytes_max());
        let encoded = postcard::to_extend(&self.clients, encoded).expect("plain data encodes");
        assert!(encoded.len() <= ENCODED_BYTES_MAX, "a session table of {} bytes", encoded.len());
        encoded.into()
    }

    fn encoded_bytes_max(&self) -> usize {
        let nodes = self.nodes.iter().filter_map(|name| self.clients.sessions.get(name));
        HEADER_BYTES + self.bytes + nodes.map(Session::bytes).sum::<usize>()
    }

    /// What the sessions of all but the nodes take up.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The highest epoch of a client that it has forgotten.
    #[cfg(feature = "sim")]
    pub(crate) fn forgotten_epoch(&self) -> u64 {
        self.clients.forgotten_epoch
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
        match self.clients.sessions.get(&client.name) {
            None => !self.is_forgotten(client),
            Some(session) => {
                session.epoch < client.epoch
                    || session.epoch == client.epoch && session.are_open(sequences)
            }
        }
    }

    /// Why a request gets no slot any more, if it does not.
    pub(super) fn refusal(&self, id: RequestId) -> Option<Refusal> {
        let Some(session) = self.clients.sessions.get(&id.client.name) else {
            return self.is_forgotten(id.client).then_some(Refusal::Expired);
        };
        match session.epoch.cmp(&id.client.epoch) {
            Ordering::Less => None,
            Ordering::Greater => Some(Refusal::Expired),
            Ordering::Equal => session.refusal(id.sequence),
        }
    }

    /// The epoch of a client, if it is in the table.
    pub(super) fn epoch(&self, name: u64) -> Option<u64> {
        self.clients.sessions.get(&name).map(|session| session.epoch)
    }

    /// Whether a client that is not in the table may be one that has been.
    fn is_forgotten(&self, client: ClientId) -> bool {
        client.epoch <= self.clients.forgotten_epoch && !self.nodes.contains(&client.name)
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

    /// From here on these nodes' own sessions are never forgotten, and no others.
    pub(crate) fn on_membership(&mut self, membership: &Membership) {
        self.nodes = names_of(membership);
        self.bytes = self.others().map(|(_, session)| session.bytes()).sum();
        self.make_room();
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
        let Some((before, session)) = self.session(run.client) else {
            push(u64::from(run.count), Verdict::Expired);
            return;
        };
        session.take_in(slot, run, push);
        let after = session.bytes();
        if !self.nodes.contains(&run.client.name) {
            self.bytes = self.bytes - before + after;
            self.make_room();
        }
    }

    /// The session of a client, begun if it has none yet, and what took its place until now; `None` if the
    /// client is of the past.
    fn session(&mut self, client: ClientId) -> Option<(usize, &mut Session)> {
        let is_forgotten = self.is_forgotten(client);
        let mut entry = match self.clients.sessions.entry(client.name) {
            Entry::Vacant(_) if is_forgotten => return None,
            Entry::Vacant(entry) => return Some((0, entry.insert(Session::new(client.epoch)))),
            Entry::Occupied(entry) => entry,
        };
        let before = entry.get().bytes();
        match entry.get().epoch.cmp(&client.epoch) {
            order if order == Ordering::Equal || planted!(EpochIgnored) => {}
            Ordering::Greater => return None,
            _ => drop(entry.insert(Session::new(client.epoch))),
        }
        Some((before, entry.into_mut()))
    }

    /// The sessions of all but the nodes.
    fn others(&self) -> impl Iterator<Item = (u64, &Session)> {
        let sessions = self.clients.sessions.iter().map(|(name, session)| (*name, session));
        sessions.filter(|(name, _)| !self.nodes.contains(name))
    }
}

/// Under these names the members number their own requests.
fn names_of(membership: &Membership) -> BTreeSet<u64> {
    membership.members().map(|(id, _)| id.0).collect()
}
