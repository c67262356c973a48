//! Which membership governs which slot.

use crate::types::{Membership, NodeId, Slot};

/// The memberships of the log. Without reconfiguration there is one, and it governs every slot;
/// whoever counts votes asks for the slot's own all the same.
#[derive(Clone, Debug)]
pub(super) struct Memberships {
    current: Membership,
}

impl Memberships {
    pub(super) fn new(current: Membership) -> Memberships {
        Memberships { current }
    }

    /// The membership whose quorums decide `slot`.
    #[inline]
    pub(super) fn governing(&self, _slot: Slot) -> &Membership {
        &self.current
    }

    /// The newest membership: who is talked to, and who leads.
    #[inline]
    pub(super) fn current(&self) -> &Membership {
        &self.current
    }

    #[inline]
    pub(super) fn is_voter(&self, node: NodeId) -> bool {
        self.current.is_voter(node)
    }
}
