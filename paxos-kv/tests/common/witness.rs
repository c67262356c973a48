//! Whether a history is one that a single store could have had.
//!
//! Every change of the store has a revision of its own and every answer says at which revision it
//! is true, so the order in which everything happened need not be searched: it is written in the
//! answers, and they must agree with it, with each other, and with real time. What is not known is
//! which requests of unknown outcome took effect. One that wrote a value somebody read is placed by
//! that; the others can only stand at revisions that nobody else claims, the *holes*.
//!
//! Takes O(n log n) for n operations.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
};

use super::history::{Answer, Found, Operation, Outcome, Request, prefix};

/// The revision of a store that was never written.
const FRESH: i64 = 1;

/// Checks a history that begins with a fresh store.
///
/// # Errors
///
/// An operation that is wrong, and why.
pub(crate) fn check(history: &[Operation]) -> Result<(), String> {
    let replay = Replay::of(history)?;
    replay.check_holes()?;
    replay.check_times()?;
    replay.check_answers()
}

/// What a change made of a key: a value, or nothing.
type State<'a> = Option<&'a str>;

/// The changes, in their order.
struct Replay<'a> {
    history: &'a [Operation],
    /// By revision: which operation changed the store.
    changes: BTreeMap<i64, usize>,
    /// By operation: at which revision it did, if it did and that is known.
    placed: Vec<Option<i64>>,
    /// By key and revision.
    states: HashMap<&'a str, BTreeMap<i64, State<'a>>>,
    /// Revisions at which nobody is known to have changed anything, with the time before which it
    /// must have been asked for: somebody was answered then who had seen it.
    holes: BTreeMap<i64, u64>,
    /// Writes of unknown outcome that have no place, by the time of their beginning.
    adrift: Vec<usize>,
}

impl<'a> Replay<'a> {
    fn of(history: &'a [Operation]) -> Result<Replay<'a>, String> {
        let mut replay = Replay {
            history,
            changes: BTreeMap::new(),
            placed: vec![None; history.len()],
            states: HashMap::new(),
            holes: BTreeMap::new(),
            adrift: Vec::new(),
        };
        for (number, operation) in history.iter().enumerate() {
            if let Some(answer) = operation.answer() {
                let states = changed(&operation.request, answer);
                if !states.is_empty() {
                    replay.place(number, answer.revision, states)?;
                }
            }
        }
        replay.place_what_was_read()?;
        replay.find_holes();
        let is_adrift = |&number: &usize| {
            let operation = &history[number];
            let unknown = matches!(operation.outcome, Outcome::Unknown(_));
            unknown && !operation.request.changes_nothing() && replay.placed[number].is_none()
        };
        replay.adrift = (0..history.len()).filter(is_adrift).collect();
        replay.adrift.sort_by_key(|&number| history[number].began);
        Ok(replay)
    }

    fn place(
        &mut self,
        number: usize,
        revision: i64,
        states: Vec<(&'a str, State<'a>)>,
    ) -> Result<(), String> {
        if let Some(other) = self.changes.insert(revision, number)
            && other != number
        {
            return Err(format!(
                "two changes at revision {revision}: {:?} and {:?}",
                self.history[other], self.history[number]
            ));
        }
        if let Some(other) = self.placed[number].replace(revision)
            && other != revision
        {
            let operation = &self.history[number];
            return Err(format!("changed the store at {other} and at {revision}: {operation:?}"));
        }
        for (key, state) in states {
            self.states.entry(key).or_default().insert(revision, state);
        }
        Ok(())
    }

    /// Finds the writer of everything that was read.
    fn place_what_was_read(&mut self) -> Result<(), String> {
        let history = self.history;
        let writers = history.iter().enumerate();
        let writers =
            writers.filter_map(|(number, writer)| Some((value(&writer.request)?, number)));
        let writers: HashMap<_, _> = writers.collect();
        for operation in history {
            for found in operation.answer().map_or(&[][..], |answer| &answer.found) {
                let Some(&number) = writers.get(found.value.as_str()) else {
                    return Err(format!("nobody wrote what this found: {operation:?}"));
                };
                let writer = &history[number];
                let states = match (&writer.outcome, self.placed[number]) {
                    (Outcome::Unknown(_), _) => written(&writer.request, found),
                    (_, Some(_)) => Vec::new(),
                    (_, None) => {
                        return Err(format!("{operation:?} found what {writer:?} did not write"));
                    }
                };
                self.place(number, found.mod_revision, states)?;
            }
        }
        Ok(())
    }

    fn find_holes(&mut self) {
        let mut answers: Vec<_> = self
            .history
            .iter()
            .filter_map(|operation| Some((operation.answer()?.revision, operation.ended)))
            .collect();
        answers.sort_unstable();
        let last = answers.last().map_or(FRESH, |(revision, _)| *revision);
        let mut earliest = u64::MAX;
        for revision in (FRESH + 1..=last).rev() {
            while let Some((_, ended)) = answers.pop_if(|(seen, _)| *seen >= revision) {
                earliest = earliest.min(ended);
            }
            if !self.changes.contains_key(&revision) {
                self.holes.insert(revision, earliest);
            }
        }
    }

    /// Every hole needs a change of its own that was asked for in time.
    fn check_holes(&self) -> Result<(), String> {
        for (filled, (revision, seen_at)) in self.holes.iter().enumerate() {
            let asked = |&number: &usize| self.history[number].began < *seen_at;
            if self.adrift.partition_point(asked) <= filled {
                return Err(format!("nobody asked for the change at revision {revision}"));
            }
        }
        Ok(())
    }

    /// Whoever began after somebody else had ended has seen at least as much, and changed the
    /// store later.
    fn check_times(&self) -> Result<(), String> {
        let mut by_end: Vec<_> = self
            .history
            .iter()
            .filter_map(|operation| Some((operation.ended, operation.answer()?.revision)))
            .collect();
        by_end.sort_unstable();
        let mut by_begin: Vec<usize> = (0..self.history.len()).collect();
        by_begin.sort_by_key(|&number| self.history[number].began);
        let mut ended = by_end.into_iter().peekable();
        let mut seen = FRESH;
        for number in by_begin {
            let operation = &self.history[number];
            while let Some((_, revision)) = ended.next_if(|(ended, _)| *ended < operation.began) {
                seen = seen.max(revision);
            }
            if let Some(revision) = self.placed[number]
                && revision <= seen
            {
                return Err(format!(
                    "changed the store at {revision} when {seen} had been seen: {operation:?}"
                ));
            }
            if let Some(answer) = operation.answer()
                && !operation.request.is_serializable()
                && answer.revision < seen
            {
                return Err(format!("is stale, {seen} had been seen: {operation:?}"));
            }
        }
        Ok(())
    }

    /// Every answer is what the store held at its revision.
    fn check_answers(&self) -> Result<(), String> {
        for operation in self.history {
            if let Some(answer) = operation.answer() {
                self.check_answer(operation, answer)
                    .map_err(|reason| format!("{reason}: {operation:?}"))?;
            }
        }
        Ok(())
    }

    fn check_answer(&self, operation: &Operation, answer: &Answer) -> Result<(), String> {
        let (at, before) = (answer.revision, answer.revision - 1);
        let found = answer.found.iter().find(|found| found.mod_revision > at);
        if found.is_some() {
            return Err("found something newer than its revision".to_owned());
        }
        match &operation.request {
            Request::Put { .. } | Request::Compact { .. } => Ok(()),
            Request::Get { key, .. } => self.check_found(key, &answer.found, at),
            Request::CompareAndSwap { key, expected, .. } if answer.succeeded => match expected {
                Some(value) => self.check_value(key, value, before),
                None => self.check_absent(key, before),
            },
            Request::CompareAndSwap { key, expected, .. } => {
                let value = answer.found.first().map(|found| &found.value);
                if value == expected.as_ref() {
                    return Err("the condition held".to_owned());
                }
                self.check_found(key, &answer.found, at)
            }
            Request::Delete { key } if answer.deleted > 0 => self.check_present(key, before),
            Request::Delete { key } => self.check_absent(key, at),
            Request::Move { from, .. } if answer.succeeded => self.check_present(from, before),
            Request::Move { from, .. } => self.check_absent(from, before),
            Request::Range { group } => {
                let prefix = prefix(*group);
                let keys = self.states.keys().filter(|key| key.starts_with(&prefix));
                keys.into_iter().try_for_each(|key| self.check_found(key, &answer.found, at))
            }
        }
    }

    /// The last change of a key that is known, up to a revision.
    fn last(&self, key: &str, at: i64) -> (i64, State<'a>) {
        let states = self.states.get(key).and_then(|states| states.range(..=at).next_back());
        states.map_or((FRESH, None), |(revision, state)| (*revision, *state))
    }

    /// A key is in an answer if and only if the store held it, with what it held.
    fn check_found(&self, key: &str, found: &[Found], at: i64) -> Result<(), String> {
        let Some(found) = found.iter().find(|found| found.key == key) else {
            return self.check_absent(key, at);
        };
        let held = self.last(key, at);
        if held != (found.mod_revision, Some(&found.value)) {
            return Err(format!("{key} held {held:?} at {at}"));
        }
        let life = found.create_revision..=found.mod_revision;
        let states = self.states.get(key).map(|states| states.range(life.clone()));
        let known = states.map_or(0, |states| states.filter(|(_, state)| state.is_some()).count());
        let most = known + self.holes.range(life).count();
        let version = usize::try_from(found.version).unwrap_or(usize::MAX);
        match (known..=most).contains(&version) {
            true => Ok(()),
            false => Err(format!("{key} was written {known} times, or {most} at most")),
        }
    }

    fn check_value(&self, key: &str, value: &str, at: i64) -> Result<(), String> {
        match self.last(key, at) {
            (_, Some(held)) if held == value => Ok(()),
            held => Err(format!("{key} held {held:?} at {at}")),
        }
    }

    fn check_present(&self, key: &str, at: i64) -> Result<(), String> {
        match self.last(key, at) {
            (_, Some(_)) => Ok(()),
            (revision, None) if self.may_have_changed(key, revision + 1..=at) => Ok(()),
            held => Err(format!("{key} held {held:?} at {at}")),
        }
    }

    fn check_absent(&self, key: &str, at: i64) -> Result<(), String> {
        match self.last(key, at) {
            (_, None) => Ok(()),
            (revision, Some(_)) if self.may_have_changed(key, revision + 1..=at) => Ok(()),
            held => Err(format!("{key} held {held:?} at {at}")),
        }
    }

    /// Whether a write of unknown outcome may have changed the key at such a revision.
    fn may_have_changed(&self, key: &str, revisions: RangeInclusive<i64>) -> bool {
        if revisions.is_empty() {
            return false;
        }
        let last_hole = self.holes.range(revisions).next_back();
        last_hole.is_some_and(|(_, seen_at)| {
            let asked = |number: &usize| self.history[*number].began < *seen_at;
            let candidates = self.adrift.iter().take_while(|number| asked(number));
            candidates.into_iter().any(|&number| concerns(&self.history[number].request, key))
        })
    }
}

/// What an answered request made of which keys.
fn changed<'a>(request: &'a Request, answer: &Answer) -> Vec<(&'a str, State<'a>)> {
    match request {
        Request::Put { key, value } => vec![(key, Some(value))],
        Request::CompareAndSwap { key, value, .. } if answer.succeeded => vec![(key, Some(value))],
        Request::Delete { key } if answer.deleted > 0 => vec![(key, None)],
        Request::Move { from, to, value } if answer.succeeded => {
            vec![(from, None), (to, Some(value))]
        }
        Request::Move { from, value, .. } => vec![(from, Some(value))],
        _ => Vec::new(),
    }
}

/// What a request made of which keys if this is what it wrote.
fn written<'a>(request: &'a Request, found: &Found) -> Vec<(&'a str, State<'a>)> {
    let succeeded = match request {
        Request::Move { to, .. } => *to == found.key,
        _ => true,
    };
    changed(request, &Answer { succeeded, ..Answer::default() })
}

fn value(request: &Request) -> Option<&str> {
    match request {
        Request::Put { value, .. }
        | Request::CompareAndSwap { value, .. }
        | Request::Move { value, .. } => Some(value),
        Request::Get { .. }
        | Request::Delete { .. }
        | Request::Range { .. }
        | Request::Compact { .. } => None,
    }
}

fn concerns(request: &Request, key: &str) -> bool {
    match request {
        Request::Put { key: changed, .. }
        | Request::CompareAndSwap { key: changed, .. }
        | Request::Delete { key: changed } => changed == key,
        Request::Move { from, to, .. } => from == key || to == key,
        Request::Get { .. } | Request::Range { .. } | Request::Compact { .. } => false,
    }
}
