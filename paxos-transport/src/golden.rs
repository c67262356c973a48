//! What is said on the wire, byte by byte: in `tests/data/wire-3.txt`, a line for each.
//!
//! Nodes of one protocol version understand each other because it stays as it is. A change makes
//! another version, with a file of its own, which is written by
//!
//! ```sh
//! UPDATE_FORMATS=1 cargo test -p paxos-transport --lib golden
//! ```

use std::{env, fmt::Write, fs, path::PathBuf, sync::Arc};

use bytes::{Buf, Bytes};
use paxos_core::{
    message::{
        Accept, Accepted, ChangeRefused, ChosenUpTo, Compare, Compared, Heartbeat, HeartbeatReply,
        Joined, Message, NotReady, Offered, Poll, PollReply, Prepare, Promise, Propose, Pull,
        PullState, Pulled, PulledState, ReadReply, ReadRequest, Reconfigure, Record, Reject,
        Removed, Sound, Sounded, StateDigest, StateEnd, TakeOver, Watermark,
    },
    port::StateSummary,
    types::{
        Ballot, BatchBuilder, Change, ClientId, MemberRole, Membership, NodeId, RequestId, Slot,
        Value,
    },
};

use crate::{
    frame::{Frames, tests::batch},
    handshake::{VERSION, fuzz as words},
};

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: NodeId(2) }
}

fn client() -> ClientId {
    ClientId { name: 3, epoch: 400 }
}

fn value() -> Value {
    let mut builder = BatchBuilder::default();
    for sequence in [300, 301] {
        let id = RequestId { client: client(), sequence };
        builder.push(id, 299, Bytes::from(format!("command {sequence}")));
    }
    Value::Batch(builder.build().expect("two commands"))
}

/// Of three voters and a learner.
fn membership() -> Membership {
    let three = Membership::new([(1, "a:1"), (2, "b:2"), (3, "c:3")]).expect("three voters");
    let (node, address) = (NodeId(4), "d:4".to_owned());
    three.changed(&Change::Add { node, address, role: MemberRole::Learner }).expect("a fourth")
}

/// One of each kind.
fn messages() -> Vec<Message> {
    let (number, round, hops) = (70_000, 9, 1);
    let (chosen, floor) = (Slot(1000), Slot(12));
    let (first, last) = (Slot(1001), Slot(1008));
    let watermark = Watermark { slot: chosen, hash: 0x0123_4567_89ab_cdef };
    let record = |slot, ballot, value| Record { slot, ballot, value };
    vec![
        Message::Poll(Poll { number, chosen, leave: None }),
        Message::PollReply(PollReply {
            number,
            granted: true,
            promised: ballot(8),
            leader: Some(ballot(7)),
            chosen,
        }),
        Message::Prepare(Prepare { ballot: ballot(round), from: first }),
        Message::Promise(Promise {
            ballot: ballot(round),
            from: first,
            records: vec![
                record(first, ballot(7), value()),
                record(last, Ballot::CHOSEN, Value::Noop),
            ],
            next: Some(last.next()),
            chosen,
            floor,
        }),
        Message::Accept(Accept {
            ballot: ballot(round),
            slot: first,
            value: value(),
            chosen: watermark,
        }),
        Message::Accepted(Accepted { ballot: ballot(round), first, last }),
        Message::Reject(Reject { ballot: ballot(8), promised: ballot(round) }),
        Message::Chosen(ChosenUpTo { ballot: ballot(round), chosen: watermark }),
        Message::Heartbeat(Heartbeat { ballot: ballot(round), round, chosen: watermark }),
        Message::HeartbeatReply(HeartbeatReply {
            ballot: ballot(round),
            round,
            chosen: watermark,
            highest_accepted: last,
            can_write: true,
        }),
        Message::Compare(Compare { at: watermark }),
        Message::Compared(Compared { slot: chosen, hash: watermark.hash }),
        Message::Pull(Pull { number, from: first, to: last }),
        Message::Pulled(Pulled { number, values: vec![(first, value())], chosen, floor }),
        Message::PullState(PullState { number, chosen, slot: last, offset: 128 }),
        Message::PulledState(PulledState {
            number,
            at: watermark,
            stamp: 7,
            offset: 128,
            bytes: Bytes::from_static(b"the rest"),
            end: Some(Box::new(StateEnd {
                summary: StateSummary { bytes: 136, hash: 0xfedc_ba98_7654_3210 },
                sessions: Bytes::from_static(b"sessions"),
                memberships: Bytes::from_static(b"memberships"),
            })),
        }),
        Message::Propose(Propose {
            client: client(),
            open_from: 299,
            commands: vec![(300, Bytes::from_static(b"a command"))],
            hops,
        }),
        Message::Read(ReadRequest { client: client(), number, hops }),
        Message::ReadReply(ReadReply { client: client(), number, index: chosen }),
        Message::StateDigest(StateDigest { slot: chosen, digest: watermark.hash }),
        Message::Reconfigure(Reconfigure { membership: Arc::new(membership()) }),
        Message::ChangeRefused(ChangeRefused { version: 3, reason: NotReady::Behind(NodeId(4)) }),
        Message::Removed(Removed { version: 3 }),
        Message::Join,
        Message::Joined(Joined { first: Arc::new(membership()), chosen }),
        Message::Offered(Offered {
            ballot: ballot(round),
            id: RequestId { client: client(), sequence: 300 },
            bytes: 9,
        }),
        Message::Sound(Sound { ballot: ballot(round), number }),
        Message::Sounded(Sounded { ballot: ballot(round), number }),
        Message::TakeOver(TakeOver { ballot: ballot(round), number, chosen }),
    ]
}

/// Without an arm for all others, so that a new kind gets a line as well.
fn name(message: &Message) -> &'static str {
    match message {
        Message::Poll(_) => "poll",
        Message::PollReply(_) => "poll-reply",
        Message::Prepare(_) => "prepare",
        Message::Promise(_) => "promise",
        Message::Accept(_) => "accept",
        Message::Accepted(_) => "accepted",
        Message::Reject(_) => "reject",
        Message::Chosen(_) => "chosen",
        Message::Heartbeat(_) => "heartbeat",
        Message::HeartbeatReply(_) => "heartbeat-reply",
        Message::Compare(_) => "compare",
        Message::Compared(_) => "compared",
        Message::Pull(_) => "pull",
        Message::Pulled(_) => "pulled",
        Message::PullState(_) => "pull-state",
        Message::PulledState(_) => "pulled-state",
        Message::Propose(_) => "propose",
        Message::Read(_) => "read",
        Message::ReadReply(_) => "read-reply",
        Message::StateDigest(_) => "state-digest",
        Message::Reconfigure(_) => "reconfigure",
        Message::ChangeRefused(_) => "change-refused",
        Message::Removed(_) => "removed",
        Message::Join => "join",
        Message::Joined(_) => "joined",
        Message::Offered(_) => "offered",
        Message::Sound(_) => "sound",
        Message::Sounded(_) => "sounded",
        Message::TakeOver(_) => "take-over",
    }
}

/// What this version says: who dials, who listens and who refuses, and a frame of each kind.
fn said() -> Vec<(String, Vec<u8>)> {
    let mut said = vec![
        ("handshake of the dialler".to_owned(), words::dialler_words()),
        ("handshake of the listener".to_owned(), words::listener_words()),
        ("handshake that refuses".to_owned(), words::refusal_words()),
    ];
    for message in messages() {
        let mut batch = batch(std::slice::from_ref(&message));
        said.push((name(&message).to_owned(), batch.copy_to_bytes(batch.remaining()).to_vec()));
    }
    said
}

fn file() -> PathBuf {
    let name = format!("tests/data/wire-{VERSION}.txt");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("memory");
        text
    })
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("two digits");
    (0..text.len()).step_by(2).map(digits).collect()
}

/// The lines of the file: what it is, and its bytes.
fn golden() -> Vec<(String, Vec<u8>)> {
    let text = fs::read_to_string(file()).expect("the file");
    let line = |line: &str| {
        let (name, bytes) = line.split_once(": ").expect("a name and bytes");
        (name.to_owned(), from_hex(bytes))
    };
    text.lines().map(line).collect()
}

#[test]
fn what_is_said_is_what_this_version_has_always_said() {
    let said = said();
    if env::var_os("UPDATE_FORMATS").is_some() {
        let line = |(name, bytes): &(String, Vec<u8>)| format!("{name}: {}\n", in_hex(bytes));
        fs::create_dir_all(file().parent().expect("in a directory")).expect("a directory");
        fs::write(file(), said.iter().map(line).collect::<String>()).expect("a file");
    }
    let golden = golden();
    assert_eq!(golden.len(), said.len(), "a line for each");
    for ((name, expected), (of, bytes)) in golden.iter().zip(&said) {
        assert_eq!((name, in_hex(expected)), (of, in_hex(bytes)), "another protocol version");
    }
}

#[test]
fn what_this_version_has_always_said_is_understood() {
    let (handshakes, frames): (Vec<_>, Vec<_>) =
        golden().into_iter().partition(|(name, _)| name.starts_with("handshake"));
    let [dialler, listener, refusal] = &handshakes[..] else { panic!("three handshakes") };
    words::check_introductions(&dialler.1, &listener.1);
    words::check_refusal(&refusal.1);
    assert_eq!(frames.len(), messages().len(), "a frame for each kind");
    for ((name, bytes), message) in frames.iter().zip(messages()) {
        let mut frames = Frames::new(bytes.len());
        frames.take_in(bytes);
        let body = frames.next().expect("a sound frame").expect("a whole frame");
        assert_eq!(Message::decode(body), Ok(message), "{name}");
    }
}
