//! Multi-Paxos: replicate any state machine, and keep it available and consistent while a minority
//! of its nodes is down.
//!
//! Write the state machine and give each node a storage and a transport; the rest is `propose` and
//! `read`, on any node.
//!
#![cfg_attr(feature = "node", doc = "```")]
#![cfg_attr(not(feature = "node"), doc = "```ignore")]
//! use paxos_core::{Node, port::StateMachine, types::{Membership, Slot}};
//! use paxos_storage::MemoryStorage;
//! use paxos_transport::MemoryNetwork;
//!
//! /// Adds up what it is given.
//! #[derive(Default)]
//! struct Counter {
//!     total: i64,
//! }
//!
//! impl StateMachine for Counter {
//!     type Command = i64;
//!     type Response = i64;
//!     type Snapshot = i64;
//!
//!     fn apply(&mut self, _slot: Slot, commands: Vec<i64>) -> Vec<i64> {
//!         let add = |number| {
//!             self.total += number;
//!             self.total
//!         };
//!         commands.into_iter().map(add).collect()
//!     }
//!
//!     fn snapshot(&self) -> i64 {
//!         self.total
//!     }
//!
//!     fn restore(&mut self, _: Slot, total: i64) -> std::io::Result<()> {
//!         self.total = total;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Membership::new([(1, "node-1"), (2, "node-2"), (3, "node-3")])?;
//! let network = MemoryNetwork::new(1);
//! let mut nodes = Vec::new();
//! for id in cluster.voters() {
//!     let node = Node::builder(id, cluster.clone())
//!         .storage(MemoryStorage::new())
//!         .transport(network.join(id))
//!         .start(Counter::default())
//!         .await?;
//!     nodes.push(node);
//! }
//!
//! // Any node takes proposals; they have effect once, whatever happens to the leader.
//! assert_eq!(nodes[0].propose(3).await?, 3);
//! assert_eq!(nodes[1].propose(4).await?, 7);
//! // Any node serves reads that see everything acknowledged before.
//! assert_eq!(nodes[2].read(|counter| counter.total).await?, 7);
//! # for node in nodes { node.shutdown().await?; }
//! # Ok(())
//! # }
//! ```
//!
//! With nodes on several machines, take another storage and transport from `paxos-storage` and
//! `paxos-transport`; nothing else changes.
//!
//! # The map
//!
//! | module      | what is there                                                             |
//! |-------------|---------------------------------------------------------------------------|
//! | [`replica`] | the protocol: a deterministic state machine without I/O, a file per role  |
#![cfg_attr(
    feature = "node",
    doc = "| [`node`]    | a replica driven by tokio (feature `node`, on by default)                 |"
)]
#![cfg_attr(
    feature = "node",
    doc = "| [`guide`]   | for embedders: embedding, codecs, retry, states, reading, testing         |"
)]
#![cfg_attr(
    feature = "sim",
    doc = "| [`sim`]     | whole clusters in virtual time, under faults, from a seed (feature `sim`)   |"
)]
//! | [`port`]    | what a node needs: [`Storage`](port::Storage), [`Transport`](port::Transport), [`StateMachine`](port::StateMachine) |
//! | [`types`]   | the vocabulary: ballots, slots, values, memberships, quorums              |
//! | [`message`] | what replicas say to each other, and its encoding                         |
//! | [`limits`]  | every bound, with its reason                                              |
//!
//! With `default-features = false` there is the pure protocol, without tokio and without threads:
//! [`Replica`] takes [`Input`](replica::Input)s and returns [`Effects`](replica::Effects) for a
//! driver of your own.
//!
//! # What is guaranteed
//!
//! - A command that was acknowledged is durable on a quorum of the nodes.
//! - Every node applies the same commands in the same order, each once, however often it was sent.
//! - A read returns a state that contains everything acknowledged before it began, unless it asks
//!   for the local one.
//! - Overload is refused; nothing grows without bound.

#[cfg(paxos_bug_bank)]
pub mod bug_bank;
mod config;
#[cfg(test)]
mod fuzz;
#[cfg(feature = "node")]
pub mod guide;
pub mod limits;
pub mod message;
#[cfg(feature = "node")]
pub mod node;
mod planted;
pub mod port;
pub mod replica;
#[cfg(feature = "sim")]
pub mod sim;
pub mod types;

pub use config::{Config, ConfigError};
#[cfg(feature = "node")]
pub use node::Node;
pub use replica::Replica;
