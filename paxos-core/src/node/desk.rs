//! What saves the driver from a state machine that blocks unannounced.
//!
//! While the state machine works in the driver's turn, the driver itself lies on a desk. If it lies
//! there for longer than a heartbeat, another task takes it and goes on with it, so that nobody misses
//! the leader; what blocks is left behind on its thread, and reports to its driver when it is done.
//! From then on the state machine works on threads of its own.
//!
//! What blocks keeps its worker of the runtime, and with it the task that was woken last from there:
//! tokio has a worker run that task next, and lets no other worker take it. That may be the task which
//! sends to one of the peers, and no rescue of the driver gets it going again. So a job of a state
//! machine that is [suspected](super::suspicion) gives the worker away before it begins
//! (`block_in_place`). Nothing is done about one that has been quick for long and then blocks for the
//! first time: a single peer may hear nothing until it is done. To rule that out would cost every turn
//! a trip through the scheduler.
//!
//! A rescue takes a runtime with several threads. On a single one nothing can go on beside what blocks,
//! and the state machine is moved once it has returned.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{sync::oneshot, task::block_in_place};

use super::{
    driver::Driver,
    error::NodeError,
    machine::{Done, Job, warn_of_blocking},
};
use crate::port::StateMachine;

/// How a driver has ended.
type Ended = Result<(), NodeError>;

/// Where the driver lies.
pub(super) struct Desk<S: StateMachine> {
    state: Mutex<State<S>>,
}

struct State<S: StateMachine> {
    driver: Option<Box<Driver<S>>>,
    /// Counts the times that it was laid down.
    times: u64,
    /// For whoever finds the desk empty.
    note: Option<Note<S>>,
}

/// What the one who took the driver leaves behind.
struct Note<S: StateMachine> {
    done: oneshot::Sender<Done<S>>,
    end: oneshot::Receiver<Ended>,
}

/// What became of a job that was done while the driver lay on the desk.
pub(super) enum Lent<S: StateMachine> {
    /// The driver was still there.
    Back(Box<Driver<S>>, Done<S>),
    /// Another task goes on with it, and tells how it ends.
    Taken(oneshot::Receiver<Ended>),
}

impl<S: StateMachine> Desk<S> {
    /// A desk, and a task of the current runtime that looks at it every `patience`.
    pub(super) fn watched(patience: Duration) -> Arc<Desk<S>> {
        let state = Mutex::new(State { driver: None, times: 0, note: None });
        let desk = Arc::new(Desk { state });
        tokio::spawn(watch(Arc::downgrade(&desk), patience));
        desk
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
        match state.driver.take() {
            Some(driver) => Lent::Back(driver, done),
            None => {
                let Note { done: sender, end } = state.note.take().expect("left by the taker");
                // If nobody waits for it any more, the node has ended.
                drop(sender.send(done));
                Lent::Taken(end)
            }
        }
    }

    /// Takes the driver, if it has been lying here since it was laid down for the `times`th time.
    fn take(&self, times: u64) -> Option<(Box<Driver<S>>, oneshot::Sender<Ended>)> {
        let mut state = self.state();
        if state.times != times {
            return None;
        }
        let mut driver = state.driver.take()?;
        let (done, receiver) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        state.note = Some(Note { done, end });
        driver.leave_behind(receiver);
        Some((driver, end_sender))
    }
}

/// Looks whether the driver lies on the desk for too long, and goes on with it.
async fn watch<S: StateMachine>(desk: Weak<Desk<S>>, patience: Duration) {
    let mut last = 0;
    loop {
        tokio::time::sleep(patience).await;
        let Some(desk) = desk.upgrade() else { return };
        if let Some((driver, end)) = desk.take(last) {
            warn_of_blocking(patience);
            drop(desk);
            // Whoever waits for the end has the driver's first task to tell.
            drop(end.send(driver.run(None).await));
            return;
        }
        last = desk.state().times;
    }
}
