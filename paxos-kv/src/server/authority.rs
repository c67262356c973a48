//! Requests of HTTP/2 whose `:authority` is none.
//!
//! What a request says there is of no account to a server that has one site only, and etcd never looks at it.
//! Clients rely on that: etcd's of Go up to 3.5.0 writes `#initially=[…]`, etcdctl 3.4 the whole URL of an
//! endpoint, others the path of a socket. The library that reads HTTP/2 here resets such requests, and has no
//! setting for it. So they are mended before it reads them: [`Mended`] replaces such a value by one that is as
//! long, and leaves everything else as it is.
//!
//! - **Nothing else changes**: not what is asked, not the connection's table of headers (`block` says why), not
//!   what is no HTTP/2 at all.
//! - **The usual request is not copied**: it is looked at where it was read into, and headers alone are looked at.
//! - **Memory is bounded**: of headers that have not come as a whole no more is held than is read of any.

mod block;
mod frames;
mod huffman;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use self::frames::Frames;

/// What is read at a time of what has to be held.
const READ_BYTES: usize = 4 << 10;

/// What a client says, with usable authorities.
pub(super) struct Mended<R> {
    reader: R,
    /// `None` if it does not speak HTTP/2.
    frames: Option<Frames>,
    /// Has been held, and is to be read next.
    ready: BytesMut,
}

impl<R> Mended<R> {
    /// All that a client says, from its first byte on.
    pub(super) fn new(reader: R, is_http2: bool) -> Mended<R> {
        Mended { reader, frames: is_http2.then(Frames::new), ready: BytesMut::new() }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Mended<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Mended { reader, frames, ready } = self.get_mut();
        let Some(frames) = frames else { return Pin::new(reader).poll_read(cx, buffer) };
        let before = buffer.filled().len();
        while ready.is_empty() {
            if let Some(held) = frames.held() {
                held.reserve(READ_BYTES);
                match ready!(poll_read_buf(Pin::new(reader), cx, held))? {
                    0 => {
                        frames.end(ready);
                        break;
                    }
                    _ => frames.settle(ready),
                }
                continue;
            }
            ready!(Pin::new(&mut *reader).poll_read(cx, buffer))?;
            let come = &buffer.filled()[before..];
            let passed = frames.pass(come);
            frames.hold(&come[passed..], ready);
            let is_end = come.is_empty();
            buffer.set_filled(before + passed);
            if is_end || passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let piece = ready.split_to(ready.len().min(buffer.remaining()));
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
