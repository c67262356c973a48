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
//! | `announcer` | who is told when that a slot is chosen |
//! | `learner` | what is chosen, and in-order delivery |
//! | `election` | polling before a ballot |
//! | `followers` | the leader's rounds of heartbeats, and stepping down |
//! | `reader` | linearizable reads |
//! | `catchup` | pulling missed slots |
//! | `origin`, `window` | this node's own commands, from the proposal to the answer |
//! | `sessions` | at most once |
//! | `membership` | whose votes count for a slot |
//! | `outbox`, `held` | nothing leaves before the disk that must not |
//! | `backlog` | when the disk has too much to do |

mod acceptor;
mod announcer;
mod backlog;
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
mod log_reads;
mod membership;
mod origin;
mod outbox;
mod proposer;
mod queue;
mod ranges;
mod reader;
mod recovery;
mod route;
mod sessions;
mod slots;
mod status;
mod tally;
#[cfg(test)]
mod tests;
mod window;

pub use effect::{
    Delivery, Effects, Halt, Input, LogRead, LogReadId, Outcome, Proposal, Refusal, Verdict,
    Verdicts, WriteId,
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
    log_reads::{LogReads, Purpose},
    membership::Memberships,
    origin::{Origin, Target},
    outbox::Outbox,
    proposer::Leading,
    queue::Queue,
    reader::{LeaderView, Reader},
    recovery::Preparing,
    sessions::SessionTable,
};
use crate::{
    config::{Config, ConfigError},
    limits,
    planted::planted,
    port::Recovered,
    types::{Ballot, ClientId, Instant, Value, earliest},
};

/// One replica: acceptor, learner, and at times proposer.
///
/// - **Inputs**: [`step`](Replica::step), [`step_all`](Replica::step_all).
/// - **Effects**: what those return; the driver carries them out. [`answers`](Replica::answers) has
///   what has become of proposals meanwhile.
/// - **Deadline**: [`next_deadline`](Replica::next_deadline) says when to come back.
/// - **Getters**: [`status`](Replica::status), [`client`](Replica::client).
///
/// A clone is for whoever explores what might happen next, such as a model checker. Two clones must
/// never speak for one node.
///
/// `W` is whatever waits for a proposal: the replica keeps it and gives it back with the outcome.
#[derive(Clone, Debug)]
pub struct Replica<W> {
    config: Config,
    memberships: Memberships,
    rng: fastrand::Rng,
    /// Numbers polls and requests to peers: never reused, not even after a restart.
    numbers: u64,
    out: Outbox,
    acceptor: Acceptor,
    learner: Learner,
    election: Election,
    proposing: Proposing,
    queue: Queue,
    origin: Origin<W>,
    reader: Reader,
    catchup: Catchup,
    log_reads: LogReads,
    disk_full: bool,
    /// Something has come in from which more may follow than answers.
    stirred: bool,
    /// The earliest deadline.
    due: Option<Instant>,
}

/// What the proposer is doing.
#[derive(Clone, Debug)]
enum Proposing {
    Not,
    Preparing(Preparing),
    Leading(Box<Leading>, Followers),
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

impl<W> Replica<W> {
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
    ) -> Result<Replica<W>, ReplicaError> {
        config.check()?;
        let sessions = SessionTable::restore(&recovered.sessions, &config.membership)?;
        let memberships = Memberships::new(config.membership.clone());
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut out = Outbox::new(config.id, recovered.chosen, config.backlog_bytes_max);
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
        let client = ClientId { name: config.id.0, epoch: recovered.incarnation };
        let mut replica = Replica {
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
            origin: Origin::new(client),
            reader: Reader::default(),
            catchup: Catchup::default(),
            log_reads: LogReads::default(),
            disk_full: false,
            stirred: true,
            due: None,
        };
        replica.due = replica.earliest_deadline();
        Ok(replica)
    }

    /// The client under whose name this node numbers its own requests in this life.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.origin.client()
    }

    /// What has become of proposals since this was asked last, each once: those that were refused,
    /// applied, or whose deadline has passed.
    pub fn answers(&mut self) -> std::vec::Drain<'_, (W, Outcome)> {
        self.origin.answers()
    }

    /// Takes in one input.
    pub fn step(&mut self, now: Instant, input: Input<W>) -> Effects {
        self.step_all(now, [input])
    }

    /// Takes in what has gathered, then cuts batches: the more inputs at once, the larger.
    pub fn step_all(
        &mut self,
        now: Instant,
        inputs: impl IntoIterator<Item = Input<W>>,
    ) -> Effects {
        let mut effects = Effects::default();
        self.step_into(now, inputs, &mut effects);
        effects
    }

    /// As [`step_all`](Replica::step_all), into lists that have been used before: whatever is left in
    /// them is gone, their room is used again.
    pub fn step_into(
        &mut self,
        now: Instant,
        inputs: impl IntoIterator<Item = Input<W>>,
        effects: &mut Effects,
    ) {
        for input in inputs {
            self.take_in(now, input);
            self.hear_itself(now);
        }
        if self.stirred || self.due.is_some_and(|due| due <= now) {
            self.tick(now);
            self.progress(now);
            while self.hear_itself(now) {
                self.progress(now);
            }
            self.announce(now);
            self.stirred = false;
            self.due = self.earliest_deadline();
        }
        self.out.finish(self.learner.chosen(), now, effects);
    }

    /// Takes in one input, and whether anything may follow from it but answers.
    fn take_in(&mut self, now: Instant, input: Input<W>) {
        match input {
            Input::Message { from, message } => {
                if from != self.config.id && self.memberships.is_voter(from) {
                    self.on_message(now, from, message);
                }
                return;
            }
            Input::Persisted(id) => {
                let has_caught_up = self.out.on_persisted(id, now);
                self.stirred |= has_caught_up || self.catchup.is_flowing();
                return;
            }
            Input::Applied { slot, durable } => {
                self.origin.on_applied(slot);
                self.learner.on_applied(slot);
                if self.out.admit()
                    && let Some(checkpoint) = self.learner.take_checkpoint(slot, durable)
                {
                    self.out.persist_sessions(checkpoint);
                }
                self.stirred |= self.learner.delivered() < self.learner.chosen().slot;
                return;
            }
            Input::Propose(proposal) if self.disk_full => {
                self.origin.refuse(proposal.waiter, Refusal::DiskFull);
            }
            Input::Propose(proposal) if self.out.backlog().is_behind() => {
                self.origin.refuse(proposal.waiter, Refusal::Busy);
            }
            Input::Propose(proposal) => self.origin.propose(proposal, &self.config),
            Input::Read { number } => {
                if !self.reader.read(number) {
                    self.out.effects().reads_refused.push(number);
                }
            }
            Input::GiveUpRead { number } => self.reader.give_up(number),
            Input::LogRead { id, records } => self.on_log_read(id, records),
            Input::DiskFull(full) => {
                self.disk_full = full;
                if full {
                    self.step_down(now);
                }
            }
            Input::Tick => {}
        }
        self.stirred = true;
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
        self.origin.expire(now);
        let (can_write, takes_work) =
            (self.can_write(now), self.is_behind_at_most(limits::DISK_BEHIND_TIMEOUTS + 1, now));
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
                if followers.is_quorum_lost(cx) || followers.cannot_write(can_write, takes_work, cx)
                {
                    self.step_down(now);
                    return;
                }
                leading.tick(&self.learner, cx);
                if followers.next_beat() <= now {
                    leading.beat(followers, &self.learner, cx);
                }
            }
        }
    }

    /// Whether this node can make anything durable, as far as it knows.
    fn can_write(&self, now: Instant) -> bool {
        let patience = limits::DISK_SILENT_TIMEOUTS * self.config.election_timeout;
        !self.disk_full
            && self.out.disk_silent_for(now) < patience
            && self.is_behind_at_most(limits::DISK_BEHIND_TIMEOUTS, now)
    }

    /// Whether its disk's backlog has kept this node from work for less than so many election timeouts.
    fn is_behind_at_most(&self, timeouts: u32, now: Instant) -> bool {
        self.out.backlog().behind_for(now) < timeouts * self.config.election_timeout
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
        self.advance(now);
        self.deliver();
        let target = self.target();
        let cx = &mut surroundings!(self, now);
        self.origin.dispatch(target, self.learner.sessions(), &mut self.queue, cx);
        if let Proposing::Leading(leading, _) = &mut self.proposing {
            leading.propose(&mut self.acceptor, &self.learner, &mut self.queue, cx);
        }
        if !self.reader.is_idle() {
            self.read(now, target);
        }
        let cx = &mut surroundings!(self, now);
        if !self.disk_full && !cx.out.backlog().is_behind() {
            self.catchup.pull(&self.learner, &self.acceptor, &mut self.numbers, cx);
        }
        let persisted = cx.out.persisted();
        let chosen = self.learner.chosen().slot;
        self.acceptor.log_mut().evict(chosen, persisted, self.config.cache_bytes_max);
    }

    /// Sends reads on their way, and goes on with those that have come back.
    fn read(&mut self, now: Instant, target: Option<Target>) {
        let client = self.client();
        let cx = &mut surroundings!(self, now);
        let leader = match &self.proposing {
            Proposing::Leading(leading, followers) => {
                Some(LeaderView::of(leading, followers, &self.learner))
            }
            _ => None,
        };
        self.reader.dispatch(target, leader, client, &mut self.numbers, cx);
        if let Proposing::Leading(leading, followers) = &mut self.proposing {
            self.reader.confirm(leading, followers, &self.learner, cx);
        }
        let ready = self.reader.take_ready(self.learner.delivered());
        cx.out.effects().reads_ready.extend(ready);
    }

    /// Takes note of what has been chosen.
    fn advance(&mut self, now: Instant) {
        let before = self.learner.chosen().slot;
        let halt = self.learner.advance(&self.acceptor);
        self.out.halt(halt);
        if let Proposing::Leading(leading, _) = &mut self.proposing {
            for slot in before.next().through(self.learner.chosen().slot) {
                if let Some((_, Value::Batch(batch))) = self.acceptor.log().get(slot) {
                    leading.announcer().on_chosen(batch, &surroundings!(self, now));
                }
            }
        }
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
            self.origin.on_delivered(delivery.slot, batch, &delivery.verdicts);
            self.queue.on_delivered(batch);
        }
        self.out.effects().deliver.push(delivery);
    }

    /// Tells the peers what has been chosen, unless an Accept of this step says so anyway.
    fn announce(&mut self, now: Instant) {
        let cx = &mut surroundings!(self, now);
        if let Proposing::Leading(leading, _) = &mut self.proposing {
            let ballot = leading.ballot();
            leading.announcer().announce(ballot, self.learner.chosen(), cx);
        }
    }

    /// When the replica wants its next [`Input::Tick`], if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    fn earliest_deadline(&self) -> Option<Instant> {
        let config = &self.config;
        let proposing = match &self.proposing {
            Proposing::Not if self.disk_full => None,
            Proposing::Not => Some(self.election.next_deadline()),
            Proposing::Preparing(preparing) => Some(preparing.next_deadline()),
            Proposing::Leading(leading, followers) => {
                earliest([followers.next_deadline(), leading.next_deadline()])
            }
        };
        let pulls = !self.disk_full && !self.out.backlog().is_behind();
        let catchup = if pulls { self.catchup.next_deadline(config) } else { None };
        let origin = self.origin.next_deadline(config);
        let reader = self.reader.next_deadline(config);
        earliest([proposing, catchup, origin, reader])
    }
}
