//! The process of a server: its threads, the signals that end it, and its end.

use std::{future::Future, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::client::CommandError;
use crate::server::descriptors;

/// How long an orderly end waits for reads of the store that nobody wants any more. They hold its file
/// open, and one that was closed properly is opened sooner.
const READS_MAX: Duration = Duration::from_secs(5);

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// All that it had begun is done.
    Orderly,
    /// Somebody does not want to wait. What is acknowledged is on disk anyway.
    AtOnce,
}

/// Runs a server to its end, with a thread per core.
pub(super) fn run(
    server: impl Future<Output = Result<Ending, CommandError>>,
) -> Result<(), CommandError> {
    descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::Io("start the runtime".to_owned(), error))?;
    let result = runtime.block_on(server);
    match &result {
        Ok(Ending::AtOnce) => runtime.shutdown_background(),
        Ok(Ending::Orderly) | Err(_) => runtime.shutdown_timeout(READS_MAX),
    }
    result.map(drop)
}

/// The signals that end a server.
pub(super) struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on they are reported here.
    pub(super) fn new() -> Result<Signals, CommandError> {
        let listen = |kind| {
            signal(kind).map_err(|error| CommandError::Io("listen for signals".to_owned(), error))
        };
        Ok(Signals {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// The name of the next one. Cancel safe.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, thread, time::Instant};

    use super::*;

    /// A read of the store that takes as long as `wait` does not come.
    fn ending_with_a_read_under_way(ending: Ending) -> Duration {
        let (release, wait) = channel::<()>();
        let began = Instant::now();
        let running = thread::spawn(move || {
            run(async move {
                tokio::task::spawn_blocking(move || wait.recv());
                Ok(ending)
            })
        });
        if ending == Ending::Orderly {
            thread::sleep(Duration::from_millis(100));
            assert!(!running.is_finished(), "nobody waits for the read");
            drop(release);
            running.join().expect("no panic").expect("it ends");
            return began.elapsed();
        }
        running.join().expect("no panic").expect("it ends");
        drop(release);
        began.elapsed()
    }

    #[test]
    fn only_an_orderly_end_waits_for_reads() {
        assert!(ending_with_a_read_under_way(Ending::AtOnce) < READS_MAX);
        assert!(ending_with_a_read_under_way(Ending::Orderly) < READS_MAX);
    }
}
