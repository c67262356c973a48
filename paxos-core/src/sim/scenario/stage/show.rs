//! What a script asks to be shown.

use super::{Performed, Stage, id_of, is_heartbeat};
use crate::{
    replica::{Role, Status},
    sim::{network::Parcel, transcript},
    types::Slot,
};

impl Stage {
    /// Shows the messages on their way.
    pub(super) fn show_flight(&mut self) {
        let shown = self
            .flight
            .iter()
            .filter(|parcel| self.shows_heartbeats || !is_heartbeat(&parcel.message));
        let lines: Vec<_> = shown
            .map(|Parcel { from, to, message, .. }| {
                format!("{} -> {}  {}", id_of(*from), id_of(*to), transcript::message(message))
            })
            .collect();
        self.lines.extend(lines);
        if self.lines.is_empty() {
            self.lines.push("nothing is on its way".to_owned());
        }
    }

    /// Shows what a disk holds for certain.
    pub(super) fn show_log(&mut self, node: usize) -> Performed {
        let disk = self.actor(node)?.host.disk.durable().clone();
        let mut line = format!("promised {}, chosen {}", disk.promised, disk.chosen.slot);
        let checkpoint = &disk.checkpoint;
        if checkpoint.at.slot > Slot::ZERO {
            line.push_str(&format!(
                ", floor {}, checkpoint as of {}",
                disk.floor, checkpoint.at.slot
            ));
        }
        self.lines.push(line);
        for record in disk.records.values() {
            let value = transcript::value(&record.value);
            self.lines.push(format!("slot {} = {value} ({})", record.slot, record.ballot));
        }
        Ok(())
    }

    /// Shows what a state machine has applied.
    pub(super) fn show_state(&mut self, node: usize) -> Performed {
        self.actor(node)?;
        let line = self.state(node);
        self.lines.push(line);
        Ok(())
    }

    /// Shows what replicas say of themselves, one or all.
    pub(super) fn show_status(&mut self, node: Option<usize>) -> Performed {
        let nodes = match node {
            Some(node) => node..node + 1,
            None => 0..self.actors.len(),
        };
        for node in nodes {
            let clock = self.clock(node);
            let line = match self.actor(node)?.host.status(clock) {
                None => format!("{}: down", id_of(node)),
                Some(status) => describe(&status),
            };
            self.lines.push(line);
        }
        Ok(())
    }
}

fn describe(status: &Status) -> String {
    let role = match (status.role, status.leader) {
        (Role::Leading, _) => "leads".to_owned(),
        (Role::Follower, Some(leader)) => format!("follows {leader}"),
        (Role::Follower, None) => "has no leader".to_owned(),
        (Role::Polling, _) => "polls".to_owned(),
        (Role::Preparing, _) => "prepares".to_owned(),
    };
    let mut line = format!(
        "{}: {role}, ballot {}, accepted up to {}, chosen {}, applied {}",
        status.id, status.ballot, status.highest_accepted, status.chosen, status.applied
    );
    if status.outstanding > 0 {
        line.push_str(&format!(", {} waiting", status.outstanding));
    }
    line
}
