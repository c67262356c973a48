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
    frame::{Batch, FrameError, Frames, Room},
    inbox::{Inbox, Reservation},
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

    /// Waits until the other side is gone: with `ConnectionRefused`, if it is certain that nobody listens there
    /// any more. Cancel safe.
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
    lane: Lane,
    ended: CancellationToken,
}

impl Sink {
    /// For messages of `from`, in a lane, until `ended`.
    pub(crate) fn new(
        inbox: Arc<Inbox>,
        (from, lane): (NodeId, Lane),
        ended: CancellationToken,
    ) -> Sink {
        Sink { inbox, from, lane, ended }
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
            let mut place = Place { sink: self, reservation: None };
            let more = read(&mut frames, stream, &mut place, &mut messages).await;
            if self.ended.is_cancelled() {
                return Ok(());
            }
            // Those before a bad one count.
            self.inbox.deliver(self.from, &mut messages, place.reservation).await;
            if !more? {
                return Ok(());
            }
        }
    }
}

/// Where the next large message is going to be.
struct Place<'a> {
    sink: &'a Sink,
    reservation: Option<Reservation>,
}

impl Room for Place<'_> {
    async fn make(&mut self, bytes: usize) {
        let Sink { inbox, from, lane, .. } = self.sink;
        self.reservation = Some(inbox.reserve(*from, *lane, bytes).await);
    }
}

/// Waits for a message and takes those that have come with it, behind it; `false` where the stream
/// ends. Only the first may be large.
async fn read(
    frames: &mut Frames,
    stream: &mut (impl AsyncRead + Unpin),
    place: &mut Place<'_>,
    messages: &mut VecDeque<Message>,
) -> Result<bool, FrameError> {
    let mut next = frames.read(stream, place).await?;
    let more = next.is_some();
    while let Some(frame) = next {
        messages.push_back(Message::decode(frame)?);
        next = frames.next()?;
    }
    Ok(more)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Buf;
    use paxos_core::port::Event;
    use tokio::{io::AsyncWriteExt, task::JoinSet};

    use super::*;
    use crate::frame::tests::{accept, batch};

    /// However many streams a peer begins, on whatever connections.
    #[tokio::test]
    async fn what_streams_hold_of_messages_is_bounded_and_all_arrive() {
        const STREAMS: usize = 12;
        const BYTES: usize = 15 << 20;
        let inbox = Arc::new(Inbox::default());
        let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
        let go_on = CancellationToken::new();
        let (taken_in, mut level) = tokio::sync::watch::channel(0);
        for _ in 0..STREAMS {
            let from = (NodeId(2), Lane::Log);
            let sink = Sink::new(inbox.clone(), from, CancellationToken::new());
            let (mut near, mut far) = tokio::io::duplex(64 << 10);
            readers.spawn(async move { sink.drain(&mut far).await });
            let (go_on, taken_in) = (go_on.clone(), taken_in.clone());
            writers.spawn(async move {
                let mut bytes = batch(&[accept(BYTES)]);
                let mut piece = bytes.copy_to_bytes(BYTES - 1);
                while piece.has_remaining() {
                    let written = near.write_buf(&mut piece).await.expect("it is read");
                    taken_in.send_modify(|level| *level += written);
                }
                go_on.cancelled().await;
                near.write_all_buf(&mut bytes).await.expect("it is read");
            });
        }
        let of_three = 3 * (BYTES - 1);
        level.wait_for(|taken_in| *taken_in >= of_three).await.expect("nobody has hung up");
        // Beyond that, what streams read at once.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let taken_in = *level.borrow();
        assert!(taken_in <= of_three + STREAMS * (256 << 10), "{taken_in}");
        go_on.cancel();
        let mut events = Vec::new();
        while events.len() < STREAMS {
            std::future::poll_fn(|cx| inbox.poll_recv(cx, &mut events, STREAMS)).await;
        }
        let whole = |event: &Event| matches!(event, Event::Message { message, .. } if *message == accept(BYTES));
        assert!(events.iter().all(whole));
    }
}
