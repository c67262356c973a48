//! The search of Wing & Gong with the memory of Lowe.
//!
//! The beginnings and ends of calls stand in a list in the order of time. A call may come next if
//! its beginning stands before every end in the list. The search places one such call after the
//! other, taking its beginning and end out of the list; where none fits, it puts the last one back
//! and goes on behind it.
//!
//! What has to come is tried before what never ended and may not come at all.
//!
//! Two additions. A read that may come next is placed at once, before any write is tried, because
//! whatever else comes before it might as well come after: so reads cost no search. And the memory
//! knows that calls that never ended are a means and not an end: where the same calls that have ended
//! led to the same state with no more of the others spent, whatever can come now could come then. To
//! spend others as well, or as many again in vain, is not tried.

use std::collections::{BTreeMap, HashMap};

use super::{Call, Finding, Model, Stuck, Unexplained};

/// The beginning or the end of a call.
#[derive(Clone, Copy, Debug)]
struct Event {
    call: usize,
    is_end: bool,
}

/// The events in order of time, with those of placed calls taken out. Event 0 is a mark before the
/// first, `NONE` stands behind the last.
struct Timeline {
    events: Vec<Event>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// By call: where its beginning and its end stand.
    began: Vec<usize>,
    ended: Vec<Option<usize>>,
}

const NONE: usize = usize::MAX;

impl Timeline {
    fn of<O, R>(calls: &[Call<O, R>]) -> Timeline {
        let mut times = Vec::with_capacity(2 * calls.len());
        for (call, Call { began, ended, .. }) in calls.iter().enumerate() {
            times.push((*began, Event { call, is_end: false }));
            times.extend(ended.map(|ended| (ended, Event { call, is_end: true })));
        }
        // At equal times beginnings come first: such calls may have come in either order.
        times.sort_by_key(|(at, event)| (*at, event.is_end));
        let mark = Event { call: NONE, is_end: false };
        let events: Vec<_> = [mark].into_iter().chain(times.into_iter().map(|(_, e)| e)).collect();
        let mut began = vec![0; calls.len()];
        let mut ended = vec![None; calls.len()];
        for (place, event) in events.iter().enumerate().skip(1) {
            if event.is_end {
                ended[event.call] = Some(place);
            } else {
                began[event.call] = place;
            }
        }
        let count = events.len();
        Timeline {
            events,
            next: (1..count).chain([NONE]).collect(),
            previous: [NONE].into_iter().chain(0..count - 1).collect(),
            began,
            ended,
        }
    }

    fn take_out(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = next;
        if next != NONE {
            self.previous[next] = previous;
        }
    }

    fn put_back(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = place;
        if next != NONE {
            self.previous[next] = place;
        }
    }

    fn place(&mut self, call: usize) {
        self.take_out(self.began[call]);
        if let Some(ended) = self.ended[call] {
            self.take_out(ended);
        }
    }

    /// Undoes the latest [`place`](Timeline::place).
    fn displace(&mut self, call: usize) {
        if let Some(ended) = self.ended[call] {
            self.put_back(ended);
        }
        self.put_back(self.began[call]);
    }
}

/// A set of calls.
#[derive(Clone, PartialEq, Eq, Hash)]
struct CallSet(Box<[u64]>);

impl CallSet {
    /// None of so many calls.
    fn none_of(calls: usize) -> CallSet {
        CallSet(vec![0; calls.div_ceil(64)].into())
    }

    fn flip(&mut self, call: usize) {
        self.0[call / 64] ^= 1 << (call % 64);
    }

    fn is_within(&self, other: &CallSet) -> bool {
        self.0.iter().zip(&other.0).all(|(these, those)| these & !those == 0)
    }
}

/// Whether the calls are linearizable. See the [module](super).
pub fn check<M: Model>(
    model: &M,
    calls: &[Call<M::Operation, M::Outcome>],
    steps_max: u64,
) -> Finding {
    let search = Search {
        model,
        calls,
        timeline: Timeline::of(calls),
        state: model.start(),
        done: CallSet::none_of(calls.len()),
        spent: CallSet::none_of(calls.len()),
        order: Vec::new(),
        to_place: calls.iter().filter(|call| call.ended.is_some()).count(),
        seen: HashMap::new(),
        furthest: None,
    };
    search.finding(steps_max)
}

/// Checks the calls of each object by themselves, given which object a call concerns; `steps_max`
/// is the limit for each.
///
/// # Errors
///
/// With the first object whose calls are not explained.
pub fn check_apart<M: Model, K: Ord>(
    model: &M,
    calls: Vec<Call<M::Operation, M::Outcome>>,
    object: impl Fn(&M::Operation) -> K,
    steps_max: u64,
) -> Result<(), Unexplained<K, M::Operation, M::Outcome>> {
    let mut objects: BTreeMap<K, Vec<_>> = BTreeMap::new();
    for call in calls {
        objects.entry(object(&call.operation)).or_default().push(call);
    }
    for (object, calls) in objects {
        let finding = check(model, &calls, steps_max);
        if finding != Finding::Linearizable {
            return Err(Unexplained { object, calls, finding });
        }
    }
    Ok(())
}

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call<M::Operation, M::Outcome>],
    timeline: Timeline,
    state: M::State,
    /// The calls placed that have ended.
    done: CallSet,
    /// The calls placed that never ended.
    spent: CallSet,
    /// The calls placed, each with the state before it but for reads.
    order: Vec<(usize, Option<M::State>)>,
    /// Calls that have ended and are not placed.
    to_place: usize,
    /// Where the search has been: what was done, the state, and each least set of what was spent.
    seen: HashMap<(CallSet, M::State), Vec<CallSet>>,
    furthest: Option<Stuck>,
}

impl<M: Model> Search<'_, M> {
    fn finding(mut self, steps_max: u64) -> Finding {
        let mut steps = 0;
        self.place_reads();
        // Where the search stands, and whether it tries calls that never ended.
        let (mut at, mut tries_endless) = (self.timeline.next[0], false);
        while self.to_place > 0 {
            steps += 1;
            if steps > steps_max {
                return Finding::Unknown;
            }
            let Event { call, is_end } = self.timeline.events[at];
            if is_end && !tries_endless {
                (at, tries_endless) = (self.timeline.next[0], true);
            } else if is_end {
                let Some(taken_back) = self.go_back(call) else { break };
                at = self.timeline.next[self.timeline.began[taken_back]];
                tries_endless = self.is_endless(taken_back);
            } else if self.is_endless(call) == tries_endless && self.place_write(call) {
                self.place_reads();
                (at, tries_endless) = (self.timeline.next[0], false);
            } else {
                at = self.timeline.next[at];
            }
        }
        match self.furthest {
            Some(stuck) if self.to_place > 0 => Finding::Broken(stuck),
            _ => Finding::Linearizable,
        }
    }

    /// The state after a call, if it can come next.
    fn after(&self, call: usize) -> Option<M::State> {
        let Call { operation, outcome, .. } = &self.calls[call];
        self.model.step(&self.state, operation, outcome.as_ref())
    }

    fn is_read(&self, call: usize) -> bool {
        let Call { operation, outcome, .. } = &self.calls[call];
        self.model.is_read(operation, outcome.as_ref())
    }

    fn is_endless(&self, call: usize) -> bool {
        self.calls[call].ended.is_none()
    }

    /// Puts a call into the set of those like it that are placed, or takes it out.
    fn flip(&mut self, call: usize) {
        if self.is_endless(call) {
            self.spent.flip(call);
        } else {
            self.done.flip(call);
        }
    }

    fn place(&mut self, call: usize, before: Option<M::State>) {
        self.timeline.place(call);
        self.order.push((call, before));
        self.to_place -= usize::from(self.calls[call].ended.is_some());
    }

    /// Places every read that can come next, and those that can come after these.
    fn place_reads(&mut self) {
        let mut has_placed = true;
        while has_placed {
            has_placed = false;
            let mut at = self.timeline.next[0];
            while at != NONE && !self.timeline.events[at].is_end {
                let call = self.timeline.events[at].call;
                at = self.timeline.next[at];
                if self.is_read(call) && self.after(call).is_some() {
                    self.flip(call);
                    self.place(call, None);
                    has_placed = true;
                }
            }
        }
    }

    /// Places a write, if it can come next and that leads to something new.
    fn place_write(&mut self, call: usize) -> bool {
        let Some(after) = self.after(call).filter(|_| !self.is_read(call)) else { return false };
        self.flip(call);
        if !self.is_new(after.clone()) {
            self.flip(call);
            return false;
        }
        let before = std::mem::replace(&mut self.state, after);
        self.place(call, Some(before));
        true
    }

    /// Whether the search has not been at what is placed now, in this state, with no more spent than
    /// now; remembers that it has been here.
    ///
    /// To pass over the others loses nothing. Whatever could follow now could follow there as well,
    /// where it has been tried, or, if that lies on the way here, is about to be without the detour.
    fn is_new(&mut self, state: M::State) -> bool {
        let been = self.seen.entry((self.done.clone(), state)).or_default();
        if been.iter().any(|less| less.is_within(&self.spent)) {
            return false;
        }
        been.retain(|more| !self.spent.is_within(more));
        been.push(self.spent.clone());
        true
    }

    /// Nothing can come next before `call`, which has to, has ended: takes back the latest write
    /// and what came after it. Returns that write, if there was one.
    fn go_back(&mut self, call: usize) -> Option<usize> {
        if self.furthest.as_ref().is_none_or(|stuck| stuck.placed.len() < self.order.len()) {
            let placed = self.order.iter().map(|(call, _)| *call).collect();
            self.furthest = Some(Stuck { placed, call });
        }
        while let Some((last, before)) = self.order.pop() {
            self.timeline.displace(last);
            self.flip(last);
            self.to_place += usize::from(self.calls[last].ended.is_some());
            if let Some(before) = before {
                self.state = before;
                return Some(last);
            }
        }
        None
    }
}
