//! Where the handles see how the replica does.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    replica::{Replica, Status},
    types::{Ballot, Instant, NodeId},
};

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The leader it knows to be alive, itself included.
    pub leader: Option<NodeId>,
    /// The leader's ballot, or else the highest promised.
    pub ballot: Ballot,
}

impl Leadership {
    pub(super) fn of(status: &Status) -> Leadership {
        Leadership { leader: status.leader, ballot: status.ballot }
    }
}

/// The driver's side.
pub(super) struct Board {
    status: Arc<Mutex<Status>>,
    leadership: watch::Sender<Leadership>,
    /// What `leadership` holds.
    told: Leadership,
}

/// The handles' side.
#[derive(Clone, Debug)]
pub(super) struct View {
    status: Arc<Mutex<Status>>,
    leadership: watch::Receiver<Leadership>,
}

fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    // A status is plain data: half of a new one is no harm.
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(super) fn new(status: Status) -> (Board, View) {
        let told = Leadership::of(&status);
        let (sender, leadership) = watch::channel(told);
        let status = Arc::new(Mutex::new(status));
        let view = View { status: Arc::clone(&status), leadership };
        (Board { status, leadership: sender, told }, view)
    }

    /// Shows the state after a turn, and tells of a change of leadership.
    pub(super) fn publish<W>(&mut self, replica: &Replica<W>, now: Instant) {
        let leadership = {
            let mut status = lock(&self.status);
            replica.update_status(&mut status, now);
            Leadership::of(&status)
        };
        if leadership == self.told {
            return;
        }
        let before = mem::replace(&mut self.told, leadership);
        self.leadership.send_replace(leadership);
        if before.leader != leadership.leader {
            let leader = leadership.leader.map(|id| id.0);
            tracing::info!(leader, ballot = %leadership.ballot, "leadership has changed");
        }
    }
}

impl View {
    pub(super) fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    pub(super) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }
}
