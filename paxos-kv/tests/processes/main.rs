//! Clients against real server processes, real sockets and real files, under faults.
//!
//! The servers talk to each other through proxies of this test, which cut, delay, lose, reorder
//! and double their traffic, each direction by itself; their processes are killed and frozen,
//! their disks filled. The clients write down what they were told and when, and that must be what
//! one store could have told them. Which faults happen, to whom and when, follows from a seed; how
//! the servers and the machine run does not.
//!
//! ```sh
//! cargo test -p paxos-kv --test processes                    # half a minute
//! cargo test -p paxos-kv --test processes -- --minutes 60    # as long as there is time
//! # States for members that have missed too much; three minutes each.
//! cargo test -p paxos-kv --test processes -- --ignored --nocapture transfer
//! # The same with a million commands, a quarter of them missed each time.
//! cargo build --release -p paxos-kv
//! PAXOS_TRANSFER_COMMANDS=1000000 PAXOS_KV_PROGRAM=$PWD/target/release/paxos-kv \
//!     cargo test -p paxos-kv --test processes -- --ignored --nocapture transfer
//! # How long writes stand still when leaders are killed or frozen; five minutes each.
//! cargo test -p paxos-kv --test processes -- --ignored --nocapture leaders
//! ```

#[path = "../common/api.rs"]
mod api;
mod clients;
mod cluster;
mod company;
mod doctored;
mod ending;
mod failover;
mod faults;
#[path = "../common/frames.rs"]
mod frames;
#[path = "../common/history.rs"]
mod history;
mod hosts;
mod large_packets;
mod linearizability;
mod nemesis;
mod network;
mod options;
#[path = "../../../paxos-transport/tests/common/packet_filter.rs"]
mod packet_filter;
mod parts;
#[path = "../common/ports.rs"]
mod ports;
mod progress;
mod put_back;
mod room;
mod rot;
mod run;
mod stream;
mod tcp;
mod tmpfs;
mod transfer;
mod udp;
mod wire;
#[path = "../common/witness.rs"]
mod witness;

use std::{
    io,
    process::ExitCode,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use clap::Parser;
use libtest_mimic::{Failed, Trial};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    failover::End,
    options::{Options, Setup, Transport},
    run::Report,
    tmpfs::Tmpfs,
};

/// How long servers fail in a test.
const SHORT: Duration = Duration::from_secs(14);

/// After so long every fault must have happened and shown its effect.
const LONG_MINUTES: f64 = 10.0;

/// What this program returns if a signal ended it, as shells have it for SIGINT.
const SIGNALLED: i32 = 130;

/// One cluster at a time: a machine may have few cores.
static TURN: Mutex<()> = Mutex::new(());

/// Whether packets can be dropped here, or why not.
static PACKET_FILTER: OnceLock<Result<(), String>> = OnceLock::new();

fn main() -> ExitCode {
    let options = Options::parse();
    // Before there are other threads: all of them are to be in there.
    let entered = packet_filter::enter_namespace().map_err(|error| error.to_string());
    PACKET_FILTER.set(entered).expect("it is set once");
    match options.minutes {
        Some(minutes) => match runtime().block_on(long(minutes, &options)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprintln!("FAILED: {reason}");
                ExitCode::FAILURE
            }
        },
        None => libtest_mimic::run(&options.harness, tests()).exit_code(),
    }
}

fn tests() -> Vec<Trial> {
    let doctored = doctored::DOCTORED.into_iter().map(|doctored| {
        Trial::test(doctored.name, move || Ok(doctored.test()?)).with_kind("check")
    });
    let parts = [
        part("tcp_is_cut_in_one_direction", || waits(parts::tcp_is_cut_in_one_direction())),
        part("tcp_is_severed", || waits(parts::tcp_is_severed())),
        part("udp_is_cut_lost_and_doubled_by_direction", || {
            waits(parts::udp_is_cut_lost_and_doubled_by_direction())
        }),
        part("the_seed_decides_about_faults", parts::the_seed_decides_about_faults),
        part(
            "the_command_of_a_run_repeats_its_faults",
            parts::the_command_of_a_run_repeats_its_faults,
        ),
        part("cuts_are_what_they_are_called", parts::cuts_are_what_they_are_called),
    ];
    let runs = [
        Trial::test("three_servers_over_tcp", || short(3, Transport::Tcp, 1)),
        Trial::test("five_servers_over_quic", || short(5, Transport::Quic, 2)),
        Trial::test("rot_in_the_tables", || alone(rot::rot_in_the_tables())),
        Trial::test("tables_without_room", || match small_disks() {
            true => alone(room::tables_without_room()),
            false => Ok(()),
        }),
        Trial::test("put_back", || alone(put_back::put_back())),
        Trial::test("large_packets_over_tcp", || large_packets(Transport::Tcp)),
        Trial::test("large_packets_over_quic", || large_packets(Transport::Quic)),
    ];
    let transfers = [
        Trial::test("transfer_over_tcp", || alone(transfer::cuts_and_kills(Transport::Tcp))),
        Trial::test("transfer_over_quic", || alone(transfer::cuts_and_kills(Transport::Quic))),
        Trial::test("transfer_to_a_full_disk", || match small_disks() {
            true => alone(transfer::full_disk()),
            false => Ok(()),
        }),
    ];
    let failovers = [
        ("leaders_killed_over_tcp", Transport::Tcp, End::Killed),
        ("leaders_killed_over_quic", Transport::Quic, End::Killed),
        ("leaders_frozen_over_tcp", Transport::Tcp, End::Frozen),
        ("leaders_frozen_over_quic", Transport::Quic, End::Frozen),
    ];
    let failovers = failovers.map(|(name, transport, end)| {
        Trial::test(name, move || alone(failover::leaders_go(transport, end, packet_filter())))
    });
    // Minutes, on two cores.
    let long = transfers.into_iter().chain(failovers).map(|trial| trial.with_ignored_flag(true));
    doctored.chain(parts).chain(runs).chain(long).collect()
}

fn part(name: &str, test: fn()) -> Trial {
    let run = move || {
        test();
        Ok(())
    };
    Trial::test(name, run).with_kind("part")
}

fn waits(test: impl Future<Output = io::Result<()>>) {
    runtime().block_on(test).expect("nothing on loopback fails");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// A test: a few seconds of faults.
fn short(nodes: usize, transport: Transport, seed: u64) -> Result<(), Failed> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let setup = Setup::new(nodes, transport, seed, SHORT, small_disks());
    let setup = Setup { packet_filter: packet_filter(), ..setup };
    let report = runtime().block_on(run_or_exit(setup))?;
    report.print();
    Ok(report.check_faults()?)
}

/// A test: large packets get lost, if they can be made to.
fn large_packets(transport: Transport) -> Result<(), Failed> {
    match packet_filter() {
        true => alone(large_packets::large_packets(transport)),
        false => Ok(()),
    }
}

/// A test: one cluster, with something in mind.
fn alone(test: impl Future<Output = Result<(), String>>) -> Result<(), Failed> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(runtime().block_on(test)?)
}

/// Run after run until the time is over, or somebody interrupts.
async fn long(minutes: f64, options: &Options) -> Result<(), String> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let (small_disks, packet_filter) = (small_disks(), packet_filter());
    let mut total = Report::default();
    let (began, all) = (Instant::now(), Duration::from_secs_f64(minutes * 60.0));
    for round in 0.. {
        // The first round is as long as was asked for, to the nanosecond: its faults depend on that.
        let elapsed = if round == 0 { Duration::ZERO } else { began.elapsed() };
        let left = all.saturating_sub(elapsed);
        if round > 0 && left < SHORT {
            break;
        }
        let nodes = options.nodes.map_or([3, 5][round % 2], |nodes| nodes as usize);
        let turn = [Transport::Tcp, Transport::Quic][round / 2 % 2];
        let transport = options.transport.unwrap_or(turn);
        let duration = left.min(Duration::from_secs_f64(options.round_seconds));
        let setup = Setup {
            packet_filter,
            only: options.faults.clone(),
            ..Setup::new(nodes, transport, seed + round as u64, duration, small_disks)
        };
        total.add(run_or_exit(setup).await?);
        println!("{} runs so far:", total.runs);
        total.print();
    }
    println!("{} runs, all clean", total.runs);
    if minutes >= LONG_MINUTES {
        total.check_faults()?;
        total.check_effects()?;
    }
    Ok(())
}

/// Runs once. A signal ends this program, and before that all servers.
async fn run_or_exit(setup: Setup) -> Result<Report, String> {
    let listen = |kind| signal(kind).map_err(|error| error.to_string());
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let name = tokio::select! {
        report = run::run(setup) => return report,
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    };
    println!("ended by {name}; all was clean so far");
    std::process::exit(SIGNALLED);
}

/// Whether small file systems can be mounted here. Says so, since without them disks are never
/// full.
fn small_disks() -> bool {
    let mounted = tempfile::tempdir().and_then(|directory| Tmpfs::mount(directory.path()));
    match mounted {
        Ok(_) => {
            println!("full disks: available");
            true
        }
        Err(error) => {
            println!("full disks: NOT AVAILABLE, nothing can be mounted here: {error}");
            false
        }
    }
}

/// Whether packets can be dropped here. Says so, since without that none are.
fn packet_filter() -> bool {
    match PACKET_FILTER.get().expect("it is set first") {
        Ok(()) => println!("packet filter: available"),
        Err(error) => println!("packet filter: NOT AVAILABLE, no packets are dropped: {error}"),
    }
    PACKET_FILTER.get().is_some_and(Result::is_ok)
}
