//! Where a node of [`paxos_core`] keeps what it must not forget.
//!
//! A [`Storage`](paxos_core::port::Storage) holds a node's identity, its acceptor's promise, its
//! log and how far the log is chosen. Its contract stands, as numbered guarantees, at the trait.
//! This crate has the backends, each behind a feature of its name, and the suite that checks them:
//!
//! - `MemoryStorage` (feature `memory`): for tests, demos and clusters that may lose everything at
//!   once. It crashes, fills up and fails on request.
//! - `RedbStorage` (feature `redb`): a directory on disk. What it has acknowledged survives a power
//!   cut; damage is an error that says what to do, never a log with a hole.
//! - [`conformance`]: the contract as a suite, for these backends and for one of your own.
//!
//! # Example
//!
//! A node gives its storage to the builder and never looks at it again. By itself, one works like
//! this:
//!
//! ```
//! # #[cfg(feature = "redb")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let parent = tempfile::tempdir()?;
//! # let directory = parent.path().join("node-1");
//! use paxos_core::{port::{Storage, WriteBatch}, types::{Ballot, ClusterId, NodeId}};
//! use paxos_storage::RedbStorage;
//!
//! let storage = RedbStorage::open(&directory)?;
//! storage.recover(ClusterId(1), NodeId(1)).await?;
//! let promised = Some(Ballot { round: 7, node: NodeId(2) });
//! storage.write(WriteBatch { promised, ..WriteBatch::default() }).await?;
//! // From here on the promise survives whatever happens to this machine but its disk.
//! storage.close().await;
//!
//! let storage = RedbStorage::open(&directory)?;
//! let recovered = storage.recover(ClusterId(1), NodeId(1)).await?;
//! assert_eq!(Some(recovered.promised), promised);
//! assert_eq!(recovered.last_incarnation, 1);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "redb"))]
//! # fn main() {}
//! ```

pub mod conformance;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "redb")]
mod redb;

#[cfg(feature = "memory")]
pub use memory::MemoryStorage;
#[cfg(feature = "redb")]
pub use redb::{RedbStorage, create_directory};
