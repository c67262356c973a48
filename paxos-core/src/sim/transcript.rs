//! Messages, writes and deliveries as lines that people read.

use std::fmt::Write;

use bytes::Bytes;

use super::host::Input;
use crate::{
    message::{
        Message, Poll, Promise, PullState, Pulled, PulledState, Record, TakeOver, Watermark,
    },
    port::{StateChunk, WriteBatch},
    replica::{Delivery, Proposal, Verdict},
    types::{Ballot, Batch, Membership, ReadMode, Slot, Value},
};

/// A command longer than this is shown as its request id alone.
const SHOWN_BYTES_MAX: usize = 24;

/// The name of a message's kind.
pub(super) fn kind(message: &Message) -> &'static str {
    match message {
        Message::Poll(_) => "Poll",
        Message::PollReply(_) => "PollReply",
        Message::Prepare(_) => "Prepare",
        Message::Promise(_) => "Promise",
        Message::Accept(_) => "Accept",
        Message::Accepted(_) => "Accepted",
        Message::Reject(_) => "Reject",
        Message::Chosen(_) => "Chosen",
        Message::Heartbeat(_) => "Heartbeat",
        Message::HeartbeatReply(_) => "HeartbeatReply",
        Message::Pull(_) => "Pull",
        Message::Pulled(_) => "Pulled",
        Message::Compare(_) => "Compare",
        Message::Compared(_) => "Compared",
        Message::PullState(_) => "PullState",
        Message::PulledState(_) => "PulledState",
        Message::Propose(_) => "Propose",
        Message::Read(_) => "Read",
        Message::ReadReply(_) => "ReadReply",
        Message::StateDigest(_) => "StateDigest",
        Message::Reconfigure(_) => "Reconfigure",
        Message::ChangeRefused(_) => "ChangeRefused",
        Message::Removed(_) => "Removed",
        Message::Join => "Join",
        Message::Joined(_) => "Joined",
        Message::Offered(_) => "Offered",
        Message::Sound(_) => "Sound",
        Message::Sounded(_) => "Sounded",
        Message::TakeOver(_) => "TakeOver",
    }
}

fn asked(poll: &Poll) -> String {
    let leave = poll.leave.map(|leader| format!(", with the leave of {leader}"));
    format!("{}, chosen {}{}", number(poll.number), poll.chosen, leave.unwrap_or_default())
}

fn promised(promise: &Promise) -> String {
    let mut line = format!("{} from slot {}:", promise.ballot, promise.from);
    line.push_str(&records(&promise.records));
    let _ = write!(line, "; chosen {}", promise.chosen);
    if promise.floor > Slot::ZERO {
        let _ = write!(line, ", floor {}", promise.floor);
    }
    if let Some(next) = promise.next {
        let _ = write!(line, ", more from {next}");
    }
    line
}

fn all_chosen(told: &TakeOver) -> String {
    format!("{}, everything up to {} is chosen", told.ballot, told.chosen)
}

/// A message in one line.
pub(super) fn message(message: &Message) -> String {
    let name = kind(message);
    match message {
        Message::Poll(poll) => format!("{name} {}", asked(poll)),
        Message::PollReply(reply) => {
            let answer = match reply.leader {
                _ if reply.granted => "yes".to_owned(),
                Some(leader) => format!("no, {leader} leads"),
                None => "no".to_owned(),
            };
            let chosen = reply.chosen;
            let promised = match reply.promised {
                Ballot::ZERO => "nothing".to_owned(),
                promised => promised.to_string(),
            };
            let number = number(reply.number);
            format!("{name} {number}: {answer}; promised {promised}, chosen {chosen}")
        }
        Message::Prepare(prepare) => {
            format!("{name} {} from slot {}", prepare.ballot, prepare.from)
        }
        Message::Promise(promise) => format!("{name} {}", promised(promise)),
        Message::Accept(accept) => {
            let chosen = accept.chosen.slot;
            let value = value(&accept.value);
            format!("{name} {} slot {} = {value}; chosen {chosen}", accept.ballot, accept.slot)
        }
        Message::Accepted(accepted) => {
            format!("{name} {} {}", accepted.ballot, range(accepted.first, accepted.last))
        }
        Message::Reject(reject) => {
            format!("{name} {}: promised {}", reject.ballot, reject.promised)
        }
        Message::Chosen(up_to) => format!("{name} {} up to {}", up_to.ballot, up_to.chosen.slot),
        Message::Heartbeat(beat) => {
            format!("{name} {} #{}; chosen {}", beat.ballot, beat.round, beat.chosen.slot)
        }
        Message::HeartbeatReply(reply) => {
            let (ballot, round) = (reply.ballot, reply.round);
            let (chosen, highest) = (reply.chosen.slot, reply.highest_accepted);
            format!("{name} {ballot} #{round}; chosen {chosen}, accepted up to {highest}")
        }
        Message::Pull(pull) => {
            format!("{name} {} slots {}..{}", number(pull.number), pull.from, pull.to)
        }
        Message::Pulled(found) => format!("{name} {}", pulled(found)),
        Message::Compare(compare) => format!("{name} slot {}", compare.at.slot),
        Message::Reconfigure(asked) => format!("{name} to {}", membership(&asked.membership)),
        Message::ChangeRefused(refused) => format!("{name}: {}", refused.reason),
        Message::Join => name.to_owned(),
        Message::Joined(joined) => {
            format!("{name}: the first membership; chosen {}", joined.chosen)
        }
        Message::Removed(removed) => format!("{name} by membership {}", removed.version),
        Message::Offered(offered) => format!("{name} {}", offered.id),
        Message::Sound(sound) => format!("{name} {}", sound.ballot),
        Message::Sounded(sounded) => format!("{name} {}", sounded.ballot),
        Message::TakeOver(told) => format!("{name} {}", all_chosen(told)),
        Message::StateDigest(digest) => format!("{name} slot {}", digest.slot),
        Message::Compared(compared) => format!("{name} slot {}", compared.slot),
        Message::PullState(pull) => format!("{name} {}", state_wanted(pull)),
        Message::PulledState(piece) => format!("{name} {}", state_piece(piece)),
        Message::Propose(propose) => {
            let commands: Vec<_> = propose
                .commands
                .iter()
                .map(|(sequence, bytes)| match readable(bytes) {
                    Some(text) => format!("{text} ({}#{sequence})", propose.client),
                    None => format!("{}#{sequence}", propose.client),
                })
                .collect();
            format!("{name} {}{}", commands.join(" "), passed_on(propose.hops))
        }
        Message::Read(read) => {
            format!(
                "{name} {} of node {}{}",
                number(read.number),
                read.client.name,
                passed_on(read.hops)
            )
        }
        Message::ReadReply(reply) => {
            format!(
                "{name} {} of node {}: from slot {} on",
                number(reply.number),
                reply.client.name,
                reply.index
            )
        }
    }
}

/// What a peer has of the slots that were asked for.
fn pulled(pulled: &Pulled) -> String {
    let mut line = format!("{}:", number(pulled.number));
    if pulled.values.is_empty() {
        line.push_str(" nothing");
    }
    for (slot, chosen) in &pulled.values {
        let _ = write!(line, " {slot}={}", value(chosen));
    }
    let _ = write!(line, "; chosen {}", pulled.chosen);
    if pulled.floor > Slot::ZERO {
        let _ = write!(line, ", floor {}", pulled.floor);
    }
    line
}

fn state_wanted(pull: &PullState) -> String {
    let PullState { number: asked, chosen, slot, offset } = pull;
    let asked = number(*asked);
    if *slot == Slot::ZERO {
        return format!("{asked}: any state behind slot {chosen}");
    }
    format!("{asked}: state as of slot {slot}, from byte {offset}")
}

fn state_piece(piece: &PulledState) -> String {
    let PulledState { number: asked, at, offset, bytes, end, .. } = piece;
    let end = if end.is_some() { ", the last" } else { "" };
    let (asked, length) = (number(*asked), bytes.len());
    format!("{asked}: state as of slot {}, {length} bytes from {offset}{end}", at.slot)
}

/// A number that its sender never reuses: it counts on from its incarnation in the upper half.
fn number(number: u64) -> String {
    let (life, count) = (number >> 32, number & u64::from(u32::MAX));
    if life <= 1 { format!("#{count}") } else { format!("#{count} of life {life}") }
}

fn passed_on(hops: u8) -> &'static str {
    if hops == 0 { "" } else { ", passed on" }
}

/// A value: its commands if they are short text, its request ids otherwise.
pub(super) fn value(value: &Value) -> String {
    match value {
        Value::Noop => "noop".to_owned(),
        Value::Batch(batch) => readable_batch(batch).unwrap_or_else(|| format!("{batch:?}")),
        Value::Reconfigure(change) => membership(change.membership()),
    }
}

/// A membership: its version, who votes, and who else is there.
fn membership(membership: &Membership) -> String {
    let voters: Vec<_> = membership.voters().map(|id| id.to_string()).collect();
    let mut line = format!("membership {} of {}", membership.version(), voters.join(", "));
    let others = membership.members().map(|(id, _)| id).filter(|id| !membership.is_voter(*id));
    let others: Vec<_> = others.map(|id| id.to_string()).collect();
    if !others.is_empty() {
        let _ = write!(line, ", learners {}", others.join(", "));
    }
    line
}

fn readable_batch(batch: &Batch) -> Option<String> {
    let commands: Option<Vec<_>> = batch.requests().map(|(_, bytes)| readable(&bytes)).collect();
    Some(commands?.join(" "))
}

/// Commands that are short text, in order.
pub(super) fn state(commands: &[Bytes]) -> String {
    let texts: Vec<_> = commands.iter().filter_map(readable).collect();
    if texts.is_empty() { "empty".to_owned() } else { texts.join(" ") }
}

/// Quoted, if it is short text.
pub(super) fn readable(bytes: &Bytes) -> Option<String> {
    let is_text = bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    (is_text && bytes.len() <= SHOWN_BYTES_MAX).then(|| format!("\"{}\"", bytes.escape_ascii()))
}

fn records(records: &[Record]) -> String {
    if records.is_empty() {
        return " nothing accepted".to_owned();
    }
    records.iter().fold(String::new(), |mut line, record| {
        let _ = write!(line, " {}={} ({})", record.slot, value(&record.value), record.ballot);
        line
    })
}

fn range(first: Slot, last: Slot) -> String {
    if first == last { format!("slot {first}") } else { format!("slots {first}..{last}") }
}

/// What a write holds.
pub(super) fn write_batch(batch: &WriteBatch) -> String {
    let mut parts = Vec::new();
    if let Some(promised) = batch.promised {
        parts.push(format!("promise {promised}"));
    }
    for record in &batch.records {
        parts.push(format!("slot {} = {} ({})", record.slot, value(&record.value), record.ballot));
    }
    if let Some(Watermark { slot, .. }) = batch.chosen {
        parts.push(format!("chosen {slot}"));
    }
    for StateChunk { slot, offset, bytes } in &batch.state {
        parts.push(format!("state as of {slot}, {} bytes from {offset}", bytes.len()));
    }
    if let Some(checkpoint) = &batch.checkpoint {
        let with = if checkpoint.state.is_some() { " with its state" } else { "" };
        parts.push(format!("checkpoint as of {}{with}", checkpoint.at.slot));
    }
    if let Some(floor) = batch.floor {
        parts.push(format!("floor {floor}"));
    }
    for peer in batch.peers.keys() {
        parts.push(format!("peer {peer}"));
    }
    if batch.memberships.is_some() {
        parts.push("memberships".to_owned());
    }
    parts.join(", ")
}

/// What goes to the state machine.
pub(super) fn delivery(delivery: &Delivery) -> String {
    let mut line = format!("slot {} = {}", delivery.slot, value(&delivery.value));
    for (range, verdict) in &delivery.verdicts {
        let note = match verdict {
            Verdict::Fresh => continue,
            Verdict::Duplicate => "duplicate, skipped",
            Verdict::Expired => "expired, skipped",
        };
        let whole = matches!(&delivery.value, Value::Batch(batch) if batch.len() == range.len());
        if whole {
            let _ = write!(line, ": {note}");
        } else {
            let _ = write!(line, "; commands {}..{}: {note}", range.start + 1, range.end);
        }
    }
    line
}

/// What a replica takes in.
pub(super) fn input(input: &Input) -> String {
    match input {
        Input::Message { from, message: received } => format!("{} of {from}", message(received)),
        Input::Propose(Proposal { waiter: id, command, .. }) => match readable(command) {
            Some(text) => format!("proposal {id} {text}"),
            None => format!("proposal {id}"),
        },
        Input::Lost(peer) => format!("{peer} is lost"),
        Input::Read { number, mode } => match mode {
            ReadMode::Quorum => format!("read {number}"),
            ReadMode::AtLeast(slot) => format!("read {number} at slot {slot}"),
            ReadMode::Local => format!("read {number} locally"),
        },
        Input::GiveUpRead { number } => format!("read {number} given up"),
        Input::Persisted(id) => format!("written #{}", id.0),
        Input::LogRead { id, records: found } => {
            format!("log read {}:{}", id.0, records(found))
        }
        Input::StateRead { id, bytes } => format!("state read {}: {} bytes", id.0, bytes.len()),
        Input::Applied { slot, durable: None } => format!("applied {slot}"),
        Input::Applied { slot, durable: Some(durable) } => {
            format!("applied {slot}, durable {durable}")
        }
        Input::Transfer { number, to: Some(to), .. } => format!("transfer {number} to {to}"),
        Input::Transfer { number, .. } => format!("transfer {number} to anybody"),
        Input::Change { number, change, .. } => format!("change {number}: {change:?}"),
        Input::Digested(digest) => format!("digest after slot {}", digest.slot),
        Input::DiskFull(true) => "disk full".to_owned(),
        Input::DiskFull(false) => "disk has room".to_owned(),
        Input::Tick => "tick".to_owned(),
    }
}
