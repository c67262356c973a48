//! What a key held from some position on.

use bytes::{BufMut, Bytes, BytesMut};

use super::StoreError;
use crate::proto::mvccpb::KeyValue;

/// When a change happened: its revision, and its place among the changes of that revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) revision: i64,
    pub(crate) index: u32,
}

impl Position {
    /// Behind all changes of a revision.
    pub(super) const fn end_of(revision: i64) -> Position {
        Position { revision, index: u32::MAX }
    }
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) position: Position,
    /// What the key holds since; nothing if it was deleted.
    pub(super) live: Option<Live>,
}

/// What a key that exists holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) create_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) value: Bytes,
}

/// Tag, position, create revision, version, lease.
const LIVE_BYTES: usize = 1 + 8 + 4 + 8 + 8 + 8;
/// Tag, position.
const DELETED_BYTES: usize = 1 + 8 + 4;
const TAG_DELETED: u8 = 0;
const TAG_LIVE: u8 = 1;

impl Version {
    /// The bytes that stand in a table: integers little-endian, the value behind them.
    pub(super) fn encode(&self) -> Bytes {
        let (header, length) = self.header();
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        buffer.put_slice(&header[..length]);
        if let Some(live) = &self.live {
            buffer.put_slice(&live.value);
        }
        buffer.freeze()
    }

    /// All of the encoding but the value, and its length.
    pub(super) fn header(&self) -> ([u8; LIVE_BYTES], usize) {
        let mut header = [0; LIVE_BYTES];
        let mut rest = &mut header[..];
        rest.put_u8(if self.live.is_some() { TAG_LIVE } else { TAG_DELETED });
        rest.put_i64_le(self.position.revision);
        rest.put_u32_le(self.position.index);
        if let Some(live) = &self.live {
            rest.put_i64_le(live.create_revision);
            rest.put_i64_le(live.version);
            rest.put_i64_le(live.lease);
        }
        let length = LIVE_BYTES - rest.len();
        (header, length)
    }

    /// The length of the encoding, in bytes.
    pub(super) fn encoded_len(&self) -> usize {
        self.live.as_ref().map_or(DELETED_BYTES, |live| LIVE_BYTES + live.value.len())
    }

    /// Splits an encoding into what it says; the value is copied.
    pub(super) fn decode(path: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        let mut version = Version::decode_without_value(path, bytes)?;
        if let Some(live) = &mut version.live {
            live.value = Bytes::copy_from_slice(&bytes[LIVE_BYTES..]);
        }
        Ok(version)
    }

    /// The same with an empty value, which costs nothing however long it is.
    pub(super) fn decode_without_value(path: &str, bytes: &[u8]) -> Result<Version, StoreError> {
        let damaged = || StoreError::Damaged {
            path: path.to_owned(),
            reason: format!("a record of {} bytes makes no sense", bytes.len()),
        };
        if !is_version(bytes) {
            return Err(damaged());
        }
        let position = position(bytes).ok_or_else(damaged)?;
        let field =
            |at: usize| i64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let live = (!is_deleted(bytes)).then(|| Live {
            create_revision: field(DELETED_BYTES),
            version: field(DELETED_BYTES + 8),
            lease: field(DELETED_BYTES + 16),
            value: Bytes::new(),
        });
        Ok(Version { position, live })
    }

    /// The key with what it holds, as clients see it; nothing if it was deleted.
    pub(super) fn into_key_value(self, key: Bytes) -> Option<KeyValue> {
        self.live.map(|live| KeyValue {
            key,
            create_revision: live.create_revision,
            mod_revision: self.position.revision,
            version: live.version,
            value: live.value,
            lease: live.lease,
        })
    }
}

/// A row of the feed: the length of the key, the key, and the version that it has since.
pub(super) fn feed_row(key: &[u8], encoded: &[u8]) -> Vec<u8> {
    let length = u32::try_from(key.len()).expect("a key came in a command");
    [&length.to_le_bytes(), key, encoded].concat()
}

/// The key and the encoded version in a row of the feed.
pub(super) fn split_feed_row(row: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = row.split_first_chunk()?;
    let (key, encoded) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    is_version(encoded).then_some((key, encoded))
}

/// What the history says of a version that is in the feed: whether it is a deletion.
pub(super) fn in_feed(encoded: &[u8]) -> &[u8] {
    &encoded[..1]
}

/// Whether a version may begin with this.
pub(super) fn is_tag(byte: u8) -> bool {
    [TAG_DELETED, TAG_LIVE].contains(&byte)
}

/// Whether that is what the history says. Otherwise it has the version itself.
pub(super) fn is_in_feed(held: &[u8]) -> bool {
    held.len() == 1
}

/// An encoded version as all but the value, and the value.
pub(super) fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len().min(LIVE_BYTES))
}

/// The position in an encoded version, without the rest.
pub(super) fn position(bytes: &[u8]) -> Option<Position> {
    let revision = bytes.get(1..9)?.try_into().ok()?;
    let index = bytes.get(9..DELETED_BYTES)?.try_into().ok()?;
    Some(Position { revision: i64::from_le_bytes(revision), index: u32::from_le_bytes(index) })
}

/// Whether bytes are an encoded version.
pub(super) fn is_version(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(&TAG_DELETED) => bytes.len() == DELETED_BYTES,
        Some(&TAG_LIVE) => bytes.len() >= LIVE_BYTES,
        _ => false,
    }
}

/// When the key of an encoded version was created, and how many versions it has had since; nothing of a
/// deletion.
pub(super) fn age(bytes: &[u8]) -> Option<(i64, i64)> {
    let field = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(i64::from_le_bytes);
    if is_deleted(bytes) { None } else { field(DELETED_BYTES).zip(field(DELETED_BYTES + 8)) }
}

/// Whether an encoded version is a deletion.
pub(super) fn is_deleted(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TAG_DELETED)
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_survives_its_encoding_and_damage_is_noticed() {
        let live = Live { create_revision: 2, version: 3, lease: -4, value: "value".into() };
        let position = Position { revision: 1 << 40, index: 7 };
        for live in [None, Some(live)] {
            let version = Version { position, live };
            let encoded = version.encode();
            assert_eq!(encoded.len(), version.encoded_len());
            assert_eq!(super::position(&encoded), Some(position));
            assert_eq!(is_deleted(&encoded), version.live.is_none());
            let value = version.live.as_ref().map_or("".into(), |live| live.value.clone());
            assert_eq!(split(&encoded).1, value);
            assert_eq!(Version::decode("file", &encoded).as_ref(), Ok(&version));
            for length in 0..DELETED_BYTES {
                let error = Version::decode("file", &encoded[..length]).expect_err("cut short");
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
            }
        }
        assert!(Version::decode("file", &[9; 64]).is_err(), "an unknown tag");
    }
}
