//! The protocol without I/O: inputs in, effects out.

mod effect;
mod status;

pub use effect::{Delivery, Effects, Halt, Input, LogRead, LogReadId, Refusal, Verdict, WriteId};
pub use status::{PeerStatus, Role, Status};

use crate::{
    config::{Config, ConfigError},
    port::Recovered,
    types::Instant,
};

/// One replica.
#[derive(Debug)]
pub struct Replica {
    config: Config,
}

impl Replica {
    /// A replica that goes on from what its storage recovered.
    ///
    /// # Errors
    ///
    /// If the settings contradict each other.
    pub fn new(config: Config, recovered: Recovered, now: Instant) -> Result<Replica, ConfigError> {
        config.check()?;
        let _ = (recovered, now);
        Ok(Replica { config })
    }

    /// Takes in one input.
    pub fn step(&mut self, now: Instant, input: Input) -> Effects {
        self.step_all(now, [input])
    }

    /// Takes in what has gathered, then cuts batches: the more inputs at once, the larger.
    pub fn step_all(&mut self, now: Instant, inputs: impl IntoIterator<Item = Input>) -> Effects {
        let _ = (now, inputs.into_iter().count());
        Effects::default()
    }

    /// When the replica wants its next [`Input::Tick`], if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// A snapshot of its state at `now`.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let _ = now;
        Status {
            id: self.config.id,
            role: Role::Follower,
            leader: None,
            ballot: crate::types::Ballot::ZERO,
            chosen: crate::types::Slot::ZERO,
            applied: crate::types::Slot::ZERO,
            highest_accepted: crate::types::Slot::ZERO,
            outstanding: 0,
            queued: 0,
            peers: Vec::new(),
        }
    }
}
