//! What a handle asks of the driver, and how much of it may wait.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
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

impl<R> Proposal<R> {
    /// What it takes of the [`Budget`].
    pub(super) fn cost(&self) -> usize {
        cost(&self.command)
    }
}

/// What a command takes of the [`Budget`].
pub(super) fn cost(command: &Bytes) -> usize {
    command.len() + OVERHEAD_BYTES
}

/// What a handle asks of the driver.
pub(super) enum Request<S: StateMachine> {
    Propose(Proposal<S::Response>),
    ProposeBatch(Vec<Proposal<S::Response>>),
    Read { task: ReadTask<S>, timeout: Duration },
}

/// The bytes of the commands between the handles and the driver.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Budget {
        Budget { used: AtomicUsize::new(0), max }
    }

    /// Takes `bytes` if there is room; a lone request always finds room.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let room = |used: usize| {
            let after = used.checked_add(bytes)?;
            (used == 0 || after <= self.max).then_some(after)
        };
        self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        assert!(before >= bytes, "gave back {bytes} of {before} bytes taken");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_takes_until_it_is_used_up_and_again_when_some_is_given_back() {
        let budget = Budget::new(10);
        assert!(budget.take(6) && budget.take(4));
        assert!(!budget.take(1));
        budget.give_back(4);
        assert!(budget.take(3));
    }

    #[test]
    fn a_lone_request_finds_room_however_large() {
        let budget = Budget::new(10);
        assert!(budget.take(100));
        assert!(!budget.take(1));
    }
}
