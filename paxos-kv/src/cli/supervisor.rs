//! What a supervisor is told: that the server is ready, or takes its time, or stops.
//!
//! systemd and its kin say in `NOTIFY_SOCKET` where they listen; without it nothing is said.

use std::{convert::Infallible, future::pending, time::Duration};

use sd_notify::NotifyState;

use crate::server::Server;

/// How much more time a start is to be given, from each time it is asked for on.
const EXTENSION: Duration = Duration::from_secs(60);

/// How often it is asked for.
const INTERVAL: Duration = Duration::from_secs(10);

/// Says that the server is ready once it is part of a cluster that works, as etcd does: who restarts one
/// member after the other waits for that. Where no quorum is up a start takes as long as the others take
/// to come, so it asks for more time meanwhile. Never returns.
pub(super) async fn attend(server: &Server) -> Infallible {
    let wait = async {
        loop {
            let micros =
                u32::try_from(EXTENSION.as_micros()).expect("a minute is less than an hour");
            say([
                NotifyState::ExtendTimeoutUsec(micros),
                NotifyState::Status("waiting for a quorum of the members"),
            ]);
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = server.joined() => say([NotifyState::Ready, NotifyState::Status("serving clients")]),
        () = wait => {}
    }
    pending().await
}

/// Says that the server is on its way to its end.
pub(super) fn stopping() {
    say([NotifyState::Stopping, NotifyState::Status("finishing requests under way")]);
}

/// On a thread of its own, since a supervisor that stands still must not hold the server up.
fn say<const N: usize>(state: [NotifyState<'static>; N]) {
    tokio::task::spawn_blocking(move || {
        if let Err(error) = sd_notify::notify(&state) {
            tracing::warn!(%error, "the supervisor of NOTIFY_SOCKET cannot be told how the server is");
        }
    });
}
