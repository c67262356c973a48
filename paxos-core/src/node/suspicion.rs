//! Whether a state machine of which nobody has said that it blocks may block all the same.
//!
//! It is suspected until it has been quick some times in a row, and again after anything that took
//! long. A job of a suspect is done with precautions that cost 10 to 25 microseconds, and is timed by
//! itself; a state machine that does not block is to be spared both. It stands convicted once it has
//! held up the driver twice under the same suspicion: once may have been a pause of the whole process.

use std::{mem, time::Duration};

/// What takes longer may have waited for something. A full turn of a state machine that does not
/// block takes a millisecond or two.
const SLOW: Duration = Duration::from_millis(5);

/// Quick jobs in a row that clear it. So few, because a busy machine interrupts turns: the precautions
/// that follow are to be lost beside what the interruption took.
const QUICK_JOBS: u32 = 8;

pub(super) struct Suspicion {
    /// How long it may hold up the driver.
    patience: Duration,
    /// Quick jobs that are still to come before it is cleared.
    jobs_left: u32,
    /// Whether it has held up the driver since it was last cleared.
    has_blocked: bool,
}

impl Suspicion {
    /// Of one that has done nothing yet.
    pub(super) fn new(patience: Duration) -> Suspicion {
        Suspicion { patience, jobs_left: QUICK_JOBS, has_blocked: false }
    }

    pub(super) fn is_raised(&self) -> bool {
        self.jobs_left > 0
    }

    /// A job has taken so long by itself if it was a suspect's; with all that came before it in its
    /// turn otherwise, which is enough to be suspected for and no more. Says whether the driver was
    /// held up.
    pub(super) fn note(&mut self, took: Duration) -> Option<Finding> {
        let is_timed_alone = self.is_raised();
        if took <= SLOW.min(self.patience) {
            self.jobs_left = self.jobs_left.saturating_sub(1);
            self.has_blocked &= self.is_raised();
            return None;
        }
        self.jobs_left = QUICK_JOBS;
        (is_timed_alone && took > self.patience).then(|| self.blocked())
    }

    /// A job has held up the driver for longer than it may.
    pub(super) fn blocked(&mut self) -> Finding {
        self.jobs_left = QUICK_JOBS;
        let is_repeated = mem::replace(&mut self.has_blocked, true);
        if is_repeated { Finding::Blocks } else { Finding::Suspected }
    }
}

/// What a state machine is taken for that has just held up the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// It may have been a pause of the process.
    Suspected,
    /// It belongs on a thread of its own.
    Blocks,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_millis(101);

    fn cleared() -> Suspicion {
        let mut suspicion = Suspicion::new(PATIENCE);
        be_quick(&mut suspicion, QUICK_JOBS);
        suspicion
    }

    fn be_quick(suspicion: &mut Suspicion, jobs: u32) {
        for _ in 0..jobs {
            assert!(suspicion.is_raised());
            assert_eq!(suspicion.note(SLOW), None);
        }
    }

    #[test]
    fn some_quick_jobs_in_a_row_clear_it_and_a_slow_one_raises_it_again() {
        let mut suspicion = cleared();
        for _ in 0..2 {
            assert!(!suspicion.is_raised());
            assert_eq!(suspicion.note(2 * SLOW), None);
            be_quick(&mut suspicion, QUICK_JOBS - 1);
            assert_eq!(suspicion.note(2 * SLOW), None);
            be_quick(&mut suspicion, QUICK_JOBS);
        }
    }

    #[test]
    fn it_takes_two_long_jobs_of_a_suspect_to_convict_it() {
        let mut suspicion = cleared();
        assert_eq!(suspicion.note(LONG), None, "of the whole turn");
        assert_eq!(suspicion.note(PATIENCE), None);
        assert_eq!(suspicion.note(LONG), Some(Finding::Suspected));
        be_quick(&mut suspicion, QUICK_JOBS - 1);
        assert_eq!(suspicion.note(LONG), Some(Finding::Blocks));
    }

    #[test]
    fn long_jobs_far_apart_do_not() {
        let mut suspicion = cleared();
        for _ in 0..3 {
            assert_eq!(suspicion.note(LONG), None);
            assert_eq!(suspicion.note(LONG), Some(Finding::Suspected));
            be_quick(&mut suspicion, QUICK_JOBS);
            assert_eq!(suspicion.blocked(), Finding::Suspected);
            be_quick(&mut suspicion, QUICK_JOBS);
        }
    }
}
