//! Fuzz targets for what only the replica sees: session tables, and whatever a peer may send.
//!
//! What a peer sends never panics. It may make no sense, and then it is passed over. It may claim
//! what no correct node ever claims, such as another value for a chosen slot: then the replica may
//! halt, which is an effect like any other, but it must not fall.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use bytes::Bytes;

use super::{
    Delivery, Effects, Input, LogRead, Proposal, Replica, StateRead, Task, WriteId,
    sessions::SessionTable,
};
use crate::{
    config::Config,
    fuzz::{Script, Usual, damage, message, value},
    message::{
        Accepted, HeartbeatReply, Message, PollReply, Promise, PullState, Pulled, PulledState,
        Record, StateEnd, Watermark,
    },
    port::{Checkpoint, Recovered, StateHasher, cut_off},
    types::{
        Ballot, ClusterId, Identity, Instant, Membership, NodeId, ReadMode, Slot, StoreId, Value,
    },
};

const SELF: NodeId = NodeId(1);

/// A replica, its disk and its state machine, among peers that say anything.
struct Rig {
    replica: Replica<()>,
    now: Instant,
    usual: Usual,
    /// What it has said, for the peers to answer.
    said: Vec<(NodeId, Message)>,
    disk: BTreeMap<Slot, Record>,
    written: WriteId,
    log_reads: Vec<LogRead>,
    state_reads: Vec<StateRead>,
    keeps_itself: bool,
    delivered: Slot,
    halted: bool,
}

impl Rig {
    fn new(script: &mut Script<'_>) -> Rig {
        let voters = [1, 3, 5][script.below(3)];
        let membership = Membership::new((1..=voters).map(|id| (id, ""))).expect("a cluster");
        let config = Config {
            // So little that the log is soon read from disk.
            cache_bytes_max: [1, 200, 1 << 20][script.below(3)],
            checkpoint_slots: 3,
            ..Config::new(SELF, membership)
        };
        let identity = Identity { cluster: ClusterId(1), node: SELF, store: StoreId(1) };
        let incarnation = 1 + u64::from(script.byte() % 2);
        let recovered = Recovered { incarnation, ..Recovered::first(identity) };
        let keeps_itself = script.flag();
        let durable = keeps_itself.then_some(Slot::ZERO);
        Rig {
            replica: Replica::new(config, recovered, durable, Instant::ZERO)
                .expect("sound settings"),
            now: Instant::ZERO,
            usual: Usual::default(),
            said: Vec::new(),
            disk: BTreeMap::new(),
            written: WriteId(0),
            log_reads: Vec::new(),
            state_reads: Vec::new(),
            keeps_itself,
            delivered: Slot::ZERO,
            halted: false,
        }
    }

    /// Does what the script says next.
    fn act(&mut self, script: &mut Script<'_>) {
        let from = NodeId(script.number(&[2, 3]));
        match script.below(20) {
            0..=4 => {
                let message = message(script, &self.usual);
                self.hear(from, &message);
            }
            5 | 6 => {
                let len = script.below(256);
                if let Ok(message) = Message::decode(Bytes::copy_from_slice(script.take(len))) {
                    self.step(Input::Message { from, message });
                }
            }
            7..=9 => self.answer(script),
            10 => {
                self.now = self.now.after(Duration::from_millis(u64::from(script.byte()) * 10));
                self.step(Input::Tick);
            }
            11 => self.step(Input::Persisted(self.written)),
            12 => {
                let slot = self.delivered;
                self.step(Input::Applied { slot, durable: self.keeps_itself.then_some(slot) });
            }
            13 => {
                let len = script.below(64);
                let command = Bytes::copy_from_slice(script.take(len));
                let deadline = self.now.after(Duration::from_millis(u64::from(script.byte())));
                self.step(Input::Propose(Proposal { id: None, command, deadline, waiter: () }));
            }
            14 => {
                let number = u64::from(script.byte());
                let slot = Slot(script.number(&[1, self.delivered.0]));
                let modes = [ReadMode::Quorum, ReadMode::AtLeast(slot), ReadMode::Local];
                let mode = modes[script.below(modes.len())];
                self.step(Input::Read { number, mode });
            }
            15 => self.read_log(),
            16 => self.step(Input::Lost(from)),
            17 => {
                let deadline = self.now.after(Duration::from_millis(u64::from(script.byte()) * 10));
                let to = script.flag().then_some(from);
                self.step(Input::Transfer { number: 1, to, deadline });
            }
            _ => self.read_state(script),
        }
    }

    /// A peer says what it can say on the wire.
    fn hear(&mut self, from: NodeId, message: &Message) {
        let parts: Vec<Bytes> = message.encode().parts().cloned().collect();
        let message = Message::decode(parts.concat().into()).expect("an encoding of our own");
        self.step(Input::Message { from, message });
    }

    /// A peer answers what the replica said last as a correct one would, if it asked something.
    fn answer(&mut self, script: &mut Script<'_>) {
        if self.said.is_empty() {
            return;
        }
        let back = script.below(self.said.len().min(8));
        let (to, said) = self.said[self.said.len() - 1 - back].clone();
        let status = self.replica.status(self.now);
        let answer = match said {
            Message::Poll(poll) => Message::PollReply(PollReply {
                number: poll.number,
                granted: true,
                promised: Ballot::ZERO,
                leader: None,
                chosen: Slot::ZERO,
            }),
            Message::Prepare(prepare) => Message::Promise(Promise {
                ballot: prepare.ballot,
                from: prepare.from,
                records: Vec::new(),
                next: None,
                chosen: Slot::ZERO,
                floor: Slot::ZERO,
            }),
            Message::Accept(accept) => Message::Accepted(Accepted {
                ballot: accept.ballot,
                first: accept.slot,
                last: accept.slot,
            }),
            Message::Pull(pull) => Message::Pulled(Pulled {
                number: pull.number,
                values: Vec::new(),
                chosen: Slot(1000),
                floor: Slot(500),
            }),
            Message::PullState(pull) => {
                let bytes = Bytes::copy_from_slice(script.take(3));
                let (at, stamp) = (Watermark { slot: Slot(1000), hash: 7 }, 1);
                let mut sent = StateHasher::default();
                sent.update(&bytes);
                let first = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three voters");
                let end = StateEnd {
                    summary: sent.summary(),
                    sessions: Bytes::new(),
                    memberships: super::membership::Memberships::new(SELF, first).encode(),
                };
                let end = (pull.offset == 0 && script.flag()).then(|| Box::new(end));
                let PullState { number, offset, .. } = pull;
                Message::PulledState(PulledState { number, at, stamp, offset, bytes, end })
            }
            Message::Heartbeat(heartbeat) => Message::HeartbeatReply(HeartbeatReply {
                ballot: heartbeat.ballot,
                round: heartbeat.round,
                chosen: Watermark::default(),
                highest_accepted: status.highest_accepted,
                can_write: true,
            }),
            _ => return,
        };
        self.hear(to, &answer);
    }

    /// The disk answers the oldest request for a piece of the log.
    fn read_log(&mut self) {
        if self.log_reads.is_empty() {
            return;
        }
        let LogRead { id, slots, bytes_max } = self.log_reads.remove(0);
        // A map takes no range that ends before it begins.
        let found = (!slots.is_empty()).then(|| self.disk.range(slots)).into_iter().flatten();
        let found = found.map(|(_, record)| Ok::<_, Infallible>(record.clone()));
        let Ok(records) = cut_off(found, bytes_max);
        self.step(Input::LogRead { id, records });
    }

    /// The oldest request for a piece of a state is answered with any bytes.
    fn read_state(&mut self, script: &mut Script<'_>) {
        if !self.state_reads.is_empty() {
            let StateRead { id, bytes_max, .. } = self.state_reads.remove(0);
            let len = script.below(8).min(bytes_max);
            self.step(Input::StateRead { id, bytes: Bytes::copy_from_slice(script.take(len)) });
        }
    }

    fn step(&mut self, input: Input<()>) {
        let mut effects = self.replica.step(self.now, input);
        let peers: Vec<_> = self.replica.config.membership.peers_of(SELF).collect();
        effects.address(peers.into_iter());
        if effects.halt.is_some() {
            self.halted = true;
            return;
        }
        self.replica.check_invariants();
        self.carry_out(effects);
        let status = self.replica.status(self.now);
        let ballot = status.ballot;
        let next = Ballot { round: ballot.round.saturating_add(1), node: NodeId(2) };
        self.usual.ballots.truncate(4);
        self.usual.ballots.splice(..0, [ballot, next]);
        self.usual.slots =
            vec![status.chosen, status.chosen.next(), status.highest_accepted, Slot(1)];
    }

    /// Whatever leaves the replica has to be readable for others, and for itself after a restart.
    fn carry_out(&mut self, effects: Effects) {
        for (to, message) in effects.send {
            let parts: Vec<Bytes> = message.encode().parts().cloned().collect();
            assert_eq!(Message::decode(parts.concat().into()).as_ref(), Ok(&message));
            let number = match &message {
                Message::Poll(poll) => poll.number,
                Message::Heartbeat(heartbeat) => heartbeat.round,
                Message::Pull(pull) => pull.number,
                Message::PullState(pull) => pull.number,
                Message::Read(read) => read.number,
                _ => 0,
            };
            self.usual.numbers.truncate(4);
            self.usual.numbers.insert(0, number);
            self.said.push((to, message));
        }
        if let Some((id, batch)) = effects.persist {
            self.written = id;
            for record in batch.records {
                self.disk.insert(record.slot, record);
            }
            if let Some(checkpoint) = batch.checkpoint {
                assert!(restore(&checkpoint).is_some(), "a restart can read it");
            }
        }
        self.log_reads.extend(effects.log_reads);
        self.state_reads.extend(effects.state_reads);
        for task in effects.tasks {
            match task {
                Task::Apply(Delivery { slot, .. }) => {
                    assert_eq!(slot, self.delivered.next(), "invariant 6: each slot once");
                    self.delivered = slot;
                }
                Task::Restore(slot) => {
                    assert!(slot > self.delivered, "invariant 6: no state goes back");
                    self.delivered = slot;
                }
                Task::Freeze(_) | Task::Digest(_) => {}
            }
        }
        self.said.drain(..self.said.len().saturating_sub(32));
    }
}

fn as_of(slot: Slot, sessions: Bytes) -> Checkpoint {
    Checkpoint { at: Watermark { slot, hash: 0 }, sessions, state: None }
}

fn restore(checkpoint: &Checkpoint) -> Option<SessionTable> {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three voters");
    SessionTable::restore(checkpoint, &membership, crate::limits::SESSIONS_BYTES_MAX).ok()
}

/// Takes in a few batches as a script decides.
fn use_table(table: &mut SessionTable, script: &mut Script<'_>) {
    for _ in 0..1 + script.below(3) {
        let Value::Batch(batch) = value(script) else { continue };
        let verdicts = table.take_in(table.slot().next(), Some(&batch));
        let mut end = 0;
        for (range, _) in verdicts {
            assert_eq!(range.start, end, "a verdict on each command, in order");
            end = range.end;
        }
        assert_eq!(end, batch.len());
    }
}

/// A table that decodes is written again as it was, and can be used.
fn check_sessions(bytes: &[u8], script: &mut Script<'_>) {
    let Some(mut table) = restore(&as_of(Slot(5), Bytes::copy_from_slice(bytes))) else { return };
    assert_eq!(restore(&as_of(table.slot(), table.encode())).as_ref(), Some(&table));
    use_table(&mut table, script);
}

#[test]
fn sessions() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let script = &mut Script::new(bytes);
        check_sessions(bytes, script);
        let mut table = restore(&Checkpoint::default()).expect("an empty table");
        use_table(&mut table, script);
        let mut encoded = table.encode().to_vec();
        assert_eq!(restore(&as_of(table.slot(), table.encode())), Some(table));
        damage(script, &mut encoded);
        check_sessions(&encoded, script);
    });
}

#[test]
fn peers() {
    let scripts = bolero::produce::<Vec<u8>>().with().len(0..=4096_usize);
    bolero::check!().with_max_len(8192).with_generator(scripts).for_each(|bytes: &Vec<u8>| {
        let script = &mut Script::new(bytes);
        let mut rig = Rig::new(script);
        while !script.is_over() && !rig.halted {
            rig.act(script);
        }
    });
}
