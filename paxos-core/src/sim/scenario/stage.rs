//! The stage on which a scenario plays: hosts whose messages, disks and deadlines move by command.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;

use super::command::{Command, Selection};
use crate::{
    config::Config,
    limits,
    message::Message,
    replica::{LogRead, Outcome, Proposal, Role},
    sim::{
        application::Nothing,
        check::Violation,
        history::{History, Waiting},
        host::{Done, Host, Input},
        ledger::Ledger,
        machine::Machine,
        network::Parcel,
        occurrence::Occurrences,
        topology::Links,
        transcript,
    },
    types::{ClientId, Instant, Membership, NodeId, Phase, Quorums, RequestId},
};

/// Rounds of messages until a cluster that does not come to rest is given up.
const ROUNDS_MAX: usize = 1000;

/// Deadlines of a node that `elect` lets pass before it gives up.
const CANDIDACIES_MAX: usize = 20;

/// How long commands are waited for: longer than any scenario.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Clients do not wait in a scenario; whatever the session table says is printed.
struct Nobody;

impl Waiting for Nobody {
    fn is_awaited(&self, _: RequestId) -> bool {
        false
    }
}

/// One machine on the stage.
pub(super) struct Actor {
    pub(super) host: Host,
    sequence: u64,
    read: u64,
    role: Role,
    log_reads: Vec<LogRead>,
    /// Own commands without an answer.
    waiting: BTreeSet<RequestId>,
    disk_is_held: bool,
    /// How far its clock is behind.
    lag: Duration,
    /// When it was suspended, if it is.
    suspended_at: Option<Duration>,
}

/// The stage.
pub(super) struct Stage {
    pub(super) actors: Vec<Actor>,
    now: Duration,
    links: Links,
    pub(super) flight: Vec<Parcel>,
    pub(super) shows_heartbeats: bool,
    pub(super) lines: Vec<String>,
    ledger: Ledger,
    history: History,
    seen: Occurrences,
}

pub(super) type Performed = Result<(), String>;

impl From<Violation> for String {
    fn from(violation: Violation) -> String {
        violation.what
    }
}

pub(super) fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

pub(super) fn is_heartbeat(message: &Message) -> bool {
    matches!(message, Message::Heartbeat(_) | Message::HeartbeatReply(_))
}

impl Stage {
    /// A stage with running nodes, and a line about them.
    pub(super) fn begin(
        nodes: usize,
        quorums: Option<(usize, usize)>,
        window: Option<u64>,
    ) -> Result<(Stage, Vec<String>), String> {
        let voters = (1..=nodes as u64).map(|id| (id, format!("node-{id}")));
        let mut membership = Membership::new(voters).map_err(|error| error.to_string())?;
        if let Some((phase_one, phase_two)) = quorums {
            let quorums = Quorums::Flexible { phase_one, phase_two };
            membership = membership.with_quorums(quorums).map_err(|error| error.to_string())?;
        }
        if let Some(window) = window {
            membership = membership.with_window(window).map_err(|error| error.to_string())?;
        }
        let actor = |node| Actor {
            host: Host::new(
                Config::new(id_of(node), membership.clone()),
                Machine::new(false, Arc::new(Nothing)),
            ),
            sequence: 0,
            read: 0,
            role: Role::Follower,
            log_reads: Vec::new(),
            waiting: BTreeSet::new(),
            disk_is_held: false,
            lag: Duration::ZERO,
            suspended_at: None,
        };
        let (one, two) = (membership.quorum_size(Phase::One), membership.quorum_size(Phase::Two));
        let mut stage = Stage {
            actors: (0..nodes).map(actor).collect(),
            now: Duration::ZERO,
            links: Links::all(nodes),
            flight: Vec::new(),
            shows_heartbeats: false,
            lines: Vec::new(),
            ledger: Ledger::new(&membership),
            history: History::default(),
            seen: Occurrences::default(),
        };
        for node in 0..nodes {
            stage.start(node);
        }
        let window = membership.window();
        let noun = if nodes == 1 { "node" } else { "nodes" };
        let line = format!("{nodes} {noun}, quorums of {one} and {two}, window of {window} slots");
        Ok((stage, vec![line]))
    }

    /// Carries out a command and returns what came of it.
    pub(super) fn perform(&mut self, command: Command) -> Result<Vec<String>, String> {
        match command {
            Command::Cluster { .. } => return Err("the cluster exists".to_owned()),
            Command::Elect(node) => self.elect(node)?,
            Command::Propose { node, client, commands } => self.propose(node, client, commands)?,
            Command::Read(node) => self.read(node)?,
            Command::Deliver(selection) => self.deliver(&selection)?,
            Command::Drop(selection) => self.lose(&selection)?,
            Command::Repeat(selection) => self.repeat(&selection)?,
            Command::Flight => self.show_flight(),
            Command::Hold(node) => self.actor(node)?.disk_is_held = true,
            Command::Release(node) => self.actor(node)?.disk_is_held = false,
            Command::Persist(node) => self.persist(node)?,
            Command::Settle => self.settle()?,
            Command::Advance(time) => self.advance(time)?,
            Command::Tick(node) => self.tick(node)?,
            Command::Crash { node, keeping } => self.crash(node, keeping)?,
            Command::Restart(node) => self.restart(node)?,
            Command::Suspend(node) => self.suspend(node)?,
            Command::Resume(node) => self.resume(node)?,
            Command::Partition(groups) => self.partition(&groups)?,
            Command::Cut { from, to, both } => self.cut(from, to, both)?,
            Command::Link { center, others } => {
                self.links = Links::of(self.actors.len(), |from, to| {
                    (from == center && others.contains(&to))
                        || (to == center && others.contains(&from))
                });
            }
            Command::Heal => self.links = Links::all(self.actors.len()),
            Command::Log(node) => self.show_log(node)?,
            Command::State(node) => self.show_state(node)?,
            Command::Status(node) => self.show_status(node)?,
            Command::Heartbeats(shows) => self.shows_heartbeats = shows,
        }
        Ok(std::mem::take(&mut self.lines))
    }

    pub(super) fn actor(&mut self, node: usize) -> Result<&mut Actor, String> {
        self.actors.get_mut(node).ok_or_else(|| format!("there is no node {}", node + 1))
    }

    fn running(&mut self, node: usize) -> Result<&mut Actor, String> {
        let actor = self.actor(node)?;
        match actor {
            actor if !actor.host.is_running() => Err(format!("node {} is down", node + 1)),
            actor if actor.suspended_at.is_some() => Err(format!("node {} is suspended", node + 1)),
            actor => Ok(actor),
        }
    }

    /// What the clock of a node shows.
    pub(super) fn clock(&self, node: usize) -> Instant {
        Instant::from_origin(self.now.saturating_sub(self.actors[node].lag))
    }

    fn start(&mut self, node: usize) {
        let clock = self.clock(node);
        let actor = &mut self.actors[node];
        let started = actor.host.start(clock).expect("no disk rots here");
        actor.role = Role::Follower;
        self.history.started(id_of(node), started.delivered);
    }

    /// Hands inputs to a replica and prints what comes of it.
    fn step(&mut self, node: usize, inputs: Vec<Input>) -> Performed {
        let clock = self.clock(node);
        let effects = self.actors[node].host.step(clock, inputs);
        self.note_role(node);
        for delivery in &effects.deliver {
            self.history.delivered(id_of(node), delivery, &Nobody, &mut self.seen)?;
            self.ledger.check_chosen(id_of(node), "delivers", delivery.slot, &delivery.value)?;
        }
        if let Some((id, batch)) = &effects.persist {
            let batch = transcript::write_batch(batch);
            self.lines.push(format!("{} writes #{}: {batch}", id_of(node), id.0));
        }
        let outgoing = self.actors[node].host.carry_out(effects);
        if let Some(halt) = outgoing.halt {
            return Err(format!("node {} halts: {halt}", id_of(node)));
        }
        for (id, outcome, _) in outgoing.answers {
            self.answer(node, id, outcome)?;
        }
        self.actors[node].log_reads.extend(outgoing.log_reads);
        self.send(node, outgoing.send)
    }

    fn answer(&mut self, node: usize, id: RequestId, outcome: Outcome) -> Performed {
        self.actors[node].waiting.remove(&id);
        let what = match outcome {
            Outcome::Applied { .. } => {
                self.history.acknowledge(id)?;
                format!("answers {id}")
            }
            Outcome::Refused(refusal) => format!("refuses {id}: {refusal}"),
            Outcome::Unknown => format!("gives {id} up"),
        };
        self.lines.push(format!("{} {what}", id_of(node)));
        Ok(())
    }

    fn note_role(&mut self, node: usize) {
        let clock = self.clock(node);
        let actor = &mut self.actors[node];
        let Some(status) = actor.host.status(clock) else { return };
        let before = std::mem::replace(&mut actor.role, status.role);
        if before == status.role {
            return;
        }
        let line = match status.role {
            Role::Follower if before == Role::Leading => format!("{} steps down", status.id),
            Role::Follower => format!("{} gives up its candidacy", status.id),
            Role::Polling => format!("{} polls", status.id),
            Role::Preparing => format!("{} prepares {}", status.id, status.ballot),
            Role::Leading => format!("{} leads at {}", status.id, status.ballot),
        };
        self.lines.push(line);
    }

    /// Puts messages on their way; the same one to several nodes is one line.
    fn send(&mut self, node: usize, messages: Vec<(NodeId, Message)>) -> Performed {
        let mut groups: Vec<(bool, Vec<NodeId>, Message)> = Vec::new();
        for (to_id, message) in messages {
            let disk = self.actors[node].host.disk.durable();
            self.ledger.sent(id_of(node), to_id, &message, disk, &mut self.seen)?;
            let to = usize::try_from(to_id.0 - 1).expect("nodes are few");
            let is_up = self.links.contains(node, to);
            match groups.iter_mut().find(|group| group.0 == is_up && group.2 == message) {
                Some(group) => group.1.push(to_id),
                None => groups.push((is_up, vec![to_id], message.clone())),
            }
            if is_up {
                let stores = [node, to].map(|node| self.actors[node].host.disk.store());
                self.flight.push(Parcel { from: node, to, stores, message });
            }
        }
        for (is_up, to, message) in groups {
            if is_heartbeat(&message) && !self.shows_heartbeats {
                continue;
            }
            let to: Vec<_> = to.iter().map(NodeId::to_string).collect();
            let arrow = if is_up { "->" } else { "-x" };
            let text = transcript::message(&message);
            self.lines.push(format!("{} {arrow} {}  {text}", id_of(node), to.join(" ")));
        }
        Ok(())
    }

    fn receive(&mut self, parcel: Parcel) -> Performed {
        if self.actors[parcel.to].host.is_running() {
            let input = Input::Message { from: id_of(parcel.from), message: parcel.message };
            self.step(parcel.to, vec![input])?;
        }
        Ok(())
    }

    fn finish_write(&mut self, node: usize) -> Result<bool, String> {
        let (ledger, seen) = (&mut self.ledger, &mut self.seen);
        let disk = &mut self.actors[node].host.disk;
        if !disk.begin(usize::MAX) {
            return Ok(false);
        }
        let last = disk.finish(|before, batch| ledger.written(id_of(node), batch, before, seen))?;
        if let Some(last) = last {
            self.step(node, vec![Input::Persisted(last)])?;
        }
        Ok(last.is_some())
    }

    /// The state machine and the log reads of a node go on; says whether there was anything.
    fn work(&mut self, node: usize) -> Result<bool, String> {
        let mut worked = false;
        for read in std::mem::take(&mut self.actors[node].log_reads) {
            worked = true;
            let records = self.actors[node].host.read_log(&read, false).expect("no disk rots here");
            self.step(node, vec![Input::LogRead { id: read.id, records }])?;
        }
        let (done, input) = self.actors[node].host.work(usize::MAX, false);
        for done in done {
            worked = true;
            self.done(node, done)?;
        }
        if let Some(input) = input {
            worked = true;
            self.step(node, vec![input])?;
        }
        Ok(worked)
    }

    fn done(&mut self, node: usize, done: Done) -> Performed {
        let id = id_of(node);
        match done {
            Done::Passed => {}
            Done::Applied { delivery, digest, .. } => {
                self.lines.push(format!("{id} applies {}", transcript::delivery(&delivery)));
                self.history.applied(id, delivery.slot, digest)?;
            }
            Done::Served(reads, applied) => {
                let state = transcript::state(self.actors[node].host.machine.commands());
                for (read, _) in reads {
                    self.history.read_served(read, applied)?;
                    let (.., number) = read;
                    self.lines
                        .push(format!("{id} serves read {number} at slot {applied}: {state}"));
                }
            }
        }
        Ok(())
    }

    /// Lets everything happen that takes no time, and the leader say what is chosen, which it may put
    /// off for a moment.
    fn settle(&mut self) -> Performed {
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

    fn deadline(&self, node: usize) -> Option<Duration> {
        let actor = &self.actors[node];
        if actor.suspended_at.is_some() {
            return None;
        }
        actor.host.next_deadline().map(|deadline| deadline.since_origin() + actor.lag)
    }

    fn advance(&mut self, time: Duration) -> Performed {
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

    fn tick(&mut self, node: usize) -> Performed {
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

    fn elect(&mut self, node: usize) -> Performed {
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

    fn propose(
        &mut self,
        node: usize,
        client: Option<(u64, u64)>,
        commands: Vec<String>,
    ) -> Performed {
        let actor = self.running(node)?;
        let epoch = actor.host.incarnation().unwrap_or_default();
        let mut inputs = Vec::new();
        for (offset, text) in (0..).zip(commands) {
            let id = if let Some((name, sequence)) = client {
                let client = ClientId { name, epoch: 1 };
                RequestId { client, sequence: sequence + offset }
            } else {
                actor.sequence += 1;
                let client = ClientId { name: id_of(node).0, epoch };
                RequestId { client, sequence: actor.sequence }
            };
            actor.waiting.insert(id);
            let command = Bytes::from(text);
            let deadline = Instant::ZERO.after(PATIENCE);
            inputs.push(Input::Propose(Proposal { id: Some(id), command, deadline, waiter: id }));
        }
        self.step(node, inputs)
    }

    fn read(&mut self, node: usize) -> Performed {
        let actor = self.running(node)?;
        actor.read += 1;
        let number = actor.read;
        let incarnation = actor.host.incarnation().unwrap_or_default();
        self.history.read_began((id_of(node), incarnation, number));
        self.step(node, vec![Input::Read { number }])
    }

    /// Takes the messages that the selection names out of the flight.
    fn select(&mut self, selection: &Selection) -> Result<Vec<Parcel>, String> {
        let is_selected = |parcel: &Parcel| {
            let kind = transcript::kind(&parcel.message);
            selection.from.is_none_or(|from| from == parcel.from)
                && selection.to.is_none_or(|to| to == parcel.to)
                && (selection.kinds.is_empty() || selection.kinds.iter().any(|name| name == kind))
        };
        let (selected, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.flight).into_iter().partition(is_selected);
        self.flight = rest;
        if selected.is_empty() {
            Err("no such message is on its way".to_owned())
        } else {
            Ok(selected)
        }
    }

    fn deliver(&mut self, selection: &Selection) -> Performed {
        for parcel in self.select(selection)? {
            if self.shows_heartbeats || !is_heartbeat(&parcel.message) {
                let text = transcript::message(&parcel.message);
                let (to, from) = (id_of(parcel.to), id_of(parcel.from));
                self.lines.push(format!("{to} receives from {from}: {text}"));
            }
            self.receive(parcel)?;
        }
        Ok(())
    }

    fn lose(&mut self, selection: &Selection) -> Performed {
        for Parcel { from, to, message, .. } in self.select(selection)? {
            if self.shows_heartbeats || !is_heartbeat(&message) {
                let text = transcript::message(&message);
                self.lines.push(format!("lost: {} -> {}  {text}", id_of(from), id_of(to)));
            }
        }
        Ok(())
    }

    fn repeat(&mut self, selection: &Selection) -> Performed {
        let selected = self.select(selection)?;
        self.flight.extend(selected.clone());
        self.flight.extend(selected);
        Ok(())
    }

    fn persist(&mut self, node: usize) -> Performed {
        self.running(node)?;
        if self.finish_write(node)? { Ok(()) } else { Err("there is nothing to write".to_owned()) }
    }

    fn crash(&mut self, node: usize, keeping: usize) -> Performed {
        let unfinished = self.running(node)?.host.disk.unfinished().len();
        if keeping > unfinished {
            return Err(format!("only {unfinished} writes are unfinished"));
        }
        let (ledger, seen) = (&mut self.ledger, &mut self.seen);
        let actor = &mut self.actors[node];
        let observe = |before: &_, batch: &_| ledger.written(id_of(node), batch, before, seen);
        actor.host.disk.crash(keeping, observe)?;
        actor.host.crash();
        actor.log_reads.clear();
        actor.waiting.clear();
        (actor.sequence, actor.read) = (0, 0);
        if unfinished > 0 {
            self.lines.push(format!("of {unfinished} unfinished writes {keeping} survive"));
        }
        Ok(())
    }

    fn restart(&mut self, node: usize) -> Performed {
        if self.actor(node)?.host.is_running() {
            return Err(format!("node {} is running", node + 1));
        }
        self.start(node);
        let incarnation = self.actors[node].host.incarnation().unwrap_or_default();
        self.lines.push(format!("{} starts, incarnation {incarnation}", id_of(node)));
        self.settle()
    }

    fn suspend(&mut self, node: usize) -> Performed {
        let now = self.now;
        self.running(node)?.suspended_at = Some(now);
        Ok(())
    }

    fn resume(&mut self, node: usize) -> Performed {
        let now = self.now;
        let actor = self.actor(node)?;
        let since = actor.suspended_at.take().ok_or("it is not suspended")?;
        actor.lag += now - since;
        Ok(())
    }

    fn partition(&mut self, groups: &[Vec<usize>]) -> Performed {
        for node in 0..self.actors.len() {
            let of = groups.iter().filter(|group| group.contains(&node)).count();
            if of != 1 {
                return Err(format!("node {} is in {of} groups", node + 1));
            }
        }
        let together = |from, to| {
            groups.iter().any(|group: &Vec<usize>| group.contains(&from) && group.contains(&to))
        };
        self.links = Links::of(self.actors.len(), together);
        Ok(())
    }

    fn cut(&mut self, from: usize, to: usize, both: bool) -> Performed {
        self.actor(from)?;
        self.actor(to)?;
        self.links.remove(from, to);
        if both {
            self.links.remove(to, from);
        }
        Ok(())
    }
}
