//! States for peers that have missed too much: what the log here has been compacted up to is in them.
//!
//! A state that the storage keeps is read there, from wherever a peer asks. Of a state machine that keeps
//! itself a snapshot is taken for each peer that asks, which is read once, from its beginning to its end,
//! and let go when nobody has asked for a while. The log behind it stays until then, within a bound: a
//! state is of no use to whoever cannot go on from there.

use std::collections::BTreeMap;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    checkpoint::Checkpoints,
    context::Context,
    effect::{SnapshotId, StateReadId, StateSource},
    learner::Learner,
    state_reads::{Purpose, StateReads},
    transfer::{Side, Transfer},
};
use crate::{
    config::Config,
    limits,
    message::{Message, PullState, PulledState, StateEnd, Watermark},
    planted::planted,
    port::StateHasher,
    types::{Instant, NodeId, Slot},
};

/// Who fetches a state here.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving {
    peers: BTreeMap<NodeId, Served>,
    /// States sent to their end in this life.
    sent: u64,
}

#[derive(Clone, Debug)]
struct Served {
    /// The last request.
    number: u64,
    asked_at: Instant,
    /// The piece that is being read.
    reading: Option<(StateReadId, Piece)>,
    frozen: Option<Frozen>,
    /// What is said about it.
    transfer: Option<Transfer>,
}

/// Which piece.
#[derive(Clone, Copy, Debug)]
enum Piece {
    Stored { at: Watermark, offset: u64 },
    Next,
}

/// A snapshot, and how far it has been read.
#[derive(Clone, Debug)]
struct Frozen {
    snapshot: SnapshotId,
    at: Watermark,
    sessions: Bytes,
    memberships: Bytes,
    /// Bytes of the log delivered until then.
    delivered_bytes: u64,
    read: StateHasher,
    /// What was read last, in case it has been lost on its way.
    last: Option<PulledState>,
}

impl Serving {
    /// A peer asks for a piece.
    pub(super) fn on_request(
        &mut self,
        from: NodeId,
        pull: &PullState,
        checkpoints: &mut Checkpoints,
        learner: &Learner,
        reads: &mut StateReads,
        cx: &mut Context<'_>,
    ) {
        let served = self.peers.entry(from).or_insert_with(|| Served {
            number: 0,
            asked_at: cx.now,
            reading: None,
            frozen: None,
            transfer: None,
        });
        (served.number, served.asked_at) = (pull.number, cx.now);
        if served.reading.is_some() {
            return;
        }
        if checkpoints.is_kept_elsewhere() {
            served.read_frozen(from, pull, checkpoints, learner, reads, cx);
        } else {
            served.read_stored(from, pull, checkpoints, reads, cx);
        }
    }

    /// A piece for a peer has been read.
    pub(super) fn on_piece(
        &mut self,
        to: NodeId,
        id: StateReadId,
        bytes: Bytes,
        checkpoints: &Checkpoints,
        cx: &mut Context<'_>,
    ) {
        let Some(served) = self.peers.get_mut(&to) else { return };
        let Some((_, piece)) = served.reading.take_if(|(reading, _)| *reading == id) else {
            return;
        };
        let number = served.number;
        let pulled = match piece {
            Piece::Stored { at, offset } => {
                stored_piece(number, at, offset, bytes, checkpoints, cx)
            }
            Piece::Next => served.frozen.as_mut().map(|frozen| {
                let pulled = frozen.next_piece(number, cx.config.id, bytes);
                frozen.last = Some(pulled.clone());
                pulled
            }),
        };
        if let Some(pulled) = pulled {
            self.sent += u64::from(served.notice(to, &pulled, cx));
            cx.out.send(to, Message::PulledState(pulled));
        }
    }

    /// Forgets those who have not asked for long.
    pub(super) fn expire(&mut self, reads: &mut StateReads, cx: &mut Context<'_>) {
        self.peers.retain(|peer, served| {
            if served.expires_at(cx.config) > cx.now {
                return true;
            }
            if let Some(frozen) = &served.frozen {
                reads.let_go(frozen.snapshot, served.reading.map(|(id, _)| id), cx.out);
            }
            if let Some(transfer) = &served.transfer {
                transfer.give_up(*peer, cx.now);
            }
            false
        });
    }

    pub(super) fn next_deadline(&self, config: &Config) -> Option<Instant> {
        self.peers.values().map(|served| served.expires_at(config)).min()
    }

    /// States sent to their end in this life.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether some peer has asked for a state lately.
    #[cfg(feature = "sim")]
    pub(super) fn is_sending(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Whether some peer reads the state of the newest checkpoint.
    pub(super) fn is_reading_checkpoint(&self) -> bool {
        self.peers.values().any(|served| served.frozen.is_none())
    }

    /// How far the floor may rise, for those who have a state to go on from it.
    pub(super) fn floor_max(&self, checkpoints: &Checkpoints, config: &Config) -> Slot {
        let held_max = config.checkpoint_bytes.saturating_mul(limits::SERVING_CHECKPOINTS);
        let frozen = self.peers.values().filter_map(|served| served.frozen.as_ref());
        frozen
            .filter(|frozen| checkpoints.delivered_bytes() - frozen.delivered_bytes < held_max)
            .map(|frozen| frozen.at.slot)
            .min()
            .unwrap_or(Slot(u64::MAX))
    }
}

impl Served {
    /// When the peer is taken to want no more.
    fn expires_at(&self, config: &Config) -> Instant {
        self.asked_at.after(config.election_timeout * limits::SERVING_TIMEOUTS)
    }

    /// Says how far it is with this piece; returns whether it is the last.
    fn notice(&mut self, peer: NodeId, piece: &PulledState, cx: &Context<'_>) -> bool {
        let (node, slot) = (cx.config.id, piece.at.slot);
        let begin = || Transfer::begin(Side::Sender, node, peer, slot, piece.offset, cx.now);
        let known = self.transfer.take().filter(|transfer| transfer.slot() == slot);
        let mut transfer = known.unwrap_or_else(begin);
        transfer.go_on(peer, piece.offset + piece.bytes.len() as u64, cx.now);
        if piece.end.is_some() {
            transfer.end(peer, cx.now);
            return true;
        }
        self.transfer = Some(transfer);
        false
    }

    /// Reads the state of the newest checkpoint, from where the peer is if it has begun the same.
    fn read_stored(
        &mut self,
        peer: NodeId,
        pull: &PullState,
        checkpoints: &Checkpoints,
        reads: &mut StateReads,
        cx: &mut Context<'_>,
    ) {
        let Some(checkpoint) = checkpoints.newest(cx.out) else { return };
        let Some(state) = checkpoint.state else { return };
        let (at, slot) = (checkpoint.at, checkpoint.at.slot);
        if slot <= pull.chosen {
            return;
        }
        let is_begun = pull.slot == slot && pull.offset <= state.bytes;
        let offset = if is_begun { pull.offset } else { 0 };
        let id = reads.read(Purpose::Serve(peer), StateSource::Stored { slot, offset }, cx);
        self.reading = Some((id, Piece::Stored { at, offset }));
    }

    /// Reads the snapshot that was taken for this peer, or a new one if it is not where the peer is.
    fn read_frozen(
        &mut self,
        peer: NodeId,
        pull: &PullState,
        checkpoints: &mut Checkpoints,
        learner: &Learner,
        reads: &mut StateReads,
        cx: &mut Context<'_>,
    ) {
        let of_peer = self.frozen.as_ref().filter(|frozen| frozen.is_for(pull));
        let last = of_peer.and_then(|frozen| frozen.last.as_ref());
        if let Some(last) = last.filter(|last| last.offset == pull.offset) {
            let pulled = PulledState { number: pull.number, ..last.clone() };
            cx.out.send(peer, Message::PulledState(pulled));
            return;
        }
        if let Some(frozen) = self.frozen.take_if(|frozen| !frozen.is_next_for(pull)) {
            reads.let_go(frozen.snapshot, None, cx.out);
        }
        if self.frozen.is_none() {
            let Some(snapshot) = checkpoints.freeze(cx.out) else { return };
            self.frozen = Some(Frozen {
                snapshot,
                at: learner.delivered_at(),
                sessions: learner.sessions().encode(),
                memberships: cx.memberships.as_of(learner.delivered()).encode(),
                delivered_bytes: checkpoints.delivered_bytes(),
                read: StateHasher::default(),
                last: None,
            });
        }
        let Some(frozen) = &self.frozen else { return };
        let source = StateSource::Snapshot(frozen.snapshot);
        self.reading = Some((reads.read(Purpose::Serve(peer), source, cx), Piece::Next));
    }
}

/// The answer with a piece of the newest checkpoint's state; `None` if there is a newer one meanwhile.
fn stored_piece(
    number: u64,
    at: Watermark,
    offset: u64,
    bytes: Bytes,
    checkpoints: &Checkpoints,
    cx: &Context<'_>,
) -> Option<PulledState> {
    let checkpoint = checkpoints.newest(cx.out).filter(|checkpoint| checkpoint.at == at)?;
    let summary = checkpoint.state?;
    let is_last = offset + bytes.len() as u64 == summary.bytes;
    if bytes.is_empty() && !is_last {
        return None;
    }
    let end = is_last.then(|| StateEnd {
        summary,
        sessions: checkpoint.sessions.clone(),
        memberships: cx.memberships.as_of(at.slot).encode(),
    });
    let end = end.map(Box::new);
    Some(PulledState { number, at, stamp: summary.hash, offset, bytes, end })
}

impl Frozen {
    /// Whether the peer fetches this state, or has begun none and can begin this one.
    fn is_for(&self, pull: &PullState) -> bool {
        let is_at_start = self.last.as_ref().is_none_or(|last| last.offset == 0);
        self.at.slot == pull.slot
            || pull.slot == Slot::ZERO
                && (self.at.slot > pull.chosen || planted!(UselessStateSent))
                && is_at_start
    }

    /// Whether what is read next is what the peer asks for.
    fn is_next_for(&self, pull: &PullState) -> bool {
        self.is_for(pull) && self.read.bytes() == pull.offset
    }

    /// The answer with what has been read next.
    fn next_piece(&mut self, number: u64, node: NodeId, bytes: Bytes) -> PulledState {
        let offset = self.read.bytes();
        self.read.update(&bytes);
        let end = bytes
            .is_empty()
            .then(|| StateEnd {
                summary: self.read.summary(),
                sessions: self.sessions.clone(),
                memberships: self.memberships.clone(),
            })
            .map(Box::new);
        // Another snapshot of the same slot may have other bytes.
        let stamp = xxh3_64_with_seed(&self.snapshot.0.to_le_bytes(), node.0);
        PulledState { number, at: self.at, stamp, offset, bytes, end }
    }
}
