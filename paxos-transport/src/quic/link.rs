//! A connection: what travels on which stream.

use std::{collections::VecDeque, future, io, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use paxos_core::message::Lane;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};

use super::{configs, port};
use crate::{
    frame::{Batch, FrameError},
    link::{Link, Sink},
};

/// How long the other side may take nothing in.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Batches of the log lane whose arrival is waited for at the end.
const LAST_BATCHES: usize = 32;

pub(super) struct QuicLink {
    connection: Connection,
    /// The other side's, if it says who that is.
    certificate: Option<CertificateDer<'static>>,
    send: SendStream,
    recv: RecvStream,
    /// Resolve when the last batches of the log lane have arrived.
    last: VecDeque<BoxFuture<'static, ()>>,
    /// Resolves when the other side has fallen silent and nobody listens there.
    vanished: Option<BoxFuture<'static, io::Error>>,
}

impl QuicLink {
    /// Over a connection, with the stream of the handshake. Whether certificates say who somebody is,
    /// depends on what was demanded of them.
    pub(super) fn new(
        connection: Connection,
        (send, recv): (SendStream, RecvStream),
        is_authenticated: bool,
    ) -> QuicLink {
        let certificate = || {
            let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>();
            shown.ok()?.first().cloned()
        };
        let certificate = if is_authenticated { certificate() } else { None };
        QuicLink { connection, certificate, send, recv, last: VecDeque::new(), vanished: None }
    }

    /// The same, with an eye on whether the other side is still there.
    pub(super) fn watched(self) -> QuicLink {
        let vanished = port::vanished(self.connection.clone());
        QuicLink { vanished: Some(Box::pin(vanished)), ..self }
    }
}

impl Link for QuicLink {
    /// Small, so that a lost packet delays few slots.
    const BATCH_BYTES_MAX: usize = 64 << 10;

    fn stream(&mut self) -> impl AsyncRead + AsyncWrite + Unpin + Send {
        tokio::io::join(&mut self.recv, &mut self.send)
    }

    fn certificate(&self) -> Option<CertificateDer<'static>> {
        self.certificate.clone()
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
        let QuicLink { connection, vanished, .. } = self;
        let vanished = async {
            match vanished {
                Some(vanished) => vanished.await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            closed = connection.closed() => closed.into(),
            vanished = vanished => vanished,
        }
    }

    async fn finish(mut self) {
        futures::future::join_all(self.last).await;
        if self.send.finish().is_ok() {
            let _ = self.send.stopped().await;
        }
        self.connection.close(VarInt::from_u32(0), b"done");
    }

    async fn receive(mut self, lane: Lane, sink: Sink) -> Result<(), FrameError> {
        configs::welcome(&self.connection, lane);
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
async fn write(stream: &mut SendStream, mut parts: &mut [Bytes]) -> io::Result<()> {
    while !parts.is_empty() {
        let written = tokio::time::timeout(STALL_MAX, stream.write_chunks(parts)).await??;
        parts = &mut parts[written.chunks..];
    }
    Ok(())
}
