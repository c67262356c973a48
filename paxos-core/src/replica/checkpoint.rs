//! Checkpoints: what this node can start from instead of the log, and how far the log may go.
//!
//! A checkpoint of a slot is the hash of the chosen prefix up to there, the session table and the state.
//! It is due when the log has grown by enough since the last one, and begins as a mark in what is handed
//! to the state machine: session table and hash are taken where the mark stands, and whoever applies what
//! is before it takes a snapshot of the state there. So all parts are as of one slot.
//!
//! - A state in memory is copied to the storage, piece by piece, each one durable before the next is
//!   read; then one batch makes the checkpoint of it.
//! - A state machine that keeps itself needs no copy: its checkpoint counts once it is durable that far.
//!   Never earlier, or a restart would take for duplicates what the state has lost.
//!
//! The floor rises to the checkpoint *before* the newest, so that a peer that lags by less than one finds
//! its slots, and never past a state that a peer is fetching.

use bytes::Bytes;

use super::{
    ReplicaError, WriteId,
    context::Context,
    effect::{SnapshotId, StateReadId, StateSource, Task},
    learner::Learner,
    log::Log,
    outbox::Outbox,
    state_reads::{Purpose, StateReads},
};
use crate::{
    config::Config,
    limits,
    message::Watermark,
    planted::planted,
    port::{Checkpoint, Recovered, StateChunk, StateHasher, StateSummary},
    types::Slot,
};

/// What a slot of the log weighs besides its value.
const SLOT_BYTES: u64 = 64;

/// The newest checkpoint, and the next.
#[derive(Clone, Debug)]
pub(super) struct Checkpoints {
    /// The newest one, and the write that carries it.
    newest: Checkpoint,
    write: WriteId,
    /// What the floor may rise to, and the write that has raised it last.
    floor_max: Slot,
    floor_write: WriteId,
    making: Option<Making>,
    /// Slots and bytes of the log since a checkpoint was last due.
    since: (u64, u64),
    /// Bytes of the log delivered in this life.
    delivered_bytes: u64,
    /// Of a state machine that keeps itself: how far it is durable.
    durable: Option<Slot>,
    /// The state machine has to take over the state of the newest checkpoint, once this is durable.
    restoring: Option<WriteId>,
    /// Names snapshots.
    snapshots: SnapshotId,
    /// States of peers taken over in this life.
    taken_over: u64,
}

/// A checkpoint in the making.
#[derive(Clone, Debug)]
struct Making {
    at: Watermark,
    sessions: Bytes,
    /// `None` if the state machine keeps itself.
    copying: Option<Copying>,
}

/// A state on its way to the storage.
#[derive(Clone, Debug)]
struct Copying {
    snapshot: SnapshotId,
    /// What has been asked for.
    read: Option<StateReadId>,
    /// What has been read and is not on its way to the disk, which may be behind.
    piece: Option<Bytes>,
    /// The write that carries the last piece.
    after: WriteId,
    copied: StateHasher,
}

impl Checkpoints {
    /// Goes on from the recovered one. `durable` is what the state machine says of itself.
    ///
    /// # Errors
    ///
    /// If the state machine needs a state that the storage has not got.
    pub(super) fn recovered(
        recovered: &Recovered,
        durable: Option<Slot>,
    ) -> Result<Checkpoints, ReplicaError> {
        let newest = recovered.checkpoint.clone();
        let (applied, checkpoint) = (durable.unwrap_or_default(), newest.at.slot);
        let is_behind = applied < checkpoint;
        if is_behind && newest.state.is_none() {
            return Err(ReplicaError::StateMissing { durable: applied, checkpoint });
        }
        Ok(Checkpoints {
            restoring: is_behind.then_some(WriteId(0)).filter(|_| !planted!(StateNotRestored)),
            newest,
            write: WriteId(0),
            floor_max: recovered.floor,
            floor_write: WriteId(0),
            making: None,
            since: (0, 0),
            delivered_bytes: 0,
            durable,
            snapshots: SnapshotId(recovered.incarnation << 32),
            taken_over: 0,
        })
    }

    /// The newest one, if it is durable.
    pub(super) fn newest(&self, out: &Outbox) -> Option<&Checkpoint> {
        (self.write <= out.persisted()).then_some(&self.newest)
    }

    /// The slot of the newest one.
    pub(super) fn slot(&self) -> Slot {
        self.newest.at.slot
    }

    /// States of peers taken over in this life.
    pub(super) fn taken_over(&self) -> u64 {
        self.taken_over
    }

    /// Bytes of the log delivered in this life.
    pub(super) fn delivered_bytes(&self) -> u64 {
        self.delivered_bytes
    }

    /// Whether the state machine keeps itself.
    pub(super) fn is_kept_elsewhere(&self) -> bool {
        self.durable.is_some()
    }

    /// Whether a state waits to be put in place, before which nothing else may be done.
    pub(super) fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// Whether the state machine has not taken over the state of the newest checkpoint yet.
    pub(super) fn is_unsettled(&self, learner: &Learner) -> bool {
        learner.applied() < self.newest.at.slot
    }

    /// Takes a snapshot of the state behind all that has been delivered, or further: after a restart a state
    /// machine that keeps itself may be ahead of that, and whoever takes over its state passes over what it
    /// has by then. `None` if the state is about to be replaced.
    pub(super) fn freeze(&mut self, out: &mut Outbox) -> Option<SnapshotId> {
        if self.is_restoring() {
            return None;
        }
        self.snapshots.0 += 1;
        let tasks = &mut out.effects().tasks;
        let place = tasks.len().saturating_sub(usize::from(planted!(FrozenTooEarly)));
        tasks.insert(place, Task::Freeze(self.snapshots));
        Some(self.snapshots)
    }

    /// The log has a slot more, with a value of so many bytes.
    #[inline]
    pub(super) fn on_slot(&mut self, value_bytes: usize) {
        let bytes = value_bytes as u64 + SLOT_BYTES;
        self.delivered_bytes += bytes;
        self.since = (self.since.0 + 1, self.since.1 + bytes);
    }

    /// A slot has been handed to the state machine: a checkpoint may be due behind it. Not while a peer's is
    /// fetched; while others read the newest, it can wait. Says whether a state is going to be copied, in
    /// place of any other that is not whole.
    #[inline]
    pub(super) fn on_delivered(
        &mut self,
        learner: &Learner,
        is_read: bool,
        is_fetching: bool,
        config: &Config,
        out: &mut Outbox,
    ) -> bool {
        if self.making.is_some() || is_fetching || !self.is_due(is_read, config) {
            return false;
        }
        self.begin(learner, out);
        self.making.as_ref().is_some_and(|making| making.copying.is_some())
    }

    /// A state that is copied again and again takes no more writes than the log does.
    fn is_due(&self, is_read: bool, config: &Config) -> bool {
        let (slots, bytes) = self.since;
        let patience = if is_read { limits::SERVING_CHECKPOINTS } else { 1 };
        let state_bytes = self.newest.state.map_or(0, |state| state.bytes);
        let is_enough = slots >= config.checkpoint_slots.saturating_mul(patience)
            || bytes >= config.checkpoint_bytes.saturating_mul(patience);
        is_enough && bytes >= state_bytes
    }

    fn begin(&mut self, learner: &Learner, out: &mut Outbox) {
        let at = learner.delivered_at();
        let copying = if self.is_kept_elsewhere() {
            None
        } else {
            let Some(snapshot) = self.freeze(out) else { return };
            let (read, piece, after) = (None, None, out.persisted());
            Some(Copying { snapshot, read, piece, after, copied: StateHasher::default() })
        };
        self.since = (0, 0);
        self.making = Some(Making { at, sessions: learner.sessions().encode(), copying });
    }

    /// Another state is on its way to the storage, which has room for one.
    pub(super) fn abandon(&mut self, reads: &mut StateReads, out: &mut Outbox) {
        if let Some(Making { copying: Some(copying), .. }) = self.making.take() {
            reads.let_go(copying.snapshot, copying.read, out);
        }
    }

    /// The state machine is durable up to here, if it keeps itself.
    pub(super) fn on_durable(&mut self, durable: Option<Slot>) {
        assert_eq!(
            durable.is_some(),
            self.durable.is_some(),
            "a state machine keeps itself or it does not"
        );
        self.durable = self.durable.max(durable);
    }

    /// Goes on with what does not wait for anything.
    #[inline]
    pub(super) fn go_on(
        &mut self,
        learner: &Learner,
        log: &mut Log,
        floor_max: Slot,
        reads: &mut StateReads,
        cx: &mut Context<'_>,
    ) {
        if self.restoring.take_if(|write| *write <= cx.out.persisted()).is_some() {
            cx.out.effects().tasks.push(Task::Restore(self.newest.at.slot));
        }
        if self.making.is_some() {
            self.go_on_making(learner, reads, cx);
        }
        self.drop_copy(cx.out);
        self.raise_floor(log, floor_max, cx.out);
    }

    fn go_on_making(&mut self, learner: &Learner, reads: &mut StateReads, cx: &mut Context<'_>) {
        let Some(making) = &mut self.making else { return };
        let slot = making.at.slot;
        if let Some(copying) = &mut making.copying {
            if let Some(summary) = copying.go_on(slot, reads, cx) {
                self.finish(Some(summary), cx.out);
            }
            return;
        }
        let durable =
            if planted!(SessionsAheadOfState) { Some(learner.applied()) } else { self.durable };
        if durable >= Some(slot) && cx.out.admit() {
            self.finish(None, cx.out);
        }
    }

    /// The next piece of the state has been read.
    pub(super) fn on_piece(&mut self, id: StateReadId, bytes: Bytes) {
        if let Some(Making { copying: Some(copying), .. }) = &mut self.making
            && copying.read == Some(id)
        {
            (copying.read, copying.piece) = (None, Some(bytes));
        }
    }

    /// All parts are there.
    fn finish(&mut self, state: Option<StateSummary>, out: &mut Outbox) {
        let Some(Making { at, sessions, .. }) = self.making.take() else { return };
        assert!(at.slot > self.newest.at.slot, "a checkpoint never sinks");
        let sessions = if planted!(CheckpointWithoutSessions) { Bytes::new() } else { sessions };
        self.floor_max = self.newest.at.slot;
        self.newest = Checkpoint { at, sessions, state };
        out.persist_checkpoint(self.newest.clone());
        self.write = out.last_write();
    }

    /// A state that its machine keeps itself needs no copy beside the log, once it is durable there.
    fn drop_copy(&mut self, out: &mut Outbox) {
        let is_superfluous = self.newest.state.is_some()
            && self.write <= out.persisted()
            && self.durable >= Some(self.newest.at.slot);
        if is_superfluous && out.admit() {
            self.newest.state = None;
            out.persist_checkpoint(self.newest.clone());
            self.write = out.last_write();
        }
    }

    /// Takes the checkpoint of a peer: everything up to it is settled, and in no log of this node.
    pub(super) fn install(&mut self, checkpoint: Checkpoint, log: &mut Log, out: &mut Outbox) {
        assert!(self.making.is_none(), "the storage has room for one state beside the newest");
        let slot = checkpoint.at.slot;
        self.newest = checkpoint;
        out.persist_checkpoint(self.newest.clone());
        log.compact(slot);
        out.persist_floor(slot);
        let write = out.last_write();
        (self.write, self.floor_write, self.floor_max) = (write, write, slot);
        self.restoring = Some(write);
        self.taken_over += 1;
        self.since = (0, 0);
    }

    /// A few thousand slots at a time, so that no write takes long for it.
    fn raise_floor(&mut self, log: &mut Log, floor_max: Slot, out: &mut Outbox) {
        let begun = self.making.as_ref().filter(|_| planted!(CompactedAboveCheckpoint));
        let floor_max = begun.map_or(self.floor_max, |making| making.at.slot).min(floor_max);
        if log.floor() >= floor_max || self.floor_write > out.persisted() {
            return;
        }
        let floor = floor_max.min(log.floor().plus(limits::FLOOR_STEP_SLOTS));
        log.compact(floor);
        out.persist_floor(floor);
        self.floor_write = out.last_write();
    }

    /// Whether the state machine may have got on so far that something goes on.
    #[inline]
    pub(super) fn waits_for_state(&self) -> bool {
        self.making.as_ref().is_some_and(|making| making.copying.is_none())
            || self.newest.state.is_some() && self.is_kept_elsewhere()
    }

    /// Whether the next write to become durable lets something go on.
    #[inline]
    pub(super) fn waits_for_disk(&self, floor: Slot) -> bool {
        let is_copying =
            |making: &Making| making.copying.as_ref().is_none_or(|copying| copying.read.is_none());
        self.restoring.is_some()
            || self.making.as_ref().is_some_and(is_copying)
            || floor < self.floor_max
    }
}

impl Copying {
    /// Reads the next piece, or writes the one that has been read; returns what all of them together are
    /// when there are no more.
    fn go_on(
        &mut self,
        slot: Slot,
        reads: &mut StateReads,
        cx: &mut Context<'_>,
    ) -> Option<StateSummary> {
        let is_ready = self.read.is_none() && self.after <= cx.out.persisted();
        if !is_ready || !cx.out.admit() {
            return None;
        }
        let Some(bytes) = self.piece.take() else {
            let source = StateSource::Snapshot(self.snapshot);
            self.read = Some(reads.read(Purpose::Copy, source, cx));
            return None;
        };
        if bytes.is_empty() {
            reads.let_go(self.snapshot, None, cx.out);
            return Some(self.copied.summary());
        }
        let offset = self.copied.bytes();
        self.copied.update(&bytes);
        cx.out.persist_state(StateChunk { slot, offset, bytes });
        self.after = cx.out.last_write();
        None
    }
}
