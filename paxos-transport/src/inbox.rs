//! What has come in and waits for [`Transport::poll_recv`](paxos_core::port::Transport::poll_recv).
//!
//! Control comes out before log and log before bulk, so that a heartbeat never waits behind a
//! catch-up. Bounded: what waits is counted by sender and lane, across all connections of a sender,
//! under the lock that is taken anyhow. Each side takes it once for all the messages it has, and
//! whoever waits is woken once.

#[cfg(any(feature = "tcp", feature = "quic"))]
mod room;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use paxos_core::{
    message::{Lane, Message},
    port::Event,
    types::NodeId,
};
#[cfg(any(feature = "tcp", feature = "quic"))]
use tokio::sync::Notify;
#[cfg(feature = "memory")]
use tokio::time::Instant;

#[cfg(any(feature = "tcp", feature = "quic"))]
pub(crate) use self::room::Reservation;
use crate::{
    budget::{fits, weight},
    delayed::Delayed,
};

/// News other than messages that may wait. Beyond it, those of refusals are dropped: whoever takes
/// the news in finds what stands then in [`Transport::refusals`](paxos_core::port::Transport::refusals).
const NEWS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queues: Mutex<Queues>,
    /// Rung when there is room again, for those who have found none.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    room: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    closed: bool,
    /// Peers met and refused: before any message, so that a peer is known before it speaks.
    news: VecDeque<Event>,
    /// One queue per lane, most urgent first.
    lanes: [VecDeque<Letter>; 3],
    /// How full each lane is, by sender.
    waiting: BTreeMap<NodeId, [Level; 3]>,
    /// Peers that are gone: reported behind all that has come from them.
    lost: BTreeSet<NodeId>,
    /// Messages still on their way.
    delayed: Delayed<Letter>,
    /// Whoever waits for something to come in.
    receiver: Option<Waker>,
    /// Somebody waits for room.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    is_cramped: bool,
    /// How often somebody has stood in line for it.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    turns: u64,
}

#[derive(Debug, Default)]
struct Level {
    /// Bytes in the lane, or on their way into it.
    bytes: usize,
    /// Those who wait for room for a large message, first come, first served.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    line: VecDeque<u64>,
}

impl Level {
    /// Makes room for `bytes`, if there is any.
    fn take(&mut self, bytes: usize, lane: Lane) -> bool {
        let is_room = fits(self.bytes, bytes, lane);
        if is_room {
            self.add(bytes);
        }
        is_room
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

#[derive(Debug)]
struct Letter {
    from: NodeId,
    message: Message,
    bytes: usize,
}

impl Queues {
    fn level(&mut self, from: NodeId, lane: Lane) -> &mut Level {
        &mut self.waiting.entry(from).or_default()[lane as usize]
    }

    /// The message as a letter, its bytes counted, or itself if there is no room for it.
    fn admit(&mut self, from: NodeId, message: Message) -> Result<Letter, Message> {
        let (lane, bytes) = (message.lane(), weight(&message));
        let level = self.level(from, lane);
        #[cfg(any(feature = "tcp", feature = "quic"))]
        if !level.line.is_empty() {
            return Err(message);
        }
        if !level.take(bytes, lane) {
            return Err(message);
        }
        Ok(Letter { from, message, bytes })
    }

    fn put(&mut self, letter: Letter) {
        self.lanes[letter.message.lane() as usize].push_back(letter);
    }

    /// Moves what has arrived to the end of `events`, at most `limit`, and says how many.
    fn take(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        while let Some(letter) = self.delayed.pop() {
            self.put(letter);
        }
        let mut count = self.take_news(events, limit);
        if self.lanes.iter().any(|lane| !lane.is_empty()) {
            count += self.take_letters(events, limit - count);
        }
        if !self.lost.is_empty() {
            count += self.take_losses(events, limit - count);
        }
        count
    }

    fn take_losses(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        let Queues { lost, waiting, .. } = self;
        let has_said_all = |peer: &NodeId| {
            let levels = waiting.get(peer);
            levels.is_none_or(|levels| levels.iter().all(|level| level.bytes == 0))
        };
        let reported = lost.extract_if(.., has_said_all).take(limit);
        let before = events.len();
        events.extend(reported.map(|peer| Event::Lost { peer }));
        events.len() - before
    }

    fn take_news(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        let count = limit.min(self.news.len());
        if count > 0 {
            events.extend(self.news.drain(..count));
        }
        count
    }

    #[cfg(any(feature = "tcp", feature = "quic"))]
    fn give_back(&mut self, from: NodeId, lane: Lane, bytes: usize) {
        // Nothing is counted any longer once all is over.
        if !self.closed {
            self.level(from, lane).bytes -= bytes;
        }
    }

    fn take_letters(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        let Queues { lanes, waiting, .. } = self;
        let mut left = limit;
        for (lane, letters) in lanes.iter_mut().enumerate() {
            let count = left.min(letters.len());
            if count == 0 {
                continue;
            }
            left -= count;
            // Of one sender's messages in a row, all bytes are given back together.
            let (mut sender, mut freed) = (NodeId::default(), 0);
            let mut give_back = |sender, freed| {
                if let Some(levels) = waiting.get_mut(&sender) {
                    levels[lane].bytes -= freed;
                }
            };
            for Letter { from, message, bytes } in letters.drain(..count) {
                if from != sender {
                    give_back(sender, std::mem::take(&mut freed));
                    sender = from;
                }
                freed += bytes;
                events.push(Event::Message { from, message });
            }
            give_back(sender, freed);
        }
        limit - left
    }
}

impl Inbox {
    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what there is room for, and drops the rest.
    #[cfg(feature = "memory")]
    pub(crate) fn offer(&self, from: NodeId, messages: impl Iterator<Item = Message>) {
        let mut queues = self.queues();
        if queues.closed {
            return;
        }
        for message in messages {
            if let Ok(letter) = queues.admit(from, message) {
                queues.put(letter);
            }
        }
        wake(queues);
    }

    /// Puts a message in that arrives at `due`, or drops it if there is no room.
    #[cfg(feature = "memory")]
    pub(crate) fn offer_at(&self, due: Instant, from: NodeId, message: Message) {
        let mut queues = self.queues();
        if queues.closed {
            return;
        }
        if let Ok(letter) = queues.admit(from, message) {
            queues.delayed.push(due, letter);
            wake(queues);
        }
    }

    /// Puts all of `messages` in, in order, as soon as there is room for each; for the first there may
    /// be some already.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    pub(crate) async fn deliver(
        &self,
        from: NodeId,
        messages: &mut VecDeque<Message>,
        reservation: Option<Reservation>,
    ) {
        let _held = reservation.and_then(|reservation| self.redeem(reservation, messages));
        while !messages.is_empty() {
            // Before looking, so that no room is missed.
            let room = self.room.notified();
            self.deliver_what_fits(from, messages);
            if !messages.is_empty() {
                room.await;
            }
        }
    }

    #[cfg(any(feature = "tcp", feature = "quic"))]
    fn deliver_what_fits(&self, from: NodeId, messages: &mut VecDeque<Message>) {
        let mut queues = self.queues();
        if queues.closed {
            messages.clear();
        }
        while let Some(message) = messages.pop_front() {
            match queues.admit(from, message) {
                Ok(letter) => queues.put(letter),
                Err(message) => {
                    messages.push_front(message);
                    queues.is_cramped = true;
                    break;
                }
            }
        }
        wake(queues);
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
        wake(queues);
    }

    /// Reports that a peer is gone.
    pub(crate) fn lose(&self, peer: NodeId) {
        let mut queues = self.queues();
        if !queues.closed {
            queues.lost.insert(peer);
            wake(queues);
        }
    }

    /// What [`Transport::poll_recv`](paxos_core::port::Transport::poll_recv) does.
    pub(crate) fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        events: &mut Vec<Event>,
        limit: usize,
    ) -> Poll<usize> {
        assert!(limit > 0, "whoever receives takes one event at least");
        let mut queues = self.queues();
        if queues.closed {
            return Poll::Ready(0);
        }
        let mut count = queues.take(events, limit);
        while count == 0 && queues.delayed.poll_due(cx).is_ready() {
            count = queues.take(events, limit);
        }
        if count == 0 {
            match &mut queues.receiver {
                Some(receiver) => receiver.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        #[cfg(any(feature = "tcp", feature = "quic"))]
        if std::mem::take(&mut queues.is_cramped) {
            drop(queues);
            self.room.notify_waiters();
        }
        Poll::Ready(count)
    }

    /// Whether it has been closed.
    #[cfg(feature = "memory")]
    pub(crate) fn is_closed(&self) -> bool {
        self.queues().closed
    }

    /// Drops what waits and ends every `recv`.
    pub(crate) fn close(&self) {
        let mut queues = self.queues();
        let receiver = queues.receiver.take();
        *queues = Queues { closed: true, receiver, ..Queues::default() };
        wake(queues);
        #[cfg(any(feature = "tcp", feature = "quic"))]
        self.room.notify_waiters();
    }
}

/// Wakes whoever waits for something to come in, once the lock is released.
fn wake(mut queues: MutexGuard<'_, Queues>) {
    let receiver = queues.receiver.take();
    drop(queues);
    if let Some(receiver) = receiver {
        receiver.wake();
    }
}

#[cfg(test)]
mod tests;
