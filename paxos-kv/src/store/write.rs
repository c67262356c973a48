//! Changes: one command at a time, every change of a command at one revision.

use super::{
    Command, Head, KvError, RequestLimits, Response, StoreError, read,
    validate::{KeyRange, key_range},
    version::{Live, Position, Version},
    view::View,
};
use crate::proto::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
        request_op::Request, response_op,
    },
    mvccpb::KeyValue,
};

/// Executes a command on `view` and moves `head` on. What is wrong with the command comes out as
/// the inner error, the same on every node; the outer one says that this node's store failed.
pub(super) fn execute(
    view: &View,
    head: &mut Head,
    command: Command,
) -> Result<Result<Response, KvError>, StoreError> {
    let mut writer = Writer { view, head, changes: 0 };
    match writer.command(command) {
        Err(KvError::Store(error)) => Err(error),
        answer => {
            writer.finish();
            Ok(answer)
        }
    }
}

struct Writer<'a> {
    view: &'a View,
    head: &'a mut Head,
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
    fn command(&mut self, command: Command) -> Result<Response, KvError> {
        command.validate(RequestLimits::MAX)?;
        match command {
            Command::Put(request) => {
                check_lease(&request)?;
                self.check_ignored(&request, &[])?;
                Ok(Response::Put(self.put(&request)?))
            }
            Command::DeleteRange(request) => {
                Ok(Response::DeleteRange(self.delete_range(&request)?))
            }
            Command::Txn(request) => self.txn(&request).map(Response::Txn),
            Command::Compact(request) => self.compact(&request).map(Response::Compact),
            Command::MemberAttributes(attributes) => {
                self.view.active.insert_member(attributes);
                Ok(Response::MemberAttributes)
            }
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

    fn next_position(&mut self) -> Position {
        let position = Position { revision: self.head.revision + 1, index: self.changes };
        self.changes = self.changes.checked_add(1).expect("a command changes fewer than 2^32 keys");
        position
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, StoreError> {
        let before = self.view.get(&request.key, self.latest())?;
        let position = self.next_position();
        let mut live = Live {
            create_revision: position.revision,
            version: 1,
            lease: request.lease,
            value: request.value.clone(),
        };
        if let Some(before) = &before {
            live.create_revision = before.create_revision;
            live.version = before.version + 1;
            if request.ignore_value {
                live.value = before.value.clone();
            }
            if request.ignore_lease {
                live.lease = before.lease;
            }
        }
        self.view.active.insert(request.key.clone(), Version { position, live: Some(live) });
        Ok(PutResponse {
            header: read::revision_header(position.revision),
            prev_kv: before.filter(|_| request.prev_kv),
        })
    }

    fn delete_range(
        &mut self,
        request: &DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, StoreError> {
        let mut found: Vec<KeyValue> = Vec::new();
        if let Some(keys) = key_range(&request.key, &request.range_end) {
            let mut scan = self.view.scan(&keys, self.latest())?;
            while let Some(mut key_value) = scan.next()? {
                if !request.prev_kv {
                    key_value.value.clear();
                }
                found.push(key_value);
            }
        }
        for key_value in &found {
            let version = Version { position: self.next_position(), live: None };
            self.view.active.insert(key_value.key.clone(), version);
        }
        Ok(DeleteRangeResponse {
            header: read::revision_header(self.latest()),
            deleted: read::length(found.len()),
            prev_kvs: if request.prev_kv { found } else { Vec::new() },
        })
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, KvError> {
        let path = path(self.view, self.head.revision, request)?;
        self.check_puts(&path, &mut Vec::new())?;
        check_ranges(&path, self.head)?;
        let mut response = self.walk(&path)?;
        response.header = read::revision_header(self.latest());
        Ok(response)
    }

    /// Checks the writes of a transaction before the first one is made. `deleted` gathers what the
    /// transaction deletes on the way to each of them.
    fn check_puts(&self, path: &Path<'_>, deleted: &mut Vec<KeyRange>) -> Result<(), KvError> {
        for step in &path.steps {
            match step {
                Step::Put(request) => {
                    self.check_ignored(request, deleted)?;
                    check_lease(request)?;
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
        if gone || self.view.get(&request.key, self.head.revision)?.is_none() {
            return Err(KvError::KeyNotFound);
        }
        Ok(())
    }

    fn walk(&mut self, path: &Path<'_>) -> Result<TxnResponse, StoreError> {
        let mut responses = Vec::with_capacity(path.steps.len());
        for step in &path.steps {
            responses.push(respond(match step {
                Step::Range(request) => response_op::Response::ResponseRange(read::range(
                    self.view,
                    self.latest(),
                    request,
                )?),
                Step::Put(request) => response_op::Response::ResponsePut(self.put(request)?),
                Step::DeleteRange(request) => {
                    response_op::Response::ResponseDeleteRange(self.delete_range(request)?)
                }
                Step::Txn(nested) => response_op::Response::ResponseTxn(self.walk(nested)?),
            }));
        }
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse { header, succeeded: path.succeeded, responses })
    }

    /// Forbids reading below the revision at once; the tables lose what that makes superfluous
    /// later, in small steps.
    fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, KvError> {
        if request.revision <= self.head.compacted {
            return Err(KvError::Compacted);
        }
        if request.revision > self.head.revision {
            return Err(KvError::FutureRevision);
        }
        self.head.compacted = request.revision;
        Ok(CompactionResponse { header: read::revision_header(self.head.revision) })
    }
}

/// Answers a transaction that writes nothing.
pub(super) fn read_only_txn(
    view: &View,
    head: &Head,
    request: &TxnRequest,
) -> Result<TxnResponse, KvError> {
    let path = path(view, head.revision, request)?;
    check_ranges(&path, head)?;
    let mut response = walk_reads(view, head, &path)?;
    response.header = read::revision_header(head.revision);
    Ok(response)
}

fn walk_reads(view: &View, head: &Head, path: &Path<'_>) -> Result<TxnResponse, StoreError> {
    let mut responses = Vec::with_capacity(path.steps.len());
    for step in &path.steps {
        let response = match step {
            Step::Range(request) => {
                response_op::Response::ResponseRange(read::range(view, head.revision, request)?)
            }
            Step::Txn(nested) => {
                response_op::Response::ResponseTxn(walk_reads(view, head, nested)?)
            }
            Step::Put(_) | Step::DeleteRange(_) => {
                unreachable!("the transaction was checked to write nothing")
            }
        };
        responses.push(respond(response));
    }
    let header = Some(ResponseHeader::default());
    Ok(TxnResponse { header, succeeded: path.succeeded, responses })
}

/// Decides which way a transaction goes, and those within it that it comes to: all conditions are
/// about the store as it was before the first write.
fn path<'t>(view: &View, revision: i64, request: &'t TxnRequest) -> Result<Path<'t>, StoreError> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !read::holds(view, revision, compare)? {
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
            Request::RequestTxn(nested) => path(view, revision, nested).map(Step::Txn),
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

/// No lease has been granted, so none can be found.
fn check_lease(request: &PutRequest) -> Result<(), KvError> {
    if request.lease == 0 { Ok(()) } else { Err(KvError::LeaseNotFound) }
}

fn respond(response: response_op::Response) -> ResponseOp {
    ResponseOp { response: Some(response) }
}
