//! What every role needs from its surroundings during a step.

use std::time::Duration;

use super::{membership::Memberships, outbox::Outbox};
use crate::{config::Config, message::Message, types::Instant};

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

    /// The instant `delay` from now, and up to half as long again.
    pub(super) fn jittered(&mut self, delay: Duration) -> Instant {
        self.now.after(delay.mul_f64(1.0 + self.rng.f64() / 2.0))
    }
}
