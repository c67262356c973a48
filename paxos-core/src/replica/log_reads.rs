//! Pieces of the log that are no longer in memory, and what they are read back for.

use std::collections::BTreeMap;

use super::{
    Replica, catchup,
    context::Context,
    effect::{Halt, LogRead, LogReadId},
    learner::Learner,
    surroundings,
};
use crate::{
    message::{Prepare, Pull, Record},
    types::{Instant, NodeId, Slot},
};

/// What has been asked of the storage and not answered.
#[derive(Clone, Debug, Default)]
pub(super) struct LogReads {
    pending: BTreeMap<LogReadId, Pending>,
    issued: LogReadId,
}

/// A read that is under way.
#[derive(Clone, Debug)]
struct Pending {
    /// The first slot that was asked for.
    from: Slot,
    /// The latest like it: a candidate may have gone on to another ballot since.
    purpose: Purpose,
}

/// What a piece of the log is read for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To report it to a candidate.
    Promise(NodeId, Prepare),
    /// To teach it to a peer.
    Pull(NodeId, Pull),
    /// To give it to the state machine.
    Deliver,
}

impl Purpose {
    /// The first slot that is wanted.
    fn from(&self, learner: &Learner) -> Slot {
        match self {
            Purpose::Promise(_, prepare) => prepare.from,
            Purpose::Pull(_, pull) => pull.from,
            Purpose::Deliver => learner.delivered().next(),
        }
    }

    /// Whether both serve the same: the later one is enough.
    fn is_like(&self, other: &Purpose) -> bool {
        match (self, other) {
            (Purpose::Promise(to, _), Purpose::Promise(other, _))
            | (Purpose::Pull(to, _), Purpose::Pull(other, _)) => to == other,
            (Purpose::Deliver, Purpose::Deliver) => true,
            _ => false,
        }
    }
}

impl LogReads {
    /// Names a request for this purpose; `None` if one like it is under way, which serves this one from
    /// now on.
    fn begin(&mut self, from: Slot, purpose: Purpose) -> Option<LogReadId> {
        let mut under_way = self.pending.values_mut();
        if let Some(pending) = under_way.find(|pending| pending.purpose.is_like(&purpose)) {
            pending.purpose = purpose;
            return None;
        }
        self.issued.0 += 1;
        self.pending.insert(self.issued, Pending { from, purpose });
        Some(self.issued)
    }
}

impl<W> Replica<W> {
    /// Asks the storage for what is no longer in memory, once for each purpose.
    pub(super) fn read_log(&mut self, purpose: Purpose) {
        let from = purpose.from(&self.learner);
        if let Some(id) = self.log_reads.begin(from, purpose) {
            let slots = from..=self.acceptor.log().on_disk();
            assert!(!slots.is_empty(), "slot {from} is asked of the disk and is in memory");
            self.out.read_log(LogRead { id, slots, bytes_max: self.config.page_bytes_max });
        }
    }

    pub(super) fn on_log_read(&mut self, now: Instant, id: LogReadId, records: Vec<Record>) {
        let Some(Pending { from: asked, purpose }) = self.log_reads.pending.remove(&id) else {
            return;
        };
        let from = purpose.from(&self.learner);
        let log = self.acceptor.log();
        if from <= log.floor() || from > log.on_disk() {
            return self.needs_no_disk(now, purpose);
        }
        if from != asked {
            return self.read_log(purpose);
        }
        // All of them are chosen, so none may be missing.
        let mut expected = from;
        for record in &records {
            if record.slot != expected {
                break;
            }
            expected = expected.next();
        }
        if records.is_empty() || expected != from.plus(records.len() as u64) {
            self.out.halt(Some(Halt::Lost { slot: expected }));
            return;
        }
        match purpose {
            Purpose::Promise(to, prepare) => {
                let chosen = self.learner.chosen().slot;
                self.acceptor.prepare_from_disk(to, &prepare, records, chosen, &mut self.out);
            }
            Purpose::Pull(to, pull) => {
                let values = records.into_iter().map(|record| (record.slot, record.value));
                let values = values.take_while(|(slot, _)| *slot <= pull.to).collect();
                let out = &mut self.out;
                catchup::answer(to, &pull, values, &self.learner, &self.acceptor, out);
            }
            Purpose::Deliver => {
                for record in records {
                    if !self.wants_delivery() {
                        break;
                    }
                    self.deliver_value(record.value);
                }
            }
        }
    }

    /// What was to be read is compacted by now, or a state that was put in place leads beyond it.
    fn needs_no_disk(&mut self, now: Instant, purpose: Purpose) {
        let cx = &mut surroundings!(self, now);
        match purpose {
            Purpose::Promise(to, prepare) => {
                let chosen = self.learner.chosen().slot;
                self.acceptor.prepare(to, &prepare, chosen, cx);
            }
            Purpose::Pull(to, pull) => {
                let is_served = catchup::serve(to, &pull, &self.learner, &self.acceptor, cx);
                assert!(is_served, "slot {} is on no disk", pull.from);
            }
            // Delivery goes on in this step.
            Purpose::Deliver => {}
        }
    }
}
