use proptest::prelude::*;

use super::{Call, Finding, Model, Unexplained, check, check_apart};

const STEPS_MAX: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Put(u8),
    Get,
    /// Compare and swap.
    Cas(u8, u8),
    /// Appends a decimal digit.
    Append(u8),
}

/// A register that holds a number.
struct Register;

impl Model for Register {
    type State = u64;
    type Operation = Operation;
    /// What was found.
    type Outcome = u64;

    fn start(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, operation: &Operation, outcome: Option<&u64>) -> Option<u64> {
        let after = match *operation {
            Operation::Put(value) => u64::from(value),
            Operation::Get => *state,
            Operation::Cas(expected, value) if u64::from(expected) == *state => u64::from(value),
            Operation::Cas(..) => *state,
            Operation::Append(digit) => (*state * 10 + u64::from(digit)) % 1_000_000_007,
        };
        outcome.is_none_or(|found| found == state).then_some(after)
    }

    fn is_read(&self, operation: &Operation, outcome: Option<&u64>) -> bool {
        match *operation {
            Operation::Get => true,
            Operation::Cas(expected, _) => outcome.is_some_and(|&found| found != expected.into()),
            Operation::Put(_) | Operation::Append(_) => false,
        }
    }
}

type TestCall = Call<Operation, u64>;

fn call(operation: Operation, began: u64, ended: u64, outcome: u64) -> TestCall {
    let found = !matches!(operation, Operation::Put(_));
    Call { operation, began, ended: Some(ended), outcome: found.then_some(outcome) }
}

fn lost(operation: Operation, began: u64) -> TestCall {
    Call { operation, began, ended: None, outcome: None }
}

fn is_broken(calls: &[TestCall]) -> bool {
    match check(&Register, calls, STEPS_MAX) {
        Finding::Linearizable => false,
        Finding::Broken(_) => true,
        Finding::Unknown => panic!("too many steps for {calls:?}"),
    }
}

use Operation::{Append, Cas, Get, Put};

#[test]
fn good_histories_pass() {
    assert!(!is_broken(&[]));
    assert!(!is_broken(&[call(Put(1), 0, 1, 0), call(Get, 2, 3, 1)]));
    // While a write is under way a read may see it or not, but not see it and then not.
    assert!(!is_broken(&[call(Put(1), 0, 9, 0), call(Get, 1, 2, 0), call(Get, 3, 4, 1)]));
    assert!(!is_broken(&[call(Cas(0, 5), 0, 1, 0), call(Cas(0, 6), 2, 3, 5), call(Get, 4, 5, 5)]));
}

#[test]
fn what_was_lost_may_have_taken_place_late_or_never() {
    assert!(!is_broken(&[lost(Put(1), 0), call(Get, 5, 6, 0)]));
    assert!(!is_broken(&[lost(Put(1), 0), call(Get, 5, 6, 0), call(Get, 7, 8, 1)]));
    assert!(is_broken(&[lost(Put(1), 7), call(Get, 5, 6, 1)]), "before it began");
    assert!(is_broken(&[lost(Append(1), 0), call(Get, 5, 6, 11)]), "twice");
    assert!(is_broken(&[lost(Cas(3, 1), 0), call(Get, 5, 6, 1)]), "without its condition");
}

#[test]
fn a_stale_read_is_found() {
    assert!(is_broken(&[call(Put(1), 0, 1, 0), call(Put(2), 2, 3, 0), call(Get, 4, 5, 1)]));
    // Two reads one after the other, of which the second goes back.
    assert!(is_broken(&[call(Put(1), 0, 9, 0), call(Get, 1, 2, 1), call(Get, 3, 4, 0)]));
}

#[test]
fn a_lost_write_is_found() {
    assert!(is_broken(&[call(Put(1), 0, 1, 0), call(Get, 2, 3, 0)]));
    assert!(is_broken(&[call(Append(1), 0, 1, 0), call(Append(2), 2, 3, 0)]));
}

#[test]
fn a_phantom_is_found() {
    assert!(is_broken(&[call(Put(1), 0, 1, 0), call(Get, 0, 3, 7)]));
}

#[test]
fn a_duplicate_effect_is_found() {
    assert!(is_broken(&[call(Append(1), 0, 1, 0), call(Get, 2, 3, 11)]));
}

#[test]
fn a_reordering_is_found() {
    let appends = [call(Append(1), 0, 1, 0), call(Append(2), 2, 3, 1)];
    assert!(!is_broken(&[&appends[..], &[call(Get, 4, 5, 12)]].concat()));
    assert!(is_broken(&[&appends[..], &[call(Get, 4, 5, 21)]].concat()));
}

#[test]
fn the_limit_is_kept_and_named() {
    let append = |digit| Call { outcome: None, ..call(Append(digit), 0, 100, 0) };
    let calls: Vec<_> = (1..9).map(append).chain([call(Get, 101, 102, 5)]).collect();
    assert_eq!(check(&Register, &calls, 1000), Finding::Unknown);
}

/// The put that ends last is tried before the read that it makes impossible, for it has to come, and
/// then any of the lost calls might help.
#[test]
fn a_wrong_turn_among_lost_calls_is_soon_noticed() {
    let lost_early = [Cas(2, 1), Put(3), Cas(0, 1), Put(3), Put(3), Append(1), Put(1), Put(1)];
    let mut calls: Vec<_> = (0..).step_by(2).zip(lost_early).map(|(at, it)| lost(it, at)).collect();
    calls.extend([
        call(Put(2), 16, 16, 0),
        lost(Get, 18),
        lost(Append(1), 20),
        call(Get, 22, 23, 21),
        call(Put(1), 23, 24, 0),
        lost(Append(2), 23),
        lost(Put(1), 28),
    ]);
    assert_eq!(check(&Register, &calls, 10_000), Finding::Linearizable);
}

#[test]
fn each_object_is_checked_by_itself() {
    let calls = vec![call(Put(1), 0, 1, 0), call(Get, 2, 3, 0)];
    let apart = |operation: &Operation| matches!(operation, Get);
    assert_eq!(check_apart(&Register, calls.clone(), apart, STEPS_MAX), Ok(()));
    let together = check_apart(&Register, calls, |_| "the one", STEPS_MAX);
    let Err(Unexplained { object, calls, finding: Finding::Broken(stuck) }) = together else {
        panic!("a lost write: {together:?}")
    };
    assert_eq!((object, calls.len(), stuck.call), ("the one", 2, 1));
}

/// All orders of all subsets that contain every call that returned.
fn by_brute_force(calls: &[TestCall], placed: &mut Vec<usize>, state: u64) -> bool {
    let rest = |placed: &[usize]| (0..calls.len()).filter(|call| !placed.contains(call)).collect();
    let rest: Vec<usize> = rest(placed);
    let mut ends = rest.iter().filter_map(|&call| calls[call].ended);
    let Some(first) = ends.clone().min() else { return true };
    assert!(ends.all(|end| end >= first));
    rest.into_iter().filter(|&call| calls[call].began <= first).any(|next| {
        let Call { operation, outcome, .. } = &calls[next];
        let Some(after) = Register.step(&state, operation, outcome.as_ref()) else { return false };
        placed.push(next);
        let found = by_brute_force(calls, placed, after);
        placed.pop();
        found
    })
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        (1..4_u8).prop_map(Put),
        Just(Get),
        (0..4_u8, 1..4_u8).prop_map(|(expected, value)| Cas(expected, value)),
        (1..3_u8).prop_map(Append),
    ]
}

/// More calls without an end than so many make orders without end.
const LOST_MAX: usize = 6;

/// A history as one register would have made it: each call takes place at its own moment.
fn histories(size: usize) -> impl Strategy<Value = Vec<TestCall>> {
    let one = (operations(), 0..8_u64, 0..8_u64, 0..6_u8);
    prop::collection::vec(one, 1..size).prop_map(|drawn| {
        let (mut state, mut lost) = (0, 0);
        let place = |(moment, (operation, before, after, fate)): (usize, _)| {
            let moment = 2 * moment as u64;
            let outcome = state;
            state = Register.step(&state, &operation, None).expect("anything goes");
            let mut call = call(operation, moment.saturating_sub(before), moment + after, outcome);
            if fate == 0 && lost < LOST_MAX {
                lost += 1;
                (call.ended, call.outcome) = (None, None);
            }
            call
        };
        drawn.into_iter().enumerate().map(place).collect()
    })
}

proptest! {
    #[test]
    fn what_one_register_did_is_linearizable(calls in histories(60)) {
        prop_assert!(!is_broken(&calls));
    }

    #[test]
    fn agrees_with_every_order_tried(
        mut calls in histories(7),
        changed in any::<prop::sample::Index>(),
        outcome in 0..13_u64,
    ) {
        let changed = changed.index(calls.len());
        calls[changed].outcome = Some(outcome);
        prop_assert_eq!(is_broken(&calls), !by_brute_force(&calls, &mut Vec::new(), 0));
    }
}
