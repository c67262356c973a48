//! The stage on which a scenario plays: hosts whose messages, disks and deadlines move by command.

mod perform;
mod show;
mod time;

use std::{sync::Arc, time::Duration};

use crate::{
    config::Config,
    limits,
    message::Message,
    replica::{Delivery, LogRead, Outcome, Role, StateRead, Task},
    sim::{
        application::Texts,
        check::Violation,
        history::{History, Waiting},
        host::{Done, Host, Input},
        ledger::Ledger,
        machine::Machine,
        network::Parcel,
        occurrence::Occurrences,
        scenario::command::Cluster,
        topology::Links,
        transcript,
    },
    types::{Instant, Membership, NodeId, Phase, Quorums, RequestId},
};

/// Clients do not wait in a scenario; whatever the session table says is printed.
struct Nobody;

impl Waiting for Nobody {
    fn is_awaited(&self, _: RequestId) -> bool {
        false
    }
}

/// One machine on the stage.
struct Actor {
    host: Host,
    sequence: u64,
    read: u64,
    role: Role,
    log_reads: Vec<LogRead>,
    state_reads: Vec<StateRead>,
    disk_is_held: bool,
    /// How far its clock is behind.
    lag: Duration,
    /// When it was suspended, if it is.
    suspended_at: Option<Duration>,
}

/// The stage.
pub(super) struct Stage {
    actors: Vec<Actor>,
    now: Duration,
    links: Links,
    flight: Vec<Parcel>,
    shows_heartbeats: bool,
    lines: Vec<String>,
    ledger: Ledger,
    history: History,
    seen: Occurrences,
}

type Performed = Result<(), String>;

impl From<Violation> for String {
    fn from(violation: Violation) -> String {
        violation.what
    }
}

fn id_of(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn is_heartbeat(message: &Message) -> bool {
    matches!(message, Message::Heartbeat(_) | Message::HeartbeatReply(_))
}

impl Stage {
    /// A stage with running nodes, and a line about them.
    pub(super) fn begin(cluster: &Cluster) -> Result<(Stage, Vec<String>), String> {
        let Cluster { nodes, quorums, window, checkpoint, piece } = *cluster;
        let voters = (1..=nodes as u64).map(|id| (id, format!("node-{id}")));
        let mut membership = Membership::new(voters).map_err(|error| error.to_string())?;
        if let Some((phase_one, phase_two)) = quorums {
            let quorums = Quorums::Flexible { phase_one, phase_two };
            membership = membership.with_quorums(quorums).map_err(|error| error.to_string())?;
        }
        if let Some(window) = window {
            membership = membership.with_window(window).map_err(|error| error.to_string())?;
        }
        let config = |node| {
            let mut config = Config::new(id_of(node), membership.clone());
            config.checkpoint_slots = checkpoint.unwrap_or(config.checkpoint_slots);
            config.piece_bytes_max = piece.unwrap_or(config.piece_bytes_max);
            config
        };
        let actor = |node| Actor {
            host: Host::new(config(node), Machine::new(false, 0, Arc::new(Texts::default()))),
            sequence: 0,
            read: 0,
            role: Role::Follower,
            log_reads: Vec::new(),
            state_reads: Vec::new(),
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
            ledger: Ledger::new(&membership, limits::SESSIONS_BYTES_MAX),
            history: History::default(),
            seen: Occurrences::default(),
        };
        for node in 0..nodes {
            stage.start(node);
        }
        let window = membership.window();
        let noun = if nodes == 1 { "node" } else { "nodes" };
        let mut line =
            format!("{nodes} {noun}, quorums of {one} and {two}, window of {window} slots");
        if let Some(slots) = checkpoint {
            line.push_str(&format!(", checkpoints every {slots} slots"));
        }
        Ok((stage, vec![line]))
    }

    fn actor(&mut self, node: usize) -> Result<&mut Actor, String> {
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

    /// What a state machine has applied, the state that it has taken over included.
    fn state(&self, node: usize) -> String {
        let state = self.actors[node].host.machine.read(0).bytes;
        String::from_utf8_lossy(&state).into_owned()
    }

    /// What the clock of a node shows.
    fn clock(&self, node: usize) -> Instant {
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
        for task in &effects.tasks {
            match task {
                Task::Apply(delivery) => {
                    self.history.delivered(id_of(node), delivery, &Nobody, &mut self.seen)?;
                    let Delivery { slot, value, .. } = delivery;
                    self.ledger.check_chosen(id_of(node), "delivers", *slot, value)?;
                }
                Task::Restore(slot) => self.history.taken_over(id_of(node), *slot)?,
                Task::Freeze(_) | Task::Digest(_) => {}
            }
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
        self.lines.extend(outgoing.transfers.into_iter().map(|(_, outcome)| match outcome {
            Ok(ballot) => format!("{}: {ballot} leads, as it was asked for", id_of(node)),
            Err(refusal) => format!("{} has not handed over: {refusal}", id_of(node)),
        }));
        self.actors[node].log_reads.extend(outgoing.log_reads);
        self.actors[node].state_reads.extend(outgoing.state_reads);
        self.send(node, outgoing.send)
    }

    fn answer(&mut self, node: usize, id: RequestId, outcome: Outcome) -> Performed {
        let what = match outcome {
            Outcome::Applied { slot, .. } => {
                self.history.acknowledge(id, Some(slot))?;
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
        for read in std::mem::take(&mut self.actors[node].state_reads) {
            match self.actors[node].host.read_state(&read) {
                Some(bytes) => {
                    worked = true;
                    self.step(node, vec![Input::StateRead { id: read.id, bytes }])?;
                }
                None => self.actors[node].state_reads.push(read),
            }
        }
        let (done, inputs) = self.actors[node].host.work(usize::MAX, false);
        for done in done {
            worked = true;
            self.done(node, done)?;
        }
        if !inputs.is_empty() {
            worked = true;
            self.step(node, inputs)?;
        }
        Ok(worked)
    }

    fn done(&mut self, node: usize, done: Done) -> Performed {
        let id = id_of(node);
        match done {
            Done::Passed => {}
            Done::Frozen => self.lines.push(format!("{id} takes a snapshot")),
            Done::Restored(slot, digest) => {
                self.lines.push(format!("{id} takes over the state as of slot {slot}"));
                self.history.applied(id, slot, digest)?;
            }
            Done::Applied { delivery, digest, .. } => {
                self.lines.push(format!("{id} applies {}", transcript::delivery(&delivery)));
                self.history.applied(id, delivery.slot, digest)?;
            }
            Done::Served(reads, applied) => {
                let state = self.state(node);
                for (read, _) in reads {
                    self.history.read_served(read, applied, &mut self.seen)?;
                    let (.., number) = read;
                    self.lines
                        .push(format!("{id} serves read {number} at slot {applied}: {state}"));
                }
            }
        }
        Ok(())
    }
}
