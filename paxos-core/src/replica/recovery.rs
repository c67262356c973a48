//! Phase 1: a candidate gathers promises and learns what it may propose.
//!
//! It guarantees the second half of Paxos (Lamport 2001, section 2.2, P2c): *for every slot, the
//! new leader proposes the value of the highest ballot that a quorum of promises reports*, and a
//! value of its own only where they report none.
//!
//! What an acceptor reports at or below its chosen watermark is chosen, and adopted as such, from the
//! candidate's first slot on without a hole: then it is in the log, and no longer here. So of a candidate
//! that has missed much no more than what is undecided and a page are in memory, and as the next page is
//! asked for when the last one is durable, no more than a page of each acceptor waits for the disk. What an
//! acceptor has compacted is chosen too, and has to be fetched before leading.
//!
//! While the membership changes, a quorum is one of every membership that governs slots above those that the
//! candidate knows to be chosen. If it learns of a later one on the way, it may lead all the same; at the slots
//! of that one it may propose only if those who have promised are a quorum of it too.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use super::{
    candidacy::Patience,
    context::Context,
    held::AfterPersist,
    tally::{Promisers, Quorum},
};
use crate::{
    limits,
    message::{Prepare, Promise, Record},
    planted::planted,
    types::{Ballot, Instant, Membership, NodeId, Slot, Value},
};

/// A candidacy.
#[derive(Clone, Debug)]
pub(super) struct Preparing {
    ballot: Ballot,
    /// The candidate's first slot not known chosen when it began.
    from: Slot,
    /// Where each acceptor's next page starts.
    pages: BTreeMap<NodeId, Slot>,
    promisers: Promisers,
    /// The memberships that governed slots from the first one on when it began.
    memberships: Vec<Arc<Membership>>,
    /// Every slot from the first one up to here has been adopted, whoever reported it.
    adopted: Slot,
    /// The highest-ballot value reported of each slot above.
    reported: BTreeMap<Slot, (Ballot, Value)>,
    /// When to send Prepare again.
    resend_at: Instant,
    patience: Patience,
    /// When to give up, unless there is progress before.
    expires_at: Instant,
}

/// What came of a page.
#[derive(Debug)]
pub(super) enum PhaseOne {
    /// More promises or pages are needed.
    Waiting,
    /// The acceptor has compacted slots this candidate lacks, up to this one.
    Behind(Slot),
    /// A quorum has promised.
    Elected(Reported),
}

/// What a quorum of promises reports.
#[derive(Debug)]
pub(super) struct Reported {
    /// The ballot promised.
    pub(super) ballot: Ballot,
    /// The candidate has adopted every slot up to here.
    pub(super) chosen: Slot,
    /// The highest-ballot value of each slot.
    pub(super) values: BTreeMap<Slot, Value>,
    /// Who has promised.
    pub(super) promisers: Promisers,
}

impl Reported {
    fn of(_: Quorum<Promise>, preparing: &mut Preparing) -> Reported {
        let reported = std::mem::take(&mut preparing.reported);
        let values = reported.into_iter().map(|(slot, (_, value))| (slot, value)).collect();
        let promisers = std::mem::take(&mut preparing.promisers);
        Reported { ballot: preparing.ballot, chosen: preparing.adopted, values, promisers }
    }
}

impl Preparing {
    /// Begins a candidacy for the slots from `from` on.
    pub(super) fn begin(
        ballot: Ballot,
        from: Slot,
        patience: Patience,
        cx: &mut Context<'_>,
    ) -> Preparing {
        let mut preparing = Preparing {
            ballot,
            from,
            pages: BTreeMap::new(),
            promisers: Promisers::default(),
            memberships: cx.memberships.in_force().cloned().collect(),
            adopted: from.previous(),
            reported: BTreeMap::new(),
            resend_at: cx.now.after(cx.config.retransmit_timeout),
            patience,
            expires_at: cx.now.after(patience.0),
        };
        for voter in preparing.voters() {
            preparing.pages.insert(voter, from);
            preparing.request(voter, cx);
        }
        preparing
    }

    /// Whoever counts in any of the memberships.
    fn voters(&self) -> Vec<NodeId> {
        let voters = self.memberships.iter().flat_map(|membership| membership.voters());
        let mut voters: Vec<_> = voters.collect();
        voters.sort_unstable();
        voters.dedup();
        voters
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

    /// Asks for the page that comes next.
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
        for voter in self.voters() {
            if !self.promisers.contains(voter) {
                self.request(voter, cx);
            }
        }
    }

    /// How many values it keeps, and how many it may, whatever its peers say: undecided ones, which an
    /// acceptor can have above its watermark, and what may be chosen of these by now and is not adopted.
    pub(super) fn kept(&self) -> (usize, usize) {
        let max = self.ahead_max() + limits::LOG_AHEAD_SLOTS_MAX;
        (self.reported.len(), usize::try_from(max).expect("windows are small"))
    }

    /// Whether it keeps nothing that it has adopted.
    pub(super) fn keeps_undecided_alone(&self) -> bool {
        self.reported.first_key_value().is_none_or(|(&first, _)| first > self.adopted)
    }

    /// Takes in a page of a promise. Chosen values are handed to `adopt`, from the candidate's first slot
    /// on, without a hole.
    pub(super) fn on_promise(
        &mut self,
        acceptor: NodeId,
        promise: Promise,
        adopt: impl FnMut(Slot, Value, &mut Context<'_>),
        cx: &mut Context<'_>,
    ) -> PhaseOne {
        let is_awaited = self.pages.get(&acceptor) == Some(&promise.from);
        let is_ours = promise.ballot == self.ballot || planted!(PromiseOfAnotherBallot);
        if !is_awaited || !is_ours {
            return PhaseOne::Waiting;
        }
        if promise.floor >= self.from {
            return PhaseOne::Behind(promise.floor);
        }
        if !self.is_sound(&promise) {
            tracing::warn!(node = %cx.config.id, %acceptor, ballot = %self.ballot, "a malformed promise");
            return PhaseOne::Waiting;
        }
        self.expires_at = cx.now.after(self.patience.0);
        let next = self.next_page(&promise);
        if next.is_none_or(|next| next > promise.from) {
            self.take_in(promise, adopt, cx);
        }
        if let Some(next) = next {
            self.pages.insert(acceptor, next);
            self.request(acceptor, cx);
            return PhaseOne::Waiting;
        }
        assert!(self.pages.remove(&acceptor).is_some(), "each promise counts once");
        match self.promisers.add(acceptor, &self.memberships) {
            Some(quorum) => PhaseOne::Elected(Reported::of(quorum, self)),
            None => PhaseOne::Waiting,
        }
    }

    /// How far above its watermark an acceptor has votes: so much can be undecided.
    fn ahead_max(&self) -> u64 {
        let all = self.memberships.iter().map(|membership| membership.ahead_max());
        all.max().expect("one governs the first slot")
    }

    /// Where the page behind this one starts, if there is one. An acceptor that has learned far more since
    /// an earlier page is asked once more for all that has not been adopted: it was reported as votes, or
    /// with votes before it, and is chosen now. So what is not adopted is no more than can be undecided.
    fn next_page(&self, promise: &Promise) -> Option<Slot> {
        let behind = self.adopted.next();
        if promise.from > behind && promise.chosen > self.adopted.plus(self.ahead_max()) {
            return Some(behind);
        }
        promise.next.filter(|_| !planted!(FirstPageIsAll))
    }

    /// Takes note of what a page reports. Of what the acceptor has learned since an earlier page, that one
    /// has reported its vote instead: then there is a hole before what is chosen here, and it is not adopted.
    fn take_in(
        &mut self,
        promise: Promise,
        mut adopt: impl FnMut(Slot, Value, &mut Context<'_>),
        cx: &mut Context<'_>,
    ) {
        for Record { slot, mut ballot, value } in promise.records {
            if slot <= promise.chosen {
                ballot = Ballot::CHOSEN;
                if slot == self.adopted.next() {
                    adopt(slot, value.clone(), cx);
                    self.adopted = slot;
                }
            }
            if self
                .reported
                .get(&slot)
                .is_none_or(|(reported, _)| ballot > *reported || planted!(LowerBallotProposed))
            {
                self.reported.insert(slot, (ballot, value));
            }
        }
        while let Some(first) = self.reported.first_entry()
            && (*first.key() <= self.adopted && !planted!(ReportedUnbounded))
        {
            first.remove();
        }
    }

    /// Whether an acceptor that has promised this ballot, and has compacted nothing that the
    /// candidate lacks, can have sent the page:
    ///
    /// - records in order, none of them accepted above the ballot, and a next page further on;
    /// - no hole up to the acceptor's watermark, not even between this page and the next, or behind the
    ///   last;
    /// - nothing further above the watermark than an acceptor accepts.
    fn is_sound(&self, promise: &Promise) -> bool {
        let records = &promise.records;
        let (from, next, chosen) = (promise.from, promise.next, promise.chosen);
        let behind = records.last().map_or(from, |last| Slot(last.slot.0.saturating_add(1)));
        let highest = Slot(chosen.0.saturating_add(limits::LOG_AHEAD_SLOTS_MAX));
        let is_next = |(record, index): (&Record, u64)| {
            record.slot > chosen || record.slot.0 - from.0 == index
        };
        let is_at_most_ours =
            |record: &Record| record.ballot <= self.ballot || record.ballot == Ballot::CHOSEN;
        let told = records.partition_point(|record| record.slot <= chosen) as u64;
        let is_whole = match next.filter(|&next| next <= chosen) {
            Some(next) => next == behind,
            None => chosen.0.checked_sub(from.0).is_none_or(|last| told > last),
        };
        records.is_sorted_by(|a, b| a.slot < b.slot)
            && records.first().is_none_or(|first| first.slot >= from)
            && records.iter().zip(0..).all(is_next)
            && is_whole
            && next.is_none_or(|next| next > from)
            && next.into_iter().chain(records.last().map(|last| last.slot)).max() <= Some(highest)
            && records.iter().all(is_at_most_ours)
    }
}
