//! What probes ask over HTTP, and what a real etcd answers them.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The answer to `/health` if all is well.
pub(crate) const HEALTHY: &str = r#"{"health":"true","reason":""}"#;

/// The answer to a request of HTTP/1.1, whole.
pub(crate) fn ask(port: u16, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it can wait");
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Asserts status and body.
pub(crate) fn expect(port: u16, method: &str, path: &str, status: u16, body: &str) {
    let answer = ask(port, method, path);
    let (head, found) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
    assert_eq!(found, body, "{method} {path}");
}

/// Asks a server that is well what a real etcd is asked too.
pub(crate) fn exercise(port: u16) {
    for path in ["/health", "/version"] {
        for (method, body) in [("HEAD", ""), ("POST", "Method Not Allowed\n")] {
            expect(port, method, path, 405, body);
            let answer = ask(port, method, path).to_ascii_lowercase();
            assert!(answer.contains("\r\nallow: get\r\n"), "{answer}");
        }
    }
    for query in [
        "",
        "?serializable=true",
        "?serializable=true&serializable=false",
        "?serializable=false&serializable=true",
        "?exclude=NOSPACE&exclude=CORRUPT&exclude=",
        "?x=1&x=2&serializable",
        "?serializable=%zz",
    ] {
        expect(port, "GET", &format!("/health{query}"), 200, HEALTHY);
    }
    expect(port, "GET", "/nosuch", 404, "404 page not found\n");
    assert!(ask(port, "HEAD", "/metrics").starts_with("HTTP/1.1 200 "));
    let metrics = ask(port, "GET", "/metrics");
    for name in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_cluster_version{cluster_version=\"3.5\"} 1",
        "etcd_server_version{server_version=\"3.5.",
        "etcd_server_id{server_id=\"",
        "etcd_server_proposals_committed_total ",
        "etcd_server_proposals_applied_total ",
        "etcd_server_proposals_pending ",
        "etcd_mvcc_db_total_size_in_bytes ",
        "etcd_mvcc_db_total_size_in_use_in_bytes ",
        "etcd_debugging_mvcc_current_revision ",
        "etcd_debugging_mvcc_compact_revision ",
        "process_open_fds ",
        "process_max_fds ",
        "process_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(&format!("\n{name}")), "no {name} in {metrics}");
    }
}
