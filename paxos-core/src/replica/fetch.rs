//! A state that is being fetched from a peer, because the log that leads there has been compacted.
//!
//! The one that lacks asks for a piece at a time, and for the next once the last is durable. What is there
//! of a state survives a restart, and any peer that has the same state can go on with it. Nothing of it
//! counts before all of it has been verified, as a whole: then one batch installs it.

use std::time::Duration;

use smallvec::SmallVec;

use super::{
    context::Context,
    effect::{StateReadId, StateSource},
    membership::Memberships,
    sessions::SessionTable,
    state_reads::{Purpose, StateReads},
    transfer::{Side, Transfer},
};
use crate::{
    config::Config,
    message::{PullState, PulledState, StateEnd, Watermark},
    planted::planted,
    port::{Checkpoint, StateChunk, StateHasher, StateSummary},
    types::{Instant, NodeId, Slot},
};

/// Requests in a row without an answer, after which another peer is asked for the log again.
const MISSES_MAX: u32 = 4;

/// Election timeouts without an answer, after which it is so too.
const SILENCE_MAX: u32 = 4;

/// Requests for one piece of which the times are kept, to know how long the answer has taken.
const REQUESTS_KEPT: usize = 4;

/// What this node fetches, and from whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetch {
    /// Who has said that it has compacted what is missing here.
    peer: Option<NodeId>,
    /// How often it has not answered since.
    misses: u32,
    /// The last requests for the next piece, and when they were made.
    asked: SmallVec<[(u64, Instant); REQUESTS_KEPT]>,
    /// How long the last piece took to come.
    took: Duration,
    state: Option<Incoming>,
}

/// What is there of a state.
#[derive(Clone, Debug)]
struct Incoming {
    slot: Slot,
    /// The hash of the chosen prefix and the stamp of the state; unknown of one from before a restart.
    known: Option<(u64, u64)>,
    /// What has been received, or read back.
    taken: StateHasher,
    /// How much is in the storage.
    stored: u64,
    /// What is being read back.
    read: Option<StateReadId>,
    /// What is said about it, from the first piece of this life on.
    transfer: Option<Transfer>,
}

/// A checkpoint that a peer has sent, whole and verified.
pub(super) struct Fetched {
    pub(super) checkpoint: Checkpoint,
    /// Its sessions.
    pub(super) sessions: SessionTable,
    /// The memberships that govern slots above it.
    pub(super) memberships: Memberships,
}

impl Fetch {
    /// Goes on with what the storage has of a state from before the last restart, if that is still of use.
    pub(super) fn recovered(unfinished: Option<(Slot, u64)>, chosen: Slot) -> Fetch {
        let state = unfinished
            .filter(|(slot, _)| *slot > chosen)
            .map(|(slot, stored)| Incoming { stored, ..Incoming::begin(slot) });
        Fetch { state, ..Fetch::default() }
    }

    /// A peer has compacted what is missing here.
    pub(super) fn begin(&mut self, peer: NodeId) {
        (self.peer, self.misses) = (Some(peer), 0);
    }

    /// What is missing here is in somebody's log.
    pub(super) fn end(&mut self) {
        self.peer = None;
        self.asked.clear();
    }

    /// Another state takes the place of what there is.
    pub(super) fn forget(&mut self) {
        self.state = None;
    }

    /// Whom to ask for a state.
    pub(super) fn peer(&self) -> Option<NodeId> {
        self.peer
    }

    /// The peer has not answered.
    pub(super) fn missed(&mut self, config: &Config) {
        self.misses += 1;
        let silence = self.patience(config) * self.misses;
        let is_silent =
            self.misses >= MISSES_MAX || silence >= config.election_timeout * SILENCE_MAX;
        if is_silent && !planted!(OnePeerFetchedFrom) {
            self.peer = None;
        }
    }

    /// How far the state is that is being fetched: its slot, and bytes.
    pub(super) fn progress(&self) -> Option<(Slot, u64)> {
        let transfer = self.state.as_ref()?.transfer.as_ref()?;
        Some((transfer.slot(), transfer.bytes()))
    }

    /// How long to wait for a piece before it is asked for again: twice as long as the last one took, since
    /// each is sent as often as it is asked for.
    pub(super) fn patience(&self, config: &Config) -> Duration {
        let max = (config.election_timeout * 2).max(config.retransmit_timeout);
        self.took.saturating_mul(2).clamp(config.retransmit_timeout, max)
    }

    /// Whether it waits for what is read back.
    pub(super) fn is_verifying(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.read.is_some())
    }

    /// The request for the next piece; `None` while what is there from before a restart is read back.
    pub(super) fn request(
        &mut self,
        number: u64,
        chosen: Slot,
        reads: &mut StateReads,
        cx: &mut Context<'_>,
    ) -> Option<PullState> {
        let Some(state) = self.state.as_mut().filter(|state| state.slot > chosen) else {
            self.state = None;
            self.ask(number, cx.now);
            return Some(PullState { number, chosen, slot: Slot::ZERO, offset: 0 });
        };
        let offset = state.taken.bytes();
        if offset < state.stored {
            if state.read.is_none() {
                let source = StateSource::Stored { slot: state.slot, offset };
                state.read = Some(reads.read(Purpose::Verify, source, cx));
            }
            return None;
        }
        let slot = state.slot;
        self.ask(number, cx.now);
        Some(PullState { number, chosen, slot, offset })
    }

    /// The next piece is asked for, not for the first time perhaps.
    fn ask(&mut self, number: u64, now: Instant) {
        if self.asked.len() == REQUESTS_KEPT {
            self.asked.remove(0);
        }
        self.asked.push((number, now));
    }

    /// The next piece has come, as the answer to this request.
    fn answered(&mut self, number: u64, now: Instant) {
        let known = self.asked.iter().find(|(asked, _)| *asked == number);
        if let Some((_, since)) = known.or(self.asked.first()) {
            self.took = now.since(*since);
        }
        self.asked.clear();
    }

    /// A piece from before the last restart has been read back.
    pub(super) fn on_verified(&mut self, id: StateReadId, bytes: &[u8]) {
        let Some(state) = self.state.as_mut().filter(|state| state.read == Some(id)) else {
            return;
        };
        state.read = None;
        if bytes.is_empty() {
            // Another state has been begun in its place.
            self.state = None;
            return;
        }
        state.taken.update(bytes);
    }

    /// Takes in a piece, `expected` if it is the answer to the last request; returns the checkpoint when it
    /// is whole. What comes late is as good as any, if it fits: so a piece that takes longer than the
    /// patience of this node is not fetched again and again.
    pub(super) fn on_piece(
        &mut self,
        from: NodeId,
        piece: PulledState,
        expected: bool,
        chosen: Slot,
        cx: &mut Context<'_>,
    ) -> Option<Fetched> {
        let PulledState { number, at, stamp, offset, bytes, end } = piece;
        if at.slot <= chosen && !planted!(OlderStateInstalled) {
            // The log has got there meanwhile.
            self.peer = self.peer.filter(|_| !expected);
            return None;
        }
        let state = self.state.as_ref();
        if state.is_some_and(|state| state.has_taken(at, stamp, offset)) {
            // Asked for twice and sent twice, which is none the worse.
            self.misses = if expected { 0 } else { self.misses };
            return None;
        }
        let fits = state.is_some_and(|state| state.fits(at, stamp, offset));
        if !fits {
            // The first one, late: the answer to an earlier request.
            let was_asked = self.asked.iter().any(|(asked, _)| *asked == number);
            let is_first = state.is_none() && offset == 0 && was_asked;
            if !expected && !is_first {
                return None;
            }
            // What the peer has is another state: from its beginning, now or when it is asked again.
            self.state = (offset == 0).then(|| Incoming::begin(at.slot));
        }
        if self.state.is_some() {
            self.answered(number, cx.now);
        }
        let state = self.state.as_mut()?;
        state.known = Some((at.hash, stamp));
        (self.peer, self.misses) = (Some(from), 0);
        let begin = || Transfer::begin(Side::Receiver, cx.config.id, from, at.slot, offset, cx.now);
        let transfer = state.transfer.get_or_insert_with(begin);
        if !bytes.is_empty() {
            state.taken.update(&bytes);
            state.stored = state.taken.bytes();
            cx.out.persist_state(StateChunk { slot: at.slot, offset, bytes });
            transfer.go_on(from, state.stored, cx.now);
        }
        let StateEnd { summary, sessions, memberships } = *end?;
        let state = self.state.take()?;
        // Whatever is wrong with it, some peer has another one.
        self.peer = None;
        if !state.is_whole(summary) {
            tracing::warn!(%from, slot = %at.slot, "a state that is not what its sender says");
            return None;
        }
        if let Some(transfer) = &state.transfer {
            transfer.end(from, cx.now);
        }
        let checkpoint = Checkpoint { at, sessions, state: Some(summary) };
        let memberships = Memberships::decode(cx.config.id, at.slot, &memberships);
        let fetched = memberships.and_then(|memberships| {
            let (newest, bytes_max) = (memberships.newest(), cx.config.sessions_bytes_max);
            let sessions = SessionTable::restore(&checkpoint, newest, bytes_max).ok()?;
            Some(Fetched { checkpoint, sessions, memberships })
        });
        if fetched.is_none() {
            tracing::warn!(%from, slot = %at.slot, "a checkpoint that makes no sense");
        }
        fetched
    }
}

impl Incoming {
    fn begin(slot: Slot) -> Incoming {
        let (known, taken) = (None, StateHasher::default());
        Incoming { slot, known, taken, stored: 0, read: None, transfer: None }
    }

    /// Whether a piece is the next one of this state.
    fn fits(&self, at: Watermark, stamp: u64, offset: u64) -> bool {
        let is_same = self.known.is_none_or(|known| known == (at.hash, stamp));
        let taken = self.taken.bytes();
        (at.slot, offset) == (self.slot, taken)
            && taken == self.stored
            && (is_same || planted!(StateUnverified))
    }

    /// Whether a piece of this state is there already.
    fn has_taken(&self, at: Watermark, stamp: u64, offset: u64) -> bool {
        at.slot == self.slot && self.known == Some((at.hash, stamp)) && offset < self.taken.bytes()
    }

    fn is_whole(&self, summary: StateSummary) -> bool {
        self.taken.summary() == summary || planted!(StateUnverified)
    }
}
