//! Members are replaced while clients write.

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    SOME,
    common::{Cluster, PATIENCE, client, etcdctl, ports::free_port, workload::Workload},
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

fn begin(arguments: &[&str], endpoints: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_paxos-kv"))
        .env_clear()
        .arg("member")
        .args(arguments)
        .args(["--endpoints", endpoints])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command can be started")
}

/// What `paxos-kv member …` writes, or why it fails.
fn end(child: Child) -> Result<String, String> {
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("it writes text");
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn member(arguments: &[&str], endpoints: &str) -> Result<String, String> {
    end(begin(arguments, endpoints))
}

/// The id of a server, as commands take it.
async fn id_of(cluster: &Cluster, index: usize) -> String {
    let members = client::members(&cluster.servers[0].endpoint()).await.expect("it answers");
    let mut members =
        members.into_iter().filter(|member| member.name == cluster.servers[index].name);
    format!("{:x}", members.next().expect("it is a member").id)
}

/// What is left is a cluster like any other, after a start with the flags that everybody had, too.
async fn goes_on(cluster: &mut Cluster, workload: Workload, left: [usize; 3]) {
    workload.progress(SOME).await;
    left.into_iter().for_each(|index| cluster.kill(index));
    left.into_iter().for_each(|index| cluster.restart(index));
    workload.progress(SOME).await;
    cluster.settled().await;
    let endpoints = left.map(|index| cluster.servers[index].endpoint());
    workload.finish(&endpoints).await;
    let names = names(cluster, left);
    for endpoint in endpoints {
        let members = client::members(&endpoint).await.expect("it answers");
        assert!(members.iter().all(|member| !member.is_learner), "{members:?}");
        let mut listed: Vec<_> = members.into_iter().map(|member| member.name).collect();
        listed.sort_unstable();
        assert_eq!(listed, names, "{endpoint}");
    }
}

/// What those that are left are called, in order.
fn names(cluster: &Cluster, left: [usize; 3]) -> [String; 3] {
    let mut names = left.map(|index| cluster.servers[index].name.clone());
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_is_promoted_and_takes_the_place_of_a_member_while_clients_write() {
    replaced_by_a_learner().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcdctl: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn etcdctl_lists_the_members_that_are_left() {
    let (cluster, left) = replaced_by_a_learner().await;
    let endpoints = left.map(|index| cluster.servers[index].endpoint()).join(",");
    let names = names(&cluster, left);
    for program in etcdctl::programs() {
        let list = etcdctl::run(&program, &endpoints, &["member", "list"]);
        let started = list.lines().filter(|line| line.contains(", started, "));
        let mut listed: Vec<_> = started.filter_map(|line| line.split(", ").nth(2)).collect();
        listed.sort_unstable();
        assert_eq!(
            (listed, list.lines().count()),
            (names.each_ref().map(String::as_str).to_vec(), 3)
        );
    }
}

/// Adds a server as a learner, promotes it, and removes another one; returns who is left.
async fn replaced_by_a_learner() -> (Cluster, [usize; 3]) {
    let mut cluster = Cluster::start("http").await;
    let workload = Workload::start(&cluster.endpoints());
    workload.progress(SOME).await;
    let endpoints = cluster.endpoints().join(",");
    let old = id_of(&cluster, 2).await;
    let new = cluster.newcomer();
    let url = cluster.peer_url(new);

    // Nobody has added it yet.
    cluster.restart(new);
    assert!(!cluster.ended(new).await);
    cluster.logged(new, "add it first, with `paxos-kv member add n4 --peer-urls").await;

    let added = member(&["add", "n4", "--peer-urls", &url, "--learner"], &endpoints);
    let added = added.expect("it is added");
    assert!(added.contains("--initial-cluster-state existing --join http://"), "{added}");
    let id = added.split(' ').nth(1).expect("its id is the second word").to_owned();
    let twice = member(&["add", "n5", "--peer-urls", &url], &endpoints);
    let twice = twice.expect_err("there is one already");
    assert!(twice.contains("etcdserver: Peer URLs already exists"), "{twice}");
    cluster.restart(new);
    let deadline = Instant::now() + PATIENCE;
    while let Err(reason) = member(&["promote", &id], &endpoints) {
        assert!(reason.contains("in sync with leader"), "{reason}");
        assert!(Instant::now() < deadline, "it does not catch up");
        tokio::time::sleep(INTERVAL).await;
    }
    member(&["remove", &old], &endpoints).expect("it is removed");
    assert!(!cluster.ended(2).await, "a server that was removed does not end well");
    cluster.logged(2, "this member has been removed from the cluster").await;
    let left = [0, 1, new];
    goes_on(&mut cluster, workload, left).await;
    (cluster, left)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_replaces_the_member_that_is_asked_over_quic() {
    let mut cluster = Cluster::start("quic").await;
    let workload = Workload::start(&cluster.endpoints());
    let old = id_of(&cluster, 0).await;
    let new = cluster.newcomer();
    let url = cluster.peer_url(new);
    let asked = cluster.servers[0].endpoint();
    let command = begin(&["replace", &old, "n4", "--peer-urls", &url], &asked);
    let deadline = Instant::now() + PATIENCE;
    while client::members(&asked).await.expect("it answers").len() < 4 {
        assert!(Instant::now() < deadline, "it is not added");
        tokio::time::sleep(INTERVAL).await;
    }
    cluster.restart(new);
    let said = tokio::task::spawn_blocking(|| end(command)).await.expect("it ends");
    let said = said.expect("it is replaced");
    assert!(said.contains(&format!("Member {old} is removed")), "{said}");
    assert!(!cluster.ended(0).await, "a server that was removed does not end well");
    goes_on(&mut cluster, workload, [1, 2, new]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_moves_and_one_on_an_empty_disk_comes_to_its_place() {
    let mut cluster = Cluster::start("http").await;
    let workload = Workload::start(&cluster.endpoints());
    let asked = cluster.servers[0].endpoint();
    let id = id_of(&cluster, 2).await;
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");

    cluster.kill(2);
    member(&["update", &id, "--peer-urls", &url], &asked).expect("the others know");
    cluster.servers[2].moved_to = Some(port);
    cluster.restart(2);
    cluster.settled().await;

    // Its disk is lost; the machine is not.
    cluster.kill(2);
    member(&["remove", &id], &asked).expect("it is removed");
    let new = cluster.newcomer();
    cluster.servers[new].peer_port = port;
    member(&["add", "n4", "--peer-urls", &url], &asked).expect("it is another member");
    cluster.restart(new);
    let deadline = Instant::now() + PATIENCE;
    while client::members(&asked).await.expect("it answers").iter().any(|member| member.is_learner)
    {
        assert!(Instant::now() < deadline, "it does not become a voter");
        tokio::time::sleep(INTERVAL).await;
    }
    goes_on(&mut cluster, workload, [0, 1, new]).await;
}
