//! A log record on disk.
//!
//! ```text
//! round, u64 LE | node, u64 LE | CRC-32, u32 LE | value
//! ```
//!
//! The checksum is of cluster (u64 LE), group (u32 LE), slot (u64 LE), ballot and value: it covers
//! where the record belongs, so that a sound record in a wrong place is noticed too.

use std::ops::Range;

use bytes::Bytes;
use paxos_core::{
    message::Record,
    types::{Ballot, NodeId, Slot, Value},
};

use super::group::LogId;

/// Where the ballot stands.
pub(super) const BALLOT: Range<usize> = 0..16;
/// Where the checksum stands.
pub(super) const CHECKSUM: Range<usize> = 16..20;
/// What stands before the value.
pub(super) const HEADER_BYTES: usize = 20;

/// How long the record of a value is, in bytes.
pub(super) fn encoded_len(value: &Bytes) -> usize {
    HEADER_BYTES + value.len()
}

/// Writes a record into `target`, which is [`encoded_len`] long.
pub(super) fn encode(log: LogId, slot: Slot, ballot: Ballot, value: &Bytes, target: &mut [u8]) {
    target[..8].copy_from_slice(&ballot.round.to_le_bytes());
    target[8..16].copy_from_slice(&ballot.node.0.to_le_bytes());
    target[HEADER_BYTES..].copy_from_slice(value);
    seal(log, slot, target);
}

/// Gives a record that is whole but for its checksum the right one.
pub(super) fn seal(log: LogId, slot: Slot, record: &mut [u8]) {
    let checksum = checksum(log, slot, &record[BALLOT], &record[HEADER_BYTES..]);
    record[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads the record of `slot`.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn decode(log: LogId, slot: Slot, bytes: &[u8]) -> Result<Record, String> {
    let Some((header, value)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!("the record of slot {slot} is cut short"));
    };
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let ballot = Ballot { round: number(0), node: NodeId(number(8)) };
    if header[CHECKSUM] != checksum(log, slot, &header[BALLOT], value).to_le_bytes() {
        return Err(format!("the record of slot {slot} does not match its checksum"));
    }
    let value = Value::decode(Bytes::copy_from_slice(value))
        .map_err(|error| format!("the record of slot {slot} holds no value: {error}"))?;
    Ok(Record { slot, ballot, value })
}

fn checksum(log: LogId, slot: Slot, ballot: &[u8], value: &[u8]) -> u32 {
    let mut hasher = log.checksum_at(&[slot.0]);
    hasher.update(ballot);
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use paxos_core::types::ClusterId;

    use super::*;

    #[test]
    fn a_record_reads_back_only_where_it_belongs_and_unchanged() {
        let (log, slot) = (LogId { cluster: ClusterId(7), group: 0 }, Slot(3));
        let ballot = Ballot { round: 5, node: NodeId(2) };
        let value = Value::Noop.encoded();
        let mut bytes = vec![0; encoded_len(&value)];
        encode(log, slot, ballot, &value, &mut bytes);
        let record = Record { slot, ballot, value: Value::Noop };
        assert_eq!(decode(log, slot, &bytes), Ok(record));
        let (cluster, group) = (LogId { cluster: ClusterId(8), ..log }, LogId { group: 1, ..log });
        assert!(decode(cluster, slot, &bytes).is_err(), "another cluster's");
        assert!(decode(group, slot, &bytes).is_err(), "another group's");
        assert!(decode(log, Slot(4), &bytes).is_err(), "another slot's");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let error = decode(log, slot, &flipped).expect_err("a flipped bit");
            assert!(error.contains("slot 3"), "{error}");
            assert!(decode(log, slot, &bytes[..at]).is_err(), "cut after {at} bytes");
        }
    }
}
