//! What the store knows of leases: all but the time.
//!
//! A lease is a row that says how long it lasts after each renewal, in which slot it was renewed last, and how much
//! of that time was left when the leader noted it last. How much is left now is counted by the members, each with
//! a clock of its own (`server/lessor`); the leader has a lease expire by a command that names the renewal it has
//! counted from, so that one which has been renewed since then, whatever a late leader thinks of it, stays.
//!
//! Which keys a lease has stands in rows of their own. They go with it, all of them at one revision.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::sync::Notify;

use super::{Reader, StoreError, small::Table, view::View};

/// What is remembered of a lease.
pub(crate) use crate::proto::paxoskv::Lease;

/// Changes that are kept for whoever counts. If it lags by more, it looks at all leases.
const PENDING_MAX: usize = 100_000;
/// How long an id is in a row.
pub(super) const ID_BYTES: usize = 8;
/// The longest time, in seconds.
pub(crate) const TTL_MAX: i64 = 9_000_000_000;

/// What has become of a lease. Whoever counts its time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Its id.
    pub(crate) id: i64,
    /// How long it lasts and has, and since which renewal; nothing if it has ended.
    pub(crate) lease: Option<Lease>,
}

/// The key of a lease's row. Ids are in order, as they are for clients.
pub(super) fn lease_key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&encoded(id))
}

/// The key of the row that says that a lease has a key.
pub(super) fn attached_key(id: i64, key: &[u8]) -> Bytes {
    let mut row = BytesMut::with_capacity(ID_BYTES + key.len());
    row.put_slice(&encoded(id));
    row.put_slice(key);
    row.freeze()
}

fn encoded(id: i64) -> [u8; ID_BYTES] {
    (id.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn decoded(key: &[u8]) -> Option<i64> {
    let id = u64::from_be_bytes(key.try_into().ok()?);
    Some((id ^ (1 << 63)).cast_signed())
}

impl Lease {
    /// Whether there can be such a lease.
    pub(super) fn is_sound(&self) -> bool {
        (1..=TTL_MAX).contains(&self.ttl)
            && self.remaining_milliseconds <= self.ttl.unsigned_abs() * 1000
    }
}

impl View {
    /// A lease.
    pub(super) fn lease(&self, id: i64) -> Result<Option<Lease>, StoreError> {
        let row = self.row(Table::Leases, &lease_key(id))?;
        row.map(|row| Lease::decode(row).map_err(|_| self.disk.damaged("a lease"))).transpose()
    }

    /// The keys of a lease, in order.
    pub(super) fn lease_keys(&self, id: i64) -> Result<Vec<Bytes>, StoreError> {
        let mut keys = Vec::new();
        let mut rows = self.rows(Table::LeaseKeys, &encoded(id))?;
        while let Some((row, _)) = rows.next()? {
            keys.push(row.slice(ID_BYTES..));
        }
        Ok(keys)
    }

    /// All leases, in the order of their ids.
    pub(super) fn leases(&self) -> Result<Vec<(i64, Lease)>, StoreError> {
        let mut leases = Vec::new();
        let mut rows = self.rows(Table::Leases, &[])?;
        while let Some((key, row)) = rows.next()? {
            let lease = decoded(&key).zip(Lease::decode(row).ok());
            leases.push(lease.ok_or_else(|| self.disk.damaged("a lease"))?);
        }
        Ok(leases)
    }
}

impl Reader {
    /// A lease, with its keys if they are wanted.
    pub(crate) fn lease(
        &self,
        id: i64,
        with_keys: bool,
    ) -> Result<Option<(Lease, Vec<Bytes>)>, StoreError> {
        let (view, _) = self.now();
        let Some(lease) = view.lease(id)? else { return Ok(None) };
        let keys = if with_keys { view.lease_keys(id)? } else { Vec::new() };
        Ok(Some((lease, keys)))
    }

    /// All leases, in the order of their ids.
    pub(crate) fn leases(&self) -> Result<Vec<(i64, Lease)>, StoreError> {
        self.now().0.leases()
    }

    /// For whoever counts the time of leases.
    pub(crate) fn lease_changes(&self) -> &Arc<LeaseChanges> {
        &self.inner.lease_changes
    }
}

/// What becomes of leases, for the one who counts their time. Nothing gathers until somebody does.
#[derive(Debug, Default)]
pub(crate) struct LeaseChanges {
    pending: Mutex<Option<Pending>>,
    comes: Notify,
}

/// What whoever counts has not been told yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// All leases are to be looked at, before what follows.
    pub(crate) is_all_new: bool,
    /// What has become of some, in order.
    pub(crate) changes: Vec<Counted>,
}

impl LeaseChanges {
    pub(super) fn push(&self, counted: Vec<Counted>) {
        if counted.is_empty() {
            return;
        }
        let mut pending = self.lock();
        let Some(pending) = &mut *pending else { return };
        pending.changes.extend(counted);
        if pending.changes.len() > PENDING_MAX {
            *pending = Pending { is_all_new: true, changes: Vec::new() };
        }
        self.comes.notify_one();
    }

    /// All leases may be other ones.
    pub(crate) fn renew_all(&self) {
        if let Some(pending) = &mut *self.lock() {
            *pending = Pending { is_all_new: true, changes: Vec::new() };
            self.comes.notify_one();
        }
    }

    /// What there is to be told, since this was asked last.
    pub(crate) fn take(&self) -> Pending {
        let first = Pending { is_all_new: true, changes: Vec::new() };
        self.lock().replace(Pending::default()).unwrap_or(first)
    }

    /// Returns when there may be something.
    pub(crate) async fn comes(&self) {
        self.comes.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
