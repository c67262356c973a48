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
use super::{members::AskedChange, transfer::AskedTransfer};
use crate::{
    port::StateMachine,
    types::{Instant, ReadMode, RequestId, Slot},
};

/// No request waits longer, whatever its caller says: one that nobody waits for any more is noticed
/// at its deadline.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Until when a request waits that is made now.
pub(super) fn until(now: Instant, timeout: Duration) -> Instant {
    now.after(timeout.min(TIMEOUT_MAX))
}

/// What a waiting command costs beyond its bytes.
const OVERHEAD_BYTES: usize = 256;

/// How a command is to be proposed, with [`Node::propose_with`](super::Node::propose_with).
#[derive(Clone, Copy, Debug, Default)]
pub struct ProposeOptions {
    /// How long to wait; the builder's `request_timeout` if not said, one hour at most.
    pub timeout: Option<Duration>,
    /// A request id of the embedder's own: see [`Node::propose_as`](super::Node::propose_as).
    pub id: Option<RequestId>,
}

/// What has become of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Applied<R> {
    /// What the state machine has answered.
    pub response: R,
    /// The slot in which it has had its effect: whatever has applied this slot contains it. See
    /// [`ReadMode::AtLeast`].
    pub slot: Slot,
}

/// Where a command's answer goes.
pub(super) type Reply<R> = oneshot::Sender<Result<Applied<R>, ProposeError>>;

/// Whom to give the response of a command.
pub(super) struct Waiter<R> {
    pub(super) reply: Reply<R>,
    /// Whether the command has a name of the embedder's.
    pub(super) is_named: bool,
}

/// A command and who waits for it.
pub(super) struct Submission<R> {
    /// An id of the embedder's; otherwise the replica gives it one.
    pub(super) id: Option<RequestId>,
    pub(super) command: Bytes,
    pub(super) timeout: Duration,
    pub(super) reply: Reply<R>,
}

/// What a command takes of the [`Budget`], until the driver has taken it.
pub(super) fn cost(command: &Bytes) -> usize {
    command.len() + OVERHEAD_BYTES
}

/// A read and who waits for it. Whoever has it may tell them that it does not run, wherever else it waits.
pub(super) trait PendingRead<S>: Send + Sync {
    /// Runs on the state, unless nobody waits any more.
    fn run(&self, state: &S);

    /// Whether anybody still waits.
    fn is_awaited(&self) -> bool;

    /// Tells whoever waits why it does not run, or has not run in time.
    fn refuse(&self, error: ReadError);

    /// The node has ended, and whoever waits is to ask why.
    fn abandon(&self);
}

/// A read that is yet to run.
pub(super) type ReadTask<S> = Arc<dyn PendingRead<S>>;

/// What a handle asks of the driver.
pub(super) enum Request<S: StateMachine> {
    Propose(Submission<S::Response>),
    ProposeBatch(Vec<Submission<S::Response>>),
    Read { task: ReadTask<S>, mode: ReadMode, timeout: Duration },
    ChangeMembers(AskedChange),
    TransferLeadership(AskedTransfer),
    ShutDown,
}

/// How much may be on its way, in bytes or otherwise.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), max })
    }

    /// Takes `amount` if there is room; a lone request always finds room.
    pub(super) fn take(&self, amount: usize) -> bool {
        let room = |used: usize| {
            let after = used.checked_add(amount)?;
            (used == 0 || after <= self.max).then_some(after)
        };
        self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, amount: usize) {
        if amount > 0 {
            let used = self.used.fetch_sub(amount, Ordering::Relaxed);
            debug_assert!(used >= amount, "{amount} given back of {used}");
        }
    }

    /// Takes one place, which is given back when the share is dropped.
    pub(super) fn share(self: &Arc<Self>) -> Option<Share> {
        self.take(1).then(|| Share(Arc::clone(self)))
    }
}

/// A place of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share(Arc<Budget>);

impl Drop for Share {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_taken_until_it_is_used_up_and_again_when_it_is_given_back() {
        let budget = Budget::new(10);
        assert!(budget.take(6) && budget.take(4) && !budget.take(1));
        budget.give_back(4);
        assert!(budget.take(3) && !budget.take(2));
    }

    #[test]
    fn a_share_is_given_back_when_it_is_dropped() {
        let budget = Budget::new(1);
        let share = budget.share();
        assert!(share.is_some() && budget.share().is_none());
        drop(share);
        assert!(budget.share().is_some());
    }

    #[test]
    fn a_lone_request_finds_room_however_large() {
        let budget = Budget::new(10);
        assert!(budget.take(100) && !budget.take(1));
    }
}
