//! Transports that listen, and where.

#[cfg(all(feature = "tcp", feature = "quic"))]
use std::sync::Arc;

#[cfg(all(feature = "tcp", feature = "quic"))]
use paxos_core::port::Transport;
#[cfg(feature = "quic")]
use paxos_transport::QuicTransport;
#[cfg(feature = "tcp")]
use paxos_transport::TcpTransport;
use paxos_transport::Tls;

/// Any port that is free.
const FREE: &str = "127.0.0.1:0";

#[cfg(feature = "tcp")]
pub(crate) async fn tcp(address: Option<String>, tls: Option<Tls>) -> (TcpTransport, String) {
    let address = address.as_deref().unwrap_or(FREE);
    let transport = TcpTransport::bind(address, tls).await.expect("a free port");
    let address = transport.local_addr().to_string();
    (transport, address)
}

#[cfg(feature = "quic")]
pub(crate) async fn quic(address: Option<String>, tls: Option<Tls>) -> (QuicTransport, String) {
    let address = address.as_deref().unwrap_or(FREE);
    let transport = QuicTransport::bind(address, tls).await.expect("a free port");
    let address = transport.local_addr().to_string();
    (transport, address)
}

/// One of either kind.
#[cfg(all(feature = "tcp", feature = "quic"))]
pub(crate) type Any = (Arc<dyn Transport>, String);

#[cfg(all(feature = "tcp", feature = "quic"))]
pub(crate) fn any<T: Transport>((transport, address): (T, String)) -> Any {
    (Arc::new(transport), address)
}
