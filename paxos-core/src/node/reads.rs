//! Reads of this node that wait, and until when: for a quorum to confirm them, and for the state machine.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{
    error::ReadError,
    request::{ReadTask, until},
};
use crate::{limits::READS_MAX, types::Instant};

/// A read, and until when somebody waits for it.
pub(super) struct Read<S> {
    pub(super) deadline: Instant,
    pub(super) task: ReadTask<S>,
}

impl<S> Read<S> {
    pub(super) fn new(task: ReadTask<S>, now: Instant, timeout: Duration) -> Read<S> {
        Read { deadline: until(now, timeout), task }
    }
}

impl<S> Clone for Read<S> {
    fn clone(&self) -> Self {
        Read { deadline: self.deadline, task: Arc::clone(&self.task) }
    }
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
    pub(super) fn add(&mut self, read: Read<S>) -> u64 {
        self.last += 1;
        self.deadlines.insert((read.deadline, self.last));
        self.waiting.insert(self.last, read);
        self.last
    }

    /// Ends the wait for a read, if there is one.
    pub(super) fn take(&mut self, number: u64) -> Option<Read<S>> {
        let read = self.waiting.remove(&number)?;
        self.deadlines.remove(&(read.deadline, number));
        Some(read)
    }

    /// Whether there is little room for more.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting.len() >= READS_MAX - READS_MAX / 4
    }

    /// Ends the waits of those whose caller has gone; returns their numbers.
    pub(super) fn let_go(&mut self) -> Vec<u64> {
        let gone = |(&number, read): (&u64, &Read<S>)| (!read.task.is_awaited()).then_some(number);
        let mut gone: Vec<_> = self.waiting.iter().filter_map(gone).collect();
        // In an order that is the same every time.
        gone.sort_unstable();
        for &number in &gone {
            self.take(number);
        }
        gone
    }

    /// When the next wait ends for want of a result.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends a wait whose time has come, with that error; returns the read's number.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        error: impl FnOnce() -> ReadError,
    ) -> Option<u64> {
        self.next_deadline().filter(|&deadline| deadline <= now)?;
        let (_, number) = self.deadlines.pop_first()?;
        let read = self.waiting.remove(&number)?;
        read.task.refuse(error());
        Some(number)
    }
}

/// The reads that the state machine has been given and has not come back from. It may stand still, and
/// nobody waits for longer than they want to; if the node ends without it, they are let go.
pub(super) struct AtWork<S>(Vec<Read<S>>);

impl<S> AtWork<S> {
    pub(super) fn new() -> Self {
        AtWork(Vec::new())
    }

    pub(super) fn add(&mut self, reads: &[Read<S>]) {
        self.0.extend_from_slice(reads);
    }

    /// It has come back.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn list(&mut self) -> &mut Vec<Read<S>> {
        &mut self.0
    }
}

impl<S> Drop for AtWork<S> {
    fn drop(&mut self) {
        self.0.iter().for_each(|read| read.task.abandon());
    }
}

/// Tells those whose time is over; returns the earliest deadline of the others.
pub(super) fn expire<S>(reads: &mut Vec<Read<S>>, now: Instant) -> Option<Instant> {
    for late in reads.extract_if(.., |read| read.deadline <= now) {
        late.task.refuse(ReadError::Timeout);
    }
    reads.iter().map(|read| read.deadline).min()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::node::{
        NodeError,
        request::{PendingRead, TIMEOUT_MAX},
    };

    const SECOND: Duration = Duration::from_secs(1);

    /// Says what becomes of it.
    struct Told(mpsc::Sender<Option<ReadError>>);

    impl PendingRead<()> for Told {
        fn run(&self, (): &()) {
            drop(self.0.send(None));
        }

        fn is_awaited(&self) -> bool {
            true
        }

        fn refuse(&self, error: ReadError) {
            drop(self.0.send(Some(error)));
        }

        fn abandon(&self) {
            self.refuse(ReadError::Stopped(NodeError::ShutDown));
        }
    }

    fn read(timeout: Duration) -> (Read<()>, mpsc::Receiver<Option<ReadError>>) {
        let (told, hears) = mpsc::channel();
        (Read::new(Arc::new(Told(told)), Instant::ZERO, timeout), hears)
    }

    fn timeout() -> ReadError {
        ReadError::Timeout
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_no_other_with_it() {
        let mut reads = Reads::new();
        let ((first, early), (second, late)) = (read(SECOND), read(2 * SECOND));
        assert_eq!((reads.add(first), reads.add(second)), (1, 2));
        assert_eq!(reads.expire(Instant::ZERO, timeout), None);
        assert_eq!(reads.next_deadline(), Some(Instant::ZERO.after(SECOND)));
        let now = Instant::ZERO.after(SECOND);
        assert_eq!((reads.expire(now, timeout), reads.expire(now, timeout)), (Some(1), None));
        assert_eq!(early.try_recv(), Ok(Some(ReadError::Timeout)));
        assert!(reads.take(1).is_none());
        reads.take(2).expect("it waits").task.run(&());
        assert_eq!((late.try_recv(), reads.next_deadline()), (Ok(None), None));
    }

    #[test]
    fn no_wait_is_longer_than_the_limit() {
        let mut reads = Reads::new();
        reads.add(read(Duration::MAX).0);
        assert_eq!(reads.next_deadline(), Some(Instant::ZERO.after(TIMEOUT_MAX)));
    }

    #[test]
    fn what_the_state_machine_does_not_come_back_from_is_let_go() {
        let ((first, early), (second, late)) = (read(SECOND), read(2 * SECOND));
        let mut at_work = AtWork::new();
        at_work.add(&[first, second]);
        assert_eq!(expire(at_work.list(), Instant::ZERO), Some(Instant::ZERO.after(SECOND)));
        let now = Instant::ZERO.after(SECOND);
        assert_eq!(expire(at_work.list(), now), Some(Instant::ZERO.after(2 * SECOND)));
        assert_eq!(early.try_recv(), Ok(Some(ReadError::Timeout)));
        drop(at_work);
        assert_eq!(late.try_recv(), Ok(Some(ReadError::Stopped(NodeError::ShutDown))));
    }
}
