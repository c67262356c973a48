//! Side by side with the peers: the libraries one would choose instead, measured in one run.

mod actor;
mod alone;
mod cell;
mod contestant;
mod contestants;
mod error;
mod plan;
mod protocol;
mod report;
mod run;
mod sample;
mod schedule;
mod summary;
mod tasks;
mod terms;

pub use cell::{Cell, Flavour, Mode, WORKERS};
pub use contestant::Contestant;
pub use error::CompareError;
pub use plan::{Entrant, Plan, Request, Runtimes};
pub use report::Report;
pub use run::measure;
pub use sample::Sample;
pub use schedule::{Figures, Measured, run};
pub use summary::{CellSummary, Spread, Standing};
pub use terms::Terms;
