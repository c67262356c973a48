//! Clients at work: several at once, on the same few keys, each with a deadline for what it asks.
//!
//! Half of them stay with one server each, come what may; the others go on to the next server
//! after a failure. All work on one *group* of keys at a time and leave it for a fresh one after
//! some operations, so that histories fall into pieces that can be searched to their end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{
    history::{Operation, Outcome, Request, key},
    wire::{connect, perform},
};

/// Clients that go from server to server.
const ROVING: usize = 3;

/// Keys of a group.
const KEYS: u64 = 4;

/// Operations after which a group is left.
const GROUP_OPERATIONS: u64 = 120;

/// Operations of unknown outcome after which it is left: each doubles what there is to search.
const GROUP_UNKNOWN: u64 = 4;

/// The longest pause between two requests of a client.
const PAUSE_MAX_MS: u64 = 15;

/// The same after a failure.
const FAILURE_PAUSE_MAX_MS: u64 = 150;

/// How long a client may wait for an answer: from less than an election takes to longer than the
/// server itself waits.
const DEADLINES_MS: [u64; 4] = [300, 1000, 3000, 9000];

/// Of so many requests one is for compaction.
const COMPACTION_EACH: u64 = 200;

/// So many revisions are kept.
const COMPACTION_LAG: i64 = 200;

/// What large values measure, in bytes.
const LARGE_BYTES: usize = 8 << 10;

/// What the clients share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    group: AtomicU64,
    group_operations: AtomicU64,
    group_unknown: AtomicU64,
    history: Mutex<Vec<Operation>>,
    counts: Counts,
}

/// How requests ended.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    answered: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
}

impl Counts {
    /// Answered, failed, unknown.
    pub(crate) fn read(&self) -> (u64, u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.answered), of(&self.failed), of(&self.unknown))
    }
}

/// Clients at work.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    start: Instant,
}

impl Clients {
    /// Starts a client for each server, and a few that rove.
    pub(crate) fn start(endpoints: &[String], seed: u64) -> Clients {
        let shared = Arc::new(Shared::default());
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for client in 0..endpoints.len() + ROVING {
            let worker = Client {
                number: client,
                channels: endpoints.iter().map(|endpoint| connect(endpoint)).collect(),
                server: client % endpoints.len(),
                roves: client >= endpoints.len(),
                rng: Rng::with_seed(seed ^ (client as u64 + 1)),
                group: 0,
                seen: HashMap::new(),
                revision: 0,
                values: 0,
                start,
                shared: shared.clone(),
            };
            tasks.spawn(worker.run());
        }
        Clients { shared, tasks, start }
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Since the start, as the history has it.
    pub(crate) fn now(&self) -> u64 {
        nanoseconds(self.start)
    }

    /// When the clock of the history began.
    pub(crate) fn start_time(&self) -> Instant {
        self.start
    }

    /// A group that no client has worked on.
    pub(crate) fn fresh_group(&self) -> u64 {
        self.shared.group.fetch_add(2, Ordering::SeqCst) + 1
    }

    /// Adds what somebody else did.
    pub(crate) fn record(&self, operation: Operation) {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }

    /// Ends the clients, once each has its outcome, and returns the history.
    pub(crate) async fn stop(mut self) -> Vec<Operation> {
        self.shared.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no client panics");
        }
        std::mem::take(&mut *self.shared.history.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What there is of the history so far.
    pub(crate) fn history(&self) -> Vec<Operation> {
        self.shared.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One client.
struct Client {
    number: usize,
    channels: Vec<Channel>,
    server: usize,
    roves: bool,
    rng: Rng,
    group: u64,
    /// The last value seen of each key of the group.
    seen: HashMap<String, Option<String>>,
    /// The last revision seen.
    revision: i64,
    values: u64,
    start: Instant,
    shared: Arc<Shared>,
}

impl Client {
    async fn run(mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            let request = self.request();
            let deadline =
                Duration::from_millis(DEADLINES_MS[self.rng.usize(..DEADLINES_MS.len())]);
            let began = nanoseconds(self.start);
            let outcome = perform(&self.channels[self.server], &request, deadline).await;
            let ended = nanoseconds(self.start);
            let failed = !matches!(outcome, Outcome::Answered(_));
            self.learn(&request, &outcome);
            self.record(request, outcome, began, ended);
            if failed && self.roves {
                self.server = (self.server + 1) % self.channels.len();
            }
            let pause_max = if failed { FAILURE_PAUSE_MAX_MS } else { PAUSE_MAX_MS };
            tokio::time::sleep(Duration::from_millis(self.rng.u64(..=pause_max))).await;
        }
    }

    /// What to ask for next.
    fn request(&mut self) -> Request {
        let group = self.shared.group.load(Ordering::SeqCst);
        if std::mem::replace(&mut self.group, group) != group {
            self.seen.clear();
        }
        let number = self.rng.u64(..KEYS);
        let key_of = |number: u64| key(group, number % KEYS);
        let key = key_of(number);
        if self.revision > COMPACTION_LAG && self.rng.u64(..COMPACTION_EACH) == 0 {
            return Request::Compact { revision: self.revision - COMPACTION_LAG };
        }
        match self.rng.u8(..20) {
            0..5 => Request::Put { key, value: self.value() },
            5..10 => Request::Get { key, serializable: false },
            10..11 => Request::Get { key, serializable: true },
            11..15 => {
                let expected = self.seen.get(&key).cloned().flatten();
                Request::CompareAndSwap { key, expected, value: self.value() }
            }
            15..17 => Request::Delete { key },
            17..18 => {
                let to = key_of(number + self.rng.u64(1..KEYS));
                Request::Move { from: key, to, value: self.value() }
            }
            _ => Request::Range { group },
        }
    }

    /// A value that was never written before.
    fn value(&mut self) -> String {
        self.values += 1;
        let unique = format!("{}.{}", self.number, self.values);
        match self.rng.u8(..20) {
            0 => format!("{unique:x<LARGE_BYTES$}"),
            _ => unique,
        }
    }

    /// Remembers what keys hold, to have something to compare with.
    fn learn(&mut self, request: &Request, outcome: &Outcome) {
        let Outcome::Answered(answer) = outcome else { return };
        self.revision = answer.revision;
        let written = match request {
            Request::Put { key, value } => Some((key, value)),
            Request::CompareAndSwap { key, value, .. } if answer.succeeded => Some((key, value)),
            Request::Get { key, .. }
            | Request::CompareAndSwap { key, .. }
            | Request::Delete { key } => {
                self.seen.insert(key.clone(), None);
                None
            }
            Request::Move { .. } | Request::Range { .. } | Request::Compact { .. } => None,
        };
        if let Some((key, value)) = written {
            self.seen.insert(key.clone(), Some(value.clone()));
        }
        for found in &answer.found {
            self.seen.insert(found.key.clone(), Some(found.value.clone()));
        }
    }

    fn record(&mut self, request: Request, outcome: Outcome, began: u64, ended: u64) {
        let shared = &self.shared;
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::SeqCst) + 1;
        let unknown = match &outcome {
            Outcome::Answered(_) => {
                count(&shared.counts.answered);
                0
            }
            Outcome::Failed(_) => {
                count(&shared.counts.failed);
                0
            }
            Outcome::Unknown(_) => {
                count(&shared.counts.unknown);
                if request.changes_nothing() { 0 } else { count(&shared.group_unknown) }
            }
        };
        if count(&shared.group_operations) >= GROUP_OPERATIONS || unknown >= GROUP_UNKNOWN {
            shared.group_operations.store(0, Ordering::SeqCst);
            shared.group_unknown.store(0, Ordering::SeqCst);
            shared.group.fetch_add(1, Ordering::SeqCst);
        }
        let (client, server) = (self.number, self.server);
        let operation = Operation { client, server, began, ended, request, outcome };
        shared.history.lock().unwrap_or_else(PoisonError::into_inner).push(operation);
    }
}

fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).expect("a run ends within centuries")
}
