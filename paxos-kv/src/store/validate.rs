//! The checks of a request that need no store: the same ones, in the same order and with the same
//! gaps as etcd's, so that a client gets the same answer from both.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use bytes::Bytes;
use paxos_core::limits::COMMAND_BYTES_MAX;

use super::KvError;
use crate::proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

/// What a request may measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// A request that is to be replicated, in bytes.
    pub request_bytes_max: usize,
    /// Operations of one list of a transaction. A nested transaction may use what the lists around
    /// it leave.
    pub txn_operations_max: usize,
}

impl RequestLimits {
    /// What no server can raise its limits above. Of the largest command the rest is its envelope.
    pub const MAX: RequestLimits = RequestLimits {
        request_bytes_max: COMMAND_BYTES_MAX - (64 << 10),
        txn_operations_max: 65_536,
    };
}

/// Those of etcd.
impl Default for RequestLimits {
    fn default() -> RequestLimits {
        RequestLimits { request_bytes_max: 3 << 19, txn_operations_max: 128 }
    }
}

/// Transactions within transactions. Below the depth at which the decoder refuses a message, so
/// that whatever is proposed can be decoded again.
pub const TXN_DEPTH_MAX: usize = 32;

/// Checks a read.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn range(request: &RangeRequest) -> Result<(), KvError> {
    if request.key.is_empty() {
        return Err(KvError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err()
        || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(KvError::InvalidSortOption);
    }
    Ok(())
}

/// Checks a write.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn put(request: &PutRequest) -> Result<(), KvError> {
    if request.key.is_empty() {
        return Err(KvError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(KvError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(KvError::LeaseProvided);
    }
    Ok(())
}

/// Checks a deletion.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), KvError> {
    if request.key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction and every one within it.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn txn(request: &TxnRequest, limits: RequestLimits) -> Result<(), KvError> {
    txn_operations(request, limits.txn_operations_max, TXN_DEPTH_MAX)?;
    written_keys(&request.success)?;
    written_keys(&request.failure)?;
    Ok(())
}

/// Whether a transaction writes nothing, whichever way it goes: then it needs no consensus.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|operation| match &operation.request {
        Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) => false,
        Some(Request::RequestTxn(nested)) => is_read_only(nested),
        Some(Request::RequestRange(_)) | None => true,
    })
}

/// Whether a transaction without writes may be answered from a state that others have gone beyond: every
/// operation, of either branch, is a read whose client takes that, or such a transaction. One that is about
/// conditions alone has nobody who would have said so.
#[must_use]
pub(crate) fn is_serializable(request: &TxnRequest) -> bool {
    let mut operations = request.success.iter().chain(&request.failure).peekable();
    operations.peek().is_some()
        && operations.all(|operation| match &operation.request {
            Some(Request::RequestRange(range)) => range.serializable,
            Some(Request::RequestTxn(nested)) => is_serializable(nested),
            _ => false,
        })
}

fn txn_operations(request: &TxnRequest, operations: usize, depth: usize) -> Result<(), KvError> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = operations.checked_sub(longest).ok_or(KvError::TooManyOperations)?;
    let depth = depth.checked_sub(1).ok_or(KvError::TooManyOperations)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(KvError::EmptyKey);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(request)) => range(request)?,
            Some(Request::RequestPut(request)) => put(request)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Request::RequestTxn(nested)) => txn_operations(nested, left, depth)?,
            None => return Err(KvError::KeyNotFound),
        }
    }
    Ok(())
}

/// What a list of operations may write, whichever way the transactions within it go.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deleted_keys: BTreeSet<&'a [u8]>,
    /// Start and end of every range deleted, those that overlap made one.
    deleted_ranges: BTreeMap<&'a [u8], &'a [u8]>,
}

impl<'a> Written<'a> {
    fn put(&mut self, key: &'a [u8]) -> Result<(), KvError> {
        if self.deletes(key) || !self.puts.insert(key) {
            return Err(KvError::DuplicateKey);
        }
        Ok(())
    }

    /// As in etcd, an end of "\0" counts as that very key here and not as the end of all keys: such
    /// a deletion covers nothing.
    fn delete(&mut self, request: &'a DeleteRangeRequest) {
        if request.range_end.is_empty() {
            self.deleted_keys.insert(&request.key);
        } else {
            self.delete_range(&request.key, &request.range_end);
        }
    }

    fn delete_range(&mut self, mut start: &'a [u8], mut end: &'a [u8]) {
        if end <= start {
            return;
        }
        while let Some((&other_start, &other_end)) =
            self.deleted_ranges.range(..=end).next_back().filter(|(_, other)| **other >= start)
        {
            start = start.min(other_start);
            end = end.max(other_end);
            self.deleted_ranges.remove(other_start);
        }
        self.deleted_ranges.insert(start, end);
    }

    fn deletes(&self, key: &[u8]) -> bool {
        let covering = self.deleted_ranges.range(..=key).next_back();
        self.deleted_keys.contains(key) || covering.is_some_and(|(_, end)| key < *end)
    }

    fn add_deletes(&mut self, other: Written<'a>) {
        self.deleted_keys.extend(other.deleted_keys);
        for (start, end) in other.deleted_ranges {
            self.delete_range(start, end);
        }
    }
}

/// Collects what the operations write; an error if two of them may write one key. Each list's own
/// deletions come first, then the transactions within it in order, then its own puts: a put is
/// checked against the deletions collected by then, as in etcd.
fn written_keys(operations: &[RequestOp]) -> Result<Written<'_>, KvError> {
    let mut written = Written::default();
    for operation in operations {
        if let Some(Request::RequestDeleteRange(request)) = &operation.request {
            written.delete(request);
        }
    }
    for operation in operations {
        if let Some(Request::RequestTxn(nested)) = &operation.request {
            let success = written_keys(&nested.success)?;
            let failure = written_keys(&nested.failure)?;
            for key in &success.puts {
                written.put(key)?;
            }
            // Only one of the two branches is taken, so both may put the same key.
            for key in &failure.puts {
                if success.puts.contains(key) {
                    continue;
                }
                written.put(key)?;
            }
            written.add_deletes(success);
            written.add_deletes(failure);
        }
    }
    for operation in operations {
        if let Some(Request::RequestPut(request)) = &operation.request {
            written.put(&request.key)?;
        }
    }
    Ok(written)
}

/// The keys that `key` and `range_end` select; `None` if there can be none.
pub(super) fn key_range(key: &Bytes, range_end: &Bytes) -> Option<KeyRange> {
    match &range_end[..] {
        [] => Some(KeyRange::One(key.clone())),
        [0] => Some(KeyRange::Many { start: key.clone(), end: None }),
        end if end <= &key[..] => None,
        _ => Some(KeyRange::Many { start: key.clone(), end: Some(range_end.clone()) }),
    }
}

/// Selected keys.
#[derive(Clone, Debug)]
pub(super) enum KeyRange {
    /// One key.
    One(Bytes),
    /// Every key from the start on, up to the end if there is one, which is excluded.
    Many {
        /// First key.
        start: Bytes,
        /// End.
        end: Option<Bytes>,
    },
}

impl KeyRange {
    /// Whether `key` is selected.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one == key,
            KeyRange::Many { start, end } => {
                &start[..] <= key && end.as_ref().is_none_or(|end| key < &end[..])
            }
        }
    }
}

/// The upper bound of a range of keys.
pub(super) fn upper_bound(end: Option<&Bytes>) -> Bound<&[u8]> {
    end.map_or(Bound::Unbounded, |end| Bound::Excluded(&end[..]))
}
