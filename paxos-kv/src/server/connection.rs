//! One connection of a client, from its first byte to its last.
//!
//! Guarantees: a connection on which nothing comes of a request, however it is begun, ends within a
//! bounded time; an idle one that has introduced itself stays as long as its client answers. A request whose
//! headers are too long is refused by itself, and so is one that is cancelled: what else is under way on
//! the connection goes on.

use std::{
    io::{self, Cursor},
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{StatusCode, Version},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, join},
    net::TcpStream,
};
use tokio_stream::StreamExt;
use tonic::Status;

use super::{authority::Mended, http::is_grpc};

/// What a client of HTTP/2 begins with.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The headers of a request, in bytes, as HTTP/2 counts them.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Up to here headers of HTTP/2 are read so that the one request can be refused; longer ones may end the
/// connection.
pub(super) const HEADER_BYTES_READ_MAX: u32 = 4 << 20;

/// What HTTP/2 counts for a header beside its name and its value.
const HEADER_OVERHEAD_BYTES: usize = 32;

/// What a client may send on one stream before the server has read it, in bytes: a whole request
/// of the default size limit, so that it takes one round trip.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;

/// The same for all streams of a connection together.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// For how long a client may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Until it is clear which protocol it speaks.
    pub(super) introduction: Duration,
    /// HTTP/1: before and within the head of a request.
    pub(super) head: Duration,
    /// HTTP/1: within the body of a request.
    pub(super) body: Duration,
    /// HTTP/2: before it is asked whether it is still there.
    pub(super) ping_interval: Duration,
    /// HTTP/2: before it answers that.
    pub(super) ping_timeout: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            introduction: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}

/// How connections are served.
pub(super) fn builder(
    concurrent_streams_max: u32,
    patience: Patience,
) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(concurrent_streams_max)
        // Requests that are cancelled before they are looked at: as many as may be under way.
        .max_pending_accept_reset_streams(concurrent_streams_max as usize)
        .max_header_list_size(HEADER_BYTES_READ_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(patience.ping_interval)
        .keep_alive_timeout(patience.ping_timeout);
    builder
}

/// The connection, with all its bytes still to be read and authorities that can be used, once its client has
/// begun to speak HTTP/1 or has said all of the preface of HTTP/2.
///
/// # Errors
///
/// If it ends before.
pub(super) async fn introduced(
    stream: TcpStream,
) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
    let (mut reader, writer) = stream.into_split();
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let left = PREFACE.len() - first.len();
        if (&mut reader).take(left as u64).read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let is_http2 = first == PREFACE;
    Ok(join(Mended::new(Cursor::new(first).chain(reader), is_http2), writer))
}

/// Refuses a request whose headers are too long.
pub(super) async fn limit_headers(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let size = |(name, value): (&axum::http::HeaderName, &axum::http::HeaderValue)| {
        name.as_str().len() + value.len() + HEADER_OVERHEAD_BYTES
    };
    let bytes: usize = headers.iter().map(size).sum();
    if bytes <= HEADER_BYTES_MAX {
        return next.run(request).await;
    }
    let text = format!(
        "the metadata of the request has {bytes} bytes, more than the {HEADER_BYTES_MAX} that are taken"
    );
    match is_grpc(headers) {
        true => Status::resource_exhausted(text).into_http(),
        false => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text + "\n").into_response(),
    }
}

/// Gives up a request of HTTP/1 whose body does not come. With HTTP/2 a stream may be silent for as long as
/// its client likes, and whether that is still there is found out by pings.
pub(super) async fn limit_silence(patience: Duration, request: Request, next: Next) -> Response {
    if request.version() >= Version::HTTP_2 {
        return next.run(request).await;
    }
    let request = request.map(|body| {
        let pieces = Box::pin(body.into_data_stream().timeout(patience));
        Body::from_stream(pieces.map(|piece| match piece {
            Ok(piece) => piece.map_err(io::Error::other),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }))
    });
    next.run(request).await
}
