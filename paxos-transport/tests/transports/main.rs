//! The transports over real sockets, and in memory: one program, so that what waits waits side by side.

mod conformance;
#[cfg(all(feature = "tcp", feature = "quic"))]
mod silence;
#[cfg(all(feature = "tcp", feature = "quic"))]
mod tls;
