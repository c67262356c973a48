//! The node: a replica, driven by tokio.
//!
//! What it guarantees, beyond the protocol:
//!
//! - **Order of events.** A response is given once the command has been applied here; a read runs
//!   on a state that has applied everything acknowledged, by whichever node, before it began.
//! - **Nothing is unbounded.** Every queue has a limit; beyond it requests are refused as `Busy` and
//!   messages of peers are dropped, as a network might.
//! - **An end.** Whatever goes wrong, a broken invariant included, ends the node as a whole: every
//!   call in progress returns `Stopped`, and [`Node::stopped`] tells why.
//!
//! One task does the work: the *driver* owns the replica and the state machine. It takes in everything
//! that has gathered (requests, messages, finished writes), steps the replica, and carries out the
//! effects; it applies what is chosen, answers those who wait, and serves reads. A state machine that
//! blocks works on a thread of its own; a second task stands by to go on with the driver when one blocks
//! unannounced. A third does nothing but wait for the end.
//!
//! The node uses its own id as the name and its incarnation as the epoch of the request ids under
//! which it proposes, so a command is sent again after a change of leader and yet has effect once.
//!
//! Everything runs on the tokio runtime on which the node was started, which needs its time driver.

mod applier;
mod board;
mod builder;
mod desk;
mod driver;
mod error;
mod handle;
mod inbox;
mod inside;
mod lifecycle;
mod log_reader;
mod machine;
mod members;
mod reading;
mod reads;
mod request;
mod states;
mod submitted;
mod suspicion;
mod transfer;
mod waiters;
mod weak;
mod writer;

pub use board::Leadership;
pub use builder::NodeBuilder;
pub use error::{
    ChangeMembersError, NodeError, ProposeError, ReadError, StartError, TransferError,
};
pub use handle::Node;
pub use request::{Applied, ProposeOptions};
pub use submitted::Submitted;
pub use weak::WeakNode;
