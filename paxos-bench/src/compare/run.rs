//! From a contestant's name to its measurement.

use tokio::runtime::{Builder, Runtime};

#[cfg(feature = "omnipaxos")]
use super::contestants::omnipaxos::Server;
#[cfg(feature = "openraft")]
use super::contestants::openraft::OpenRaft;
#[cfg(feature = "raft-rs")]
use super::contestants::raft_rs::Peer;
use super::{
    Cell, CompareError, Contestant, Flavour, Mode, Sample, Terms, WORKERS,
    alone::Alone,
    contestants::{echo::Echo, ours::Ours},
    tasks::{self, Service},
};
use crate::Solo;

/// One measurement, of a new cluster that is gone after it. Fails unless every replica has applied
/// every command.
///
/// # Errors
///
/// If the contestant is not compiled in or has no such mode, or its cluster fails.
pub fn measure(
    contestant: Contestant,
    flavour: Flavour,
    cell: &Cell,
    terms: &Terms,
) -> Result<Sample, CompareError> {
    let tasks = cell.mode == Mode::Tasks;
    let result = match contestant {
        _ if !contestant.has(cell.mode) => Err(CompareError::NothingToMeasure(cell.mode)),
        Contestant::Ours if tasks => in_tasks::<Ours>(flavour, cell, terms),
        Contestant::Ours => Alone::<Solo>::measure(cell, terms),
        Contestant::Echo => in_tasks::<Echo>(flavour, cell, terms),
        #[cfg(feature = "omnipaxos")]
        Contestant::Omnipaxos => either::<Server>(flavour, cell, terms),
        #[cfg(feature = "raft-rs")]
        Contestant::RaftRs => either::<Peer>(flavour, cell, terms),
        #[cfg(feature = "openraft")]
        Contestant::Openraft => in_tasks::<OpenRaft>(flavour, cell, terms),
        #[cfg(not(all(feature = "omnipaxos", feature = "raft-rs", feature = "openraft")))]
        _ => Err(CompareError::NotCompiledIn(contestant)),
    };
    result.map_err(|source| CompareError::Measurement {
        contestant,
        cell: *cell,
        source: Box::new(source),
    })
}

/// A protocol without tasks of its own.
#[cfg(any(feature = "omnipaxos", feature = "raft-rs"))]
fn either<P: super::protocol::Protocol>(
    flavour: Flavour,
    cell: &Cell,
    terms: &Terms,
) -> Result<Sample, CompareError> {
    match cell.mode {
        Mode::Tasks => in_tasks::<super::actor::Actors<P>>(flavour, cell, terms),
        Mode::Protocol => Alone::<P>::measure(cell, terms),
    }
}

fn in_tasks<S: Service>(
    flavour: Flavour,
    cell: &Cell,
    terms: &Terms,
) -> Result<Sample, CompareError> {
    let (cell, terms) = (*cell, terms.clone());
    runtime(flavour)?.block_on(async move { tasks::measure::<S>(&cell, &terms).await })
}

fn runtime(flavour: Flavour) -> Result<Runtime, CompareError> {
    let mut builder = match flavour {
        Flavour::MultiThread => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(WORKERS);
            builder
        }
        Flavour::CurrentThread | Flavour::Alone => Builder::new_current_thread(),
    };
    builder.enable_all().build().map_err(CompareError::io("start a runtime"))
}
