//! What a run is asked to do, checked.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use clap::{Args, ValueEnum};

use super::{Cell, CompareError, Contestant, Flavour, Mode, Terms};

/// Replicas of one cluster, at least and at most: what all contestants can have.
const NODES: std::ops::RangeInclusive<usize> = 3..=9;

/// Commands in flight, at most: as many as this project's node takes.
const IN_FLIGHT_MAX: usize = 16_384;

/// Bytes in flight, at most: half of what this project's node takes.
const BYTES_IN_FLIGHT_MAX: usize = 32 << 20;

/// The warm-up, as a part of the time of a measurement.
const WARM_UP: f64 = 0.2;

/// A cluster without an answer for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which runtimes to measure in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtimes {
    /// Each contestant in both; its better one counts.
    Both,
    /// Tokio on one thread.
    CurrentThread,
    /// Tokio on two threads.
    MultiThread,
}

/// The arguments of a comparison.
#[derive(Args, Clone, Debug)]
pub struct Request {
    /// Sizes of a command, in bytes.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 256, 4096])]
    pub payload: Vec<usize>,
    /// Commands in flight.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 1024, 4096])]
    pub in_flight: Vec<usize>,
    /// Replicas.
    #[arg(long, value_delimiter = ',', default_values_t = [3, 5])]
    pub nodes: Vec<usize>,
    /// With tasks and channels around the protocol, or without.
    #[arg(long, value_delimiter = ',', default_values = ["tasks", "protocol"])]
    pub mode: Vec<Mode>,
    /// Measurements of each contestant under the same conditions. They take turns.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// How long one measurement takes. A fifth of it goes before as a warm-up.
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Who takes part; by default all that are compiled in.
    #[arg(long, value_delimiter = ',')]
    pub contestants: Vec<Contestant>,
    /// What runs the tasks.
    #[arg(long, value_enum, default_value_t = Runtimes::Both)]
    pub runtime: Runtimes,
    /// A measurement ends early when this process holds so much, in MiB.
    #[arg(long, default_value_t = 4096)]
    pub memory: u64,
}

/// A contestant in one of its runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entrant {
    /// Who.
    pub contestant: Contestant,
    /// In what.
    pub flavour: Flavour,
}

/// A checked [`Request`].
#[derive(Clone, Debug)]
pub struct Plan {
    /// Under which conditions.
    pub cells: Vec<Cell>,
    /// How often.
    pub rounds: usize,
    /// How long.
    pub terms: Terms,
    contestants: Vec<Contestant>,
    runtimes: Runtimes,
}

impl Plan {
    /// Checks a request. The run ends once `interrupted` is set.
    ///
    /// # Errors
    ///
    /// The first argument that makes no sense, and what it may be.
    pub fn new(request: &Request, interrupted: Arc<AtomicBool>) -> Result<Plan, CompareError> {
        request.check()?;
        let mut contestants = request.contestants.clone();
        if contestants.is_empty() {
            contestants = Contestant::ALL.into_iter().filter(|one| one.is_compiled_in()).collect();
        }
        if let Some(missing) = contestants.iter().find(|one| !one.is_compiled_in()) {
            return Err(CompareError::NotCompiledIn(*missing));
        }
        for mode in &request.mode {
            if !contestants.iter().any(|one| one.has(*mode)) {
                return Err(CompareError::NothingToMeasure(*mode));
            }
        }
        let mut cells = Vec::new();
        for mode in &request.mode {
            for nodes in &request.nodes {
                for payload in &request.payload {
                    cells.extend(request.in_flight.iter().map(|in_flight| Cell {
                        mode: *mode,
                        nodes: *nodes,
                        payload: *payload,
                        in_flight: *in_flight,
                    }));
                }
            }
        }
        let time = Duration::from_secs_f64(request.seconds);
        let terms = Terms {
            time,
            warm_up: time.mul_f64(WARM_UP),
            memory_max: request.memory << 20,
            patience: PATIENCE,
            interrupted,
        };
        let (rounds, runtimes) = (request.rounds, request.runtime);
        Ok(Plan { cells, rounds, terms, contestants, runtimes })
    }

    /// Who takes part under these conditions.
    #[must_use]
    pub fn entrants(&self, cell: &Cell) -> Vec<Entrant> {
        let flavours: &[Flavour] = match (cell.mode, self.runtimes) {
            (Mode::Protocol, _) => &[Flavour::Alone],
            (Mode::Tasks, Runtimes::Both) => &[Flavour::CurrentThread, Flavour::MultiThread],
            (Mode::Tasks, Runtimes::CurrentThread) => &[Flavour::CurrentThread],
            (Mode::Tasks, Runtimes::MultiThread) => &[Flavour::MultiThread],
        };
        let contestants = self.contestants.iter().filter(|one| one.has(cell.mode));
        let entrants = contestants.flat_map(|contestant| {
            flavours.iter().map(|flavour| Entrant { contestant: *contestant, flavour: *flavour })
        });
        entrants.collect()
    }

    /// How many measurements that makes.
    #[must_use]
    pub fn measurements(&self) -> usize {
        self.cells.iter().map(|cell| self.entrants(cell).len() * self.rounds).sum()
    }
}

impl Request {
    fn check(&self) -> Result<(), CompareError> {
        let wrong =
            |option, allowed, value: String| Err(CompareError::Argument { option, allowed, value });
        if self.rounds == 0 {
            return wrong("--rounds", "at least 1", self.rounds.to_string());
        }
        if !(0.001..=3600.0).contains(&self.seconds) {
            return wrong("--seconds", "between 0.001 and 3600", self.seconds.to_string());
        }
        if !(256..=1 << 30).contains(&self.memory) {
            return wrong("--memory", "at least 256 MiB", self.memory.to_string());
        }
        if let Some(nodes) = self.nodes.iter().find(|nodes| !NODES.contains(nodes)) {
            return wrong("--nodes", "between 3 and 9", nodes.to_string());
        }
        for in_flight in &self.in_flight {
            if !(1..=IN_FLIGHT_MAX).contains(in_flight) {
                return wrong("--in-flight", "between 1 and 16384", in_flight.to_string());
            }
            let too_much = |size: &&usize| size.saturating_mul(*in_flight) > BYTES_IN_FLIGHT_MAX;
            if let Some(payload) = self.payload.iter().find(too_much) {
                let allowed = "so small that all commands in flight are at most 32 MiB";
                return wrong("--payload", allowed, format!("{payload} times {in_flight}"));
            }
        }
        Ok(())
    }
}
