//! Reading: what a read promises, what it costs, and which one is for what.
//!
//! Every read runs on the state of the node that was asked, which is that after some slot of the log: it sees whole
//! commands, in the order of the log, and none without those before it. What differs is how new that state is.
//!
//! | [`ReadMode`] | the state contains | costs | needs |
//! |---|---|---|---|
//! | [`Quorum`] (the default) | everything that was acknowledged, by any node, before the read began | a round of heartbeats, which all reads share that wait for it; at a follower also a way to the leader and back | a leader and a quorum |
//! | [`AtLeast`] | at least what this slot has decided | nothing | that this node gets so far |
//! | [`Local`] | what this node has | nothing | nothing |
//!
//! - [`Quorum`] reads are *linearizable*, on every node: as if there were one copy of the state. A node that follows asks
//!   the leader from which slot on a state is new enough, and serves the read itself, so that followers share the
//!   work of large reads.
//! - [`AtLeast`] reads are for who knows what they are looking for. Every command that was proposed with
//!   [`propose_with`] has told its slot; whoever passes that on, with a message or in a cookie, finds the command on
//!   any node, and everything that came before it. So a client that remembers the highest slot that it has seen
//!   *reads its own writes* and never goes back in time, though it comes to another node each time.
//! - [`Local`] reads may be stale by any time: a node that was cut off does not know it. They are for what may be old
//!   (a dashboard, a cache that is filled) and for when there is no quorum.
//!
//! Every read has a deadline. One that has not been served by then is [`Timeout`], and may be tried again in a mode that
//! promises less.
//!
//! ```
//! use std::time::Duration;
//!
//! use paxos_core::{Node, node::ProposeOptions, types::{Membership, ReadMode}};
//! # use paxos_core::{port::StateMachine, types::Slot};
//! # use paxos_storage::MemoryStorage;
//! # use paxos_transport::MemoryNetwork;
//! # struct Sum(u64);
//! # impl StateMachine for Sum {
//! #     type Command = u64;
//! #     type Response = u64;
//! #     type Snapshot = u64;
//! #     fn apply(&mut self, _: Slot, commands: Vec<u64>) -> Vec<u64> {
//! #         commands.into_iter().map(|command| { self.0 += command; self.0 }).collect()
//! #     }
//! #     fn snapshot(&self) -> u64 {
//! #         self.0
//! #     }
//! #     fn restore(&mut self, _: Slot, sum: u64) -> std::io::Result<()> {
//! #         self.0 = sum;
//! #         Ok(())
//! #     }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let membership = Membership::new([(1, "node-1"), (2, "node-2"), (3, "node-3")])?;
//! # let network = MemoryNetwork::new(1);
//! # let mut nodes = Vec::new();
//! # for id in membership.voters() {
//! #     let builder = Node::builder(id, membership.clone()).storage(MemoryStorage::new());
//! #     nodes.push(builder.transport(network.join(id)).start(Sum(0)).await?);
//! # }
//! # let patience = Duration::from_secs(5);
//! // Everything that was acknowledged before, on any node.
//! nodes[0].propose(3).await?;
//! assert_eq!(nodes[1].read(|sum| sum.0).await?, 3);
//!
//! // What was written at one node, at another, without a round.
//! let applied = nodes[0].propose_with(4, ProposeOptions::default()).await?;
//! let mode = ReadMode::AtLeast(applied.slot);
//! assert_eq!(nodes[2].read_with(mode, patience, |sum| sum.0).await?, 7);
//!
//! // As it is here.
//! assert_eq!(nodes[2].read_local(|sum| sum.0).await?, 7);
//! # for node in nodes { node.shutdown().await?; }
//! # Ok(())
//! # }
//! ```
//!
//! A state machine that can be read without the node's help (one that lies in a database, say) is read after
//! [`await_read`], which returns once it is new enough.
//!
//! [`ReadMode`]: crate::types::ReadMode
//! [`Quorum`]: crate::types::ReadMode::Quorum
//! [`AtLeast`]: crate::types::ReadMode::AtLeast
//! [`Local`]: crate::types::ReadMode::Local
//! [`propose_with`]: crate::Node::propose_with
//! [`await_read`]: crate::Node::await_read
//! [`Timeout`]: crate::node::ReadError::Timeout
