//! From bytes to frames.

use std::iter;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{FrameError, ONLY_GROUP, PREFIX_BYTES, prefix};

/// How much is read at once, unless a frame is larger: many small messages per system call.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// Frames from here on are slices of what was read; shorter ones are copies.
const SLICE_BYTES_MIN: usize = CHUNK_BYTES / 4;

/// Where large messages are put, in memory.
pub(crate) trait Room {
    /// Waits for room for `bytes`.
    fn make(&mut self, bytes: usize) -> impl Future<Output = ()> + Send;
}

/// Takes a stream apart into frames.
#[derive(Debug)]
pub(crate) struct Frames {
    pub(super) buffer: BytesMut,
    bytes_max: usize,
}

impl Frames {
    /// For frames of messages up to `bytes_max`.
    pub(crate) fn new(bytes_max: usize) -> Frames {
        Frames { buffer: BytesMut::new(), bytes_max }
    }

    /// The next frame of `stream`, without its prefix; `None` where the stream ends between two. Before a
    /// frame is read that is larger than what is read at once anyhow, `room` is asked for it. Not
    /// cancel safe.
    pub(crate) async fn read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        room: &mut impl Room,
    ) -> Result<Option<Bytes>, FrameError> {
        let mut has_room = false;
        loop {
            if let Some(frame) = self.next()? {
                return Ok(Some(frame));
            }
            match self.length().filter(|length| PREFIX_BYTES + length > CHUNK_BYTES) {
                None => self.buffer.reserve(CHUNK_BYTES),
                Some(length) if !has_room => {
                    room.make(length).await;
                    has_room = true;
                    self.buffer.reserve(PREFIX_BYTES + length - self.buffer.len());
                }
                Some(_) => {}
            }
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
        }
    }

    /// The length of the message that the next frame is of.
    fn length(&self) -> Option<usize> {
        self.buffer.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize)
    }

    /// Takes in what somebody else has read.
    #[cfg(test)]
    pub(crate) fn take_in(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame of what has been read, if it is there as a whole.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.length() else { return Ok(None) };
        if length > self.bytes_max {
            return Err(FrameError::TooLarge { length, bytes_max: self.bytes_max });
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let stored = self.buffer.split_to(PREFIX_BYTES);
        // A small one would keep alive all that was read together with it.
        let body = if length < SLICE_BYTES_MIN {
            Bytes::copy_from_slice(&self.buffer.split_to(length))
        } else {
            self.buffer.split_to(length).freeze()
        };
        match group_of(&stored, &body)? {
            ONLY_GROUP => Ok(Some(body)),
            theirs => Err(FrameError::Group { theirs }),
        }
    }
}

/// A frame of whatever group.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) group: u32,
    pub(crate) body: Vec<u8>,
}

/// Reads one frame and not a byte more.
pub(crate) async fn read_one(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Frame, FrameError> {
    let mut stored = [0; PREFIX_BYTES];
    stream.read_exact(&mut stored).await?;
    let (length, _) = stored.split_first_chunk::<4>().expect("twelve bytes");
    let length = u32::from_le_bytes(*length) as usize;
    if length > bytes_max {
        return Err(FrameError::TooLarge { length, bytes_max });
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Frame { group: group_of(&stored, &body)?, body })
}

/// The group that a prefix names, if it is the prefix of `body`.
fn group_of(stored: &[u8], body: &[u8]) -> Result<u32, FrameError> {
    let group = u32::from_le_bytes(stored[4..8].try_into().expect("four bytes"));
    if stored != prefix(body.len(), group, iter::once(body)) {
        return Err(FrameError::Checksum);
    }
    Ok(group)
}
