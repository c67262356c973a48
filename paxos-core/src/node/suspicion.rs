//! Whether a state machine of which nobody has said that it blocks may block all the same.
//!
//! It is suspected until it has been quick some times in a row, and again after anything that took
//! long. A job of a suspect is done with precautions that cost some ten microseconds, which a state
//! machine that does not block is to be spared.

use std::time::Duration;

/// What takes longer may have waited for something. A full turn of a state machine that does not
/// block takes a millisecond or two.
const SLOW: Duration = Duration::from_millis(5);

/// Quick jobs in a row that clear it.
const QUICK_JOBS: u32 = 16;

pub(super) struct Suspicion {
    /// Quick jobs that are still to come before it is cleared.
    jobs_left: u32,
}

impl Suspicion {
    /// Of one that has done nothing yet.
    pub(super) fn new() -> Suspicion {
        Suspicion { jobs_left: QUICK_JOBS }
    }

    pub(super) fn is_raised(&self) -> bool {
        self.jobs_left > 0
    }

    /// A job has taken so long.
    pub(super) fn note(&mut self, took: Duration) {
        self.jobs_left = if took > SLOW { QUICK_JOBS } else { self.jobs_left.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_quick_jobs_in_a_row_clear_it_and_a_slow_one_raises_it_again() {
        let mut suspicion = Suspicion::new();
        for slow in [SLOW, 2 * SLOW] {
            for _ in 0..QUICK_JOBS {
                assert!(suspicion.is_raised());
                suspicion.note(SLOW);
            }
            assert!(!suspicion.is_raised());
            suspicion.note(slow);
        }
        assert!(suspicion.is_raised());
    }
}
