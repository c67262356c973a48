//! The ports: what a replica needs from the world, as traits with numbered guarantees.
//!
//! Adapters live in crates of their own (`paxos-storage`, `paxos-transport`), each with a
//! conformance suite that checks these guarantees and that an adapter of yours can run too.

mod codec;
mod image;
mod read;
mod snapshot;
mod state_machine;
mod states;
mod storage;
mod storage_error;
mod transport;
mod write;

pub use codec::{Codec, CodecError, Compact};
pub use image::Image;
pub use read::cut_off;
pub use snapshot::Snapshot;
pub use state_machine::StateMachine;
pub use states::States;
pub use storage::{Recovered, Storage};
pub use storage_error::StorageError;
pub use transport::{Event, RefusedPeer, Transport, TransportError};
pub use write::{Checkpoint, StateChunk, StateHasher, StateSummary, Write, WriteBatch, WriteError};
