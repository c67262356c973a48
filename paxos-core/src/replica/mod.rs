//! The protocol without I/O: inputs in, effects out.
//!
//! A [`Replica`] is a deterministic state machine. Time is an argument, randomness a seed, and the
//! same inputs give the same [`Effects`] on every machine. This module routes between the roles and
//! holds no rule of its own:
//!
//! | file | rule |
//! |---|---|
//! | `acceptor` | promises and votes, durable before they are told |
//! | `recovery` | phase 1: what a new leader may propose |
//! | `proposer` | phase 2: slots, the window, votes |
//! | `queue` | adaptive batching |
//! | `learner` | what is chosen, and in-order delivery |
//! | `election` | polling before a ballot |
//! | `followers` | the leader's rounds of heartbeats, and stepping down |
//! | `reader` | linearizable reads |
//! | `catchup` | pulling missed slots |
//! | `requests` | forwarding and retry of this node's own commands |
//! | `sessions` | at most once |
//! | `membership` | whose votes count for a slot |
//! | `outbox` | nothing leaves before the disk that must not |

mod acceptor;
mod catchup;
mod context;
mod effect;
mod election;
mod followers;
#[cfg(test)]
mod fuzz;
mod held;
mod invariants;
mod learner;
mod log;
mod membership;
mod outbox;
mod proposer;
mod queue;
mod ranges;
mod reader;
mod recovery;
mod requests;
mod route;
mod sessions;
mod slots;
mod status;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use effect::{
    Delivery, Effects, Halt, Input, LogRead, LogReadId, Refusal, Verdict, Verdicts, WriteId,
};
pub use log::LogError;
pub use sessions::SessionsError;
pub use status::{PeerStatus, Role, Status};

use self::{
    acceptor::Acceptor,
    catchup::Catchup,
    context::Context,
    election::Election,
    followers::Followers,
    learner::Learner,
    membership::Memberships,
    outbox::Outbox,
    proposer::Leading,
    queue::Queue,
    reader::{LeaderView, Reader},
    recovery::Preparing,
    requests::{Requests, Target},
    sessions::SessionTable,
};
use crate::{
    config::{Config, ConfigError},
    limits,
    message::{ChosenUpTo, Learn, Message, Prepare, Record},
    planted::planted,
    port::Recovered,
    types::{Ballot, ClientId, Instant, NodeId, Slot, Value},
};

/// One replica: acceptor, learner, and at times proposer.
///
/// - **Inputs**: [`step`](Replica::step), [`step_all`](Replica::step_all).
/// - **Effects**: what those return; the driver carries them out.
/// - **Deadline**: [`next_deadline`](Replica::next_deadline) says when to come back.
/// - **Getters**: [`status`](Replica::status), [`client`](Replica::client).
///
/// A clone is for whoever explores what might happen next, such as a model checker. Two clones must
/// never speak for one node.
#[derive(Clone, Debug)]
pub struct Replica {
    config: Config,
    memberships: Memberships,
    rng: fastrand::Rng,
    /// Numbers polls and requests to peers: never reused, not even after a restart.
    numbers: u64,
    client: ClientId,
    out: Outbox,
    acceptor: Acceptor,
    learner: Learner,
    election: Election,
    proposing: Proposing,
    queue: Queue,
    requests: Requests,
    reader: Reader,
    catchup: Catchup,
    log_reads: BTreeMap<LogReadId, Purpose>,
    log_reads_issued: LogReadId,
    disk_full: bool,
}

/// What the proposer is doing.
#[derive(Clone, Debug)]
enum Proposing {
    Not,
    Preparing(Preparing),
    Leading(Box<Leading>, Followers),
}

/// What a piece of the log is read for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    Promise(NodeId, Prepare),
    Learn(NodeId, Learn),
    Deliver,
}

impl Purpose {
    /// The first slot that is wanted.
    fn from(&self, learner: &Learner) -> Slot {
        match self {
            Purpose::Promise(_, prepare) => prepare.from,
            Purpose::Learn(_, learn) => learn.from,
            Purpose::Deliver => learner.delivered().next(),
        }
    }
}

/// Why a replica cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The recovered session table is malformed.
    #[error(transparent)]
    Sessions(#[from] SessionsError),
    /// The recovered log cannot have been written by a node.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// The surroundings of a role, borrowed beside the role itself.
macro_rules! surroundings {
    ($replica:ident, $now:expr) => {
        Context {
            now: $now,
            config: &$replica.config,
            memberships: &$replica.memberships,
            out: &mut $replica.out,
            rng: &mut $replica.rng,
        }
    };
}
use surroundings;

impl Replica {
    /// A replica that goes on from what its storage recovered.
    ///
    /// Delivery starts behind the recovered session checkpoint: slots that the state machine has
    /// applied already are delivered again, for the session table's sake, and are for the driver
    /// to pass over.
    ///
    /// # Errors
    ///
    /// If the settings contradict each other, or the session checkpoint does not decode.
    pub fn new(
        config: Config,
        mut recovered: Recovered,
        now: Instant,
    ) -> Result<Replica, ReplicaError> {
        config.check()?;
        let sessions = SessionTable::restore(&recovered.sessions, &config.membership)?;
        let memberships = Memberships::new(config.membership.clone());
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut out = Outbox::new(config.id, recovered.chosen);
        let mut cx = Context {
            now,
            config: &config,
            memberships: &memberships,
            out: &mut out,
            rng: &mut rng,
        };
        let acceptor = Acceptor::recovered(&mut recovered)?;
        let mut election = Election::begin(recovered.incarnation == 1, &mut cx);
        election.heard_of(if planted!(BallotReused) { Ballot::ZERO } else { acceptor.promised() });
        Ok(Replica {
            client: ClientId { name: config.id.0, epoch: recovered.incarnation },
            config,
            memberships,
            rng,
            numbers: recovered.incarnation << 32,
            out,
            acceptor,
            learner: Learner::recovered(recovered.chosen, sessions),
            election,
            proposing: Proposing::Not,
            queue: Queue::default(),
            requests: Requests::default(),
            reader: Reader::default(),
            catchup: Catchup::default(),
            log_reads: BTreeMap::new(),
            log_reads_issued: LogReadId(0),
            disk_full: false,
        })
    }

    /// The client under whose name this node numbers its own requests in this life.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// Takes in one input.
    pub fn step(&mut self, now: Instant, input: Input) -> Effects {
        self.step_all(now, [input])
    }

    /// Takes in what has gathered, then cuts batches: the more inputs at once, the larger.
    pub fn step_all(&mut self, now: Instant, inputs: impl IntoIterator<Item = Input>) -> Effects {
        for input in inputs {
            self.take_in(now, input);
            self.hear_itself(now);
        }
        self.tick(now);
        self.progress(now);
        while self.hear_itself(now) {
            self.progress(now);
        }
        self.announce(now);
        self.out.finish(self.learner.chosen(), now)
    }

    fn take_in(&mut self, now: Instant, input: Input) {
        match input {
            Input::Message { from, message } => {
                if from != self.config.id && self.memberships.is_voter(from) {
                    self.on_message(now, from, message);
                }
            }
            Input::Propose { id, command } => {
                let taken = if self.disk_full {
                    Err(Refusal::DiskFull)
                } else {
                    self.requests.propose(id, command, &surroundings!(self, now))
                };
                if let Err(refusal) = taken {
                    self.out.effects().refused.push((id, refusal));
                }
            }
            Input::GiveUp(id) => self.requests.settle(id),
            Input::Read { number } => {
                if !self.reader.read(number) {
                    self.out.effects().reads_refused.push(number);
                }
            }
            Input::GiveUpRead { number } => self.reader.give_up(number),
            Input::Persisted(id) => self.out.on_persisted(id, now),
            Input::LogRead { id, records } => self.on_log_read(id, records),
            Input::Applied { slot, durable } => {
                if let Some(checkpoint) = self.learner.on_applied(slot, durable) {
                    self.out.persist_sessions(checkpoint);
                }
            }
            Input::DiskFull(full) => {
                self.disk_full = full;
                if full {
                    self.step_down(now);
                }
            }
            Input::Tick => {}
        }
    }

    /// Takes in what this node has said to itself; `false` if there was nothing.
    fn hear_itself(&mut self, now: Instant) -> bool {
        let mut heard = false;
        while let Some(message) = self.out.take_to_self() {
            heard = true;
            self.on_message(now, self.config.id, message);
        }
        heard
    }

    /// Works off deadlines.
    fn tick(&mut self, now: Instant) {
        let can_write = self.can_write(now);
        let cx = &mut surroundings!(self, now);
        match &mut self.proposing {
            Proposing::Not if self.disk_full => {}
            Proposing::Not => {
                let chosen = self.learner.chosen().slot;
                if let Some(ballot) = self.election.tick(&mut self.numbers, chosen, cx) {
                    self.stand(now, ballot);
                }
            }
            Proposing::Preparing(preparing) => {
                if preparing.expires_at() <= now {
                    self.step_down(now);
                } else {
                    preparing.tick(cx);
                }
            }
            Proposing::Leading(leading, followers) => {
                if followers.is_quorum_lost(cx) || followers.cannot_write(can_write, cx) {
                    self.step_down(now);
                    return;
                }
                leading.tick(&self.learner, cx);
                if followers.next_beat() <= now {
                    followers.beat(leading.ballot(), self.learner.chosen(), cx);
                }
            }
        }
    }

    /// Whether this node can make anything durable, as far as it knows.
    fn can_write(&self, now: Instant) -> bool {
        let patience = limits::DISK_SILENT_TIMEOUTS * self.config.election_timeout;
        !self.disk_full && self.out.disk_silent_for(now) < patience
    }

    /// Begins a candidacy, unless this node's own promise could not become durable.
    fn stand(&mut self, now: Instant, ballot: Ballot) {
        if self.can_write(now) {
            self.prepare(now, ballot);
        } else {
            self.election.back_off(&mut surroundings!(self, now));
        }
    }

    /// Begins a candidacy. Every ballot is above whatever this node has promised or heard of.
    fn prepare(&mut self, now: Instant, ballot: Ballot) {
        assert!(ballot > self.acceptor.promised(), "ballot {ballot} may have been used");
        let from = self.learner.chosen().slot.next();
        let cx = &mut surroundings!(self, now);
        self.acceptor.promise_own(ballot, cx.out);
        self.election.heard_of(ballot);
        self.proposing = Proposing::Preparing(Preparing::begin(ballot, from, cx));
    }

    /// Stops proposing. What waits for a slot is forgotten here; its origins send it again.
    fn step_down(&mut self, now: Instant) {
        if !matches!(self.proposing, Proposing::Not) {
            self.proposing = Proposing::Not;
            self.out.withdraw_prepares();
            self.queue.clear();
            self.reader.on_deposed();
            self.election.back_off(&mut surroundings!(self, now));
        }
    }

    /// Whatever follows from what has come in.
    fn progress(&mut self, now: Instant) {
        let halt = self.learner.advance(&self.acceptor);
        self.out.halt(halt);
        self.deliver();
        let target = self.target();
        let cx = &mut surroundings!(self, now);
        self.requests.dispatch(target, self.learner.sessions(), &mut self.queue, cx);
        let leader = match &mut self.proposing {
            Proposing::Leading(leading, followers) => {
                leading.propose(&mut self.acceptor, &self.learner, &mut self.queue, cx);
                Some(LeaderView::of(leading, followers, &self.learner))
            }
            _ => None,
        };
        self.reader.dispatch(target, leader, self.client, &mut self.numbers, cx);
        if let Proposing::Leading(leading, followers) = &mut self.proposing {
            // One round at a time: reads that arrive meanwhile share the next.
            let idle = followers.confirmed_round(cx) == followers.round();
            if idle && self.reader.wants_round(followers.round()) {
                followers.beat(leading.ballot(), self.learner.chosen(), cx);
            }
            self.reader.on_confirmed(followers.confirmed_round(cx), cx);
        }
        let ready = self.reader.take_ready(self.learner.delivered());
        cx.out.effects().reads_ready.extend(ready);
        if !self.disk_full {
            self.catchup.pull(&self.learner, &self.acceptor, &mut self.numbers, cx);
        }
        let persisted = cx.out.persisted();
        let chosen = self.learner.chosen().slot;
        self.acceptor.log_mut().evict(chosen, persisted, self.config.cache_bytes_max);
    }

    /// Where this node's commands and reads go.
    fn target(&self) -> Option<Target> {
        match &self.proposing {
            Proposing::Not => self.election.target(),
            Proposing::Preparing(_) => None,
            Proposing::Leading(leading, _) => Some(Target::Here(leading.ballot())),
        }
    }

    /// Hands chosen slots to the state machine, as fast as it applies them.
    fn deliver(&mut self) {
        while self.learner.wants_delivery(self.config.delivery_bytes_max) {
            let slot = self.learner.delivered().next();
            match self.acceptor.log().get(slot) {
                Some((_, value)) => {
                    let value = value.clone();
                    self.deliver_value(value);
                }
                None => {
                    self.read_log(Purpose::Deliver);
                    return;
                }
            }
        }
    }

    fn deliver_value(&mut self, value: Value) {
        let delivery = self.learner.deliver(value, self.config.checkpoint_slots);
        if let Value::Batch(batch) = &delivery.value {
            self.requests.on_delivered(batch, &delivery.verdicts);
            self.queue.on_delivered(batch);
        }
        self.out.effects().deliver.push(delivery);
    }

    /// Asks the storage for what is no longer in memory, once for each purpose.
    fn read_log(&mut self, purpose: Purpose) {
        let from = purpose.from(&self.learner);
        let alike = |pending: &Purpose| match (pending, &purpose) {
            (Purpose::Promise(to, _), Purpose::Promise(other, _))
            | (Purpose::Learn(to, _), Purpose::Learn(other, _)) => to == other,
            (Purpose::Deliver, Purpose::Deliver) => true,
            _ => false,
        };
        if self.log_reads.values().any(alike) {
            return;
        }
        self.log_reads_issued.0 += 1;
        let id = self.log_reads_issued;
        let slots = from..=self.acceptor.log().on_disk();
        self.out.read_log(LogRead { id, slots, bytes_max: self.config.page_bytes_max });
        self.log_reads.insert(id, purpose);
    }

    fn on_log_read(&mut self, id: LogReadId, records: Vec<Record>) {
        let Some(purpose) = self.log_reads.remove(&id) else { return };
        let from = purpose.from(&self.learner);
        // All of them are chosen, so none may be missing.
        let mut expected = from;
        for record in &records {
            if record.slot != expected {
                break;
            }
            expected = expected.next();
        }
        if records.is_empty() || expected != from.plus(records.len() as u64) {
            self.out.halt(Some(Halt::Lost { slot: expected }));
            return;
        }
        match purpose {
            Purpose::Promise(to, prepare) => {
                let chosen = self.learner.chosen().slot;
                self.acceptor.prepare_from_disk(to, &prepare, records, chosen, &mut self.out);
            }
            Purpose::Learn(to, learn) => {
                let values = records.into_iter().map(|record| (record.slot, record.value));
                let values = values.take_while(|(slot, _)| *slot <= learn.to).collect();
                let out = &mut self.out;
                catchup::answer(to, &learn, values, &self.learner, &self.acceptor, out);
            }
            Purpose::Deliver => {
                for record in records {
                    if !self.learner.wants_delivery(self.config.delivery_bytes_max) {
                        break;
                    }
                    self.deliver_value(record.value);
                }
            }
        }
    }

    /// Tells the peers what has been chosen, unless an Accept of this step says so anyway.
    fn announce(&mut self, now: Instant) {
        let chosen = self.learner.chosen();
        if let Proposing::Leading(leading, _) = &mut self.proposing
            && leading.announce(chosen.slot)
        {
            let message = Message::Chosen(ChosenUpTo { ballot: leading.ballot(), chosen });
            surroundings!(self, now).broadcast(&message);
        }
    }

    /// When the replica wants its next [`Input::Tick`], if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let config = &self.config;
        let proposing = match &self.proposing {
            Proposing::Not if self.disk_full => None,
            Proposing::Not => Some(self.election.next_deadline()),
            Proposing::Preparing(preparing) => Some(preparing.next_deadline()),
            Proposing::Leading(leading, followers) => {
                let lost_at = followers.quorum_lost_at(self.memberships.current(), config);
                let deadlines = [Some(followers.next_beat()), lost_at, leading.next_deadline()];
                deadlines.into_iter().flatten().min()
            }
        };
        let catchup = if self.disk_full { None } else { self.catchup.next_deadline(config) };
        let requests = self.requests.next_deadline(config);
        let reader = self.reader.next_deadline(config);
        [proposing, catchup, requests, reader].into_iter().flatten().min()
    }

    /// A snapshot of its state at `now`.
    #[must_use]
    pub fn status(&self, now: Instant) -> Status {
        let (role, leader, ballot, peers) = match &self.proposing {
            Proposing::Leading(leading, followers) => {
                let peers = followers.status(now);
                (Role::Leading, Some(self.config.id), Some(leading.ballot()), peers)
            }
            Proposing::Preparing(preparing) => {
                (Role::Preparing, None, Some(preparing.ballot()), Vec::new())
            }
            Proposing::Not => {
                let polling = self.election.is_polling();
                let role = if polling { Role::Polling } else { Role::Follower };
                let leader = self.election.leader();
                (role, leader.map(|ballot| ballot.node), leader, Vec::new())
            }
        };
        Status {
            id: self.config.id,
            role,
            leader,
            ballot: ballot.unwrap_or(self.acceptor.promised()),
            chosen: self.learner.chosen().slot,
            applied: self.learner.applied(),
            highest_accepted: self.acceptor.log().highest(),
            outstanding: self.requests.len(),
            queued: self.queue.len(),
            peers,
        }
    }
}
