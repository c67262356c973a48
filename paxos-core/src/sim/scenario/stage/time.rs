//! How time passes, and what happens of itself meanwhile.

use std::time::Duration;

use super::{Performed, Stage};
use crate::{limits, replica::Role, sim::host::Input};

/// Rounds of messages until a cluster that does not come to rest is given up.
const ROUNDS_MAX: usize = 1000;

/// Deadlines of a node that `elect` lets pass before it gives up.
const CANDIDACIES_MAX: usize = 20;

impl Stage {
    /// Lets everything happen that takes no time, and the leader say what is chosen, which it may put
    /// off for a moment.
    pub(super) fn settle(&mut self) -> Performed {
        for _ in 0..ROUNDS_MAX {
            let mut happened = false;
            for parcel in std::mem::take(&mut self.flight) {
                if self.actors[parcel.to].suspended_at.is_some() {
                    self.flight.push(parcel);
                } else {
                    happened = true;
                    self.receive(parcel)?;
                }
            }
            for node in 0..self.actors.len() {
                if self.actors[node].suspended_at.is_some() {
                    continue;
                }
                if !self.actors[node].disk_is_held {
                    happened |= self.finish_write(node)?;
                }
                happened |= self.work(node)?;
            }
            if !happened && !self.tick_before(self.now + limits::ANNOUNCE_DELAY)? {
                return Ok(());
            }
        }
        Err(format!("nothing comes to rest within {ROUNDS_MAX} rounds"))
    }

    /// When a node that goes on wants its next tick.
    fn deadline(&self, node: usize) -> Option<Duration> {
        let actor = &self.actors[node];
        if actor.suspended_at.is_some() {
            return None;
        }
        actor.host.next_deadline().map(|deadline| deadline.since_origin() + actor.lag)
    }

    /// Lets time pass, and everything happen that is due.
    pub(super) fn advance(&mut self, time: Duration) -> Performed {
        let end = self.now + time;
        self.settle()?;
        while self.tick_before(end)? {
            self.settle()?;
        }
        self.now = self.now.max(end);
        Ok(())
    }

    /// Lets time pass until the next deadline, unless it falls behind `end`; says whether one came.
    fn tick_before(&mut self, end: Duration) -> Result<bool, String> {
        let deadlines = (0..self.actors.len()).filter_map(|node| self.deadline(node));
        let Some(next) = deadlines.min().filter(|&next| next <= end) else { return Ok(false) };
        self.now = self.now.max(next);
        for node in 0..self.actors.len() {
            if self.deadline(node).is_some_and(|deadline| deadline <= self.now) {
                self.step(node, vec![Input::Tick])?;
            }
        }
        Ok(true)
    }

    /// Lets time run out at this node alone, once.
    pub(super) fn tick(&mut self, node: usize) -> Performed {
        self.running(node)?;
        let deadline = self.deadline(node).ok_or("the node waits for nothing")?;
        self.now = self.now.max(deadline);
        self.step(node, vec![Input::Tick])
    }

    /// Lets the clocks of the other nodes fall behind where they would run for leader before this
    /// one does; whatever else is due there happens.
    fn hold_back_others(&mut self, node: usize) -> Performed {
        let Some(first) = self.deadline(node) else { return Ok(()) };
        for other in (0..self.actors.len()).filter(|&other| other != node) {
            for _ in 0..ROUNDS_MAX {
                let Some(deadline) = self.deadline(other).filter(|&due| due <= first) else {
                    break;
                };
                self.now = self.now.max(deadline);
                let clock = self.clock(other);
                if self.actors[other].host.would_poll(clock) {
                    self.actors[other].lag += first - deadline + Duration::from_nanos(1);
                } else {
                    self.step(other, vec![Input::Tick])?;
                }
            }
        }
        Ok(())
    }

    /// Lets this node alone run for leader until it leads.
    pub(super) fn elect(&mut self, node: usize) -> Performed {
        self.settle()?;
        for _ in 0..CANDIDACIES_MAX {
            if self.running(node)?.role == Role::Leading {
                return Ok(());
            }
            self.hold_back_others(node)?;
            self.tick(node)?;
            self.settle()?;
        }
        Err(format!("node {} is not elected", node + 1))
    }
}
