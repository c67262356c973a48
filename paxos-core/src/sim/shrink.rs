//! Makes a failing run simpler: leaves out faults while it still fails in the same way.

use super::{
    check::Check,
    fault::Fault,
    simulation::{Failure, Simulation},
};

/// Runs that a search makes at most.
const RUNS_MAX: u32 = 500;

/// The simplest failing run that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// How it fails, and what is left out.
    pub failure: Failure,
    /// The strikes left in it.
    pub strikes: usize,
    /// Runs that the search made.
    pub runs: u32,
}

impl Simulation {
    /// Looks for a failing run of this seed with fewer faults: first without whole kinds, then
    /// without single strikes, first many at a time, then fewer. `None` if the seed does not fail.
    #[must_use]
    pub fn shrink(&self, seed: u64) -> Option<Shrunk> {
        let failure = self.run(seed).err()?;
        let mut search = Search { simulation: self, check: failure.check, best: failure, runs: 1 };
        search.drop_kinds();
        search.drop_strikes();
        let Search { best: failure, runs, .. } = search;
        let strikes = failure.strikes.iter().filter(|strike| failure.restriction.allows(strike));
        Some(Shrunk { strikes: strikes.count(), failure, runs })
    }
}

struct Search<'a> {
    simulation: &'a Simulation,
    check: Check,
    best: Failure,
    runs: u32,
}

impl Search<'_> {
    /// Whether the best run still fails in its way without this too; then it is the best.
    fn fails_without(&mut self, kind: Option<Fault>, strikes: &[u64]) -> bool {
        if self.runs == RUNS_MAX {
            return false;
        }
        self.runs += 1;
        let mut restriction = self.best.restriction.clone();
        restriction.without.extend(kind);
        restriction.skipped.extend(strikes);
        let run = self.simulation.clone().restricted(restriction).run(self.best.seed);
        match run {
            Err(failure) if failure.check == self.check => {
                self.best = failure;
                true
            }
            _ => false,
        }
    }

    fn drop_kinds(&mut self) {
        for &kind in Fault::ALL {
            if !self.simulation.restriction().without.contains(&kind) {
                self.fails_without(Some(kind), &[]);
            }
        }
    }

    fn drop_strikes(&mut self) {
        let mut size = self.best.strikes.len();
        while size > 0 {
            let mut first = 0;
            loop {
                let left = self.best.strikes.iter().map(|strike| strike.number);
                let left: Vec<_> =
                    left.filter(|number| !self.best.restriction.skipped.contains(number)).collect();
                let Some(candidates) = left.get(first..).filter(|rest| !rest.is_empty()) else {
                    break;
                };
                let some = &candidates[..size.min(candidates.len())];
                if !self.fails_without(None, some) {
                    first += size;
                }
            }
            size /= 2;
        }
    }
}
