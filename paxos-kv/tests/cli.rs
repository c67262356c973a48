//! The program: what it prints, what it refuses, and how it ends.

#[path = "cli/outputs.rs"]
mod outputs;
#[path = "common/ports.rs"]
mod ports;
#[path = "common/probe.rs"]
mod probe;
#[path = "cli/supervisors.rs"]
mod supervisors;

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a cluster may take to come up on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paxos-kv"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().expect("it runs")
}

/// What it prints, if all goes well.
fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// The last line on standard error of a command that fails with this exit code.
fn refusal(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let stderr = String::from_utf8(output.stderr).expect("it prints text");
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    stderr.lines().last().unwrap_or_default().to_owned()
}

/// A process that runs until it is told to stop.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let child_ref = child.as_mut().expect("it runs");
        let (sender, lines) = channel();
        let outputs: [Box<dyn Read + Send>; 2] = [
            Box::new(child_ref.stdout.take().expect("it is piped") as ChildStdout),
            Box::new(child_ref.stderr.take().expect("it is piped")),
        ];
        for output in outputs {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Running { child: child.expect("it runs"), lines }
    }

    /// Waits for a line with this text and returns it.
    fn line_with(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?} comes"));
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Asks it to end, and expects that it does so without an error.
    fn end(mut self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("a process id fits");
        kill(Pid::from_raw(id), signal).expect("it runs");
        assert!(self.child.wait().expect("it can be waited for").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The arguments of a cluster of one.
struct Single {
    client_port: u16,
    arguments: Vec<String>,
}

impl Single {
    fn new(data: &Path) -> Single {
        let (client_port, peer_port) = (ports::free_port(), ports::free_port());
        let arguments = [
            "serve".to_owned(),
            "--data-dir".to_owned(),
            data.display().to_string(),
            format!("--listen-client-urls=http://127.0.0.1:{client_port}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
        ];
        Single { client_port, arguments: arguments.to_vec() }
    }

    /// One of two, of which the other one never comes; returns the port at which that is expected.
    fn lonely(data: &Path) -> (Single, u16) {
        let mut single = Single::new(data);
        let own = single.arguments[4].split_once('=').expect("a flag and its value").1;
        let nobody = ports::free_port();
        let cluster = format!("--initial-cluster=default={own},other=http://127.0.0.1:{nobody}");
        single.arguments.push(cluster);
        (single, nobody)
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.arguments.iter().map(String::as_str).chain(more.iter().copied()).collect()
    }

    fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }
}

#[test]
fn help_and_version_are_there() {
    assert!(stdout(&["--version"]).starts_with("paxos-kv "));
    let help = stdout(&["--help"]);
    for command in [
        "serve", "demo", "get", "put", "del", "txn", "compact", "status", "endpoint", "check",
        "member", "snapshot",
    ] {
        assert!(help.contains(command), "{command}");
    }
    let help = stdout(&["serve", "--help"]);
    for text in ["--initial-cluster", "ETCD_DATA_DIR", "quic://", "http://localhost:2379"] {
        assert!(help.contains(text), "{text}");
    }
}

#[test]
fn a_server_says_when_it_is_ready_and_who_leads_and_keeps_what_it_is_given() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(directory.path());
    let endpoint = single.endpoint();
    let endpoints = ["--endpoints", &endpoint];
    let server = Running::start(program(&single.arguments(&["--quota-backend-bytes", "1"])));
    server.line_with("--quota-backend-bytes has no effect");
    server.line_with("ready to serve client requests");
    server.line_with("the cluster has a leader");
    let client = |arguments: &[&str]| stdout(&[arguments, &endpoints].concat());
    assert_eq!(client(&["put", "k", "v"]), "OK, revision 2\n");
    assert_eq!(client(&["get", "k", "--print-value-only"]), "v\n");
    let txn = client(&["txn", "--if", "value(k) = v", "--then", "put k w", "--else", "get k"]);
    assert!(txn.starts_with("SUCCESS"), "{txn}");
    server.end(Signal::SIGTERM);

    let server = Running::start(program(&single.arguments(&[])));
    server.line_with("ready to serve client requests");
    let found: serde_json::Value =
        serde_json::from_str(&client(&["get", "k", "--output", "json"])).expect("it is JSON");
    assert_eq!(found["kvs"][0]["value"], "dw==");
    assert_eq!(found["kvs"][0]["version"], 2);
    assert!(client(&["member", "list"]).contains("default"));
    assert!(client(&["status"]).contains("this one"));
    assert_eq!(client(&["del", "k"]), "1 deleted, revision 4\n");
    assert_eq!(client(&["compact", "--keep", "1"]), "compacted, revision 3 is the oldest\n");
    let compacted = refusal(&[&["get", "k", "--rev", "2"], &endpoints[..]].concat(), 1);
    assert!(compacted.contains("required revision has been compacted"), "{compacted}");
    assert_eq!(client(&["compact", "4"]), "compacted, revision 4 is the oldest\n");
    let future = refusal(&[&["compact", "99"], &endpoints[..]].concat(), 1);
    assert!(future.contains("required revision is a future revision"), "{future}");
    check_perf(&endpoint);
    health(&endpoint);
    let refused = refusal(&[&["put", "", "v"], &endpoints[..]].concat(), 1);
    assert_eq!(refused, format!("paxos-kv: {endpoint}: etcdserver: key is not provided"));
    server.end(Signal::SIGINT);
}

/// Writes are counted, and leave nothing behind.
fn check_perf(endpoint: &str) {
    let perf = ["check", "perf", "--seconds", "1", "-w", "json", "--endpoints", endpoint];
    let output = run(&perf);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((&report["demanded"], &report["failed"]), (&150.0.into(), &0.into()));
    assert!(report["writes_per_second"].as_f64().is_some_and(|count| count > 0.0), "{report}");
    // A busy machine may be too slow: then it has to say so.
    assert_eq!(report["passed"] == true, output.status.success(), "{report}");
    let left =
        ["get", "/paxos-kv-check-perf/", "--prefix", "--count-only", "--endpoints", endpoint];
    assert_eq!(stdout(&left), "0\n");
}

/// Who is well, and who is not, side by side.
fn health(endpoint: &str) {
    let shown = stdout(&["endpoint", "health", "--cluster", "--endpoints", endpoint]);
    assert!(shown.contains("true") && shown.contains(endpoint), "{shown}");
    let nobody = format!("127.0.0.1:{}", ports::free_port());
    let both = format!("{endpoint},{nobody}");
    let output = run(&["endpoint", "health", "-w", "json", "--endpoints", &both]);
    assert_eq!(output.status.code(), Some(1));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((&shown[0]["health"], &shown[1]["health"]), (&true.into(), &false.into()));
    assert!(shown[1]["error"].as_str().is_some_and(|reason| reason.contains(&nobody)), "{shown}");
    assert!(stdout(&["endpoint", "status", "--endpoints", endpoint]).contains("this one"));
}

#[test]
fn a_server_that_cannot_start_says_why_in_one_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(directory.path());
    let server = Running::start(program(&single.arguments(&[])));
    server.line_with("ready to serve client requests");

    let in_use = refusal(&single.arguments(&[]), 1);
    assert!(in_use.contains("--listen-client-urls"), "{in_use}");
    let other = Single::new(directory.path());
    let locked = refusal(&other.arguments(&[]), 1);
    assert!(locked.contains("in use by another process"), "{locked}");
    let same_peer_port = &single.arguments[4];
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let mut third = Single::new(elsewhere.path());
    third.arguments[4].clone_from(same_peer_port);
    let in_use = refusal(&third.arguments(&[]), 1);
    assert!(in_use.contains("cannot listen on"), "{in_use}");
    server.end(Signal::SIGTERM);

    let wrong = refusal(&single.arguments(&["--initial-cluster-token", "another"]), 1);
    assert!(wrong.contains("belongs to member"), "{wrong}");
    let empty = tempfile::tempdir().expect("a temporary directory");
    let fresh = Single::new(empty.path());
    let no_data = refusal(&fresh.arguments(&["--initial-cluster-state", "existing"]), 1);
    assert!(no_data.contains("holds no data of a member"), "{no_data}");
    let mistyped = refusal(&fresh.arguments(&["-log-level", "inof"]), 1);
    assert!(mistyped.contains("--log-level must be debug"), "{mistyped}");
    let unknown = run(&single.arguments(&["--no-such-flag", "x"]));
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("--no-such-flag"));
}

#[test]
fn a_client_that_reaches_nobody_says_so() {
    let nobody = format!("127.0.0.1:{}", ports::free_port());
    let error = refusal(&["get", "k", "--endpoints", &nobody], 1);
    assert!(error.contains("no endpoint answers") && error.contains("--endpoints"), "{error}");
    let error = refusal(&["get", "k", "--endpoints", "https://127.0.0.1:1"], 1);
    assert!(error.contains("is no endpoint"), "{error}");
    let error = refusal(&["txn", "--if", "nonsense"], 1);
    assert!(error.contains("is no condition"), "{error}");
    let error = refusal(&["status", "--endpoints", &nobody], 1);
    assert_eq!(error, "paxos-kv: 1 of 1 endpoints failed");
}

/// The system takes connections for a process that stands still.
#[test]
fn an_endpoint_that_stands_still_is_passed_over() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(directory.path());
    let server = Running::start(program(&single.arguments(&[])));
    server.line_with("the cluster has a leader");
    let still = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let still = still.local_addr().expect("it has one").to_string();
    let both = format!("{still},{}", single.endpoint());
    let passed_over = |arguments: &[&str]| {
        let began = Instant::now();
        stdout(&[arguments, &["--endpoints", &both]].concat());
        assert!(began.elapsed() < Duration::from_secs(5), "{arguments:?}: {:?}", began.elapsed());
    };
    // Only who writes is told that something may have happened.
    let given_up = |arguments: &[&str], writes: bool| {
        let error = refusal(&[arguments, &["--timeout", "1", "--endpoints", &still]].concat(), 1);
        assert!(error.contains("no answer in time"), "{error}");
        let remark = "the write may or may not have happened";
        assert_eq!(error.ends_with(remark), writes, "{error}");
    };
    thread::scope(|scope| {
        scope.spawn(|| passed_over(&["put", "k", "v"]));
        scope.spawn(|| passed_over(&["get", "k", "--keys-only"]));
        scope.spawn(|| passed_over(&["member", "list"]));
        scope.spawn(|| given_up(&["get", "k"], false));
        scope.spawn(|| given_up(&["txn", "--then", "get k"], false));
        scope.spawn(|| given_up(&["put", "k", "w"], true));
        scope.spawn(|| given_up(&["del", "k"], true));
        scope.spawn(|| given_up(&["txn", "--then", "put k w"], true));
    });

    // All are asked at once.
    let began = Instant::now();
    let several = format!("{still},{still},{still},{}", single.endpoint());
    let status = run(&["status", "--timeout", "1", "--endpoints", &several]);
    assert!(began.elapsed() < Duration::from_millis(2900), "{:?}", began.elapsed());
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        shown.contains("this one") && shown.matches("no answer in time").count() == 3,
        "{shown}"
    );
    server.end(Signal::SIGTERM);
}

#[test]
fn an_endpoint_without_a_leader_is_the_last_choice() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(&directory.path().join("single"));
    let (lonely, nobody) = Single::lonely(&directory.path().join("lonely"));
    let servers = [&single, &lonely].map(|one| Running::start(program(&one.arguments(&[]))));
    servers[0].line_with("the cluster has a leader");
    servers[1].line_with("ready to serve client requests");
    let both = format!("{},{}", lonely.endpoint(), single.endpoint());
    assert_eq!(stdout(&["put", "k", "v", "--endpoints", &both]), "OK, revision 2\n");
    let nobody_else = format!("127.0.0.1:{nobody},{}", lonely.endpoint());
    let stale = stdout(&["get", "k", "--serializable", "--endpoints", &nobody_else]);
    assert!(stale.starts_with("no key to show"), "{stale}");
}

#[test]
fn keys_and_values_may_be_any_bytes_and_values_come_from_standard_input() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let single = Single::new(directory.path());
    let server = Running::start(program(&single.arguments(&[])));
    server.line_with("the cluster has a leader");
    let endpoint = single.endpoint();
    let key = OsStr::from_bytes(b"\xff\xfe");
    let client = |command: &str, more: &[&OsStr], input: &[u8]| {
        let mut client = program(&[command, "--endpoints", &endpoint]);
        client.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = client.spawn().expect("it runs");
        client.stdin.take().expect("it is piped").write_all(input).expect("it reads");
        client.wait_with_output().expect("it ends")
    };
    let value = b"\0\xff\n";
    assert!(client("put", &[key], value).status.success());
    let found = client("get", &[key, OsStr::new("--print-value-only")], b"").stdout;
    assert_eq!(found, [&value[..], b"\n"].concat());
    let condition = b"value(\"\\xff\\xfe\") = \"\\x00\\xff\\n\"\n\nput \xff\xfe \xfd\n";
    let done = String::from_utf8(client("txn", &[], condition).stdout).expect("text");
    assert!(done.starts_with("SUCCESS"), "{done}");
    assert_eq!(client("get", &[key, OsStr::new("--print-value-only")], b"").stdout, b"\xfd\n");
    let nothing = client("put", &[key], b"");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("there is no value"));
    server.end(Signal::SIGTERM);
}

#[test]
fn the_demo_goes_on_where_it_ended() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let data = directory.path().join("paxos-demo").display().to_string();
    for round in ["first", "second"] {
        let demo = Running::start(program(&["demo", "--data-dir", &data]));
        demo.line_with("leads, by ballot");
        let line = demo.line_with("ETCDCTL_ENDPOINTS=");
        let (_, endpoints) = line.split_once("ETCDCTL_ENDPOINTS=").expect("they are in the line");
        assert_eq!(endpoints.split(',').count(), 3);
        let client =
            |arguments: &[&str]| stdout(&[arguments, &["--endpoints", endpoints]].concat());
        client(&["put", round, "here"]);
        assert_eq!(client(&["get", "first", "--print-value-only"]), "here\n");
        assert_eq!(client(&["status"]).matches("127.0.0.1").count(), 3);
        // An endpoint that does not answer is passed over.
        let with_a_bad_one = format!("127.0.0.1:1,{endpoints}");
        stdout(&["get", round, "--endpoints", &with_a_bad_one]);
        demo.end(Signal::SIGINT);
    }
}
