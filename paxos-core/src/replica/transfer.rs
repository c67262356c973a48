//! What is said about a state on its way, which may take minutes: that it has begun, how far it is every
//! few seconds, and that it has ended.

use std::time::Duration;

use crate::{
    limits,
    types::{Instant, NodeId, Slot},
};

/// A state on its way from one node to another.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    side: Side,
    node: NodeId,
    slot: Slot,
    began: Instant,
    /// When something was said last.
    told: Instant,
    bytes: u64,
}

/// What a transfer is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Receiver,
    Sender,
}

impl Transfer {
    /// So many bytes are there already, from before a restart or a cut.
    pub(super) fn begin(
        side: Side,
        node: NodeId,
        peer: NodeId,
        slot: Slot,
        bytes: u64,
        now: Instant,
    ) -> Transfer {
        match side {
            Side::Receiver => tracing::info!(
                %node, from = %peer, %slot, bytes,
                "fetches a state: the log that leads there has been compacted"
            ),
            Side::Sender => tracing::info!(
                %node, to = %peer, %slot, bytes,
                "sends a state: the log that leads there has been compacted"
            ),
        }
        Transfer { side, node, slot, began: now, told: now, bytes }
    }

    /// The state is as of this slot.
    pub(super) fn slot(&self) -> Slot {
        self.slot
    }

    /// How far it is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// It has come so far, with this peer: any that has the same state can go on with it.
    pub(super) fn go_on(&mut self, peer: NodeId, bytes: u64, now: Instant) {
        self.bytes = bytes;
        if now.since(self.told) < limits::TRANSFER_TOLD_INTERVAL {
            return;
        }
        self.told = now;
        let Transfer { side, node, slot, .. } = *self;
        let seconds = self.seconds(now);
        match side {
            Side::Receiver => tracing::info!(
                %node, from = %peer, %slot, bytes, seconds, "a state is being fetched"
            ),
            Side::Sender => tracing::info!(
                %node, to = %peer, %slot, bytes, seconds, "a state is being sent"
            ),
        }
    }

    /// All of it has passed.
    pub(super) fn end(&self, peer: NodeId, now: Instant) {
        let Transfer { side, node, slot, bytes, .. } = *self;
        let seconds = self.seconds(now);
        match side {
            Side::Receiver => tracing::info!(
                %node, from = %peer, %slot, bytes, seconds, "a state has been fetched"
            ),
            Side::Sender => tracing::info!(
                %node, to = %peer, %slot, bytes, seconds, "a state has been sent"
            ),
        }
    }

    /// The peer has not asked for the rest.
    pub(super) fn give_up(&self, peer: NodeId, now: Instant) {
        let Transfer { node, slot, bytes, .. } = *self;
        let seconds = self.seconds(now);
        tracing::info!(
            %node, to = %peer, %slot, bytes, seconds, "a peer no longer asks for the rest of a state"
        );
    }

    fn seconds(&self, now: Instant) -> u64 {
        let lasted: Duration = now.since(self.began);
        lasted.as_secs()
    }
}
