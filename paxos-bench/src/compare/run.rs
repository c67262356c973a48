//! From a contestant's name to its measurement.

use tokio::runtime::{Builder, Runtime};

use super::{
    Cell, CompareError, Contestant, Flavour, Mode, Sample, Terms, WORKERS,
    actor::Actors,
    alone::Alone,
    contestants::{echo::Echo, ours::Ours, ours_alone::Solo},
    tasks::{self, Service},
};

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
    let result = match (contestant, cell.mode) {
        (Contestant::Ours, Mode::Tasks) => in_tasks::<Ours>(flavour, cell, terms),
        (Contestant::Ours, Mode::Protocol) => Alone::<Solo>::measure(cell, terms),
        (Contestant::Echo, Mode::Tasks) => in_tasks::<Echo>(flavour, cell, terms),
        #[cfg(feature = "omnipaxos")]
        (Contestant::Omnipaxos, Mode::Tasks) => {
            in_tasks::<Actors<super::contestants::omnipaxos::Server>>(flavour, cell, terms)
        }
        #[cfg(feature = "omnipaxos")]
        (Contestant::Omnipaxos, Mode::Protocol) => {
            Alone::<super::contestants::omnipaxos::Server>::measure(cell, terms)
        }
        #[cfg(feature = "raft-rs")]
        (Contestant::RaftRs, Mode::Tasks) => {
            in_tasks::<Actors<super::contestants::raft_rs::Peer>>(flavour, cell, terms)
        }
        #[cfg(feature = "raft-rs")]
        (Contestant::RaftRs, Mode::Protocol) => {
            Alone::<super::contestants::raft_rs::Peer>::measure(cell, terms)
        }
        #[cfg(feature = "openraft")]
        (Contestant::Openraft, Mode::Tasks) => {
            in_tasks::<super::contestants::openraft::OpenRaft>(flavour, cell, terms)
        }
        (contestant, mode) if !contestant.has(mode) => Err(CompareError::NothingToMeasure(mode)),
        (contestant, _) => Err(CompareError::NotCompiledIn(contestant)),
    };
    result.map_err(|source| CompareError::Measurement {
        contestant,
        cell: *cell,
        source: Box::new(source),
    })
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
