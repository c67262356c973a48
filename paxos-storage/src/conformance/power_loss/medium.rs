//! A disk in memory that remembers what was done to it.

use std::{
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
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    operations: Vec<Operation>,
}

impl Medium {
    /// A medium that holds `image`, and on which nothing has been done yet.
    #[must_use]
    pub fn holding(image: Vec<u8>) -> Medium {
        Medium(Arc::new(Mutex::new(State { bytes: image, operations: Vec::new() })))
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
    pub fn sync(&self) {
        self.record(Operation::Sync);
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
            Operation::Sync => {}
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
