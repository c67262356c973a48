//! What comes from the transport.

use std::{collections::HashMap, time::Duration};

use crate::{
    message::{Message, Record},
    types::{Instant, NodeId, Value},
};

/// Between two lines in the log about the same peer's refusal.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The bytes of the values and commands in a message; the rest of it is small.
pub(super) fn payload_bytes(message: &Message) -> usize {
    let value = |value: &Value| value.encoded_len();
    match message {
        Message::Accept(accept) => value(&accept.value),
        Message::Promise(promise) => {
            promise.records.iter().map(|Record { value: v, .. }| value(v)).sum()
        }
        Message::Pulled(pulled) => pulled.values.iter().map(|(_, v)| value(v)).sum(),
        Message::PulledState(piece) => piece.payload_bytes(),
        Message::Propose(propose) => {
            propose.commands.iter().map(|(_, command)| command.len()).sum()
        }
        _ => 0,
    }
}

/// Tells of refusals, but not of every one: a refused peer keeps trying.
#[derive(Default)]
pub(super) struct RefusalLog {
    last: HashMap<Option<NodeId>, Instant>,
}

impl RefusalLog {
    pub(super) fn refused(&mut self, now: Instant, peer: Option<NodeId>, reason: &str) {
        if self.is_due(now, peer) {
            tracing::warn!(peer = peer.map(|id| id.0), reason, "a connection was refused");
        }
    }

    fn is_due(&mut self, now: Instant, peer: Option<NodeId>) -> bool {
        match self.last.get(&peer) {
            Some(&last) if now.since(last) < REFUSAL_LOG_INTERVAL => false,
            _ => {
                self.last.insert(peer, now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_s_refusals_are_told_once_in_an_interval() {
        let mut log = RefusalLog::default();
        let (start, peer) = (Instant::ZERO, Some(NodeId(2)));
        assert!(log.is_due(start, peer));
        assert!(!log.is_due(start.after(REFUSAL_LOG_INTERVAL / 2), peer));
        assert!(log.is_due(start, None), "another peer has a line of its own");
        assert!(log.is_due(start.after(REFUSAL_LOG_INTERVAL), peer));
    }
}
