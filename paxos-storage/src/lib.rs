//! Where a node of [`paxos_core`] keeps what it must not forget.
//!
//! A [`Storage`](paxos_core::port::Storage) holds a node's identity, its acceptor's promise, its
//! log and how far the log is chosen. Its contract stands, as numbered guarantees, at the trait.
//! This crate has the backends, each behind a feature of the same name, and the suite that checks
//! them:
//!
//! - [`MemoryStorage`]: for tests, demos and clusters that may lose everything at once. It can
//!   crash, fill up and fail on request.

#[cfg(feature = "memory")]
mod memory;

#[cfg(feature = "memory")]
pub use memory::MemoryStorage;
