//! Who waits for the outcome of what the replica has been asked for.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

/// Those that wait, by the number under which the replica knows what they have asked for.
pub(super) struct Waiters<O> {
    asked: u64,
    waiting: BTreeMap<u64, oneshot::Sender<O>>,
}

impl<O> Default for Waiters<O> {
    fn default() -> Self {
        Waiters { asked: 0, waiting: BTreeMap::new() }
    }
}

impl<O> Waiters<O> {
    /// The next number, for something for which nobody waits.
    pub(super) fn number(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// The next number, for which `reply` waits.
    pub(super) fn wait(&mut self, reply: oneshot::Sender<O>) -> u64 {
        let number = self.number();
        self.waiting.insert(number, reply);
        number
    }

    pub(super) fn ended(&mut self, number: u64, outcome: O) {
        if let Some(reply) = self.waiting.remove(&number) {
            // Whoever has stopped waiting does not hear it.
            drop(reply.send(outcome));
        }
    }
}
