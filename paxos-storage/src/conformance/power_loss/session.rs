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

/// How much of a state is read at once.
const STATE_BYTES_MAX: usize = 1 << 16;

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
        let started = find(self.open, self.medium.clone(), &before).await;
        let found =
            started.unwrap_or_else(|failure| panic!("power loss: a start with power: {failure}"));
        self.started(found)
    }

    fn started(&mut self, found: Found<S>) -> S {
        let Found { storage, recovered: Recovered { incarnation, identity, .. }, batches } = found;
        self.note(Note::Recovered { batches, incarnation, store: identity.store });
        storage
    }

    /// The same where `failing` syncs fail, counted from the end of the first start: after every
    /// failure, as a process that starts again.
    pub(super) async fn run_in_spite_of_failures(
        &mut self,
        batches: &[WriteBatch],
        failing: impl IntoIterator<Item = usize>,
    ) {
        let middle = batches.len().div_ceil(2);
        let mut storage = self.start().await;
        self.medium.fail_syncs(failing);
        let mut was_ended = false;
        while let Some(batch) = batches.get(self.known.given()) {
            if self.known.given() == middle && !was_ended {
                was_ended = true;
                storage.close().await;
                drop(storage);
                storage = self.start_again().await;
                continue;
            }
            self.note(Note::Writing(Box::new(batch.clone())));
            if storage.write(batch.clone()).await.is_ok() {
                self.note(Note::Written);
                continue;
            }
            assert!(self.medium.has_failed(), "1: a write fails though no sync has");
            drop(storage);
            storage = self.start_again().await;
        }
        storage.close().await;
    }

    /// Starts, as often as it takes while syncs fail.
    async fn start_again(&mut self) -> S {
        while self.medium.is_to_fail() {
            let before = self.known.clone();
            match find(self.open, self.medium.clone(), &before).await {
                Ok(found) => return self.started(found),
                Err(Failure::Refused(_)) if self.medium.has_failed() => {}
                Err(failure) => panic!("sync failure: a start while syncs fail: {failure}"),
            }
        }
        self.start().await
    }

    pub(super) async fn write(&mut self, storage: &S, batch: WriteBatch) {
        self.note(Note::Writing(Box::new(batch.clone())));
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
    let mut states = Vec::new();
    let unfinished = recovered.unfinished.map(|(slot, _)| slot);
    for slot in unfinished.into_iter().chain(recovered.checkpoint.slot_of_state()) {
        let mut state = Vec::new();
        loop {
            let piece = storage.read_state(slot, state.len() as u64, STATE_BYTES_MAX).await;
            let piece = piece.map_err(Failure::Refused)?;
            if piece.is_empty() {
                break;
            }
            state.extend_from_slice(&piece);
        }
        states.push((slot, state));
    }
    let batches = known.judge(&recovered, &log, &states).map_err(Failure::Wrong)?;
    Ok(Found { storage, recovered, batches })
}
