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
    /// Sends `message` to every other voter.
    pub(super) fn broadcast(&mut self, message: &Message) {
        for peer in self.memberships.current().peers_of(self.config.id) {
            self.out.send(peer, message.clone());
        }
    }

    /// Another way to `leader`, which may be heard and not hear: one of the others in turn, which
    /// passes on what it gets.
    pub(super) fn detour(&self, leader: NodeId, turn: &mut usize) -> Option<NodeId> {
        let peers = self.memberships.current().peers_of(self.config.id);
        let others: Vec<_> = peers.filter(|&peer| peer != leader).collect();
        *turn = turn.wrapping_add(1);
        others.get(turn.checked_rem(others.len())?).copied().filter(|_| !planted!(NoDetour))
    }

    /// The instant `delay` from now, and up to half as long again.
    pub(super) fn jittered(&mut self, delay: Duration) -> Instant {
        let nanos = delay.as_nanos() as f64 * (1.0 + self.rng.f64() / 2.0);
        self.now.after(Duration::from_nanos(nanos as u64))
    }
}
