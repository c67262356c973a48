//! The simplest storage that keeps the contract: entries one after the other, each with a checksum
//! and at a sector of its own, all of them in memory besides. It shows what an embedder's storage
//! needs to be checked, and, with a flaw put in, that the check can fail.

use std::{
    ops::RangeInclusive,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;
use paxos_core::{
    message::{Record, Watermark},
    port::{
        Checkpoint, Image, Recovered, StateChunk, StateSummary, Storage, StorageError, Write,
        WriteBatch,
    },
    types::{Ballot, ClusterId, Identity, NodeId, Slot, StoreId, Value},
};
use paxos_storage::conformance::Medium;
use serde::{Deserialize, Serialize};

const SECTOR_BYTES: usize = 512;
/// Length and checksum of an entry.
const HEADER_BYTES: usize = 8;

/// What is wrong with a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Syncs a batch with the one after it.
    AcknowledgesBeforeSync,
    /// Does not sync the incarnation, but for the first.
    CountsInMemory,
    /// Does not look at checksums, and takes the records that it can read.
    AcceptsTornEntries,
    /// Takes whatever it cannot read for the end.
    ReadsDamageAsTheEnd,
    /// Takes what it reads for what is on the medium.
    TrustsTheCache,
}

pub(crate) struct Journal {
    medium: Medium,
    flaw: Flaw,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where the next entry goes.
    end: usize,
    identity: Option<Identity>,
    incarnation: u64,
    image: Image,
    has_failed: bool,
}

#[derive(Serialize, Deserialize)]
enum Entry {
    Born(Identity),
    Started(u64),
    Batch {
        promised: Option<Ballot>,
        chosen: Option<Watermark>,
        records: Vec<(Slot, Ballot, Vec<u8>)>,
        state: Vec<(Slot, u64, Vec<u8>)>,
        checkpoint: Option<(Watermark, Vec<u8>, Option<StateSummary>)>,
        floor: Option<Slot>,
        peers: Vec<(NodeId, StoreId)>,
        memberships: Option<Vec<u8>>,
    },
    Closed,
}

impl Journal {
    pub(crate) fn open(medium: Medium, flaw: Flaw) -> Result<Journal, StorageError> {
        Ok(Journal { medium, flaw, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }

    /// The entry at `at`, and where the next one is.
    fn entry(&self, at: usize) -> Option<(Entry, usize)> {
        let mut header = [0; HEADER_BYTES];
        self.medium.read(at, &mut header).ok()?;
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4"));
        let len = usize::try_from(number(0)).ok().filter(|len| *len <= self.medium.len())?;
        let mut bytes = vec![0; len];
        self.medium.read(at + HEADER_BYTES, &mut bytes).ok()?;
        let sound = number(4) == checksum(at, &bytes) || self.flaw == Flaw::AcceptsTornEntries;
        let entry = postcard::from_bytes(&bytes).ok().filter(|_| sound)?;
        Some((entry, (at + HEADER_BYTES + len).next_multiple_of(SECTOR_BYTES)))
    }

    fn append(&self, state: &mut State, entry: &Entry) {
        let bytes = postcard::to_stdvec(entry).expect("plain data encodes");
        let len = u32::try_from(bytes.len()).expect("a small entry");
        let header = [len.to_le_bytes(), checksum(state.end, &bytes).to_le_bytes()].concat();
        self.medium.write(state.end, &[header, bytes].concat());
        state.end = (state.end + HEADER_BYTES + len as usize).next_multiple_of(SECTOR_BYTES);
    }

    /// Reads all entries, and drops an unfinished last one.
    fn load(&self, state: &mut State) -> Result<(), StorageError> {
        while let Some((entry, next)) = self.entry(state.end) {
            match entry {
                Entry::Born(identity) => state.identity = Some(identity),
                Entry::Started(incarnation) => state.incarnation = incarnation,
                Entry::Closed => {}
                batch => state.image.apply(&batch.into_batch(self.flaw)?),
            }
            state.end = next;
        }
        let mut rest = (state.end..self.medium.len()).step_by(SECTOR_BYTES);
        if self.flaw != Flaw::ReadsDamageAsTheEnd && rest.any(|at| self.entry(at).is_some()) {
            return Err(damaged("an entry before the last"));
        }
        self.medium.set_len(state.end);
        if self.flaw != Flaw::TrustsTheCache {
            // After a failed sync it may be on no medium, although it can be read.
            let mut all = vec![0; state.end];
            self.medium.read(0, &mut all).map_err(failed)?;
            self.medium.write(0, &all);
        }
        self.medium.sync().map_err(failed)
    }
}

fn checksum(at: usize, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&at.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn failed(error: std::io::Error) -> StorageError {
    let (path, reason) = ("the journal".to_owned(), error.to_string());
    StorageError::Io { operation: "sync", path, reason }
}

fn damaged(what: &str) -> StorageError {
    StorageError::Damaged { path: "the journal".to_owned(), what: what.to_owned() }
}

impl Entry {
    fn of(batch: &WriteBatch) -> Entry {
        let record =
            |record: &Record| (record.slot, record.ballot, record.value.encoded().to_vec());
        Entry::Batch {
            promised: batch.promised,
            chosen: batch.chosen,
            records: batch.records.iter().map(record).collect(),
            state: batch.state.iter().map(|it| (it.slot, it.offset, it.bytes.to_vec())).collect(),
            checkpoint: batch.checkpoint.as_ref().map(|it| (it.at, it.sessions.to_vec(), it.state)),
            floor: batch.floor,
            peers: batch.peers.iter().map(|(peer, store)| (*peer, *store)).collect(),
            memberships: batch.memberships.as_ref().map(|it| it.to_vec()),
        }
    }

    fn into_batch(self, flaw: Flaw) -> Result<WriteBatch, StorageError> {
        let Entry::Batch {
            promised,
            chosen,
            records,
            state,
            checkpoint,
            floor,
            peers,
            memberships,
        } = self
        else {
            return Ok(WriteBatch::default());
        };
        let record = |(slot, ballot, value): (Slot, Ballot, Vec<u8>)| {
            let value = Value::decode(Bytes::from(value)).map_err(|_| damaged("a value"))?;
            Ok::<_, StorageError>(Record { slot, ballot, value })
        };
        let chunk = |(slot, offset, bytes): (Slot, u64, Vec<u8>)| StateChunk {
            slot,
            offset,
            bytes: bytes.into(),
        };
        let checkpoint = checkpoint.map(|(at, sessions, state)| Checkpoint {
            at,
            sessions: sessions.into(),
            state,
        });
        let readable = |record: &Result<_, _>| record.is_ok() || flaw != Flaw::AcceptsTornEntries;
        let records = records.into_iter().map(record).filter(readable).collect::<Result<_, _>>()?;
        let state = state.into_iter().map(chunk).collect();
        let peers = peers.into_iter().collect();
        let memberships = memberships.map(Bytes::from);
        Ok(WriteBatch { promised, chosen, records, state, checkpoint, floor, peers, memberships })
    }
}

#[async_trait]
impl Storage for Journal {
    async fn recover(&self, cluster: ClusterId, node: NodeId) -> Result<Recovered, StorageError> {
        let mut state = self.state();
        self.load(&mut state)?;
        if state.identity.is_none() {
            let born = Identity { cluster, node, store: StoreId(fastrand::u64(1..)) };
            self.append(&mut state, &Entry::Born(born));
            state.identity = Some(born);
        }
        state.incarnation += 1;
        let started = Entry::Started(state.incarnation);
        self.append(&mut state, &started);
        if self.flaw != Flaw::CountsInMemory || state.incarnation == 1 {
            self.medium.sync().map_err(failed)?;
        }
        let identity = state.identity.expect("set above");
        Ok(state.image.recovered(identity, state.incarnation))
    }

    fn write(&self, batch: WriteBatch) -> Write {
        let mut state = self.state();
        if state.has_failed {
            return Write::Done(Err(StorageError::Failed.into()));
        }
        let mut synced = Ok(());
        if self.flaw == Flaw::AcknowledgesBeforeSync {
            synced = self.medium.sync();
        }
        self.append(&mut state, &Entry::of(&batch));
        if self.flaw != Flaw::AcknowledgesBeforeSync {
            synced = self.medium.sync();
        }
        state.has_failed = synced.is_err();
        state.image.apply(&batch);
        Write::Done(synced.map_err(|error| failed(error).into()))
    }

    async fn read(
        &self,
        slots: RangeInclusive<Slot>,
        _: usize,
    ) -> Result<Vec<Record>, StorageError> {
        Ok(self.state().image.records.range(slots).map(|(_, it)| it.clone()).collect())
    }

    async fn read_state(
        &self,
        slot: Slot,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Bytes, StorageError> {
        Ok(self.state().image.states.read(slot, offset, bytes_max))
    }

    async fn close(&self) {
        let mut state = self.state();
        if !state.has_failed {
            self.append(&mut state, &Entry::Closed);
            // Everything that was acknowledged is durable.
            let _ = self.medium.sync();
        }
    }
}
