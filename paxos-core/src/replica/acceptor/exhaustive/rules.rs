//! The rules of the paper: the table as code, and what an answer obliges the acceptor to.

use std::collections::BTreeMap;

use super::{Step, Values};
use crate::{
    message::Record,
    types::{Ballot, Slot, Value},
};

/// What an acceptor holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) promised: Ballot,
    pub(super) records: BTreeMap<Slot, (Ballot, Value)>,
    pub(super) watermark: Slot,
}

impl Held {
    pub(super) fn is_known_chosen(&self, slot: Slot) -> bool {
        let at_chosen = |(ballot, _): &(Ballot, Value)| *ballot == Ballot::CHOSEN;
        slot <= self.watermark || self.records.get(&slot).is_some_and(at_chosen)
    }

    pub(super) fn report(&self, from: Slot) -> Vec<Record> {
        let record = |(&slot, (ballot, value)): (&Slot, &(Ballot, Value))| Record {
            slot,
            ballot: *ballot,
            value: value.clone(),
        };
        self.records.range(from..).map(record).collect()
    }
}

/// An answer, without what concerns neither ballots nor votes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Promise { ballot: Ballot, from: Slot, records: Vec<Record>, chosen: Slot },
    Accepted(Ballot, Slot),
    Reject(Ballot, Ballot),
}

/// The table at the top, as code.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) held: Held,
    written: Held,
    /// What was written before the last write, as long as that may be lost.
    pub(super) written_before: Option<Held>,
}

impl Rules {
    /// Takes a step; `None` if it cannot occur now.
    pub(super) fn step(&mut self, step: Step, values: &Values) -> Option<Option<Answer>> {
        let lost = self.written_before.take();
        let before = self.held.clone();
        let answer = match step {
            Step::Prepare(ballot, _) | Step::Accept(ballot, _) if ballot < before.promised => {
                Some(Answer::Reject(ballot, before.promised))
            }
            Step::Prepare(ballot, from) => {
                self.held.promised = ballot;
                let (records, chosen) = (self.held.report(from), self.held.watermark);
                Some(Answer::Promise { ballot, from, records, chosen })
            }
            Step::Accept(ballot, slot) => {
                self.held.promised = ballot;
                if !self.held.is_known_chosen(slot) {
                    self.held.records.insert(slot, (ballot, values.get(ballot, slot)));
                }
                Some(Answer::Accepted(ballot, slot))
            }
            Step::Pulled(slot) => {
                // The caller asks only for what it misses.
                if slot <= self.held.watermark {
                    return None;
                }
                if !self.held.is_known_chosen(slot) {
                    let value = values.get(Ballot::CHOSEN, slot);
                    self.held.records.insert(slot, (Ballot::CHOSEN, value));
                }
                None
            }
            Step::WatermarkMoves => {
                let next = self.held.watermark.next();
                self.held.records.get(&next)?;
                self.held.watermark = next;
                return Some(None);
            }
            Step::Restart => {
                self.held = self.written.clone();
                return Some(None);
            }
            Step::RestartWithoutLastWrite => {
                self.written = lost?;
                self.held = self.written.clone();
                return Some(None);
            }
        };
        if (self.held.promised, &self.held.records) != (before.promised, &before.records) {
            self.written_before = Some(std::mem::replace(&mut self.written, self.held.clone()));
        }
        Some(answer)
    }
}

/// What has left, and what it obliges the acceptor to from then on.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    promised: Ballot,
    /// The highest ballot of a vote per slot. Votes for a slot that was known chosen are left out:
    /// its record may stay at a lower ballot, because no higher ballot can have another value.
    voted: BTreeMap<Slot, Ballot>,
}

impl Said {
    pub(super) fn note(&mut self, answer: &Answer, is_known_chosen: bool) {
        match answer {
            Answer::Reject(ballot, promised) => assert!(ballot < promised, "a needless refusal"),
            Answer::Promise { ballot, from, records, .. } => {
                assert!(*ballot >= self.promised, "P1a: promised {} before", self.promised);
                self.promised = *ballot;
                for (&slot, &voted) in self.voted.range(*from..) {
                    let reported = records.iter().find(|record| record.slot == slot);
                    let reported = reported.expect("a vote that has left is reported");
                    assert!(
                        reported.ballot >= voted,
                        "the vote for {slot} at {voted} is forgotten"
                    );
                }
            }
            Answer::Accepted(ballot, slot) => {
                assert!(*ballot >= self.promised, "P1a: promised {} before", self.promised);
                self.promised = *ballot;
                if !is_known_chosen {
                    self.voted.insert(*slot, *ballot);
                }
            }
        }
    }
}
