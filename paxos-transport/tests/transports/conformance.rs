//! Every transport of this crate keeps the guarantees of the port.

#[cfg(any(feature = "tcp", feature = "quic"))]
use crate::bound;

#[cfg(feature = "memory")]
#[tokio::test]
async fn memory() {
    use paxos_transport::MemoryNetwork;
    use std::sync::atomic::{AtomicUsize, Ordering};

    let network = &MemoryNetwork::new(1);
    let bound = &AtomicUsize::new(0);
    let bind = move |address: Option<String>| async move {
        let number = bound.fetch_add(1, Ordering::Relaxed);
        let address = address.unwrap_or_else(|| format!("address-{number}"));
        (network.bind(&*address), address)
    };
    paxos_transport::conformance::run(bind).await;
    paxos_transport::conformance::notices_losses(bind).await;
}

#[cfg(feature = "tcp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp() {
    paxos_transport::conformance::run(|address| bound::tcp(address, None)).await;
    paxos_transport::conformance::notices_losses(|address| bound::tcp(address, None)).await;
}

#[cfg(feature = "tcp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_with_tls() {
    let tls = || paxos_transport::Tls::self_signed().expect("a certificate");
    paxos_transport::conformance::run(|address| bound::tcp(address, Some(tls()))).await;
}

#[cfg(feature = "quic")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic() {
    paxos_transport::conformance::run(|address| bound::quic(address, None)).await;
    paxos_transport::conformance::notices_losses(|address| bound::quic(address, None)).await;
}

/// Transports that break their contract, for the suite to notice.
#[cfg(feature = "memory")]
mod broken {
    use std::{
        cell::Cell,
        task::{Context, Poll},
    };

    use async_trait::async_trait;
    use paxos_core::{
        message::Message,
        port::{Event, Transport, TransportError},
        types::{Identity, NodeId, Peer},
    };
    use paxos_transport::{MemoryNetwork, MemoryTransport, conformance};

    #[derive(Clone, Copy, PartialEq)]
    enum Flaw {
        KeepsMessages,
        Reverses,
        ServesTheFirstRecipient,
        PassesOverTheLimit,
        CriesWolf,
    }

    struct Broken(MemoryTransport, Flaw);

    #[async_trait]
    impl Transport for Broken {
        async fn start(&self, identity: Identity, peers: Vec<Peer>) -> Result<(), TransportError> {
            self.0.start(identity, peers).await
        }

        fn update_peers(&self, peers: Vec<Peer>) -> Result<(), TransportError> {
            self.0.update_peers(peers)
        }

        fn send(&self, to: &[NodeId], messages: &mut Vec<Message>) {
            match self.1 {
                Flaw::KeepsMessages => return self.0.send(to, &mut messages.clone()),
                Flaw::Reverses => messages.reverse(),
                Flaw::ServesTheFirstRecipient => {
                    return self.0.send(&to[..to.len().min(2)], messages);
                }
                _ => {}
            }
            self.0.send(to, messages);
        }

        fn poll_recv(
            &self,
            cx: &mut Context<'_>,
            events: &mut Vec<Event>,
            limit: usize,
        ) -> Poll<usize> {
            let limit = if self.1 == Flaw::PassesOverTheLimit && limit > 1 { 99 } else { limit };
            let arrived = self.0.poll_recv(cx, events, limit);
            for event in events.iter_mut().filter(|_| self.1 == Flaw::CriesWolf) {
                if let Event::Met { peer, .. } = *event {
                    *event = Event::Lost { peer };
                }
            }
            arrived
        }

        async fn close(&self) {
            self.0.close().await;
        }
    }

    async fn run(flaw: Flaw) {
        let network = &MemoryNetwork::new(1);
        let number = &Cell::new(0);
        conformance::run(move |address: Option<String>| async move {
            number.set(number.get() + 1);
            let address = address.unwrap_or_else(|| format!("address-{}", number.get()));
            (Broken(network.bind(&*address), flaw), address)
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "leaves the vector empty")]
    async fn messages_that_stay_are_noticed() {
        run(Flaw::KeepsMessages).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "all its recipients, in order")]
    async fn another_order_is_noticed() {
        run(Flaw::Reverses).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "all its recipients, in order")]
    async fn a_recipient_that_is_left_out_is_noticed() {
        run(Flaw::ServesTheFirstRecipient).await;
    }

    #[tokio::test]
    #[should_panic(expected = "events at a limit of 7")]
    async fn more_than_the_limit_is_noticed() {
        run(Flaw::PassesOverTheLimit).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "guarantee 11")]
    async fn a_loss_that_is_none_is_noticed() {
        run(Flaw::CriesWolf).await;
    }
}
