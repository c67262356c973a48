//! The acceptor itself, with a disk and an outbox.

use super::{
    super::{Acceptor, Page},
    SELF, Step, Surroundings,
    rules::{Answer, Held},
};
use crate::{
    config::Config,
    message::{Accept, Accepted, Message, Prepare, Promise, Record, Reject, Watermark},
    port::{Recovered, WriteBatch},
    replica::{Effects, WriteId, context::Context, outbox::Outbox},
    types::{Ballot, ClusterId, Identity, Instant, NodeId, Slot, StoreId},
};

/// A disk that keeps every write apart from the last, which may still be lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    written: Held,
    pub(super) last_write: Option<WriteBatch>,
}

impl Disk {
    fn sync(&mut self) {
        let Some(batch) = self.last_write.take() else { return };
        let written = &mut self.written;
        written.promised = batch.promised.unwrap_or(written.promised);
        written.watermark = batch.chosen.map_or(written.watermark, |chosen| chosen.slot);
        for Record { slot, ballot, value } in batch.records {
            written.records.insert(slot, (ballot, value));
        }
    }

    fn recovered(&self) -> Recovered {
        let identity = Identity { cluster: ClusterId(1), node: SELF, store: StoreId(1) };
        Recovered {
            promised: self.written.promised,
            chosen: Watermark { slot: self.written.watermark, hash: 0 },
            records: self.written.report(self.written.watermark.next()),
            ..Recovered::first(identity)
        }
    }
}

/// The acceptor with what surrounds it.
#[derive(Clone, Debug)]
pub(super) struct Real {
    acceptor: Acceptor,
    out: Outbox,
    issued: WriteId,
    watermark: Slot,
    pub(super) disk: Disk,
}

impl Real {
    pub(super) fn start(disk: Disk, config: &Config) -> Real {
        let mut recovered = disk.recovered();
        let watermark = recovered.chosen;
        let acceptor = Acceptor::recovered(&mut recovered).expect("sound records");
        let out = Outbox::new(config, watermark);
        Real { acceptor, out, issued: WriteId(0), watermark: watermark.slot, disk }
    }

    /// Takes a step; returns what leaves at once.
    pub(super) fn step(&mut self, step: Step, around: &Surroundings) -> Vec<Answer> {
        assert!(self.out.admit(), "the disk keeps up");
        let mut rng = fastrand::Rng::with_seed(0);
        let cx = &mut Context {
            now: Instant::ZERO,
            config: &around.config,
            memberships: &around.memberships,
            out: &mut self.out,
            rng: &mut rng,
        };
        match step {
            Step::Prepare(ballot, from) => {
                let prepare = Prepare { ballot, from };
                let page = self.acceptor.prepare(ballot.node, &prepare, self.watermark, cx);
                if page == Page::OnDisk {
                    self.prepare_from_disk(&prepare);
                }
            }
            Step::Accept(ballot, slot) => {
                let value = around.values.get(ballot, slot);
                let accept = Accept { ballot, slot, value, chosen: Watermark::default() };
                self.acceptor.accept(ballot.node, accept, self.watermark, cx);
            }
            Step::Pulled(slot) => {
                let value = around.values.get(Ballot::CHOSEN, slot);
                self.acceptor.record_chosen(slot, value, cx.out);
            }
            Step::WatermarkMoves => self.watermark = self.watermark.next(),
            Step::Restart | Step::RestartWithoutLastWrite => {
                *self = Real::start(std::mem::take(&mut self.disk), &around.config);
            }
        }
        self.finish(around)
    }

    /// Answers with the page that is on disk only.
    fn prepare_from_disk(&mut self, prepare: &Prepare) {
        let (to, on_disk) = (prepare.ballot.node, self.acceptor.log().on_disk());
        let mut records = self.disk.written.report(prepare.from);
        records.retain(|record| record.slot <= on_disk);
        self.acceptor.prepare_from_disk(to, prepare, records, self.watermark, &mut self.out);
    }

    /// What leaves; to a page that says where the next one is, that one too. A write is issued, and
    /// not durable yet.
    fn finish(&mut self, around: &Surroundings) -> Vec<Answer> {
        let watermark = Watermark { slot: self.watermark, hash: 0 };
        let mut effects = Effects::default();
        self.out.finish(watermark, Instant::ZERO, &mut effects);
        if let Some((id, batch)) = effects.persist.take() {
            self.issued = id;
            self.disk.last_write = Some(batch);
        }
        let mut sent = std::mem::take(&mut effects.send);
        if let Some((to, Message::Promise(Promise { ballot, next: Some(next), .. }))) = sent.last()
        {
            let (to, next) = (*to, Prepare { ballot: *ballot, from: *next });
            let mut rng = fastrand::Rng::with_seed(0);
            let (now, config) = (Instant::ZERO, &around.config);
            let memberships = &around.memberships;
            let cx = &mut Context { now, config, memberships, out: &mut self.out, rng: &mut rng };
            let page = self.acceptor.prepare(to, &next, self.watermark, cx);
            assert_eq!(page, Page::Answered);
            self.out.finish(watermark, Instant::ZERO, &mut effects);
            sent.append(&mut effects.send);
        }
        answers(sent)
    }

    /// The last write becomes durable; returns what leaves now.
    pub(super) fn sync(&mut self, around: &Surroundings) -> Vec<Answer> {
        self.disk.sync();
        self.out.on_persisted(self.issued, Instant::ZERO);
        self.finish(around)
    }

    pub(super) fn held(&self) -> Held {
        let on_disk = self.acceptor.log().on_disk();
        let mut records = self.disk.written.records.clone();
        records.retain(|slot, _| *slot <= on_disk);
        let in_memory = self.acceptor.log().from(Slot::ZERO);
        records.extend(in_memory.map(|record| (record.slot, (record.ballot, record.value))));
        Held { promised: self.acceptor.promised(), records, watermark: self.watermark }
    }
}

/// The messages as answers; the pages of a promise are put together.
fn answers(messages: Vec<(NodeId, Message)>) -> Vec<Answer> {
    let mut answers: Vec<Answer> = Vec::new();
    let mut next_page = None;
    for (to, message) in messages {
        match message {
            Message::Promise(Promise { ballot, from, records, next, chosen, .. }) => {
                assert_eq!(to, ballot.node);
                if let Some(Answer::Promise { records: earlier, .. }) = answers.last_mut() {
                    assert_eq!(next_page, Some(from), "the pages fit");
                    earlier.extend(records);
                } else {
                    answers.push(Answer::Promise { ballot, from, records, chosen });
                }
                next_page = next;
            }
            Message::Accepted(Accepted { ballot, first, last }) => {
                assert_eq!(to, ballot.node);
                assert_eq!(first, last, "one vote at a time");
                answers.push(Answer::Accepted(ballot, first));
            }
            Message::Reject(Reject { ballot, promised }) => {
                assert_eq!(to, ballot.node);
                answers.push(Answer::Reject(ballot, promised));
            }
            other => panic!("an acceptor does not say {other:?}"),
        }
    }
    assert_eq!(next_page, None, "the last page says so");
    answers
}
