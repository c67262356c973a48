//! One node of a protocol that does no I/O: what the protocol alone is driven by, and what a peer
//! without a runtime of its own runs in tasks.

use bytes::Bytes;

use super::CompareError;
use crate::Tally;

/// How often a node is told the time.
pub(super) const TICK: std::time::Duration = std::time::Duration::from_millis(10);

/// One node of a cluster, without tasks, clock and network. Its storage is memory: what is written is
/// durable at once.
///
/// A pass is: [`propose`](Protocol::propose) and [`receive`](Protocol::receive) whatever has gathered,
/// [`advance`](Protocol::advance), [`flush`](Protocol::flush).
pub(super) trait Protocol: Sized + Send + 'static {
    /// What nodes send each other.
    type Message: Send + 'static;

    /// The nodes of a new cluster, each without a leader.
    fn cluster(nodes: usize) -> Result<Vec<Self>, CompareError>;

    /// Whether it leads, as far as it knows.
    fn is_leader(&self) -> bool;

    /// Takes a command of a client. Called at the leader alone.
    fn propose(&mut self, payload: Bytes) -> Result<(), CompareError>;

    /// Takes a message of another node.
    fn receive(&mut self, message: Self::Message) -> Result<(), CompareError>;

    /// [`TICK`] has passed.
    fn tick(&mut self);

    /// Works on what it has been given. Returns what the state machine has applied by that.
    fn advance(&mut self) -> Result<Tally, CompareError>;

    /// Hands over what is to be sent, proposals since the last [`advance`](Protocol::advance)
    /// included.
    fn flush(&mut self, outbox: &mut Outbox<Self::Message>) -> Result<(), CompareError>;
}

/// Messages by their receiver.
pub(super) struct Outbox<M> {
    /// By node, from 0.
    pub(super) to: Vec<Vec<M>>,
}

impl<M> Outbox<M> {
    pub(super) fn new(nodes: usize) -> Outbox<M> {
        Outbox { to: (0..nodes).map(|_| Vec::new()).collect() }
    }
}
