//! One simulated machine: a disk, a state machine, and while it runs a process with the replica.
//!
//! The host carries out effects as the real driver does: writes in their order, deliveries to the
//! state machine before the reads that wait for them. *When* a write finishes or a slot is applied
//! is decided from outside, at random by the simulation and by command in a scenario.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::{
    application::{Answer, ReadId, question},
    disk::{Damage, Disk},
    machine::Machine,
};
use crate::{
    config::Config,
    message::{Message, Record, StateDigest},
    replica::{
        self, ChangeOutcome, Delivery, Effects, Halt, LogRead, Outcome, Proposal, Refusal, Replica,
        Role, SnapshotId, StateRead, StateSource, Status, Task, TransferOutcome, Verdict,
    },
    types::{Instant, Membership, NodeId, RequestId, Slot, StoreId, Value},
};

/// How much later than its deadline a waiter may have its answer.
const LATENESS_MAX: Duration = Duration::from_millis(2);

/// What a simulated replica takes in: whoever waits for a command is known by its request id.
pub(super) type Input = replica::Input<RequestId>;

/// A simulated machine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) id: NodeId,
    config: Config,
    pub(super) disk: Disk,
    pub(super) machine: Machine,
    process: Option<Process>,
}

/// What a crash takes away.
#[derive(Debug)]
struct Process {
    replica: Replica<RequestId>,
    incarnation: u64,
    /// Who gets what goes to everybody.
    peers: Vec<NodeId>,
    /// Slots up to here are in the state.
    applied: Slot,
    work: VecDeque<Work>,
    /// Snapshots that the replica may read, and how far it has.
    snapshots: BTreeMap<SnapshotId, Bytes>,
    /// What the state machine answered and nobody has asked for.
    responses: BTreeMap<RequestId, Answer>,
    /// Until when each command without an answer is waited for.
    deadlines: BTreeMap<RequestId, Instant>,
    /// What has become of commands since the last step was carried out.
    answers: Vec<(RequestId, Outcome)>,
}

/// How a process begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Started {
    /// Which life of the node this is, from 1.
    pub(super) incarnation: u64,
    /// Delivery goes on behind this slot.
    pub(super) delivered: Slot,
    /// There is part of a state that no checkpoint has.
    pub(super) has_unfinished_state: bool,
    /// The state on disk holds slots that the log has lost.
    pub(super) machine_is_ahead: bool,
}

/// What waits for the state machine.
#[derive(Debug)]
enum Work {
    Do(Task),
    Serve(Vec<u64>),
}

/// What is left of [`Effects`] once disk and state machine have theirs.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) send: Vec<(NodeId, Message)>,
    pub(super) log_reads: Vec<LogRead>,
    pub(super) state_reads: Vec<StateRead>,
    /// What has become of commands, with the state machine's answer to those that it has applied in
    /// this life.
    pub(super) answers: Vec<(RequestId, Outcome, Option<Answer>)>,
    pub(super) reads_refused: Vec<u64>,
    /// What has become of changes of the membership.
    pub(super) changes: Vec<(u64, ChangeOutcome)>,
    /// What has become of transfers of the leadership.
    pub(super) transfers: Vec<(u64, TransferOutcome)>,
    pub(super) halt: Option<Halt>,
}

/// What the state machine has done.
#[derive(Debug)]
pub(super) enum Done {
    /// It has passed over a slot that its state on disk held already.
    Passed,
    /// It has applied a slot.
    Applied {
        /// The slot.
        delivery: Delivery,
        /// The answers to those of its commands that have effect.
        answers: BTreeMap<RequestId, Answer>,
        /// The digest of the state behind it.
        digest: u64,
    },
    /// It has taken a snapshot.
    Frozen,
    /// It has taken over the state as of a slot, of this digest.
    Restored(Slot, u64),
    /// It has served reads, with these answers, from the state up to a slot.
    Served(Vec<(ReadId, Answer)>, Slot),
}

impl Process {
    /// Fetches the replica's answers, and sees that each waiter has one by its deadline. Of the
    /// proposals just taken in, these ids are new.
    fn note_answers(&mut self, now: Instant, new: &[RequestId]) {
        self.answers.extend(self.replica.answers());
        for (id, outcome) in &self.answers {
            // Of two who propose under one name, the first waits on.
            if *outcome != Outcome::Refused(Refusal::IdUsed) || new.contains(id) {
                self.deadlines.remove(id);
            }
        }
        let late = self.deadlines.iter().find(|(_, deadline)| deadline.after(LATENESS_MAX) < now);
        assert!(late.is_none(), "a command waits beyond its deadline: {late:?} at {now:?}");
    }
}

impl Host {
    /// A machine that has never been started.
    pub(super) fn new(config: Config, machine: Machine) -> Host {
        let disk = Disk::new(config.id, StoreId(config.id.0));
        Host { id: config.id, config, disk, machine, process: None }
    }

    /// Starts the process from what the disk has kept, if that can be read.
    pub(super) fn start(&mut self, now: Instant) -> Result<Started, Damage> {
        let recovered = self.disk.recover()?;
        let incarnation = recovered.incarnation;
        let delivered = recovered.checkpoint.at.slot;
        let has_unfinished_state = recovered.unfinished.is_some();
        let log_end = recovered.records.last().map_or(recovered.chosen.slot, |last| last.slot);
        let seed = self.config.seed.wrapping_mul(31).wrapping_add(incarnation);
        let config = Config { seed, ..self.config.clone() };
        let durable = self.machine.durable();
        let replica =
            Replica::new(config, recovered, durable, now).expect("the plan draws valid settings");
        let applied = durable.unwrap_or_default();
        self.process = Some(Process {
            replica,
            incarnation,
            peers: self.config.membership.peers_of(self.id).collect(),
            applied,
            work: VecDeque::new(),
            snapshots: BTreeMap::new(),
            responses: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            answers: Vec::new(),
        });
        let machine_is_ahead = applied > log_end;
        Ok(Started { incarnation, delivered, has_unfinished_state, machine_is_ahead })
    }

    /// It has nothing yet, and is going to join a cluster some of whose members are `told`.
    pub(super) fn join(&mut self, told: Membership) {
        self.config.joins = true;
        self.tell(told);
    }

    /// Whoever is started next is told of these members.
    pub(super) fn tell(&mut self, told: Membership) {
        self.config.membership = told;
    }

    /// Whether the node would begin a cluster with the members that it is told, if it started.
    pub(super) fn is_founder(&self) -> bool {
        !self.config.joins && self.disk.durable().memberships.is_empty()
    }

    /// The process is gone, and with it everything that was not durable.
    pub(super) fn crash(&mut self) {
        self.process = None;
        self.machine.crash();
    }

    /// Everything that the machine, which is down, had on its disk is gone; it has another one now.
    pub(super) fn lose_disk(&mut self, store: StoreId) {
        self.disk = Disk::new(self.id, store);
        self.machine.lose_disk();
    }

    /// Whether the process runs.
    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Which life of the node this is; `None` while it is down.
    pub(super) fn incarnation(&self) -> Option<u64> {
        self.process.as_ref().map(|process| process.incarnation)
    }

    /// Whom the running process talks to.
    pub(super) fn peers(&self) -> &[NodeId] {
        self.process.as_ref().map_or(&[], |process| &process.peers)
    }

    /// Slots up to here are in the state of the running process.
    pub(super) fn applied(&self) -> Slot {
        let durable = || self.machine.durable().unwrap_or_default();
        self.process.as_ref().map_or_else(durable, |process| process.applied)
    }

    /// The replica's status; `None` while it is down.
    pub(super) fn status(&self, now: Instant) -> Option<Status> {
        self.process.as_ref().map(|process| process.replica.status(now))
    }

    /// When the replica wants its next tick.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.process.as_ref()?.replica.next_deadline()
    }

    /// Whether the replica fetches a state or sends one.
    pub(super) fn transfers_state(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.replica.transfers_state())
    }

    /// Whether the state machine has something to do.
    pub(super) fn has_work(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.work.is_empty())
    }

    /// Whether the replica would poll if it were told that it is `now`.
    pub(super) fn would_poll(&self, now: Instant) -> bool {
        self.process.as_ref().is_some_and(|process| {
            let mut replica = process.replica.clone();
            replica.step(now, Input::Tick);
            process.replica.status(now).role == Role::Follower
                && replica.status(now).role != Role::Follower
        })
    }

    /// Hands inputs to the replica, which checks its invariants afterwards, and addresses each of
    /// its messages.
    pub(super) fn step(&mut self, now: Instant, inputs: Vec<Input>) -> Effects {
        let Some(process) = &mut self.process else { return Effects::default() };
        let mut new = Vec::new();
        for input in &inputs {
            if let Input::Propose(Proposal { id: Some(id), deadline, .. }) = input
                && !process.deadlines.contains_key(id)
            {
                process.deadlines.insert(*id, *deadline);
                new.push(*id);
            }
        }
        let mut effects = process.replica.step_all(now, inputs);
        process.replica.check_invariants();
        process.note_answers(now, &new);
        if let Some(peers) = &effects.peers {
            process.peers = peers.iter().map(|peer| peer.id).collect();
        }
        effects.address(process.peers.iter().copied());
        effects
    }

    /// Gives disk and state machine their share of the effects.
    pub(super) fn carry_out(&mut self, effects: Effects) -> Outgoing {
        let Effects {
            broadcast,
            send,
            persist,
            log_reads,
            state_reads,
            let_go,
            tasks,
            reads_ready,
            reads_refused,
            changes,
            transfers,
            peers: _,
            halt,
        } = effects;
        debug_assert!(broadcast.is_empty(), "`step` has addressed each message");
        if let Some((id, batch)) = persist {
            self.disk.enqueue(Some(id), batch);
        }
        let mut answers = Vec::new();
        if let Some(process) = &mut self.process {
            for (id, outcome) in process.answers.drain(..) {
                answers.push((id, outcome, process.responses.remove(&id)));
            }
            process.work.extend(tasks.into_iter().map(Work::Do));
            for snapshot in let_go {
                process.snapshots.remove(&snapshot);
                let is_of =
                    |work: &Work| matches!(work, Work::Do(Task::Freeze(id)) if *id == snapshot);
                process.work.retain(|work| !is_of(work));
            }
            if !reads_ready.is_empty() {
                process.work.push_back(Work::Serve(reads_ready));
            }
        }
        Outgoing { send, log_reads, state_reads, answers, reads_refused, changes, transfers, halt }
    }

    /// Lets the state machine do the next `count_max` things in order; then it reports to the
    /// replica how far it has applied, if it has, and what it was asked.
    pub(super) fn work(&mut self, count_max: usize, flush: bool) -> (Vec<Done>, Vec<Input>) {
        let Some(process) = &mut self.process else { return Default::default() };
        let mut done = Vec::new();
        let mut applied = None;
        let mut inputs = Vec::new();
        while done.len() < count_max {
            match process.work.pop_front() {
                None => break,
                Some(Work::Serve(reads)) => {
                    let answer = |number| {
                        let read = (self.id, process.incarnation, number);
                        (read, self.machine.read(question(read)))
                    };
                    let answers = reads.into_iter().map(answer).collect();
                    done.push(Done::Served(answers, process.applied));
                }
                Some(Work::Do(Task::Freeze(id))) => {
                    process.snapshots.insert(id, self.machine.snapshot());
                    done.push(Done::Frozen);
                }
                Some(Work::Do(Task::Digest(slot))) => {
                    done.push(Done::Passed);
                    if slot >= process.applied {
                        let digest = StateDigest { slot, digest: self.machine.digest() };
                        inputs.push(Input::Digested(digest));
                    }
                }
                Some(Work::Do(Task::Restore(slot))) => {
                    applied = Some(slot);
                    if slot <= process.applied {
                        done.push(Done::Passed);
                        continue;
                    }
                    process.applied = self.machine.restore(slot, &self.disk.state(slot));
                    done.push(Done::Restored(process.applied, self.machine.digest()));
                }
                Some(Work::Do(Task::Apply(delivery))) => {
                    applied = Some(delivery.slot);
                    if delivery.slot <= process.applied {
                        done.push(Done::Passed);
                        continue;
                    }
                    process.applied = delivery.slot;
                    let commands = fresh(&delivery);
                    let mut answers = BTreeMap::new();
                    if !commands.is_empty() {
                        let ids: Vec<_> = commands.iter().map(|(id, _)| *id).collect();
                        let given = self.machine.apply(delivery.slot, commands);
                        answers.extend(ids.into_iter().zip(given));
                    }
                    process.responses.extend(answers.clone());
                    let digest = self.machine.digest();
                    done.push(Done::Applied { delivery, answers, digest });
                }
            }
        }
        if flush {
            self.machine.flush();
        }
        let durable = self.machine.durable();
        inputs.extend(applied.map(|slot| Input::Applied { slot, durable }));
        (done, inputs)
    }

    /// Answers a read of a state; `None` if it is of a snapshot that is yet to be taken, or is not wanted
    /// any more.
    pub(super) fn read_state(&mut self, read: &StateRead) -> Option<Bytes> {
        let bytes_max = read.bytes_max;
        match read.source {
            StateSource::Stored { slot, offset } => {
                Some(self.disk.durable().states.read(slot, offset, bytes_max))
            }
            StateSource::Snapshot(id) => {
                let rest = self.process.as_mut()?.snapshots.get_mut(&id)?;
                Some(rest.split_to(rest.len().min(bytes_max)))
            }
        }
    }

    /// Whether a read of a state waits for the state machine.
    pub(super) fn will_freeze(&self, read: &StateRead) -> bool {
        let Some(process) = &self.process else { return false };
        process.work.iter().any(|work| match work {
            Work::Do(Task::Freeze(id)) => read.source == StateSource::Snapshot(*id),
            _ => false,
        })
    }

    /// Answers a log read.
    pub(super) fn read_log(
        &mut self,
        read: &LogRead,
        see_unfinished: bool,
    ) -> Result<Vec<Record>, Damage> {
        self.disk.read(read.slots.clone(), read.bytes_max, see_unfinished)
    }
}

/// The commands of a slot that have effect.
fn fresh(delivery: &Delivery) -> Vec<(RequestId, Bytes)> {
    let Value::Batch(batch) = &delivery.value else { return Vec::new() };
    let verdicts = verdicts(delivery);
    batch
        .requests()
        .zip(verdicts)
        .filter(|(_, verdict)| *verdict == Verdict::Fresh)
        .map(|(request, _)| request)
        .collect()
}

/// One verdict per command.
pub(super) fn verdicts(delivery: &Delivery) -> Vec<Verdict> {
    delivery
        .verdicts
        .iter()
        .flat_map(|(range, verdict)| std::iter::repeat_n(*verdict, range.len()))
        .collect()
}
