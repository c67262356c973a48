//! One node: the real replica and its disk, and what becomes of them when something happens.
//!
//! **Time stands still** while messages arrive and disks finish: no deadline passes. That nothing is
//! due is checked after every step, by a tick that may change nothing. It moves only when a node is
//! to try to lead: then by so much that everything is due, whatever happened when. So no step
//! depends on instants, and states that differ in nothing else are the same.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use bytes::Bytes;
use paxos_core::{
    Replica,
    message::{Message, PollReply},
    replica::{Effects, Proposal, Role, Task},
    types::{Ballot, ClientId, Instant, NodeId, RequestId, Slot, Value},
};

use super::{
    digest::digest,
    disk::{Disk, Vote},
    world::World,
};

type Input = paxos_core::replica::Input<RequestId>;

/// Beyond every deadline.
const FAR: Duration = Duration::from_secs(3600);

/// What can happen to a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// It has heard of no leader for long, and the others would promise it a ballot: it prepares one.
    Candidacy,
    /// A message arrives.
    Delivery(NodeId, Message),
    /// Its next write is durable.
    Sync,
    /// It crashes, keeps this many of its unsynced writes, and starts again.
    Crash(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    id: NodeId,
    now: Instant,
    replica: Replica<RequestId>,
    disk: Disk,
}

/// What came of an event.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: Vec<(NodeId, Message)>,
    pub(crate) votes: Vec<Vote>,
    pub(crate) delivered: Vec<(Slot, Value)>,
    /// The rule that was broken.
    pub(crate) broken: Option<String>,
}

impl Node {
    /// A node that starts for the first time, with commands of its own that wait for a leader.
    pub(crate) fn new(world: &World, id: NodeId, commands: u64) -> Node {
        let mut disk = Disk::default();
        let recovered = disk.recover(id);
        let replica =
            Replica::new(world.config(id), recovered, None, Instant::ZERO).expect("sound settings");
        let mut node = Node { id, now: Instant::ZERO, replica, disk };
        for sequence in 1..=commands {
            let client = ClientId { name: world.client_of(id), epoch: 1 };
            let id = RequestId { client, sequence };
            // Nobody waits so long in vain: time is moved by less.
            let deadline = Instant::from_origin(Duration::MAX);
            let proposal = Proposal { id: Some(id), command: command(id), deadline, waiter: id };
            let effects = node.replica.step(node.now, Input::Propose(proposal));
            assert!(node.replica.answers().next().is_none() && effects.send.is_empty());
        }
        node
    }

    /// How many writes are not durable yet.
    pub(crate) fn unsynced(&self) -> usize {
        self.disk.unsynced()
    }

    pub(crate) fn digest(&self, world: &World) -> u64 {
        // Where every write is durable at once, their numbers count what has happened and no more.
        let also_masked: &[_] = if world.syncs_at_once(self.id) { &["WriteId"] } else { &[] };
        digest(&(&self.replica, &self.disk), also_masked)
    }

    /// The node after the event. An assertion that fails is a rule broken.
    pub(crate) fn after(&self, world: &World, event: &Event) -> (Node, Outcome) {
        let step = || {
            let mut node = self.clone();
            let mut outcome = Outcome::default();
            outcome.broken = node.take(world, event, &mut outcome).err();
            (node, outcome)
        };
        catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref().map(|text: &&str| (*text).to_owned()));
            let broken = Some(text.unwrap_or_else(|| "an assertion".to_owned()));
            (self.clone(), Outcome { broken, ..Outcome::default() })
        })
    }

    fn take(&mut self, world: &World, event: &Event, outcome: &mut Outcome) -> Result<(), String> {
        match event {
            Event::Candidacy => self.run_for_leader(world, outcome)?,
            Event::Delivery(from, message) => {
                let input = Input::Message { from: *from, message: message.clone() };
                self.step(world, input, outcome)?;
            }
            Event::Sync => self.sync(world, outcome)?,
            Event::Crash(kept) => {
                outcome.votes.extend(self.disk.crash(self.id, *kept)?);
                let recovered = self.disk.recover(self.id);
                self.replica = Replica::new(world.config(self.id), recovered, None, self.now)
                    .expect("sound settings");
                // The first input, whichever it is, delivers again what was known to be chosen.
                self.step(world, Input::Tick, outcome)?;
            }
        }
        self.check_nothing_is_due()
    }

    fn step(&mut self, world: &World, input: Input, outcome: &mut Outcome) -> Result<(), String> {
        let effects = self.replica.step(self.now, input);
        self.replica.check_invariants();
        self.carry_out(world, effects, outcome)
    }

    /// Carries out effects as a driver does.
    fn carry_out(
        &mut self,
        world: &World,
        mut effects: Effects,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let peers: Vec<_> = world.membership().peers_of(self.id).collect();
        effects.address(peers.into_iter());
        // Whoever waits has no part in this: what counts is what is delivered.
        self.replica.answers();
        if let Some(halt) = effects.halt {
            return Err(halt.to_string());
        }
        let is_carried = |(to, message): &(NodeId, Message)| (world.carries)(self.id, *to, message);
        outcome.sent.extend(effects.send.into_iter().filter(is_carried));
        let delivered = effects.tasks.iter().filter_map(Task::delivery);
        let delivered = delivered.map(|delivery| (delivery.slot, delivery.value.clone()));
        outcome.delivered.extend(delivered);
        if let Some((id, batch)) = effects.persist {
            self.disk.write(id, batch);
        }
        for read in effects.log_reads {
            let records = self.disk.read(&read);
            self.step(world, Input::LogRead { id: read.id, records }, outcome)?;
        }
        if world.syncs_at_once(self.id) { self.sync(world, outcome) } else { Ok(()) }
    }

    fn sync(&mut self, world: &World, outcome: &mut Outcome) -> Result<(), String> {
        let Some((id, votes)) = self.disk.sync(self.id)? else { return Ok(()) };
        outcome.votes.extend(votes);
        self.step(world, Input::Persisted(id), outcome)
    }

    /// Whatever it does now it gives up, polls, and is answered by the world instead of by its
    /// peers: whether they would have granted the poll concerns no safety.
    fn run_for_leader(&mut self, world: &World, outcome: &mut Outcome) -> Result<(), String> {
        let number = loop {
            self.now = self.now.after(FAR);
            let effects = self.replica.step(self.now, Input::Tick);
            let poll = effects.broadcast.iter().find_map(|message| match message {
                Message::Poll(poll) => Some(poll.number),
                _ => None,
            });
            self.carry_out(world, effects, outcome)?;
            if let Some(number) = poll {
                break number;
            }
        };
        let (promised, leader, chosen) = (Ballot::ZERO, None, Slot::ZERO);
        let reply = PollReply { number, granted: true, promised, leader, chosen };
        let from = world.membership().peers_of(self.id).next().expect("two peers");
        self.step(world, Input::Message { from, message: Message::PollReply(reply) }, outcome)?;
        assert_eq!(self.replica.status(self.now).role, Role::Preparing);
        Ok(())
    }

    fn check_nothing_is_due(&self) -> Result<(), String> {
        let mut replica = self.replica.clone();
        let effects = replica.step(self.now, Input::Tick);
        let is_quiet =
            effects.broadcast.is_empty() && effects.send.is_empty() && effects.persist.is_none();
        if is_quiet && digest(&replica, &[]) == digest(&self.replica, &[]) {
            Ok(())
        } else {
            Err("something is due although no time has passed".to_owned())
        }
    }
}

/// The command of a request: the request says it all.
pub(crate) fn command(id: RequestId) -> Bytes {
    Bytes::from(format!("{id}"))
}
