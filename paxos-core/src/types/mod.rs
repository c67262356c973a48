//! The vocabulary of the protocol, in the terms of the papers.

mod ballot;
mod batch;
mod change;
mod identity;
mod membership;
mod quorums;
mod read;
mod reconfiguration;
mod request;
mod slot;
mod time;
mod value;

pub use ballot::Ballot;
pub use batch::{Batch, BatchBuilder};
pub use change::{Change, ChangeError};
pub use identity::{Acquaintance, ClusterId, Identity, NodeId, StoreId};
pub use membership::{Member, MemberRole, Membership, MembershipError, Peer};
pub use quorums::{Phase, Quorums, QuorumsError};
pub use read::ReadMode;
pub use reconfiguration::Reconfiguration;
pub use request::{ClientId, RequestId, Run};
pub use slot::Slot;
pub use time::Instant;
pub(crate) use time::earliest;
pub use value::{Value, ValueError};
