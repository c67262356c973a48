//! Messages of every kind, as a script decides.

use std::sync::Arc;

use bytes::Bytes;

use super::{Script, Usual};
use crate::{
    message::{
        Accept, Accepted, ChangeRefused, ChosenUpTo, Compare, Compared, Heartbeat, HeartbeatReply,
        Joined, Message, NotReady, Offered, Poll, PollReply, Prepare, Promise, Propose, Pull,
        PullState, Pulled, PulledState, ReadReply, ReadRequest, Reconfigure, Record, Reject,
        Removed, Sound, Sounded, StateDigest, StateEnd, TakeOver, Watermark,
    },
    port::StateSummary,
    types::{
        BatchBuilder, Change, ClientId, MemberRole, Membership, NodeId, Reconfiguration, RequestId,
        Value,
    },
};

fn joined(script: &mut Script<'_>, usual: &Usual) -> Joined {
    Joined { first: membership(script), chosen: script.slot(usual) }
}

fn heartbeat_reply(script: &mut Script<'_>, usual: &Usual) -> HeartbeatReply {
    HeartbeatReply {
        ballot: script.ballot(usual),
        round: number(script, usual),
        chosen: watermark(script, usual),
        highest_accepted: script.slot(usual),
        can_write: script.below(4) > 0,
    }
}

/// A message. It need not make sense, but its encoding is one of the format.
pub(crate) fn message(script: &mut Script<'_>, usual: &Usual) -> Message {
    match script.below(27) {
        0 => Message::Poll(Poll {
            number: number(script, usual),
            chosen: script.slot(usual),
            leave: script.flag().then(|| script.ballot(usual)),
        }),
        1 => Message::PollReply(PollReply {
            number: number(script, usual),
            granted: script.flag(),
            promised: script.ballot(usual),
            leader: script.flag().then(|| script.ballot(usual)),
            chosen: script.slot(usual),
        }),
        2 => Message::Prepare(Prepare { ballot: script.ballot(usual), from: script.slot(usual) }),
        3 => Message::Promise(Promise {
            ballot: script.ballot(usual),
            from: script.slot(usual),
            records: (0..script.below(4)).map(|_| record(script, usual)).collect(),
            next: script.flag().then(|| script.slot(usual)),
            chosen: script.slot(usual),
            floor: script.slot(usual),
        }),
        4 => Message::Accept(Accept {
            ballot: script.ballot(usual),
            slot: script.slot(usual),
            value: value(script),
            chosen: watermark(script, usual),
        }),
        5 => Message::Accepted(Accepted {
            ballot: script.ballot(usual),
            first: script.slot(usual),
            last: script.slot(usual),
        }),
        6 => {
            Message::Reject(Reject { ballot: script.ballot(usual), promised: script.ballot(usual) })
        }
        7 => Message::Chosen(ChosenUpTo {
            ballot: script.ballot(usual),
            chosen: watermark(script, usual),
        }),
        8 => Message::Heartbeat(Heartbeat {
            ballot: script.ballot(usual),
            round: number(script, usual),
            chosen: watermark(script, usual),
        }),
        9 => Message::HeartbeatReply(heartbeat_reply(script, usual)),
        10 => Message::Pull(Pull {
            number: number(script, usual),
            from: script.slot(usual),
            to: script.slot(usual),
        }),
        11 => Message::Pulled(pulled(script, usual)),
        15 => Message::PullState(PullState {
            number: number(script, usual),
            chosen: script.slot(usual),
            slot: script.slot(usual),
            offset: script.number(&[0, 3]),
        }),
        16 => Message::PulledState(state_piece(script, usual)),
        17 => Message::Compare(Compare { at: watermark(script, usual) }),
        18 => Message::Compared(Compared {
            slot: script.slot(usual),
            hash: script.number(&usual.hashes),
        }),
        20 => Message::Reconfigure(Reconfigure { membership: membership(script) }),
        21 => Message::ChangeRefused(ChangeRefused {
            version: script.number(&[0, 1]),
            reason: NotReady::NoQuorum,
        }),
        26 => handover(script, usual),
        22 => Message::Removed(Removed { version: script.number(&[0, 1]) }),
        23 => Message::Join,
        24 => Message::Joined(joined(script, usual)),
        25 => Message::Offered(offered(script, usual)),
        19 => Message::StateDigest(StateDigest {
            slot: script.slot(usual),
            digest: script.number(&usual.hashes),
        }),
        12 => Message::Propose(Propose {
            client: client(script),
            open_from: script.number(&[1, 2]),
            commands: (0..script.below(4))
                .map(|_| (script.number(&[1, 2, 3]), command(script)))
                .collect(),
            hops: script.byte() % 3,
        }),
        13 => Message::Read(ReadRequest {
            client: client(script),
            number: number(script, usual),
            hops: script.byte() % 3,
        }),
        _ => Message::ReadReply(ReadReply {
            client: client(script),
            number: number(script, usual),
            index: script.slot(usual),
        }),
    }
}

/// What is said when the leadership goes to another node.
fn handover(script: &mut Script<'_>, usual: &Usual) -> Message {
    let (ballot, number) = (script.ballot(usual), number(script, usual));
    match script.below(3) {
        0 => Message::Sound(Sound { ballot, number }),
        1 => Message::Sounded(Sounded { ballot, number }),
        _ => Message::TakeOver(TakeOver { ballot, number, chosen: script.slot(usual) }),
    }
}

/// A piece of a state, which may be the last.
fn pulled(script: &mut Script<'_>, usual: &Usual) -> Pulled {
    Pulled {
        number: number(script, usual),
        values: (0..script.below(4)).map(|_| (script.slot(usual), value(script))).collect(),
        chosen: script.slot(usual),
        floor: script.slot(usual),
    }
}

fn offered(script: &mut Script<'_>, usual: &Usual) -> Offered {
    let (ballot, client) = (script.ballot(usual), client(script));
    let id = RequestId { client, sequence: script.number(&[1, 2, 3]) };
    Offered { ballot, id, bytes: script.number(&[1, 100]) }
}

fn state_piece(script: &mut Script<'_>, usual: &Usual) -> PulledState {
    let end = script.flag().then(|| {
        let summary =
            StateSummary { bytes: script.number(&[3]), hash: script.number(&usual.hashes) };
        Box::new(StateEnd { summary, sessions: command(script), memberships: command(script) })
    });
    PulledState {
        number: number(script, usual),
        at: watermark(script, usual),
        stamp: script.number(&[1]),
        offset: script.number(&[0, 3]),
        bytes: command(script),
        end,
    }
}

/// A membership of three nodes, or four.
fn membership(script: &mut Script<'_>) -> Arc<Membership> {
    let mut membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three voters");
    for _ in 0..script.below(3) {
        let node = NodeId(script.number(&[1, 2, 3, 4]));
        let role = if script.flag() { MemberRole::Voter } else { MemberRole::Learner };
        let change = match script.below(4) {
            0 => Change::Window(script.number(&[1, 8])),
            1 => Change::Add { node, address: String::new(), role },
            2 => Change::Remove { node },
            _ => Change::Role { node, role },
        };
        membership = membership.changed(&change).unwrap_or(membership);
    }
    Arc::new(membership)
}

/// A noop, a batch or a change of the membership.
pub(crate) fn value(script: &mut Script<'_>) -> Value {
    if script.below(16) == 0 {
        return Value::Reconfigure(Reconfiguration::new(membership(script)));
    }
    let mut builder = BatchBuilder::default();
    for _ in 0..script.below(5) {
        // A builder takes what its caller has checked, and so much is checked by all callers.
        let sequence = script.number(&[1, 2, 3]).clamp(1, u64::MAX - 1);
        let open_from = script.number(&[1, sequence]).min(sequence);
        let id = RequestId { client: client(script), sequence };
        builder.push(id, open_from, command(script));
    }
    builder.build().map_or(Value::Noop, Value::Batch)
}

fn record(script: &mut Script<'_>, usual: &Usual) -> Record {
    Record { slot: script.slot(usual), ballot: script.ballot(usual), value: value(script) }
}

fn watermark(script: &mut Script<'_>, usual: &Usual) -> Watermark {
    Watermark { slot: script.slot(usual), hash: script.number(&usual.hashes) }
}

fn number(script: &mut Script<'_>, usual: &Usual) -> u64 {
    script.number(&usual.numbers)
}

fn client(script: &mut Script<'_>) -> ClientId {
    ClientId { name: script.number(&[1, 2, 3, 100]), epoch: script.number(&[1]) }
}

fn command(script: &mut Script<'_>) -> Bytes {
    let len = script.below(32);
    Bytes::copy_from_slice(script.take(len))
}
