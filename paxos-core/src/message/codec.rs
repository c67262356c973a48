//! Messages as bytes: `header length, u32 LE | header (postcard) | values`.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};

use super::Message;
use crate::types::{Value, ValueError};

/// An encoded message: its parts follow each other on the wire.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The length of the postcard header, and the header.
    pub header: Bytes,
    /// The values, shared with the log.
    pub values: Vec<Bytes>,
}

/// Bytes that are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The frame ends before the message does.
    #[error("the message is cut short")]
    Truncated,
    /// The frame goes on after the message.
    #[error("{0} bytes behind the message")]
    Trailing(usize),
    /// The header does not decode.
    #[error("the message header is malformed")]
    Header,
    /// A value does not decode.
    #[error("a value in the message is malformed: {0}")]
    Value(#[from] ValueError),
}

impl Encoded {
    /// Length on the wire, in bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a message is never empty")]
    pub fn len(&self) -> usize {
        self.header.len() + self.values.iter().map(Bytes::len).sum::<usize>()
    }

    /// The parts in order, for a vectored write.
    pub fn parts(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.header).chain(&self.values)
    }
}

impl Message {
    /// Encodes the message; values are shared, not copied.
    ///
    /// # Panics
    ///
    /// If a value exceeds 4 GiB, which the limits exclude.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        self.clone().into_encoded()
    }

    /// The same for a message that is not needed any more, which spares a copy of its lists.
    ///
    /// # Panics
    ///
    /// If a value exceeds 4 GiB, which the limits exclude.
    #[must_use]
    pub fn into_encoded(self) -> Encoded {
        let mut values = Vec::new();
        let header = self.try_map(|value| {
            let encoded = value.encoded();
            let length = u32::try_from(encoded.len()).expect("a value is below 4 GiB");
            values.push(encoded);
            Ok::<u32, Infallible>(length)
        });
        let Ok(header) = header;
        let header = postcard::to_stdvec(&header).expect("plain data encodes");
        let mut buffer = BytesMut::with_capacity(4 + header.len());
        buffer.put_u32_le(u32::try_from(header.len()).expect("a header is below 4 GiB"));
        buffer.put_slice(&header);
        Encoded { header: buffer.freeze(), values }
    }

    /// The message that `frame` holds; its values are slices of `frame`.
    ///
    /// # Errors
    ///
    /// If the bytes are not exactly one message.
    pub fn decode(mut frame: Bytes) -> Result<Message, MessageError> {
        if frame.len() < 4 {
            return Err(MessageError::Truncated);
        }
        let prefix = frame.split_to(4);
        let header_len = u32::from_le_bytes(prefix[..].try_into().expect("four bytes")) as usize;
        if frame.len() < header_len {
            return Err(MessageError::Truncated);
        }
        let header = frame.split_to(header_len);
        let (header, rest): (Message<u32>, _) =
            postcard::take_from_bytes(&header).map_err(|_| MessageError::Header)?;
        if !rest.is_empty() {
            return Err(MessageError::Header);
        }
        let message = header.try_map(|length| {
            let length = length as usize;
            if frame.len() < length {
                return Err(MessageError::Truncated);
            }
            Ok(Value::decode(frame.split_to(length))?)
        })?;
        if !frame.is_empty() {
            return Err(MessageError::Trailing(frame.len()));
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        message::{Accept, Promise, Record, Watermark},
        types::{Ballot, BatchBuilder, ClientId, NodeId, RequestId, Slot},
    };

    fn batch(text: &'static str) -> Value {
        let mut builder = BatchBuilder::default();
        let id = RequestId { client: ClientId { name: 1, epoch: 2 }, sequence: 3 };
        builder.push(id, 1, Bytes::from_static(text.as_bytes()));
        Value::Batch(builder.build().expect("one command"))
    }

    fn joined(encoded: &Encoded) -> Bytes {
        encoded.parts().flat_map(|part| part.to_vec()).collect::<Vec<_>>().into()
    }

    #[test]
    fn messages_with_values_survive_the_wire() {
        let ballot = Ballot { round: 7, node: NodeId(2) };
        let record = |slot, value| Record { slot: Slot(slot), ballot, value };
        let messages = [
            Message::Accept(Accept {
                ballot,
                slot: Slot(9),
                value: batch("a"),
                chosen: Watermark { slot: Slot(8), hash: 1 },
            }),
            Message::Promise(Promise {
                ballot,
                from: Slot(4),
                records: vec![record(4, batch("b")), record(5, Value::Noop)],
                next: Some(Slot(6)),
                chosen: Slot(4),
                floor: Slot::ZERO,
            }),
        ];
        for message in messages {
            let bytes = joined(&message.encode());
            assert_eq!(Message::decode(bytes.clone()), Ok(message));
            for end in 0..bytes.len() {
                Message::decode(bytes.slice(..end)).expect_err("cut short");
            }
            let mut longer = bytes.to_vec();
            longer.push(0);
            Message::decode(longer.into()).expect_err("a byte too many");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(Bytes::from(bytes));
        }
    }
}
