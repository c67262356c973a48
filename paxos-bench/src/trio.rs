//! Three replicas on the caller's thread, and how long each of them works on a batch.

use std::time::{Duration, Instant};

use bytes::Bytes;
use paxos_core::{message::Message, types::NodeId};

use crate::{HarnessError, Solo};

/// How many replicas there are.
const NODES: usize = 3;

/// The time that passes while a leader is looked for, at a time.
const TICK: Duration = Duration::from_millis(10);

/// Rounds in which three replicas that hear each other have elected one.
const ELECTION_ROUNDS_MAX: usize = 10_000;

/// A cluster without tasks and network, one of which leads.
///
/// A [`round`](Trio::round) is everything that a batch costs: no time passes in it but for
/// [`tick`](Trio::tick).
#[derive(Debug)]
pub struct Trio {
    nodes: Vec<Solo>,
    leader: usize,
    /// Sender, receiver, message: on its way.
    under_way: Vec<(NodeId, NodeId, Message)>,
}

/// How long the replicas worked on a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Laps {
    /// The leader: from the commands to its Accepts, and from the votes of the others to the commands
    /// that are applied.
    pub leader: Duration,
    /// One follower: from the Accept, with what it says to be chosen, to its vote.
    pub follower: Duration,
}

impl Trio {
    /// Empty replicas that have elected one of them.
    ///
    /// # Errors
    ///
    /// If they do not, or one halts.
    pub fn elected() -> Result<Trio, HarnessError> {
        let mut trio = Trio { nodes: Solo::cluster(NODES)?, leader: 0, under_way: Vec::new() };
        for _ in 0..ELECTION_ROUNDS_MAX {
            if let Some(leader) = trio.nodes.iter().position(Solo::is_leader) {
                trio.leader = leader;
                trio.settle()?;
                return Ok(trio);
            }
            trio.tick(TICK)?;
        }
        Err(HarnessError::Replica("none is elected".to_owned()))
    }

    /// Time passes for all of them, and what they have to say about it arrives.
    ///
    /// # Errors
    ///
    /// If one halts.
    pub fn tick(&mut self, time: Duration) -> Result<(), HarnessError> {
        for node in &mut self.nodes {
            node.tick(time);
        }
        self.settle()
    }

    /// Proposes so many commands at once and passes messages until the leader has applied them. The
    /// followers hear of that with the next round.
    ///
    /// # Errors
    ///
    /// If a replica halts, or the commands are not applied by that.
    pub fn round(&mut self, command: &Bytes, commands: usize) -> Result<Laps, HarnessError> {
        let begun = Instant::now();
        for _ in 0..commands {
            self.nodes[self.leader].propose(command.clone());
        }
        self.nodes[self.leader].turn()?;
        let mut laps = Laps { leader: begun.elapsed(), follower: Duration::ZERO };
        self.carry();
        let followers = (0..NODES).filter(|index| *index != self.leader);
        for node in followers {
            let begun = Instant::now();
            self.nodes[node].turn()?;
            laps.follower = begun.elapsed();
        }
        self.carry();
        let begun = Instant::now();
        self.nodes[self.leader].turn()?;
        laps.leader += begun.elapsed();
        self.carry();
        let applied = self.nodes[self.leader].take_applied().commands;
        if applied != commands as u64 {
            let problem = format!("{applied} commands of {commands} are applied");
            return Err(HarnessError::Replica(problem));
        }
        Ok(laps)
    }

    /// Runs them until none has anything to say.
    fn settle(&mut self) -> Result<(), HarnessError> {
        loop {
            for node in &mut self.nodes {
                node.turn()?;
            }
            if !self.carry() {
                return Ok(());
            }
        }
    }

    /// Brings what they have said to where it is for; whether that was anything.
    fn carry(&mut self) -> bool {
        for node in &mut self.nodes {
            let from = node.id();
            self.under_way.extend(node.outgoing().map(|(to, message)| (from, to, message)));
        }
        let carried = !self.under_way.is_empty();
        for (from, to, message) in self.under_way.drain(..) {
            self.nodes[to.0 as usize - 1].receive(from, message);
        }
        carried
    }
}
