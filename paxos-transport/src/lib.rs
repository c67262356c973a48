//! Transports for [`paxos_core`]: what carries messages between the nodes of a cluster.
//!
//! | feature  | transport            | for                                                     |
//! |----------|----------------------|---------------------------------------------------------|
//! | `memory` | `MemoryTransport`    | nodes of one process, with faults on request            |
//! | `tcp`    | `TcpTransport`       | real networks; plain, or with TLS                       |
//! | `quic`   | `QuicTransport`      | real networks; encrypted, a lost packet delays few slots |
//!
//! Each keeps the numbered guarantees of the port, [`paxos_core::port::Transport`], and passes the
//! suite in [`conformance`] that checks them, which is there for transports of your own too.
//!
//! All of them are bound first, say with `TcpTransport::bind("0.0.0.0:2380", None).await?` or
//! `network.join(1)`, and then handed to the node, which starts them. A peer's address is
//! `host:port` for TCP and QUIC, resolved whenever it is dialled, and any text in memory.
//!
//! The map: TCP and QUIC differ in how a connection is made and how frames travel on it (`tcp`,
//! `quic`, `tls`, behind the traits of `link`). Everything else they share: the engine (`engine`,
//! which connects by `outgoing` and lets in by `incoming`, both over `shared`), the wire format (`frame`), the first
//! words of a connection (`handshake`). Who may talk to whom (`roster`) and what has come in
//! (`inbox`) are the same in memory too. What is deliberately not here: retransmission, ordering
//! and deduplication, which the replica does by itself.
//!
//! Who is who: with certificates, a node is whom its certificate names ([`Tls`](Tls::from_pem_files)).
//! Without any, a node that was never met is believed to be who answers at its address; from then on it is
//! known by its data directory.
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
//! let message = Message::Poll(Poll { number: 1, chosen: Slot::ZERO, leave: None });
//! one.send(&[NodeId(2)], &mut vec![message.clone()]);
//! let met = Event::Met { peer: NodeId(1), store: StoreId(101) };
//! assert_eq!(two.recv().await, Some(met));
//! assert_eq!(two.recv().await, Some(Event::Message { from: NodeId(1), message }));
//! # Ok::<_, paxos_core::port::TransportError>(()) }).unwrap();
//! ```

#[cfg(any(feature = "tcp", feature = "quic"))]
mod address;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod backoff;
#[cfg(any(feature = "memory", feature = "tcp", feature = "quic"))]
mod budget;
pub mod conformance;
#[cfg(all(test, any(feature = "tcp", feature = "quic")))]
mod corpus;
#[cfg(any(feature = "memory", feature = "tcp", feature = "quic"))]
mod delayed;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod dial;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod engine;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod frame;
#[cfg(all(test, any(feature = "tcp", feature = "quic")))]
mod golden;
#[cfg(any(feature = "tcp", feature = "quic"))]
pub mod guide;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod handshake;
#[cfg(any(feature = "memory", feature = "tcp", feature = "quic"))]
mod inbox;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod incoming;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod link;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod listening;
#[cfg(feature = "memory")]
mod memory;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod outgoing;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod places;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod queue;
#[cfg(feature = "quic")]
mod quic;
#[cfg(any(feature = "memory", feature = "tcp", feature = "quic"))]
mod refusals;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod resolver;
#[cfg(any(feature = "memory", feature = "tcp", feature = "quic"))]
mod roster;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod shared;
#[cfg(feature = "tcp")]
mod tcp;
#[cfg(any(feature = "tcp", feature = "quic"))]
mod tls;

#[cfg(feature = "memory")]
pub use memory::{Faults, MemoryNetwork, MemoryTransport};
#[cfg(feature = "quic")]
pub use quic::QuicTransport;
#[cfg(feature = "tcp")]
pub use tcp::TcpTransport;
#[cfg(any(feature = "tcp", feature = "quic"))]
pub use tls::Tls;
