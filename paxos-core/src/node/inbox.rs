//! What comes from the transport.

use crate::{
    message::{Message, Record},
    types::Value,
};

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
