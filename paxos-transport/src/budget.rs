//! Queues are bounded in bytes, each lane of each peer by itself.

use paxos_core::{
    message::{Lane, Message},
    types::Membership,
};

/// Bytes of urgent messages that may wait: thousands of heartbeats.
const CONTROL_BYTES_MAX: usize = 1 << 20;

/// Bytes of the other lanes that may wait: at least two of the largest messages, so that one is
/// under way while the next gathers, and all that a leader may have undecided twice.
const BULK_BYTES_MAX: usize = 48 << 20;

const _: () = {
    use paxos_core::limits::{COMMAND_BYTES_MAX, MESSAGE_BYTES_MAX, WINDOW_BYTES_MAX};
    assert!(BULK_BYTES_MAX >= 2 * MESSAGE_BYTES_MAX);
    assert!(BULK_BYTES_MAX >= 2 * (WINDOW_BYTES_MAX + COMMAND_BYTES_MAX));
};

/// What a message costs beside the bytes of its values: its header, its place in the queue.
pub(crate) const OVERHEAD_BYTES: usize = 128;

/// How many bytes may wait in one lane to or from one peer.
fn bytes_max(lane: Lane) -> usize {
    match lane {
        Lane::Control => CONTROL_BYTES_MAX,
        Lane::Log | Lane::Bulk => BULK_BYTES_MAX,
    }
}

/// Whether there is room for `bytes` more in a queue where `waiting` bytes wait. What is larger than
/// the whole queue fits when nothing else is there.
pub(crate) fn fits(waiting: usize, bytes: usize, lane: Lane) -> bool {
    waiting == 0 || waiting.saturating_add(bytes) <= bytes_max(lane)
}

/// What `message` takes in memory while it waits, in bytes, without encoding it.
pub(crate) fn weight(message: &Message) -> usize {
    let variable = match message {
        Message::Reconfigure(asked) => membership_weight(&asked.membership),
        Message::Joined(joined) => membership_weight(&joined.first),
        Message::Accept(accept) => accept.value.encoded_len(),
        Message::Promise(promise) => {
            promise.records.iter().map(|record| 64 + record.value.encoded_len()).sum()
        }
        Message::Pulled(pulled) => {
            pulled.values.iter().map(|(_, value)| 64 + value.encoded_len()).sum()
        }
        Message::PulledState(piece) => piece.payload_bytes(),
        Message::Propose(propose) => {
            propose.commands.iter().map(|(_, command)| 64 + command.len()).sum()
        }
        Message::Accepted(_)
        | Message::Poll(_)
        | Message::PollReply(_)
        | Message::Prepare(_)
        | Message::Reject(_)
        | Message::Chosen(_)
        | Message::Heartbeat(_)
        | Message::HeartbeatReply(_)
        | Message::Compare(_)
        | Message::Compared(_)
        | Message::StateDigest(_)
        | Message::ChangeRefused(_)
        | Message::Removed(_)
        | Message::Join
        | Message::Offered(_)
        | Message::Sound(_)
        | Message::Sounded(_)
        | Message::TakeOver(_)
        | Message::Pull(_)
        | Message::PullState(_)
        | Message::Read(_)
        | Message::ReadReply(_) => 0,
    };
    OVERHEAD_BYTES + variable
}

fn membership_weight(membership: &Membership) -> usize {
    membership.members().map(|(_, member)| 128 + member.address.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_the_whole_queue_fits_when_it_is_alone() {
        for lane in [Lane::Control, Lane::Log, Lane::Bulk] {
            assert!(fits(0, usize::MAX, lane), "alone");
            assert!(!fits(1, usize::MAX, lane));
            assert!(fits(1, bytes_max(lane) - 1, lane));
            assert!(!fits(1, bytes_max(lane), lane));
        }
    }
}
