//! Messages on a byte stream: `length, u32 LE | group, u32 LE | checksum, u32 LE | message`.
//!
//! The length is the message's alone. The checksum (CRC-32) covers length, group and message. The
//! limit is checked before anything is allocated, and a damaged frame is an error: what stands
//! behind it cannot be found.
//!
//! The group is 0, since there is one only, and a frame of another is an error. Its place is for
//! the messages of many groups on one connection.
//!
//! Values leave as they are, one slice each for a vectored write; only what is small is copied
//! together, since copying it is cheaper than another slice.

mod reader;

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    iter, mem,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use paxos_core::{
    limits,
    message::{Message, MessageError},
};

pub(crate) use self::reader::{Frame, Frames, Room, read_one};

/// Length, group and checksum.
pub(crate) const PREFIX_BYTES: usize = 12;

/// The only group there is.
pub(crate) const ONLY_GROUP: u32 = 0;

/// Parts up to this size are copied together.
const COPIED_BYTES_MAX: usize = 512;

/// Why a frame cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {length} bytes, the limit is {bytes_max}")]
    TooLarge { length: usize, bytes_max: usize },
    #[error("a frame whose checksum is wrong")]
    Checksum,
    #[error(
        "a frame of group {theirs}, where there is group {ONLY_GROUP} only: run the same version on \
         every node"
    )]
    Group { theirs: u32 },
    #[error("the stream ends within a frame")]
    Truncated,
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Makes a [`Run`] of messages.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    parts: Vec<Bytes>,
    parts_bytes: usize,
    /// What comes behind `parts`.
    small: BytesMut,
}

impl Encoder {
    /// Appends a message; one over the limit is refused and leaves everything as it was.
    pub(crate) fn push(&mut self, message: Message) -> Result<(), FrameError> {
        let encoded = message.into_encoded();
        let (length, bytes_max) = (encoded.len(), limits::MESSAGE_BYTES_MAX);
        if length > bytes_max {
            return Err(FrameError::TooLarge { length, bytes_max });
        }
        self.small.put_slice(&prefix(length, ONLY_GROUP, encoded.parts().map(|part| &part[..])));
        for part in iter::once(encoded.header).chain(encoded.values) {
            if part.len() <= COPIED_BYTES_MAX {
                self.small.put_slice(&part);
            } else {
                self.seal();
                self.parts_bytes += part.len();
                self.parts.push(part);
            }
        }
        Ok(())
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.parts_bytes += self.small.len();
            self.parts.push(self.small.split().freeze());
        }
    }

    /// The length of what has been pushed, in bytes.
    pub(crate) fn len(&self) -> usize {
        self.parts_bytes + self.small.len()
    }

    /// What has been pushed since the last time.
    pub(crate) fn take(&mut self) -> Run {
        self.seal();
        let (parts, bytes) = (mem::take(&mut self.parts), mem::take(&mut self.parts_bytes));
        Run { parts, bytes }
    }
}

/// Encoded messages that follow each other. Clones share the bytes, so that what goes to several
/// peers is encoded and checksummed once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    parts: Vec<Bytes>,
    bytes: usize,
}

impl Run {
    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }
}

/// Runs on their way out, as slices in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    parts: VecDeque<Bytes>,
    parts_bytes: usize,
}

impl Batch {
    /// Appends a run.
    pub(crate) fn push(&mut self, run: Run) {
        self.parts_bytes += run.bytes;
        self.parts.extend(run.parts);
    }

    /// The parts, for a stream that takes them over.
    #[cfg(feature = "quic")]
    pub(crate) fn into_parts(self) -> Vec<Bytes> {
        self.parts.into()
    }
}

impl Buf for Batch {
    fn remaining(&self) -> usize {
        self.parts_bytes
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| part)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pairs = slices.iter_mut().zip(&self.parts);
        pairs.map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        self.parts_bytes = self.parts_bytes.checked_sub(count).expect("no further than the end");
        while count > 0 {
            let first = self.parts.front_mut().expect("as many bytes as were counted");
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.parts.pop_front();
        }
    }
}

fn prefix<'a>(
    length: usize,
    group: u32,
    parts: impl Iterator<Item = &'a [u8]>,
) -> [u8; PREFIX_BYTES] {
    let length = u32::try_from(length).expect("a message is below 4 GiB").to_le_bytes();
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&length);
    checksum.update(&group.to_le_bytes());
    parts.for_each(|part| checksum.update(part));
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..4].copy_from_slice(&length);
    prefix[4..8].copy_from_slice(&group.to_le_bytes());
    prefix[8..].copy_from_slice(&checksum.finalize().to_le_bytes());
    prefix
}

/// `body` as a frame.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    framed_for(ONLY_GROUP, body)
}

/// `body` as a frame of some group.
pub(crate) fn framed_for(group: u32, body: &[u8]) -> Vec<u8> {
    [&prefix(body.len(), group, iter::once(body)), body].concat()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
pub(crate) mod tests {
    use paxos_core::{
        message::{Accept, Poll, Watermark},
        types::{Ballot, BatchBuilder, ClientId, NodeId, RequestId, Slot, Value},
    };
    use proptest::prelude::*;

    use super::{reader::CHUNK_BYTES, *};

    pub(crate) fn poll(number: u64) -> Message {
        Message::Poll(Poll { number, chosen: Slot::ZERO, leave: None })
    }

    pub(crate) fn body_of(message: &Message) -> Vec<u8> {
        message.encode().parts().flatten().copied().collect()
    }

    pub(crate) fn accept(bytes: usize) -> Message {
        let mut builder = BatchBuilder::default();
        let id = RequestId { client: ClientId { name: 1, epoch: 1 }, sequence: 1 };
        builder.push(id, 1, Bytes::from(vec![7; bytes]));
        Message::Accept(Accept {
            ballot: Ballot { round: 1, node: NodeId(1) },
            slot: Slot(1),
            value: Value::Batch(builder.build().expect("one command")),
            chosen: Watermark::default(),
        })
    }

    pub(crate) fn batch(messages: &[Message]) -> Batch {
        let mut encoder = Encoder::default();
        for message in messages {
            encoder.push(message.clone()).expect("within the limit");
        }
        let mut batch = Batch::default();
        batch.push(encoder.take());
        batch
    }

    /// A log keeps some of what comes in, and drops the rest.
    #[tokio::test]
    async fn a_small_message_does_not_keep_alive_what_was_read_with_it() {
        let stream = joined(&vec![accept(100); 5000]);
        let mut kept = Vec::new();
        let allocated = allocation_counter::measure(|| {
            let mut frames = Frames::new(1 << 20);
            for piece in stream.chunks(CHUNK_BYTES) {
                frames.take_in(piece);
                let mut read = Vec::new();
                while let Some(frame) = frames.next().expect("sound") {
                    read.push(Message::decode(frame).expect("sound"));
                }
                kept.extend(read.pop());
            }
        });
        let each = usize::try_from(allocated.bytes_current).expect("they are there") / kept.len();
        assert!(kept.len() > 10 && each < 1000, "{each} bytes for each of {}", kept.len());
    }

    fn joined(messages: &[Message]) -> Vec<u8> {
        let mut batch = batch(messages);
        let mut bytes = vec![0; batch.remaining()];
        batch.copy_to_slice(&mut bytes);
        bytes
    }

    /// As much room as anybody wants.
    struct Plenty;

    impl Room for Plenty {
        async fn make(&mut self, _: usize) {}
    }

    /// None, and what was asked for.
    #[derive(Default)]
    struct NoRoom(Option<usize>);

    impl Room for NoRoom {
        async fn make(&mut self, bytes: usize) {
            self.0 = Some(bytes);
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn a_large_frame_gets_memory_only_when_there_is_room() {
        let mut frames = Frames::new(limits::MESSAGE_BYTES_MAX);
        let bytes = joined(&[poll(1), accept(10 << 20)]);
        let (mut stream, mut room) = (&bytes[..], NoRoom::default());
        let first = frames.read(&mut stream, &mut room).await.expect("sound");
        assert_eq!((first.map(Message::decode), room.0), (Some(Ok(poll(1))), None));
        let second = Box::pin(frames.read(&mut stream, &mut room));
        let asks = futures::poll!(second);
        assert!(asks.is_pending(), "there is no room");
        let length = joined(&[accept(10 << 20)]).len() - PREFIX_BYTES;
        assert_eq!(room.0, Some(length));
        assert!(frames.buffer.capacity() <= 2 * CHUNK_BYTES, "{}", frames.buffer.capacity());
    }

    /// What a reader makes of `bytes` when they come in pieces of at most `piece`.
    async fn read_all(bytes: &[u8], piece: usize) -> Result<Vec<Message>, FrameError> {
        let mut frames = Frames::new(limits::MESSAGE_BYTES_MAX);
        let (mut near, mut far) = tokio::io::duplex(piece);
        let write = async move {
            // The reader hangs up at the first bad frame.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut near, bytes).await;
        };
        let read = async move {
            let mut messages = Vec::new();
            while let Some(frame) = frames.read(&mut far, &mut Plenty).await? {
                messages.push(Message::decode(frame)?);
            }
            Ok(messages)
        };
        tokio::join!(write, read).1
    }

    #[tokio::test]
    async fn messages_arrive_however_the_stream_is_cut() {
        let messages = [poll(1), accept(10), accept(100_000), poll(2), accept(3_000)];
        let bytes = joined(&messages);
        for piece in [1, 7, 100, 1 << 20] {
            assert_eq!(read_all(&bytes, piece).await.expect("our own frames"), messages);
        }
    }

    #[test]
    fn large_values_are_not_copied() {
        let message = accept(100_000);
        let batch = batch(std::slice::from_ref(&message));
        let Message::Accept(Accept { value, .. }) = &message else { panic!("an accept") };
        assert_eq!(batch.parts.back().expect("the value").as_ptr(), value.encoded().as_ptr());
    }

    #[test]
    fn what_goes_to_several_is_encoded_once() {
        let mut encoder = Encoder::default();
        for message in [poll(1), accept(10_000), poll(2)] {
            encoder.push(message).expect("within the limit");
        }
        let run = encoder.take();
        let places = |run: &Run| run.parts.iter().map(|part| part.as_ptr()).collect::<Vec<_>>();
        assert_eq!(places(&run.clone()), places(&run));
    }

    #[test]
    fn a_message_over_the_limit_does_not_leave() {
        let mut encoder = Encoder::default();
        let error = encoder.push(accept(limits::MESSAGE_BYTES_MAX)).expect_err("too large");
        assert!(matches!(error, FrameError::TooLarge { .. }), "{error}");
        assert_eq!((encoder.len(), encoder.take().len()), (0, 0), "nothing of it was kept");
    }

    #[test]
    fn the_limit_holds_before_anything_is_allocated() {
        let mut frames = Frames::new(100);
        frames.take_in(&101u32.to_le_bytes());
        let error = frames.next().expect_err("too large");
        assert!(matches!(error, FrameError::TooLarge { length: 101, bytes_max: 100 }));
        assert!(frames.buffer.capacity() < 101);
    }

    #[test]
    fn a_frame_of_another_group_is_an_error_that_names_it() {
        let mut frames = Frames::new(100);
        frames.take_in(&[framed(b"ours"), framed_for(7, b"theirs")].concat());
        assert_eq!(frames.next().expect("sound").as_deref(), Some(&b"ours"[..]));
        let error = frames.next().expect_err("another group");
        assert!(error.to_string().starts_with("a frame of group 7, where there is group 0 only"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut frames = Frames::new(200);
            frames.take_in(&bytes);
            while let Ok(Some(frame)) = frames.next() {
                prop_assert!(frame.len() <= 200);
            }
        }

        #[test]
        fn one_flipped_bit_is_noticed(bytes_each in 0..2_000usize, position in any::<prop::sample::Index>()) {
            let message = accept(bytes_each);
            let mut bytes = joined(std::slice::from_ref(&message));
            let bit = position.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(read_all(&bytes, 1 << 20)).expect_err("damaged");
        }
    }
}
