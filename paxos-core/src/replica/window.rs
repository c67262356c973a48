//! The commands of one client that have no answer yet, side by side in the order of their sequence
//! numbers, and which of them have gone to the leader.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, ops::Range, time::Duration};

use bytes::Bytes;

use crate::{
    planted::planted,
    types::{ClientId, Instant},
};

/// A command without an answer.
#[derive(Clone, Debug)]
pub(super) struct OpenCommand<W> {
    /// Empty once it is delivered: it will not be sent again.
    pub(super) command: Bytes,
    pub(super) waiter: W,
    pub(super) deadline: Instant,
    /// Whether it is in a slot that was given to the state machine.
    pub(super) is_delivered: bool,
}

/// The open commands of one client.
#[derive(Clone, Debug)]
pub(super) struct Window<W> {
    client: ClientId,
    /// The sequence number of the first entry.
    first: u64,
    /// `None` where a command has been answered, or was never proposed here.
    entries: VecDeque<Option<OpenCommand<W>>>,
    /// Everything from here on has not gone to the present target.
    unsent_from: u64,
    /// When the others went there, oldest first.
    sent: VecDeque<(Instant, Range<u64>)>,
}

impl<W> Window<W> {
    /// No command yet; the next one has number `first`.
    pub(super) fn new(client: ClientId, first: u64) -> Window<W> {
        Window {
            client,
            first,
            entries: VecDeque::new(),
            unsent_from: first,
            sent: VecDeque::new(),
        }
    }

    pub(super) fn client(&self) -> ClientId {
        self.client
    }

    /// No command below this number is open.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number behind the last one taken.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Places between the first open command and the last.
    pub(super) fn spread(&self) -> usize {
        self.entries.len()
    }

    /// The spread with a command of this number.
    pub(super) fn spread_with(&self, sequence: u64) -> u64 {
        if self.entries.is_empty() {
            return 1;
        }
        self.end().max(sequence + 1) - self.first.min(sequence)
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.index(sequence).is_some_and(|index| self.entries[index].is_some())
    }

    fn index(&self, sequence: u64) -> Option<usize> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        (index < self.entries.len()).then_some(index)
    }

    /// Takes a command in whose number is free; the caller has bounded the spread.
    pub(super) fn insert(&mut self, sequence: u64, entry: OpenCommand<W>) {
        if self.entries.is_empty() {
            assert!(self.sent.is_empty(), "what is answered does not go again");
            (self.first, self.unsent_from) = (sequence, sequence);
        }
        while sequence < self.first {
            self.entries.push_front(None);
            self.first -= 1;
        }
        while self.end() <= sequence {
            self.entries.push_back(None);
        }
        let index = self.index(sequence).expect("there is a place now");
        let before = self.entries[index].replace(entry);
        assert!(before.is_none(), "{}#{sequence} is open already", self.client);
        // One that comes below what has gone already takes that along once more.
        self.unsent_from = self.unsent_from.min(sequence);
    }

    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut OpenCommand<W>> {
        let index = self.index(sequence)?;
        self.entries[index].as_mut()
    }

    /// Takes a command out that meets the condition. [`trim`](Window::trim) has to follow.
    pub(super) fn take_if(
        &mut self,
        sequence: u64,
        condition: impl FnOnce(&mut OpenCommand<W>) -> bool,
    ) -> Option<OpenCommand<W>> {
        let index = self.index(sequence)?;
        self.entries[index].take_if(condition)
    }

    /// Forgets the places of answered commands below the first open one.
    pub(super) fn trim(&mut self) {
        while self.entries.pop_front_if(|entry| entry.is_none()).is_some() {
            self.first += 1;
        }
        self.unsent_from = self.unsent_from.max(self.first);
        while self.sent.pop_front_if(|(_, range)| range.end <= self.first).is_some() {}
        let is_done = self.entries.is_empty();
        assert!(!is_done || self.sent.is_empty(), "what is answered does not go again");
    }

    /// Commands of a range that have not been delivered.
    pub(super) fn undelivered(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = (u64, &OpenCommand<W>)> {
        let first = range.start.max(self.first);
        let end = range.end.min(self.end()).max(first);
        let start = usize::try_from(first - self.first).expect("within the window");
        let len = usize::try_from(end - first).expect("within the window");
        let entries = self.entries.range(start.min(self.entries.len())..).take(len);
        (first..end)
            .zip(entries)
            .filter_map(|(sequence, entry)| Some((sequence, entry.as_ref()?)))
            .filter(|(_, entry)| !entry.is_delivered)
    }

    /// There is another leader: everything has to go again.
    pub(super) fn forget_sent(&mut self) {
        self.sent.clear();
        self.unsent_from = self.first;
    }

    /// When the oldest command went that may have to go again.
    pub(super) fn first_sent_at(&self) -> Option<Instant> {
        self.sent.front().map(|&(at, _)| at)
    }

    /// The next range that has not gone, or went `patience` ago, and whether it is the latter; it
    /// counts as having gone `now`.
    pub(super) fn next_due(
        &mut self,
        now: Instant,
        patience: Duration,
    ) -> Option<(Range<u64>, bool)> {
        let is_overdue = |(at, _): &mut (Instant, _)| at.after(patience) <= now;
        if let Some((_, range)) = self.sent.pop_front_if(is_overdue) {
            self.note_sent(now, range.clone());
            return Some((range, true));
        }
        let unsent = self.unsent_from..self.end();
        if unsent.is_empty() {
            return None;
        }
        self.unsent_from = unsent.end;
        self.note_sent(now, unsent.clone());
        Some((unsent, false))
    }

    fn note_sent(&mut self, now: Instant, range: Range<u64>) {
        if self.undelivered(range.clone()).next().is_some() {
            self.sent.push_back((now, range));
        }
    }

    /// Takes out whoever's deadline has passed; returns the earliest deadline that is left.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        mut expired: impl FnMut(OpenCommand<W>),
    ) -> Option<Instant> {
        for place in &mut self.entries {
            // Delivered is not applied: the deadline holds until there is a response.
            let is_late = |entry: &mut OpenCommand<W>| {
                entry.deadline <= now && !(planted!(DeadlineEndsAtDelivery) && entry.is_delivered)
            };
            place.take_if(is_late).into_iter().for_each(&mut expired);
        }
        self.entries.iter().flatten().map(|entry| entry.deadline).min()
    }
}
