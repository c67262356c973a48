//! What the benchmarks have in common.

use std::{path::Path, time::Duration};

use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use paxos_bench::{Disk, Environment, HarnessError};

/// On the disk of the build, which a directory for temporary files need not be.
pub(crate) const DIRECTORY: &str = env!("CARGO_TARGET_TMPDIR");

/// Measures a part of a benchmark.
type Part = fn(&mut Criterion) -> Result<(), HarnessError>;

/// Runs the parts; the command line has the last word.
///
/// The intervals of a report are drawn from its samples: thirty of a tenth of a second each span many
/// turns of the scheduler and many syncs of the disk, and ten of them would mean little.
pub(crate) fn run(parts: &[Part]) -> Result<(), HarnessError> {
    eprint!("{}{}", Environment::look(), Disk::look(Path::new(DIRECTORY))?);
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    for part in parts {
        part(&mut criterion)?;
    }
    criterion.final_summary();
    Ok(())
}

/// A group of benchmarks. A round that takes long is best sampled [flat](SamplingMode::Flat): no sample
/// takes longer than another.
pub(crate) fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    mode: SamplingMode,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(mode);
    group
}
