//! # Who leads
//!
//! One node leads: all commands and reads go through it, whichever node they come to. An embedder need not know
//! which one it is. It matters to whoever stops machines, or wants the leader near its clients:
//! [`Node::leadership`](crate::Node::leadership) tells who leads, and
//! [`Node::transfer_leadership`](crate::Node::transfer_leadership), on the leader, hands that over.
//!
//! ```
//! # use paxos_core::{Node, node::TransferError, port::StateMachine, replica::TransferRefusal};
//! # use paxos_core::types::{Membership, NodeId, Slot};
//! # use paxos_storage::MemoryStorage;
//! # use paxos_transport::MemoryNetwork;
//! # #[derive(Default)]
//! # struct Sum(i64);
//! # impl StateMachine for Sum {
//! #     type Command = i64;
//! #     type Response = i64;
//! #     type Snapshot = i64;
//! #     fn apply(&mut self, _: Slot, commands: Vec<i64>) -> Vec<i64> {
//! #         commands.into_iter().map(|number| { self.0 += number; self.0 }).collect()
//! #     }
//! #     fn snapshot(&self) -> i64 { self.0 }
//! #     fn restore(&mut self, _: Slot, sum: i64) -> std::io::Result<()> { self.0 = sum; Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let network = MemoryNetwork::new(1);
//! # let members = Membership::new([(1, "node-1"), (2, "node-2"), (3, "node-3")])?;
//! # let mut nodes = Vec::new();
//! # for id in 1..=3 {
//! #     let builder = Node::builder(id, members.clone()).storage(MemoryStorage::new());
//! #     nodes.push(builder.transport(network.join(id)).start(Sum::default()).await?);
//! # }
//! nodes[0].propose(3).await?;
//! let led_by = nodes[0].leadership().borrow().leader.expect("a command is done");
//! let leader = nodes.iter().find(|node| node.identity().node == led_by).expect("one of them");
//!
//! // To a certain node, or to whichever has most.
//! let next = NodeId(led_by.0 % 3 + 1);
//! assert_eq!(leader.transfer_leadership(next).await?, next);
//!
//! // What it was is over: another node would have to be asked now.
//! let refusal = TransferRefusal::NotLeading { leader: Some(next) };
//! assert_eq!(leader.transfer_leadership(None).await, Err(TransferError::Refused(refusal)));
//! # Ok(())
//! # }
//! ```
//!
//! # What a transfer is
//!
//! - **No request fails, and none waits for a timeout.** The node that is to lead first finds out whether it would be
//!   elected, while everything goes on. Then what is new waits at the leader until all that was proposed is chosen
//!   and that node knows it; it is told, begins its candidacy at once, and what waited goes to it. That is some
//!   round trips and two writes.
//! - **Whoever could not lead is refused, with the reason**: a node that is no member or has no vote, that does not
//!   answer, whose disk takes no writes, or that has to catch up first. So is one that would not be elected, say
//!   because it reaches nobody but the leader; the leader has gone on meanwhile.
//! - **The leader stays if nobody takes over.** After an election timeout it goes on with what has waited.
//! - **Safety does not depend on it.** The next leader leads at a ballot of its own, with the promises of a quorum, as
//!   after any election. So the outcome may be unknown, if the leader hears from nobody any more, and nothing else.
//!
//! A node that is [shut down](crate::Node::shutdown) while it leads hands over by itself: a rolling restart costs no
//! election timeout. If none of the others could lead it does not wait for them.
