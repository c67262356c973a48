//! Transports for [`paxos_core`]: what carries messages between the nodes of a cluster.
//!
//! | feature  | transport            | for                                                     |
//! |----------|----------------------|---------------------------------------------------------|
//! | `memory` | [`MemoryTransport`]  | nodes of one process, with faults on request            |
//!
//! Each keeps the numbered guarantees of the port, [`paxos_core::port::Transport`].
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use paxos_core::message::{Message, Poll};
//! use paxos_core::port::{Event, Transport};
//! use paxos_core::types::{ClusterId, Identity, NodeId, Peer, Slot, StoreId};
//! use paxos_transport::MemoryNetwork;
//!
//! let network = MemoryNetwork::new(42);
//! let (one, two) = (network.join(1), network.join(2));
//! for (id, transport, other) in [(1, &one, 2), (2, &two, 1)] {
//!     let node = NodeId(id);
//!     let identity = Identity { cluster: ClusterId(7), node, store: StoreId(100 + id) };
//!     let peer = Peer { id: NodeId(other), address: format!("node-{other}"), store: None };
//!     transport.start(identity, vec![peer]).await?;
//! }
//!
//! let message = Message::Poll(Poll { number: 1, chosen: Slot::ZERO });
//! one.send(NodeId(2), message.clone());
//! let met = Event::Met { peer: NodeId(1), store: StoreId(101) };
//! assert_eq!(two.recv().await, Some(met));
//! assert_eq!(two.recv().await, Some(Event::Message { from: NodeId(1), message }));
//! # Ok::<_, paxos_core::port::TransportError>(()) }).unwrap();
//! ```

#[cfg(feature = "memory")]
mod budget;
#[cfg(feature = "memory")]
mod inbox;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "memory")]
mod roster;

#[cfg(feature = "memory")]
pub use memory::{Faults, MemoryNetwork, MemoryTransport};
