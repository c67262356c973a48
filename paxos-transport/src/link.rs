//! What TCP and QUIC differ in: how a connection is made, and how frames travel on it.

use std::{collections::VecDeque, future::Future, io, net::SocketAddr, sync::Arc};

use paxos_core::{
    message::{Lane, Message},
    types::NodeId,
};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::{
    address::Address,
    frame::{Batch, FrameError, Frames},
    inbox::Inbox,
};

/// Listens, and dials.
pub(crate) trait Wire: Send + Sync + 'static {
    /// A connection that has come in and has not said anything yet.
    type Pending: Send + 'static;
    /// A connection.
    type Link: Link;

    /// The next one to come in. Cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Pending>> + Send;

    /// Makes what came in a connection: TLS, if there is any.
    fn establish(
        &self,
        pending: Self::Pending,
    ) -> impl Future<Output = io::Result<Self::Link>> + Send;

    /// Connects, for a lane, to one of the addresses that the host of `address` stands for.
    fn dial(
        &self,
        address: &Address,
        candidates: &[SocketAddr],
        lane: Lane,
    ) -> impl Future<Output = io::Result<Self::Link>> + Send;

    /// What to do if a connection failed because of TLS: the peer is there and the configuration wrong.
    fn tls_remedy(error: &io::Error) -> Option<&'static str>;

    /// Stops listening and ends every connection.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A connection, which carries one lane in one direction: from the node that dialled.
pub(crate) trait Link: Send + 'static {
    /// How many bytes go out together.
    const BATCH_BYTES_MAX: usize;

    /// What the other side has shown, if it had to: a certificate of the cluster's authority.
    fn certificate(&self) -> Option<CertificateDer<'static>>;

    /// The stream of the handshake.
    fn stream(&mut self) -> impl AsyncRead + AsyncWrite + Unpin + Send;

    /// Sends a batch. An error if the other side takes nothing in for too long.
    fn send(&mut self, lane: Lane, batch: Batch) -> impl Future<Output = io::Result<()>> + Send;

    /// Waits until the other side is gone. Cancel safe.
    fn gone(&mut self) -> impl Future<Output = io::Error> + Send;

    /// Waits until everything has been sent, and hangs up.
    fn finish(self) -> impl Future<Output = ()> + Send;

    /// Hands every frame to `sink`, until the other side has hung up.
    fn receive(self, lane: Lane, sink: Sink)
    -> impl Future<Output = Result<(), FrameError>> + Send;
}

/// Where the messages of a peer go that come on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    inbox: Arc<Inbox>,
    from: NodeId,
    ended: CancellationToken,
}

impl Sink {
    /// For messages of `from`, until `ended`.
    pub(crate) fn new(inbox: Arc<Inbox>, from: NodeId, ended: CancellationToken) -> Sink {
        Sink { inbox, from, ended }
    }

    /// Delivers the messages of a stream until it ends, all that come together at once. While the
    /// receiver is slow, nothing is read.
    pub(crate) async fn drain(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Result<(), FrameError> {
        let mut frames = Frames::new(paxos_core::limits::MESSAGE_BYTES_MAX);
        let mut messages = VecDeque::new();
        loop {
            let more = read(&mut frames, stream, &mut messages).await;
            if self.ended.is_cancelled() {
                return Ok(());
            }
            // Those before a bad one count.
            self.inbox.deliver(self.from, &mut messages).await;
            if !more? {
                return Ok(());
            }
        }
    }
}

/// Waits for a message and takes those that have come with it; `false` where the stream ends.
async fn read(
    frames: &mut Frames,
    stream: &mut (impl AsyncRead + Unpin),
    messages: &mut VecDeque<Message>,
) -> Result<bool, FrameError> {
    let mut next = frames.read(stream).await?;
    let more = next.is_some();
    while let Some(frame) = next {
        messages.push_back(Message::decode(frame)?);
        next = frames.next()?;
    }
    Ok(more)
}
