//! Connects to a peer, sends one lane to it, and connects again when that breaks.
//!
//! A peer that was connected and then refuses a connection is *lost*: its process has ended, or listens no
//! more. That shows on the control lane, and is reported from here.

use std::{io, sync::Arc, time::Duration};

use paxos_core::{message::Lane, types::NodeId};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    address::{Address, Addresses},
    backoff::Backoff,
    dial::DIAL_MAX,
    frame::Batch,
    handshake::{self, HandshakeError},
    link::{Link, Wire},
    queue,
    refusals::Dialler,
    shared::Shared,
};

/// How long a peer that is let go is still sent what waits for it.
pub(crate) const FLUSH_MAX: Duration = Duration::from_secs(1);

/// A connection younger than this is not made anew because the peer has dialled: it may be the
/// answer to that, and two nodes must not go on answering each other.
const RENEW_AGE_MIN: Duration = Duration::from_secs(1);

/// The task that sends one lane to one peer.
#[derive(Debug)]
pub(crate) struct Outgoing<W> {
    pub(crate) shared: Arc<Shared<W>>,
    pub(crate) peer: NodeId,
    pub(crate) addresses: Addresses,
    /// How often it has been tried.
    pub(crate) attempts: usize,
    pub(crate) lane: Lane,
    pub(crate) queue: queue::Receiver,
    pub(crate) hurry: Arc<Notify>,
    pub(crate) renew: Arc<Notify>,
    pub(crate) let_go: CancellationToken,
}

impl<W: Wire> Outgoing<W> {
    /// Runs until the peer is let go.
    pub(crate) async fn run(mut self) {
        let let_go = self.let_go.clone();
        let mut backoff = Backoff::new();
        let mut reachable = true;
        // As far as has been reported.
        let mut is_connected = false;
        loop {
            let mut is_refused = false;
            let address = self.addresses.of_attempt(self.attempts).clone();
            let connected = tokio::select! {
                biased;
                () = let_go.cancelled() => return,
                connected = self.connect(&address) => connected,
            };
            match connected {
                Ok(link) => {
                    (reachable, is_connected) = (true, true);
                    let since = Instant::now();
                    let Err(error) = self.carry(link).await else { return };
                    backoff.connected_since(since);
                    self.note(&address, &error, "the connection broke");
                    self.give_up_silent_lanes(&error);
                    self.report_if_lost(&error, &mut is_connected);
                }
                Err(error) => {
                    self.attempts = self.attempts.wrapping_add(1);
                    if let HandshakeError::Io(error) = &error {
                        self.report_if_lost(error, &mut is_connected);
                    }
                    if let Some(reason) = Shared::<W>::reason(&error) {
                        is_refused = true;
                        let with_address = format!("{address}: {reason}");
                        let told = matches!(error, HandshakeError::Refused { .. });
                        let reason = if told { reason } else { with_address };
                        self.shared.roster().refuse(Some(self.peer), Dialler::ThisNode, &reason);
                    } else if std::mem::take(&mut reachable) {
                        self.note(&address, &error, "cannot connect, and keeps trying");
                    }
                }
            }
            // Stale by the time there is a connection: the replica sends again what still matters.
            self.queue.discard();
            tokio::select! {
                () = let_go.cancelled() => return,
                () = backoff.pause(is_refused, &self.hurry) => {}
            }
        }
    }

    /// One line for the three lanes: they share their fate most of the time.
    fn note(&self, address: &Address, error: &dyn std::error::Error, what: &str) {
        let (roster, Outgoing { lane, .. }) = (self.shared.roster(), self);
        let (node, peer) = (roster.who(roster.me().node), roster.who(self.peer));
        if self.lane == Lane::Control {
            tracing::warn!(%node, %peer, %address, %error, "{what}");
        } else {
            tracing::debug!(%node, %peer, %address, ?lane, %error, "{what}");
        }
    }

    /// Reports that a peer that was connected refuses connections now, once, and behind all that has come from
    /// it: what may still come on its old connections is not worth anything.
    fn report_if_lost(&self, error: &io::Error, is_connected: &mut bool) {
        let is_lost = *is_connected && error.kind() == io::ErrorKind::ConnectionRefused;
        if !is_lost || self.lane != Lane::Control {
            return;
        }
        *is_connected = false;
        let shared = &self.shared;
        shared
            .incoming()
            .range((self.peer, Lane::Control)..=(self.peer, Lane::Bulk))
            .for_each(|(_, ended)| ended.cancel());
        shared.inbox.lose(self.peer);
    }

    /// A peer that says nothing on the control lane says nothing on the others, where it may take longer
    /// to be noticed.
    fn give_up_silent_lanes(&self, error: &io::Error) {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable, TimedOut};

        let is_silent = matches!(
            error.kind(),
            TimedOut | HostUnreachable | NetworkUnreachable | ConnectionRefused
        );
        if is_silent && self.lane == Lane::Control {
            for lane in [Lane::Log, Lane::Bulk] {
                self.shared.renew(self.peer, lane);
            }
        }
    }

    async fn connect(&self, address: &Address) -> Result<W::Link, HandshakeError> {
        let resolver = &self.shared.resolver;
        let attempt = async {
            let candidates = resolver.resolve(address.host(), address.port()).await?;
            let mut link = self.shared.wire.dial(address, &candidates, self.lane).await?;
            let roster = self.shared.roster();
            let certificate = link.certificate();
            let whom = (self.peer, self.lane);
            handshake::dial(&mut link.stream(), roster, whom, certificate.as_ref()).await?;
            roster.welcome(self.peer, Dialler::ThisNode);
            self.shared.reached(self.peer);
            Ok(link)
        };
        let deadline = DIAL_MAX + self.shared.settings.handshake_deadline;
        let late = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
        tokio::time::timeout(deadline, attempt).await.unwrap_or_else(late)
    }

    /// Sends until the connection breaks, or the peer is let go and has been sent what waited.
    async fn carry(&mut self, mut link: W::Link) -> io::Result<()> {
        let (roster, Outgoing { lane, .. }) = (self.shared.roster(), &*self);
        let (node, peer) = (roster.who(roster.me().node), roster.who(self.peer));
        tracing::debug!(%node, %peer, ?lane, "connected");
        let let_go = self.let_go.clone();
        let too_long = async {
            let_go.cancelled().await;
            tokio::time::sleep(FLUSH_MAX).await;
        };
        let renewed = renewed(self.renew.clone());
        tokio::select! {
            sent = self.send_all(&mut link) => sent?,
            () = too_long => return Ok(()),
            error = renewed => return Err(error),
        }
        // Whether it has all arrived is not known, nor promised.
        let _ = tokio::time::timeout(FLUSH_MAX, link.finish()).await;
        Ok(())
    }

    async fn send_all(&mut self, link: &mut W::Link) -> io::Result<()> {
        loop {
            let mut batch = Batch::default();
            tokio::select! {
                biased;
                error = link.gone() => return Err(error),
                more = self.queue.next(&mut batch, W::Link::BATCH_BYTES_MAX) => if !more {
                    return Ok(());
                }
            }
            link.send(self.lane, batch).await?;
        }
    }
}

/// Resolves when it shows that a connection made now is worth nothing any longer.
async fn renewed(renew: Arc<Notify>) -> io::Error {
    let since = Instant::now();
    loop {
        renew.notified().await;
        if since.elapsed() >= RENEW_AGE_MIN {
            return io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the peer has started anew, or is silent",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_of_some_age_is_made_anew() {
        let renew = Arc::new(Notify::new());
        let waits = tokio::spawn(renewed(renew.clone()));
        tokio::task::yield_now().await;
        renew.notify_waiters();
        tokio::time::sleep(RENEW_AGE_MIN).await;
        assert!(!waits.is_finished(), "it was too young");
        renew.notify_waiters();
        assert_eq!(waits.await.expect("it ends").kind(), io::ErrorKind::ConnectionReset);
    }
}
