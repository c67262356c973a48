//! Reads: a range of keys with all its options, and the conditions of transactions.

use std::cmp::Ordering;

use bytes::Bytes;

use super::{
    Head, KvError,
    allowance::Allowance,
    validate::key_range,
    version::Position,
    view::{Scan, View},
};
use crate::proto::{
    etcdserverpb::{
        Compare, RangeRequest, RangeResponse, ResponseHeader,
        compare::{CompareResult, CompareTarget, TargetUnion},
        range_request::{SortOrder, SortTarget},
    },
    mvccpb::KeyValue,
};

/// Checks that the revision asked for is there.
pub(super) fn check_revision(request: &RangeRequest, head: &Head) -> Result<(), KvError> {
    if request.revision > head.revision {
        return Err(KvError::FutureRevision);
    }
    if request.revision > 0 && request.revision < head.compacted {
        return Err(KvError::Compacted);
    }
    Ok(())
}

/// Answers a read whose revision has been checked, as of that, or up to a position; `latest` is the revision
/// that the answer tells.
pub(super) fn range(
    view: &View,
    latest: i64,
    until: Position,
    request: &RangeRequest,
    allowance: &mut Allowance,
) -> Result<RangeResponse, KvError> {
    let until = match request.revision {
        revision if revision > 0 => Position::end_of(revision),
        _ => until,
    };
    let mut response =
        RangeResponse { header: revision_header(latest), kvs: Vec::new(), more: false, count: 0 };
    let Some(keys) = key_range(&request.key, &request.range_end) else { return Ok(response) };
    let mut scan = view.scan(&keys, until)?;
    if request.count_only {
        response.count = count(&mut scan, allowance)?;
        return Ok(response);
    }
    // A negative limit is none, too.
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    // As in etcd, only an explicit order looks at all keys: without one, a target other than the
    // key sorts the first ones, one more than the limit.
    let whole = request.sort_order != SortOrder::None as i32 || has_filters(request);
    let without_values = request.keys_only && request.sort_target() != SortTarget::Value;
    while let Some(mut found) =
        if without_values { scan.next_without_value()? } else { scan.next()? }
    {
        response.count += 1;
        if passes(request, &found) {
            if without_values {
                found.value = Bytes::new();
            }
            allowance.take(size(&found))?;
            response.kvs.push(found);
        } else {
            allowance.take(0)?;
        }
        if !whole && limit.is_some_and(|limit| response.kvs.len() > limit) {
            response.count += count(&mut scan, allowance)?;
            break;
        }
    }
    sort(request, &mut response.kvs);
    if let Some(limit) = limit.filter(|limit| *limit < response.kvs.len()) {
        response.kvs.truncate(limit);
        response.more = true;
    }
    if request.keys_only {
        for found in &mut response.kvs {
            found.value = Bytes::new();
        }
    }
    Ok(response)
}

/// How many keys are left.
fn count(scan: &mut Scan, allowance: &mut Allowance) -> Result<i64, KvError> {
    let mut keys = 0;
    while scan.next_entry()?.is_some() {
        allowance.take(0)?;
        keys += 1;
    }
    Ok(length(keys))
}

/// What a row takes up in an answer.
pub(super) fn size(found: &KeyValue) -> usize {
    size_of::<KeyValue>() + found.key.len() + found.value.len()
}

/// A header that says nothing but the revision.
pub(super) fn revision_header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// A number of keys as the API counts them.
pub(super) fn length(keys: usize) -> i64 {
    i64::try_from(keys).expect("keys fit in memory")
}

fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &RangeRequest, found: &KeyValue) -> bool {
    let within =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(found.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(found.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Sorts what came in order of keys; keys that compare equal stay in that order.
fn sort(request: &RangeRequest, found: &mut [KeyValue]) {
    let target = request.sort_target();
    let compare = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match (request.sort_order(), target) {
        (SortOrder::Descend, _) => found.sort_by(|a, b| compare(b, a)),
        (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => (),
        (SortOrder::None | SortOrder::Ascend, _) => found.sort_by(compare),
    }
}

/// Whether a condition holds as of `revision`. On a range, it has to hold for every key; on no key
/// at all it is compared with zeros, and a condition on a value fails. `go_on` is asked at every key.
pub(super) fn holds(
    view: &View,
    revision: i64,
    compare: &Compare,
    go_on: &mut dyn FnMut() -> Result<(), KvError>,
) -> Result<bool, KvError> {
    let mut any = false;
    if let Some(keys) = key_range(&compare.key, &compare.range_end) {
        let mut scan = view.scan(&keys, Position::end_of(revision))?;
        let is_about_values = compare.target == CompareTarget::Value as i32;
        while let Some(found) =
            if is_about_values { scan.next()? } else { scan.next_without_value()? }
        {
            go_on()?;
            any = true;
            if !holds_for(compare, &found) {
                return Ok(false);
            }
        }
    }
    Ok(any
        || (compare.target != CompareTarget::Value as i32
            && holds_for(compare, &KeyValue::default())))
}

/// Whether a condition holds for what a key holds. What the condition compares with counts only if
/// it is of the kind of its target and is zero or empty otherwise; an unknown target equals
/// anything, an unknown result always holds.
fn holds_for(compare: &Compare, found: &KeyValue) -> bool {
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => found.version.cmp(&match union {
            Some(TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        Ok(CompareTarget::Create) => found.create_revision.cmp(&match union {
            Some(TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Mod) => found.mod_revision.cmp(&match union {
            Some(TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        Ok(CompareTarget::Lease) => found.lease.cmp(&match union {
            Some(TargetUnion::Lease(lease)) => *lease,
            _ => 0,
        }),
        Ok(CompareTarget::Value) => found.value[..].cmp(match union {
            Some(TargetUnion::Value(value)) => &value[..],
            _ => &[],
        }),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Err(_) => true,
    }
}
