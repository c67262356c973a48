//! Commands per second, and what the machine allows. The crate's front page explains the figures.

mod setup;

use std::path::Path;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use paxos_bench::{
    Entry, Fixture, HarnessError, Payload, Pipeline, StorageKind, TransportKind,
    limit::{Fdatasync, Loopback},
    matrix::{backends, loads},
};
use setup::{DIRECTORY, group};

fn main() -> Result<(), HarnessError> {
    setup::run(&[limits, clusters, pipelines])
}

fn limits(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let mut group = group(criterion, "limit", SamplingMode::Flat);
    let mut fdatasync = Fdatasync::new(Path::new(DIRECTORY))?;
    for (size, bytes, in_flight) in loads() {
        group.throughput(Throughput::Elements(in_flight as u64));
        let id = BenchmarkId::new(format!("fdatasync/{size}"), in_flight);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|rounds| {
                fdatasync.drive(bytes * in_flight, rounds).expect("the disk works")
            });
        });
    }
    for (size, bytes, in_flight) in loads() {
        group.throughput(Throughput::Elements(in_flight as u64));
        let mut loopback = Loopback::new(bytes * in_flight)?;
        let id = BenchmarkId::new(format!("loopback/{size}"), in_flight);
        group.bench_function(id, |bencher| {
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
        for (name, entry) in [("throughput", Entry::Leader), ("forwarding", Entry::Everywhere)] {
            let mut group = group(criterion, name, SamplingMode::Flat);
            for (size, bytes, in_flight) in loads() {
                if entry == Entry::Everywhere && (size, in_flight) != ("256B", 64) {
                    continue;
                }
                let payload = Payload::of_size(bytes);
                group.throughput(Throughput::Elements(in_flight as u64));
                let id = BenchmarkId::new(format!("{transport}/{storage}/{size}"), in_flight);
                group.bench_function(id, |bencher| {
                    let nodes = fixture.prepare(entry).expect("the cluster starts");
                    bencher.iter_custom(|rounds| {
                        let time = fixture.throughput(&nodes, &payload, in_flight, rounds);
                        time.expect("every command has a result")
                    });
                });
            }
            group.finish();
        }
        fixture.close()?;
    }
    Ok(())
}

/// What a client gains that keeps its commands in flight from one task, beside a task for each.
fn pipelines(criterion: &mut Criterion) -> Result<(), HarnessError> {
    let (transport, storage) = (TransportKind::Memory, StorageKind::Memory);
    let mut fixture = Fixture::new(transport, storage, Path::new(DIRECTORY))?;
    let mut group = group(criterion, "pipeline", SamplingMode::Flat);
    let payload = Payload::of_size(256);
    let ways = [
        ("task_each", None),
        ("submit", Some(Pipeline::Submit)),
        ("propose_batch", Some(Pipeline::Batch)),
    ];
    for in_flight in [64, 1024] {
        group.throughput(Throughput::Elements(in_flight as u64));
        for (name, way) in ways {
            group.bench_function(BenchmarkId::new(name, in_flight), |bencher| {
                let nodes = fixture.prepare(Entry::Leader).expect("the cluster starts");
                bencher.iter_custom(|rounds| {
                    let time = match way {
                        None => fixture.throughput(&nodes, &payload, in_flight, rounds),
                        Some(way) => fixture.pipelined(&nodes[0], &payload, way, in_flight, rounds),
                    };
                    time.expect("every command has a result")
                });
            });
        }
    }
    group.finish();
    fixture.close()
}
