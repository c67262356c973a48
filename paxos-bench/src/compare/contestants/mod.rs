//! One file for each contestant: how it is set up, and tuned as its documents recommend.

pub(super) mod echo;
#[cfg(feature = "omnipaxos")]
pub(super) mod omnipaxos;
#[cfg(feature = "openraft")]
pub(super) mod openraft;
pub(super) mod ours;
mod ours_alone;
#[cfg(feature = "raft-rs")]
pub(super) mod raft_rs;
