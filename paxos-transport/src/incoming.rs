//! Lets peers in, and receives what they send.

use std::{io, sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    frame::FrameError,
    handshake::{self, Admitted, HandshakeError},
    link::{Link, Sink, Wire},
    refusals::Dialler,
    shared::Shared,
};

/// How long to wait when nothing can be accepted, for want of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections until the end. While as many as may are in their handshake, the next wait.
pub(crate) async fn listen<W: Wire>(shared: Arc<Shared<W>>) {
    let handshakes = Arc::new(Semaphore::new(shared.settings.handshakes_max));
    let accept = async {
        loop {
            let handshake = handshakes.clone().acquire_owned().await;
            let handshake = handshake.expect("the semaphore is never closed");
            match shared.wire.accept().await {
                Ok(pending) => {
                    let serve = serve(shared.clone(), pending, handshake);
                    let ended = shared.end.clone().run_until_cancelled_owned(serve);
                    shared.listeners.spawn(ended);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection, and keeps trying");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    shared.end.run_until_cancelled(accept).await;
}

/// One connection from its first byte to its last.
async fn serve<W: Wire>(
    shared: Arc<Shared<W>>,
    pending: W::Pending,
    handshake: OwnedSemaphorePermit,
) {
    let node = shared.roster().me().node;
    let admitted = admit(&shared, pending).await;
    drop(handshake);
    let (link, Admitted { peer, lane }) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            let other = match &error {
                HandshakeError::Refused { other, .. } => *other,
                _ => None,
            };
            match Shared::<W>::reason(&error) {
                Some(reason) => shared.roster().refuse(other, Dialler::Peer, &reason),
                None => tracing::debug!(%node, %error, "a connection ended in its handshake"),
            }
            return;
        }
    };
    shared.roster().welcome(peer, Dialler::Peer);
    let ended = shared.end.child_token();
    // A newer connection takes the place of an older one, which the peer has given up.
    let before = shared.incoming().insert((peer, lane), ended.clone());
    if let Some(before) = before.filter(|before| !before.is_cancelled()) {
        before.cancel();
        shared.renew(peer, lane);
    }
    if !shared.roster().is_peer(peer) {
        // Let go of while it was being let in.
        ended.cancel();
    }
    shared.reached(peer);
    let sink = Sink::new(shared.inbox.clone(), peer, ended.clone());
    let received = tokio::select! {
        biased;
        () = ended.cancelled() => Ok(()),
        received = link.receive(lane, sink) => received,
    };
    ended.cancel();
    match received {
        Ok(()) => tracing::debug!(%node, %peer, ?lane, "a connection ended"),
        Err(FrameError::Io(error)) => {
            tracing::debug!(%node, %peer, ?lane, %error, "the connection broke");
        }
        Err(error) => {
            tracing::warn!(
                %node, %peer, ?lane, %error,
                "the peer sent something that is no message: closing this connection"
            );
        }
    }
}

async fn admit<W: Wire>(
    shared: &Shared<W>,
    pending: W::Pending,
) -> Result<(W::Link, Admitted), HandshakeError> {
    let attempt = async {
        let mut link = shared.wire.establish(pending).await?;
        let admitted = handshake::accept(&mut link.stream(), shared.roster()).await?;
        Ok((link, admitted))
    };
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
    tokio::time::timeout(shared.settings.handshake_deadline, attempt).await.unwrap_or_else(late)
}
