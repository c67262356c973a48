//! Who gets the leader's chosen watermark, and when.
//!
//! A node that waits for one of a slot's commands gets it at once. For everybody else the watermark
//! rides on the next Accept or heartbeat; only if none comes soon, it is sent by itself.

use super::context::Context;
use crate::{
    limits,
    message::{ChosenUpTo, Message, Watermark},
    types::{Ballot, Batch, Instant, NodeId, Slot},
};

/// What the others know of the leader's watermark.
#[derive(Clone, Debug, Default)]
pub(super) struct Announcer {
    /// The last watermark that went to all of them.
    announced: Slot,
    /// Who waits for what has been chosen since.
    waiting: Vec<NodeId>,
    /// Whether one of them is a client that may wait anywhere.
    anybody_waits: bool,
    /// When it goes to those who do not wait.
    due: Option<Instant>,
}

impl Announcer {
    /// All peers are about to get this watermark, with this or another message.
    pub(super) fn on_announced(&mut self, chosen: Slot) {
        assert!(chosen >= self.announced, "a watermark does not fall");
        self.announced = chosen;
        self.waiting.clear();
        self.anybody_waits = false;
        self.due = None;
    }

    /// The commands of `batch` are chosen.
    pub(super) fn on_chosen(&mut self, batch: &Batch, cx: &Context<'_>) {
        for run in batch.runs() {
            let node = NodeId(run.client.name);
            if node == cx.config.id || self.waiting.contains(&node) {
                continue;
            }
            if !cx.memberships.peers().contains(&node) {
                self.anybody_waits = true;
            } else {
                self.waiting.push(node);
            }
        }
    }

    /// Sends the watermark to whoever is to have it by now.
    #[inline]
    pub(super) fn announce(&mut self, ballot: Ballot, chosen: Watermark, cx: &mut Context<'_>) {
        if chosen.slot <= self.announced {
            return;
        }
        let message = Message::Chosen(ChosenUpTo { ballot, chosen });
        let due = *self.due.get_or_insert(cx.now.after(limits::ANNOUNCE_DELAY));
        if self.anybody_waits || due <= cx.now {
            cx.broadcast(message);
            self.on_announced(chosen.slot);
            return;
        }
        for node in self.waiting.drain(..) {
            cx.out.send(node, message.clone());
        }
    }

    #[inline]
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due
    }
}
