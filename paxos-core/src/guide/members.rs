//! # Members come and go
//!
//! Who belongs to a cluster is chosen in its log, as commands are. The [`Membership`](crate::types::Membership)
//! that the nodes are started with is the first one; from then on the log alone decides, and what a node is told
//! at a later start is only a list of addresses to try. [`Node::change_members`](crate::Node::change_members)
//! makes a [`Change`](crate::types::Change), on any node, one at a time, while everything goes on:
//!
//! ```
//! # use paxos_core::{Node, port::StateMachine, types::{Change, ClusterId, MemberRole, Membership, NodeId, Slot}};
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
//! // It has a name of its own: the default depends on the first members.
//! let cluster = ClusterId(7);
//! let first = Membership::new([(1, "node-1")])?;
//! let builder = |id| Node::builder(id, first.clone()).cluster_id(cluster).storage(MemoryStorage::new());
//! let one = builder(1).transport(network.join(1)).start(Sum::default()).await?;
//! one.propose(3).await?;
//!
//! // A new node, with an id that nobody has had. It waits until it is added.
//! let two = builder(2).transport(network.join(2)).joining().start(Sum::default()).await?;
//! let (node, address, role) = (NodeId(2), "node-2".to_owned(), MemberRole::Learner);
//! one.change_members(Change::Add { node, address, role }).await?;
//! assert_eq!(two.read(|sum| sum.0).await?, 3); // It has caught up.
//! // As a `Newcomer` it would be made a voter by itself.
//! let now = one.change_members(Change::Role { node, role: MemberRole::Voter }).await?;
//! assert_eq!(now.voters().count(), 2);
//!
//! // The first one leaves, and ends by itself.
//! two.change_members(Change::Remove { node: NodeId(1) }).await?;
//! assert!(one.stopped().await.is_err());
//! assert_eq!(two.propose(4).await?, 7);
//! # two.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is guaranteed
//!
//! - **No stop.** A membership that is chosen in a slot governs from a window of slots later; an idle leader fills
//!   them, so that it takes effect at once. If those who have promised are no quorum of the new voters, the leader
//!   asks them at a new ballot: a round trip or two, in which commands wait.
//! - **No two quorums that miss each other.** Each slot is decided by the quorums of its own membership, and
//!   whoever leads has the promises of a quorum of every membership that it proposes under.
//! - **One at a time.** A change follows on the newest membership that its node knows; if another came first it is
//!   refused, and has no effect whenever it arrives.
//! - **Nobody is outvoted by the dead.** A change that would leave no quorum of nodes that answer and have caught up
//!   is refused, and so is the vote for a learner that lags.
//!
//! # What each role is for
//!
//! A [`Voter`](crate::types::MemberRole::Voter) counts in quorums and may lead. A
//! [`Learner`](crate::types::MemberRole::Learner) gets everything, serves reads and takes commands as all others
//! do, and counts for nothing: a node on its way to be a voter, or one to be read from. A
//! [`Newcomer`](crate::types::MemberRole::Newcomer) is a learner that the leader makes a voter as soon as it has caught
//! up, whoever leads by then. To replace a member whose disk
//! is lost, [`Replace`](crate::types::Change::Replace) it in one step by a node with a new id, or by a learner that has
//! caught up: an id is used once.
//!
//! A node that joins is told of members that it can ask, any of them, and learns from those what the cluster began with;
//! all else is in the log. A node that has been away for so long that it knows none of the present members any more
//! does not find them by itself: start it again with some that are there, with its data or without.
