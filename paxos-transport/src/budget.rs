//! Queues are bounded in bytes: what goes in takes its weight from a budget, and gives it back
//! when it comes out.

use std::sync::Arc;

use paxos_core::message::{Lane, Message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of urgent messages that may wait: thousands of heartbeats.
const CONTROL_BYTES_MAX: u32 = 1 << 20;

/// Bytes of the other lanes that may wait: at least two of the largest messages, so that one is
/// under way while the next gathers.
const BULK_BYTES_MAX: u32 = 32 << 20;

/// What a message costs beside the bytes of its values: its header, its place in the queue.
const OVERHEAD_BYTES: usize = 128;

/// How many bytes may wait in one lane to or from one peer.
pub(crate) fn bytes_max(lane: Lane) -> u32 {
    match lane {
        Lane::Control => CONTROL_BYTES_MAX,
        Lane::Log | Lane::Bulk => BULK_BYTES_MAX,
    }
}

/// Room for messages, in bytes. Cheap to clone; clones share the room.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    room: Arc<Semaphore>,
    bytes_max: u32,
}

/// Bytes taken from a [`Budget`]; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Share(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Budget {
    pub(crate) fn new(bytes_max: u32) -> Budget {
        Budget { room: Arc::new(Semaphore::new(bytes_max as usize)), bytes_max }
    }

    /// Takes `bytes`, or nothing if there is no room for them. What is larger than the whole
    /// budget fits when nothing else is there.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Share> {
        self.room.clone().try_acquire_many_owned(self.clamped(bytes)).ok().map(Share)
    }

    /// Takes `bytes` as soon as there is room for them.
    #[cfg(any(feature = "tcp", feature = "quic"))]
    pub(crate) async fn take(&self, bytes: usize) -> Share {
        let permit = self.room.clone().acquire_many_owned(self.clamped(bytes)).await;
        Share(permit.expect("the semaphore of a budget is never closed"))
    }

    fn clamped(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

/// What `message` takes in memory while it waits, in bytes, without encoding it.
pub(crate) fn weight(message: &Message) -> usize {
    let variable = match message {
        Message::Accept(accept) => accept.value.encoded_len(),
        Message::Promise(promise) => {
            promise.records.iter().map(|record| 64 + record.value.encoded_len()).sum()
        }
        Message::Learned(learned) => {
            learned.values.iter().map(|(_, value)| 64 + value.encoded_len()).sum()
        }
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
        | Message::Learn(_)
        | Message::Read(_)
        | Message::ReadReply(_) => 0,
    };
    OVERHEAD_BYTES + variable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_given_back_when_the_share_is_dropped() {
        let budget = Budget::new(100);
        let share = budget.try_take(60).expect("room for 60");
        assert!(budget.try_take(60).is_none(), "only 40 are left");
        drop(share);
        budget.try_take(60).expect("room again");
    }

    #[test]
    fn what_exceeds_the_whole_budget_fits_when_it_is_alone() {
        let budget = Budget::new(100);
        let share = budget.try_take(1 << 40).expect("alone");
        assert!(budget.try_take(1).is_none(), "nothing is left");
        drop(share);
        budget.try_take(1).expect("room again");
    }
}
