//! Every contestant that is compiled in commits exactly what was proposed, in every mode and runtime:
//! a measurement fails unless the counts of all replicas are those of the clients.

use std::{
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Parser;
use paxos_bench::{
    Environment,
    compare::{Contestant, Figures, Mode, Plan, Report, Request, run},
};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    request: Request,
}

fn plan(arguments: &str) -> Plan {
    let line = ["compare"].into_iter().chain(arguments.split_ascii_whitespace());
    let request = Line::parse_from(line).request;
    Plan::new(&request, Arc::new(AtomicBool::new(false))).expect("the arguments make sense")
}

#[test]
fn every_contestant_commits_exactly_what_was_proposed() {
    let plan = plan("--payload 0,100 --in-flight 1,70 --nodes 3,5 --rounds 1 --seconds 0.02");
    let mut begun = 0;
    let (measured, ended) = run(&plan, |_, _| begun += 1);
    ended.expect("all replicas agree with their clients");
    assert_eq!(begun, plan.measurements());
    assert_eq!(measured.len(), 2 * 2 * 2 * 2);
    for (cell, figures) in &measured {
        for contestant in Contestant::ALL.into_iter().filter(|one| one.is_compiled_in()) {
            let own = figures.iter().filter(|figures| figures.entrant.contestant == contestant);
            let expected = match cell.mode {
                _ if !contestant.has(cell.mode) => 0,
                Mode::Tasks => 2,
                Mode::Protocol => 1,
            };
            assert_eq!(own.count(), expected, "{contestant} in {cell}");
        }
        let lively = |figures: &Figures| figures.rates[0] > 0.0 && !figures.latencies.is_empty();
        assert!(figures.iter().all(lively), "{cell}: {figures:?}");
    }
    let report = Report::new(Environment::look(), "test".to_owned(), &measured);
    let json = report.json().expect("figures are finite");
    assert!(json.contains("\"commands_per_second\""));
    assert!(report.to_string().contains("commands/s"));
}

#[test]
fn a_log_that_is_trimmed_loses_nothing() {
    let plan = plan("--payload 8 --in-flight 4096 --nodes 3 --rounds 1 --seconds 0.3");
    let (_, ended) = run(&plan, |_, _| {});
    ended.expect("all replicas agree with their clients");
}

#[test]
fn an_interrupted_run_ends_with_what_is_whole() {
    let plan = plan("--payload 8 --in-flight 1 --nodes 3 --mode protocol --contestants ours");
    let mut begun = 0;
    let interrupted = Arc::clone(&plan.terms.interrupted);
    let (measured, ended) = run(&plan, |_, _| {
        begun += 1;
        interrupted.store(true, Ordering::Relaxed);
    });
    ended.expect("an end by request is no failure");
    assert_eq!(begun, 1);
    assert!(measured.is_empty());
}

fn compare(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_paxos-bench"))
        .arg("compare")
        .args(arguments.split_ascii_whitespace())
        .output()
        .expect("it has been built")
}

#[test]
fn an_argument_that_makes_no_sense_is_refused_with_what_would() {
    for (arguments, remedy) in [
        ("--rounds 0", "--rounds must be at least 1"),
        ("--seconds 0", "--seconds must be between 0.001 and 3600"),
        ("--nodes 2", "--nodes must be between 3 and 9, not 2"),
        ("--in-flight 0", "--in-flight must be between 1 and 16384"),
        ("--payload 1000000 --in-flight 64", "must be so small that"),
        ("--memory 1", "--memory must be at least 256 MiB"),
        ("--contestants echo --mode protocol", "add `tasks` to --mode"),
        ("--contestants etcd", "possible values: ours, omnipaxos, raft-rs, openraft, echo"),
        #[cfg(not(feature = "openraft"))]
        ("--contestants openraft", "build with `--features openraft`"),
    ] {
        let output = compare(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(remedy), "{arguments}: {error}");
    }
}

#[test]
fn the_command_writes_what_it_has_measured() {
    let directory = tempfile::tempdir().expect("a directory");
    let short = "--payload 16 --in-flight 1,8 --nodes 3 --rounds 2 --seconds 0.01";
    let output = compare(&format!("{short} --out {}", directory.path().display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains("ours / best peer") && table.contains("| protocol |"), "{table}");
    let read = |name| std::fs::read_to_string(directory.path().join(name)).expect("written");
    assert!(read("compare.json").contains("\"of_echo\""));
    assert!(read("compare.html").contains("tasks, 3 nodes, 16 B, 8 in flight"));
}
