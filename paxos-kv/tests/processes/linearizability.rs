//! Whether a history is linearizable, by what clients were told of keys and values alone.
//!
//! The revisions that [`check`](super::check) relies on come from the servers. This search does
//! without them: for each group of keys it looks for an order of the requests that agrees with
//! real time and with every answer (Wing & Gong 1993, with the memory of Lowe 2017). A request of
//! unknown outcome may stand anywhere after its beginning, or nowhere.

use std::collections::{BTreeMap, HashSet};

use super::history::{Answer, Operation, Outcome, Request};

/// Steps after which a search is given up, with an error: no verdict is no proof.
const STEPS_MAX: usize = 2_000_000;

/// What the keys of a group hold.
type State<'a> = BTreeMap<&'a str, &'a str>;

/// Searches an order for each group.
///
/// # Errors
///
/// A group without one, or one whose search takes too long.
pub(crate) fn check(history: &[Operation]) -> Result<(), String> {
    let mut groups: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        let no_effect = match operation.outcome {
            Outcome::Answered(_) => operation.request.is_serializable(),
            Outcome::Failed(_) => true,
            Outcome::Unknown(_) => operation.request.changes_nothing(),
        };
        if let Some(group) = operation.request.group()
            && !no_effect
        {
            groups.entry(group).or_default().push(operation);
        }
    }
    groups.into_iter().try_for_each(|(group, operations)| {
        search(operations).map_err(|reason| format!("group {group}: {reason}"))
    })
}

/// A point of the search: which requests have taken effect, what the keys hold now, and the next
/// request to try.
struct Point<'a> {
    done: Vec<bool>,
    state: State<'a>,
    next: usize,
}

fn search(mut operations: Vec<&Operation>) -> Result<(), String> {
    // What must come soon is tried first, what need not come at all last.
    operations.sort_by_key(|operation| end(operation));
    let mut met = HashSet::new();
    let mut steps = 0;
    let (mut deepest, mut stuck) = (0, None);
    let start = Point { done: vec![false; operations.len()], state: State::new(), next: 0 };
    let mut path = vec![start];
    while let Some(point) = path.last_mut() {
        // Nothing may come before a request that had its answer earlier.
        let first = (0..operations.len()).find(|&number| !point.done[number]);
        let first = first.filter(|&first| end(operations[first]) < u64::MAX);
        let Some(first) = first else { return Ok(()) };
        if path.len() > deepest {
            (deepest, stuck) = (path.len(), Some(first));
        }
        let point = path.last_mut().expect("it was there");
        let candidate = (point.next..operations.len()).find(|&number| {
            !point.done[number] && operations[number].began <= end(operations[first])
        });
        let Some(number) = candidate else {
            path.pop();
            continue;
        };
        point.next = number + 1;
        steps += 1;
        if steps > STEPS_MAX {
            return Err(format!("no verdict after {STEPS_MAX} steps"));
        }
        let operation = operations[number];
        let Some(state) = step(&point.state, &operation.request, operation.answer()) else {
            continue;
        };
        let mut done = point.done.clone();
        done[number] = true;
        if met.insert((done.clone(), state.clone())) {
            path.push(Point { done, state, next: 0 });
        }
    }
    let stuck = stuck.map(|number| operations[number]);
    Err(format!("is not linearizable, at the latest from here on: {stuck:?}"))
}

/// When a request had its effect at the latest.
fn end(operation: &Operation) -> u64 {
    match operation.outcome {
        Outcome::Answered(_) => operation.ended,
        Outcome::Failed(_) | Outcome::Unknown(_) => u64::MAX,
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
