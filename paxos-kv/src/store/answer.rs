//! What a command did. What is only answered of it is read later, by whoever answers: every replica carries the
//! command out, and one has a client.
//!
//! An answer holds on to the store as it was, up to the position that the command had come to when it was to read:
//! however late it is read, it says the same.

use std::fmt;

use super::{
    KvError, Response, allowance::Allowance, read, validate::KeyRange, version::Position,
    view::View,
};
use crate::proto::{
    etcdserverpb::{
        CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse,
        PutResponse, RangeRequest, ResponseHeader, ResponseOp, TxnResponse, response_op,
    },
    mvccpb::KeyValue,
};

const READS: &str = "what reads has a view";

/// What a command did. What is only answered of it, ranges and previous values, is read by whoever asks for the
/// [`response`](Answer::response), and is as of the command, however late that is. Dropped unread, it has cost next
/// to nothing.
pub struct Answer {
    did: Did,
    /// Where it reads; nowhere if it has to read nothing.
    view: Option<View>,
}

/// What a command did, or a part of it.
pub(super) enum Did {
    Put {
        revision: i64,
        previous: Option<Previous>,
    },
    DeleteRange {
        revision: i64,
        deleted: i64,
        previous: Option<Previous>,
    },
    /// It reads as of the revision asked for, or up to the position.
    Range {
        request: RangeRequest,
        latest: i64,
        until: Position,
    },
    Txn {
        revision: i64,
        txn: DidTxn,
    },
    Compact {
        revision: i64,
    },
    MemberAttributes,
    RaiseRules,
    GrantLease {
        revision: i64,
        id: i64,
        ttl: i64,
    },
    RevokeLease {
        revision: i64,
    },
    RenewLeases {
        ttls: Vec<i64>,
    },
    ExpireLease {
        is_ended: bool,
    },
    NoteLeases,
}

/// The branch of a transaction that was taken.
pub(super) struct DidTxn {
    pub(super) succeeded: bool,
    pub(super) parts: Vec<Did>,
}

/// What keys held before.
pub(super) struct Previous {
    pub(super) keys: KeyRange,
    pub(super) until: Position,
}

impl Did {
    fn reads(&self) -> bool {
        match self {
            Did::Put { previous, .. } | Did::DeleteRange { previous, .. } => previous.is_some(),
            Did::Range { .. } => true,
            Did::Txn { txn, .. } => txn.parts.iter().any(Did::reads),
            _ => false,
        }
    }
}

impl Answer {
    pub(super) fn of(did: Did, view: &View) -> Answer {
        let view = did.reads().then(|| view.clone());
        Answer { did, view }
    }

    /// Whether [`response`](Answer::response) reads the store, and may have to wait for a disk.
    #[must_use]
    pub fn reads(&self) -> bool {
        self.view.is_some()
    }

    /// All of it.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn response(self) -> Result<Response, KvError> {
        self.response_within(&mut Allowance::unlimited())
    }

    /// The same, within an allowance.
    pub(crate) fn response_within(self, allowance: &mut Allowance) -> Result<Response, KvError> {
        let mut reading = Reading { view: self.view.as_ref(), allowance };
        Ok(match self.did {
            Did::Put { revision, previous } => Response::Put(reading.put(revision, previous)?),
            Did::DeleteRange { revision, deleted, previous } => {
                Response::DeleteRange(reading.delete_range(revision, deleted, previous)?)
            }
            Did::Txn { revision, txn } => {
                let mut response = reading.txn(txn)?;
                response.header = read::revision_header(revision);
                Response::Txn(response)
            }
            Did::Compact { revision } => {
                Response::Compact(CompactionResponse { header: read::revision_header(revision) })
            }
            Did::MemberAttributes => Response::MemberAttributes,
            Did::RaiseRules => Response::RaiseRules,
            Did::GrantLease { revision, id, ttl } => Response::GrantLease(LeaseGrantResponse {
                header: read::revision_header(revision),
                id,
                ttl,
                error: String::new(),
            }),
            Did::RevokeLease { revision } => Response::RevokeLease(LeaseRevokeResponse {
                header: read::revision_header(revision),
            }),
            Did::RenewLeases { ttls } => Response::RenewLeases(ttls),
            Did::ExpireLease { is_ended } => Response::ExpireLease(is_ended),
            Did::NoteLeases => Response::NoteLeases,
            Did::Range { .. } => unreachable!("a read on its own is no command"),
        })
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("reads", &self.reads()).finish_non_exhaustive()
    }
}

/// What of a command has to be read is being read.
struct Reading<'a> {
    view: Option<&'a View>,
    allowance: &'a mut Allowance,
}

impl Reading<'_> {
    fn previous(&mut self, previous: Option<Previous>) -> Result<Vec<KeyValue>, KvError> {
        let Some(Previous { keys, until }) = previous else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut scan = self.view.expect(READS).scan(&keys, until)?;
        while let Some(key_value) = scan.next()? {
            self.allowance.take(read::size(&key_value))?;
            found.push(key_value);
        }
        Ok(found)
    }

    fn put(&mut self, revision: i64, previous: Option<Previous>) -> Result<PutResponse, KvError> {
        let prev_kv = self.previous(previous)?.pop();
        Ok(PutResponse { header: read::revision_header(revision), prev_kv })
    }

    fn delete_range(
        &mut self,
        revision: i64,
        deleted: i64,
        previous: Option<Previous>,
    ) -> Result<DeleteRangeResponse, KvError> {
        let prev_kvs = self.previous(previous)?;
        Ok(DeleteRangeResponse { header: read::revision_header(revision), deleted, prev_kvs })
    }

    /// A header without a revision: only the outermost one has it.
    fn txn(&mut self, txn: DidTxn) -> Result<TxnResponse, KvError> {
        let parts = txn.parts.into_iter();
        let responses = parts.map(|did| self.part(did)).collect::<Result<_, _>>()?;
        let header = Some(ResponseHeader::default());
        Ok(TxnResponse { header, succeeded: txn.succeeded, responses })
    }

    fn part(&mut self, did: Did) -> Result<ResponseOp, KvError> {
        let response = match did {
            Did::Put { revision, previous } => {
                response_op::Response::ResponsePut(self.put(revision, previous)?)
            }
            Did::DeleteRange { revision, deleted, previous } => {
                let response = self.delete_range(revision, deleted, previous)?;
                response_op::Response::ResponseDeleteRange(response)
            }
            Did::Range { request, latest, until } => {
                let found =
                    read::range(self.view.expect(READS), latest, until, &request, self.allowance)?;
                response_op::Response::ResponseRange(found)
            }
            Did::Txn { txn, .. } => response_op::Response::ResponseTxn(self.txn(txn)?),
            _ => unreachable!("no part of a transaction"),
        };
        Ok(ResponseOp { response: Some(response) })
    }
}
