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

mod real;
mod rules;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::{
    real::{Disk, Real},
    rules::{Answer, Rules, Said},
};
use crate::{
    config::Config,
    replica::membership::Memberships,
    types::{Ballot, BatchBuilder, ClientId, Membership, NodeId, RequestId, Slot, Value},
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

struct Surroundings {
    config: Config,
    memberships: Memberships,
    values: Values,
    alphabet: Vec<Step>,
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
        memberships: Memberships::new(SELF, membership),
        values: Values::new(),
        alphabet: alphabet(),
    };
    let start = Pair {
        real: Real::start(Disk::default(), &around.config),
        rules: Rules::default(),
        said: Said::default(),
        waiting: None,
    };
    // The short ones first, so that a failure is as short as it can be.
    let explore = |depth| explore(&start, depth, &mut Trail(Vec::new()), &around);
    let sequences = (1..=DEPTH).map(explore).last();
    assert_eq!(sequences, Some(2_908_650), "the table allows this many");
}
