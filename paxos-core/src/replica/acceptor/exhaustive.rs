//! The acceptor against the rules of the paper, over every sequence of inputs up to a depth.
//!
//! The rules (Lamport 2001, section 2.2), as a table. `promised` and `record[s]` are what the
//! acceptor holds, `w` is the chosen watermark, `b`, `s`, `v` are those of the input:
//!
//! | input | if | then it holds | and answers |
//! |---|---|---|---|
//! | Prepare b from s | b < promised | what it held | Reject(promised), at once |
//! | | otherwise | promised = b | Promise(b, `record[s..]`), once durable |
//! | Accept b s v | b < promised | what it held | Reject(promised), at once |
//! | | s known chosen | promised = b | Accepted(b, s), once durable |
//! | | otherwise | promised = b, `record[s]` = (b, v) | Accepted(b, s), once durable |
//! | v chosen at s, from a peer | s known chosen | what it held | – |
//! | | otherwise | `record[s]` = (CHOSEN, v) | – |
//! | the watermark moves | `record[w + 1]` exists | w = w + 1 | – |
//! | restart | | what has been written | – |
//! | restart, last write lost | | what had been written before | – |
//!
//! A slot is known chosen if it lies at or below the watermark or its record is at CHOSEN. The
//! watermark never causes a write; it rides on the next.
//!
//! [`Rules`] is that table as code. Besides, the answers that ever left are held against what the
//! paper promises of them, so that a mistake in the table shows too: see [`Said`].

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Acceptor, Page};
use crate::{
    config::Config,
    message::{Accept, Accepted, Message, Prepare, Promise, Record, Reject, Watermark},
    port::{Recovered, SessionCheckpoint, WriteBatch},
    replica::{Effects, WriteId, context::Context, membership::Memberships, outbox::Outbox},
    types::{
        Ballot, BatchBuilder, ClientId, ClusterId, Identity, Instant, Membership, NodeId,
        RequestId, Slot, StoreId, Value,
    },
};

const DEPTH: usize = 6;
const SELF: NodeId = NodeId(1);
const BALLOTS: [Ballot; 2] =
    [Ballot { round: 1, node: NodeId(2) }, Ballot { round: 1, node: NodeId(3) }];
const SLOTS: [Slot; 2] = [Slot(1), Slot(2)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Prepare(Ballot, Slot),
    Accept(Ballot, Slot),
    Pulled(Slot),
    WatermarkMoves,
    Restart,
    RestartWithoutLastWrite,
}

fn alphabet() -> Vec<Step> {
    let pairs = || BALLOTS.into_iter().flat_map(|ballot| SLOTS.map(|slot| (ballot, slot)));
    let mut steps: Vec<_> = pairs().map(|(ballot, slot)| Step::Prepare(ballot, slot)).collect();
    steps.extend(pairs().map(|(ballot, slot)| Step::Accept(ballot, slot)));
    steps.extend(SLOTS.map(Step::Pulled));
    steps.extend([Step::WatermarkMoves, Step::Restart, Step::RestartWithoutLastWrite]);
    steps
}

/// Another value for every ballot and slot, so that every overwriting shows.
#[derive(Debug)]
struct Values(BTreeMap<(Ballot, Slot), Value>);

impl Values {
    fn new() -> Values {
        let ballots = [BALLOTS[0], BALLOTS[1], Ballot::CHOSEN].into_iter();
        let pairs = ballots.flat_map(|ballot| SLOTS.map(|slot| (ballot, slot)));
        let value = |(number, pair)| {
            let mut builder = BatchBuilder::default();
            let client = ClientId { name: number, epoch: 1 };
            builder.push(RequestId { client, sequence: 1 }, 1, Bytes::from_static(b"x"));
            (pair, Value::Batch(builder.build().expect("one command")))
        };
        Values((10..).zip(pairs).map(value).collect())
    }

    fn get(&self, ballot: Ballot, slot: Slot) -> Value {
        self.0[&(ballot, slot)].clone()
    }
}

/// What an acceptor holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    promised: Ballot,
    records: BTreeMap<Slot, (Ballot, Value)>,
    watermark: Slot,
}

impl Held {
    fn is_known_chosen(&self, slot: Slot) -> bool {
        let at_chosen = |(ballot, _): &(Ballot, Value)| *ballot == Ballot::CHOSEN;
        slot <= self.watermark || self.records.get(&slot).is_some_and(at_chosen)
    }

    fn report(&self, from: Slot) -> Vec<Record> {
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
enum Answer {
    Promise { ballot: Ballot, from: Slot, records: Vec<Record>, chosen: Slot },
    Accepted(Ballot, Slot),
    Reject(Ballot, Ballot),
}

/// The table at the top, as code.
#[derive(Clone, Debug, Default)]
struct Rules {
    held: Held,
    written: Held,
    /// What was written before the last write, as long as that may be lost.
    written_before: Option<Held>,
}

impl Rules {
    /// Takes a step; `None` if it cannot occur now.
    fn step(&mut self, step: Step, values: &Values) -> Option<Option<Answer>> {
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
struct Said {
    promised: Ballot,
    /// The highest ballot of a vote per slot. Votes for a slot that was known chosen are left out:
    /// its record may stay at a lower ballot, because no higher ballot can have another value.
    voted: BTreeMap<Slot, Ballot>,
}

impl Said {
    fn note(&mut self, answer: &Answer, is_known_chosen: bool) {
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

/// A disk that keeps every write apart from the last, which may still be lost.
#[derive(Clone, Debug, Default)]
struct Disk {
    written: Held,
    last_write: Option<WriteBatch>,
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
        Recovered {
            identity: Identity { cluster: ClusterId(1), node: SELF, store: StoreId(1) },
            incarnation: 1,
            promised: self.written.promised,
            chosen: Watermark { slot: self.written.watermark, hash: 0 },
            floor: Slot::ZERO,
            records: self.written.report(self.written.watermark.next()),
            sessions: SessionCheckpoint::default(),
            peers: BTreeMap::new(),
        }
    }
}

/// The acceptor with what surrounds it.
#[derive(Clone, Debug)]
struct Real {
    acceptor: Acceptor,
    out: Outbox,
    issued: WriteId,
    watermark: Slot,
    disk: Disk,
}

struct Surroundings {
    config: Config,
    memberships: Memberships,
    values: Values,
    alphabet: Vec<Step>,
}

impl Real {
    fn start(disk: Disk) -> Real {
        let mut recovered = disk.recovered();
        let watermark = recovered.chosen;
        let acceptor = Acceptor::recovered(&mut recovered).expect("sound records");
        let out = Outbox::new(SELF, watermark, usize::MAX);
        Real { acceptor, out, issued: WriteId(0), watermark: watermark.slot, disk }
    }

    /// Takes a step; returns what leaves at once.
    fn step(&mut self, step: Step, around: &Surroundings) -> Vec<Answer> {
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
                *self = Real::start(std::mem::take(&mut self.disk));
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
    fn sync(&mut self, around: &Surroundings) -> Vec<Answer> {
        self.disk.sync();
        self.out.on_persisted(self.issued, Instant::ZERO);
        self.finish(around)
    }

    fn held(&self) -> Held {
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

/// The acceptor and the rules side by side.
#[derive(Clone, Debug)]
struct Pair {
    real: Real,
    rules: Rules,
    said: Said,
    /// The answer that waits for the last write, and whether its slot was known chosen.
    waiting: Option<(Answer, bool)>,
}

impl Pair {
    /// Takes a step on both sides and compares them; `false` if it cannot occur now.
    fn step(&mut self, step: Step, around: &Surroundings) -> bool {
        let before = self.rules.held.clone();
        let Some(expected) = self.rules.step(step, &around.values) else { return false };
        let waiting = self.waiting.take();
        if step == Step::RestartWithoutLastWrite {
            self.real.disk.last_write = None;
        } else {
            // The answers that this releases were compared when the write was issued.
            self.real.sync(around);
            if let Some((answer, is_known_chosen)) = waiting {
                self.said.note(&answer, is_known_chosen);
            }
        }
        let left = self.real.step(step, around);
        assert_eq!(self.real.held(), self.rules.held);
        let writes = self.rules.written_before.is_some();
        assert_eq!(self.real.disk.last_write.is_some(), writes, "what changes is written");
        let Some(expected) = expected else {
            assert_eq!(left, []);
            return true;
        };
        let is_known_chosen =
            matches!(expected, Answer::Accepted(_, slot) if before.is_known_chosen(slot));
        if writes {
            assert_eq!(left, [], "left before the disk");
            assert_eq!(self.real.clone().sync(around), std::slice::from_ref(&expected));
            self.waiting = Some((expected, is_known_chosen));
        } else {
            self.said.note(&expected, is_known_chosen);
            assert_eq!(left, [expected]);
        }
        true
    }
}

/// The steps so far; says which they were if a comparison fails.
struct Trail(Vec<Step>);

impl Drop for Trail {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after {:?}", self.0);
        }
    }
}

/// Continues `pair` with every sequence of at most `depth` steps; returns how many there are.
fn explore(pair: &Pair, depth: usize, trail: &mut Trail, around: &Surroundings) -> u64 {
    let mut sequences = 1;
    if depth == 0 {
        return sequences;
    }
    for &step in &around.alphabet {
        let mut next = pair.clone();
        trail.0.push(step);
        if next.step(step, around) {
            sequences += explore(&next, depth - 1, trail, around);
        }
        trail.0.pop();
    }
    sequences
}

#[test]
fn every_sequence_of_inputs_obeys_the_rules() {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three voters");
    let around = Surroundings {
        config: Config::new(SELF, membership.clone()),
        memberships: Memberships::new(membership),
        values: Values::new(),
        alphabet: alphabet(),
    };
    let start = Pair {
        real: Real::start(Disk::default()),
        rules: Rules::default(),
        said: Said::default(),
        waiting: None,
    };
    // The short ones first, so that a failure is as short as it can be.
    let explore = |depth| explore(&start, depth, &mut Trail(Vec::new()), &around);
    let sequences = (1..=DEPTH).map(explore).last();
    assert_eq!(sequences, Some(2_908_650), "the table allows this many");
}
