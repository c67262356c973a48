//! Gathers the effects of a step, and holds back what must not leave before the disk.
//!
//! A Promise, an Accepted and a Prepare speak of durable state. They are handed over as
//! [`AfterPersist`], the only way to send them, and become messages when every write issued up to
//! then is durable. A driver never sees them earlier, so it cannot send them too early. Meanwhile
//! they wait in [`held`](super::held).

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use super::{
    Effects, Halt, WriteId,
    backlog::Backlog,
    effect::LogRead,
    held::{AfterPersist, Held, Votes},
};
use crate::{
    config::Config,
    limits,
    message::{Accepted, Message, Record, Watermark},
    planted::planted,
    port::{Checkpoint, StateChunk, WriteBatch},
    types::{Ballot, Instant, NodeId, Slot},
};

/// The effects of a step in the making.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    id: NodeId,
    effects: Effects,
    /// The write in the making.
    making: WriteBatch,
    /// The last write issued.
    issued: WriteId,
    /// The one in the making, if there is anything to write; else the same.
    last_write: WriteId,
    persisted: WriteId,
    /// When a write last came to its end, or was issued while no other was under way.
    disk_moved_at: Instant,
    backlog: Backlog,
    held: Held,
    /// What this node says to itself: its own promise and its own votes.
    to_self: VecDeque<Message>,
    /// The watermark last written. It rides on other writes and never causes one.
    watermark_written: Watermark,
}

/// What the end of a write has let go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Released {
    /// A promise or a Prepare has left.
    pub(super) has_promised: bool,
    /// The disk was behind and has caught up.
    pub(super) has_caught_up: bool,
}

impl Outbox {
    pub(super) fn new(config: &Config, watermark_written: Watermark) -> Outbox {
        Outbox {
            id: config.id,
            effects: Effects::default(),
            making: WriteBatch::default(),
            issued: WriteId(0),
            last_write: WriteId(0),
            persisted: WriteId(0),
            disk_moved_at: Instant::ZERO,
            backlog: Backlog::new(config.backlog_bytes_max),
            held: Held::new(limits::votes_held_max(&config.membership)),
            to_self: VecDeque::new(),
            watermark_written,
        }
    }

    /// The effects that have no rule here.
    #[inline]
    pub(super) fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// Stops the replica, if there is a reason to; the first reason of a step stands.
    #[inline]
    pub(super) fn halt(&mut self, reason: Option<Halt>) {
        if reason.is_some() && self.effects.halt.is_none() {
            self.effects.halt = reason;
        }
    }

    /// Sends what depends on no write.
    #[inline]
    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        debug_assert!(
            !matches!(message, Message::Promise(_) | Message::Accepted(_) | Message::Prepare(_)),
            "{message:?} has to wait for the disk"
        );
        self.transmit(to, message);
    }

    /// Sends what depends on no write to every other voter.
    pub(super) fn broadcast(&mut self, message: Message) {
        self.effects.broadcast.push(message);
    }

    fn transmit(&mut self, to: NodeId, message: Message) {
        if to == self.id {
            self.to_self.push_back(message);
        } else {
            self.effects.send.push((to, message));
        }
    }

    /// Sends `message` once every write so far, the batch in the making included, is durable;
    /// unless the same waits already.
    #[inline]
    pub(super) fn send_after_persist(&mut self, to: NodeId, message: AfterPersist) {
        let after = self.last_write();
        if after <= self.persisted
            || planted!(VoteBeforeSync) && matches!(message, AfterPersist::Accepted { .. })
            || planted!(OwnVoteBeforeSync) && to == self.id
            || planted!(PromiseBeforeSync) && matches!(message, AfterPersist::Promise(_))
            || planted!(PrepareBeforeSync) && matches!(message, AfterPersist::Prepare(_))
        {
            self.release(to, message);
        } else {
            self.held.hold(after, to, message);
        }
    }

    /// Makes a promise durable. What waits at lower ballots could only be refused by now.
    pub(super) fn persist_promise(&mut self, promised: Ballot) {
        assert!(self.making.promised <= Some(promised), "a promise never sinks");
        self.making.promised = Some(promised);
        self.begin_write();
        self.held.drop_below(promised);
    }

    /// Keeps back the Prepares that still wait for the disk: whoever sent them has given up.
    pub(super) fn withdraw_prepares(&mut self) {
        self.held.drop_prepares();
    }

    /// There is something to write.
    fn begin_write(&mut self) {
        self.last_write = WriteId(self.issued.0 + 1);
    }

    #[inline]
    pub(super) fn persist_record(&mut self, record: Record) {
        let len = record.value.encoded_len();
        let records = &mut self.making.records;
        if records.is_empty() {
            // Mostly it is the only one of its write.
            *records = vec![record];
        } else {
            records.push(record);
        }
        self.begin_write();
        self.backlog.add(self.last_write, len);
    }

    /// A piece of a state that a checkpoint is going to have.
    pub(super) fn persist_state(&mut self, piece: StateChunk) {
        assert!(!piece.bytes.is_empty(), "a piece of a state has bytes");
        let len = piece.bytes.len();
        self.making.state.push(piece);
        self.begin_write();
        self.backlog.add(self.last_write, len);
    }

    pub(super) fn persist_checkpoint(&mut self, checkpoint: Checkpoint) {
        let len = checkpoint.sessions.len();
        self.making.checkpoint = Some(checkpoint);
        self.begin_write();
        self.backlog.add(self.last_write, len);
    }

    /// The memberships as of the watermark. They ride on the same write as that, and never cause one.
    pub(super) fn persist_memberships(&mut self, encoded: Bytes) {
        self.making.memberships = Some(encoded);
    }

    /// Every record up to `floor` is to go.
    pub(super) fn persist_floor(&mut self, floor: Slot) {
        assert!(self.making.floor <= Some(floor), "the floor never sinks");
        self.making.records.retain(|record| record.slot > floor);
        self.making.floor = Some(floor);
        self.begin_write();
    }

    pub(super) fn read_log(&mut self, read: LogRead) {
        self.effects.log_reads.push(read);
    }

    /// The write that carries what was persisted last, whether it has been issued yet or not.
    #[inline]
    pub(super) fn last_write(&self) -> WriteId {
        self.last_write
    }

    /// What is on its way to the disk.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// How many ranges of votes wait for the disk, and how many may.
    pub(super) fn votes_held(&self) -> (usize, usize) {
        self.held.votes()
    }

    /// Whether the disk keeps up, so that one more message or value may bring something to write.
    pub(super) fn admit(&mut self) -> bool {
        self.backlog.admit()
    }

    pub(super) fn persisted(&self) -> WriteId {
        self.persisted
    }

    /// How long the disk has been at work without bringing a write to its end.
    pub(super) fn disk_silent_for(&self, now: Instant) -> Duration {
        if self.persisted < self.issued { now.since(self.disk_moved_at) } else { Duration::ZERO }
    }

    /// Whether a promise waits for the disk, or a Prepare: this node's promise to itself.
    pub(super) fn is_promising(&self) -> bool {
        self.held.has_phase_one()
    }

    /// Takes note that writes up to `id` are durable and releases what waited for them.
    #[inline]
    pub(super) fn on_persisted(&mut self, id: WriteId, now: Instant) -> Released {
        assert!(id <= self.issued, "write {id:?} was never issued, only up to {:?}", self.issued);
        if id > self.persisted {
            self.persisted = id;
            self.disk_moved_at = now;
        }
        let mut has_promised = false;
        while let Some((to, message)) = self.held.next_of_phase_one(self.persisted) {
            self.release(to, message);
            has_promised = true;
        }
        while let Some(votes) = self.held.next_votes(self.persisted) {
            self.release_votes(votes);
        }
        Released { has_promised, has_caught_up: self.backlog.on_persisted(id) }
    }

    fn release(&mut self, to: NodeId, message: AfterPersist) {
        match message {
            AfterPersist::Promise(promise) => self.transmit(to, Message::Promise(promise)),
            AfterPersist::Prepare(prepare) => self.transmit(to, Message::Prepare(prepare)),
            AfterPersist::Accepted { ballot, slot } => {
                self.release_votes(Votes { to, ballot, first: slot, last: slot });
            }
        }
    }

    /// Votes that become durable together travel together, as far as their slots follow each other.
    #[inline]
    fn release_votes(&mut self, votes: Votes) {
        let Votes { to, ballot, first, last } = votes;
        let before = if to == self.id {
            self.to_self.back_mut()
        } else {
            self.effects.send.iter_mut().rev().find(|sent| sent.0 == to).map(|sent| &mut sent.1)
        };
        if let Some(Message::Accepted(accepted)) = before
            && accepted.ballot == ballot
            && accepted.last.next() == first
        {
            accepted.last = last;
            return;
        }
        self.transmit(to, Message::Accepted(Accepted { ballot, first, last }));
    }

    /// The next thing this node has said to itself.
    #[inline]
    pub(super) fn take_to_self(&mut self) -> Option<Message> {
        self.to_self.pop_front()
    }

    /// The effects of the step, in place of what is in `effects`. One that halts has no other effect:
    /// what the replica knows is wrong.
    #[inline]
    pub(super) fn finish(&mut self, watermark: Watermark, now: Instant, effects: &mut Effects) {
        assert!(self.persisted <= self.issued, "a write is done after it has been issued");
        assert!(
            self.to_self.is_empty(),
            "what this node says to itself is taken in in the same step"
        );
        if self.effects.halt.is_some() {
            self.making = WriteBatch::default();
            self.last_write = self.issued;
            self.backlog.forget_after(self.issued);
            let halt = self.effects.halt.take();
            (*effects, self.effects) = (Effects { halt, ..Effects::default() }, Effects::default());
            return;
        }
        effects.replace_with(&mut self.effects);
        if self.last_write > self.issued {
            assert!(watermark.slot >= self.watermark_written.slot, "the watermark never sinks");
            let chosen = (watermark != self.watermark_written).then_some(watermark);
            self.watermark_written = watermark;
            if self.persisted == self.issued {
                self.disk_moved_at = now;
            }
            self.issued = self.last_write;
            let batch = WriteBatch { chosen, ..std::mem::take(&mut self.making) };
            effects.persist = Some((self.issued, batch));
        }
        self.backlog.end_step(now);
    }
}
