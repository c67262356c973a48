//! What comes of a step: the onlooker checks it, the host and the network carry it out.

use super::{Checked, World, id_of, index_of};
use crate::{
    message::Message,
    replica::{Delivery, Effects, Halt, Outcome, Refusal, Role, Task},
    sim::{
        agenda::Happening,
        application::Answer,
        check::{Check, Violation, ensure},
        history::Waiting,
        host::{Done, Outgoing},
        mishap::CrashPoint,
        network::{self, Parcel},
        occurrence::Occurrence,
        transcript,
    },
    types::{ReadMode, RequestId, Slot},
};

/// The check that fails here, unless it says otherwise.
const CHECK: Check = Check::Conduct;

impl World<'_> {
    /// Checks and carries out what a step asks for.
    pub(super) fn after_step(&mut self, node: usize, mut effects: Effects) -> Checked {
        self.workload.removed(self.ledger.removed());
        for task in &effects.tasks {
            match task {
                Task::Apply(delivery) => {
                    let (workload, seen) = (&self.workload, &mut self.seen);
                    self.history.delivered(id_of(node), delivery, workload, seen)?;
                    let Delivery { slot, value, .. } = delivery;
                    self.ledger.check_chosen(id_of(node), "delivers", *slot, value)?;
                }
                Task::Restore(slot) => self.history.taken_over(id_of(node), *slot)?,
                Task::Freeze(_) | Task::Digest(_) => {}
            }
        }
        let mut crash = self.due_crash(node, &effects);
        if let Some(crash) = &mut crash {
            crash.cut(&mut effects, &mut self.seen);
        }
        if let Some((id, batch)) = &effects.persist {
            self.trace.note(self.now, [4, node as u64, id.0], || {
                format!("{} writes #{}: {}", id_of(node), id.0, transcript::write_batch(batch))
            });
        }
        let outgoing = self.stations[node].host.carry_out(effects);
        self.carry_out(node, outgoing)?;
        if !self.is_running(node) {
            return Ok(());
        }
        if let Some(mut crash) = crash {
            return self.crash_for_a_while(node, &mut crash.rng);
        }
        self.note_role(node)?;
        self.plan_write(node);
        self.plan_work(node);
        self.plan_tick(node);
        Ok(())
    }

    /// The crash that strikes within this step, if one does.
    fn due_crash(&mut self, node: usize, effects: &Effects) -> Option<CrashPoint> {
        if effects.persist.is_none() && effects.send.is_empty() {
            return None;
        }
        let point = &mut self.stations[node].crash_point;
        match point {
            Some(waiting) if waiting.steps > 0 => {
                waiting.steps -= 1;
                None
            }
            _ => point.take(),
        }
    }

    fn carry_out(&mut self, node: usize, outgoing: Outgoing) -> Checked {
        let Outgoing {
            send,
            log_reads,
            state_reads,
            answers,
            reads_refused,
            changes,
            transfers,
            halt,
        } = outgoing;
        if halt == Some(Halt::Removed) {
            return self.leave(node);
        }
        if let Some(halt) = halt {
            return Err(Violation::of(CHECK, format!("node {} halts: {halt}", id_of(node))));
        }
        for (to, message) in send {
            self.send(node, index_of(to), message)?;
        }
        let life = self.stations[node].host.incarnation().expect("it has just made a step");
        for read in log_reads {
            self.plan_log_read(node, &read);
        }
        for read in state_reads {
            self.plan_state_read(node, read);
        }
        for (id, outcome, answer) in answers {
            match outcome {
                Outcome::Applied { slot, .. } => self.acknowledged(node, id, Some(slot), answer)?,
                Outcome::Refused(refusal) => self.refused(node, id, refusal)?,
                Outcome::Unknown => {
                    self.seen.add(Occurrence::GaveUp);
                    self.workload.given_up(id);
                }
            }
        }
        for (number, outcome) in changes {
            self.change_ended(node, number, outcome)?;
        }
        for (number, outcome) in transfers {
            self.transfer_ended(node, number, outcome)?;
        }
        for number in reads_refused {
            let read = (id_of(node), life, number);
            self.workload.read_ended(read);
            self.history.read_ended(read);
        }
        Ok(())
    }

    fn refused(&mut self, node: usize, id: RequestId, refusal: Refusal) -> Checked {
        let life = self.life(node).expect("it has just made a step");
        self.trace.note(self.now, [5, node as u64, id.sequence], || {
            format!("{} refuses {id}: {refusal}", id_of(node))
        });
        let is_new = self.workload.is_new(life, id);
        match refusal {
            Refusal::IdUsed => {
                self.seen.add(Occurrence::RefusedIdUsed);
                ensure!(!is_new, "node {} calls the new id {id} used", id_of(node));
                return Ok(());
            }
            Refusal::Busy => {
                let is_behind = self.status_of(node).is_some_and(|status| status.is_disk_behind);
                self.seen.add(match is_behind {
                    true => Occurrence::RefusedBehind,
                    false => Occurrence::RefusedBusy,
                });
            }
            Refusal::DiskFull => self.seen.add(Occurrence::RefusedDiskFull),
            Refusal::TooLarge => {
                return Err(Violation::of(
                    CHECK,
                    format!("command {id} is within the limit and refused"),
                ));
            }
            Refusal::AlreadyApplied => {
                self.seen.add(Occurrence::RefusedApplied);
                return self.acknowledged(node, id, None, None);
            }
            Refusal::Expired => {
                let is_awaited = self.workload.is_awaited(id);
                ensure!(!is_awaited, "command {id} expires while its client waits for it");
                self.workload.expired(id);
                return Ok(());
            }
        }
        self.workload.refused(life, id);
        if is_new {
            self.history.refuse(id);
            self.calls.refused(id);
        }
        Ok(())
    }

    fn send(&mut self, node: usize, to: usize, message: Message) -> Checked {
        let (from_id, to_id) = (id_of(node), id_of(to));
        ensure!(to < self.plan.nodes && to != node, "node {from_id} sends to node {to_id}");
        let digest = network::digest(&message);
        self.trace.note(self.now, [6, (node * 16 + to) as u64, digest], || {
            format!("{from_id} -> {to_id}  {}", transcript::message(&message))
        });
        let disk = self.stations[node].host.disk.durable();
        self.ledger.sent(from_id, to_id, &message, disk, &mut self.seen)?;
        self.note_message(&message);
        if !self.stations[node].host.peers().contains(&to_id) {
            return Ok(());
        }
        if let Message::TakeOver(told) = &message {
            self.check_take_over(node, to, told)?;
        }
        let Some(stores) = self.connect(node, to) else { return Ok(()) };
        let parcel = Parcel { from: node, to, stores, message };
        for (at, parcel) in self.network.send(self.now, parcel, &self.plan, &mut self.seen) {
            self.agenda.plan(at, Happening::Arrival(parcel));
        }
        Ok(())
    }

    fn note_message(&mut self, message: &Message) {
        let occurrence = match message {
            Message::Poll(_) => Occurrence::Polled,
            Message::PollReply(reply) if !reply.granted => Occurrence::PollRefused,
            Message::Reject(_) => Occurrence::Rejected,
            Message::Promise(promise) if promise.next.is_some() => Occurrence::PromisePaged,
            Message::Pull(_) => Occurrence::PullAsked,
            Message::Pulled(pulled) if !pulled.values.is_empty() => Occurrence::PullAnswered,
            Message::PullState(_) => Occurrence::StateAsked,
            Message::PulledState(piece) if piece.end.is_some() => Occurrence::StateSent,
            Message::Propose(propose) if propose.hops > 0 => Occurrence::ProposalPassedOn,
            Message::Propose(_) => Occurrence::ProposalForwarded,
            Message::Read(_) => Occurrence::ReadForwarded,
            _ => return,
        };
        self.seen.add(occurrence);
    }

    /// Notes changes of the role, and checks what a replica says of itself.
    fn note_role(&mut self, node: usize) -> Checked {
        let station = &mut self.stations[node];
        let Some(status) = station.host.status(station.local(self.now)) else { return Ok(()) };
        ensure!(status.applied <= status.chosen, "node {} applies what is not chosen", status.id);
        ensure!(
            status.chosen <= self.ledger.prefix(),
            "node {} takes slot {} for chosen",
            status.id,
            status.chosen
        );
        station.chosen_max = station.chosen_max.max(status.chosen);
        let before = std::mem::replace(&mut station.role, status.role);
        if before == status.role {
            return Ok(());
        }
        self.trace.note(self.now, [7, node as u64, status.role as u64], || {
            format!("{} is {:?}, ballot {}", status.id, status.role, status.ballot)
        });
        if status.role == Role::Leading {
            self.seen.add(Occurrence::Elected);
            self.led.insert(status.ballot);
            if self.has_faults {
                self.strike_new_leader(node);
            }
        } else if before == Role::Leading {
            self.seen.add(Occurrence::SteppedDown);
            if status.is_disk_behind {
                self.seen.add(Occurrence::SteppedDownBehind);
            }
        }
        Ok(())
    }

    /// The state machine of a node has done something.
    pub(super) fn done(&mut self, node: usize, done: Done) -> Checked {
        match done {
            Done::Passed | Done::Frozen => {}
            Done::Restored(slot, digest) => {
                self.trace.note(self.now, [25, node as u64, digest], || {
                    format!("{} takes over the state as of slot {slot}", id_of(node))
                });
                self.seen.add(Occurrence::StateTakenOver);
                self.history.applied(id_of(node), slot, digest)?;
                let state = self.stations[node].host.machine.check();
                state.map_err(|what| Violation::of(Check::StateMachine, what))?;
            }
            Done::Applied { delivery, answers, digest } => {
                self.trace.note(self.now, [9, node as u64, digest], || {
                    format!("{} applies {}", id_of(node), transcript::delivery(&delivery))
                });
                self.history.applied(id_of(node), delivery.slot, digest)?;
                for (&id, answer) in &answers {
                    self.calls.took_effect(id, answer);
                }
                let state = self.stations[node].host.machine.check();
                state.map_err(|what| Violation::of(Check::StateMachine, what))?;
            }
            Done::Served(reads, applied) => {
                self.trace.note(self.now, [10, node as u64, reads.len() as u64], || {
                    let numbers: Vec<_> = reads.iter().map(|((.., number), _)| number).collect();
                    format!("{} serves reads {numbers:?} at slot {applied}", id_of(node))
                });
                for (read, answer) in reads {
                    self.workload.read_ended(read);
                    let seen = &mut self.seen;
                    let Some(mode) = self.history.read_served(read, applied, seen)? else {
                        continue;
                    };
                    // What builds on a value is judged with the read that found it, and only such a
                    // read is judged by when it was made.
                    if mode == ReadMode::Quorum {
                        self.workload.hears(&answer);
                    }
                    self.calls.served(self.now, read, answer);
                    self.seen.add(match mode {
                        ReadMode::Quorum => Occurrence::ReadServed,
                        ReadMode::AtLeast(_) => Occurrence::ReadServedAtSlot,
                        ReadMode::Local => Occurrence::ReadServedLocally,
                    });
                }
            }
        }
        Ok(())
    }

    /// A command has had its effect, and whoever waited for it at this node knows.
    fn acknowledged(
        &mut self,
        node: usize,
        id: RequestId,
        told: Option<Slot>,
        answer: Option<Answer>,
    ) -> Checked {
        let life = self.life(node).expect("it has just made a step");
        if self.workload.answered(life, id) {
            self.seen.add(Occurrence::Acknowledged);
            self.history.acknowledge(id, told)?;
            self.workload.wrote(told);
            answer.iter().for_each(|answer| self.workload.hears(answer));
            self.calls.applied(self.now, id, answer);
        }
        Ok(())
    }
}
