//! Shows that the checks of histories bite: a right history passes, and each wrong one does not.

use super::{
    history::{Answer, Found, Operation, Outcome, Request, key},
    linearizability,
    witness::check,
};

/// A wrong history: a name, what is done to the right one, and what the check says.
pub(crate) struct Doctored {
    pub(crate) name: &'static str,
    doctor: fn(&mut Vec<Operation>),
    verdict: &'static str,
    /// Whether keys and values alone tell.
    is_visible: bool,
}

/// Places in the right history.
const PUT: usize = 0;
const GET: usize = 1;
const SWAP: usize = 2;
const LOST: usize = 3;
const DELETE: usize = 5;
const LAST_PUT: usize = 7;
const RANGE: usize = 8;

/// A write, a read, a swap, a write without an answer that took effect and one that did not, a
/// deletion, a read of nothing, another write and a read of everything.
fn right() -> Vec<Operation> {
    let (a, b) = (key(0, 0), key(0, 1));
    let found = |key: &str, value: &str, created, changed, version| Found {
        key: key.to_owned(),
        value: value.to_owned(),
        create_revision: created,
        mod_revision: changed,
        version,
    };
    let swap = |expected: &str, value: &str| Request::CompareAndSwap {
        key: a.clone(),
        expected: Some(expected.to_owned()),
        value: value.to_owned(),
    };
    let put =
        |key: &str, value: &str| Request::Put { key: key.to_owned(), value: value.to_owned() };
    let get = |key: &str| Request::Get { key: key.to_owned(), serializable: false };
    let of = |revision| Answer { revision, ..Answer::default() };
    let unknown = || Outcome::Unknown("no answer".to_owned());
    let requests = vec![
        (put(&a, "1"), Outcome::Answered(of(2))),
        (get(&a), Outcome::Answered(Answer { found: vec![found(&a, "1", 2, 2, 1)], ..of(2) })),
        (swap("1", "2"), Outcome::Answered(Answer { succeeded: true, ..of(3) })),
        (put(&b, "3"), unknown()),
        (put(&b, "4"), unknown()),
        (Request::Delete { key: a.clone() }, Outcome::Answered(Answer { deleted: 1, ..of(5) })),
        (get(&a), Outcome::Answered(of(5))),
        (put(&a, "5"), Outcome::Answered(of(6))),
        (
            Request::Range { group: 0 },
            Outcome::Answered(Answer {
                found: vec![found(&a, "5", 6, 6, 1), found(&b, "3", 4, 4, 1)],
                ..of(6)
            }),
        ),
    ];
    let operation = |(number, (request, outcome))| Operation {
        client: 0,
        server: 0,
        began: 10 * number as u64,
        ended: 10 * number as u64 + 5,
        request,
        outcome,
    };
    requests.into_iter().enumerate().map(operation).collect()
}

fn answer(operation: &mut Operation) -> &mut Answer {
    match &mut operation.outcome {
        Outcome::Answered(answer) => answer,
        outcome => unreachable!("it was answered, not {outcome:?}"),
    }
}

/// All that is told apart from a right one.
pub(crate) const DOCTORED: [Doctored; 14] = [
    Doctored {
        name: "a_stale_read_is_found",
        doctor: |history| (history[GET].began, history[GET].ended) = (28, 29),
        verdict: "is stale",
        is_visible: true,
    },
    Doctored {
        name: "a_lost_write_is_found",
        doctor: |history| {
            answer(&mut history[RANGE]).found.remove(0);
        },
        verdict: "held (6, Some(\"5\")) at 6",
        is_visible: true,
    },
    Doctored {
        name: "a_write_that_was_undone_is_found",
        doctor: |history| {
            let old = answer(&mut history[GET]).found[0].clone();
            answer(&mut history[RANGE]).found[0] = old;
        },
        verdict: "held (6, Some(\"5\")) at 6",
        is_visible: true,
    },
    Doctored {
        name: "a_phantom_is_found",
        doctor: |history| answer(&mut history[RANGE]).found[1].value = "6".to_owned(),
        verdict: "nobody wrote",
        is_visible: true,
    },
    Doctored {
        name: "a_write_that_was_done_twice_is_found",
        doctor: |history| {
            let found = &mut answer(&mut history[RANGE]).found[0];
            (found.mod_revision, found.version) = (7, 2);
        },
        verdict: "changed the store at 6 and at 7",
        is_visible: false,
    },
    Doctored {
        name: "a_write_that_was_done_twice_and_overwritten_is_found",
        doctor: |history| {
            answer(&mut history[LAST_PUT]).revision = 8;
            let range = answer(&mut history[RANGE]);
            range.revision = 8;
            (range.found[0].create_revision, range.found[0].mod_revision) = (8, 8);
            history.remove(4);
        },
        verdict: "nobody asked for the change at revision 6",
        is_visible: false,
    },
    Doctored {
        name: "a_version_that_counts_too_much_is_found",
        doctor: |history| answer(&mut history[RANGE]).found[0].version = 2,
        verdict: "was written 1 times",
        is_visible: false,
    },
    Doctored {
        name: "writes_in_the_wrong_order_are_found",
        doctor: |history| (history[SWAP].began, history[SWAP].ended) = (72, 73),
        verdict: "changed the store at 3 when 5 had been seen",
        is_visible: true,
    },
    Doctored {
        name: "a_write_that_was_seen_before_it_began_is_found",
        doctor: |history| (history[LOST].began, history[LOST].ended) = (90, 95),
        verdict: "changed the store at 4 when 6 had been seen",
        is_visible: true,
    },
    Doctored {
        name: "two_writes_at_one_revision_are_found",
        doctor: |history| answer(&mut history[LAST_PUT]).revision = 3,
        verdict: "two changes at revision 3",
        is_visible: false,
    },
    Doctored {
        name: "a_refused_write_that_took_effect_is_found",
        doctor: |history| history[LOST].outcome = Outcome::Failed("too many".to_owned()),
        verdict: "did not write",
        is_visible: true,
    },
    Doctored {
        name: "a_swap_whose_condition_did_not_hold_is_found",
        doctor: |history| {
            if let Request::CompareAndSwap { expected, .. } = &mut history[SWAP].request {
                *expected = Some("3".to_owned());
            }
        },
        verdict: "held (2, Some(\"1\")) at 2",
        is_visible: true,
    },
    Doctored {
        name: "a_deletion_of_nothing_is_found",
        doctor: |history| answer(&mut history[DELETE]).deleted = 0,
        verdict: "held (3, Some(\"2\")) at 5",
        is_visible: true,
    },
    Doctored {
        name: "an_answer_from_the_future_is_found",
        doctor: |history| {
            history[PUT].ended = 12;
            answer(&mut history[GET]).revision = 1;
        },
        verdict: "newer than its revision",
        is_visible: false,
    },
];

impl Doctored {
    /// Runs the check on the right history and on this one.
    pub(crate) fn test(&self) -> Result<(), String> {
        let mut history = right();
        let refused = |reason| format!("the right history is refused: {reason}");
        check(&history).map_err(refused)?;
        linearizability::check(&history).map_err(refused)?;
        (self.doctor)(&mut history);
        if linearizability::check(&history).is_ok() == self.is_visible {
            return Err(format!("keys and values alone tell: not {}", self.is_visible));
        }
        match check(&history) {
            Ok(()) => Err("it passes".to_owned()),
            Err(reason) if reason.contains(self.verdict) => Ok(()),
            Err(reason) => Err(format!("it is refused for another reason: {reason}")),
        }
    }
}
