//! Whole nodes over memory: their protocol, their limits and their end.
//!
//! The clock is virtual, so that timeouts take no time, and the runtime has one thread.

mod cluster;

mod blocking;
mod checkpoints;
mod commands;
mod digests;
mod ends;
mod failover;
mod faults;
mod identity;
mod inside;
mod limits;
mod members;
mod proposals;
mod reads;
mod states;
mod transfer;
