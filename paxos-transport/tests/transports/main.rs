//! The transports over real sockets, and in memory: one program, so that what waits waits side by side.

#[cfg(any(feature = "tcp", feature = "quic"))]
mod bound;
mod conformance;
#[cfg(all(feature = "tcp", feature = "quic"))]
#[path = "../common/packet_filter.rs"]
mod packet_filter;
#[cfg(all(feature = "tcp", feature = "quic"))]
mod silence;
#[cfg(all(feature = "tcp", feature = "quic"))]
mod tls;
