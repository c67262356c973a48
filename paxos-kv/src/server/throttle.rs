//! Lines of the log that could come as fast as clients like.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lets one through, then none until some time has passed.
pub(super) struct Throttle {
    interval: Duration,
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(super) fn new(interval: Duration) -> Throttle {
        Throttle { interval, last: Mutex::new(None) }
    }

    /// Whether it is time for another one.
    pub(super) fn passes(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let passes = last.is_none_or(|last| last.elapsed() >= self.interval);
        if passes {
            *last = Some(Instant::now());
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_passes_in_each_interval() {
        let throttle = Throttle::new(Duration::from_secs(3600));
        assert_eq!([throttle.passes(), throttle.passes(), throttle.passes()], [true, false, false]);
        let throttle = Throttle::new(Duration::ZERO);
        assert!(throttle.passes() && throttle.passes());
    }
}
