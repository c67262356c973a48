//! Simulations of a state machine, the embedder's or one of our own.

use std::{
    any::Any,
    fmt,
    io::{Cursor, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    application::{self, Answer, Application, Calls, Guest, Question},
    check::{Check, Violation},
    fault::{Fault, Restriction, Strike},
    linearizability::Call,
    occurrence::{Occurrence, Occurrences},
    registers::Registers,
    trace::Sink,
    world::World,
};
use crate::{
    port::{Codec, Snapshot, StateMachine},
    types::Slot,
};

/// A state machine that can be simulated: its commands are drawn at random, and its states and
/// answers compared.
pub trait Simulated: StateMachine<Response: fmt::Debug> + Sized {
    /// A command that some client proposes.
    fn command(rng: &mut fastrand::Rng) -> Self::Command;

    /// A command that some client proposes, when the last answer that any client has heard is
    /// `heard`: for those that build on what was seen, as a compare-and-swap does.
    fn command_after(rng: &mut fastrand::Rng, heard: &Self::Response) -> Self::Command {
        let _ = heard;
        Self::command(rng)
    }

    /// What a read finds. The question is any number; it may stand for a key, for example. With
    /// `None`, the default, nobody looks at what is read.
    fn read(&self, question: u64) -> Option<Self::Response> {
        let _ = question;
        None
    }

    /// Whether one machine can have answered so, at the end of a run: all that clients have seen,
    /// with times in nanoseconds, in no order. A call that has not ended may have had effect or
    /// not; a command that has ended had effect, though its answer may have got lost. Commands that
    /// were refused are left out, as they must have no effect; so are reads without an answer. What
    /// to do with it: see [`linearizability`](super::linearizability).
    ///
    /// # Errors
    ///
    /// If it cannot; the text says why.
    fn judge(calls: Vec<Call<Question<Self::Command>, &Self::Response>>) -> Result<(), String> {
        let _ = calls;
        Ok(())
    }

    /// A hash of all of the state, whatever it takes. Replicas that have applied the same slots must have equal
    /// ones, and equal [`digest`](StateMachine::digest)s.
    fn fingerprint(&self) -> u64;

    /// Whether the state is one that may be, looked at after every slot.
    ///
    /// # Errors
    ///
    /// If it is not; the text says why.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Runs clusters of a state machine in virtual time, under faults. Each seed is another cluster,
/// with other clients and other faults.
#[derive(Clone)]
pub struct Simulation {
    application: Arc<dyn Application>,
    restriction: Restriction,
}

impl Default for Simulation {
    /// Of a few registers, whose clients' histories are checked for linearizability.
    fn default() -> Simulation {
        Simulation {
            application: Arc::new(Registers::default()),
            restriction: Restriction::default(),
        }
    }
}

impl Simulation {
    /// Of the machine that `start` makes, in its first state. After a crash a new one takes over the last
    /// [`snapshot`](StateMachine::snapshot) and takes in the same commands again, or those up to which its
    /// state is taken to be on disk; what the machine itself says of its
    /// [`durable`](StateMachine::durable) slot is not asked for.
    pub fn of<M: Simulated>(start: impl Fn() -> M + Send + Sync + 'static) -> Simulation {
        let application = Arc::new(Embedded(start));
        Simulation { application, restriction: Restriction::default() }
    }

    /// Leaves out what the restriction says.
    #[must_use]
    pub fn restricted(self, restriction: Restriction) -> Simulation {
        Simulation { restriction, ..self }
    }

    /// Runs what `seed` decides.
    ///
    /// # Errors
    ///
    /// If a check fails.
    pub fn run(&self, seed: u64) -> Result<Report, Failure> {
        self.simulate(seed, None)
    }

    /// Runs what `seed` decides and hands every line of its transcript to `sink`.
    ///
    /// # Errors
    ///
    /// If a check fails.
    pub fn replay(&self, seed: u64, mut sink: impl FnMut(&str)) -> Result<Report, Failure> {
        self.simulate(seed, Some(&mut sink))
    }

    fn simulate(&self, seed: u64, sink: Option<Sink<'_>>) -> Result<Report, Failure> {
        let mut world = World::new(seed, &self.restriction, Arc::clone(&self.application), sink);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            world.safety_phase()?;
            world.liveness_phase()
        }));
        let Violation { check, what } = match outcome {
            Ok(Ok(recovery)) => {
                return Ok(Report {
                    trace_hash: world.trace.hash(),
                    ending: world.plan.ending.occurrence(),
                    first_progress: recovery.first,
                    election_timeout: world.plan.election_timeout(),
                    recovery_timeouts: recovery.idle_timeouts,
                    slots: world.ledger.prefix().0,
                    calls: world.calls.iter().count() as u64,
                    elapsed: world.now,
                    faults: Fault::ALL
                        .iter()
                        .copied()
                        .filter(|&fault| world.plan.has(fault))
                        .collect(),
                    strikes: world.strikes.done,
                    occurrences: world.seen,
                });
            }
            Ok(Err(violation)) => violation,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.into()));
                let what = text.unwrap_or_else(|| "a panic without a message".to_owned());
                Violation::of(Check::Assertion, what)
            }
        };
        let restriction = self.restriction.clone();
        Err(Failure {
            seed,
            restriction,
            at: world.now,
            check,
            what,
            strikes: world.strikes.done.into(),
        })
    }

    /// The restriction of this simulation.
    pub(super) fn restriction(&self) -> &Restriction {
        &self.restriction
    }
}

/// What a run without a failure tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// A hash of everything that happened, in order.
    pub trace_hash: u64,
    /// The kinds of faults that could occur.
    pub faults: Vec<Fault>,
    /// What happened how often.
    pub occurrences: Occurrences,
    /// Which of the endings it had: what was wrong for good when the faults ended.
    pub ending: Occurrence,
    /// Virtual time from the end of the faults until something new was chosen.
    pub first_progress: Duration,
    /// The election timeout of the cluster.
    pub election_timeout: Duration,
    /// Election timeouts that went by without progress once the faults had ended, until everything
    /// was done.
    pub recovery_timeouts: u32,
    /// The faults that struck at a moment.
    pub strikes: Vec<Strike>,
    /// Slots chosen.
    pub slots: u64,
    /// Commands and reads of clients, but for those refused.
    pub calls: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The seed that fails.
    pub seed: u64,
    /// What was left out.
    pub restriction: Restriction,
    /// Virtual time at which it failed.
    pub at: Duration,
    /// Which check.
    pub check: Check,
    /// What it found.
    pub what: String,
    /// The faults that had struck at a moment.
    pub strikes: Box<[Strike]>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, check, what, at, .. } = self;
        write!(f, "seed {seed} fails at {:.6} s ({check}): {what}", at.as_secs_f64())
    }
}

impl std::error::Error for Failure {}

/// An embedder's machine, as made by a function.
struct Embedded<F>(F);

impl<M: Simulated, F: Fn() -> M + Send + Sync> Application for Embedded<F> {
    fn start(&self) -> Box<dyn Guest> {
        Box::new(EmbeddedGuest((self.0)()))
    }

    fn command(&self, rng: &mut fastrand::Rng, _: usize, heard: Option<&Answer>) -> Bytes {
        let command = match heard.and_then(response::<M>) {
            Some(heard) => M::command_after(rng, heard),
            None => M::command(rng),
        };
        command.into_bytes().expect("a command that can be proposed")
    }

    fn judge(&self, calls: &Calls) -> Result<(), String> {
        M::judge(calls.iter().filter_map(seen::<M>).collect())
    }
}

fn command<M: Simulated>(bytes: Bytes) -> M::Command {
    M::Command::decode(&bytes).expect("a command it has encoded itself")
}

fn response<M: Simulated>(answer: &Answer) -> Option<&M::Response> {
    answer.response.as_ref()?.downcast_ref()
}

/// A call, if it tells anything, in the embedder's own types.
fn seen<M: Simulated>(
    call: &application::Call,
) -> Option<Call<Question<M::Command>, &M::Response>> {
    let (began, ended) = call.times();
    let outcome = call.answer().and_then(response::<M>);
    let operation = match &call.question {
        Question::Command(bytes) => Question::Command(command::<M>(bytes.clone())),
        Question::Read(question) => outcome.map(|_| Question::Read(*question))?,
    };
    Some(Call { operation, began, ended, outcome })
}

struct EmbeddedGuest<M>(M);

impl<M: Simulated> Guest for EmbeddedGuest<M> {
    fn apply(&mut self, slot: Slot, commands: Vec<Bytes>) -> Vec<Answer> {
        let responses = self.0.apply(slot, commands.into_iter().map(command::<M>).collect());
        let answer = |response: M::Response| Answer {
            bytes: format!("{response:?}").into(),
            response: Some(Rc::new(response)),
        };
        responses.into_iter().map(answer).collect()
    }

    fn read(&self, question: u64) -> Answer {
        let response = self.0.read(question);
        Answer { bytes: Bytes::new(), response: response.map(|it| Rc::new(it) as Rc<dyn Any>) }
    }

    fn snapshot(&self) -> Bytes {
        let mut bytes = Vec::new();
        let read = self.0.snapshot().into_reader();
        let read = read.and_then(|mut reader| reader.read_to_end(&mut bytes));
        read.expect("a snapshot can be read");
        bytes.into()
    }

    fn restore(&mut self, slot: Slot, snapshot: Bytes) {
        let snapshot = M::Snapshot::from_reader(Box::new(Cursor::new(snapshot)));
        let restored = snapshot.and_then(|snapshot| self.0.restore(slot, snapshot));
        restored.expect("a state machine takes back what it has given");
    }

    fn digest(&self) -> u64 {
        self.0.fingerprint() ^ self.0.digest().unwrap_or_default().rotate_left(1)
    }

    fn check(&self) -> Result<(), String> {
        self.0.check()
    }
}
