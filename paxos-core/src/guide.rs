//! The embedder's guide, a chapter for each question.
//!
//! | chapter | |
//! |---|---|
//! | [embedding] | from an empty crate to three servers: dependencies, names, handles, errors, the end |
//! | [codecs] | how commands and states become bytes, what can be proposed, and how that may change |
//! | [retry] | whoever does not know whether it was done, and asks again |
//! | [states] | snapshots, states on disk, and what a restart replays |
//! | [reading] | what a read promises, what it costs, and which one is for what |
//! | [failover] | when a leader goes: how that is noticed, how long it takes, and what to set |
//! | [leadership] | who leads, and how another node comes to lead without an election timeout |
//! | [members] | nodes that join, vote, are replaced and leave |
//! | [testing] | a state machine of one's own: by itself, in nodes under faults, in the simulator |
//!
//! Certificates are in the guide of the transports, `paxos_transport::guide`.

pub mod codecs;
pub mod embedding;
pub mod failover;
pub mod leadership;
pub mod members;
pub mod reading;
pub mod retry;
pub mod states;
pub mod testing;
