//! How long a command takes, and what the machine allows. The crate's front page explains the
//! figures.

mod setup;

use std::path::Path;

use criterion::{BenchmarkId, Criterion, SamplingMode};
use paxos_bench::{
    Entry, Fixture, HarnessError, Payload,
    limit::{Fdatasync, Loopback},
    matrix::{SIZES, backends, loads},
};
use setup::{DIRECTORY, group};

fn main() -> Result<(), HarnessError> {
    setup::run(&[limits, clusters])
}

/// The limits of a single command: nothing that others do at the same time makes it faster.
fn limits(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let mut group = group(criterion, "limit", SamplingMode::Flat);
    let mut fdatasync = Fdatasync::new(Path::new(DIRECTORY))?;
    for (size, bytes) in SIZES {
        group.bench_function(BenchmarkId::new(format!("fdatasync/{size}"), 1), |bencher| {
            bencher.iter_custom(|rounds| fdatasync.drive(bytes, rounds).expect("the disk works"));
        });
        let mut loopback = Loopback::new(bytes)?;
        group.bench_function(BenchmarkId::new(format!("loopback/{size}"), 1), |bencher| {
            bencher.iter_custom(|rounds| loopback.drive(rounds).expect("the loopback works"));
        });
        loopback.close()?;
    }
    group.finish();
    Ok(())
}

fn clusters(criterion: &mut Criterion) -> Result<(), HarnessError> {
    for (transport, storage) in backends() {
        let mut fixture = Fixture::new(transport, storage, Path::new(DIRECTORY))?;
        let mut group = group(criterion, "latency", SamplingMode::Flat);
        for (size, bytes, in_flight) in loads() {
            let payload = Payload::of_size(bytes);
            let id = BenchmarkId::new(format!("{transport}/{storage}/{size}"), in_flight);
            group.bench_function(id, |bencher| {
                let nodes = fixture.prepare(Entry::Leader).expect("the cluster starts");
                let background = fixture.start_background(&nodes, &payload, in_flight - 1);
                background.expect("every command has a result");
                bencher.iter_custom(|commands| {
                    let time = fixture.latency(&nodes[0], &payload, commands);
                    time.expect("every command has a result")
                });
                fixture.stop_background().expect("every command has a result");
            });
        }
        group.finish();
        fixture.close()?;
    }
    Ok(())
}
