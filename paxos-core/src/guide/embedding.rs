//! Embedding: from an empty crate to three servers.
//!
//! # Dependencies
//!
//! ```toml
//! [dependencies]
//! paxos-core = { path = "paxos-core" }
//! paxos-storage = { path = "paxos-storage", default-features = false, features = ["redb"] }
//! paxos-transport = { path = "paxos-transport", default-features = false, features = ["quic"] }
//! serde = { version = "1", features = ["derive"] }
//! tokio = { version = "1", features = ["rt-multi-thread", "macros", "time", "net"] }
//! ```
//!
//! A node runs on the tokio runtime that it is started on, which needs its time driver, and its I/O driver for
//! sockets: `#[tokio::main]` has both. Several threads, so that a state machine that blocks holds up nobody.
//!
//! # One server
//!
//! Every server is given the same membership, the same cluster id, and a storage and a transport of its own:
//!
//! ```
//! # use std::io;
//! # use paxos_core::{Node, port::StateMachine, types::{ClusterId, Membership, Slot}};
//! # use paxos_storage::MemoryStorage;
//! # use paxos_transport::MemoryNetwork;
//! # #[derive(Default)]
//! # struct Sum(u64);
//! # impl StateMachine for Sum {
//! #     type Command = u64;
//! #     type Response = u64;
//! #     type Snapshot = u64;
//! #     fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<u64> {
//! #         commands.into_iter().map(|command| { self.0 += command; self.0 }).collect()
//! #     }
//! #     fn snapshot(&self) -> u64 { self.0 }
//! #     fn restore(&mut self, _: Slot, sum: u64) -> io::Result<()> { self.0 = sum; Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (storage, transport) = (MemoryStorage::new(), MemoryNetwork::new(1).bind("a:7000"));
//! // let storage = RedbStorage::open("/var/lib/sum")?;
//! // let transport = QuicTransport::bind("0.0.0.0:7000", Some(tls)).await?;
//! let membership = Membership::new([(1, "a:7000")])?; // , (2, "b:7000"), (3, "c:7000")
//! let node = Node::builder(1, membership)
//!     .cluster_id(ClusterId(0x5e7_c0de))
//!     .storage(storage)
//!     .transport(transport)
//!     .start(Sum::default())
//!     .await?;
//! assert_eq!(node.propose(3).await?, 3);
//! assert_eq!(node.read(|sum| sum.0).await?, 3);
//! node.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! - **Ids** are numbers from 1, each given to one node for good. A node that has lost its disk does not come back
//!   under its id: it has forgotten what it promised, and its peers refuse it.
//! - **Addresses** are where peers dial the node, `host:port` for TCP and QUIC.
//! - **The cluster id** keeps nodes of two clusters apart. A data directory belongs to one. By default it
//!   [follows](crate::node::NodeBuilder::cluster_id) from ids and addresses, and then no address can ever change.
//! - **The data directory** is for one node at a time, and is never put back from an older copy: what a node has
//!   voted must not be forgotten. If that happens [`Status::is_older_copy`](crate::replica::Status::is_older_copy)
//!   says so.
//!
//! # Handles
//!
//! A [`Node`](crate::Node) is a cheap handle; clone it into every task. When the last one is dropped the node shuts
//! down. Whoever only watches over it takes a [`WeakNode`](crate::node::WeakNode):
//!
//! ```
//! # use std::io;
//! # use paxos_core::{Node, port::StateMachine, types::{ClusterId, Membership, Slot}};
//! # use paxos_storage::MemoryStorage;
//! # use paxos_transport::MemoryNetwork;
//! # #[derive(Default)]
//! # struct Sum(u64);
//! # impl StateMachine for Sum {
//! #     type Command = u64;
//! #     type Response = u64;
//! #     type Snapshot = u64;
//! #     fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<u64> {
//! #         commands.into_iter().map(|command| { self.0 += command; self.0 }).collect()
//! #     }
//! #     fn snapshot(&self) -> u64 { self.0 }
//! #     fn restore(&mut self, _: Slot, sum: u64) -> io::Result<()> { self.0 = sum; Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let node = Node::builder(1, Membership::new([(1, "node-1")])?)
//! #     .storage(MemoryStorage::new())
//! #     .transport(MemoryNetwork::new(1).join(1))
//! #     .start(Sum::default())
//! #     .await?;
//! let watched = node.downgrade();
//! let watcher = tokio::spawn(async move {
//!     if let Err(reason) = watched.stopped().await {
//!         eprintln!("the node has failed: {reason}");
//!     }
//! });
//! drop(node); // It was the last one.
//! watcher.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What goes wrong
//!
//! Every error says whether the command may have effect ([`ProposeError`](crate::node::ProposeError)):
//!
//! | error | effect | what to do |
//! |---|---|---|
//! | `Busy`, `DiskFull` | none | try again later |
//! | `TooLarge`, `Unencodable`, `InvalidId`, `IdUsed`, `WithinStateMachine` | none | correct the caller |
//! | `UnknownOutcome`, `Refused` | unknown | [ask again](super::retry), under a name |
//! | `AlreadyApplied`, `Expired` | has been, or is unknown | see [retry](super::retry) |
//! | `Malformed` | none | nodes run versions that do not understand each other's commands |
//! | `Stopped` | unknown | the node is gone, for the reason in it |
//!
//! [`Node::status`](crate::Node::status), [`leadership`](crate::Node::leadership) and
//! [`refusals`](crate::Node::refusals) say how a node does: who leads, how far it has come, and which peers refuse it
//! and why. The rest is in the log, by [`tracing`].
//!
//! # The end
//!
//! [`shutdown`](crate::Node::shutdown) returns when everything is applied, written and closed; what does not come
//! back is left behind after [`shutdown_timeout`](crate::node::NodeBuilder::shutdown_timeout). A node that fails, on
//! a disk that does or on a state machine that panics, ends as a whole: wait for
//! [`stopped`](crate::Node::stopped), and end the process.
//!
//! A state machine must not wait for its own node: it would wait for itself. Whatever it wants to propose, a
//! task proposes after it has returned.
