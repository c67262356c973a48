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
    held::AfterPersist,
    tally::{Quorum, Tally},
};
use crate::{
    limits,
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
    /// The highest watermark in the quorum: the candidate has adopted every slot up to here.
    pub(super) chosen: Slot,
    /// The highest-ballot value of each slot.
    pub(super) values: BTreeMap<Slot, Value>,
}

impl Reported {
    fn of(_: Quorum<Promise>, preparing: &mut Preparing) -> Reported {
        assert!(preparing.reports_all(preparing.chosen), "what is chosen has been adopted");
        let reported = std::mem::take(&mut preparing.reported);
        let values = reported.into_iter().map(|(slot, (_, value))| (slot, value)).collect();
        Reported { ballot: preparing.ballot, chosen: preparing.chosen, values }
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

    /// Asks for the page that comes next.
    fn request(&self, acceptor: NodeId, cx: &mut Context<'_>) {
        if let Some(&(from, _)) = self.pages.get(&acceptor) {
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
            if !self.promises.has_voted(voter, cx.memberships.governing(self.from)) {
                self.request(voter, cx);
            }
        }
    }

    /// Takes in a page of a promise. Records at or below the watermark of the acceptor's first page
    /// are handed to `adopt`, as chosen: from the candidate's first slot on, without a hole.
    pub(super) fn on_promise(
        &mut self,
        acceptor: NodeId,
        promise: Promise,
        mut adopt: impl FnMut(Slot, Value, &mut Context<'_>),
        cx: &mut Context<'_>,
    ) -> PhaseOne {
        let page = self.pages.get(&acceptor).filter(|(from, _)| *from == promise.from);
        let Some(&(_, watermark)) =
            page.filter(|_| promise.ballot == self.ballot || planted!(PromiseOfAnotherBallot))
        else {
            return PhaseOne::Waiting;
        };
        let watermark = watermark.unwrap_or(promise.chosen);
        if promise.floor >= self.from {
            return PhaseOne::Behind(promise.floor);
        }
        if !self.is_sound(&promise) {
            tracing::warn!(node = %cx.config.id, %acceptor, ballot = %self.ballot, "a malformed promise");
            return PhaseOne::Waiting;
        }
        for Record { slot, ballot, value } in promise.records {
            if slot <= promise.chosen {
                if slot <= watermark {
                    adopt(slot, value.clone(), cx);
                }
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
            return PhaseOne::Waiting;
        }
        if !self.reports_all(watermark) {
            tracing::warn!(node = %cx.config.id, %acceptor, ballot = %self.ballot, "a promise with a hole");
            return PhaseOne::Waiting;
        }
        assert!(self.pages.remove(&acceptor).is_some(), "each promise counts once");
        self.chosen = self.chosen.max(watermark);
        match self.promises.add(acceptor, cx.memberships.governing(self.from)) {
            Some(quorum) => PhaseOne::Elected(Reported::of(quorum, self)),
            None => PhaseOne::Waiting,
        }
    }

    /// Whether an acceptor that has promised this ballot, and has compacted nothing that the
    /// candidate lacks, can have sent the page:
    ///
    /// - records in order, none of them accepted above the ballot, and a next page further on;
    /// - no hole up to the acceptor's watermark, not even between this page and the next;
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
        records.is_sorted_by(|a, b| a.slot < b.slot)
            && records.first().is_none_or(|first| first.slot >= from)
            && records.iter().zip(0..).all(is_next)
            && next.is_none_or(|next| next > from && (next > chosen || next == behind))
            && next.into_iter().chain(records.last().map(|last| last.slot)).max() <= Some(highest)
            && records.iter().all(is_at_most_ours)
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

    /// A page is passed over if a correct acceptor cannot have sent it: the log has no room for what
    /// a peer invents.
    #[test]
    fn a_page_that_nobody_sends_is_passed_over() {
        let ballot = Ballot { round: 5, node: NodeId(1) };
        let preparing = Preparing {
            ballot,
            from: Slot(3),
            pages: BTreeMap::new(),
            promises: Tally::new(),
            chosen: Slot::ZERO,
            reported: BTreeMap::new(),
            resend_at: Instant::ZERO,
            expires_at: Instant::ZERO,
        };
        let is_sound = |from, slots: &[u64], next: Option<u64>, chosen| {
            let record = |&slot| Record { slot: Slot(slot), ballot, value: Value::Noop };
            preparing.is_sound(&Promise {
                ballot,
                from: Slot(from),
                records: slots.iter().map(record).collect(),
                next: next.map(Slot),
                chosen: Slot(chosen),
                floor: Slot::ZERO,
            })
        };
        let ahead = limits::LOG_AHEAD_SLOTS_MAX;
        for (from, slots, next, chosen, expected) in [
            (3, &[][..], None, 0, true),
            (3, &[4, 7], Some(9), 0, true),
            (3, &[4, 4], None, 0, false),
            (3, &[7, 4], None, 0, false),
            (3, &[2, 4], None, 0, false),
            (3, &[], Some(3), 0, false),
            (3, &[3, 4, 6], None, 4, true),
            (3, &[4, 6], None, 4, false),
            (3, &[3, 5], None, 5, false),
            (3, &[3], Some(4), 5, true),
            (3, &[3], Some(5), 5, false),
            (3, &[3], Some(6), 5, true),
            (3, &[], Some(4), 5, false),
            (3, &[3, 4, 4 + ahead], None, 4, true),
            (3, &[3, 4, 5 + ahead], None, 4, false),
            (3, &[3, 4], Some(4 + ahead), 4, true),
            (3, &[3, 4], Some(5 + ahead), 4, false),
            (u64::MAX, &[u64::MAX], None, u64::MAX, true),
        ] {
            let found = is_sound(from, slots, next, chosen);
            assert_eq!(found, expected, "{slots:?} from {from}, next {next:?}, chosen {chosen}");
        }
    }

    /// Between two pages an acceptor may learn that what it reported as a vote is chosen.
    #[test]
    fn a_watermark_that_rises_between_two_pages_hides_nothing() {
        let membership = Membership::new((1..=3).map(|id| (id, ""))).expect("three voters");
        let config = Config::new(NodeId(1), membership.clone());
        let memberships = Memberships::new(membership);
        let mut out = Outbox::new(&config, Watermark::default());
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
        let came_of_it = preparing.on_promise(NodeId(2), first, &mut adopt, cx);
        assert!(matches!(came_of_it, PhaseOne::Waiting));
        let second = page(Slot(2), Slot(2), None, Slot(2));
        let came_of_it = preparing.on_promise(NodeId(2), second, &mut adopt, cx);
        assert!(matches!(came_of_it, PhaseOne::Waiting));
        let own = Promise { records: Vec::new(), ..page(Slot(1), Slot(1), None, Slot::ZERO) };
        let came_of_it = preparing.on_promise(NodeId(1), own, &mut adopt, cx);
        let PhaseOne::Elected(recovered) = came_of_it else { panic!("{came_of_it:?}") };
        assert_eq!(adopted, [], "slot 1 would have been left out");
        assert_eq!(recovered.chosen, Slot::ZERO, "slot 1 was not adopted");
        assert_eq!(recovered.values.into_keys().collect::<Vec<_>>(), [Slot(1), Slot(2)]);
    }
}
