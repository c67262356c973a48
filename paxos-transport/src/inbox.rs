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

    /// Whether it has been closed.
    #[cfg(feature = "memory")]
    pub(crate) fn is_closed(&self) -> bool {
        self.queues().closed
    }

    /// Drops what waits and ends every `recv`.
    pub(crate) fn close(&self) {
        *self.queues() = Queues { closed: true, ..Queues::default() };
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use paxos_core::{
        message::{Learn, Poll, Propose},
        types::{ClientId, Slot, StoreId},
    };

    use super::*;
    use crate::budget::Budget;

    fn poll(number: u64) -> Message {
        Message::Poll(Poll { number, chosen: Slot::ZERO })
    }

    #[tokio::test]
    async fn news_come_first_and_lanes_by_urgency() {
        let (inbox, budget, from) = (Inbox::default(), Budget::new(1000), NodeId(2));
        let bulk = Message::Learn(Learn { number: 1, from: Slot(1), to: Slot(1) });
        let client = ClientId::default();
        let log = Message::Propose(Propose { client, open_from: 1, commands: Vec::new(), hops: 0 });
        for message in [bulk.clone(), log.clone(), poll(1), poll(2)] {
            inbox.deliver(from, message, budget.try_take(1).expect("room"));
        }
        let met = Event::Met { peer: from, store: StoreId(1) };
        inbox.report(met.clone());
        assert_eq!(inbox.recv().await, Some(met));
        for message in [poll(1), poll(2), log, bulk] {
            assert_eq!(inbox.recv().await, Some(Event::Message { from, message }));
        }
        budget.try_take(1000).expect("every share was given back");
    }

    #[tokio::test]
    async fn two_receivers_share_what_comes() {
        let (inbox, budget) = (Inbox::default(), Budget::new(1000));
        let receive = async || {
            let mut count = 0;
            while inbox.recv().await.is_some() {
                count += 1;
            }
            count
        };
        let send = async {
            for number in 0..100 {
                let share = budget.try_take(1).expect("room for all of them");
                inbox.deliver(NodeId(2), poll(number), share);
            }
            while budget.try_take(1000).is_none() {
                tokio::task::yield_now().await;
            }
            inbox.close();
            inbox.deliver(NodeId(2), poll(0), budget.try_take(1).expect("room"));
        };
        let (one, two, ()) = tokio::join!(receive(), receive(), send);
        assert_eq!(one + two, 100);
        budget.try_take(1000).expect("nothing is kept after close");
    }

    #[tokio::test]
    async fn refusals_are_bounded_and_meetings_are_kept() {
        let inbox = Inbox::default();
        for _ in 0..NEWS_MAX * 2 {
            inbox.report(Event::Refused { peer: None, reason: String::new() });
        }
        inbox.report(Event::Met { peer: NodeId(2), store: StoreId(1) });
        assert_eq!(inbox.queues().news.len(), NEWS_MAX + 1);
    }
}
