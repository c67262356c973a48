//! The trace of a run: a hash of everything that happened, so that equal seeds can be seen to give
//! equal runs, and a transcript for people if they ask for one.

use std::{fmt, time::Duration};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Takes the lines of a transcript.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&str);

/// Hash and transcript.
pub(super) struct Trace<'a> {
    hash: u64,
    events: u64,
    sink: Option<Sink<'a>>,
}

impl<'a> Trace<'a> {
    pub(super) fn new(seed: u64, sink: Option<Sink<'a>>) -> Trace<'a> {
        Trace { hash: seed, events: 0, sink }
    }

    /// Something happened: `facts` go into the hash, `line` into the transcript.
    pub(super) fn note<L: fmt::Display>(
        &mut self,
        now: Duration,
        facts: [u64; 3],
        line: impl FnOnce() -> L,
    ) {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut bytes = [0; 32];
        for (chunk, fact) in bytes.chunks_exact_mut(8).zip([nanos, facts[0], facts[1], facts[2]]) {
            chunk.copy_from_slice(&fact.to_le_bytes());
        }
        self.hash = xxh3_64_with_seed(&bytes, self.hash);
        self.events += 1;
        if let Some(sink) = &mut self.sink {
            sink(&format!("{:>11.6}  {}", now.as_secs_f64(), line()));
        }
    }

    /// The hash of everything so far.
    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    /// How much has happened so far.
    pub(super) fn events(&self) -> u64 {
        self.events
    }
}
