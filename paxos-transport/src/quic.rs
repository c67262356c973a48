//! QUIC: a connection per peer, lane and direction; encrypted always.
//!
//! Control and bulk travel on the stream of the handshake. On the log lane every batch has a
//! stream of its own, so that a lost packet delays the slots in it and no other: what Paxos allows
//! to be accepted in any order also arrives in any order.
//!
//! Lanes do not share a connection, although QUIC could: the streams of a connection share its
//! send buffer and its flow control, and a catch-up that has filled them would hold a heartbeat
//! up. A machine that vanishes is noticed by QUIC's own keep-alive, a process that ends by its port.

mod configs;
mod link;
mod port;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use paxos_core::{
    message::{Lane, Message},
    port::{Event, RefusedPeer, Transport, TransportError},
    types::{Identity, NodeId, Peer},
};
use quinn::{ConnectionError, Endpoint, EndpointConfig, Incoming, VarInt};
use socket2::Type;
use tokio::time::Instant;

use self::{configs::Configs, link::QuicLink};
use crate::{
    address::Address,
    dial::dial,
    engine::Engine,
    link::Wire,
    listening,
    resolver::Resolver,
    shared::Settings,
    tls::{self, Tls},
};

/// How long to wait, at the end, for connections to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_millis(200);

/// How long to try for a port in use: the socket of a transport that was dropped, without having been
/// closed, stays open until the last packets that may still come in for it have had their time.
const REBIND_MAX: Duration = Duration::from_secs(2);

/// Carries messages over QUIC.
///
/// A peer's address is `host:port` (UDP); a name is resolved whenever it is dialled.
#[derive(Debug)]
pub struct QuicTransport {
    engine: Engine<QuicWire>,
    local_addr: SocketAddr,
}

impl QuicTransport {
    /// Listens on `address` (`host:port`; port 0 for a free one). Without certificates it makes
    /// one of its own, and warns that nobody is authenticated. Connections are accepted once the
    /// transport is started.
    ///
    /// # Errors
    ///
    /// If nothing can listen there.
    pub async fn bind(
        address: impl AsRef<str>,
        tls: impl Into<Option<Tls>>,
    ) -> Result<QuicTransport, TransportError> {
        let address = address.as_ref();
        let tls = tls.into().map_or_else(Tls::self_signed, Ok)?;
        tls.warn_if_not_authenticated();
        let failed = |error: io::Error| TransportError::Bind {
            address: address.to_owned(),
            reason: error.to_string(),
        };
        let socket = bind(address).await.map_err(failed)?;
        let local_addr = socket.local_addr().map_err(failed)?;
        let configs = Configs::new(tls)?;
        let config = EndpointConfig::default();
        let runtime = Arc::new(quinn::TokioRuntime);
        let server = Some(configs.last_server());
        let endpoint = Endpoint::new(config, server, socket, runtime).map_err(failed)?;
        let endpoints = Endpoints { listening: endpoint, other_family: None };
        let wire = QuicWire { endpoints: Mutex::new(Some(endpoints)), configs };
        Ok(QuicTransport { engine: Engine::new(wire, Settings::default()), local_addr })
    }

    /// What the nodes are called, in errors, in the log and in certificates: before the start. Those
    /// without a name go by their ids.
    #[must_use]
    pub fn with_names(self, names: impl IntoIterator<Item = (NodeId, String)>) -> QuicTransport {
        self.engine.set_names(names.into_iter().collect());
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

#[async_trait]
impl Transport for QuicTransport {
    async fn start(&self, identity: Identity, peers: Vec<Peer>) -> Result<(), TransportError> {
        self.engine.start(identity, &peers)
    }

    fn update_peers(&self, peers: Vec<Peer>) -> Result<(), TransportError> {
        self.engine.update_peers(&peers)
    }

    fn send(&self, to: &[NodeId], messages: &mut Vec<Message>) {
        self.engine.send(to, messages);
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        events: &mut Vec<Event>,
        limit: usize,
    ) -> Poll<usize> {
        self.engine.poll_recv(cx, events, limit)
    }

    fn refusals(&self) -> Vec<RefusedPeer> {
        self.engine.refusals()
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}

/// The first address that `address` stands for and that is free.
async fn bind(address: &str) -> io::Result<UdpSocket> {
    let candidates = Resolver::default().resolve_own(address).await?;
    let start = Instant::now();
    loop {
        match listening::bind(&candidates, Type::DGRAM) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < REBIND_MAX =>
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            bound => return bound.map(UdpSocket::from),
        }
    }
}

#[derive(Debug)]
struct QuicWire {
    /// `None` once closed.
    endpoints: Mutex<Option<Endpoints>>,
    configs: Configs,
}

#[derive(Debug)]
struct Endpoints {
    listening: Endpoint,
    /// Dials peers of the other family, if there are any and the first is at an address of one.
    other_family: Option<Endpoint>,
}

impl Endpoints {
    /// What reaches `remote`.
    fn to(&mut self, remote: SocketAddr) -> io::Result<Endpoint> {
        let local = self.listening.local_addr()?;
        // All addresses of the machine are those of both families.
        let is_of_both = local.is_ipv6() && local.ip().is_unspecified();
        if is_of_both || local.is_ipv4() == remote.is_ipv4() {
            return Ok(self.listening.clone());
        }
        if let Some(endpoint) = &self.other_family {
            return Ok(endpoint.clone());
        }
        let any: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        Ok(self.other_family.insert(Endpoint::client(any)?).clone())
    }
}

impl QuicWire {
    fn endpoints(&self) -> MutexGuard<'_, Option<Endpoints>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial_one(&self, candidate: SocketAddr, host: &str) -> io::Result<QuicLink> {
        let endpoint = match &mut *self.endpoints() {
            Some(endpoints) => endpoints.to(candidate)?,
            None => return Err(io::ErrorKind::NotConnected.into()),
        };
        let connecting = endpoint
            .connect_with(self.configs.client().await?, candidate, host)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connection = tokio::select! {
            connection = connecting => connection?,
            refused = port::refused(candidate) => return Err(refused),
        };
        let stream = connection.open_bi().await?;
        Ok(QuicLink::new(connection, stream, self.configs.is_authenticated()))
    }
}

/// Says goodbye and gives the port back.
async fn end(endpoint: Endpoint) {
    endpoint.close(VarInt::from_u32(0), b"closed");
    // Peers that do not answer notice by themselves.
    let _ = tokio::time::timeout(GOODBYE_MAX, endpoint.wait_idle()).await;
    if let Err(error) = let_go_of_socket(&endpoint) {
        tracing::warn!(%error, "the port stays taken for some seconds");
    }
}

/// Connections that wait for what their peers may still send, or for an answer that does not come, keep
/// an endpoint's socket for as long as they please. So they are given another one; and another, since an
/// endpoint listens to the one before as well, until it has heard something on the new one.
fn let_go_of_socket(endpoint: &Endpoint) -> io::Result<()> {
    let spare: SocketAddr = match endpoint.local_addr()? {
        SocketAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    };
    for _ in 0..2 {
        endpoint.rebind(UdpSocket::bind(spare)?)?;
    }
    Ok(())
}

impl Wire for QuicWire {
    type Pending = Incoming;
    type Link = QuicLink;

    async fn accept(&self) -> io::Result<Incoming> {
        let listening = self.endpoints().as_ref().map(|endpoints| endpoints.listening.clone());
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        listening.ok_or_else(closed)?.accept().await.ok_or_else(closed)
    }

    async fn establish(&self, incoming: Incoming) -> io::Result<QuicLink> {
        let connection = incoming.accept_with(self.configs.server().await?)?.await?;
        let stream = connection.accept_bi().await?;
        Ok(QuicLink::new(connection, stream, self.configs.is_authenticated()))
    }

    async fn dial(
        &self,
        address: &Address,
        candidates: &[SocketAddr],
        lane: Lane,
    ) -> io::Result<QuicLink> {
        let link = dial(candidates, |candidate| self.dial_one(candidate, address.host())).await?;
        Ok(if lane == Lane::Control { link.watched() } else { link })
    }

    fn tls_remedy(error: &io::Error) -> Option<&'static str> {
        let inner = error.get_ref();
        let lost = inner.and_then(|inner| {
            let read = || match inner.downcast_ref()? {
                quinn::ReadError::ConnectionLost(error) => Some(error),
                _ => None,
            };
            let write = || match inner.downcast_ref()? {
                quinn::WriteError::ConnectionLost(error) => Some(error),
                _ => None,
            };
            inner.downcast_ref::<ConnectionError>().or_else(read).or_else(write)
        });
        let code = match lost {
            Some(ConnectionError::TransportError(error)) => u64::from(error.code),
            Some(ConnectionError::ConnectionClosed(close)) => u64::from(close.error_code),
            _ => return None,
        };
        // RFC 9000, section 20.1: CRYPTO_ERROR carries a TLS alert.
        let alert = u8::try_from(code.checked_sub(0x100)?).ok()?;
        Some(tls::remedy(Some(alert.into())))
    }

    async fn close(&self) {
        let Some(Endpoints { listening, other_family }) = self.endpoints().take() else { return };
        let goodbye = [Some(listening), other_family].into_iter().flatten().map(end);
        futures::future::join_all(goodbye).await;
    }
}

#[cfg(test)]
mod tests;
