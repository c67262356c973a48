//! When to try again.

use std::time::Duration;

use tokio::{sync::Notify, time::Instant};

/// The first pause, and the shortest even if there is reason to hurry.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause before a peer that was not reached: one that comes back waits for no more than this.
const LONGEST: Duration = Duration::from_millis(500);

/// The longest pause before a peer that refuses this node: somebody has to do something about it.
const LONGEST_REFUSED: Duration = Duration::from_secs(2);

/// How long a connection has to last to be a good one.
const GOOD: Duration = Duration::from_secs(2);

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
        if since.elapsed() >= GOOD {
            self.next = FIRST;
        }
    }

    /// Waits before a peer is dialled that was refused, or not reached, though not for long once `hurry`
    /// is notified.
    pub(crate) async fn pause(&mut self, is_refused: bool, hurry: &Notify) {
        let longest = if is_refused { LONGEST_REFUSED } else { LONGEST };
        let pause = self.next.min(longest).mul_f64(0.5 + fastrand::f64() / 2.0);
        self.next = (self.next * 2).min(LONGEST_REFUSED);
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
        let span = |longest: Duration| longest / 2..=longest + Duration::from_millis(1);
        let pause = async |backoff: &mut Backoff| {
            let start = Instant::now();
            backoff.pause(false, &hurry).await;
            start.elapsed()
        };
        assert!(pause(&mut backoff).await <= FIRST + Duration::from_millis(1));
        for _ in 0..10 {
            pause(&mut backoff).await;
        }
        let long = pause(&mut backoff).await;
        assert!(span(LONGEST).contains(&long), "{long:?}");
        let start = Instant::now();
        backoff.pause(true, &hurry).await;
        let longer = start.elapsed();
        assert!(span(LONGEST_REFUSED).contains(&longer), "{longer:?}");
        backoff.connected_since(Instant::now());
        assert!(pause(&mut backoff).await >= LONGEST / 2, "too short a connection");
        let since = Instant::now();
        tokio::time::advance(GOOD).await;
        backoff.connected_since(since);
        assert!(pause(&mut backoff).await <= FIRST + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn reason_to_hurry_cuts_a_pause_short() {
        let (mut backoff, hurry) = (Backoff { next: LONGEST_REFUSED }, Notify::new());
        let start = Instant::now();
        tokio::join!(backoff.pause(true, &hurry), async { hurry.notify_waiters() });
        assert!(start.elapsed() <= FIRST + Duration::from_millis(1), "{:?}", start.elapsed());
    }
}
