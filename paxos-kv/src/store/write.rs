//! Changes: one command at a time, every change of a command at one revision.
//!
//! What is only answered is not read here ([`Answer`]), and values that are deleted or replaced are not looked
//! at: a command costs a replica what it changes, and its conditions.

mod lease;

use bytes::Bytes;
use paxos_core::types::Slot;
use prost::Message;

use super::{
    Answer, Command, Envelope, Head, KvError, MemberAttributes, RequestLimits, Rules, StoreError,
    allowance::Allowance,
    answer::{Did, DidTxn, Previous},
    layer,
    lease::Counted,
    read,
    small::{self, Table},
    sums,
    validate::{KeyRange, key_range},
    version::{Live, Position, Version},
    view::{Entry, View},
};
use crate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse, request_op::Request, response_op,
};

/// Memory that the deletions of one command may take up until they are in the tables: they are one change, at
/// one revision, so they cannot be made a part at a time.
pub(super) const DELETED_BYTES_MAX: usize = 128 << 20;

/// Executes a command on `view` and moves `head` on. What is wrong with the command comes out as
/// the inner error, the same on every node; the outer one says that this node's store failed. What becomes of
/// leases is added to `counted`.
pub(super) fn execute(
    view: &View,
    head: &mut Head,
    slot: Slot,
    envelope: Envelope,
    counted: &mut Vec<Counted>,
) -> Result<Result<Answer, KvError>, StoreError> {
    let mut writer = Writer { view, head, slot, rules: envelope.rules, counted, changes: 0 };
    match writer.command(envelope.command) {
        Err(KvError::Store(error)) => Err(error),
        did => {
            writer.finish();
            Ok(did.map(|did| Answer::of(did, view)))
        }
    }
}

struct Writer<'a> {
    view: &'a View,
    head: &'a mut Head,
    slot: Slot,
    /// By which the command is carried out.
    rules: Rules,
    counted: &'a mut Vec<Counted>,
    /// Changes made so far, all of them at the next revision.
    changes: u32,
}

/// The way a transaction goes: which operations it does, with the ways of the transactions within.
struct Path<'t> {
    succeeded: bool,
    steps: Vec<Step<'t>>,
}

enum Step<'t> {
    Range(&'t RangeRequest),
    Put(&'t PutRequest),
    DeleteRange(&'t DeleteRangeRequest),
    Txn(Path<'t>),
}

impl Writer<'_> {
    fn command(&mut self, command: Command) -> Result<Did, KvError> {
        command.validate(RequestLimits::MAX)?;
        match command {
            Command::Put(request) => {
                self.check_lease(&request)?;
                self.check_ignored(&request, &[])?;
                Ok(self.put(&request)?)
            }
            Command::DeleteRange(request) => {
                let mut deleted = Deleted::new(self.rules);
                self.delete_range(&request, |key| deleted.weigh(key))
            }
            Command::Txn(request) => self.txn(&request),
            Command::Compact(request) => self.compact(&request),
            Command::MemberAttributes(attributes) => {
                self.set_member(attributes)?;
                Ok(Did::MemberAttributes)
            }
            Command::RaiseRules(rules) => self.raise_rules(Rules(rules)),
            Command::GrantLease(request) => self.grant_lease(&request),
            Command::RevokeLease(request) => self.revoke_lease(request.id),
            Command::RenewLeases(request) => self.renew_leases(&request),
            Command::ExpireLease(request) => self.expire_lease(request),
            Command::NoteLeases(request) => self.note_leases(&request),
        }
    }

    fn finish(self) {
        if self.changes > 0 {
            self.head.revision += 1;
        }
    }

    /// The revision that this command's changes are visible at.
    fn latest(&self) -> i64 {
        self.head.revision + i64::from(self.changes > 0)
    }

    /// Up to the last change so far.
    fn until(&self) -> Position {
        match self.changes.checked_sub(1) {
            None => Position::end_of(self.head.revision),
            Some(index) => Position { revision: self.head.revision + 1, index },
        }
    }

    fn next_position(&mut self) -> Position {
        let position = Position { revision: self.head.revision + 1, index: self.changes };
        self.changes = self.changes.checked_add(1).expect("a command changes fewer than 2^32 keys");
        position
    }

    fn put(&mut self, request: &PutRequest) -> Result<Did, StoreError> {
        let until = self.until();
        let before = self.view.existing(&request.key, until)?;
        let replaced = before.as_ref().filter(|_| self.head.sums.is_some());
        let replaced = replaced.map(Entry::sum).transpose()?;
        let decode =
            if request.ignore_value { Version::decode } else { Version::decode_without_value };
        let before =
            before.map(|before| before.version(&self.view.disk.path, decode)).transpose()?;
        let before = before.and_then(|before| before.live);
        let position = self.next_position();
        let mut live = Live {
            create_revision: position.revision,
            version: 1,
            lease: request.lease,
            value: request.value.clone(),
        };
        let is_new = before.is_none();
        let leased = before.as_ref().map_or(0, |before| before.lease);
        if let Some(before) = before {
            live.create_revision = before.create_revision;
            live.version = before.version + 1;
            if request.ignore_value {
                live.value = before.value;
            }
            if request.ignore_lease {
                live.lease = before.lease;
            }
        }
        self.move_key(&request.key, leased, live.lease)?;
        let version = Version { position, live: Some(live) };
        if let Some(sums) = &mut self.head.sums {
            sums.put(sums::of_version(&request.key, &version), replaced);
        }
        self.view.active.insert(request.key.clone(), version);
        let keys = KeyRange::One(request.key.clone());
        let previous = (request.prev_kv && !is_new).then_some(Previous { keys, until });
        Ok(Did::Put { revision: position.revision, previous })
    }

    /// `weigh` is asked before anything is deleted whether so many more bytes of a key may be.
    fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
        mut weigh: impl FnMut(usize) -> Result<(), KvError>,
    ) -> Result<Did, KvError> {
        let until = self.until();
        let keys = key_range(&request.key, &request.range_end);
        let mut found = Vec::new();
        if let Some(keys) = &keys {
            let mut scan = self.view.scan(keys, until)?;
            while let Some(entry) = scan.next_entry()? {
                weigh(entry.key.len())?;
                let held = if self.head.sums.is_some() { entry.sum()? } else { 0 };
                found.push((entry.key.clone(), held, self.lease_of(entry)?));
            }
        }
        let deleted = read::length(found.len());
        for (key, held, lease) in found {
            self.move_key(&key, lease, 0)?;
            self.delete(key, held);
        }
        let previous = keys.filter(|_| request.prev_kv && deleted > 0);
        let previous = previous.map(|keys| Previous { keys, until });
        Ok(Did::DeleteRange { revision: self.latest(), deleted, previous })
    }

    /// Deletes a key that exists and counts for `held` in the sums.
    fn delete(&mut self, key: Bytes, held: u64) {
        let version = Version { position: self.next_position(), live: None };
        if let Some(sums) = &mut self.head.sums {
            sums.delete(sums::of_version(&key, &version), held);
        }
        self.view.active.insert(key, version);
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<Did, KvError> {
        let path = path(self.view, self.head.revision, request, &mut || Ok(()))?;
        self.check_puts(&path, &mut Vec::new())?;
        self.check_deletions(&path, &mut Deleted::new(self.rules))?;
        check_ranges(&path, self.head)?;
        let txn = self.walk(&path)?;
        Ok(Did::Txn { revision: self.latest(), txn })
    }

    /// Checks the writes of a transaction before the first one is made. `deleted` gathers what the
    /// transaction deletes on the way to each of them.
    fn check_puts(&self, path: &Path<'_>, deleted: &mut Vec<KeyRange>) -> Result<(), KvError> {
        for step in &path.steps {
            match step {
                Step::Put(request) => {
                    self.check_ignored(request, deleted)?;
                    self.check_lease(request)?;
                }
                Step::DeleteRange(request) => {
                    deleted.extend(key_range(&request.key, &request.range_end));
                }
                Step::Txn(nested) => self.check_puts(nested, deleted)?,
                Step::Range(_) => (),
            }
        }
        Ok(())
    }

    /// Checks that a key whose value or lease is to stay has one.
    fn check_ignored(&self, request: &PutRequest, deleted: &[KeyRange]) -> Result<(), KvError> {
        if !request.ignore_value && !request.ignore_lease {
            return Ok(());
        }
        let gone = deleted.iter().any(|range| range.contains(&request.key));
        if gone || self.view.existing(&request.key, self.until())?.is_none() {
            return Err(KvError::KeyNotFound);
        }
        Ok(())
    }

    /// Checks that a transaction does not delete too much, before it deletes anything. What it puts itself
    /// makes no difference: that came in one request.
    fn check_deletions(&self, path: &Path<'_>, deleted: &mut Deleted) -> Result<(), KvError> {
        for step in &path.steps {
            match step {
                Step::DeleteRange(request) => {
                    let keys = key_range(&request.key, &request.range_end);
                    let Some(keys @ KeyRange::Many { .. }) = keys else { continue };
                    let mut scan = self.view.scan(&keys, self.until())?;
                    while let Some(entry) = scan.next_entry()? {
                        deleted.weigh(entry.key.len())?;
                    }
                }
                Step::Txn(nested) => self.check_deletions(nested, deleted)?,
                Step::Range(_) | Step::Put(_) => (),
            }
        }
        Ok(())
    }

    fn walk(&mut self, path: &Path<'_>) -> Result<DidTxn, KvError> {
        let mut parts = Vec::with_capacity(path.steps.len());
        for step in &path.steps {
            parts.push(match step {
                Step::Range(request) => {
                    let (latest, until) = (self.latest(), self.until());
                    Did::Range { request: (*request).clone(), latest, until }
                }
                Step::Put(request) => self.put(request)?,
                // Weighed before, with all others.
                Step::DeleteRange(request) => self.delete_range(request, |_| Ok(()))?,
                Step::Txn(nested) => Did::Txn { revision: 0, txn: self.walk(nested)? },
            });
        }
        Ok(DidTxn { succeeded: path.succeeded, parts })
    }

    fn set_member(&mut self, attributes: MemberAttributes) -> Result<(), StoreError> {
        let key = small::member_key(attributes.member_id);
        self.set_row(Table::Members, key, Some(attributes.encode_to_vec().into()))
    }

    /// Changes what a row of a small table holds; nothing if it is to go.
    fn set_row(&mut self, table: Table, key: Bytes, held: Option<Bytes>) -> Result<(), StoreError> {
        if let Some(sums) = &mut self.head.sums {
            let before = self.view.row(table, &key)?;
            let before = before.map(|before| sums::of_row(table, &key, &before));
            match &held {
                Some(held) => sums.put(sums::of_row(table, &key, held), before),
                None => sums.delete(sums::of_row_gone(table, &key), before.unwrap_or(0)),
            }
        }
        self.view.active.insert_row(table, key, held);
        Ok(())
    }

    /// Brings newer rules into force. Those in force stay.
    fn raise_rules(&mut self, rules: Rules) -> Result<Did, KvError> {
        rules.check_known("the log")?;
        self.head.rules = self.head.rules.max(rules);
        Ok(Did::RaiseRules)
    }

    /// Forbids reading below the revision at once; the tables lose what that makes superfluous
    /// later, in small steps.
    fn compact(&mut self, request: &CompactionRequest) -> Result<Did, KvError> {
        if request.revision <= self.head.compacted {
            return Err(KvError::Compacted);
        }
        if request.revision > self.head.revision {
            return Err(KvError::FutureRevision);
        }
        self.head.compacted = request.revision;
        Ok(Did::Compact { revision: self.head.revision })
    }
}

/// What a command deletes.
struct Deleted {
    bytes: usize,
    bytes_max: usize,
}

impl Deleted {
    fn new(rules: Rules) -> Deleted {
        let bytes_max = if rules.bound_deletions() { DELETED_BYTES_MAX } else { usize::MAX };
        Deleted { bytes: 0, bytes_max }
    }

    /// Counts a key.
    fn weigh(&mut self, key_bytes: usize) -> Result<(), KvError> {
        self.bytes += layer::deletion_bytes(key_bytes);
        if self.bytes > self.bytes_max { Err(KvError::DeletesTooMuch) } else { Ok(()) }
    }
}

/// Answers a transaction that writes nothing.
pub(super) fn read_only_txn(
    view: &View,
    head: &Head,
    request: &TxnRequest,
    allowance: &mut Allowance,
) -> Result<TxnResponse, KvError> {
    let path = path(view, head.revision, request, &mut || allowance.take(0))?;
    check_ranges(&path, head)?;
    let mut response = walk_reads(view, head, &path, allowance)?;
    response.header = read::revision_header(head.revision);
    Ok(response)
}

fn walk_reads(
    view: &View,
    head: &Head,
    path: &Path<'_>,
    allowance: &mut Allowance,
) -> Result<TxnResponse, KvError> {
    let mut responses = Vec::with_capacity(path.steps.len());
    for step in &path.steps {
        let response = match step {
            Step::Range(request) => {
                let (latest, until) = (head.revision, Position::end_of(head.revision));
                let found = read::range(view, latest, until, request, allowance)?;
                response_op::Response::ResponseRange(found)
            }
            Step::Txn(nested) => {
                response_op::Response::ResponseTxn(walk_reads(view, head, nested, allowance)?)
            }
            Step::Put(_) | Step::DeleteRange(_) => {
                unreachable!("the transaction was checked to write nothing")
            }
        };
        responses.push(ResponseOp { response: Some(response) });
    }
    let header = Some(ResponseHeader::default());
    Ok(TxnResponse { header, succeeded: path.succeeded, responses })
}

/// Decides which way a transaction goes, and those within it that it comes to: all conditions are
/// about the store as it was before the first write.
fn path<'t>(
    view: &View,
    revision: i64,
    request: &'t TxnRequest,
    go_on: &mut dyn FnMut() -> Result<(), KvError>,
) -> Result<Path<'t>, KvError> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !read::holds(view, revision, compare, go_on)? {
            succeeded = false;
            break;
        }
    }
    let operations = if succeeded { &request.success } else { &request.failure };
    let steps = operations.iter().filter_map(|operation: &RequestOp| {
        Some(match operation.request.as_ref()? {
            Request::RequestRange(request) => Ok(Step::Range(request)),
            Request::RequestPut(request) => Ok(Step::Put(request)),
            Request::RequestDeleteRange(request) => Ok(Step::DeleteRange(request)),
            Request::RequestTxn(nested) => path(view, revision, nested, go_on).map(Step::Txn),
        })
    });
    Ok(Path { succeeded, steps: steps.collect::<Result<_, _>>()? })
}

fn check_ranges(path: &Path<'_>, head: &Head) -> Result<(), KvError> {
    for step in &path.steps {
        match step {
            Step::Range(request) => {
                read::check_revision(request, head)?;
                // As in etcd, only a read on its own takes a negative revision for the latest.
                if request.revision < 0 && request.revision < head.compacted {
                    return Err(KvError::Compacted);
                }
            }
            Step::Txn(nested) => check_ranges(nested, head)?,
            Step::Put(_) | Step::DeleteRange(_) => (),
        }
    }
    Ok(())
}
