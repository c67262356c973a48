//! What a read promises.

use super::Slot;

/// What a read promises. Whatever it is, the read runs on the state of the node that was asked, which is always
/// that after some slot: nobody sees a part of a command, or one command without those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReadMode {
    /// It sees everything that was acknowledged, by any node, before it began (a linearizable read). The leader says
    /// from which slot on a state is new enough, once a quorum has confirmed that it leads; so a node that follows
    /// serves the read itself.
    #[default]
    Quorum,
    /// It sees at least what this slot has decided: what somebody has written there, say, through this node or
    /// another. Nobody is asked; the read waits until this node has applied the slot.
    AtLeast(Slot),
    /// It sees the state as it is on this node, which may be behind the others by any time. Nobody is asked.
    Local,
}

impl ReadMode {
    /// Whether there has to be a leader for it.
    #[must_use]
    pub fn needs_leader(self) -> bool {
        match self {
            ReadMode::Quorum => true,
            ReadMode::AtLeast(_) | ReadMode::Local => false,
        }
    }
}
