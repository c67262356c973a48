//! Every transport of this crate keeps the guarantees of the port.

#[cfg(feature = "memory")]
#[tokio::test]
async fn memory() {
    use paxos_transport::MemoryNetwork;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let network = &MemoryNetwork::new(1);
    let bound = &AtomicUsize::new(0);
    paxos_transport::conformance::run(move |address: Option<String>| async move {
        let number = bound.fetch_add(1, Ordering::Relaxed);
        let address = address.unwrap_or_else(|| format!("address-{number}"));
        (network.bind(&*address), address)
    })
    .await;
}

#[cfg(any(feature = "tcp", feature = "quic"))]
const FREE: &str = "127.0.0.1:0";

#[cfg(feature = "tcp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp() {
    use paxos_transport::TcpTransport;

    paxos_transport::conformance::run(|address: Option<String>| async move {
        let address = address.as_deref().unwrap_or(FREE);
        let transport = TcpTransport::bind(address, None).await.expect("a free port");
        let address = transport.local_addr().to_string();
        (transport, address)
    })
    .await;
}

#[cfg(feature = "tcp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_with_tls() {
    use paxos_transport::{TcpTransport, Tls};

    paxos_transport::conformance::run(|address: Option<String>| async move {
        let address = address.as_deref().unwrap_or(FREE);
        let tls = Tls::self_signed().expect("a certificate");
        let transport = TcpTransport::bind(address, tls).await.expect("a free port");
        let address = transport.local_addr().to_string();
        (transport, address)
    })
    .await;
}

#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic() {
    use paxos_transport::QuicTransport;

    paxos_transport::conformance::run(|address: Option<String>| async move {
        let address = address.as_deref().unwrap_or(FREE);
        let transport = QuicTransport::bind(address, None).await.expect("a free port");
        let address = transport.local_addr().to_string();
        (transport, address)
    })
    .await;
}
