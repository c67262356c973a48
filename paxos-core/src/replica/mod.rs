//! The protocol without I/O: inputs in, effects out.
//!
//! A [`Replica`] is a deterministic state machine. Time is an argument, randomness a seed, and the
//! same inputs give the same [`Effects`] on every machine. This module routes between the roles and
//! holds no rule of its own:
//!
//! | file | rule |
//! |---|---|
//! | `acceptor` | promises and votes, durable before they leave |
//! | `recovery` | phase 1: what a new leader may propose |
//! | `proposer` | phase 2: slots, the window, votes |
//! | `queue` | adaptive batching |
//! | `announcer` | who gets the chosen watermark, and when |
//! | `learner` | what is chosen, and in-order delivery |
//! | `election`, `leadership` | polling before a ballot; beginning and ending to lead |
//! | `silence` | how long a leader may be silent |
//! | `candidacy` | how much time a candidacy is given |
//! | `followers` | the leader's rounds of heartbeats, and stepping down |
//! | `unreached` | when commands do not reach the leader, and others have them |
//! | `reader` | linearizable reads |
//! | `catchup`, `fetch` | pulling missed slots, or the state that they led to |
//! | `checkpoint` | what this node can start from instead of the log, and how far the log may go |
//! | `serving`, `state_reads` | states for peers, and the pieces that are being read of any |
//! | `divergence`, `digests` | whose log, or state, is another one than that of the others |
//! | `transfer` | what is said about a state on its way |
//! | `origin`, `window` | this node's own commands, from the proposal to the answer |
//! | `sessions` | at most once |
//! | `membership` | whose votes count for a slot |
//! | `changes` | changes of the membership, on their way into the log |
//! | `handover` | the leadership goes to another node, on request |
//! | `outbox`, `held` | nothing leaves before the disk that must not |
//! | `backlog`, `disk` | when the disk has too much to do; what a node leaves to others then |
//! | `route` | whose messages count, and which role each concerns |
//! | `progress` | when more follows than an answer, and in which order the roles get on |

mod acceptor;
mod announcer;
mod backlog;
mod candidacy;
mod catchup;
mod changes;
mod checkpoint;
mod context;
mod digests;
mod disk;
mod divergence;
mod effect;
mod election;
mod fetch;
mod followers;
#[cfg(test)]
mod fuzz;
mod handover;
mod held;
mod invariants;
mod joining;
mod leadership;
mod learner;
mod log;
mod log_reads;
mod membership;
mod origin;
mod outbox;
mod progress;
mod proposer;
mod queue;
mod ranges;
mod reader;
mod recovery;
mod route;
mod serving;
mod sessions;
mod silence;
mod slots;
mod state_reads;
mod status;
mod tally;
#[cfg(test)]
mod tests;
mod transfer;
mod unreached;
mod window;

pub use effect::{
    ChangeOutcome, ChangeRefusal, Delivery, Effects, Halt, Input, LogRead, LogReadId, Outcome,
    Proposal, Refusal, SnapshotId, StateRead, StateReadId, StateSource, Task, Verdict, Verdicts,
    WriteId,
};
pub use handover::{TransferOutcome, TransferRefusal};
pub use log::LogError;
pub(crate) use sessions::SessionTable;
pub use sessions::SessionsError;
pub use status::{FetchStatus, PeerStatus, Role, Status};

use self::{
    acceptor::Acceptor, catchup::Catchup, changes::Changes, checkpoint::Checkpoints,
    context::Context, digests::Digests, divergence::Doubt, election::Election,
    followers::Followers, handover::Handovers, joining::Joining, learner::Learner,
    log_reads::LogReads, membership::Memberships, origin::Origin, outbox::Outbox,
    proposer::Leading, queue::Queue, reader::Reader, recovery::Preparing, serving::Serving,
    state_reads::StateReads,
};
use crate::{
    config::{Config, ConfigError},
    planted::planted,
    port::Recovered,
    types::{ClientId, Instant, Slot},
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
    /// The last life of this node before the present one that its data directory knows of.
    last_incarnation: u64,
    /// Whether the log has commands of another one.
    is_older_copy: bool,
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
    checkpoints: Checkpoints,
    serving: Serving,
    changes: Changes,
    joining: Joining,
    handovers: Handovers,
    doubt: Option<Doubt>,
    digests: Digests,
    log_reads: LogReads,
    state_reads: StateReads,
    disk_full: bool,
    /// Something has come in from which more may follow than answers.
    more_follows: bool,
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
    /// The recovered memberships are malformed.
    #[error("the memberships in the log's database make no sense: replace this node")]
    Memberships,
    /// The recovered session table is malformed.
    #[error(transparent)]
    Sessions(#[from] SessionsError),
    /// The recovered log cannot have been written by a node.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state machine is behind the log's beginning, and the state that leads there is nowhere.
    #[error(
        "the state machine's state is as of slot {durable}, the log begins behind slot {checkpoint} and \
         has no state as of there: the state has been lost or belongs to another node; replace this node"
    )]
    StateMissing {
        /// The state machine's slot.
        durable: Slot,
        /// The checkpoint's.
        checkpoint: Slot,
    },
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
    /// Delivery starts behind the recovered checkpoint: slots that the state machine has applied already
    /// are delivered again, for the session table's sake, and are for the driver to pass over.
    /// `durable` is what [`StateMachine::durable`](crate::port::StateMachine::durable) says.
    ///
    /// # Errors
    ///
    /// If the settings contradict each other, the checkpoint does not decode, or there is no state for it.
    pub fn new(
        config: Config,
        mut recovered: Recovered,
        durable: Option<Slot>,
        now: Instant,
    ) -> Result<Replica<W>, ReplicaError> {
        config.check()?;
        recovered.floor = if planted!(FloorForgotten) { Slot::ZERO } else { recovered.floor };
        let checkpoints = Checkpoints::recovered(&recovered, durable)?;
        let memberships = Memberships::recovered(&recovered, &config)?;
        let sessions = SessionTable::restore(
            &recovered.checkpoint,
            memberships.newest_as_of(recovered.checkpoint.at.slot),
            config.sessions_bytes_max,
        )?;
        let mut rng = fastrand::Rng::with_seed(config.seed);
        let mut out = Outbox::new(&config, recovered.chosen);
        let mut cx = Context {
            now,
            config: &config,
            memberships: &memberships,
            out: &mut out,
            rng: &mut rng,
        };
        let acceptor = Acceptor::recovered(&mut recovered)?;
        let election = Election::begin(recovered.incarnation == 1, acceptor.promised(), &mut cx);
        let client = ClientId { name: config.id.0, epoch: recovered.incarnation };
        let delivered = recovered.checkpoint.at;
        let applied = delivered.slot.min(durable.unwrap_or_default());
        let learner = Learner::recovered(recovered.chosen, delivered, applied, sessions);
        let mut replica = Replica {
            config,
            memberships,
            rng,
            numbers: recovered.incarnation << 32,
            out,
            acceptor,
            learner,
            election,
            proposing: Proposing::Not,
            queue: Queue::default(),
            origin: Origin::new(client),
            reader: Reader::default(),
            catchup: Catchup::recovered(recovered.unfinished, recovered.chosen.slot),
            checkpoints,
            serving: Serving::default(),
            changes: Changes::default(),
            joining: Joining::default(),
            handovers: Handovers::default(),
            doubt: None,
            digests: Digests::default(),
            log_reads: LogReads::default(),
            state_reads: StateReads::default(),
            disk_full: false,
            more_follows: true,
            due: None,
            last_incarnation: recovered.last_incarnation,
            is_older_copy: false,
        };
        replica.notice_life_of_checkpoint();
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
            self.take_in_own(now);
        }
        self.go_on(now);
        self.out.finish(self.learner.chosen(), now, effects);
    }

    /// Each input to the role it concerns.
    fn take_in(&mut self, now: Instant, input: Input<W>) {
        self.more_follows |= progress::may_follow(&input);
        match input {
            Input::Message { from, message } => self.receive(now, from, message),
            Input::Lost(peer) => {
                self.election.on_lost(peer, &mut surroundings!(self, now));
                if let Proposing::Leading(_, followers) = &mut self.proposing {
                    followers.on_lost(peer);
                }
            }
            Input::Propose(proposal) => {
                let refuses_work = self.refuses_work();
                self.origin.propose(proposal, refuses_work, &self.config);
            }
            Input::Read { number, mode } => self.reader.read(number, mode, &mut self.out),
            Input::GiveUpRead { number } => self.reader.give_up(number),
            Input::Persisted(id) => self.on_persisted(now, id),
            Input::LogRead { id, records } => self.on_log_read(now, id, records),
            Input::StateRead { id, bytes } => self.on_state_read(now, id, bytes),
            Input::Applied { slot, durable } => self.on_applied(slot, durable),
            Input::Digested(digest) => self.on_digested(now, digest),
            Input::Change { number, change, deadline } => {
                self.on_change(now, number, change, deadline);
            }
            Input::Transfer { number, to, deadline } => {
                self.on_transfer(now, Some(number), to, deadline);
            }
            Input::DiskFull(is_full) => self.on_disk_full(now, is_full),
            Input::Tick => {}
        }
    }

    /// Whether its own commands without an answer leave little room for more.
    #[must_use]
    pub fn is_crowded(&self) -> bool {
        self.origin.is_crowded(&self.config)
    }

    /// Gives back the places of commands that nobody waits for any more. They may have effect all the same.
    pub fn let_go(&mut self, has_gone: impl Fn(&W) -> bool) {
        self.origin.let_go(has_gone);
    }

    /// When the replica wants its next [`Input::Tick`], if nothing else happens.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
    }
}
