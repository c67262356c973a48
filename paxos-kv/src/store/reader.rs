//! Reading beside the writer.

use std::{
    fmt,
    sync::{Arc, PoisonError},
};

use paxos_core::types::Slot;

use super::{
    Head, KvError, MemberAttributes, RequestLimits, Rules, StoreError, allowance::Allowance,
    flusher::Inner, read, validate, version::Position, view::View, write,
};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};

/// Reads the store from any thread while commands are applied. Each call answers from the store as
/// of one slot, the last one applied when the call began. Cheap to clone.
///
/// A call may read from a disk, and takes as long as what it is asked for is large.
#[derive(Clone)]
pub struct Reader {
    pub(super) inner: Arc<Inner>,
}

impl Reader {
    /// Answers a read.
    ///
    /// # Errors
    ///
    /// If the request makes no sense, or asks for a revision that is compacted or yet to come.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, KvError> {
        self.range_within(request, &mut Allowance::unlimited())
    }

    /// The same, within an allowance.
    pub(crate) fn range_within(
        &self,
        request: &RangeRequest,
        allowance: &mut Allowance,
    ) -> Result<RangeResponse, KvError> {
        validate::range(request)?;
        let (view, head) = self.now();
        read::check_revision(request, &head)?;
        let until = Position::end_of(head.revision);
        let found = read::range(&view, head.revision, until, request, allowance);
        found.inspect_err(|error| {
            if let KvError::Store(StoreError::Damaged { .. }) = error {
                let (key, range_end) =
                    (request.key.escape_ascii(), request.range_end.escape_ascii());
                tracing::error!(%key, %range_end, "the damage was met when these keys were read");
            }
        })
    }

    /// Whether a read of this one key is answered without a look at a disk: the key is so new that it is not in
    /// the tables yet, or these are in memory.
    pub(crate) fn is_in_memory(&self, request: &RangeRequest) -> bool {
        let (view, head) = self.now();
        let until = if request.revision > 0 { request.revision } else { head.revision };
        self.inner.disk.is_in_memory()
            || view.version_in_memory(&request.key, Position::end_of(until)).is_some()
    }

    /// Answers a transaction that writes nothing, whichever way it goes.
    ///
    /// # Errors
    ///
    /// As [`range`](Reader::range).
    ///
    /// # Panics
    ///
    /// If [`is_read_only`](validate::is_read_only) says that it writes.
    pub fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, KvError> {
        self.txn_within(request, &mut Allowance::unlimited())
    }

    /// The same, within an allowance.
    pub(crate) fn txn_within(
        &self,
        request: &TxnRequest,
        allowance: &mut Allowance,
    ) -> Result<TxnResponse, KvError> {
        assert!(validate::is_read_only(request), "a transaction that writes has to be proposed");
        validate::txn(request, RequestLimits::MAX)?;
        let (view, head) = self.now();
        write::read_only_txn(&view, &head, request, allowance)
    }

    /// What the members have said of themselves, by member id.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn members(&self) -> Result<Vec<MemberAttributes>, KvError> {
        let (view, _) = self.now();
        Ok(view.members()?)
    }

    /// The rules in force: what is proposed now is to be made [`under`](super::Command::under) these.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.head().rules
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.head().revision
    }

    /// Revisions below cannot be read; −1 before the first compaction.
    #[must_use]
    pub fn compacted_revision(&self) -> i64 {
        self.head().compacted
    }

    /// The last slot applied, durable or not.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.head().applied
    }

    /// The size of the file; for a store in memory, of what it holds.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.inner.disk.file_bytes().unwrap_or_else(|| self.size_in_use())
    }

    /// Keys and values of all revisions that can be read, in bytes, with what it takes to store
    /// them: an estimate, somewhat higher while changes are not in the tables yet.
    #[must_use]
    pub fn size_in_use(&self) -> u64 {
        let (view, _) = self.now();
        let layers = [Some(&view.active), view.frozen.as_ref()];
        let layers: usize = layers.into_iter().flatten().map(|layer| layer.bytes()).sum();
        u64::try_from(view.disk.extent.bytes).unwrap_or(0) + layers as u64
    }

    pub(super) fn now(&self) -> (View, Head) {
        let published = self.inner.published.read().unwrap_or_else(PoisonError::into_inner);
        (published.view.clone(), published.head)
    }

    fn head(&self) -> Head {
        self.inner.published.read().unwrap_or_else(PoisonError::into_inner).head
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = self.head();
        f.debug_struct("Reader").field("revision", &head.revision).finish_non_exhaustive()
    }
}
