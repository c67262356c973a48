//! What people do with etcdctl, and what a real etcd makes of it.
//!
//! `ETCDCTL_BINS` lists the programs to use, separated by colons; without it, `etcdctl` of the
//! path. Whatever is expected here is expected of a real etcd too, by a test of its own.

use std::{
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{PATIENCE, client, ports::free_port};

/// One etcdctl and the servers it talks to.
struct Etcdctl<'a> {
    program: &'a str,
    endpoints: &'a str,
}

/// What it wrote.
struct Output {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Etcdctl<'_> {
    fn start(&self, arguments: &[&str]) -> Child {
        // By a flag: etcdctl 3.5 takes no endpoints from the environment for move-leader.
        let endpoints = ["--endpoints", self.endpoints];
        let endpoints = if self.endpoints.is_empty() { &[][..] } else { &endpoints };
        Command::new(self.program)
            .env_clear()
            .env("ETCDCTL_API", "3")
            .args(endpoints)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}: install etcdctl or set ETCDCTL_BINS", self.program)
            })
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.start(arguments);
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(input.as_bytes()).expect("it reads its input");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it writes text");
        Output {
            success: output.status.success(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// What it writes to standard output, if all goes well.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.run_with(arguments, "");
        assert!(output.success, "{} {arguments:?}: {}", self.program, output.stderr);
        output.stdout
    }

    /// The same as JSON.
    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(&[arguments, &["-w", "json"]].concat());
        serde_json::from_str(&text).expect("it writes JSON")
    }

    /// Asserts what it writes.
    fn expect(&self, arguments: &[&str], expected: &str) {
        let found = self.run(arguments);
        assert_eq!(found, expected, "{} {arguments:?}", self.program);
    }

    /// Asserts that it fails with this error.
    fn refuse(&self, arguments: &[&str], expected: &str) {
        let output = self.run_with(arguments, "");
        assert!(!output.success, "{} {arguments:?} went well", self.program);
        let last = output.stderr.lines().last().unwrap_or_default();
        assert_eq!(last, format!("Error: etcdserver: {expected}"), "{arguments:?}");
    }

    fn revision(&self) -> i64 {
        let answer = self.json(&["get", "any"]);
        answer["header"]["revision"].as_i64().expect("a revision is a number")
    }
}

/// A real etcd of one member: `ETCD_BIN`, or `etcd` of the path.
pub(crate) struct RealEtcd {
    child: Child,
    pub(crate) client_port: u16,
    _directory: TempDir,
}

impl RealEtcd {
    /// Starts it and waits until it serves.
    pub(crate) async fn start() -> RealEtcd {
        RealEtcd::start_on(|_, _| (), &[]).await
    }

    /// The same with more flags, of which the last one counts; `CLIENT_PORT` in them is its port.
    pub(crate) async fn start_with(flags: &[&str]) -> RealEtcd {
        RealEtcd::start_on(|_, _| (), flags).await
    }

    /// Lets an etcdctl make its data of a backup, and starts it.
    pub(crate) async fn restored(etcdctl: &str, backup: &Path) -> RealEtcd {
        let restore = |data: &str, peer_url: &str| {
            let backup = backup.display().to_string();
            let members = format!("default={peer_url}");
            let cluster = ["--initial-cluster", &members];
            let own = ["--initial-advertise-peer-urls", peer_url, "--data-dir", data];
            run(etcdctl, "", &[&["snapshot", "restore", &backup], &cluster[..], &own].concat());
        };
        RealEtcd::start_on(restore, &[]).await
    }

    /// Prepares its data directory, given the URL for peers, and starts it.
    async fn start_on(prepare: impl FnOnce(&str, &str), flags: &[&str]) -> RealEtcd {
        let program = etcd();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (client_port, peer_port) = (free_port(), free_port());
        let client_url = format!("http://127.0.0.1:{client_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let flags = flags.iter().map(|flag| flag.replace("CLIENT_PORT", &client_port.to_string()));
        let data = directory.path().join("data").display().to_string();
        prepare(&data, &peer_url);
        let child = Command::new(&program)
            .env_clear()
            .args(["--data-dir", &data])
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}: install etcd or set ETCD_BIN"));
        let etcd = RealEtcd { child, client_port, _directory: directory };
        let deadline = Instant::now() + PATIENCE;
        while client::status(&etcd.endpoint()).await.is_err() {
            assert!(Instant::now() < deadline, "etcd does not start");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        etcd
    }

    /// Where its clients connect.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `ETCD_BIN`, or `etcd` of the path, says of its flags.
pub(crate) fn etcd_help() -> String {
    let program = etcd();
    let output = Command::new(&program).env_clear().arg("--help").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: set ETCD_BIN"));
    String::from_utf8([output.stdout, output.stderr].concat()).expect("it writes text")
}

fn etcd() -> String {
    std::env::var("ETCD_BIN").unwrap_or_else(|_| "etcd".to_owned())
}

/// Every etcdctl there is.
pub(crate) fn programs() -> Vec<String> {
    let programs = std::env::var("ETCDCTL_BINS").unwrap_or_else(|_| "etcdctl".to_owned());
    programs.split(':').map(str::to_owned).collect()
}

/// What one of them writes to standard output, if all goes well.
pub(crate) fn run(program: &str, endpoints: &str, arguments: &[&str]) -> String {
    Etcdctl { program, endpoints }.run(arguments)
}

/// Does with these servers what people do, with every etcdctl there is.
pub(crate) fn exercise(endpoints: &[String]) {
    for program in &programs() {
        println!("with {program}");
        let etcdctl = Etcdctl { program, endpoints: &endpoints.join(",") };
        etcdctl.run(&["del", "", "--prefix"]);
        reads_and_writes(&etcdctl);
        transactions(&etcdctl);
        history(&etcdctl);
        refusals(&etcdctl);
        leases(&etcdctl);
        cluster(&etcdctl, endpoints);
    }
}

fn reads_and_writes(etcdctl: &Etcdctl<'_>) {
    let before = etcdctl.revision();
    etcdctl.expect(&["put", "a", "1"], "OK\n");
    etcdctl.expect(&["put", "a", "2", "--prev-kv"], "OK\na\n1\n");
    etcdctl.expect(&["put", "b", "9"], "OK\n");
    etcdctl.expect(&["put", "ab", "5"], "OK\n");
    assert_eq!(etcdctl.revision(), before + 4);
    etcdctl.expect(&["get", "a"], "a\n2\n");
    etcdctl.expect(&["get", "nothing"], "");
    etcdctl.expect(&["get", "a", "b"], "a\n2\nab\n5\n");
    etcdctl.expect(&["get", "a", "--prefix"], "a\n2\nab\n5\n");
    etcdctl.expect(&["get", "ab", "--from-key"], "ab\n5\nb\n9\n");
    etcdctl.expect(&["get", "", "--prefix", "--keys-only"], "a\n\nab\n\nb\n\n");
    etcdctl.expect(&["get", "", "--prefix", "--limit=2", "--print-value-only"], "2\n5\n");
    etcdctl.expect(&["get", "a", "--consistency=s"], "a\n2\n");
    let sorted = |target: &str, order: &str| {
        let target = format!("--sort-by={target}");
        let order = format!("--order={order}");
        etcdctl.run(&["get", "", "--prefix", "--print-value-only", &target, &order])
    };
    assert_eq!(sorted("VALUE", "DESCEND"), "9\n5\n2\n");
    assert_eq!(sorted("KEY", "DESCEND"), "9\n5\n2\n");
    assert_eq!(sorted("CREATE", "ASCEND"), "2\n9\n5\n");
    assert_eq!(sorted("MODIFY", "DESCEND"), "5\n9\n2\n");
    assert_eq!(sorted("VERSION", "DESCEND"), "2\n5\n9\n");
    let answer = etcdctl.json(&["get", "a"]);
    assert_eq!(answer["count"], 1);
    assert_eq!(answer["kvs"][0]["key"], "YQ==");
    assert_eq!(answer["kvs"][0]["value"], "Mg==");
    assert_eq!(answer["kvs"][0]["create_revision"], before + 1);
    assert_eq!(answer["kvs"][0]["mod_revision"], before + 2);
    assert_eq!(answer["kvs"][0]["version"], 2);
    etcdctl.expect(&["del", "b", "--prev-kv"], "1\nb\n9\n");
    etcdctl.expect(&["del", "b"], "0\n");
    etcdctl.expect(&["del", "a", "--prefix"], "2\n");
    assert_eq!(etcdctl.revision(), before + 6);
}

fn transactions(etcdctl: &Etcdctl<'_>) {
    let txn = |input: &str| {
        let output = etcdctl.run_with(&["txn"], input);
        assert!(output.success, "{input:?}: {}", output.stderr);
        output.stdout
    };
    etcdctl.expect(&["put", "t", "1"], "OK\n");
    let found = txn("value(\"t\") = \"1\"\nversion(\"t\") = \"1\"\n\nput t 2\nget t\n\nget t\n\n");
    assert_eq!(found, "SUCCESS\n\nOK\n\nt\n2\n");
    let found = txn("mod(\"t\") < \"1\"\n\nput t 3\n\nget t\ndel t\n\n");
    assert_eq!(found, "FAILURE\n\nt\n2\n\n1\n");
    let found = txn("create(\"t\") = \"0\"\n\nput t 4\n\n\n\n");
    assert_eq!(found, "SUCCESS\n\nOK\n");
    etcdctl.expect(&["del", "t"], "1\n");
}

fn history(etcdctl: &Etcdctl<'_>) {
    etcdctl.expect(&["put", "h", "1"], "OK\n");
    let first = etcdctl.revision();
    etcdctl.expect(&["put", "h", "2"], "OK\n");
    etcdctl.expect(&["del", "h"], "1\n");
    let at = |revision: i64| format!("--rev={revision}");
    etcdctl.expect(&["get", "h", &at(first)], "h\n1\n");
    etcdctl.expect(&["get", "h", &at(first + 1)], "h\n2\n");
    etcdctl.expect(&["get", "h", &at(first + 2)], "");
    let revision = (first + 1).to_string();
    etcdctl.expect(&["compaction", &revision], &format!("compacted revision {revision}\n"));
    etcdctl.expect(&["get", "h", &at(first + 1)], "h\n2\n");
    let compacted = "mvcc: required revision has been compacted";
    etcdctl.refuse(&["get", "h", &at(first)], compacted);
    etcdctl.refuse(&["compaction", &revision], compacted);
    let future = "mvcc: required revision is a future revision";
    etcdctl.refuse(&["get", "h", &at(first + 1000)], future);
    etcdctl.refuse(&["compaction", &(first + 1000).to_string()], future);
}

fn refusals(etcdctl: &Etcdctl<'_>) {
    etcdctl.refuse(&["put", "", "value"], "key is not provided");
    etcdctl.refuse(&["put", "missing", "--ignore-value"], "key not found");
    etcdctl.refuse(&["put", "k", "value", "--lease=77"], "requested lease not found");
    let value = "x".repeat(1_600_000);
    let output = etcdctl.run_with(&["put", "large"], &value);
    assert!(output.stderr.ends_with("Error: etcdserver: request is too large\n"));
}

fn cluster(etcdctl: &Etcdctl<'_>, endpoints: &[String]) {
    let members = etcdctl.json(&["member", "list"]);
    let members = members["members"].as_array().expect("a list of members");
    assert_eq!(members.len(), endpoints.len());
    let mut ids = Vec::new();
    for member in members {
        assert!(member["name"].as_str().is_some_and(|name| !name.is_empty()), "{member}");
        assert!(member["peerURLs"][0].as_str().is_some_and(|url| url.contains("127.0.0.1")));
        let url = member["clientURLs"][0].as_str().expect("a started member has one");
        let endpoint = url.strip_prefix("http://").expect("clients are served on http");
        assert!(endpoints.iter().any(|known| known == endpoint), "{endpoint}");
        ids.push(member["ID"].as_u64().expect("an id is a number"));
    }
    let lines = etcdctl.run(&["member", "list"]);
    assert_eq!(lines.lines().filter(|line| line.contains(", started, ")).count(), members.len());

    let statuses = etcdctl.json(&["endpoint", "status"]);
    let statuses = statuses.as_array().expect("a list of statuses");
    assert_eq!(statuses.len(), endpoints.len());
    for status in statuses {
        let status = &status["Status"];
        let leader = status["leader"].as_u64().expect("there is a leader");
        assert!(ids.contains(&leader), "the leader is a member");
        let id = status["header"]["member_id"].as_u64().expect("an id is a number");
        assert!(ids.contains(&id), "the one who answers is a member");
        for number in ["dbSize", "raftIndex", "raftTerm", "raftAppliedIndex", "dbSizeInUse"] {
            assert!(status[number].as_u64().is_some_and(|value| value > 0), "{number}: {status}");
        }
        assert!(status["version"].as_str().is_some_and(|version| version.starts_with("3.")));
    }
    // Some etcdctls write the whole URL where the host belongs.
    let urls: Vec<_> = endpoints.iter().map(|endpoint| format!("http://{endpoint}")).collect();
    let by_url = Etcdctl { endpoints: &urls.join(","), ..*etcdctl };
    let statuses = by_url.json(&["endpoint", "status"]);
    assert_eq!(statuses.as_array().expect("a list of statuses").len(), endpoints.len());
    let health = etcdctl.json(&["endpoint", "health"]);
    let health = health.as_array().expect("a list");
    assert_eq!(health.len(), endpoints.len());
    assert!(health.iter().all(|endpoint| endpoint["health"] == true), "{health:?}");
    etcdctl.expect(&["alarm", "list"], "");
    leadership(etcdctl, &ids);
    membership(etcdctl, &ids, members[0]["peerURLs"][0].as_str().expect("it has one"));
}

/// Each member leads once.
fn leadership(etcdctl: &Etcdctl<'_>, ids: &[u64]) {
    etcdctl.refuse(&["move-leader", "7"], "bad leader transferee");
    for id in ids {
        let statuses = etcdctl.json(&["endpoint", "status"]);
        let leader = statuses[0]["Status"]["leader"].as_u64().expect("there is a leader");
        let moved = format!("Leadership transferred from {leader:x} to {id:x}\n");
        etcdctl.expect(&["move-leader", &format!("{id:x}")], &moved);
        // The others hear of it a moment later.
        let deadline = Instant::now() + PATIENCE;
        let leads = |status: &Value| status["Status"]["leader"] == *id;
        let do_all_know = || {
            let statuses = etcdctl.json(&["endpoint", "status"]);
            statuses.as_array().expect("a list of statuses").iter().all(leads)
        };
        while !do_all_know() {
            assert!(Instant::now() < deadline, "not all know that {id:x} leads");
        }
    }
}

/// A learner comes and goes; what makes no sense is refused.
fn membership(etcdctl: &Etcdctl<'_>, ids: &[u64], peer_url: &str) {
    // etcd drops a change that follows too closely on another, and its client waits in vain: not after a read.
    let refuse = |arguments: &[&str], reason| {
        etcdctl.refuse(&[&["member"], arguments].concat(), reason);
        etcdctl.revision();
    };
    refuse(&["remove", "7"], "member not found");
    refuse(&["promote", "7"], "member not found");
    let voter = format!("{:x}", ids[0]);
    refuse(&["promote", &voter], "can only promote a learner member");
    if peer_url.starts_with("quic") {
        // No URL that etcdctl lets pass; `paxos-kv member` does.
        return;
    }
    let (taken, free) = (format!("--peer-urls={peer_url}"), free_port());
    let free = format!("--peer-urls=http://127.0.0.1:{free}");
    refuse(&["update", "7", &free], "member not found");
    refuse(&["add", "x", &taken, "--learner"], "Peer URLs already exists");
    let added = etcdctl.run(&["member", "add", "x", &free, "--learner"]);
    assert!(added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""), "{added}");
    let id = added.split_whitespace().nth(1).expect("its id is the second word").to_owned();
    let listed = etcdctl.run(&["member", "list"]);
    let line = listed.lines().find(|line| line.starts_with(&id)).expect("it is listed");
    assert!(line.contains(", unstarted, ") && line.ends_with(", true"), "{line}");
    refuse(&["promote", &id], "can only promote a learner member which is in sync with leader");
    etcdctl.run(&["member", "remove", &id]);
    assert_eq!(etcdctl.run(&["member", "list"]).lines().count(), ids.len());
}

fn leases(etcdctl: &Etcdctl<'_>) {
    let id = |granted: &str| granted.split_whitespace().nth(1).expect("its id").to_owned();
    let granted = etcdctl.run(&["lease", "grant", "300"]);
    let lease = id(&granted);
    assert_eq!(granted, format!("lease {lease} granted with TTL(300s)\n"));
    let with = format!("--lease={lease}");
    etcdctl.expect(&["put", "l1", "1", &with], "OK\n");
    etcdctl.expect(&["put", "l2", "2", &with], "OK\n");
    etcdctl.expect(&["put", "l3", "3", &with], "OK\n");
    etcdctl.expect(&["put", "l3", "4"], "OK\n");
    let shown = etcdctl.run(&["lease", "timetolive", &lease, "--keys"]);
    let begin = format!("lease {lease} granted with TTL(300s), remaining(");
    assert!(shown.starts_with(&begin), "{shown}");
    // etcd gives them in any order.
    assert!(["[l1 l2]", "[l2 l1]"].iter().any(|keys| shown.contains(keys)), "{shown}");
    let listed = etcdctl.run(&["lease", "list"]);
    assert!(listed.lines().any(|line| line == lease), "{listed}");
    let kept = etcdctl.run(&["lease", "keep-alive", "--once", &lease]);
    assert_eq!(kept, format!("lease {lease} keepalived with TTL(300)\n"));
    let before = etcdctl.revision();
    etcdctl.expect(&["lease", "revoke", &lease], &format!("lease {lease} revoked\n"));
    assert_eq!(etcdctl.revision(), before + 1);
    etcdctl.expect(&["get", "l", "--prefix"], "l3\n4\n");
    etcdctl.expect(&["del", "l3"], "1\n");
    let refused = |arguments: &[&str], expected: &str| {
        let output = etcdctl.run_with(&[&["lease"], arguments].concat(), "");
        let last = output.stderr.lines().last().unwrap_or_default();
        assert_eq!(last, format!("Error: failed to {expected})"), "{arguments:?}");
    };
    refused(&["revoke", &lease], "revoke lease (etcdserver: requested lease not found");
    refused(&["grant", "9000000001"], "grant lease (etcdserver: too large lease TTL");
    let gone = etcdctl.run(&["lease", "timetolive", &lease]);
    assert_eq!(gone, format!("lease {lease} already expired\n"));
    let gone = etcdctl.run_with(&["lease", "keep-alive", &lease], "");
    assert!(
        gone.stdout.ends_with(&format!("lease {lease} expired or revoked.\n")),
        "{}",
        gone.stdout
    );
    expiry(etcdctl, id);
}

/// One that nobody keeps alive, with a key, and one that somebody does.
fn expiry(etcdctl: &Etcdctl<'_>, id: impl Fn(&str) -> String) {
    let granted = Instant::now();
    let [left, kept] = [(); 2].map(|()| id(&etcdctl.run(&["lease", "grant", "1"])));
    // The shortest there is.
    let shown = etcdctl.run(&["lease", "timetolive", &left]);
    assert!(shown.contains("granted with TTL(2s)"), "{shown}");
    etcdctl.expect(&["put", "e1", "1", &format!("--lease={left}")], "OK\n");
    etcdctl.expect(&["put", "e2", "2", &format!("--lease={kept}")], "OK\n");
    let mut keeper = etcdctl.start(&["lease", "keep-alive", &kept]);
    while etcdctl.run(&["get", "e1"]) == "e1\n1\n" {
        assert!(granted.elapsed() < PATIENCE, "it stays");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(granted.elapsed() >= Duration::from_secs(2), "after {:?}", granted.elapsed());
    while granted.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(100));
    }
    etcdctl.expect(&["get", "e2"], "e2\n2\n");
    keeper.kill().expect("it runs");
    keeper.wait().expect("it ends");
    etcdctl.run(&["lease", "revoke", &kept]);
    etcdctl.expect(&["get", "e", "--prefix"], "");
}
