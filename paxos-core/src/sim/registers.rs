//! The application of a simulation that brings none of its own: a few registers, written and read
//! in such a way that answers betray the order of everything.
//!
//! A write answers with what it replaces, so that it names the one before it; at times the client does
//! not mind, or never hears of it. Reads see one register. What the clients have seen is held against one register
//! that does one thing at a time ([`linearizability`](super::linearizability)).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    application::{Answer, Application, Calls, Guest, Question},
    linearizability::{self, Call, Finding, Model, Unexplained},
};
use crate::types::Slot;

const REGISTERS: u8 = 5;

/// Steps of the search for each register with nothing but what clients know.
const STEPS_ALONE_MAX: u64 = 20_000;

/// Steps of the search with the help of the machines: far more than any run has needed.
const STEPS_MAX: u64 = 1_000_000;

/// What a register holds. No value is written twice.
type Held = Option<u64>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Command {
    register: u8,
    value: u64,
    /// Whether the client minds what was replaced.
    swaps: bool,
    padding: Bytes,
}

/// The registers of one node.
#[derive(Debug, Default)]
pub(super) struct Registers {
    held: BTreeMap<u8, u64>,
}

fn register_of(question: u64) -> u8 {
    u8::try_from(question % u64::from(REGISTERS)).expect("below the number of registers")
}

fn encoded(value: &impl Serialize) -> Bytes {
    postcard::to_stdvec(value).expect("plain data").into()
}

fn decoded<T: DeserializeOwned>(bytes: &Bytes) -> T {
    postcard::from_bytes(bytes).expect("encoded by this module")
}

impl Application for Registers {
    fn start(&self) -> Box<dyn Guest> {
        Box::new(Registers::default())
    }

    fn command(&self, rng: &mut fastrand::Rng, bytes_max: usize, _: Option<&Answer>) -> Bytes {
        let command = Command {
            register: rng.u8(..REGISTERS),
            value: rng.u64(..),
            swaps: rng.u8(..16) > 0,
            padding: vec![0; rng.usize(..bytes_max)].into(),
        };
        encoded(&command)
    }

    fn judge(&self, calls: &Calls) -> Result<(), String> {
        // What clients know is enough, but for runs in which so many answers were lost that too many
        // orders are possible. Then the machines' own answers stand in for those. Where clients
        // know enough to tell that something is wrong, nothing excuses it.
        match judge(calls, Knowing::Clients, STEPS_ALONE_MAX) {
            Err(Doubt::Open(_)) => judge(calls, Knowing::Machines, STEPS_MAX),
            judged => judged,
        }
        .map_err(|(Doubt::Broken(what) | Doubt::Open(what))| what)
    }
}

/// Why a history does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doubt {
    /// Nothing explains it.
    Broken(String),
    /// It takes too long to tell.
    Open(String),
}

/// Whose answers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowing {
    /// Those that clients have heard.
    Clients,
    /// And where they have heard none, those that the machines gave.
    Machines,
}

fn judge(calls: &Calls, knowing: Knowing, steps_max: u64) -> Result<(), Doubt> {
    let calls = settled(calls.iter().filter_map(|call| operation(call, knowing)).collect());
    let register = |operation: &Operation| operation.register;
    let checked = linearizability::check_apart(&Register::of(&calls), calls, register, steps_max);
    let Err(Unexplained { object: register, calls, finding }) = checked else { return Ok(()) };
    match finding {
        Finding::Broken(stuck) => {
            let last = stuck.placed.iter().rev().take(3).rev();
            let last: Vec<_> = last.map(|&placed| &calls[placed]).collect();
            let stuck_at = &calls[stuck.call];
            let what = format!("register {register}: nothing explains {stuck_at:?} after {last:?}");
            Err(Doubt::Broken(what))
        }
        Finding::Unknown | Finding::Linearizable => {
            let what = format!("register {register}: too much to search in {} calls", calls.len());
            Err(Doubt::Open(what))
        }
    }
}

impl Guest for Registers {
    fn apply(&mut self, _: Slot, commands: Vec<Bytes>) -> Vec<Answer> {
        let apply = |command: &Bytes| {
            let Command { register, value, .. } = decoded(command);
            Answer::from(encoded(&self.held.insert(register, value)))
        };
        commands.iter().map(apply).collect()
    }

    fn read(&self, question: u64) -> Answer {
        encoded(&self.held.get(&register_of(question)).copied()).into()
    }

    fn snapshot(&self) -> Bytes {
        encoded(&self.held)
    }

    fn restore(&mut self, _: Slot, snapshot: Bytes) {
        self.held = decoded(&snapshot);
    }

    fn digest(&self) -> u64 {
        self.held.iter().fold(0, |digest, (register, value)| {
            xxh3_64_with_seed(&value.to_le_bytes(), digest ^ u64::from(*register))
        })
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Operation {
    register: u8,
    /// `None` to read.
    writes: Option<u64>,
}

/// One register, as its clients should see it. An outcome is what was found there.
struct Register {
    /// By value: the one that replaced it, if somebody has found it when he did. Because no value is
    /// written twice, no other write can come between; to say so keeps the search short.
    replaced_by: BTreeMap<u64, u64>,
}

impl Register {
    fn of(calls: &[RegisterCall]) -> Register {
        let replaced_by = |call: &RegisterCall| Some((call.outcome??, call.operation.writes?));
        Register { replaced_by: calls.iter().filter_map(replaced_by).collect() }
    }
}

impl Model for Register {
    type State = Held;
    type Operation = Operation;
    type Outcome = Held;

    fn start(&self) -> Held {
        None
    }

    fn step(&self, held: &Held, operation: &Operation, found: Option<&Held>) -> Option<Held> {
        let writes = operation.writes;
        let replaced_by = held.and_then(|held| self.replaced_by.get(&held));
        let may_write = writes.is_none() || replaced_by.is_none() || replaced_by == writes.as_ref();
        let may_find = found.is_none_or(|found| found == held);
        (may_write && may_find).then_some(writes.or(*held))
    }

    fn is_read(&self, operation: &Operation, _: Option<&Held>) -> bool {
        operation.writes.is_none()
    }
}

type RegisterCall = Call<Operation, Held>;

fn operation(call: &super::application::Call, knowing: Knowing) -> Option<RegisterCall> {
    let (began, ended) = call.times();
    let answer = call.answer();
    match &call.question {
        Question::Command(command) => {
            let Command { register, value, swaps, .. } = decoded(command);
            let operation = Operation { register, writes: Some(value) };
            let outcome = match knowing {
                Knowing::Clients => answer.filter(|_| swaps),
                Knowing::Machines => answer.or(call.effect.as_ref()),
            };
            let outcome = outcome.map(|answer| decoded(&answer.bytes));
            Some(Call { operation, began, ended, outcome })
        }
        Question::Read(question) => {
            let operation = Operation { register: register_of(*question), writes: None };
            let outcome = Some(decoded(&answer?.bytes));
            Some(Call { operation, began, ended, outcome })
        }
    }
}

/// Settles most of what is unknown, which would make the search long. A write that nobody has found
/// might as well never have happened, since no call depends on another but by what it finds; one
/// that somebody has found took place before that one ended.
fn settled(mut calls: Vec<RegisterCall>) -> Vec<RegisterCall> {
    let mut is_settled = false;
    while !is_settled {
        is_settled = true;
        let mut found: BTreeMap<u64, u64> = BTreeMap::new();
        for call in &calls {
            if let (Some(Some(value)), Some(ended)) = (call.outcome, call.ended) {
                let first = found.entry(value).or_insert(ended);
                *first = ended.min(*first);
            }
        }
        for call in &mut calls {
            let first_found = call.operation.writes.and_then(|value| found.get(&value));
            let ended = call.ended.into_iter().chain(first_found.copied()).min();
            is_settled &= call.ended == ended;
            call.ended = ended;
        }
    }
    let written: BTreeSet<_> = calls.iter().filter_map(|call| call.operation.writes).collect();
    debug_assert_eq!(
        written.len(),
        calls.iter().filter(|call| call.operation.writes.is_some()).count(),
        "no value is written twice"
    );
    calls.retain(|call| call.ended.is_some());
    calls
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::{ClientId, RequestId};

    fn call(
        writes: Option<u64>,
        began: u64,
        ended: Option<u64>,
        found: Option<Held>,
    ) -> RegisterCall {
        Call { operation: Operation { register: 0, writes }, began, ended, outcome: found }
    }

    fn is_linearizable(calls: Vec<RegisterCall>) -> bool {
        let calls = settled(calls);
        let finding = linearizability::check(&Register::of(&calls), &calls, STEPS_MAX);
        finding == Finding::Linearizable
    }

    #[test]
    fn a_write_without_an_answer_counts_if_it_was_found() {
        let lost = call(Some(1), 0, None, None);
        let found = call(None, 5, Some(6), Some(Some(1)));
        let nothing = |began| call(None, began, Some(began + 1), Some(None));
        assert!(is_linearizable(vec![lost.clone(), nothing(3), found.clone()]));
        assert!(is_linearizable(vec![lost.clone(), nothing(3)]));
        assert!(!is_linearizable(vec![lost, found, nothing(7)]));
    }

    #[test]
    fn a_swap_names_the_write_before_it() {
        let first = call(Some(1), 0, Some(1), Some(None));
        let second = |found| call(Some(2), 2, Some(3), Some(found));
        assert!(is_linearizable(vec![first.clone(), second(Some(1))]));
        assert!(!is_linearizable(vec![first, second(None)]), "the first write is lost");
    }

    #[test]
    fn what_a_client_was_told_counts_whatever_the_machines_did() {
        let judged = |told: Held, did: Held| {
            let mut calls = Calls::default();
            for (sequence, told, did) in [(1, None, None), (2, told, did)] {
                let client = ClientId { name: 1, epoch: 1 };
                let id = RequestId { client, sequence };
                let command =
                    Command { register: 0, value: sequence, swaps: true, padding: Bytes::new() };
                let began = Duration::from_nanos(2 * sequence);
                calls.proposed(began, id, &encoded(&command));
                calls.took_effect(id, &encoded(&did).into());
                calls.applied(began + Duration::from_nanos(1), id, Some(encoded(&told).into()));
            }
            Registers::default().judge(&calls)
        };
        assert_eq!(judged(Some(1), Some(1)), Ok(()));
        let told_wrong = judged(None, Some(1));
        assert!(told_wrong.is_err_and(|what| what.contains("nothing explains")));
    }
}
