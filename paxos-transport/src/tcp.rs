//! TCP, plain or with TLS: a connection per peer, lane and direction.
//!
//! A lane's messages leave in batches, each with as few system calls as its size allows, and at
//! once (`TCP_NODELAY`).
//!
//! A peer that says nothing any longer is noticed on the control lane: by the kernel's keep-alive while
//! the connection is idle, and by its deadline for what has not been acknowledged. Left to itself it
//! would send again later and later, and say so after a quarter of an hour. The other lanes are made
//! anew together with that of control, because to the kernel a peer that is slow and takes nothing in
//! looks the same as one that is gone, and theirs may be slow.

use std::{
    io,
    net::SocketAddr,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Buf;
use paxos_core::{
    message::{Lane, Message},
    port::{Event, RefusedPeer, Transport, TransportError},
    types::{Identity, NodeId, Peer},
};
use rustls_pki_types::{CertificateDer, ServerName};
use socket2::{SockRef, TcpKeepalive, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    address::Address,
    dial::dial,
    engine::Engine,
    frame::{Batch, FrameError},
    link::{Link, Sink, Wire},
    listening,
    resolver::Resolver,
    shared::Settings,
    tls::{self, Tls},
};

/// How long the other side may take nothing in.
const STALL_MAX: Duration = Duration::from_secs(5);

/// How long the other side may leave something of the control lane without an acknowledgement, or the
/// question whether it is there without an answer: two election timeouts at their default.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How long a connection may be idle before the kernel asks whether the other side is there, and how
/// often it asks again.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Connections that the system may hold until they are accepted.
const BACKLOG: i32 = 1024;

/// Carries messages over TCP.
///
/// A peer's address is `host:port`; a name is resolved whenever it is dialled.
#[derive(Debug)]
pub struct TcpTransport {
    engine: Engine<TcpWire>,
    local_addr: SocketAddr,
}

impl TcpTransport {
    /// Listens on `address` (`host:port`; port 0 for a free one), with TLS if there is some.
    /// Connections are accepted once the transport is started.
    ///
    /// # Errors
    ///
    /// If nothing can listen there.
    pub async fn bind(
        address: impl AsRef<str>,
        tls: impl Into<Option<Tls>>,
    ) -> Result<TcpTransport, TransportError> {
        TcpTransport::bind_with(address.as_ref(), tls.into(), Settings::default()).await
    }

    async fn bind_with(
        address: &str,
        tls: Option<Tls>,
        settings: Settings,
    ) -> Result<TcpTransport, TransportError> {
        let failed = |error: io::Error| TransportError::Bind {
            address: address.to_owned(),
            reason: error.to_string(),
        };
        let candidates = Resolver::default().resolve_own(address).await.map_err(failed)?;
        let listener = listen(&candidates).map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        if let Some(tls) = &tls {
            tls.warn_if_not_authenticated();
        }
        let wire = TcpWire { listener: Mutex::new(Some(listener)), tls };
        Ok(TcpTransport { engine: Engine::new(wire, settings), local_addr })
    }

    /// What the nodes are called, in errors, in the log and in certificates: before the start. Those
    /// without a name go by their ids.
    #[must_use]
    pub fn with_names(self, names: impl IntoIterator<Item = (NodeId, String)>) -> TcpTransport {
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
impl Transport for TcpTransport {
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

#[derive(Debug)]
struct TcpWire {
    /// `None` once closed.
    listener: Mutex<Option<TcpListener>>,
    tls: Option<Tls>,
}

/// A byte stream, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct TcpLink {
    stream: Box<dyn Stream>,
    certificate: Option<CertificateDer<'static>>,
}

impl TcpWire {
    /// The other side's certificate, if it says who that is.
    fn shown(&self, session: &rustls::CommonState) -> Option<CertificateDer<'static>> {
        let is_authenticated = self.tls.as_ref().is_some_and(Tls::is_authenticated);
        let shown = session.peer_certificates().filter(|_| is_authenticated)?;
        shown.first().map(|certificate| certificate.clone().into_owned())
    }
}

impl Wire for TcpWire {
    type Pending = TcpStream;
    type Link = TcpLink;

    async fn accept(&self) -> io::Result<TcpStream> {
        match &*self.listener.lock().await {
            Some(listener) => Ok(listener.accept().await?.0),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn establish(&self, stream: TcpStream) -> io::Result<TcpLink> {
        prepare(&stream, STALL_MAX)?;
        let Some(tls) = &self.tls else {
            return Ok(TcpLink { stream: Box::new(stream), certificate: None });
        };
        let acceptor = TlsAcceptor::from(tls.current().await.server.clone());
        let stream = acceptor.accept(stream).await?;
        Ok(TcpLink { certificate: self.shown(stream.get_ref().1), stream: Box::new(stream) })
    }

    async fn dial(
        &self,
        address: &Address,
        candidates: &[SocketAddr],
        lane: Lane,
    ) -> io::Result<TcpLink> {
        let stream = dial(candidates, TcpStream::connect::<SocketAddr>).await?;
        prepare(&stream, if lane == Lane::Control { SILENCE_MAX } else { STALL_MAX })?;
        let Some(tls) = &self.tls else {
            return Ok(TcpLink { stream: Box::new(stream), certificate: None });
        };
        let connector = TlsConnector::from(tls.current().await.client.clone());
        let stream = connector.connect(server_name(address.host())?, stream).await?;
        Ok(TcpLink { certificate: self.shown(stream.get_ref().1), stream: Box::new(stream) })
    }

    fn tls_remedy(error: &io::Error) -> Option<&'static str> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(tls::remedy(tls::alert_of(error)))
    }

    async fn close(&self) {
        *self.listener.lock().await = None;
    }
}

fn listen(candidates: &[SocketAddr]) -> io::Result<TcpListener> {
    let socket = listening::bind(candidates, Type::STREAM)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// `host` as a name that a certificate may hold.
fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        let reason = format!("{host:?} is no name that a certificate can hold");
        io::Error::other(rustls::Error::General(reason))
    })
}

/// Gives the connection up when the other side has acknowledged nothing for `silence_max`. Only Linux and
/// its kin can be told so; elsewhere an idle connection is noticed, and one that has something to send by
/// `STALL_MAX` once there is no more room for it.
fn prepare(stream: &TcpStream, silence_max: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_INTERVAL)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(2);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "android", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(silence_max))?;
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = silence_max;
    Ok(())
}

impl Link for TcpLink {
    const BATCH_BYTES_MAX: usize = 512 << 10;

    fn stream(&mut self) -> impl AsyncRead + AsyncWrite + Unpin + Send {
        &mut self.stream
    }

    fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.certificate.clone()
    }

    async fn send(&mut self, _: Lane, mut batch: Batch) -> io::Result<()> {
        while batch.has_remaining() {
            let written = tokio::time::timeout(STALL_MAX, self.stream.write_buf(&mut batch)).await;
            if written?? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        tokio::time::timeout(STALL_MAX, self.stream.flush()).await?
    }

    async fn gone(&mut self) -> io::Error {
        // The other side sends nothing after the handshake.
        match self.stream.read_u8().await {
            Ok(_) => io::Error::new(io::ErrorKind::InvalidData, "unexpected bytes"),
            Err(error) => error,
        }
    }

    async fn finish(mut self) {
        let _ = self.stream.shutdown().await;
    }

    async fn receive(mut self, _: Lane, sink: Sink) -> Result<(), FrameError> {
        sink.drain(&mut self.stream).await
    }
}

#[cfg(test)]
mod tests;
