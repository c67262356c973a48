//! What every role needs from its surroundings during a step.

use std::time::Duration;

use super::{membership::Memberships, outbox::Outbox};
use crate::{
    config::Config,
    message::Message,
    planted::planted,
    types::{Instant, NodeId},
};

/// The surroundings of a role: time, settings, who votes, and where effects go.
pub(super) struct Context<'a> {
    pub(super) now: Instant,
    pub(super) config: &'a Config,
    pub(super) memberships: &'a Memberships,
    pub(super) out: &'a mut Outbox,
    pub(super) rng: &'a mut fastrand::Rng,
}

impl Context<'_> {
    /// Whether a promise, or this node's own ballot, is being written, by a disk that does anything.
    pub(super) fn writes_promise(&self) -> bool {
        let is_at_work = self.out.disk_silent_for(self.now) < self.config.disk_patience();
        self.out.is_promising() && is_at_work
    }

    /// Sends `message` to every other node that is talked to.
    pub(super) fn broadcast(&mut self, message: Message) {
        self.out.broadcast(message);
    }

    /// Another way to `leader`, whose link may work in one direction only: by one of the others in
    /// turn, which passes on what it gets.
    pub(super) fn another_way(&self, leader: NodeId, turn: &mut usize) -> Option<NodeId> {
        let peers = self.memberships.peers().iter().copied();
        let others: Vec<_> = peers.filter(|&peer| peer != leader).collect();
        *turn = turn.wrapping_add(1);
        others.get(turn.checked_rem(others.len())?).copied().filter(|_| !planted!(NoIndirectWay))
    }

    /// The instant `delay` from now, and up to half as long again.
    pub(super) fn jittered(&mut self, delay: Duration) -> Instant {
        let half = u64::try_from(delay.as_nanos() / 2).unwrap_or(u64::MAX);
        self.now.after(delay).after(Duration::from_nanos(self.rng.u64(..=half)))
    }
}
