//! Servers in one process whose data directories are not what they should be: a state and a log that
//! do not belong together, or not to the member, are refused at the start.

#[path = "common/ports.rs"]
mod ports;

use std::{
    fs,
    path::{Path, PathBuf},
};

use futures::future::join_all;
use paxos_kv::{
    server::{
        Server, ServerError,
        config::{ClusterMap, ServerConfig, Url},
    },
    store::{Command, MemberAttributes, Rules, StoreError},
};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn state_of(directory: &TempDir) -> PathBuf {
    directory.path().join("state.redb")
}

/// The only member of a cluster.
fn single(directory: &Path, token: &str) -> ServerConfig {
    let url = Url::new("http", "127.0.0.1", 0);
    let cluster = ClusterMap::by_name([("alone".to_owned(), url.clone())], token);
    ServerConfig::member("alone", cluster.expect("one member"), directory, url)
}

/// Runs servers until each has something in its state.
async fn run(configs: impl IntoIterator<Item = ServerConfig>) {
    let servers = start(configs).await;
    let attributes = MemberAttributes { member_id: 1, ..MemberAttributes::default() };
    let command = Command::MemberAttributes(attributes).under(Rules::FIRST);
    let proposed = servers[0].node().propose(command).await.expect("a quorum");
    proposed.expect("it makes sense");
    for server in &servers {
        server.node().read(|_| ()).await.expect("a quorum");
    }
    stop(&servers).await;
}

async fn start(configs: impl IntoIterator<Item = ServerConfig>) -> Vec<Server> {
    let starts: Result<Vec<_>, _> =
        join_all(configs.into_iter().map(Server::start)).await.into_iter().collect();
    starts.expect("they start")
}

async fn stop(servers: &[Server]) {
    // One after the other, but none may wait for the quorum that the others were.
    for ended in join_all(servers.iter().map(Server::shutdown)).await {
        ended.expect("it stops");
    }
}

async fn refusal(config: ServerConfig) -> ServerError {
    match Server::start(config).await {
        Ok(server) => {
            server.shutdown().await.expect("it stops");
            panic!("it has started");
        }
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_another_cluster_is_refused() {
    let (one, two) = (directory(), directory());
    run([single(one.path(), "one")]).await;
    // The log of the one cluster goes on behind the state of the other.
    for _ in 0..3 {
        run([single(two.path(), "two")]).await;
    }
    fs::copy(state_of(&one), state_of(&two)).expect("a copy");
    let config = single(two.path(), "two");
    let error = refusal(config.clone()).await;
    let text = error.to_string();
    assert!(matches!(error, ServerError::State(StoreError::OtherOwner { .. })), "{text}");
    let clusters = ["one", "two"].map(|token| single(one.path(), token).cluster.id().to_string());
    assert!(clusters.iter().all(|id| text.contains(id)), "{text}");
    assert!(text.contains("state.redb") && text.contains("--data-dir"), "{text}");
}

/// Three members, and their directories.
fn three() -> ([TempDir; 3], [ServerConfig; 3], ClusterMap) {
    let directories = [directory(), directory(), directory()];
    let (configs, cluster) = three_in(&directories);
    (directories, configs, cluster)
}

/// Three members on free ports.
fn three_in(directories: &[TempDir; 3]) -> ([ServerConfig; 3], ClusterMap) {
    let names = ["a", "b", "c"];
    let urls = names.map(|_| Url::new("http", "127.0.0.1", ports::free_port()));
    let members = names.map(str::to_owned).into_iter().zip(urls.clone());
    let cluster = ClusterMap::by_name(members, "three").expect("three members");
    let configs = [0, 1, 2].map(|number| {
        let directory = directories[number].path();
        ServerConfig::member(names[number], cluster.clone(), directory, urls[number].clone())
    });
    (configs, cluster)
}

/// As the members of a demo do whose ports are taken.
#[tokio::test(flavor = "multi_thread")]
async fn members_that_go_by_name_find_each_other_on_other_ports() {
    let (directories, configs, _) = three();
    run(configs).await;
    run(three_in(&directories).0).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a free name");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a copy")),
        }
    }
}

/// It has used request ids since the copy that are settled everywhere, and would use them again.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_directory_was_put_back_notices_and_takes_proposals() {
    let (directories, configs, _cluster) = three();
    let data = directories[2].path();
    let attributes = MemberAttributes { member_id: 3, ..MemberAttributes::default() };
    let command = Command::MemberAttributes(attributes).under(Rules::FIRST);
    let aside = directory();
    let (older, newer) = (aside.path().join("older"), aside.path().join("newer"));
    run(configs.clone()).await;
    copy(data, &older);
    for is_put_back in [false, true] {
        let servers = start(configs.clone()).await;
        for _ in 0..50 {
            let proposed = servers[2].node().propose(command.clone()).await;
            proposed.expect("no request id is used twice").expect("it makes sense");
        }
        assert_eq!(servers[2].node().status().is_older_copy, is_put_back);
        assert!(!servers[0].node().status().is_older_copy);
        stop(&servers).await;
        if !is_put_back {
            fs::rename(data, &newer).expect("a free name");
            copy(&older, data);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_another_member_is_refused() {
    let (directories, configs, cluster) = three();
    run(configs.clone()).await;
    fs::copy(state_of(&directories[0]), state_of(&directories[1])).expect("a copy");
    let text = refusal(configs[1].clone()).await.to_string();
    let ids = ["a", "b"].map(|name| cluster.named(name).expect("a member").id.0);
    assert!(ids.iter().all(|id| text.contains(&format!("member {id:x}"))), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_whose_log_was_removed_is_refused() {
    let directory = directory();
    let config = single(directory.path(), "one");
    run([config.clone()]).await;
    let aside = directory.path().join("aside");
    fs::rename(&config.log_dir, &aside).expect("a directory");
    for _ in 0..2 {
        let error = refusal(config.clone()).await;
        let text = error.to_string();
        assert!(matches!(error, ServerError::LogRemoved { .. }), "{text}");
        assert!(text.contains("state.redb") && text.contains("--wal-dir"), "{text}");
    }
    fs::remove_dir_all(&config.log_dir).expect("what the refused starts have left");
    fs::rename(&aside, &config.log_dir).expect("a directory");
    run([config]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_member_has_more_than_a_lock() {
    let directory = directory();
    let config = ServerConfig { existing: true, ..single(directory.path(), "one") };
    fs::create_dir(&config.log_dir).expect("a directory");
    fs::write(config.log_dir.join("lock"), "").expect("what a start that failed leaves");
    let error = refusal(config).await;
    assert!(matches!(error, ServerError::NoData { .. }), "{error}");
}

/// A member of a later version would have waited for this one, or for its removal.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_stops_at_a_command_whose_rules_it_does_not_know() {
    let directory = directory();
    let newer = Rules(Rules::KNOWN.0 + 1);
    let server = Server::start(single(directory.path(), "one")).await.expect("it starts");
    let command = Command::MemberAttributes(MemberAttributes::default()).under(newer);
    server.node().propose(command).await.expect_err("it cannot be carried out");
    let error = server.stopped().await.expect_err("it does not go on without it").to_string();
    assert!(error.contains("of version 3, and this program knows up to 2"), "{error}");
    assert!(error.contains("start a newer version"), "{error}");
}
