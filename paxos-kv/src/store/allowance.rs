//! What a read may take: it ends when nobody waits for it any more, and all of them together have so much memory
//! for what they answer.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::KvError;

/// Memory that several reads share.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    /// What one of them may take.
    read_bytes_max: usize,
    taken: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize, read_bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget { bytes_max, read_bytes_max, taken: AtomicUsize::new(0) })
    }

    /// So much is in use.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }
}

/// Of one read. What it has taken of the budget is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Allowance {
    budget: Arc<Budget>,
    taken: usize,
    is_gone: Arc<AtomicBool>,
}

/// Whoever waits for a read. Dropped, it ends the read.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Allowance {
    /// For a read that somebody waits for.
    pub(crate) fn of(budget: &Arc<Budget>) -> (Allowance, Waiting) {
        let is_gone = Arc::new(AtomicBool::new(false));
        let allowance = Allowance { budget: budget.clone(), taken: 0, is_gone: is_gone.clone() };
        (allowance, Waiting(is_gone))
    }

    /// For a read that has no bound and ends by itself.
    pub(super) fn unlimited() -> Allowance {
        let is_gone = Arc::new(AtomicBool::new(false));
        Allowance { budget: Budget::new(usize::MAX, usize::MAX), taken: 0, is_gone }
    }

    /// Takes so much more, or nothing, for the next row.
    ///
    /// # Errors
    ///
    /// If there is no more, or nobody waits.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), KvError> {
        if self.is_gone.load(Ordering::Relaxed) {
            return Err(KvError::Abandoned);
        }
        let Budget { bytes_max, read_bytes_max, taken } = &*self.budget;
        let wanted = self.taken.saturating_add(bytes);
        if wanted > *read_bytes_max {
            return Err(KvError::AnswerTooLarge { bytes_max: *read_bytes_max });
        }
        let took = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            taken.checked_add(bytes).filter(|taken| taken <= bytes_max)
        });
        took.map_err(|_| KvError::TooManyRequests)?;
        self.taken = wanted;
        Ok(())
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_share_a_budget_and_give_back_what_they_took() {
        let budget = Budget::new(100, 90);
        let (mut one, _waiting) = Allowance::of(&budget);
        let (mut other, _waiting) = Allowance::of(&budget);
        assert_eq!((one.take(60), other.take(40)), (Ok(()), Ok(())));
        assert_eq!(one.take(1), Err(KvError::TooManyRequests), "the other has the rest");
        assert_eq!(one.take(31), Err(KvError::AnswerTooLarge { bytes_max: 90 }));
        drop(other);
        assert_eq!((one.take(30), budget.taken()), (Ok(()), 90));
        drop(one);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_read_ends_when_nobody_waits_for_it() {
        let (mut allowance, waiting) = Allowance::of(&Budget::new(100, 100));
        assert_eq!(allowance.take(0), Ok(()));
        drop(waiting);
        assert_eq!(allowance.take(0), Err(KvError::Abandoned));
    }
}
