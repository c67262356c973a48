//! QUIC: a connection per peer, lane and direction; encrypted always.
//!
//! Control and bulk travel on the stream of the handshake. On the log lane every batch has a
//! stream of its own, so that a lost packet delays the slots in it and no other: what Paxos allows
//! to be accepted in any order also arrives in any order.
//!
//! Lanes do not share a connection, although QUIC could: the streams of a connection share its
//! send buffer and its flow control, and a catch-up that has filled them would hold a heartbeat
//! up. A peer that vanishes is noticed by QUIC's own keep-alive.

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use paxos_core::{
    message::{Lane, Message},
    port::{Event, RefusedPeer, Transport, TransportError},
    types::{Identity, NodeId, Peer},
};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, RecvStream,
    SendStream, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use socket2::Type;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::Instant,
};

use crate::{
    address::Address,
    dial::dial,
    engine::Engine,
    frame::{Batch, FrameError},
    link::{Link, Sink, Wire},
    listening,
    resolver::Resolver,
    shared::Settings,
    tls::Tls,
};

/// How long the other side may take nothing in.
const STALL_MAX: Duration = Duration::from_secs(10);

/// How often an idle connection shows that it is alive.
const KEEPALIVE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a connection without a sign of life is believed in: two election timeouts at their default.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// Batches of the log lane under way at once on one connection.
const STREAMS_MAX: u32 = 128;

/// Bytes under way at once on one stream, and on one connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Connections that have come in and wait to be looked at.
const INCOMING_MAX: usize = 256;

/// What a round trip is taken for before it has been measured: a guess for one data centre, since
/// a wrong one costs a packet sent twice, and a high one a slow start after a loss.
const ROUND_TRIP_GUESS: Duration = Duration::from_millis(50);

/// How long to wait, at the end, for connections to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_millis(200);

/// How long to try for a port in use: the socket of a transport that was dropped, without having been
/// closed, stays open until the last packets that may still come in for it have had their time.
const REBIND_MAX: Duration = Duration::from_secs(2);

/// Batches of the log lane whose arrival is waited for at the end.
const LAST_BATCHES: usize = 32;

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
        let (server, client) = configure(&tls)?;
        let config = EndpointConfig::default();
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(config, Some(server), socket, runtime).map_err(failed)?;
        let endpoints = Endpoints { listening: endpoint, other_family: None };
        let wire = QuicWire { endpoints: Mutex::new(Some(endpoints)), client };
        Ok(QuicTransport { engine: Engine::new(wire, Settings::default()), local_addr })
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

fn configure(tls: &Tls) -> Result<(ServerConfig, ClientConfig), TransportError> {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_uni_streams(STREAMS_MAX.into())
        .max_concurrent_bidi_streams(1u8.into())
        .stream_receive_window(STREAM_WINDOW_BYTES.into())
        .receive_window(CONNECTION_WINDOW_BYTES.into())
        .send_window(CONNECTION_WINDOW_BYTES.into())
        .datagram_receive_buffer_size(None)
        .initial_rtt(ROUND_TRIP_GUESS)
        .keep_alive_interval(Some(KEEPALIVE_INTERVAL))
        .max_idle_timeout(Some(IDLE_MAX.try_into().expect("a few seconds")));
    let transport = Arc::new(transport);
    let unsuitable =
        |error: quinn::crypto::rustls::NoInitialCipherSuite| TransportError::Tls(error.to_string());
    let server = QuicServerConfig::try_from(tls.server()).map_err(unsuitable)?;
    let mut server = ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport.clone()).max_incoming(INCOMING_MAX).migration(false);
    let client = QuicClientConfig::try_from(tls.client()).map_err(unsuitable)?;
    let mut client = ClientConfig::new(Arc::new(client));
    client.transport_config(transport);
    Ok((server, client))
}

#[derive(Debug)]
struct QuicWire {
    /// `None` once closed.
    endpoints: Mutex<Option<Endpoints>>,
    client: ClientConfig,
}

/// A socket reaches one family of addresses, whatever the system thinks of both in one.
#[derive(Debug)]
struct Endpoints {
    listening: Endpoint,
    /// Dials peers of the other family, if there are any.
    other_family: Option<Endpoint>,
}

impl Endpoints {
    /// What reaches `remote`.
    fn to(&mut self, remote: SocketAddr) -> io::Result<Endpoint> {
        if self.listening.local_addr()?.is_ipv4() == remote.is_ipv4() {
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
            .connect_with(self.client.clone(), candidate, host)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connection = connecting.await?;
        let (send, recv) = connection.open_bi().await?;
        Ok(QuicLink { connection, send, recv, last: VecDeque::new() })
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
        let connection = incoming.await?;
        let (send, recv) = connection.accept_bi().await?;
        Ok(QuicLink { connection, send, recv, last: VecDeque::new() })
    }

    async fn dial(
        &self,
        address: &Address,
        candidates: &[SocketAddr],
        _: Lane,
    ) -> io::Result<QuicLink> {
        dial(candidates, |candidate| self.dial_one(candidate, address.host())).await
    }

    fn is_tls_failure(error: &io::Error) -> bool {
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
            _ => return false,
        };
        // RFC 9000, section 20.1: CRYPTO_ERROR carries a TLS alert.
        (0x100..=0x1ff).contains(&code)
    }

    async fn close(&self) {
        let Some(Endpoints { listening, other_family }) = self.endpoints().take() else { return };
        let goodbye = [Some(listening), other_family].into_iter().flatten().map(end);
        futures::future::join_all(goodbye).await;
    }
}

struct QuicLink {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    /// Resolve when the last batches of the log lane have arrived.
    last: VecDeque<BoxFuture<'static, ()>>,
}

impl Link for QuicLink {
    /// Small, so that a lost packet delays few slots.
    const BATCH_BYTES_MAX: usize = 64 << 10;

    fn stream(&mut self) -> impl AsyncRead + AsyncWrite + Unpin + Send {
        tokio::io::join(&mut self.recv, &mut self.send)
    }

    async fn send(&mut self, lane: Lane, batch: Batch) -> io::Result<()> {
        let mut parts = batch.into_parts();
        if lane != Lane::Log {
            return write(&mut self.send, &mut parts).await;
        }
        let opened = tokio::time::timeout(STALL_MAX, self.connection.open_uni()).await;
        let mut stream = opened??;
        write(&mut stream, &mut parts).await?;
        stream.finish().map_err(io::Error::other)?;
        if self.last.len() == LAST_BATCHES {
            self.last.pop_front();
        }
        let arrived = stream.stopped();
        self.last.push_back(Box::pin(async move {
            let _ = arrived.await;
        }));
        Ok(())
    }

    async fn gone(&mut self) -> io::Error {
        self.connection.closed().await.into()
    }

    async fn finish(mut self) {
        futures::future::join_all(self.last).await;
        if self.send.finish().is_ok() {
            let _ = self.send.stopped().await;
        }
        self.connection.close(VarInt::from_u32(0), b"done");
    }

    async fn receive(mut self, lane: Lane, sink: Sink) -> Result<(), FrameError> {
        if lane != Lane::Log {
            return sink.drain(&mut self.recv).await;
        }
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni() => {
                    let mut stream = stream.map_err(io::Error::from)?;
                    let sink = sink.clone();
                    streams.spawn(async move { sink.drain(&mut stream).await });
                }
                Some(drained) = streams.join_next() => drained.map_err(io::Error::from)??,
            }
        }
    }
}

/// Hands all of `parts` over to `stream`, which takes them without copying.
async fn write(stream: &mut SendStream, mut parts: &mut [bytes::Bytes]) -> io::Result<()> {
    while !parts.is_empty() {
        let written = tokio::time::timeout(STALL_MAX, stream.write_chunks(parts)).await??;
        parts = &mut parts[written.chunks..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
