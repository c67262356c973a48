//! Leases come, are renewed and go, and keys come to belong to one.

use bytes::Bytes;
use prost::Message;

use super::{
    super::{
        KvError, StoreError,
        answer::Did,
        layer,
        lease::{Counted, Lease, TTL_MAX, attached_key, lease_key},
        small::Table,
        version::{Live, Version},
        view::Entry,
    },
    DELETED_BYTES_MAX, Writer,
};
use crate::proto::{
    etcdserverpb::{LeaseGrantRequest, PutRequest},
    paxoskv::{ExpireLease, NoteLeases, RemainingTime, RenewLeases},
};

impl Writer<'_> {
    pub(super) fn grant_lease(&mut self, request: &LeaseGrantRequest) -> Result<Did, KvError> {
        let LeaseGrantRequest { id, ttl } = *request;
        if id == 0 {
            return Err(KvError::LeaseNotFound);
        }
        if ttl > TTL_MAX {
            return Err(KvError::LeaseTooLong);
        }
        if self.view.lease(id)?.is_some() {
            return Err(KvError::LeaseExists);
        }
        let ttl = ttl.max(1);
        self.renew(id, Lease { ttl, ..Lease::default() })?;
        Ok(Did::GrantLease { revision: self.latest(), id, ttl })
    }

    /// Each that there is lasts anew.
    pub(super) fn renew_leases(&mut self, request: &RenewLeases) -> Result<Did, KvError> {
        let mut ttls = Vec::with_capacity(request.ids.len());
        for &id in &request.ids {
            let lease = self.view.lease(id)?;
            ttls.push(lease.map_or(0, |lease| lease.ttl));
            if let Some(lease) = lease {
                self.renew(id, lease)?;
            }
        }
        Ok(Did::RenewLeases { ttls })
    }

    pub(super) fn revoke_lease(&mut self, id: i64) -> Result<Did, KvError> {
        if self.view.lease(id)?.is_none() {
            return Err(KvError::LeaseNotFound);
        }
        self.end(id)?;
        Ok(Did::RevokeLease { revision: self.latest() })
    }

    /// Ends a lease if nobody has renewed it since.
    pub(super) fn expire_lease(&mut self, request: ExpireLease) -> Result<Did, KvError> {
        let lease = self.view.lease(request.id)?;
        let is_due = lease.is_some_and(|lease| lease.renewed == request.renewed);
        if is_due {
            self.end(request.id)?;
        }
        Ok(Did::ExpireLease { is_ended: is_due })
    }

    /// Notes how long leases have. None has more for it.
    pub(super) fn note_leases(&mut self, request: &NoteLeases) -> Result<Did, KvError> {
        for &RemainingTime { id, renewed, milliseconds } in &request.leases {
            let lease = self.view.lease(id)?.filter(|lease| lease.renewed == renewed);
            if let Some(mut lease) = lease
                && milliseconds < lease.remaining_milliseconds
            {
                lease.remaining_milliseconds = milliseconds;
                self.set_lease(id, lease)?;
            }
        }
        Ok(Did::NoteLeases)
    }

    fn renew(&mut self, id: i64, lease: Lease) -> Result<(), StoreError> {
        let remaining_milliseconds = lease.ttl.unsigned_abs() * 1000;
        self.set_lease(id, Lease { renewed: self.slot.0, remaining_milliseconds, ..lease })
    }

    /// Ends a lease: its keys go, at one revision.
    fn end(&mut self, id: i64) -> Result<(), StoreError> {
        let until = self.until();
        for key in self.view.lease_keys(id)? {
            self.set_row(Table::LeaseKeys, attached_key(id, &key), None)?;
            let Some(entry) = self.view.existing(&key, until)? else { continue };
            let sum = entry.sum()?;
            if self.lease_of(entry)? == id {
                self.delete(key, sum);
            }
        }
        self.set_row(Table::Leases, lease_key(id), None)?;
        self.counted.push(Counted { id, lease: None });
        Ok(())
    }

    fn set_lease(&mut self, id: i64, lease: Lease) -> Result<(), StoreError> {
        self.set_row(Table::Leases, lease_key(id), Some(lease.encode_to_vec().into()))?;
        self.counted.push(Counted { id, lease: Some(lease) });
        Ok(())
    }

    /// The lease that a key is found to have; 0 if it has none.
    pub(super) fn lease_of(&self, entry: Entry) -> Result<i64, StoreError> {
        let found = entry.version(&self.view.disk.path, Version::decode_without_value)?;
        Ok(found.live.map_or(0, |live: Live| live.lease))
    }

    /// A key has another lease from now on; 0 stands for none.
    pub(super) fn move_key(&mut self, key: &Bytes, from: i64, to: i64) -> Result<(), StoreError> {
        if from == to {
            return Ok(());
        }
        if from != 0 {
            self.set_row(Table::LeaseKeys, attached_key(from, key), None)?;
            self.weigh_lease(from, u64::saturating_sub, key)?;
        }
        if to != 0 {
            self.set_row(Table::LeaseKeys, attached_key(to, key), Some(Bytes::new()))?;
            self.weigh_lease(to, u64::saturating_add, key)?;
        }
        Ok(())
    }

    /// What a lease's end will cost becomes more or less.
    fn weigh_lease(
        &mut self,
        id: i64,
        change: impl Fn(u64, u64) -> u64,
        key: &[u8],
    ) -> Result<(), StoreError> {
        let Some(mut lease) = self.view.lease(id)? else { return Ok(()) };
        let key_bytes = layer::deletion_bytes(key.len()) as u64;
        lease.keys_bytes = change(lease.keys_bytes, key_bytes);
        self.set_row(Table::Leases, lease_key(id), Some(lease.encode_to_vec().into()))
    }

    /// Checks that a key can have the lease that a put names: that there is one, and that all of its keys can go
    /// with one command.
    pub(super) fn check_lease(&self, request: &PutRequest) -> Result<(), KvError> {
        if request.lease == 0 {
            return Ok(());
        }
        match self.view.lease(request.lease)? {
            None => Err(KvError::LeaseNotFound),
            Some(lease) if lease.keys_bytes > DELETED_BYTES_MAX as u64 => {
                Err(KvError::LeaseHoldsTooMuch)
            }
            Some(_) => Ok(()),
        }
    }
}
