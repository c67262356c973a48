//! Phase 1: a candidate gathers promises and learns what it may propose.
//!
//! It guarantees the second half of Paxos (Lamport 2001, section 2.2, P2c): *for every slot, the
//! new leader proposes the value of the highest ballot that a quorum of promises reports*, and a
//! value of its own only where they report none.
//!
//! What an acceptor reports at or below its chosen watermark is chosen, and adopted as such. What
//! an acceptor has compacted is chosen too, and has to be fetched before leading.

use std::collections::BTreeMap;

use super::{
    context::Context,
    outbox::AfterPersist,
    tally::{Quorum, Tally},
};
use crate::{
    message::{Prepare, Promise, Record},
    types::{Ballot, Instant, NodeId, Slot, Value},
};

/// A candidacy.
#[derive(Clone, Debug)]
pub(super) struct Preparing {
    ballot: Ballot,
    /// The candidate's first slot not known chosen when it began.
    from: Slot,
    /// Where each acceptor's next page starts.
    pages: BTreeMap<NodeId, Slot>,
    promises: Tally<Promise>,
    /// The highest watermark of those that have promised.
    chosen: Slot,
    /// The highest-ballot value reported of each slot.
    reported: BTreeMap<Slot, (Ballot, Value)>,
    /// When to send Prepare again.
    resend_at: Instant,
    /// When to give up.
    expires_at: Instant,
}

/// What came of a page.
#[derive(Debug)]
pub(super) enum Progress {
    /// More promises or pages are needed.
    Waiting,
    /// The acceptor has compacted slots this candidate lacks, up to this one.
    Behind(Slot),
    /// A quorum has promised.
    Elected(Recovered),
}

/// What a quorum of promises reports.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The ballot promised.
    pub(super) ballot: Ballot,
    /// The highest watermark in the quorum: the candidate has adopted every slot up to here.
    pub(super) chosen: Slot,
    /// The highest-ballot value of each slot.
    pub(super) values: BTreeMap<Slot, Value>,
}

impl Recovered {
    fn of(_: Quorum<Promise>, preparing: &mut Preparing) -> Recovered {
        let reported = std::mem::take(&mut preparing.reported);
        let values = reported.into_iter().map(|(slot, (_, value))| (slot, value)).collect();
        Recovered { ballot: preparing.ballot, chosen: preparing.chosen, values }
    }
}

impl Preparing {
    /// Begins a candidacy for the slots from `from` on.
    pub(super) fn begin(ballot: Ballot, from: Slot, cx: &mut Context<'_>) -> Preparing {
        let mut preparing = Preparing {
            ballot,
            from,
            pages: BTreeMap::new(),
            promises: Tally::new(cx.memberships.governing(from)),
            chosen: Slot::ZERO,
            reported: BTreeMap::new(),
            resend_at: cx.now.after(cx.config.retransmit_timeout),
            expires_at: cx.now.after(cx.config.election_timeout),
        };
        for voter in cx.memberships.current().voters() {
            preparing.pages.insert(voter, from);
            preparing.request(voter, cx);
        }
        preparing
    }

    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(super) fn expires_at(&self) -> Instant {
        self.expires_at
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.resend_at.min(self.expires_at)
    }

    fn request(&self, acceptor: NodeId, cx: &mut Context<'_>) {
        if let Some(&from) = self.pages.get(&acceptor) {
            let prepare = Prepare { ballot: self.ballot, from };
            cx.out.send_after_persist(acceptor, AfterPersist::Prepare(prepare));
        }
    }

    /// Asks those that have not answered in full again.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        if cx.now < self.resend_at {
            return;
        }
        self.resend_at = cx.now.after(cx.config.retransmit_timeout);
        for voter in cx.memberships.current().voters() {
            if !self.promises.has_voted(voter) {
                self.request(voter, cx);
            }
        }
    }

    /// Takes in a page of a promise. Records at or below the acceptor's watermark are handed to
    /// `adopt`, as chosen.
    pub(super) fn on_promise(
        &mut self,
        acceptor: NodeId,
        promise: Promise,
        mut adopt: impl FnMut(Slot, Value, &mut Context<'_>),
        cx: &mut Context<'_>,
    ) -> Progress {
        if promise.ballot != self.ballot || self.pages.get(&acceptor) != Some(&promise.from) {
            return Progress::Waiting;
        }
        if promise.floor >= self.from {
            return Progress::Behind(promise.floor);
        }
        for Record { slot, ballot, value } in promise.records {
            if slot <= promise.chosen {
                adopt(slot, value, cx);
            } else if self.reported.get(&slot).is_none_or(|(reported, _)| ballot > *reported) {
                self.reported.insert(slot, (ballot, value));
            }
        }
        if let Some(next) = promise.next {
            self.pages.insert(acceptor, next);
            self.expires_at = cx.now.after(cx.config.election_timeout);
            self.request(acceptor, cx);
            return Progress::Waiting;
        }
        self.pages.remove(&acceptor);
        self.chosen = self.chosen.max(promise.chosen);
        match self.promises.add(acceptor) {
            Some(quorum) => Progress::Elected(Recovered::of(quorum, self)),
            None => Progress::Waiting,
        }
    }
}
