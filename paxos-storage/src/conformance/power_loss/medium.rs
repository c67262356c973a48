//! A disk in memory that remembers what was done to it.

use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes that a storage keeps its data in, with every change recorded. Clones are the same medium.
///
/// What is read is what was written last, synced or not, as it is while the power is on.
#[derive(Clone, Debug, Default)]
pub struct Medium(Arc<Mutex<State>>);

/// A change to a [`Medium`], or the end of a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bytes were written; the medium grew if they reached beyond its end.
    Write {
        /// Where, in bytes from the start.
        offset: usize,
        /// What.
        data: Vec<u8>,
    },
    /// The length was set, in bytes. What is new reads as zeros.
    SetLen(usize),
    /// Everything before was made durable.
    Sync,
    /// A sync failed. What was not durable before counts as clean from here on, as in a page cache: it
    /// is read as it was written, and no later sync writes it; some of it has reached the medium, and
    /// the rest is gone once the power fails, unless it is written again.
    FailedSync,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    operations: Vec<Operation>,
    /// How many syncs there were, and which are to fail.
    syncs: usize,
    failing: BTreeSet<usize>,
}

impl Medium {
    /// A medium that holds `image`, and on which nothing has been done yet.
    #[must_use]
    pub fn holding(image: Vec<u8>) -> Medium {
        Medium(Arc::new(Mutex::new(State { bytes: image, ..State::default() })))
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().bytes.len()
    }

    /// Whether there is not a byte on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with what stands from `offset` on.
    ///
    /// # Errors
    ///
    /// If the medium ends before.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let bytes = offset.checked_add(out.len()).and_then(|end| state.bytes.get(offset..end));
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// Writes `data` at `offset`.
    pub fn write(&self, offset: usize, data: &[u8]) {
        self.record(Operation::Write { offset, data: data.to_vec() });
    }

    /// Cuts the medium off after `len` bytes, or extends it with zeros.
    pub fn set_len(&self, len: usize) {
        self.record(Operation::SetLen(len));
    }

    /// Makes durable what was done so far.
    ///
    /// # Errors
    ///
    /// In [`sync_failure`](super::sync_failure), at times; then see [`Operation::FailedSync`].
    pub fn sync(&self) -> io::Result<()> {
        let fails = {
            let mut state = self.state();
            let number = state.syncs;
            state.syncs += 1;
            state.failing.remove(&number)
        };
        if fails {
            self.record(Operation::FailedSync);
            return Err(io::Error::other("the sync fails"));
        }
        self.record(Operation::Sync);
        Ok(())
    }

    /// Lets syncs fail, counted from now on, beginning with 0.
    pub(super) fn fail_syncs(&self, numbers: impl IntoIterator<Item = usize>) {
        let mut state = self.state();
        let from = state.syncs;
        state.failing.extend(numbers.into_iter().map(|number| from + number));
    }

    /// Whether a sync has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.state().operations.contains(&Operation::FailedSync)
    }

    /// Whether a sync is still to fail.
    pub(super) fn is_to_fail(&self) -> bool {
        !self.state().failing.is_empty()
    }

    /// What was done so far, in order.
    #[must_use]
    pub fn operations(&self) -> Vec<Operation> {
        self.state().operations.clone()
    }

    pub(super) fn operation_count(&self) -> usize {
        self.state().operations.len()
    }

    fn record(&self, operation: Operation) {
        let mut state = self.state();
        operation.apply(&mut state.bytes);
        state.operations.push(operation);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Operation {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Operation::Write { offset, data } => put(bytes, *offset, data),
            Operation::SetLen(len) => bytes.resize(*len, 0),
            Operation::Sync | Operation::FailedSync => {}
        }
    }
}

/// Writes `data` into `bytes`, which grow if need be.
pub(super) fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}
