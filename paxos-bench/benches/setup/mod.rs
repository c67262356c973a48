//! What the benchmarks have in common.

use std::time::Duration;

use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use paxos_bench::HarnessError;

/// On the disk of the build, which a directory for temporary files need not be.
pub(crate) const DIRECTORY: &str = env!("CARGO_TARGET_TMPDIR");

/// Measures a part of a benchmark.
type Part = fn(&mut Criterion) -> Result<(), HarnessError>;

/// Runs the parts with settings that keep the whole short; the command line has the last word.
pub(crate) fn run(parts: &[Part]) -> Result<(), HarnessError> {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for part in parts {
        part(&mut criterion)?;
    }
    criterion.final_summary();
    Ok(())
}

pub(crate) fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group
}
