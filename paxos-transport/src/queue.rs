//! What waits to be sent to one peer in one lane.
//!
//! Bounded in bytes; what does not fit is dropped, since the replica sends again what still
//! matters. Neither side waits for the other: putting in takes no lock.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use paxos_core::message::{Lane, Message};
use tokio::sync::mpsc;

use crate::budget::{Budget, Share, bytes_max, weight};

type Waiting = (Message, usize, Share);

/// The end that messages are put in at.
#[derive(Debug)]
pub(crate) struct Sender {
    waiting: mpsc::UnboundedSender<Waiting>,
    budget: Budget,
    overflowing: Arc<AtomicBool>,
}

/// The end that they come out at.
#[derive(Debug)]
pub(crate) struct Receiver {
    waiting: mpsc::UnboundedReceiver<Waiting>,
    overflowing: Arc<AtomicBool>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits.
    Waiting,
    /// It was dropped; so was the one before, or not.
    Dropped { first: bool },
}

pub(crate) fn queue(lane: Lane) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let overflowing = Arc::new(AtomicBool::new(false));
    let budget = Budget::new(bytes_max(lane));
    (
        Sender { waiting: sender, budget, overflowing: overflowing.clone() },
        Receiver { waiting: receiver, overflowing },
    )
}

impl Sender {
    /// Puts a message in, if there is room.
    pub(crate) fn push(&self, message: Message) -> Pushed {
        let bytes = weight(&message);
        match self.budget.try_take(bytes) {
            Some(share) => {
                // The receiver is gone only when the peer is.
                let _ = self.waiting.send((message, bytes, share));
                Pushed::Waiting
            }
            None => Pushed::Dropped { first: !self.overflowing.swap(true, Ordering::Relaxed) },
        }
    }
}

impl Receiver {
    /// Waits for a message and takes as many as there are, up to `bytes_max` and one that may
    /// overshoot it. `false` once every sender is gone and nothing is left. Cancel safe.
    pub(crate) async fn next(&mut self, messages: &mut Vec<Message>, bytes_max: usize) -> bool {
        let Some((message, mut total, _share)) = self.waiting.recv().await else { return false };
        messages.push(message);
        while total < bytes_max {
            let Ok((message, bytes, _share)) = self.waiting.try_recv() else { break };
            messages.push(message);
            total += bytes;
        }
        self.overflowing.store(false, Ordering::Relaxed);
        true
    }

    /// Drops everything that waits.
    pub(crate) fn discard(&mut self) {
        while self.waiting.try_recv().is_ok() {}
        self.overflowing.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{
        message::{Poll, Propose},
        types::{ClientId, Slot},
    };

    use super::*;

    #[tokio::test]
    async fn a_full_queue_drops_and_says_so_once() {
        let (sender, mut receiver) = queue(Lane::Control);
        let poll = |number| Message::Poll(Poll { number, chosen: Slot::ZERO });
        let mut count = 0;
        while sender.push(poll(count as u64)) == Pushed::Waiting {
            count += 1;
        }
        assert!((1000..100_000).contains(&count), "{count} polls in a megabyte");
        assert_eq!(sender.push(poll(0)), Pushed::Dropped { first: false });
        let mut messages = Vec::new();
        assert!(receiver.next(&mut messages, usize::MAX).await);
        assert_eq!(messages.len(), count);
        assert_eq!(sender.push(poll(0)), Pushed::Waiting, "room again");
        receiver.discard();
        drop(sender);
        assert!(!receiver.next(&mut messages, usize::MAX).await, "empty and left alone");
    }

    #[tokio::test]
    async fn a_batch_ends_with_the_message_that_fills_it() {
        let (sender, mut receiver) = queue(Lane::Log);
        let client = ClientId { name: 1, epoch: 1 };
        let command = bytes::Bytes::from_static(&[7; 1000]);
        for sequence in 1..=5 {
            let commands = vec![(sequence, command.clone())];
            sender.push(Message::Propose(Propose { client, open_from: 1, commands, hops: 0 }));
        }
        let mut messages = Vec::new();
        assert!(receiver.next(&mut messages, 2500).await);
        assert_eq!(messages.len(), 3);
    }
}
