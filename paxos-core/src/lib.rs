//! Multi-Paxos as a state machine without I/O, its ports, and the node that drives them.

mod config;
pub mod limits;
pub mod message;
pub mod port;
pub mod replica;
pub mod types;

pub use config::{Config, ConfigError};
