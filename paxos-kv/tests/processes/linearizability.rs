//! Whether a history is linearizable, by what clients were told of keys and values alone.
//!
//! The revisions that [`witness`](super::witness) relies on come from the servers. The search of
//! [`paxos_core::sim::linearizability`] does without them: for each group of keys it looks for an
//! order of the requests that agrees with real time and with every answer.

use std::{collections::BTreeMap, marker::PhantomData};

use paxos_core::sim::linearizability::{Call, Finding, Model, check_apart};

use super::history::{Answer, Operation, Outcome, Request};

/// Steps after which a search is given up, with an error: no verdict is no proof.
const STEPS_MAX: u64 = 4_000_000;

/// What the keys of a group hold.
type State<'a> = BTreeMap<&'a str, &'a str>;

/// The keys of a group.
struct Keys<'a>(PhantomData<&'a Request>);

/// The group of a key.
pub(crate) fn group(key: &str) -> Option<u64> {
    key.strip_prefix('g')?.split('/').next()?.parse().ok()
}

/// The group of the keys that a request concerns; none by compaction.
pub(crate) fn group_of(request: &Request) -> Option<u64> {
    match request {
        Request::Put { key, .. }
        | Request::Get { key, .. }
        | Request::CompareAndSwap { key, .. }
        | Request::Delete { key }
        | Request::Move { from: key, .. } => group(key),
        Request::Range { group } => Some(*group),
        Request::Compact { .. } => None,
    }
}

/// Searches an order for each group.
///
/// # Errors
///
/// A group without one, or one whose search takes too long.
pub(crate) fn check(history: &[Operation]) -> Result<(), String> {
    let calls = history.iter().filter_map(call).collect();
    let group = |request: &&Request| group_of(request);
    check_apart(&Keys(PhantomData), calls, group, STEPS_MAX).map_err(|unexplained| {
        let group = unexplained.object.unwrap_or_default();
        match unexplained.finding {
            Finding::Broken(stuck) => {
                let call = &unexplained.calls[stuck.call];
                format!("group {group} is not linearizable, at the latest from here on: {call:?}")
            }
            Finding::Unknown | Finding::Linearizable => {
                format!("group {group}: no verdict after {STEPS_MAX} steps")
            }
        }
    })
}

/// A request, if it says anything of the keys of a group.
fn call(operation: &Operation) -> Option<Call<&Request, &Answer>> {
    let request = &operation.request;
    group_of(request)?;
    let (ended, outcome) = match &operation.outcome {
        Outcome::Answered(_) if request.is_serializable() => return None,
        Outcome::Answered(answer) => (Some(operation.ended), Some(answer)),
        Outcome::Failed(_) => return None,
        Outcome::Unknown(_) if request.changes_nothing() => return None,
        Outcome::Unknown(_) => (None, None),
    };
    Some(Call { operation: request, began: operation.began, ended, outcome })
}

impl<'a> Model for Keys<'a> {
    type State = State<'a>;
    type Operation = &'a Request;
    type Outcome = &'a Answer;

    fn start(&self) -> State<'a> {
        State::new()
    }

    fn step(
        &self,
        state: &State<'a>,
        request: &&'a Request,
        answer: Option<&&'a Answer>,
    ) -> Option<State<'a>> {
        step(state, request, answer.copied())
    }

    fn is_read(&self, request: &&'a Request, _: Option<&&'a Answer>) -> bool {
        request.changes_nothing()
    }
}

/// What the keys hold after a request, unless it had another answer than it was given.
fn step<'a>(state: &State<'a>, request: &'a Request, answer: Option<&Answer>) -> Option<State<'a>> {
    let mut after = state.clone();
    let fits = |right: &dyn Fn(&Answer) -> bool| answer.is_none_or(right);
    let holds = |key: &str, answer: &Answer| {
        let found = answer.found.iter().find(|found| found.key == key);
        found.map(|found| found.value.as_str()) == state.get(key).copied()
    };
    let right = match request {
        Request::Put { key, value } => {
            after.insert(key, value);
            true
        }
        Request::Get { key, .. } => fits(&|answer| holds(key, answer)),
        Request::Range { .. } => fits(&|answer| {
            answer.found.len() == state.len() && state.keys().all(|key| holds(key, answer))
        }),
        Request::Delete { key } => {
            let deleted = i64::from(after.remove(key.as_str()).is_some());
            fits(&|answer| answer.deleted == deleted)
        }
        Request::CompareAndSwap { key, expected, value } => {
            let succeeds = state.get(key.as_str()).copied() == expected.as_deref();
            if succeeds {
                after.insert(key, value);
            }
            fits(&|answer| answer.succeeded == succeeds && (succeeds || holds(key, answer)))
        }
        Request::Move { from, to, value } => {
            let succeeds = after.remove(from.as_str()).is_some();
            after.insert(if succeeds { to } else { from }, value);
            fits(&|answer| answer.succeeded == succeeds)
        }
        Request::Compact { .. } => true,
    };
    right.then_some(after)
}
