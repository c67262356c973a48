//! `paxos-bench latency` answers every request, on every pair of backends.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use paxos_bench::{
    Cluster, Entry, Operation, Payload, StorageKind, TransportKind, matrix::backends, open_loop,
};

const DIRECTORY: &str = env!("CARGO_TARGET_TMPDIR");

#[test]
fn an_open_loop_times_every_request_from_its_intended_start() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let start = Cluster::start(3, TransportKind::Memory, StorageKind::Memory, Path::new(DIRECTORY));
    let cluster = runtime.block_on(start).expect("a cluster");
    let before = runtime.block_on(cluster.agreed()).expect("agreement").commands;
    let nodes = cluster.entry(Entry::Everywhere);
    let time = Duration::from_millis(100);
    for operation in [Operation::Write(Payload::of_size(10)), Operation::Read] {
        let seen = open_loop(runtime.handle(), &nodes, &operation, 500.0, time);
        let seen = seen.expect("a thread");
        assert_eq!((seen.latencies.len(), seen.lateness.len(), seen.failed), (50, 50, 0));
        assert!(seen.latencies.max() >= seen.lateness.max(), "a late start is part of a latency");
        assert!(seen.elapsed >= time, "{:?}", seen.elapsed);
    }
    let after = runtime.block_on(cluster.shutdown()).expect("agreement").commands;
    assert_eq!(after - before, 50, "reads are no commands");
}

#[test]
fn the_command_has_a_row_for_every_combination() {
    rows_of_every_combination(&[], "3", backends());
}

#[cfg(any(feature = "tcp", feature = "quic"))]
#[test]
fn nodes_in_processes_of_their_own_have_a_row_for_every_combination_too() {
    let sockets = backends().filter(|(transport, _)| *transport != TransportKind::Memory);
    rows_of_every_combination(&["--processes"], "3 processes", sockets);
}

#[test]
fn nodes_in_processes_of_their_own_need_sockets() {
    let output = Command::new(env!("CARGO_BIN_EXE_paxos-bench"))
        .args(["latency", "--processes", "--transport", "memory"])
        .current_dir(DIRECTORY)
        .output()
        .expect("it has been built");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("--transport tcp or quic"), "{error}");
}

#[test]
fn a_node_ends_with_the_process_that_has_started_it() {
    let directory = tempfile::tempdir_in(DIRECTORY).expect("a directory");
    let mut node = Command::new(env!("CARGO_BIN_EXE_paxos-bench"))
        .args(["node", "--id", "1", "--transport", "memory", "--storage", "memory", "--directory"])
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it has been built");
    let mut lines = BufReader::new(node.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("it runs").expect("text");
    let mut input = node.stdin.take().expect("piped");
    writeln!(input, "{}", next()).expect("it runs");
    assert_eq!(next(), "started");
    writeln!(input, "state").expect("it runs");
    assert_eq!(next(), "0 0");
    drop(input);
    assert!(node.wait().expect("a child").success());
}

fn rows_of_every_combination(
    arguments: &[&str],
    nodes: &str,
    backends: impl Iterator<Item = (TransportKind, StorageKind)>,
) {
    let directory = tempfile::tempdir_in(DIRECTORY).expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (files, out) = (path("files"), path("out"));
    let output = Command::new(env!("CARGO_BIN_EXE_paxos-bench"))
        .args(["latency", "--nodes", "3", "--rate", "200", "--seconds", "0.1"])
        .args(["--directory", &files, "--out", &out])
        .args(arguments)
        .output()
        .expect("it has been built");
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("fdatasync of a page"), "{table}");
    for (transport, storage) in backends {
        for operation in ["write", "read"] {
            let row = [transport.to_string(), storage.to_string(), nodes.into(), operation.into()];
            let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
            let rows = table.lines().map(cells).filter(|cells: &Vec<String>| {
                cells.get(1..).is_some_and(|cells| cells.starts_with(&row))
            });
            assert_eq!(rows.count(), 1, "{row:?} in {table}");
        }
    }
    let json = std::fs::read_to_string(format!("{out}/latency.json")).expect("written");
    assert!(json.contains("\"latencies_us\""));
    let left = std::fs::read_dir(&files).expect("the directory");
    assert_eq!(left.count(), 0, "the files of the nodes are deleted");
}

#[test]
fn a_rate_that_makes_no_sense_is_refused_with_what_would() {
    let output = Command::new(env!("CARGO_BIN_EXE_paxos-bench"))
        .args(["latency", "--rate", "0"])
        .output()
        .expect("it has been built");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("between 1 and 1000000"), "{error}");
}
