//! How often the allocator is asked, per slot and per command. One call more than stands here is a
//! failure, which leaves a profile of where the calls came from; whoever saves one lowers the bound.
//!
//! Everything happens on one thread, this program's only one, and the nodes' clock stands still while
//! there is work, so that no heartbeat comes between. Lists that have not reached their full length
//! grow now and then: of several counts the lowest one is without that.
//!
//! # What remains
//!
//! | of a slot | calls |
//! |---|---|
//! | the buffer of the batch, into which the leader gathers the commands and encodes their header | 1 |
//! | the count of those who share it, in memory and on their way | 1 |
//! | the batch: that buffer, its hash and its runs, shared by the three replicas | 1 |
//! | where each command ends, if they are more than six | 1 |
//! | the list of records of each replica's write, which the storage takes over | 3 |
//! | in a node: the list of decoded commands that each state machine is given, and fills with its responses | 3 |
//!
//! And of a command in a node the channel on which its client waits. A command as such costs none:
//! its bytes are copied into the buffer of its batch.

use std::{path::Path, process::ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use paxos_bench::{Cluster, Entry, HarnessError, Payload, StorageKind, TransportKind, Trio, drive};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const DIRECTORY: &str = env!("CARGO_TARGET_TMPDIR");

/// The size of a command, in bytes.
const COMMAND_BYTES: usize = 256;

/// Rounds, each a slot, before anything is counted.
const WARM_UP_ROUNDS: u64 = 300;

/// Rounds that are counted together.
const ROUNDS: u64 = 50;

/// Counts of which the lowest one stands.
const COUNTS: usize = 5;

/// Calls for a slot of few commands, and of many, by the protocol alone.
const SLOT: u64 = 6;
const LONG_SLOT: u64 = SLOT + 1;

/// What the nodes add: for a slot, and for a command that somebody awaits.
const NODES_SLOT: u64 = 3;
const AWAITED: u64 = 1;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = vec![
        Trial::test("protocol_with_1_in_flight", || protocol(1, SLOT)),
        Trial::test("protocol_with_64_in_flight", || protocol(64, LONG_SLOT)),
        Trial::test("protocol_with_1024_in_flight", || protocol(1024, LONG_SLOT)),
        Trial::test("nodes_with_1_in_flight", || nodes(1, SLOT + NODES_SLOT + AWAITED)),
        Trial::test("nodes_with_64_in_flight", || nodes(64, LONG_SLOT + NODES_SLOT + 64 * AWAITED)),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Three replicas driven by hand.
fn protocol(in_flight: usize, expected: u64) -> Result<(), Failed> {
    let mut trio = Trio::elected()?;
    let command = Payload::of_size(COMMAND_BYTES).content().clone();
    for _ in 0..WARM_UP_ROUNDS {
        trio.round(&command, in_flight)?;
    }
    let _profiler = profiler(&format!("protocol-{in_flight}"));
    let calls = fewest(|| {
        for _ in 0..ROUNDS {
            trio.round(&command, in_flight)?;
        }
        Ok(())
    })?;
    check(calls, expected);
    Ok(())
}

/// Three nodes over memory, a task for each client.
fn nodes(in_flight: usize, expected: u64) -> Result<(), Failed> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let (transport, storage) = (TransportKind::Memory, StorageKind::Memory);
    let start = Cluster::start(3, transport, storage, Path::new(DIRECTORY));
    let cluster = runtime.block_on(start)?;
    let (entry, payload) = (cluster.entry(Entry::Leader), Payload::of_size(COMMAND_BYTES));
    let propose = |rounds: u64| {
        let commands = rounds * in_flight as u64;
        runtime.block_on(drive(&entry, &payload, in_flight, commands)).map(drop)
    };
    propose(WARM_UP_ROUNDS)?;
    let profiler = profiler(&format!("nodes-{in_flight}"));
    // What the clients' own tasks cost is in both.
    let (once, twice) = (fewest(|| propose(ROUNDS))?, fewest(|| propose(2 * ROUNDS))?);
    check(twice - once, expected);
    drop(profiler);
    runtime.block_on(cluster.shutdown())?;
    Ok(())
}

/// The calls for [`ROUNDS`] are at most what is expected of each.
fn check(calls: u64, expected: u64) {
    let per_slot = calls as f64 / ROUNDS as f64;
    dhat::assert!(calls <= expected * ROUNDS, "{per_slot} allocations per slot and not {expected}");
}

/// The fewest calls that `work` has needed.
fn fewest(mut work: impl FnMut() -> Result<(), HarnessError>) -> Result<u64, HarnessError> {
    let mut fewest = u64::MAX;
    for _ in 0..COUNTS {
        let before = dhat::HeapStats::get().total_blocks;
        work()?;
        fewest = fewest.min(dhat::HeapStats::get().total_blocks - before);
    }
    Ok(fewest)
}

/// Counts until it is dropped. A failed check writes a profile for dhat's viewer, `dh_view.html`.
fn profiler(name: &str) -> dhat::Profiler {
    let file = Path::new(DIRECTORY).join(format!("allocations-{name}.json"));
    dhat::Profiler::builder().testing().file_name(file).build()
}
