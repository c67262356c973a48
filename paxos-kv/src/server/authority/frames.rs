//! What a client says over HTTP/2, frame by frame (RFC 9113): its headers are looked at, all else passes.
//!
//! What nobody could read passes as well, with all that follows it, for the connection to be ended by who reads it.

use bytes::{Buf, BufMut, BytesMut};

use super::block::{self, Kept};
use crate::server::connection::{HEADER_BYTES_READ_MAX, PREFACE};

const HEAD_BYTES: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

/// What may be in a frame, as long as its reader allows no more.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// More than any client says.
const ALL: usize = usize::MAX;

/// Frames on their way to who reads them.
#[derive(Debug)]
pub(super) struct Frames {
    kept: Kept,
    /// So many bytes pass as they are.
    passing: usize,
    /// What has come of a block of headers, or of the head of a frame.
    held: BytesMut,
    /// How much of that are whole frames.
    held_whole: usize,
}

#[derive(Clone, Copy, Debug)]
struct Head {
    payload_bytes: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Head> {
        let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let payload_bytes = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(Head { payload_bytes, kind, flags, stream })
    }

    fn write(&self, bytes: &mut BytesMut) {
        bytes.put_uint(self.payload_bytes as u64, 3);
        bytes.put_slice(&[self.kind, self.flags]);
        bytes.put_slice(&self.stream);
    }

    /// With its head.
    fn bytes(&self) -> usize {
        HEAD_BYTES + self.payload_bytes
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What a frame that begins headers has of its priority, and of their block.
    fn parts<'f>(&self, frame: &'f [u8]) -> Option<(&'f [u8], &'f [u8])> {
        let payload = frame.get(HEAD_BYTES..self.bytes())?;
        let payload = match self.has(PADDED) {
            true => {
                let (&padding, payload) = payload.split_first()?;
                payload.get(..payload.len().checked_sub(padding.into())?)?
            }
            false => payload,
        };
        payload.split_at_checked(if self.has(PRIORITY) { PRIORITY_BYTES } else { 0 })
    }
}

impl Frames {
    /// Of a client that has said nothing yet.
    pub(super) fn new() -> Frames {
        Frames {
            kept: Kept::default(),
            passing: PREFACE.len(),
            held: BytesMut::new(),
            held_whole: 0,
        }
    }

    /// Where bytes have to be read into while some are held back.
    pub(super) fn held(&mut self) -> Option<&mut BytesMut> {
        (!self.held.is_empty()).then_some(&mut self.held)
    }

    /// So many of the first of these bytes pass as they are; the others are to be held.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        loop {
            let step = self.passing.min(bytes.len() - passed);
            passed += step;
            self.passing -= step;
            let rest = &bytes[passed..];
            let Some(head) = Head::read(rest) else { return passed };
            if head.kind == HEADERS && !self.passes_headers(head, rest) {
                return passed;
            }
            self.passing = head.bytes();
        }
    }

    /// Whether a frame is there, has headers as a whole, and they are as they should be.
    fn passes_headers(&mut self, head: Head, frame: &[u8]) -> bool {
        let mut kept = self.kept;
        let may_pass = head.has(END_HEADERS) && head.payload_bytes <= PAYLOAD_BYTES_MAX;
        let parts = may_pass.then(|| head.parts(frame)).flatten();
        let passes = parts.is_some_and(|(_, block)| block::mend(block, &mut kept) == Ok(None));
        if passes {
            self.kept = kept;
        }
        passes
    }

    /// Takes bytes that did not pass.
    pub(super) fn hold(&mut self, bytes: &[u8], ready: &mut BytesMut) {
        self.held.extend_from_slice(bytes);
        self.settle(ready);
    }

    /// Makes ready whatever need not be held any longer.
    pub(super) fn settle(&mut self, ready: &mut BytesMut) {
        loop {
            let step = self.passing.min(self.held.len());
            ready.put(self.held.split_to(step));
            self.passing -= step;
            let Some(head) = Head::read(&self.held) else { break };
            if head.kind != HEADERS {
                self.passing = head.bytes();
                continue;
            }
            match self.whole_headers(head) {
                Ok(Some(bytes)) => self.settle_headers(head, bytes, ready),
                Ok(None) if self.held.len() <= HEADER_BYTES_READ_MAX as usize => return,
                Ok(None) | Err(block::Malformed) => self.passing = ALL,
            }
        }
        if self.held.is_empty() {
            // Nothing is held for long: no memory either.
            self.held = BytesMut::new();
        }
    }

    /// All that is left when no more comes.
    pub(super) fn end(&mut self, ready: &mut BytesMut) {
        self.passing = ALL;
        self.settle(ready);
    }

    /// How long the frames are that headers take, if they have come, and are no longer than they may be.
    fn whole_headers(&mut self, first: Head) -> Result<Option<usize>, block::Malformed> {
        loop {
            let Some(head) = Head::read(&self.held[self.held_whole..]) else { return Ok(None) };
            let is_next =
                self.held_whole == 0 || (head.kind == CONTINUATION && head.stream == first.stream);
            if !is_next || head.payload_bytes > PAYLOAD_BYTES_MAX {
                return Err(block::Malformed);
            }
            let end = self.held_whole + head.bytes();
            if end > self.held.len() {
                return Ok(None);
            }
            self.held_whole = end;
            if head.has(END_HEADERS) {
                self.held_whole = 0;
                return Ok(Some(end));
            }
        }
    }

    /// Makes headers ready that are there as a whole, so many bytes of what is held.
    fn settle_headers(&mut self, first: Head, bytes: usize, ready: &mut BytesMut) {
        let frames = &self.held[..bytes];
        let Some((priority, begin)) = first.parts(frames) else {
            self.passing = ALL;
            return;
        };
        let mut block = begin.to_vec();
        let mut rest = &frames[first.bytes()..];
        while let Some(head) = Head::read(rest) {
            block.extend_from_slice(&rest[HEAD_BYTES..head.bytes()]);
            rest = &rest[head.bytes()..];
        }
        match block::mend(&block, &mut self.kept) {
            Ok(None) => self.passing = bytes,
            Ok(Some(mended)) => {
                write_headers(first, priority, &mended, ready);
                self.held.advance(bytes);
            }
            Err(block::Malformed) => self.passing = ALL,
        }
    }
}

/// Headers in as many frames as they need.
fn write_headers(first: Head, priority: &[u8], mut block: &[u8], ready: &mut BytesMut) {
    let mut head = Head { flags: first.flags & !(PADDED | END_HEADERS), ..first };
    let mut priority = priority;
    loop {
        let piece;
        (piece, block) = block.split_at(block.len().min(PAYLOAD_BYTES_MAX - priority.len()));
        head.payload_bytes = priority.len() + piece.len();
        if block.is_empty() {
            head.flags |= END_HEADERS;
        }
        head.write(ready);
        ready.put_slice(priority);
        ready.put_slice(piece);
        if block.is_empty() {
            return;
        }
        (priority, head.kind, head.flags) = (&[], CONTINUATION, 0);
    }
}
