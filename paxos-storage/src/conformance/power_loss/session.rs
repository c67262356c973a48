//! A storage at work on a medium, with notes of what it has acknowledged and when.

use std::fmt;

use paxos_core::{
    port::{Recovered, Storage, StorageError, WriteBatch},
    types::Slot,
};

use super::{
    super::{CLUSTER, NODE},
    known::{Known, Note},
    medium::{Medium, Operation},
};

/// What was done to a medium, and what was known after how many of the operations.
pub(super) struct Recording {
    pub(super) operations: Vec<Operation>,
    pub(super) notes: Vec<(usize, Note)>,
}

/// Why an image does not hold what it has to.
pub(super) enum Failure {
    /// It could not be opened.
    Refused(StorageError),
    /// It holds something else.
    Wrong(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(error) => write!(f, "1 (durable): it does not recover: {error}"),
            Failure::Wrong(guarantee) => f.write_str(guarantee),
        }
    }
}

/// Runs storages on one medium, one after the other.
pub(super) struct Session<'a, F> {
    open: &'a F,
    medium: Medium,
    known: Known,
    notes: Vec<(usize, Note)>,
}

impl<'a, S, F> Session<'a, F>
where
    S: Storage,
    F: Fn(Medium) -> Result<S, StorageError>,
{
    pub(super) fn new(open: &'a F, medium: Medium, known: Known) -> Session<'a, F> {
        Session { open, medium, known, notes: Vec::new() }
    }

    /// Writes `batches`, with a proper end and a new start half-way, and ends properly.
    pub(super) async fn run(&mut self, batches: Vec<WriteBatch>) {
        let middle = batches.len().div_ceil(2);
        let mut storage = self.start().await;
        for (count, batch) in batches.into_iter().enumerate() {
            if count == middle {
                storage.close().await;
                drop(storage);
                storage = self.start().await;
            }
            self.write(&storage, batch).await;
        }
        storage.close().await;
    }

    pub(super) async fn start(&mut self) -> S {
        let before = self.known.clone();
        self.note(Note::Recovering);
        let started = find(self.open, self.medium.clone(), &before).await;
        let Found { storage, recovered: Recovered { incarnation, identity, .. }, batches } =
            started.unwrap_or_else(|failure| panic!("power loss: a start with power: {failure}"));
        self.note(Note::Recovered { batches, incarnation, store: identity.store });
        storage
    }

    pub(super) async fn write(&mut self, storage: &S, batch: WriteBatch) {
        self.note(Note::Writing(batch.clone()));
        storage.write(batch).await.expect("1: a write with power");
        self.note(Note::Written);
    }

    pub(super) fn known(&self) -> &Known {
        &self.known
    }

    pub(super) fn recording(self) -> Recording {
        Recording { operations: self.medium.operations(), notes: self.notes }
    }

    fn note(&mut self, note: Note) {
        self.known.learn(&note);
        self.notes.push((self.medium.operation_count(), note));
    }
}

/// What was found on a medium.
pub(super) struct Found<S> {
    pub(super) storage: S,
    pub(super) recovered: Recovered,
    /// How many batches there are.
    pub(super) batches: usize,
}

/// Opens a storage on a medium, of which `known` was known when the power failed, and judges what
/// it finds.
pub(super) async fn find<S: Storage>(
    open: &impl Fn(Medium) -> Result<S, StorageError>,
    medium: Medium,
    known: &Known,
) -> Result<Found<S>, Failure> {
    let storage = open(medium).map_err(Failure::Refused)?;
    let recovered = storage.recover(CLUSTER, NODE).await.map_err(Failure::Refused)?;
    let log = storage.read(Slot(1)..=Slot(u64::MAX), usize::MAX).await;
    let log = log.map_err(Failure::Refused)?;
    let batches = known.judge(&recovered, &log).map_err(Failure::Wrong)?;
    Ok(Found { storage, recovered, batches })
}
