//! Takes connections of clients, HTTP/1.1 and HTTP/2 on the same port.
//!
//! Guarantees: there is a limit on the number of connections, and what else one may ask for is limited in
//! `connection`. On stopping, requests under way are finished within a grace period.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, middleware::from_fn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
    sync::OwnedSemaphorePermit,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    ServerError,
    config::Url,
    connection::{self, Patience},
    connections::Connections,
    throttle::Throttle,
};

/// Connections that the system may hold until they are taken.
const BACKLOG: u32 = 1024;

/// How long requests under way have when the server stops.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// How long to wait when a connection cannot be taken, for want of file descriptors for instance.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two lines of the log that say the same.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// A socket for clients. A name that stands for several addresses is tried in their order, the
/// IPv4 ones first; all addresses of this machine are those of both families, as with etcd.
pub(super) async fn bind(url: &Url) -> Result<TcpListener, ServerError> {
    let failed =
        |error: io::Error| ServerError::Listen { url: url.to_string(), reason: error.to_string() };
    if url.is_unspecified() {
        return bind_everywhere(url.port()).map_err(failed);
    }
    let mut addresses: Vec<SocketAddr> =
        lookup_host(url.address()).await.map_err(failed)?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for address in addresses {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        match socket.and_then(|socket| listen(socket, address)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// A socket for all addresses of this machine; for those of IPv4 where there are no others.
fn bind_everywhere(port: u16) -> io::Result<TcpListener> {
    match TcpSocket::new_v6() {
        Ok(socket) => {
            SockRef::from(&socket).set_only_v6(false)?;
            listen(socket, (Ipv6Addr::UNSPECIFIED, port).into())
        }
        Err(_) => listen(TcpSocket::new_v4()?, (Ipv4Addr::UNSPECIFIED, port).into()),
    }
}

fn listen(socket: TcpSocket, address: SocketAddr) -> io::Result<TcpListener> {
    // A server that is started again takes the port that it had.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the connections of all listeners of a server.
#[derive(Clone)]
pub(super) struct Acceptor {
    router: Router,
    concurrent_streams_max: u32,
    patience: Patience,
    connections: Connections,
    /// One line at a time about connections that have to wait.
    lines: Arc<Throttle>,
    /// No more connections, no more requests on those there are.
    drain: CancellationToken,
    /// The end for requests under way.
    abort: CancellationToken,
}

impl Acceptor {
    pub(super) fn new(
        router: Router,
        connections: Connections,
        concurrent_streams_max: u32,
        patience: Patience,
    ) -> Acceptor {
        let limit_silence =
            move |request, next| connection::limit_silence(patience.body, request, next);
        let router = router.layer(from_fn(limit_silence)).layer(from_fn(connection::limit_headers));
        Acceptor {
            router,
            concurrent_streams_max,
            patience,
            connections,
            lines: Arc::new(Throttle::new(LINE_INTERVAL)),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Accepts until [`stop`](Acceptor::stop).
    pub(super) async fn run(self, listener: TcpListener) {
        loop {
            let Some(place) = self.place().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.drain.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().connection(stream, place));
                }
                // The connection was gone before it was taken.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if self.lines.passes() {
                        tracing::warn!(%error, "cannot take connections of clients");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place for one more connection, once there is one; `None` when the server stops.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Some(place) = self.connections.try_place() {
            return Some(place);
        }
        if self.lines.passes() {
            tracing::warn!(
                connections = self.connections.max(),
                "all places for clients are taken, new ones wait: the limit of open files (ulimit -n) \
                 allows no more"
            );
        }
        self.drain.run_until_cancelled(self.connections.place()).await?.ok()
    }

    /// Serves one connection; gives its place back at the end.
    async fn connection(self, stream: TcpStream, _place: OwnedSemaphorePermit) {
        // Answers are small and wanted at once. If it cannot be set they are merely later.
        let _ = stream.set_nodelay(true);
        let introduced = tokio::select! {
            introduced = timeout(self.patience.introduction, connection::introduced(stream)) => {
                introduced
            }
            () = self.drain.cancelled() => return,
        };
        let Ok(Ok(stream)) = introduced else {
            tracing::debug!("a connection ended on which no request came");
            return;
        };
        let builder = connection::builder(self.concurrent_streams_max, self.patience);
        let service = TowerToHyperService::new(self.router.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let mut draining = false;
        loop {
            tokio::select! {
                result = &mut connection => {
                    if let Err(error) = result {
                        tracing::debug!(error, "a connection of a client ended");
                    }
                    return;
                }
                () = self.drain.cancelled(), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
            }
        }
    }

    /// Takes no more requests, waits for those under way for a moment, and closes everything.
    pub(super) async fn stop(&self) {
        self.drain.cancel();
        if timeout(GRACE_PERIOD, self.connections.ended()).await.is_err() {
            tracing::info!("requests under way are cut off");
        }
        self.abort();
    }

    /// Cuts everybody off.
    pub(super) fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Cancelled when the server begins to stop.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.drain.clone()
    }
}

#[cfg(test)]
mod tests;
