//! What each command of a script does.

use std::time::Duration;

use bytes::Bytes;

use super::{Performed, Stage, id_of, is_heartbeat};
use crate::{
    replica::Proposal,
    sim::{
        host::Input,
        network::Parcel,
        scenario::command::{Command, Selection},
        topology::Links,
        transcript,
    },
    types::{ClientId, Instant, ReadMode, RequestId},
};

/// How long commands are waited for: longer than any scenario.
const PATIENCE: Duration = Duration::from_secs(3600);

impl Stage {
    /// Carries out a command and returns what came of it.
    pub(in crate::sim::scenario) fn perform(
        &mut self,
        command: Command,
    ) -> Result<Vec<String>, String> {
        match command {
            Command::Cluster { .. } => return Err("the cluster exists".to_owned()),
            Command::Elect(node) => self.elect(node)?,
            Command::Propose { node, client, commands } => self.propose(node, client, commands)?,
            Command::Read(node) => self.read(node)?,
            Command::Transfer { node, to } => self.transfer(node, to)?,
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
            Command::Lost { peer, told } => self.lose_peer(peer, &told)?,
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
        self.history.read_began((id_of(node), incarnation, number), ReadMode::Quorum);
        self.step(node, vec![Input::Read { number, mode: ReadMode::Quorum }])
    }

    fn transfer(&mut self, node: usize, to: usize) -> Performed {
        self.running(node)?;
        let deadline = self.clock(node).after(PATIENCE);
        self.step(node, vec![Input::Transfer { number: 1, to: Some(id_of(to)), deadline }])
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
        actor.state_reads.clear();
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

    fn lose_peer(&mut self, peer: usize, told: &[usize]) -> Performed {
        for &node in told {
            self.running(node)?;
            self.step(node, vec![Input::Lost(id_of(peer))])?;
        }
        Ok(())
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
