//! A block of headers in HPACK (RFC 7541), with a usable `:authority`.
//!
//! What is changed keeps its length, and is kept by the reader if it was to be kept: so the reader's table has as
//! many entries, of the same sizes, as the client believes, and what either calls by its number is the same.

use std::borrow::Cow;

use http::uri::Authority;

use super::huffman;

/// The number of `:authority`, with an empty value, among the headers that have one from the start.
const AUTHORITY: usize = 1;

/// How many of those there are.
const STATIC_ENTRIES: usize = 61;

const NAME: &[u8] = b":authority";

/// The same in Huffman's code.
const CODED_NAME: [u8; 8] = [0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// Which of the headers that a reader keeps are called `:authority`, the last one first.
///
/// It keeps 4,096 bytes of them, and each counts for more than 32. One that it has had to let go is never asked
/// for again, so it does not matter that it is remembered here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept(u128);

impl Kept {
    fn push(&mut self, is_authority: bool) {
        self.0 = self.0 << 1 | u128::from(is_authority);
    }

    /// Whether the header with this number is one.
    fn is_authority(self, number: usize) -> bool {
        let age = number.checked_sub(STATIC_ENTRIES + 1).and_then(|age| u32::try_from(age).ok());
        age.and_then(|age| self.0.checked_shr(age)).is_some_and(|kept| kept & 1 == 1)
    }
}

/// The bytes are no block of headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The block with authorities that a reader takes; `None` if it has no others.
pub(super) fn mend(block: &[u8], kept: &mut Kept) -> Result<Option<Vec<u8>>, Malformed> {
    let mut reader = Reader { block, at: 0 };
    let mut mended = Mended { block, copied: 0, bytes: Vec::new() };
    while let Some(&first) = block.get(reader.at) {
        let begin = reader.at;
        match first {
            0x80.. => {
                if reader.integer(7)? == AUTHORITY {
                    mended.replace(begin, reader.at, &[]);
                }
            }
            // The size of what is kept.
            0x20..0x40 => {
                reader.integer(5)?;
            }
            _ => {
                let is_kept = first >= 0x40;
                let is_authority = match reader.integer(if is_kept { 6 } else { 4 })? {
                    0 => reader.text()?.is_name(),
                    AUTHORITY => true,
                    number => kept.is_authority(number),
                };
                let value_begin = reader.at;
                let value = reader.text()?;
                if is_kept {
                    kept.push(is_authority);
                }
                if !is_authority {
                    continue;
                }
                let value = value.decoded()?;
                if value.is_empty() {
                    // Nothing else would be as long; a client that has one kept is refused.
                    if !is_kept {
                        mended.replace(begin, reader.at, &[]);
                    }
                } else if Authority::try_from(&value[..]).is_err() {
                    mended.replace(value_begin, reader.at, &encoded(&usable(&value)));
                }
            }
        }
    }
    Ok(mended.finish())
}

/// An authority as long as this text that is none, with as much of it as can be.
fn usable(text: &[u8]) -> Vec<u8> {
    let usable = |&byte: &u8| match byte {
        b'.' => byte,
        byte if byte.is_ascii_alphanumeric() => byte,
        _ => b'-',
    };
    text.iter().map(usable).collect()
}

/// A text as it stands in a block.
fn encoded(text: &[u8]) -> Vec<u8> {
    const PREFIX_MAX: usize = 0x7f;
    let mut bytes = Vec::with_capacity(text.len() + 5);
    let mut rest = match text.len().checked_sub(PREFIX_MAX) {
        Some(rest) => {
            bytes.push(PREFIX_MAX as u8);
            Some(rest)
        }
        None => {
            bytes.push(text.len() as u8);
            None
        }
    };
    while let Some(left) = rest {
        let is_last = left < 0x80;
        bytes.push(if is_last { left as u8 } else { left as u8 | 0x80 });
        rest = (!is_last).then_some(left >> 7);
    }
    bytes.extend_from_slice(text);
    bytes
}

/// A block of which something is replaced.
struct Mended<'b> {
    block: &'b [u8],
    /// How far it is copied, or replaced.
    copied: usize,
    bytes: Vec<u8>,
}

impl Mended<'_> {
    fn replace(&mut self, begin: usize, end: usize, by: &[u8]) {
        self.bytes.extend_from_slice(&self.block[self.copied..begin]);
        self.bytes.extend_from_slice(by);
        self.copied = end;
    }

    fn finish(mut self) -> Option<Vec<u8>> {
        if self.copied == 0 {
            return None;
        }
        self.bytes.extend_from_slice(&self.block[self.copied..]);
        Some(self.bytes)
    }
}

/// A name or a value as it stands in a block.
struct Text<'b> {
    is_coded: bool,
    bytes: &'b [u8],
}

impl<'b> Text<'b> {
    fn is_name(&self) -> bool {
        self.bytes == if self.is_coded { &CODED_NAME[..] } else { NAME }
    }

    fn decoded(&self) -> Result<Cow<'b, [u8]>, Malformed> {
        match self.is_coded {
            true => huffman::decode(self.bytes).map(Cow::Owned).ok_or(Malformed),
            false => Ok(Cow::Borrowed(self.bytes)),
        }
    }
}

struct Reader<'b> {
    block: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.block.get(self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    /// An integer in so many bits and the bytes behind them; readers take four of these.
    fn integer(&mut self, prefix_bits: u32) -> Result<usize, Malformed> {
        let mask = (1 << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn text(&mut self) -> Result<Text<'b>, Malformed> {
        let is_coded = *self.block.get(self.at).ok_or(Malformed)? >= 0x80;
        let length = self.integer(7)?;
        let bytes = self.block[self.at..].get(..length).ok_or(Malformed)?;
        self.at += length;
        Ok(Text { is_coded, bytes })
    }
}
