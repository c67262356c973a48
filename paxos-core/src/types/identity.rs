//! Who a node is, and which data directory it runs on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::planted::planted;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $format:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl From<u64> for $name {
            fn from(id: u64) -> Self {
                $name(id)
            }
        }
    };
}

id!(
    /// A server of the cluster. Never zero for a real node.
    NodeId,
    "{}"
);
id!(
    /// The cluster a node belongs to; nodes of different clusters refuse each other.
    ClusterId,
    "{:x}"
);
id!(
    /// The random name of one data directory, made when it is first opened. A node that comes
    /// back with another one has lost its promises, and its peers refuse it.
    StoreId,
    "{:x}"
);

/// What a node says of itself in a handshake, and what its data directory is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its data directory.
    pub store: StoreId,
}

/// How the data directory that a node names compares with what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquaintance {
    /// It is met for the first time: its data directory has to be remembered, durably.
    New,
    /// It is the one that was met before.
    Known,
    /// It has come back with another data directory. It has forgotten what it promised and accepted,
    /// and must not be connected.
    LostData {
        /// The data directory it was met with.
        known: StoreId,
    },
}

impl StoreId {
    /// Whether a node that names this data directory may be let in by one that has met it with
    /// `known`, if at all.
    #[must_use]
    pub fn acquaintance(self, known: Option<StoreId>) -> Acquaintance {
        match known {
            None => Acquaintance::New,
            Some(known) if known != self && !planted!(EmptyNodeWelcome) => {
                Acquaintance::LostData { known }
            }
            Some(_) => Acquaintance::Known,
        }
    }
}
