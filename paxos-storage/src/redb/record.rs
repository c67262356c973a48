//! A log record on disk.
//!
//! ```text
//! round, u64 LE | node, u64 LE | CRC-32 of cluster, slot, ballot and value, u32 LE | value
//! ```
//!
//! The checksum covers where the record belongs, so that a sound record in a wrong place is
//! noticed too.

use bytes::Bytes;
use paxos_core::{
    message::Record,
    types::{Ballot, ClusterId, NodeId, Slot, Value},
};

/// What stands before the value.
const HEADER_BYTES: usize = 20;

/// How long the record of a value is, in bytes.
pub(super) fn encoded_len(value: &Bytes) -> usize {
    HEADER_BYTES + value.len()
}

/// Writes a record into `target`, which is [`encoded_len`] long.
pub(super) fn encode(
    cluster: ClusterId,
    slot: Slot,
    ballot: Ballot,
    value: &Bytes,
    target: &mut [u8],
) {
    let checksum = checksum(cluster, slot, ballot, value);
    target[..8].copy_from_slice(&ballot.round.to_le_bytes());
    target[8..16].copy_from_slice(&ballot.node.0.to_le_bytes());
    target[16..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    target[HEADER_BYTES..].copy_from_slice(value);
}

/// Reads the record of `slot`.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn decode(cluster: ClusterId, slot: Slot, bytes: &[u8]) -> Result<Record, String> {
    let Some((header, value)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(format!("the record of slot {slot} is cut short"));
    };
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    let ballot = Ballot { round: number(0), node: NodeId(number(8)) };
    let stored = u32::from_le_bytes(header[16..].try_into().expect("4 bytes"));
    if stored != checksum(cluster, slot, ballot, value) {
        return Err(format!("the record of slot {slot} does not match its checksum"));
    }
    let value = Value::decode(Bytes::copy_from_slice(value))
        .map_err(|error| format!("the record of slot {slot} holds no value: {error}"))?;
    Ok(Record { slot, ballot, value })
}

fn checksum(cluster: ClusterId, slot: Slot, ballot: Ballot, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [cluster.0, slot.0, ballot.round, ballot.node.0] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(value);
    hasher.finalize()
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_only_where_it_belongs_and_unchanged() {
        let (cluster, slot) = (ClusterId(7), Slot(3));
        let ballot = Ballot { round: 5, node: NodeId(2) };
        let value = Value::Noop.encoded();
        let mut bytes = vec![0; encoded_len(&value)];
        encode(cluster, slot, ballot, &value, &mut bytes);
        let record = Record { slot, ballot, value: Value::Noop };
        assert_eq!(decode(cluster, slot, &bytes), Ok(record));
        assert!(decode(ClusterId(8), slot, &bytes).is_err(), "another cluster's");
        assert!(decode(cluster, Slot(4), &bytes).is_err(), "another slot's");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let error = decode(cluster, slot, &flipped).expect_err("a flipped bit");
            assert!(error.contains("slot 3"), "{error}");
            assert!(decode(cluster, slot, &bytes[..at]).is_err(), "cut after {at} bytes");
        }
    }
}
