//! How one membership becomes the next.

use serde::{Deserialize, Serialize};

use super::{MemberRole, MembershipError, NodeId, Quorums};

/// A change of the membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Change {
    /// A node joins. As a voter it counts at once, although it has nothing yet: better as a newcomer, which the leader
    /// makes a voter once it has caught up.
    Add {
        /// Its id, which no member has ever had.
        node: NodeId,
        /// Where it is reached.
        address: String,
        /// What it is to do.
        role: MemberRole,
    },
    /// A member does something else from now on.
    Role {
        /// The member.
        node: NodeId,
        /// What it is to do.
        role: MemberRole,
    },
    /// A member is reached elsewhere.
    Address {
        /// The member.
        node: NodeId,
        /// Where it is reached.
        address: String,
    },
    /// A member leaves, for good.
    Remove {
        /// The member.
        node: NodeId,
    },
    /// Another node takes the place of a member, in one step: with it nobody's failure more or less is
    /// survived at any time.
    Replace {
        /// The member, which leaves for good.
        node: NodeId,
        /// The one in its place: with an id that no member has ever had, or a learner, which has caught up before it
        /// counts.
        by: NodeId,
        /// Where that is reached.
        address: String,
    },
    /// Votes count otherwise.
    Quorums(Quorums),
    /// Proposals may run ahead of what is chosen by so many slots.
    Window(u64),
}

/// A change that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such member.
    #[error("node {0} is no member of the cluster")]
    NoMember(NodeId),
    /// There is such a member already.
    #[error("node {0} is a member of the cluster already")]
    AMember(NodeId),
    /// A cluster could not work with what it makes.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}
