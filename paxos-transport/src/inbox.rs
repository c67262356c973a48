//! What has come in and waits for [`Transport::recv`](paxos_core::port::Transport::recv).
//!
//! Control comes out before log and log before bulk, so that a heartbeat never waits behind a
//! catch-up. Bounded, because every message in it holds a share of a budget.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use paxos_core::{message::Message, port::Event, types::NodeId};
use tokio::{sync::Notify, time::Instant};

use crate::budget::Share;

/// News other than messages that may wait. Beyond it, further refusals are only logged.
const NEWS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queues: Mutex<Queues>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    closed: bool,
    /// Peers met and refused: before any message, so that a peer is known before it speaks.
    news: VecDeque<Event>,
    /// One queue per lane, most urgent first.
    lanes: [VecDeque<Letter>; 3],
    /// Messages still on their way, by the time at which they arrive, then by when they left.
    delayed: BTreeMap<(Instant, u64), Letter>,
    #[cfg(feature = "memory")]
    delayed_count: u64,
}

#[derive(Debug)]
struct Letter {
    from: NodeId,
    message: Message,
    _share: Share,
}

impl Queues {
    /// The next event that has arrived by `now`.
    fn pop(&mut self, now: impl FnOnce() -> Instant) -> Option<Event> {
        if !self.delayed.is_empty() {
            self.arrive(now());
        }
        if let Some(event) = self.news.pop_front() {
            return Some(event);
        }
        let letter = self.lanes.iter_mut().find_map(VecDeque::pop_front)?;
        Some(Event::Message { from: letter.from, message: letter.message })
    }

    /// Moves what is due into its lane.
    fn arrive(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let letter = entry.remove();
            self.lanes[letter.message.lane() as usize].push_back(letter);
        }
    }

    fn is_empty(&self) -> bool {
        self.news.is_empty() && self.lanes.iter().all(VecDeque::is_empty)
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|(&(due, _), _)| due)
    }
}

impl Inbox {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message in.
    pub(crate) fn deliver(&self, from: NodeId, message: Message, share: Share) {
        let lane = message.lane() as usize;
        let mut queues = self.queues();
        if queues.closed {
            return;
        }
        queues.lanes[lane].push_back(Letter { from, message, _share: share });
        drop(queues);
        self.changed.notify_one();
    }

    /// Puts a message in that arrives at `due`.
    #[cfg(feature = "memory")]
    pub(crate) fn deliver_at(&self, due: Instant, from: NodeId, message: Message, share: Share) {
        let mut queues = self.queues();
        if queues.closed {
            return;
        }
        queues.delayed_count += 1;
        let key = (due, queues.delayed_count);
        queues.delayed.insert(key, Letter { from, message, _share: share });
        drop(queues);
        self.changed.notify_one();
    }

    /// Puts in something other than a message.
    pub(crate) fn report(&self, event: Event) {
        let mut queues = self.queues();
        if queues.closed {
            return;
        }
        if queues.news.len() < NEWS_MAX || matches!(event, Event::Met { .. }) {
            queues.news.push_back(event);
        }
        drop(queues);
        self.changed.notify_one();
    }

    /// The next event; `None` once closed. Cancel safe: nothing is taken out before it is returned.
    pub(crate) async fn recv(&self) -> Option<Event> {
        loop {
            let changed = self.changed.notified();
            let next_arrival = {
                let mut queues = self.queues();
                if queues.closed {
                    return None;
                }
                if let Some(event) = queues.pop(Instant::now) {
                    if !queues.is_empty() {
                        // Another receiver may have missed its turn.
                        self.changed.notify_one();
                    }
                    return Some(event);
                }
                queues.next_arrival()
            };
            match next_arrival {
                None => changed.await,
                Some(due) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(due) => {}
                },
            }
        }
    }

    /// Drops what waits and ends every `recv`.
    pub(crate) fn close(&self) {
        *self.queues() = Queues { closed: true, ..Queues::default() };
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}
