//! When to try again.

use std::time::Duration;

use tokio::{sync::Notify, time::Instant};

/// The first pause, and the shortest even if there is reason to hurry.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause: a peer that comes back waits for no more than this.
const LONGEST: Duration = Duration::from_secs(2);

/// Pauses that double from one attempt to the next, each shortened at random by up to half, so
/// that nodes that lost each other at once do not return at once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { next: FIRST }
    }

    /// Starts anew after a connection made at `since`, unless it was so short that whatever ended
    /// it may still be there.
    pub(crate) fn connected_since(&mut self, since: Instant) {
        if since.elapsed() >= LONGEST {
            self.next = FIRST;
        }
    }

    /// Waits, though not for long once `hurry` is notified.
    pub(crate) async fn pause(&mut self, hurry: &Notify) {
        let pause = self.next.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        let shortest = pause.min(FIRST);
        let at_least = tokio::time::sleep(shortest);
        let at_most = tokio::time::timeout(pause, hurry.notified());
        // Which of the two ends the pause does not matter.
        let _ = tokio::join!(at_least, at_most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_the_longest_and_start_anew_after_a_good_connection() {
        let (mut backoff, hurry) = (Backoff::new(), Notify::new());
        let pause = async |backoff: &mut Backoff| {
            let start = Instant::now();
            backoff.pause(&hurry).await;
            start.elapsed()
        };
        assert!(pause(&mut backoff).await <= FIRST + Duration::from_millis(1));
        for _ in 0..10 {
            pause(&mut backoff).await;
        }
        let long = pause(&mut backoff).await;
        assert!(long >= LONGEST / 2 && long <= LONGEST + Duration::from_millis(1), "{long:?}");
        backoff.connected_since(Instant::now());
        assert!(pause(&mut backoff).await >= LONGEST / 2, "too short a connection");
        let since = Instant::now();
        tokio::time::advance(LONGEST).await;
        backoff.connected_since(since);
        assert!(pause(&mut backoff).await <= FIRST + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn reason_to_hurry_cuts_a_pause_short() {
        let (mut backoff, hurry) = (Backoff { next: LONGEST }, Notify::new());
        let start = Instant::now();
        tokio::join!(backoff.pause(&hurry), async { hurry.notify_waiters() });
        assert!(start.elapsed() <= FIRST + Duration::from_millis(1), "{:?}", start.elapsed());
    }
}
