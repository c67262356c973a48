//! Room for large messages that are still being read.
//!
//! They are given memory only when there is room for them, so that however many streams a peer begins, on
//! however many connections, what it makes this node hold is bounded. Whoever finds no room stands in
//! line, so that a large message is not passed over by small ones for ever.

use std::{collections::VecDeque, sync::Arc};

use paxos_core::{
    message::{Lane, Message},
    types::NodeId,
};

use super::{Inbox, Letter, Queues, wake};
use crate::budget::weight;

/// Room in a lane of a sender, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    inbox: Arc<Inbox>,
    from: NodeId,
    lane: Lane,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut queues = self.inbox.queues();
            queues.give_back(self.from, self.lane, self.bytes);
            // It may be the last that a peer has said.
            let is_waited_for = queues.lost.contains(&self.from);
            if is_waited_for {
                wake(queues)
            } else {
                drop(queues)
            }
            self.inbox.room.notify_waiters();
        }
    }
}

/// A place in the line of those who wait for room.
struct Turn<'a> {
    inbox: &'a Inbox,
    from: NodeId,
    lane: Lane,
    number: u64,
}

impl Turn<'_> {
    fn line<'a>(&self, queues: &'a mut Queues) -> &'a mut VecDeque<u64> {
        &mut queues.level(self.from, self.lane).line
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queues = self.inbox.queues();
        let line = self.line(&mut queues);
        line.retain(|number| *number != self.number);
        drop(queues);
        // The next is the first now.
        self.inbox.room.notify_waiters();
    }
}

impl Inbox {
    /// Waits for room for a message of `bytes` that is going to be read. Cancel safe.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        from: NodeId,
        lane: Lane,
        bytes: usize,
    ) -> Reservation {
        let turn = self.stand_in_line(from, lane);
        loop {
            // Before looking, so that no room is missed.
            let room = self.room.notified();
            if let Some(bytes) = self.take_room(&turn, bytes) {
                return Reservation { inbox: self.clone(), from, lane, bytes };
            }
            room.await;
        }
    }

    fn stand_in_line(&self, from: NodeId, lane: Lane) -> Turn<'_> {
        let mut queues = self.queues();
        queues.turns += 1;
        let turn = Turn { inbox: self, from, lane, number: queues.turns };
        turn.line(&mut queues).push_back(turn.number);
        turn
    }

    /// How much room was taken: none is needed once all is over.
    fn take_room(&self, turn: &Turn<'_>, bytes: usize) -> Option<usize> {
        let mut queues = self.queues();
        if queues.closed {
            return Some(0);
        }
        let is_first = turn.line(&mut queues).front() == Some(&turn.number);
        let is_taken = is_first && queues.level(turn.from, turn.lane).take(bytes, turn.lane);
        queues.is_cramped |= !is_taken;
        is_taken.then_some(bytes)
    }

    /// Puts the first of `messages` in, for which there is room already. One of another lane has no claim to
    /// it, and waits for its own with the reservation, which is given back.
    pub(super) fn redeem(
        &self,
        mut reservation: Reservation,
        messages: &mut VecDeque<Message>,
    ) -> Option<Reservation> {
        let is_claim = |message: &Message| message.lane() == reservation.lane;
        if !messages.front().is_some_and(is_claim) {
            return Some(reservation);
        }
        let message = messages.pop_front()?;
        let Reservation { from, lane, .. } = reservation;
        let mut queues = self.queues();
        if queues.closed {
            return None;
        }
        queues.give_back(from, lane, std::mem::take(&mut reservation.bytes));
        let bytes = weight(&message);
        queues.level(from, lane).add(bytes);
        queues.put(Letter { from, message, bytes });
        wake(queues);
        None
    }
}
