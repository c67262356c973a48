//! The order of measurements.
//!
//! Under the same conditions the contestants take turns, round by round, and each round begins with
//! another one: what the machine does beside, and how warm it is, meets all of them alike.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Cell, CompareError, Entrant, Plan, Sample, measure, sample};

/// What an entrant has reached under the same conditions, in every round.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Who.
    pub entrant: Entrant,
    /// Commands per second, by rounds.
    pub rates: Vec<f64>,
    /// Processor time per command in microseconds, by rounds.
    pub cpu_us: Vec<f64>,
    /// How long the measurements took, by rounds; less than planned where memory ran out.
    pub times: Vec<Duration>,
    /// The latencies of all rounds, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Figures {
    /// None yet.
    #[must_use]
    pub fn new(entrant: Entrant) -> Figures {
        Figures {
            entrant,
            rates: Vec::new(),
            cpu_us: Vec::new(),
            times: Vec::new(),
            latencies: sample::latencies(),
        }
    }

    /// Adds a round.
    pub fn add(&mut self, sample: &Sample) {
        self.rates.push(sample.rate());
        self.cpu_us.push(sample.cpu_us());
        self.times.push(sample.elapsed);
        self.latencies.add(&sample.latencies).expect("both histograms have the same bounds");
    }
}

/// What has been measured under one cell's conditions.
pub type Measured = (Cell, Vec<Figures>);

/// Carries out the plan; `before` hears of each measurement before it begins. Returns what has been
/// measured, and what ended it early.
pub fn run(
    plan: &Plan,
    mut before: impl FnMut(&Cell, Entrant),
) -> (Vec<Measured>, Result<(), CompareError>) {
    let mut measured = Vec::new();
    for cell in &plan.cells {
        let mut figures: Vec<_> = plan.entrants(cell).into_iter().map(Figures::new).collect();
        let ended = rounds(plan, cell, &mut figures, &mut before);
        figures.retain(|figures| !figures.rates.is_empty());
        if !figures.is_empty() {
            measured.push((*cell, figures));
        }
        if ended.is_err() || plan.terms.is_over() {
            return (measured, ended);
        }
    }
    (measured, Ok(()))
}

fn rounds(
    plan: &Plan,
    cell: &Cell,
    figures: &mut [Figures],
    before: &mut impl FnMut(&Cell, Entrant),
) -> Result<(), CompareError> {
    for round in 0..plan.rounds {
        let count = figures.len();
        for index in (0..count).map(|index| (index + round) % count) {
            let figures = &mut figures[index];
            let entrant = figures.entrant;
            before(cell, entrant);
            let sample = measure(entrant.contestant, entrant.flavour, cell, &plan.terms)?;
            // A measurement that was cut short counts for nothing.
            if plan.terms.is_over() {
                return Ok(());
            }
            figures.add(&sample);
        }
    }
    Ok(())
}
