//! Catching up: a node pulls the chosen slots it misses, from any peer that has them.
//!
//! The one that lacks asks, a page at a time and only once the last page is durable, so catching up
//! is flow-controlled by the one who needs it. A peer that does not answer is passed over for the
//! next, known to have the slots or not, so it need not be the leader, and one link will do.
//!
//! A peer that has compacted the slots is asked for its [state](super::fetch) instead.

use smallvec::SmallVec;

use super::{
    WriteId,
    acceptor::Acceptor,
    context::Context,
    fetch::{Fetch, Fetched},
    learner::Learner,
    outbox::Outbox,
    state_reads::StateReads,
};
use crate::{
    config::Config,
    limits,
    message::{Message, Pull, Pulled, PulledState},
    planted::planted,
    types::{Ballot, Instant, NodeId, Slot, Value},
};

/// How many peers are remembered: those of two memberships.
const PEERS_KEPT: usize = 2 * limits::VOTERS_MAX;

/// What this node misses and whom it asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Catchup {
    /// How far each peer is known to know the log chosen.
    peers: SmallVec<[(NodeId, Slot); limits::VOTERS_MAX]>,
    /// The last slot that one of them knows to be chosen.
    target: Slot,
    /// The watermark that has not moved since.
    stuck: Option<(Slot, Instant)>,
    pulling: Option<Pulling>,
    last_asked: Option<NodeId>,
    /// The last one asked did not answer: who is known to have the slot may not be reachable, and
    /// who is reachable may have it without this node knowing.
    unanswered: bool,
    /// The last page brought something, so the next is asked for without patience; but not before
    /// this write, which carries the page, is durable.
    flowing: Option<WriteId>,
    fetch: Fetch,
}

#[derive(Clone, Debug)]
struct Pulling {
    number: u64,
    peer: NodeId,
    expires_at: Instant,
}

impl Catchup {
    /// Goes on with what the storage has of a state from before the last restart.
    pub(super) fn recovered(unfinished: Option<(Slot, u64)>, chosen: Slot) -> Catchup {
        Catchup { fetch: Fetch::recovered(unfinished, chosen), ..Catchup::default() }
    }

    /// The state that is being fetched.
    pub(super) fn fetch(&mut self) -> &mut Fetch {
        &mut self.fetch
    }

    /// How far the state is that is being fetched: its slot, and bytes.
    pub(super) fn fetched(&self) -> Option<(Slot, u64)> {
        self.fetch.progress().filter(|_| self.is_fetching())
    }

    /// Whether a state is being fetched.
    pub(super) fn is_fetching(&self) -> bool {
        self.fetch.peer().is_some()
    }

    /// `peer` knows every slot up to `chosen` to be chosen.
    #[inline]
    pub(super) fn on_peer(&mut self, peer: NodeId, chosen: Slot) {
        let known = self.peers.iter_mut().find(|(known, _)| *known == peer);
        if let Some((_, known)) = known {
            *known = chosen.max(*known);
        } else if self.peers.len() < PEERS_KEPT {
            self.peers.push((peer, chosen));
        }
        self.target = self.target.max(chosen);
    }

    /// `peer` knows every slot up to `chosen` to be chosen, and no more, whatever it said before.
    fn correct(&mut self, peer: NodeId, chosen: Slot) {
        self.peers.retain(|(known, _)| *known != peer);
        self.peers.push((peer, chosen));
        self.target = self.peers.iter().map(|&(_, chosen)| chosen).max().unwrap_or_default();
    }

    /// Pulls the next page, if slots have been missing for long enough.
    #[inline]
    pub(super) fn pull(
        &mut self,
        learner: &Learner,
        acceptor: &Acceptor,
        numbers: &mut u64,
        reads: &mut StateReads,
        cx: &mut Context<'_>,
    ) {
        let chosen = learner.chosen().slot;
        if chosen >= self.target {
            (self.stuck, self.pulling, self.flowing) = (None, None, None);
            self.fetch.end();
            return;
        }
        let since = match self.stuck {
            Some((slot, since)) if slot == chosen => since,
            _ => {
                self.stuck = Some((chosen, cx.now));
                cx.now
            }
        };
        if self.pulling.take_if(|pulling| pulling.expires_at <= cx.now).is_some() {
            self.fetch.missed(cx.config);
            self.unanswered |= !self.is_fetching();
        }
        let ready = match self.flowing {
            Some(write) => write <= cx.out.persisted(),
            None => since.after(cx.config.gap_patience) <= cx.now,
        };
        if ready && self.pulling.is_none() {
            self.flowing = None;
            self.ask(learner, acceptor, numbers, reads, cx);
        }
    }

    fn ask(
        &mut self,
        learner: &Learner,
        acceptor: &Acceptor,
        numbers: &mut u64,
        reads: &mut StateReads,
        cx: &mut Context<'_>,
    ) {
        let from = learner.chosen().slot.next();
        let number = *numbers + 1;
        let (peer, message, timeout) = if let Some(peer) = self.fetch.peer() {
            let Some(request) = self.fetch.request(number, from.previous(), reads, cx) else {
                return;
            };
            (peer, Message::PullState(request), self.fetch.patience(cx.config))
        } else {
            let Some(peer) = self.next_peer(from, cx) else { return };
            self.last_asked = Some(peer);
            let to = last_missing(from, self.target, learner, acceptor);
            assert!(from <= to, "something is missing from {from} on");
            (peer, Message::Pull(Pull { number, from, to }), cx.config.retransmit_timeout)
        };
        *numbers = number;
        let expires_at = cx.now.after(timeout * if planted!(PullGivenUp) { 1_000_000 } else { 1 });
        self.pulling = Some(Pulling { number, peer, expires_at });
        cx.out.send(peer, message);
    }

    /// The next peer, in turn, that is known to have the slot; any, if the last one did not answer.
    fn next_peer(&self, slot: Slot, cx: &Context<'_>) -> Option<NodeId> {
        let has_slot = |peer: &NodeId| {
            self.peers.iter().any(|(known, chosen)| known == peer && *chosen >= slot)
        };
        // Who is no member that this node knows may be one all the same: it has to catch up to learn of it.
        let known = self.peers.iter().map(|(known, _)| *known);
        let known = known.filter(|known| !cx.memberships.peers().contains(known));
        let peers = cx.memberships.peers().iter().copied().chain(known);
        let mut able = peers.filter(|peer| self.unanswered || has_slot(peer));
        let first = able.next()?;
        let after = |peer: &NodeId| Some(*peer) > self.last_asked && !planted!(OnePeerAsked);
        Some(std::iter::once(first).chain(able).find(after).unwrap_or(first))
    }

    /// Whether the next page waits for the disk.
    pub(super) fn is_flowing(&self) -> bool {
        self.flowing.is_some()
    }

    /// A page has been recorded by this write, and more may follow.
    pub(super) fn on_recorded(&mut self, write: WriteId) {
        self.flowing = Some(write);
    }

    /// Takes in a page; returns the values that this node still misses.
    ///
    /// A page that comes too late for its request is as good as any: what is chosen stays chosen.
    /// So a page that takes longer than the deadline is not fetched again and again.
    pub(super) fn on_pulled(
        &mut self,
        from: NodeId,
        pulled: Pulled,
        learner: &Learner,
    ) -> Vec<(Slot, Value)> {
        if self.is_expected(from, pulled.number) {
            let is_compacted = pulled.values.is_empty() && pulled.floor > learner.chosen().slot;
            // What the peer really has: an empty page means that it has been overrated.
            let last = pulled.values.last().map(|&(slot, _)| slot);
            let last = last.or(is_compacted.then_some(pulled.floor));
            let has = last.map_or(Slot::ZERO, |slot| slot.max(pulled.chosen));
            self.correct(from, has);
            // Who is known to have the slots has not answered, perhaps, and this one has nothing of them.
            self.unanswered &= last.is_none();
            if is_compacted {
                self.fetch.begin(from);
                self.flowing = Some(WriteId(0));
            }
        }
        if !pulled.values.is_empty() {
            self.fetch.end();
        }
        let mut next = learner.chosen().slot.next();
        let mut values = Vec::new();
        for (slot, value) in pulled.values {
            if slot > next {
                break;
            }
            if slot == next {
                next = slot.next();
                values.push((slot, value));
            }
        }
        assert_eq!(next, learner.chosen().slot.plus(values.len() as u64 + 1), "no holes");
        values
    }

    /// Whether this is the answer to what was asked last, which is answered by that.
    fn is_expected(&mut self, from: NodeId, number: u64) -> bool {
        let expected = |pulling: &mut Pulling| pulling.number == number && pulling.peer == from;
        self.pulling.take_if(expected).is_some()
    }

    /// Takes in a piece of a state; returns the checkpoint when it is whole.
    pub(super) fn on_pulled_state(
        &mut self,
        from: NodeId,
        piece: PulledState,
        learner: &Learner,
        cx: &mut Context<'_>,
    ) -> Option<Fetched> {
        let expected = self.is_expected(from, piece.number);
        let fetched = self.fetch.on_piece(from, piece, expected, learner.chosen().slot, cx);
        if expected {
            self.unanswered = false;
            self.flowing = Some(cx.out.last_write());
        }
        fetched
    }

    #[inline]
    pub(super) fn next_deadline(&self, config: &Config) -> Option<Instant> {
        if self.fetch.is_verifying() {
            return None;
        }
        match (&self.pulling, self.flowing, self.stuck) {
            (Some(pulling), _, _) => Some(pulling.expires_at),
            // The write that carries the last page ends the wait, not the clock.
            (None, Some(_), _) | (None, None, None) => None,
            (None, None, Some((_, since))) => Some(since.after(config.gap_patience)),
        }
    }
}

/// The end of the gap that starts at `from`: the slot before the next one that needs no pulling.
fn last_missing(from: Slot, target: Slot, learner: &Learner, acceptor: &Acceptor) -> Slot {
    let (leader_ballot, leader_watermark) = learner.leader_watermark();
    let known = |&(slot, ballot): &(Slot, Ballot)| {
        ballot == Ballot::CHOSEN || (ballot == leader_ballot && slot <= leader_watermark.slot)
    };
    let present = acceptor.log().ballots_from(from).find(known);
    present.map_or(target, |(slot, _)| slot.previous()).min(target).max(from)
}

/// Answers a peer from memory; `false` if the slots have to be read from disk first.
pub(super) fn serve(
    to: NodeId,
    pull: &Pull,
    learner: &Learner,
    acceptor: &Acceptor,
    cx: &mut Context<'_>,
) -> bool {
    let chosen = learner.chosen().slot;
    let log = acceptor.log();
    if pull.from <= log.floor() {
        answer(to, pull, Vec::new(), learner, acceptor, cx.out);
        return true;
    }
    if pull.from <= log.on_disk() && pull.from <= chosen {
        return false;
    }
    let mut bytes = 0;
    let mut values = Vec::new();
    let last = if planted!(UnchosenTaught) { log.highest() } else { chosen.min(pull.to) };
    for record in log.from(pull.from).take_while(|record| record.slot <= last) {
        if bytes >= cx.config.page_bytes_max || values.len() >= limits::PAGE_RECORDS_MAX {
            break;
        }
        bytes += record.value.encoded_len();
        values.push((record.slot, record.value));
    }
    answer(to, pull, values, learner, acceptor, cx.out);
    true
}

/// Answers a peer with `values`.
pub(super) fn answer(
    to: NodeId,
    pull: &Pull,
    values: Vec<(Slot, Value)>,
    learner: &Learner,
    acceptor: &Acceptor,
    out: &mut Outbox,
) {
    let (chosen, floor) = (learner.chosen().slot, acceptor.log().floor());
    let pulled = Pulled { number: pull.number, values, chosen, floor };
    out.send(to, Message::Pulled(pulled));
}
