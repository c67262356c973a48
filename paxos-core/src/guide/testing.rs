//! Testing a state machine of one's own, in three ways.
//!
//! # By itself
//!
//! It is a value with three methods. What is worth a test: that commands do what they should, and that a state which
//! goes through a snapshot is the same and goes on in the same way, through bytes as it would on its way to a peer.
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
//! use paxos_core::port::Snapshot;
//!
//! # fn main() -> io::Result<()> {
//! let mut machine = Sum::default();
//! machine.apply(Slot(1), vec![3, 4]);
//! let mut other = Sum::default();
//! other.restore(Slot(1), Snapshot::from_reader(machine.snapshot().into_reader()?)?)?;
//! assert_eq!(machine.apply(Slot(2), vec![5]), other.apply(Slot(2), vec![5]));
//! # Ok(())
//! # }
//! ```
//!
//! # In nodes, under faults
//!
//! With the memory backends whole clusters run in one test. Under tokio's paused clock (`start_paused = true`, feature
//! `test-util`) their timeouts take no time: the clock leaps to the next timer whenever nothing else is to be done.
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
//! # use paxos_core::node::ProposeError;
//! # use std::time::Duration;
//! #[tokio::main(flavor = "current_thread", start_paused = true)] // a #[tokio::test] in a test
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let membership = Membership::new([(1, "node-1"), (2, "node-2"), (3, "node-3")])?;
//!     let network = MemoryNetwork::new(7);
//!     let mut nodes = Vec::new();
//!     for id in [1, 2, 3] {
//!         let node = Node::builder(id, membership.clone())
//!             .storage(MemoryStorage::new())
//!             .transport(network.join(id))
//!             .start(Sum::default())
//!             .await?;
//!         nodes.push(node);
//!     }
//!     assert_eq!(nodes[0].propose(3).await?, 3);
//!     network.isolate(1);
//!     assert_eq!(nodes[1].propose_within(4, Duration::from_secs(60)).await?, 7);
//!     assert_eq!(nodes[0].propose(5).await, Err(ProposeError::UnknownOutcome));
//!     network.heal();
//!     assert!(nodes[0].read(|sum| sum.0).await? >= 7);
//!     Ok(())
//! }
//! ```
//!
//! **Only with the memory backends.** A disk or a socket works in real time, and a paused clock leaps ahead while they
//! do: over `RedbStorage` every deadline has passed before the first sync is done, and all proposals end with
//! `UnknownOutcome`. With real backends leave the clock alone.
//!
//! `MemoryStorage` can lose power, be full and fail ([its documentation] has the list); a clone of it is the same disk,
//! for the node that starts again.
//!
//! [its documentation]: https://docs.rs/paxos-storage
//!
//! # In the simulator
//!
#![cfg_attr(
    feature = "sim",
    doc = "[`Simulated`](crate::sim::Simulated) draws commands at random and [`Simulation`](crate::sim::Simulation)"
)]
#![cfg_attr(not(feature = "sim"), doc = "`Simulated` draws commands at random and `Simulation`")]
//! (feature `sim`) runs clusters of it in virtual time, thousands of them, each from a seed: with crashes at any moment,
//! lost and torn writes, partitions and slow disks. It compares the states of all replicas after every slot, which finds
//! what is not deterministic, and takes snapshots and puts them back, which finds what a snapshot forgets. A seed that
//! fails fails again, can be watched and made simpler. The module's first page has an example of thirty lines.
