//! The acceptor: promises and votes, and nothing else writes durable protocol state.
//!
//! It guarantees, across restarts (Lamport 2001, section 2.2):
//!
//! - **P1a.** It accepts a ballot exactly if it has not promised a higher one.
//! - A promise never decreases, and `accepted(b)` implies `promised ≥ b`.
//! - What it answers is durable before the answer leaves.
//!
//! Together with the choice that a new leader makes (see [`recovery`](super::recovery)) this gives
//! the lemma everything rests on: *if a value is chosen at ballot b, every higher ballot's proposal
//! for that slot has the same value* (P2b).
//!
//! A slot that is chosen needs no further protection. So a chosen record is never rewritten, a value
//! learned as chosen is recorded at [`Ballot::CHOSEN`], above every vote, and a later Accept for the
//! slot is answered like any other although nothing is recorded:
//!
//! - At the choosing ballot or above, it carries the same value (P2b).
//! - Below, it may carry another, but then no quorum votes for that: had one, this acceptor among
//!   them, its every other member that took part in phase 1 of the choosing ballot would have
//!   reported the vote there. There is one, because the quorums intersect and this acceptor took no
//!   part, or it would reject the lower ballot. So the choosing ballot would have had to propose
//!   that value, or one of a ballot in between, of which the same is true.

#[cfg(test)]
mod exhaustive;

use super::{
    context::Context,
    held::AfterPersist,
    log::{Log, LogError},
    outbox::Outbox,
};
use crate::{
    limits,
    message::{Accept, Message, Prepare, Promise, Record, Reject},
    planted::planted,
    port::Recovered,
    types::{Ballot, NodeId, Slot, Value},
};

/// Promise and log of this node.
#[derive(Clone, Debug)]
pub(super) struct Acceptor {
    promised: Ballot,
    log: Log,
}

/// Whether a ballot may be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing higher is promised.
    Current,
    /// A higher ballot is promised; the sender gets a Reject.
    Outdated,
}

/// Where the page of a promise comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Answered, from memory.
    Answered,
    /// The records have to be read from disk first.
    OnDisk,
    /// The ballot is outdated; the candidate gets a Reject.
    Refused,
}

impl Acceptor {
    pub(super) fn recovered(recovered: &mut Recovered) -> Result<Acceptor, LogError> {
        let records = std::mem::take(&mut recovered.records);
        let log = Log::recovered(recovered.chosen.slot, recovered.floor, records)?;
        let promised = if planted!(PromiseForgotten) { Ballot::ZERO } else { recovered.promised };
        Ok(Acceptor { promised, log })
    }

    pub(super) fn promised(&self) -> Ballot {
        self.promised
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// Checks a leader's or candidate's ballot against the promise and rejects it if it is lower.
    #[inline]
    pub(super) fn judge(&self, from: NodeId, ballot: Ballot, out: &mut Outbox) -> Judgement {
        if ballot >= self.promised || planted!(BallotBelowPromise) {
            return Judgement::Current;
        }
        out.send(from, Message::Reject(Reject { ballot, promised: self.promised }));
        Judgement::Outdated
    }

    /// Promises a ballot durably, unless it has promised it before.
    #[inline]
    fn promise(&mut self, ballot: Ballot, out: &mut Outbox) {
        assert!(ballot >= self.promised, "a promise of {} cannot sink to {ballot}", self.promised);
        assert!(ballot.is_proposable(), "{ballot} is nobody's ballot");
        if ballot > self.promised {
            self.promised = ballot;
            out.persist_promise(ballot);
        }
    }

    /// Promises a ballot of this node's own, so that it is never used again.
    pub(super) fn promise_own(&mut self, ballot: Ballot, out: &mut Outbox) {
        assert!(ballot > self.promised, "ballot {ballot} may have been used");
        self.promise(ballot, out);
    }

    /// Phase 1b: promises the ballot and reports what was accepted from `prepare.from` on.
    ///
    /// The report starts at the *candidate's* watermark, not at this acceptor's own: what the
    /// candidate does not know is never left out.
    pub(super) fn prepare(
        &mut self,
        from: NodeId,
        prepare: &Prepare,
        chosen: Slot,
        cx: &mut Context<'_>,
    ) -> Page {
        if self.judge(from, prepare.ballot, cx.out) == Judgement::Outdated {
            return Page::Refused;
        }
        self.promise(prepare.ballot, cx.out);
        if prepare.from <= self.log.floor() && !planted!(CompactedAsEmpty) {
            // What is compacted is chosen, and has to be fetched: what is accepted above is of no use before.
            self.answer_promise(from, prepare, Vec::new(), None, chosen, cx.out);
            return Page::Answered;
        }
        let is_on_disk = prepare.from > self.log.floor() && prepare.from <= self.log.on_disk();
        if is_on_disk && !planted!(EvictedAsEmpty) {
            return Page::OnDisk;
        }
        let mut bytes = 0;
        let mut records = Vec::new();
        let accepted = self.log.from(prepare.from);
        let mut remaining =
            accepted.filter(|record| !planted!(PromiseFromOwnWatermark) || record.slot > chosen);
        for record in remaining.by_ref() {
            bytes += record.value.encoded_len();
            records.push(record);
            if bytes >= cx.config.page_bytes_max || records.len() >= limits::PAGE_RECORDS_MAX {
                break;
            }
        }
        let next = remaining.next().map(|record| record.slot);
        drop(remaining);
        self.answer_promise(from, prepare, records, next, chosen, cx.out);
        Page::Answered
    }

    /// Phase 1b, once `records` have come from disk: they start at `prepare.from` and hold at least
    /// one record.
    pub(super) fn prepare_from_disk(
        &mut self,
        from: NodeId,
        prepare: &Prepare,
        records: Vec<Record>,
        chosen: Slot,
        out: &mut Outbox,
    ) {
        if self.promised != prepare.ballot {
            return;
        }
        let next = records.last().map(|last| last.slot.next());
        let next = next.filter(|&next| next <= self.log.highest() && !planted!(PromisePagesLost));
        self.answer_promise(from, prepare, records, next, chosen, out);
    }

    fn answer_promise(
        &self,
        to: NodeId,
        prepare: &Prepare,
        records: Vec<Record>,
        next: Option<Slot>,
        chosen: Slot,
        out: &mut Outbox,
    ) {
        assert_eq!(prepare.ballot, self.promised, "a promise is of what is promised");
        let promise = Promise {
            ballot: prepare.ballot,
            from: prepare.from,
            records,
            next,
            chosen,
            floor: if planted!(CompactedAsEmpty) { Slot::ZERO } else { self.log.floor() },
        };
        out.send_after_persist(to, AfterPersist::Promise(promise));
    }

    /// Phase 2b: accepts the value unless a higher ballot is promised.
    ///
    /// A slot more than four windows above the own watermark is passed over without an answer:
    /// this node has to catch up first, and must not hoard values meanwhile.
    pub(super) fn accept(
        &mut self,
        from: NodeId,
        accept: Accept,
        chosen: Slot,
        cx: &mut Context<'_>,
    ) -> Judgement {
        let Accept { ballot, slot, value, .. } = accept;
        if self.judge(from, ballot, cx.out) == Judgement::Outdated {
            return Judgement::Outdated;
        }
        let ahead_max = cx.memberships.ahead_max();
        if slot.0 > chosen.0.saturating_add(ahead_max) {
            return Judgement::Current;
        }
        self.promise(ballot, cx.out);
        let accepted = self.log.get(slot).map(|(accepted, _)| accepted);
        let settled = slot <= chosen || accepted == Some(Ballot::CHOSEN);
        let vote = AfterPersist::Accepted { ballot, slot };
        if settled && !planted!(ChosenOverwritten) || accepted == Some(ballot) {
            cx.out.send_after_persist(from, vote);
        } else {
            self.record(slot, ballot, value, cx.out);
            cx.out.send_after_persist(from, vote);
        }
        Judgement::Current
    }

    /// Records a value that a peer knows to be chosen.
    pub(super) fn record_chosen(&mut self, slot: Slot, value: Value, out: &mut Outbox) {
        if self.log.get(slot).is_none_or(|(ballot, _)| ballot != Ballot::CHOSEN) {
            self.record(slot, Ballot::CHOSEN, value, out);
        }
    }

    #[inline]
    fn record(&mut self, slot: Slot, ballot: Ballot, value: Value, out: &mut Outbox) {
        assert!(slot > Slot::ZERO, "the log starts at slot 1");
        assert!(
            ballot <= self.promised || ballot == Ballot::CHOSEN,
            "invariant 1: slot {slot} would be accepted at {ballot}, above the promise {}",
            self.promised
        );
        let vote = self.log.get(slot).map(|(accepted, _)| accepted);
        assert!(
            vote.filter(|vote| vote.is_proposable()) < Some(ballot),
            "invariant 2: slot {slot} would be accepted at {ballot} after {vote:?}"
        );
        out.persist_record(Record { slot, ballot, value: value.clone() });
        self.log.insert(slot, ballot, value, out.last_write());
    }
}
