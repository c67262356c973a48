//! The network between the nodes.

use std::{
    future,
    task::{Context, Poll},
};

use async_trait::async_trait;

use crate::{
    message::Message,
    types::{Identity, NodeId, Peer, StoreId},
};

/// Carries messages between the nodes of a cluster.
///
/// An implementation guarantees:
///
/// 1. **No invention.** What is received from a node is what that node sent, whole and unchanged,
///    and it had this node's cluster and its own id. It may be lost, late, repeated or out of
///    order.
/// 2. **Fair.** Between two nodes that stay connected and keep sending, messages arrive.
/// 3. **Never blocks.** [`send`](Transport::send) returns at once; what a peer's queue has no room
///    for is dropped.
/// 4. **Bounded.** Queues are bounded in bytes, each lane of each peer by itself.
/// 5. **Lanes.** A message of a lane never waits behind one of a lower lane to the same peer:
///    control before log before bulk.
/// 6. **Refuses strangers.** A node of another cluster, another protocol version, or a known node
///    with an unknown data directory is refused, with the reason told on both sides, and in their
///    logs. It stands in [`refusals`](Transport::refusals) on both sides until the two have let each other in.
/// 7. **Bad bytes end a connection, nothing else.** A frame that is too large, damaged or
///    malformed closes the connection it came on, with a line in the log.
/// 8. **Recovers.** A lost connection is made again, with jittered back-off, for as long as the
///    peer is in the list.
/// 9. **Taken as a whole.** [`send`](Transport::send) leaves the vector empty, whatever becomes of
///    the messages. What one call has for a node arrives in its order, each lane by itself, as long as
///    nothing is lost, the connection stays, and it is no more than 32 KiB: what is more may travel in
///    parts, which may overtake each other.
/// 10. **Handed over in one go.** [`poll_recv`](Transport::poll_recv) moves what has arrived, and no
///     more than its limit; while there is nothing it is pending, and then wakes whoever polled last.
///     It returns zero after [`close`](Transport::close) and never before.
/// 11. **Lost for certain.** [`Event::Lost`] says that a peer that was connected is so no more, and that
///     nobody listens any longer where it was reached: the operating system there has refused a new
///     connection. Silence is no loss, nor is anything lost or late. A loss is reported once, behind all that
///     had come in from the peer, and again only after it has been connected again. Not every loss can be
///     known, so not every one is reported; and a report may be wrong all the same, say because a firewall
///     has spoken in the peer's name.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Says who this node is and who its peers are, and starts to connect. Called once, before
    /// anything else.
    ///
    /// # Errors
    ///
    /// If an address cannot be understood, or the transport cannot start.
    async fn start(&self, identity: Identity, peers: Vec<Peer>) -> Result<(), TransportError>;

    /// Replaces the list of peers: connects to new ones, lets go of those missing. One with several addresses is
    /// looked for at each of them in turn.
    ///
    /// # Errors
    ///
    /// If an address cannot be understood; then the list stays as it was.
    fn update_peers(&self, peers: Vec<Peer>) -> Result<(), TransportError>;

    /// Queues `messages` for each node in `to`, in this order, and leaves the vector empty, with its
    /// capacity. For an unknown node they are dropped; one that is named twice may get them twice.
    ///
    /// One call carries all that one step has for the same nodes, so that what a message costs on
    /// its way out is shared: by the call, and by those who are sent the same.
    fn send(&self, to: &[NodeId], messages: &mut Vec<Message>);

    /// Moves what has arrived to the end of `events`, at most `limit` of them, and says how many
    /// that were; zero only after [`close`](Transport::close).
    ///
    /// While nothing is there, it is pending, and the task is woken as soon as something is. One
    /// task waits at a time: of several, the last one that polled is woken.
    ///
    /// # Panics
    ///
    /// If `limit` is zero.
    fn poll_recv(&self, cx: &mut Context<'_>, events: &mut Vec<Event>, limit: usize)
    -> Poll<usize>;

    /// The next event; `None` after [`close`](Transport::close). Cancel safe.
    async fn recv(&self) -> Option<Event> {
        let mut events = Vec::new();
        future::poll_fn(|cx| self.poll_recv(cx, &mut events, 1)).await;
        events.pop()
    }

    /// The peers that refuse this node or that it refuses, as it stands now, each once, in order of
    /// their ids. What changes here is announced: by [`Event::Refused`] when a refusal comes or gets
    /// another reason, by [`Event::Admitted`] when it is over. Strangers are no peers: they are
    /// only reported.
    ///
    /// The default knows of none.
    fn refusals(&self) -> Vec<RefusedPeer> {
        Vec::new()
    }

    /// Sends what is queued, for a moment at most, and closes every connection.
    async fn close(&self);
}

/// A peer that refuses this node, or that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedPeer {
    /// The peer.
    pub peer: NodeId,
    /// What those call it who run it, if the transport knows.
    pub name: Option<String>,
    /// Why, and what to do.
    pub reason: String,
}

/// What a transport reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message came in.
    Message {
        /// Its sender.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// A peer has been met for the first time: the node remembers its data directory.
    Met {
        /// The peer.
        peer: NodeId,
        /// Its data directory.
        store: StoreId,
    },
    /// A peer refuses this node, or this node a peer, or a stranger. The same one with the same reason
    /// is reported again from time to time, as long as it keeps trying.
    Refused {
        /// The peer, if it is known.
        peer: Option<NodeId>,
        /// Why, and what to do.
        reason: String,
    },
    /// A peer that was [refused](Transport::refusals) is refused no longer.
    Admitted {
        /// The peer.
        peer: NodeId,
    },
    /// The process of a peer that was connected has ended, or listens no more: guarantee 11.
    Lost {
        /// The peer.
        peer: NodeId,
    },
}

/// Why a transport cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nothing can listen there.
    #[error("cannot listen on {address}: {reason}")]
    Bind {
        /// The address.
        address: String,
        /// What the operating system says.
        reason: String,
    },
    /// A peer's address makes no sense.
    #[error("{address:?} is no address of a peer: {reason}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate or key does not work.
    #[error("TLS: {0}")]
    Tls(String),
    /// It was started before, or closed.
    #[error("the transport is {0}")]
    State(&'static str),
}
