//! What waits for the disk, bounded however long the disk takes.
//!
//! What waits already is not queued again, and what a higher promise has made useless is dropped.
//! To a peer there is at most one promise and one Prepare, since a candidate asks for one page at a
//! time, and at most one vote for a slot.

use std::collections::VecDeque;

use super::{WriteId, ranges::Ranges};
use crate::{
    limits,
    message::{Prepare, Promise},
    planted::planted,
    types::{Ballot, NodeId, Slot},
};

/// What may be said only once it is durable.
#[derive(Clone, Debug)]
pub(super) enum AfterPersist {
    /// "I promise": the promise is on disk.
    Promise(Promise),
    /// "I have accepted": the vote is on disk.
    Accepted { ballot: Ballot, slot: Slot },
    /// "Promise me": the ballot is promised on this node's own disk, so it is never used again.
    Prepare(Prepare),
}

impl AfterPersist {
    pub(super) fn ballot(&self) -> Ballot {
        match self {
            AfterPersist::Promise(promise) => promise.ballot,
            AfterPersist::Accepted { ballot, .. } => *ballot,
            AfterPersist::Prepare(prepare) => prepare.ballot,
        }
    }

    /// Whether the other says what this says. A promise reports the same votes however often it is
    /// given, for nothing is accepted at lower ballots any more. Votes are told apart by their slots.
    pub(super) fn is_repeated_by(&self, other: &AfterPersist) -> bool {
        match (self, other) {
            (AfterPersist::Promise(promise), AfterPersist::Promise(other)) => {
                (promise.ballot, promise.from) == (other.ballot, other.from)
            }
            (AfterPersist::Prepare(prepare), AfterPersist::Prepare(other)) => prepare == other,
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    votes_max: usize,
    /// Promises and Prepares.
    phase_one: Vec<(WriteId, NodeId, AfterPersist)>,
    /// Votes in the order of the writes they wait for. They are all at one ballot, this node's
    /// promise, and so for one leader.
    votes: VecDeque<(WriteId, Votes)>,
    /// The slots of these votes.
    voted: Ranges,
}

/// Votes for consecutive slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Votes {
    pub(super) to: NodeId,
    pub(super) ballot: Ballot,
    pub(super) first: Slot,
    pub(super) last: Slot,
}

impl Held {
    /// Nothing waits; of votes, no more than so many ranges will, the latest. A leader's own votes that
    /// still count are among these: it does not ask itself again.
    pub(super) fn new(votes_max: usize) -> Held {
        let (phase_one, votes, voted) = (Vec::new(), VecDeque::new(), Ranges::default());
        Held { votes_max, phase_one, votes, voted }
    }

    /// Keeps `message` until the write `after` is durable.
    #[inline]
    pub(super) fn hold(&mut self, after: WriteId, to: NodeId, message: AfterPersist) {
        if let AfterPersist::Accepted { ballot, slot } = message {
            self.hold_vote(after, Votes { to, ballot, first: slot, last: slot });
            return;
        }
        let is_alike = |(_, other_to, other): &(WriteId, NodeId, AfterPersist)| {
            *other_to == to && std::mem::discriminant(other) == std::mem::discriminant(&message)
        };
        if let Some(index) = self.phase_one.iter().position(is_alike) {
            if self.phase_one[index].2.is_repeated_by(&message) {
                return;
            }
            self.phase_one.remove(index);
        }
        self.phase_one.push((after, to, message));
        assert!(self.phase_one.len() <= 2 * limits::VOTERS_MAX, "one of each kind for a peer");
    }

    #[inline]
    fn hold_vote(&mut self, after: WriteId, vote: Votes) {
        let other = self.votes.back().map(|(_, votes)| (votes.to, votes.ballot));
        if other.is_some_and(|other| other != (vote.to, vote.ballot)) {
            self.forget_votes();
        }
        if self.voted.contains(vote.first.0) {
            return;
        }
        self.voted.insert(vote.first.0..vote.last.next().0);
        match self.votes.back_mut() {
            Some((last_after, last)) if *last_after == after && last.last.next() == vote.first => {
                last.last = vote.last;
            }
            last => {
                assert!(last.is_none_or(|(last_after, _)| *last_after <= after), "in order");
                self.votes.push_back((after, vote));
            }
        }
        // The oldest are lost, as they might be on the way: the leader asks again.
        if self.votes.len() > self.votes_max && !planted!(VotesHeldUnbounded) {
            self.take_first_votes(|_| true);
        }
    }

    /// Takes out the votes that have waited for longest, if their write meets the condition.
    fn take_first_votes(&mut self, condition: impl FnOnce(WriteId) -> bool) -> Option<Votes> {
        let (_, votes) = self.votes.pop_front_if(|(after, _)| condition(*after))?;
        self.voted.remove(&(votes.first.0..votes.last.next().0));
        assert_eq!(self.votes.is_empty(), self.voted.is_empty(), "each vote has its slots");
        Some(votes)
    }

    /// How many ranges of votes wait, and how many may.
    pub(super) fn votes(&self) -> (usize, usize) {
        (self.votes.len(), self.votes_max)
    }

    fn forget_votes(&mut self) {
        self.votes.clear();
        self.voted = Ranges::default();
    }

    /// Drops what is said at a ballot below `promised`: it could only be refused by now.
    pub(super) fn drop_below(&mut self, promised: Ballot) {
        self.phase_one.retain(|(_, _, message)| message.ballot() >= promised);
        if self.votes.back().is_some_and(|(_, votes)| votes.ballot < promised) {
            self.forget_votes();
        }
    }

    /// Drops the Prepares: whoever sent them has given up.
    pub(super) fn drop_prepares(&mut self) {
        self.phase_one.retain(|(_, _, message)| !matches!(message, AfterPersist::Prepare(_)));
    }

    /// Whether any promise or Prepare waits.
    pub(super) fn has_phase_one(&self) -> bool {
        !self.phase_one.is_empty()
    }

    /// The next promise or Prepare that waits for nothing more, with who gets it.
    #[inline]
    pub(super) fn next_of_phase_one(
        &mut self,
        persisted: WriteId,
    ) -> Option<(NodeId, AfterPersist)> {
        let index = self.phase_one.iter().position(|(after, _, _)| *after <= persisted)?;
        let (_, to, message) = self.phase_one.remove(index);
        Some((to, message))
    }

    /// The next votes that wait for nothing more.
    #[inline]
    pub(super) fn next_votes(&mut self, persisted: WriteId) -> Option<Votes> {
        self.take_first_votes(|after| after <= persisted)
    }
}
