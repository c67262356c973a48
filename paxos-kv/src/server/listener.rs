//! Serves connections of clients, HTTP/1.1 and HTTP/2 on the same port.
//!
//! Guarantees: there is a limit on the number of connections, on what one connection may send in
//! headers, on its requests under way, and on the time it may stay silent before its first byte.
//! On stopping, requests under way are finished within a grace period.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream, lookup_host},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{ServerError, config::Url};

/// Connections of clients at once; more wait in the queue of the operating system.
const CONNECTIONS_MAX: u32 = 10_000;

/// How long a new connection may be silent.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an HTTP/1.1 client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The head of an HTTP/1.1 request, in bytes.
const HTTP1_BUFFER_BYTES_MAX: usize = 64 << 10;

/// The headers of an HTTP/2 request, in bytes.
const HTTP2_HEADER_BYTES_MAX: u32 = 16 << 10;

/// What a client may send on one stream before the server has read it, in bytes: a whole request
/// of the default size limit, so that it takes one round trip.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// How often an HTTP/2 client is asked whether it is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);

/// How long it may take to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long requests under way have when the server stops.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket for clients. A name that stands for several addresses is tried in their order, the
/// IPv4 ones first.
pub(super) async fn bind(url: &Url) -> Result<TcpListener, ServerError> {
    let failed =
        |error: io::Error| ServerError::Listen { url: url.to_string(), reason: error.to_string() };
    let mut addresses: Vec<SocketAddr> =
        lookup_host(url.address()).await.map_err(failed)?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

/// Serves the connections of all listeners of a server.
#[derive(Clone)]
pub(super) struct Acceptor {
    router: Router,
    concurrent_streams_max: u32,
    places: Arc<Semaphore>,
    /// No more connections, no more requests on those there are.
    drain: CancellationToken,
    /// The end for requests under way.
    abort: CancellationToken,
}

impl Acceptor {
    pub(super) fn new(router: Router, concurrent_streams_max: u32) -> Acceptor {
        Acceptor {
            router,
            concurrent_streams_max,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX as usize)),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Accepts until [`stop`](Acceptor::stop).
    pub(super) async fn run(self, listener: TcpListener) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
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
                    tracing::warn!(%error, "cannot take connections of clients");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves one connection; gives its place back at the end.
    async fn connection(self, stream: TcpStream, _place: OwnedSemaphorePermit) {
        // Answers are small and wanted at once. If it cannot be set they are merely later.
        let _ = stream.set_nodelay(true);
        tokio::select! {
            first = timeout(FIRST_BYTE_TIMEOUT, stream.readable()) => {
                if !matches!(first, Ok(Ok(()))) {
                    return;
                }
            }
            () = self.drain.cancelled() => return,
        }
        let builder = self.builder();
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

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HTTP1_BUFFER_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.concurrent_streams_max)
            .max_header_list_size(HTTP2_HEADER_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        builder
    }

    /// Takes no more requests, waits for those under way for a moment, and closes everything.
    pub(super) async fn stop(&self) {
        self.drain.cancel();
        let all_places = self.places.acquire_many(CONNECTIONS_MAX);
        if timeout(GRACE_PERIOD, all_places).await.is_err() {
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
