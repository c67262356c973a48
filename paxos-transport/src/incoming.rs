//! Lets peers in, and receives what they send.

use std::{io, sync::Arc, time::Duration};

use paxos_core::types::Identity;

use crate::{
    frame::FrameError,
    handshake::{self, Admitted, HandshakeError},
    link::{Link, Sink, Wire},
    places::{Place, Places},
    refusals::{Dialler, Refusal},
    roster::Admission,
    shared::{Settings, Shared},
};

/// How long to wait when nothing can be accepted, for want of file descriptors for instance.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts connections until the end. While as many as may are in their handshake, the next wait for
/// a moment.
pub(crate) async fn listen<W: Wire>(shared: Arc<Shared<W>>) {
    let Settings { handshakes_max, handshake_grace, .. } = shared.settings;
    let mut places = Places::new(handshakes_max, handshake_grace);
    let accept = async {
        loop {
            match shared.wire.accept().await {
                Ok(pending) => {
                    let serve = serve(shared.clone(), pending, places.take().await);
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
async fn serve<W: Wire>(shared: Arc<Shared<W>>, pending: W::Pending, place: Place) {
    let roster = shared.roster();
    let node = roster.who(roster.me().node);
    let admitted = tokio::select! {
        biased;
        admitted = admit(&shared, pending) => admitted,
        () = place.needed() => {
            tracing::debug!(%node, "a connection did not say who it is, and made room for others");
            return;
        }
    };
    drop(place);
    let (link, Admitted { identity: Identity { node: peer, .. }, lane, .. }) = match admitted {
        Ok(admitted) => admitted,
        Err(error) => {
            let other = match &error {
                HandshakeError::Refused { other, .. } => *other,
                _ => None,
            };
            match Shared::<W>::reason(&error) {
                Some(reason) => roster.refuse(other, Dialler::Peer, &reason),
                None => tracing::debug!(%node, %error, "a connection ended in its handshake"),
            }
            return;
        }
    };
    roster.welcome(peer, Dialler::Peer);
    let who = roster.who(peer);
    let ended = shared.end.child_token();
    // A newer connection takes the place of an older one, which the peer has given up.
    let before = shared.incoming().insert((peer, lane), ended.clone());
    if let Some(before) = before.filter(|before| !before.is_cancelled()) {
        before.cancel();
        shared.renew(peer, lane);
    }
    if !roster.is_peer(peer) {
        // Let go of while it was being let in.
        ended.cancel();
    }
    shared.reached(peer);
    let sink = Sink::new(shared.inbox.clone(), (peer, lane), ended.clone());
    let received = tokio::select! {
        biased;
        () = ended.cancelled() => Ok(()),
        received = link.receive(lane, sink) => received,
    };
    ended.cancel();
    match received {
        Ok(()) => tracing::debug!(%node, peer = %who, ?lane, "a connection ended"),
        Err(FrameError::Io(error)) => {
            tracing::debug!(%node, peer = %who, ?lane, %error, "the connection broke");
        }
        Err(error) => {
            tracing::warn!(
                %node, peer = %who, ?lane, %error,
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
        let certificate = link.certificate();
        let admitted =
            handshake::accept(&mut link.stream(), shared.roster(), certificate.as_ref()).await?;
        Ok::<_, HandshakeError>((link, admitted))
    };
    let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
    let deadline = shared.settings.handshake_deadline;
    let (link, admitted) = tokio::time::timeout(deadline, attempt).await.unwrap_or_else(late)?;
    if admitted.admission == Admission::Unmet {
        meet(shared, admitted.identity).await?;
    }
    Ok((link, admitted))
}

/// Waits until this node has found a peer that is there already where it has to be.
async fn meet<W: Wire>(shared: &Shared<W>, theirs: Identity) -> Result<(), HandshakeError> {
    shared.reached(theirs.node);
    let roster = shared.roster();
    let not_found = |_| Err(Refusal::NotFound { node: roster.who(theirs.node) });
    let deadline = shared.settings.handshake_deadline;
    let met = tokio::time::timeout(deadline, roster.meet(theirs)).await.unwrap_or_else(not_found);
    met.map_err(|refusal| HandshakeError::Refused {
        other: Some(theirs.node),
        reason: refusal.to_string(),
    })
}
