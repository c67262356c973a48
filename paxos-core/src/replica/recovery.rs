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
    planted::planted,
    types::{Ballot, Instant, NodeId, Slot, Value},
};

/// A candidacy.
#[derive(Clone, Debug)]
pub(super) struct Preparing {
    ballot: Ballot,
    /// The candidate's first slot not known chosen when it began.
    from: Slot,
    /// Where each acceptor's next page starts, and its watermark as of its first page: of what it
    /// has learned since, earlier pages have reported its vote instead.
    pages: BTreeMap<NodeId, (Slot, Option<Slot>)>,
    promises: Tally<Promise>,
    /// The highest watermark of those that have promised, as of their first pages.
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
            promises: Tally::new(),
            chosen: Slot::ZERO,
            reported: BTreeMap::new(),
            resend_at: cx.now.after(cx.config.retransmit_timeout),
            expires_at: cx.now.after(cx.config.election_timeout),
        };
        for voter in cx.memberships.current().voters() {
            preparing.pages.insert(voter, (from, None));
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
        if let Some(&(from, _)) = self.pages.get(&acceptor) {
            let prepare = Prepare { ballot: self.ballot, from };
            cx.out.repeat_after_persist(acceptor, AfterPersist::Prepare(prepare));
        }
    }

    /// Asks those that have not answered in full again.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        if cx.now < self.resend_at {
            return;
        }
        self.resend_at = cx.now.after(cx.config.retransmit_timeout);
        for voter in cx.memberships.current().voters() {
            if !self.promises.has_voted(voter, cx.memberships.governing(self.from)) {
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
        let page = self.pages.get(&acceptor).filter(|(from, _)| *from == promise.from);
        let Some(&(_, watermark)) =
            page.filter(|_| promise.ballot == self.ballot || planted!(PromiseOfAnotherBallot))
        else {
            return Progress::Waiting;
        };
        let watermark = watermark.unwrap_or(promise.chosen);
        if !self.is_sound(&promise) {
            tracing::warn!(node = %cx.config.id, %acceptor, ballot = %self.ballot, "a malformed promise");
            return Progress::Waiting;
        }
        if promise.floor >= self.from {
            return Progress::Behind(promise.floor);
        }
        for Record { slot, ballot, value } in promise.records {
            if slot <= promise.chosen {
                adopt(slot, value.clone(), cx);
                self.reported.insert(slot, (Ballot::CHOSEN, value));
            } else if self
                .reported
                .get(&slot)
                .is_none_or(|(reported, _)| ballot > *reported || planted!(LowerBallotProposed))
            {
                self.reported.insert(slot, (ballot, value));
            }
        }
        if let Some(next) = promise.next.filter(|_| !planted!(FirstPageIsAll)) {
            self.pages.insert(acceptor, (next, Some(watermark)));
            self.expires_at = cx.now.after(cx.config.election_timeout);
            self.request(acceptor, cx);
            return Progress::Waiting;
        }
        if !self.reports_all(watermark) {
            tracing::warn!(node = %cx.config.id, %acceptor, ballot = %self.ballot, "a promise with a hole");
            return Progress::Waiting;
        }
        self.pages.remove(&acceptor);
        self.chosen = self.chosen.max(watermark);
        match self.promises.add(acceptor, cx.memberships.governing(self.from)) {
            Some(quorum) => Progress::Elected(Recovered::of(quorum, self)),
            None => Progress::Waiting,
        }
    }

    /// Whether an acceptor that has promised this ballot can have sent the page: records in order,
    /// none of them accepted above the ballot, and a next page that is further on.
    fn is_sound(&self, promise: &Promise) -> bool {
        let ballots = promise.records.iter().map(|record| record.ballot);
        promise.records.is_sorted_by(|a, b| a.slot < b.slot)
            && promise.records.first().is_none_or(|first| first.slot >= promise.from)
            && promise.next.is_none_or(|next| next > promise.from)
            && ballots.into_iter().all(|ballot| ballot <= self.ballot || ballot == Ballot::CHOSEN)
    }

    /// Whether a chosen value is reported of every slot up to `watermark`, which an acceptor says
    /// it knows to be chosen and has not compacted.
    fn reports_all(&self, watermark: Slot) -> bool {
        let chosen = self.reported.range(self.from..).take_while(|(slot, _)| **slot <= watermark);
        let count = chosen.filter(|(_, (ballot, _))| *ballot == Ballot::CHOSEN).count();
        count as u64 == watermark.0.saturating_sub(self.from.previous().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Config,
        message::Watermark,
        replica::{membership::Memberships, outbox::Outbox},
        types::{Membership, Value},
    };

    /// Between two pages an acceptor may learn that what it reported as a vote is chosen.
    #[test]
    fn a_watermark_that_rises_between_two_pages_hides_nothing() {
        let membership = Membership::new((1..=3).map(|id| (id, ""))).expect("three voters");
        let config = Config::new(NodeId(1), membership.clone());
        let memberships = Memberships::new(membership);
        let mut out = Outbox::new(NodeId(1), Watermark::default());
        let mut rng = fastrand::Rng::with_seed(1);
        let cx = &mut Context {
            now: Instant::ZERO,
            config: &config,
            memberships: &memberships,
            out: &mut out,
            rng: &mut rng,
        };
        let ballot = Ballot { round: 5, node: NodeId(1) };
        let vote = Ballot { round: 1, node: NodeId(2) };
        let mut preparing = Preparing::begin(ballot, Slot(1), cx);
        let page = |from, slot, next, chosen| Promise {
            ballot,
            from,
            records: vec![Record { slot, ballot: vote, value: Value::Noop }],
            next,
            chosen,
            floor: Slot::ZERO,
        };
        let mut adopted = Vec::new();
        let mut adopt = |slot, _, _: &mut Context<'_>| adopted.push(slot);
        let first = page(Slot(1), Slot(1), Some(Slot(2)), Slot::ZERO);
        let progress = preparing.on_promise(NodeId(2), first, &mut adopt, cx);
        assert!(matches!(progress, Progress::Waiting));
        let second = page(Slot(2), Slot(2), None, Slot(2));
        let progress = preparing.on_promise(NodeId(2), second, &mut adopt, cx);
        assert!(matches!(progress, Progress::Waiting));
        let own = Promise { records: Vec::new(), ..page(Slot(1), Slot(1), None, Slot::ZERO) };
        let progress = preparing.on_promise(NodeId(1), own, &mut adopt, cx);
        let Progress::Elected(recovered) = progress else { panic!("{progress:?}") };
        assert_eq!(adopted, [Slot(2)]);
        assert_eq!(recovered.chosen, Slot::ZERO, "slot 1 was not adopted");
        assert_eq!(recovered.values.into_keys().collect::<Vec<_>>(), [Slot(1), Slot(2)]);
    }
}
