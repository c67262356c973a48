//! What supervisors and probes are told.

use std::{os::unix::net::UnixDatagram, path::Path};

use nix::sys::signal::Signal;

use super::{
    PATIENCE, Running, Single, ports,
    probe::{self, HEALTHY, ask, expect},
    program,
};

/// A supervisor that listens.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn listen(directory: &Path) -> Supervisor {
        let socket = UnixDatagram::bind(directory.join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("it can wait");
        Supervisor(socket)
    }

    /// What it is told next, line by line.
    fn told(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.0.recv(&mut bytes).expect("a message comes");
        let text = std::str::from_utf8(&bytes[..length]).expect("text");
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_supervisor_is_told_that_the_server_is_ready_and_that_it_stops() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let supervisor = Supervisor::listen(directory.path());
    let single = Single::new(&directory.path().join("data"));
    let mut command = program(&single.arguments(&[]));
    command.env("NOTIFY_SOCKET", directory.path().join("notify"));
    let server = Running::start(command);
    while !supervisor.told().contains(&"READY=1".to_owned()) {}
    server.line_with("the cluster has a leader");
    server.end(Signal::SIGTERM);
    while !supervisor.told().contains(&"STOPPING=1".to_owned()) {}
}

/// It is not ready before the others are there, and is not ended for that.
#[test]
fn a_supervisor_waits_for_a_quorum() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let supervisor = Supervisor::listen(directory.path());
    let (mut single, _) = Single::lonely(&directory.path().join("data"));
    let metrics = ports::free_port();
    let probes = format!("--listen-metrics-urls=http://127.0.0.1:{metrics}");
    single.arguments.extend([probes, "--election-timeout=500".to_owned()]);
    let mut command = program(&single.arguments(&[]));
    command.env("NOTIFY_SOCKET", directory.path().join("notify"));
    let server = Running::start(command);
    let told = supervisor.told();
    assert!(told.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")), "{told:?}");
    assert!(!told.contains(&"READY=1".to_owned()), "{told:?}");

    // Nor do probes that need no quorum wait for one.
    for port in [metrics, single.client_port] {
        expect(port, "GET", "/livez", 200, "ok\n");
        expect(port, "GET", "/readyz?exclude=linearizable_read", 200, "ok\n");
        expect(
            port,
            "GET",
            "/readyz?allowlist=data_corruption&allowlist=serializable_read",
            200,
            "ok\n",
        );
        expect(
            port,
            "GET",
            "/readyz/serializable_read?verbose",
            200,
            "[+]serializable_read ok\nok\n",
        );
        expect(port, "GET", "/health?serializable=true&serializable=x", 200, HEALTHY);
        let unhealthy = r#"{"health":"false","reason":"RAFT NO LEADER"}"#;
        expect(port, "GET", "/health", 503, unhealthy);
    }
    assert!(ask(metrics, "GET", "/metrics").contains("\netcd_server_has_leader 0\n"));
    server.end(Signal::SIGTERM);
}

#[test]
fn probes_have_urls_of_their_own() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut single = Single::new(&directory.path().join("data"));
    let metrics = ports::free_port();
    single.arguments.push(format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"));
    let server = Running::start(program(&single.arguments(&[])));
    server.line_with("the cluster has a leader");
    for port in [metrics, single.client_port] {
        let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n";
        expect(port, "GET", "/readyz?verbose", 200, all);
        expect(port, "GET", "/health?exclude=NOSPACE&exclude=CORRUPT", 200, HEALTHY);
        let both = ask(port, "GET", "/readyz?exclude=x&allowlist=y");
        assert!(both.starts_with("HTTP/1.1 503 ") && both.contains("not both"), "{both}");
        expect(port, "GET", "/livez/linearizable_read", 404, "404 page not found\n");
        let answer = ask(port, "GET", "/metrics");
        for line in ["etcd_server_has_leader 1", "etcd_server_is_leader 1", "paxos_disk_full 0"] {
            assert!(answer.contains(&format!("\n{line}\n")), "{line}: {answer}");
        }
        assert!(answer.contains("\nprocess_open_fds "), "{answer}");
    }
    probe::exercise(single.client_port);
    // No keys there.
    expect(metrics, "GET", "/version", 404, "404 page not found\n");
    expect(metrics, "POST", "/etcdserverpb.KV/Range", 404, "404 page not found\n");
    server.end(Signal::SIGTERM);
}
