//! A state that is being fetched from a peer, because the log that leads there has been compacted.
//!
//! The one that lacks asks for a piece at a time, and for the next once the last is durable. What is there
//! of a state survives a restart, and any peer that has the same state can go on with it. Nothing of it
//! counts before all of it has been verified, as a whole: then one batch installs it.

use std::time::Duration;

use super::{
    context::Context,
    effect::{StateReadId, StateSource},
    sessions::SessionTable,
    state_reads::{Purpose, StateReads},
    transfer::{Side, Transfer},
};
use crate::{
    config::Config,
    limits,
    message::{PullState, PulledState, StateEnd, Watermark},
    planted::planted,
    port::{Checkpoint, StateChunk, StateHasher, StateSummary},
    types::{Instant, NodeId, Slot},
};

/// Requests in a row without an answer, after which another peer is asked for the log again.
const MISSES_MAX: u32 = 4;

/// What this node fetches, and from whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Fetch {
    /// Who has said that it has compacted what is missing here.
    peer: Option<NodeId>,
    /// How often it has not answered since.
    misses: u32,
    /// The offset that is asked for, and since when.
    asking: Option<(u64, Instant)>,
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

/// A checkpoint that a peer has sent, whole and verified, with its sessions.
pub(super) type Fetched = (Checkpoint, SessionTable);

impl Fetch {
    /// Goes on with what the storage has of a state from before the last restart, if that is still of use.
    pub(super) fn recovered(unfinished: Option<(Slot, u64)>, chosen: Slot) -> Fetch {
        let state = unfinished.filter(|(slot, _)| *slot > chosen).map(|(slot, stored)| Incoming {
            slot,
            known: None,
            taken: StateHasher::default(),
            stored,
            read: None,
            transfer: None,
        });
        Fetch { state, ..Fetch::default() }
    }

    /// A peer has compacted what is missing here.
    pub(super) fn begin(&mut self, peer: NodeId) {
        (self.peer, self.misses) = (Some(peer), 0);
    }

    /// What is missing here is in somebody's log.
    pub(super) fn end(&mut self) {
        self.peer = None;
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
    pub(super) fn missed(&mut self) {
        self.misses += 1;
        if self.misses >= MISSES_MAX && !planted!(OnePeerFetchedFrom) {
            self.peer = None;
        }
    }

    /// How far the state is that is being fetched: its slot, and bytes.
    pub(super) fn progress(&self) -> Option<(Slot, u64)> {
        let transfer = self.state.as_ref()?.transfer.as_ref()?;
        Some((transfer.slot(), transfer.bytes()))
    }

    /// How long to wait for a piece before it is asked for again: twice as long as the last one took, since
    /// each is sent as often as it is asked for, and twice as long again after each time in vain. Not so
    /// long that the sender would forget about this node.
    pub(super) fn patience(&self, config: &Config) -> Duration {
        let max = config.election_timeout * limits::SERVING_TIMEOUTS / 2;
        let piece = config.retransmit_timeout.max(self.took.min(max) * 2);
        piece.saturating_mul(1 << self.misses.min(MISSES_MAX)).min(max)
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
            self.ask(0, cx.now);
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
        self.ask(offset, cx.now);
        Some(PullState { number, chosen, slot, offset })
    }

    /// A piece is asked for, not for the first time perhaps.
    fn ask(&mut self, offset: u64, now: Instant) {
        if self.asking.is_none_or(|(asked, _)| asked != offset) {
            self.asking = Some((offset, now));
        }
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
        let PulledState { at, stamp, offset, bytes, end, .. } = piece;
        if at.slot <= chosen && !planted!(OlderStateInstalled) {
            // The log has got there meanwhile.
            self.peer = self.peer.filter(|_| !expected);
            return None;
        }
        let state = self.state.as_ref();
        if state.is_some_and(|state| state.has(at, stamp, offset)) {
            // Asked for twice and sent twice.
            self.misses = 0;
            return None;
        }
        let fits = state.is_some_and(|state| state.fits(at, stamp, offset));
        if !fits {
            let asks_for_first = self.asking.is_some_and(|(asked, _)| asked == 0);
            let is_first = state.is_none() && offset == 0 && asks_for_first;
            if !expected && !is_first {
                return None;
            }
            // What the peer has is another state: from its beginning, now or when it is asked again.
            self.state = (offset == 0).then(|| Incoming::begin(at.slot));
        }
        let state = self.state.as_mut()?;
        state.known = Some((at.hash, stamp));
        (self.peer, self.misses) = (Some(from), 0);
        if let Some((_, since)) = self.asking.take_if(|(asked, _)| *asked == offset) {
            self.took = cx.now.since(since);
        }
        let (side, node) = (Side::Receiver, cx.config.id);
        let transfer = state
            .transfer
            .get_or_insert_with(|| Transfer::begin(side, node, from, at.slot, offset, cx.now));
        if !bytes.is_empty() {
            state.taken.update(&bytes);
            state.stored = state.taken.bytes();
            cx.out.persist_state(StateChunk { slot: at.slot, offset, bytes });
            transfer.go_on(side, node, from, state.stored, cx.now);
        }
        let StateEnd { summary, sessions } = *end?;
        let state = self.state.take()?;
        // Whatever is wrong with it, some peer has another one.
        self.peer = None;
        if !state.is_whole(summary) {
            tracing::warn!(%from, slot = %at.slot, "a state that is not what its sender says");
            return None;
        }
        if let Some(transfer) = &state.transfer {
            transfer.end(side, node, from, cx.now);
        }
        let checkpoint = Checkpoint { at, sessions, state: Some(summary) };
        let (membership, bytes_max) = (cx.memberships.current(), cx.config.sessions_bytes_max);
        match SessionTable::restore(&checkpoint, membership, bytes_max) {
            Ok(sessions) => Some((checkpoint, sessions)),
            Err(error) => {
                tracing::warn!(%from, %error, "a checkpoint that makes no sense");
                None
            }
        }
    }
}

impl Incoming {
    fn begin(slot: Slot) -> Incoming {
        let (known, taken) = (None, StateHasher::default());
        Incoming { slot, known, taken, stored: 0, read: None, transfer: None }
    }

    /// Whether a piece of this state is here already.
    fn has(&self, at: Watermark, stamp: u64, offset: u64) -> bool {
        self.slot == at.slot && self.known == Some((at.hash, stamp)) && offset < self.taken.bytes()
    }

    /// Whether a piece is the next one of this state.
    fn fits(&self, at: Watermark, stamp: u64, offset: u64) -> bool {
        let is_same = self.known.is_none_or(|known| known == (at.hash, stamp));
        let taken = self.taken.bytes();
        (at.slot, offset) == (self.slot, taken)
            && taken == self.stored
            && (is_same || planted!(StateUnverified))
    }

    fn is_whole(&self, summary: StateSummary) -> bool {
        self.taken.summary() == summary || planted!(StateUnverified)
    }
}
