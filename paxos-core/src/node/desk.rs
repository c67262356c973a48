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
//! (`block_in_place`). Nothing is done about one that has been quick for long and then blocks for the
//! first time: a single peer may hear nothing until it is done. To rule that out would cost every turn
//! a trip through the scheduler.
//!
//! A rescue takes a runtime with several threads. On a single one nothing can go on beside what blocks.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, task::block_in_place};

use super::{
    driver::Driver,
    machine::{Done, Job},
};
use crate::port::StateMachine;

/// Where the driver lies.
pub(super) struct Desk<S: StateMachine> {
    patience: Duration,
    state: Mutex<State<S>>,
}

struct State<S: StateMachine> {
    driver: Option<Box<Driver<S>>>,
    /// Counts the times that it was laid down.
    times: u64,
    /// Where whoever finds the desk empty reports.
    report: Option<oneshot::Sender<Done<S>>>,
}

/// What became of the driver while a job was done.
pub(super) enum Lent<S: StateMachine> {
    /// It was still there.
    Back(Box<Driver<S>>, Done<S>),
    /// The other task goes on with it, and has what was done.
    Taken,
}

impl<S: StateMachine> Desk<S> {
    /// A desk where the driver may lie for as long as `patience`, or up to twice that.
    pub(super) fn new(patience: Duration) -> Arc<Desk<S>> {
        let state = Mutex::new(State { driver: None, times: 0, report: None });
        Arc::new(Desk { patience, state })
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        // Nothing in here panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a job while the driver lies here; one that may block, in a place that others can leave.
    pub(super) fn lend(&self, driver: Box<Driver<S>>, job: Job<S>, may_block: bool) -> Lent<S> {
        {
            let mut state = self.state();
            state.driver = Some(driver);
            state.times += 1;
        }
        let done = if may_block { block_in_place(|| job.run()) } else { job.run() };
        let mut state = self.state();
        if let Some(driver) = state.driver.take() {
            return Lent::Back(driver, done);
        }
        let report = state.report.take().expect("left by the taker");
        // If nobody waits for it any more, the node has ended.
        drop(report.send(done));
        Lent::Taken
    }

    /// Waits until the driver lies on the desk for too long, and takes it; with it comes the promise
    /// of what is being done.
    pub(super) async fn watch(&self) -> (Box<Driver<S>>, oneshot::Receiver<Done<S>>) {
        let mut last = self.state().times;
        loop {
            tokio::time::sleep(self.patience).await;
            let mut state = self.state();
            if state.times == last
                && let Some(driver) = state.driver.take()
            {
                let (report, done) = oneshot::channel();
                state.report = Some(report);
                return (driver, done);
            }
            last = state.times;
        }
    }
}
