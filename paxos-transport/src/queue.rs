//! What waits to be sent to one peer in one lane.
//!
//! Bounded in bytes; what does not fit is dropped, since the replica sends again what still
//! matters. Neither side waits for the other: putting in takes no lock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use paxos_core::message::Lane;
use tokio::sync::mpsc;

use crate::{
    budget::{OVERHEAD_BYTES, fits},
    frame::{Batch, Run},
};

/// The end that messages are put in at.
#[derive(Debug)]
pub(crate) struct Sender {
    waiting: mpsc::UnboundedSender<Run>,
    level: Arc<Level>,
}

/// The end that they come out at.
#[derive(Debug)]
pub(crate) struct Receiver {
    waiting: mpsc::UnboundedReceiver<Run>,
    level: Arc<Level>,
}

/// How full it is.
#[derive(Debug)]
struct Level {
    lane: Lane,
    bytes: AtomicUsize,
    is_overflowing: AtomicBool,
}

/// What a run takes while it waits, in bytes.
fn weight(run: &Run) -> usize {
    OVERHEAD_BYTES + run.len()
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits.
    Waiting,
    /// It was dropped; so was the one before, or not.
    Dropped { first: bool },
}

pub(crate) fn queue(lane: Lane) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let level = Level { lane, bytes: AtomicUsize::new(0), is_overflowing: AtomicBool::new(false) };
    let level = Arc::new(level);
    (Sender { waiting: sender, level: level.clone() }, Receiver { waiting: receiver, level })
}

impl Sender {
    /// Puts a run in, if there is room.
    pub(crate) fn push(&self, run: Run) -> Pushed {
        if !self.level.rise(weight(&run)) {
            let first = !self.level.is_overflowing.swap(true, Ordering::Relaxed);
            return Pushed::Dropped { first };
        }
        // The receiver is gone only when the peer is.
        let _ = self.waiting.send(run);
        Pushed::Waiting
    }
}

impl Level {
    /// Makes room, if there is any.
    fn rise(&self, bytes: usize) -> bool {
        let risen = |waiting: usize| fits(waiting, bytes, self.lane).then(|| waiting + bytes);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, risen).is_ok()
    }

    fn sink(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.is_overflowing.store(false, Ordering::Relaxed);
    }
}

impl Receiver {
    /// Waits for a run and appends as many as there are to `batch`, up to `bytes_max` and one that
    /// may overshoot it. `false` once every sender is gone and nothing is left. Cancel safe.
    pub(crate) async fn next(&mut self, batch: &mut Batch, bytes_max: usize) -> bool {
        let Some(run) = self.waiting.recv().await else { return false };
        let (mut bytes, mut freed) = (run.len(), weight(&run));
        batch.push(run);
        while bytes < bytes_max {
            let Ok(run) = self.waiting.try_recv() else { break };
            bytes += run.len();
            freed += weight(&run);
            batch.push(run);
        }
        self.level.sink(freed);
        true
    }

    /// Drops everything that waits.
    pub(crate) fn discard(&mut self) {
        let mut freed = 0;
        while let Ok(run) = self.waiting.try_recv() {
            freed += weight(&run);
        }
        self.level.sink(freed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::frame::{
        Encoder,
        tests::{accept, poll},
    };

    fn run(bytes: usize) -> Run {
        let mut encoder = Encoder::default();
        encoder.push(accept(bytes)).expect("within the limit");
        encoder.take()
    }

    #[tokio::test]
    async fn a_full_queue_drops_and_says_so_once() {
        let (sender, mut receiver) = queue(Lane::Control);
        let poll = || {
            let mut encoder = Encoder::default();
            encoder.push(poll(1)).expect("within the limit");
            encoder.take()
        };
        let mut count = 0;
        while sender.push(poll()) == Pushed::Waiting {
            count += 1;
        }
        assert!((1000..100_000).contains(&count), "{count} polls in a megabyte");
        assert_eq!(sender.push(poll()), Pushed::Dropped { first: false });
        let mut batch = Batch::default();
        assert!(receiver.next(&mut batch, usize::MAX).await);
        assert_eq!(batch.remaining(), count * poll().len());
        assert_eq!(sender.push(poll()), Pushed::Waiting, "room again");
        receiver.discard();
        assert_eq!(sender.level.bytes.load(Ordering::Relaxed), 0, "everything was given back");
        drop(sender);
        assert!(!receiver.next(&mut batch, usize::MAX).await, "empty and left alone");
    }

    #[tokio::test]
    async fn a_batch_ends_with_the_run_that_fills_it() {
        let (sender, mut receiver) = queue(Lane::Log);
        for _ in 0..5 {
            assert_eq!(sender.push(run(1000)), Pushed::Waiting);
        }
        let mut batch = Batch::default();
        assert!(receiver.next(&mut batch, 2500).await);
        assert_eq!(batch.remaining(), 3 * run(1000).len());
    }
}
