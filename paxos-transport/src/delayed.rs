//! What is on its way and arrives later.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep};

/// Things by the time at which they arrive.
#[derive(Debug)]
pub(crate) struct Delayed<T> {
    /// Those that arrive at the same time, by when they left.
    things: BTreeMap<(Instant, u64), T>,
    #[cfg(feature = "memory")]
    count: u64,
    /// Fires at the next arrival, or before.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<T> Default for Delayed<T> {
    fn default() -> Self {
        Delayed {
            things: BTreeMap::new(),
            #[cfg(feature = "memory")]
            count: 0,
            timer: None,
        }
    }
}

impl<T> Delayed<T> {
    /// `thing` arrives at `due`.
    #[cfg(feature = "memory")]
    pub(crate) fn push(&mut self, due: Instant, thing: T) {
        self.count += 1;
        self.things.insert((due, self.count), thing);
    }

    /// The next thing that has arrived by now. As long as nothing is on its way, this costs nothing.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let entry = self.things.first_entry()?;
        (entry.key().0 <= Instant::now()).then(|| entry.remove())
    }

    /// Ready when something has arrived; the task is woken then.
    pub(crate) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((&(due, _), _)) = self.things.first_key_value() else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx)
    }
}
