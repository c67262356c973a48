//! What the command can do: one file for each subcommand.

pub(crate) mod compare;
mod interrupt;
pub(crate) mod latency;
pub(crate) mod level;
pub(crate) mod node;
mod output;
#[cfg(feature = "kv")]
pub(crate) mod soak;
#[cfg(feature = "kv")]
pub(crate) mod starts;
