//! What a handle asks of the driver, and how much of it may wait.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::error::{ProposeError, ReadError};
use crate::{port::StateMachine, types::RequestId};

/// Whom to give the response of a command.
pub(super) type Reply<R> = oneshot::Sender<Result<R, ProposeError>>;

/// A read: runs on the state machine, or learns why it cannot.
pub(super) type ReadTask<S> = Box<dyn FnOnce(Result<&S, ReadError>) + Send>;

/// No request waits longer, whatever its caller says: one that nobody waits for any more is noticed
/// at its deadline.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// What a waiting command costs beyond its bytes.
const OVERHEAD_BYTES: usize = 256;

/// A command and who waits for it.
pub(super) struct Proposal<R> {
    /// An id of the embedder's; otherwise the driver gives it one.
    pub(super) id: Option<RequestId>,
    pub(super) command: Bytes,
    pub(super) timeout: Duration,
    pub(super) reply: Reply<R>,
}

/// What a command takes of the [`Budget`].
pub(super) fn cost(command: &Bytes) -> usize {
    command.len() + OVERHEAD_BYTES
}

/// What a handle asks of the driver. The share is given back when the driver has taken it.
pub(super) enum Request<S: StateMachine> {
    Propose(Proposal<S::Response>, Share),
    ProposeBatch(Vec<Proposal<S::Response>>, Share),
    Read { task: ReadTask<S>, timeout: Duration },
}

/// How much may be on its way, in bytes or otherwise.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    amount: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), max })
    }

    /// Takes `amount` if there is room; a lone request always finds room.
    pub(super) fn take(self: &Arc<Self>, amount: usize) -> Option<Share> {
        let room = |used: usize| {
            let after = used.checked_add(amount)?;
            (used == 0 || after <= self.max).then_some(after)
        };
        self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        Some(Share { budget: Arc::clone(self), amount })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_taken_until_it_is_used_up_and_again_when_a_share_is_dropped() {
        let budget = Budget::new(10);
        let (six, four) = (budget.take(6), budget.take(4));
        assert!(six.is_some() && four.is_some());
        assert!(budget.take(1).is_none());
        drop(four);
        let three = budget.take(3);
        assert!(three.is_some() && budget.take(2).is_none());
    }

    #[test]
    fn a_lone_request_finds_room_however_large() {
        let budget = Budget::new(10);
        let lone = budget.take(100);
        assert!(lone.is_some() && budget.take(1).is_none());
    }
}
