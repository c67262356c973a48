//! Multi-Paxos as a state machine without I/O, its ports, and the node that drives them.

mod config;
pub mod limits;
pub mod message;
#[cfg(feature = "node")]
pub mod node;
pub mod port;
pub mod replica;
pub mod types;

pub use config::{Config, ConfigError};
#[cfg(feature = "node")]
pub use node::Node;
pub use replica::Replica;
