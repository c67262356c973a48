//! Linearizable reads of this node that wait to be served, and until when.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{
    error::ReadError,
    request::{ReadTask, TIMEOUT_MAX},
};
use crate::types::Instant;

struct Read<S> {
    deadline: Instant,
    task: ReadTask<S>,
}

/// The reads that wait. Every one has a deadline, so that one whose caller has gone is let go in
/// bounded time.
pub(super) struct Reads<S> {
    /// By the number under which the replica knows them.
    waiting: HashMap<u64, Read<S>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// The number given last.
    last: u64,
}

impl<S> Reads<S> {
    pub(super) fn new() -> Self {
        Reads { waiting: HashMap::new(), deadlines: BTreeSet::new(), last: 0 }
    }

    /// A new read waits; returns its number.
    pub(super) fn add(&mut self, task: ReadTask<S>, now: Instant, timeout: Duration) -> u64 {
        let deadline = now.after(timeout.min(TIMEOUT_MAX));
        self.last += 1;
        self.deadlines.insert((deadline, self.last));
        self.waiting.insert(self.last, Read { deadline, task });
        self.last
    }

    /// Ends the wait for a read, if there is one.
    pub(super) fn take(&mut self, number: u64) -> Option<ReadTask<S>> {
        let Read { deadline, task } = self.waiting.remove(&number)?;
        self.deadlines.remove(&(deadline, number));
        Some(task)
    }

    /// When the next wait ends for want of a result.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends a wait whose time has come; returns the read's number.
    pub(super) fn expire(&mut self, now: Instant) -> Option<u64> {
        self.next_deadline().filter(|&deadline| deadline <= now)?;
        let (_, number) = self.deadlines.pop_first()?;
        let read = self.waiting.remove(&number)?;
        (read.task)(Err(ReadError::Timeout));
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn read() -> (ReadTask<()>, oneshot::Receiver<Result<(), ReadError>>) {
        let (sender, receiver) = oneshot::channel();
        (Box::new(|state| drop(sender.send(state.map(|&()| ())))), receiver)
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_no_other_with_it() {
        let mut reads = Reads::new();
        let ((first, mut early), (second, mut late)) = (read(), read());
        assert_eq!(reads.add(first, Instant::ZERO, SECOND), 1);
        assert_eq!(reads.add(second, Instant::ZERO, 2 * SECOND), 2);
        assert_eq!(reads.expire(Instant::ZERO), None);
        assert_eq!(reads.next_deadline(), Some(Instant::ZERO.after(SECOND)));
        let now = Instant::ZERO.after(SECOND);
        assert_eq!((reads.expire(now), reads.expire(now)), (Some(1), None));
        assert_eq!(early.try_recv(), Ok(Err(ReadError::Timeout)));
        assert!(reads.take(1).is_none());
        let task = reads.take(2).expect("it waits");
        task(Ok(&()));
        assert_eq!((late.try_recv(), reads.next_deadline()), (Ok(Ok(())), None));
    }

    #[test]
    fn no_wait_is_longer_than_the_limit() {
        let mut reads = Reads::new();
        reads.add(read().0, Instant::ZERO, Duration::MAX);
        assert_eq!(reads.next_deadline(), Some(Instant::ZERO.after(TIMEOUT_MAX)));
    }
}
