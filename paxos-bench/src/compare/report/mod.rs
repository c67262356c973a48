//! What a run has shown, for the terminal, for programs and for a browser.

mod chart;
mod html;
mod table;

use serde::Serialize;

use super::{CellSummary, Contestant, Measured};
use crate::Environment;

/// A whole comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it was made.
    pub environment: Environment,
    /// The command line.
    pub command: String,
    /// What was compared, with its version.
    pub contestants: Vec<(Contestant, Option<&'static str>)>,
    /// Why it is not whole, if it is not.
    pub ended_early: Option<String>,
    /// The figures.
    pub cells: Vec<CellSummary>,
}

impl Report {
    /// Of what was measured in this environment.
    #[must_use]
    pub fn new(environment: Environment, command: String, measured: &[Measured]) -> Report {
        let cells: Vec<_> = measured.iter().map(CellSummary::of).collect();
        let took_part =
            |contestant: &Contestant| cells.iter().any(|cell| cell.standing(*contestant).is_some());
        let contestants = Contestant::ALL.into_iter().filter(took_part);
        let contestants =
            contestants.map(|contestant| (contestant, contestant.version())).collect();
        Report { environment, command, contestants, ended_early: None, cells }
    }

    /// The same for programs.
    ///
    /// # Errors
    ///
    /// None that is known of.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
