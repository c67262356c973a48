//! The encoding with names: every value says what it is, every field and variant what it is called.
//!
//! The bytes: [`FORMAT`], then one value. A value is a tag ([`tag`]) and what belongs to it; there is one
//! way to write a value. A struct is a map from the names of its fields; a variant without content is
//! its name, one with content a map from its name to that. Unlike most such formats it tells `Some(None)`
//! from `None`, a character from a text, and every float from every other, since a command that
//! comes back as another one is worse than none.
//!
//! It calls itself human-readable, which decides how some types write themselves (an address as text, say):
//! serde reads what it has set aside, in tagged enums and beside flattened fields, as if it were.

mod read;
mod write;

use std::fmt;

use serde::{Serialize, de::DeserializeOwned};

/// What the bytes begin with.
pub(in crate::port) const FORMAT: u8 = 0xD1;

/// Values within each other, at most: a stack has an end, and bytes need not come from friends.
const DEPTH_MAX: usize = 128;

/// What the first byte of a value says of it. Numbers are little-endian, lengths and integers LEB128.
mod tag {
    /// Below it: an integer of that size.
    pub(super) const SMALL_END: u8 = 0x80;
    pub(super) const NONE: u8 = 0x80;
    /// The value follows.
    pub(super) const SOME: u8 = 0x81;
    pub(super) const UNIT: u8 = 0x82;
    pub(super) const FALSE: u8 = 0x83;
    pub(super) const TRUE: u8 = 0x84;
    /// An integer of 64 bits and above all that have tags of their own.
    pub(super) const UNSIGNED: u8 = 0x85;
    /// As many below -1.
    pub(super) const NEGATIVE: u8 = 0x86;
    /// An integer that takes more than 64 bits, in 16 bytes.
    pub(super) const U128: u8 = 0x87;
    pub(super) const I128: u8 = 0x88;
    pub(super) const F32: u8 = 0x89;
    pub(super) const F64: u8 = 0x8A;
    /// A code point, in 4 bytes.
    pub(super) const CHAR: u8 = 0x8B;
    /// A length, and as many bytes.
    pub(super) const TEXT: u8 = 0x8C;
    pub(super) const BYTES: u8 = 0x8D;
    /// Values, up to the end.
    pub(super) const SEQUENCE: u8 = 0x8E;
    /// Keys and values in turn, up to the end.
    pub(super) const MAP: u8 = 0x8F;
    pub(super) const END: u8 = 0x90;
    /// A text of 0 to 31 bytes, from here on.
    pub(super) const SHORT_TEXT: u8 = 0xA0;
    pub(super) const SHORT_TEXT_END: u8 = 0xC0;
}

/// The value as bytes.
pub(in crate::port) fn encode(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let mut writer = write::Writer::new(vec![FORMAT]);
    value.serialize(&mut writer)?;
    Ok(writer.into_bytes())
}

/// The value in bytes whose format has been looked at.
pub(in crate::port) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let mut reader = read::Reader::new(&bytes[1..]);
    let value = T::deserialize(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Why a value is none in this format, in words.
#[derive(Debug)]
pub(in crate::port) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl serde::ser::Error for Failure {
    fn custom<T: fmt::Display>(reason: T) -> Failure {
        Failure(reason.to_string())
    }
}

impl serde::de::Error for Failure {
    fn custom<T: fmt::Display>(reason: T) -> Failure {
        Failure(reason.to_string())
    }
}
