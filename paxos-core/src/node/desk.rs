//! What saves the driver from a state machine that blocks unannounced.
//!
//! While the state machine works in the driver's turn, the driver itself lies on a desk, at which two
//! tasks sit. If it lies there for longer than a heartbeat, the other task takes it and goes on with
//! it, so that nobody misses the leader; what blocks is left behind on its thread, and reports to its
//! driver when it is done. Then its task watches over the one that has the driver now: there is one
//! state machine, so nobody has to be rescued before.
//!
//! What blocks keeps its worker of the runtime, and with it the task that was woken last from there:
//! tokio has a worker run that task next, and lets no other worker take it. That may be the task which
//! sends to one of the peers, and no rescue of the driver gets it going again. So a job of a state
//! machine that is [suspected](super::suspicion) gives the worker away before it begins
//! ([`Job::run_aside`](super::machine::Job::run_aside)). Nothing is done about one that has been quick for long and then blocks for the
//! first time: a single peer may hear nothing until it is done. To rule that out would cost every turn
//! a trip through the scheduler.
//!
//! A rescue takes a runtime with several threads. On a single one nothing can go on beside what blocks.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

/// Where a `T` lies while a job is done that results in an `R`.
pub(super) struct Desk<T, R> {
    patience: Duration,
    top: Mutex<Top<T, R>>,
}

/// What is on it.
struct Top<T, R> {
    lying: Option<T>,
    /// Counts the times that something was laid down.
    times: u64,
    /// Where whoever finds the desk empty reports.
    report: Option<oneshot::Sender<R>>,
}

/// What became of what was laid down, when the job was done.
pub(super) enum Lent<T, R> {
    /// It was still there.
    Back(T, R),
    /// The other task goes on with it, and has the result.
    Taken,
}

impl<T, R> Desk<T, R> {
    /// A desk where something may lie for as long as `patience`, or up to twice that.
    pub(super) fn new(patience: Duration) -> Self {
        Desk { patience, top: Mutex::new(Top { lying: None, times: 0, report: None }) }
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    fn top(&self) -> MutexGuard<'_, Top<T, R>> {
        // Nothing in here panics half-way.
        self.top.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a job while `lent` lies here.
    pub(super) fn lend(&self, lent: T, job: impl FnOnce() -> R) -> Lent<T, R> {
        {
            let mut top = self.top();
            top.lying = Some(lent);
            top.times += 1;
        }
        let result = job();
        let mut top = self.top();
        if let Some(lent) = top.lying.take() {
            return Lent::Back(lent, result);
        }
        let report = top.report.take().expect("left by the taker");
        // If nobody waits for it any more, the node has ended.
        drop(report.send(result));
        Lent::Taken
    }

    /// Waits until something lies here for too long, and takes it; with it comes the promise of the
    /// result.
    pub(super) async fn watch(&self) -> (T, oneshot::Receiver<R>) {
        let mut last = self.top().times;
        loop {
            tokio::time::sleep(self.patience).await;
            let mut top = self.top();
            if top.times == last
                && let Some(lent) = top.lying.take()
            {
                let (report, result) = oneshot::channel();
                top.report = Some(report);
                return (lent, result);
            }
            last = top.times;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
    };

    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_lies_for_too_long_is_taken_and_the_result_follows() {
        let desk = Arc::new(Desk::new(PATIENCE));
        let (begin, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let job = move || {
            begin.send(()).expect("waited for");
            ended.recv().expect("told")
        };
        let lender = thread::spawn({
            let desk = Arc::clone(&desk);
            move || {
                assert!(matches!(desk.lend("driver", &job), Lent::Back("driver", 1)));
                assert!(matches!(desk.lend("driver", &job), Lent::Taken));
            }
        });
        begun.recv().expect("the first job begins");
        let start = Instant::now();
        let ((lent, result), ()) = tokio::join!(desk.watch(), async {
            tokio::time::sleep(PATIENCE / 2).await;
            end.send(1).expect("waited for");
            begun.recv().expect("the second job begins");
        });
        assert_eq!(
            (lent, start.elapsed()),
            ("driver", 2 * PATIENCE),
            "the second job's time counts"
        );
        end.send(2).expect("waited for");
        assert_eq!(result.await, Ok(2));
        lender.join().expect("no panic");
    }
}
