//! What the cluster replicates.

use std::io;

use super::{Codec, Snapshot};
use crate::types::Slot;

/// A deterministic state machine: the same commands in the same order give the same state and the
/// same responses on every node.
///
/// An implementation guarantees:
///
/// 1. **Deterministic.** [`apply`](StateMachine::apply) uses nothing but the state and its
///    arguments: no clock, no random numbers, no iteration in hash order.
/// 2. **Total.** Every command has a response; a command that makes no sense has one that says so.
/// 3. **Atomic position.** What [`durable`](StateMachine::durable) returns after a restart and the
///    state found there belong together: exactly the slots up to it are in the state.
/// 4. **Frozen.** What a [`snapshot`](StateMachine::snapshot) holds is the state as of that moment,
///    whatever is applied later; equal states need not give equal bytes, but a peer that is sent one can go
///    on with it from another node only if they do.
/// 5. **Replaced as a whole.** A [`restore`](StateMachine::restore) that fails, or that a crash cuts short,
///    leaves the state as it was.
/// 6. **Does not wait for its node.** No method waits for a call to the node that it is given to, directly or by
///    way of another task: nothing more is applied, and no read served, until it returns. A direct call is
///    an error (`WithinStateMachine`), any other lasts until its deadline.
pub trait StateMachine: Send + 'static {
    /// What is proposed. Anything that `serde` can encode; see [`Codec`].
    type Command: Codec + Send + 'static;
    /// What a proposal returns.
    type Response: Send + 'static;
    /// The state at a moment. Anything that `serde` can encode: mostly a copy of the state, or what
    /// shares it; or a [`Snapshot`] of one's own.
    type Snapshot: Snapshot;

    /// Applies the commands of one slot, in order; one response each. Slots come in ascending
    /// order, though not every one: those without a command are left out.
    fn apply(&mut self, slot: Slot, commands: Vec<Self::Command>) -> Vec<Self::Response>;

    /// The state as it is now, to be read while commands go on being applied: cheap, for no command is
    /// applied meanwhile. What takes long is for [`Snapshot::into_reader`].
    ///
    /// A node asks for it when a checkpoint is due, or for a peer that has missed too much; who wants to
    /// query a state for long without holding it up may do so too:
    /// `node.read(|machine| machine.snapshot())`.
    fn snapshot(&self) -> Self::Snapshot;

    /// Puts another state in place of this one: that of exactly the slots up to `slot`, which is above all
    /// that has been applied here. One on disk is durable when this returns; if the state that it was taken
    /// from was ahead of its log, it is one of more slots, and [`durable`](StateMachine::durable) says of how
    /// many: those are not applied again.
    ///
    /// # Errors
    ///
    /// If the state cannot be read or written, or makes no sense. The node stops.
    fn restore(&mut self, slot: Slot, snapshot: Self::Snapshot) -> io::Result<()>;

    /// Of a state machine that keeps its state on a disk of its own: the last slot whose effects would
    /// survive a crash at this moment. `None`, the default, for a state that lives in memory: the node
    /// keeps it, in checkpoints beside the log. It is the one or the other for good.
    fn durable(&self) -> Option<Slot> {
        None
    }

    /// A digest of the state: equal after the same slots on every node, and another one once anything that
    /// commands can come across differs. Nodes compare it every
    /// [`digest_slots`](crate::Config::digest_slots) slots, and one whose state differs from that of a quorum
    /// stops: so a state machine that is not deterministic is found, and a state that has been damaged.
    ///
    /// It has to be cheap, for no command is applied meanwhile: of a small state a hash, of a large one a
    /// number that every command updates, and that snapshots and what is on disk contain. `None`, the
    /// default, for nothing to be compared.
    fn digest(&self) -> Option<u64> {
        None
    }

    /// Called once before a graceful stop, after the last `apply`: a state on disk is made durable,
    /// so that the next start replays nothing.
    fn flush(&mut self) {}

    /// Why this state machine cannot go on, if so it is: its disk has failed, say, or what is there is
    /// damaged. It is asked behind every [`apply`](StateMachine::apply), which may then have returned
    /// nothing, and behind [`flush`](StateMachine::flush). The node stops with this text, and nobody is
    /// told anything of that slot. One in memory has no such reason.
    fn failure(&self) -> Option<String> {
        None
    }
}
