//! The protocol alone: one thread passes the messages of all nodes by hand.
//!
//! In turn, each node takes in what the others have sent it and says what it has to say. The leader
//! is given a new command for every one that it has applied. The clock is read once in many rounds.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Cell, CompareError, Sample, Terms,
    protocol::{Outbox, Protocol, TICK},
    sample::{self, TIMED_EVERY},
};
use crate::{Payload, Tally, process};

/// How many rounds go by between two looks at the clock.
const ROUNDS_PER_LOOK: u32 = 32;

/// Rounds in which a cluster finds a leader, or tells its followers what was chosen last. Each is a
/// tick, so elections take virtual time alone.
const ROUNDS_MAX: usize = 10_000;

/// A cluster on the caller's thread.
pub(super) struct Alone<P: Protocol> {
    pub(super) nodes: Vec<P>,
    pub(super) leader: usize,
    applied: Vec<Tally>,
    inboxes: Vec<Vec<P::Message>>,
    outbox: Outbox<P::Message>,
}

impl<P: Protocol> Alone<P> {
    /// A cluster with a leader that all other nodes follow.
    pub(super) fn elected(nodes: usize) -> Result<Alone<P>, CompareError> {
        let mut alone = Alone {
            nodes: P::cluster(nodes)?,
            leader: 0,
            applied: vec![Tally::default(); nodes],
            inboxes: (0..nodes).map(|_| Vec::new()).collect(),
            outbox: Outbox::new(nodes),
        };
        alone.leader = alone.elect()?;
        // What all have applied, all can apply: the followers follow.
        alone.nodes[alone.leader].propose(Bytes::new())?;
        alone.settle(Tally { commands: 1, bytes: 0 })?;
        alone.applied.fill(Tally::default());
        while alone.inboxes.iter().any(|inbox| !inbox.is_empty()) {
            alone.round()?;
        }
        Ok(alone)
    }

    fn elect(&mut self) -> Result<usize, CompareError> {
        for _ in 0..ROUNDS_MAX {
            if let Some(leader) = self.nodes.iter().position(Protocol::is_leader) {
                return Ok(leader);
            }
            self.tick();
            self.round()?;
        }
        Err(CompareError::Stalled { commands: 0 })
    }

    /// Measures, then checks that every node has applied every command.
    pub(super) fn measure(cell: &Cell, terms: &Terms) -> Result<Sample, CompareError> {
        let mut alone = Alone::<P>::elected(cell.nodes)?;
        let payload = Payload::of_size(cell.payload).content().clone();
        let warm = alone.load(&payload, cell.in_flight, terms, terms.warm_up)?;
        let sample = alone.load(&payload, cell.in_flight, terms, terms.time)?;
        let commands = warm.commands + sample.commands;
        alone.settle(Tally { commands, bytes: commands * cell.payload as u64 })?;
        Ok(sample)
    }

    /// Keeps commands in flight for this long, then lets them end.
    fn load(
        &mut self,
        payload: &Bytes,
        in_flight: usize,
        terms: &Terms,
        time: Duration,
    ) -> Result<Sample, CompareError> {
        let mut latencies = sample::latencies();
        let mut timed: VecDeque<(u64, Instant)> = VecDeque::new();
        let (cpu, start) = (process::cpu_time(), Instant::now());
        let (mut proposed, mut answered) = (0, 0);
        let (mut rounds, mut is_over) = (0_u32, false);
        let (mut ticked, mut moved) = (start, (0, start));
        while !is_over || answered < proposed {
            answered += self.hear(self.leader)?.commands;
            if timed.front().is_some_and(|(number, _)| *number < answered) {
                let now = Instant::now();
                while let Some((_, begun)) = timed.pop_front_if(|(number, _)| *number < answered) {
                    sample::record(&mut latencies, now - begun);
                }
            }
            while !is_over && proposed - answered < in_flight as u64 {
                if proposed.is_multiple_of(TIMED_EVERY) {
                    timed.push_back((proposed, Instant::now()));
                }
                self.nodes[self.leader].propose(payload.clone())?;
                proposed += 1;
            }
            self.speak(self.leader)?;
            self.followers()?;
            rounds = rounds.wrapping_add(1);
            if rounds.is_multiple_of(ROUNDS_PER_LOOK) {
                let now = Instant::now();
                is_over |= now - start >= time || terms.is_over();
                if now - ticked >= TICK {
                    ticked = now;
                    self.tick();
                    is_over |= process::resident_bytes() > terms.memory_max;
                }
                if moved.0 != answered {
                    moved = (answered, now);
                } else if now - moved.1 > terms.patience {
                    return Err(CompareError::Stalled { commands: answered });
                }
            }
        }
        let elapsed = start.elapsed();
        Ok(Sample { commands: answered, elapsed, cpu: process::cpu_time() - cpu, latencies })
    }

    /// Runs the nodes until each has applied exactly this.
    fn settle(&mut self, expected: Tally) -> Result<(), CompareError> {
        for _ in 0..ROUNDS_MAX {
            if self.applied.iter().all(|applied| *applied == expected) {
                return Ok(());
            }
            self.tick();
            self.round()?;
        }
        let wrong = self.applied.iter().enumerate().find(|(_, found)| **found != expected);
        let (node, found) = wrong.expect("some node is why the loop went on");
        Err(CompareError::Diverged { node, found: *found, expected })
    }

    fn tick(&mut self) {
        for node in &mut self.nodes {
            node.tick();
        }
    }

    /// A turn of every node, the leader first.
    fn round(&mut self) -> Result<(), CompareError> {
        self.hear(self.leader)?;
        self.speak(self.leader)?;
        self.followers()
    }

    fn followers(&mut self) -> Result<(), CompareError> {
        for node in (self.leader + 1..self.nodes.len()).chain(0..self.leader) {
            self.hear(node)?;
            self.speak(node)?;
        }
        Ok(())
    }

    /// Takes in what the others have sent a node. Returns what it has applied by that.
    fn hear(&mut self, node: usize) -> Result<Tally, CompareError> {
        for message in self.inboxes[node].drain(..) {
            self.nodes[node].receive(message)?;
        }
        let applied = self.nodes[node].advance()?;
        self.applied[node] += applied;
        Ok(applied)
    }

    /// Puts what a node has to say where the others find it.
    fn speak(&mut self, node: usize) -> Result<(), CompareError> {
        self.nodes[node].flush(&mut self.outbox)?;
        for (inbox, messages) in self.inboxes.iter_mut().zip(&mut self.outbox.to) {
            inbox.append(messages);
        }
        Ok(())
    }
}
