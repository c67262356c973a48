//! Where the handles see how the replica does.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    port::RefusedPeer,
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
    refusals: watch::Sender<Vec<RefusedPeer>>,
    /// What `status` holds.
    shown: Status,
    /// To be compared with it.
    latest: Status,
}

/// What stands between a node and a leader.
pub(super) struct Isolation {
    /// How many peers.
    pub(super) refused: usize,
    /// Which, and why.
    pub(super) reason: String,
}

/// The handles' side.
#[derive(Clone, Debug)]
pub(super) struct View {
    status: Arc<Mutex<Status>>,
    leadership: watch::Receiver<Leadership>,
    refusals: watch::Receiver<Vec<RefusedPeer>>,
    /// The origin of the replica's clock.
    origin: tokio::time::Instant,
}

/// The time of every status on the board: a silence that ends there tells when it began, and does not
/// change with time. Whoever asks is told how long it has lasted.
fn end_of_time() -> Instant {
    Instant::from_origin(Duration::MAX)
}

fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    // A status is plain data: half of a new one is no harm.
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As `clone_from`, into the room that is there.
fn copy(from: &Status, to: &mut Status) {
    let mut peers = mem::take(&mut to.peers);
    peers.clone_from(&from.peers);
    let membership = Arc::clone(&from.membership);
    *to = Status { peers, membership, refusals: Vec::new(), ..*from };
}

impl Board {
    /// `origin` is that of the replica's clock.
    pub(super) fn new<W>(replica: &Replica<W>, origin: tokio::time::Instant) -> (Board, View) {
        let shown = replica.status(end_of_time());
        let (sender, leadership) = watch::channel(Leadership::of(&shown));
        let status = Arc::new(Mutex::new(shown.clone()));
        let (refusals_sender, refusals) = watch::channel(Vec::new());
        let view = View { status: Arc::clone(&status), leadership, refusals, origin };
        let board = Board {
            status,
            leadership: sender,
            refusals: refusals_sender,
            latest: shown.clone(),
            shown,
        };
        (board, view)
    }

    /// Tells of a change in who is refused.
    pub(super) fn refused(&mut self, standing: Vec<RefusedPeer>) {
        self.refusals.send_if_modified(|shown| {
            let has_changed = *shown != standing;
            *shown = standing;
            has_changed
        });
    }

    /// Why no leader may be known: the peers that refuse this node or that it refuses, in words. None if there
    /// is a leader.
    pub(super) fn isolation(&self) -> Option<Isolation> {
        if self.shown.leader.is_some() {
            return None;
        }
        let refusals = self.refusals.borrow();
        if refusals.is_empty() {
            return None;
        }
        let each = refusals.iter().map(|RefusedPeer { peer, name, reason }| {
            let called = name.clone().unwrap_or_else(|| peer.to_string());
            format!("node {called}: {reason}")
        });
        Some(Isolation { refused: refusals.len(), reason: each.collect::<Vec<_>>().join("; ") })
    }

    /// Shows a new membership, before anybody is answered who may ask for it then.
    pub(super) fn publish_membership<W>(&mut self, replica: &Replica<W>) {
        if !Arc::ptr_eq(replica.membership(), &self.shown.membership) {
            self.publish(replica);
        }
    }

    /// Shows what has changed in a turn, and tells of a change of leadership.
    pub(super) fn publish<W>(&mut self, replica: &Replica<W>) {
        replica.update_status(&mut self.latest, end_of_time());
        if self.latest == self.shown {
            return;
        }
        copy(&self.latest, &mut lock(&self.status));
        mem::swap(&mut self.latest, &mut self.shown);
        let (before, leadership) = (Leadership::of(&self.latest), Leadership::of(&self.shown));
        if before == leadership {
            return;
        }
        self.leadership.send_replace(leadership);
        if before.leader != leadership.leader {
            let leader = leadership.leader.map(|id| id.0);
            tracing::info!(leader, ballot = %leadership.ballot, "leadership has changed");
        }
    }
}

impl View {
    pub(super) fn status(&self) -> Status {
        let mut status = lock(&self.status).clone();
        let ahead = end_of_time().since(Instant::from_origin(self.origin.elapsed()));
        for peer in &mut status.peers {
            peer.silent_for = peer.silent_for.saturating_sub(ahead);
        }
        status.refusals.clone_from(&self.refusals.borrow());
        status
    }

    /// As in [`status`](View::status), of which no copy is made.
    pub(super) fn is_disk_full(&self) -> bool {
        lock(&self.status).is_disk_full
    }

    pub(super) fn refusals(&self) -> watch::Receiver<Vec<RefusedPeer>> {
        self.refusals.clone()
    }

    pub(super) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }
}
