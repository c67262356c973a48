//! `demo`: a cluster of three in one process, over real sockets and real files.
//!
//! The data stays where it is, and another run goes on with it. Members are told apart by name, so
//! they may get other ports; they keep the ones they had if those are free.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use clap::Args;
use futures::{
    StreamExt,
    future::try_join_all,
    stream::{self, SelectAll},
};
use paxos_core::{node::Leadership, types::Ballot};
use serde::{Deserialize, Serialize};
use tokio_stream::wrappers::WatchStream;

use super::{
    client::CommandError,
    console::{nobody_listens, say},
    log,
    process::{self, Ending, Signals},
};
use crate::server::{
    Server, ServerError,
    config::{ClusterMap, ConfigError, ServerConfig, Url},
};

/// The names of the members.
const NAMES: [&str; 3] = ["n1", "n2", "n3"];

/// Where the ports are kept.
const PORTS_FILE: &str = "ports.toml";

/// Part of the members' ids: a demo never meets another cluster.
const TOKEN: &str = "paxos-demo";

/// Arguments of `demo`.
#[derive(Clone, Debug, Args)]
pub(super) struct DemoArguments {
    /// Where the data is kept between runs.
    #[arg(long, default_value = "./paxos-demo", value_name = "DIR")]
    data_dir: PathBuf,
    /// What to log beside the changes of leadership: off, info, debug or a filter.
    #[arg(long, default_value = "off", value_name = "LEVEL")]
    log_level: String,
}

/// The ports of the last run.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Ports {
    client: Vec<u16>,
    peer: Vec<u16>,
}

/// Runs the cluster until a signal ends it.
pub(super) fn run(arguments: DemoArguments) -> Result<(), CommandError> {
    let filter = log::filter(&arguments.log_level).ok_or_else(|| ConfigError::Value {
        setting: "--log-level".to_owned(),
        value: arguments.log_level.clone(),
        expected: "off, info, debug or a filter".to_owned(),
    })?;
    let _log = log::start(filter)?;
    process::run(demo(&arguments.data_dir))
}

async fn demo(directory: &Path) -> Result<Ending, CommandError> {
    let mut signals = Signals::new()?;
    say("three members are starting in this process");
    let ports = free_ports(&read_ports(directory))
        .map_err(|error| CommandError::Io("find free ports on 127.0.0.1".to_owned(), error))?;
    let configs = configs(directory, &ports)?;
    let cluster = configs[0].cluster.clone();
    let servers = try_join_all(configs.into_iter().map(Server::start)).await?;
    write_ports(directory, &ports)?;
    let outcome = tokio::select! {
        outcome = watch(&servers, &cluster, directory) => outcome,
        _ = signals.next() => Ok(()),
        () = nobody_listens() => Ok(()),
    };
    say("stopping");
    let ending = tokio::select! {
        stopped = try_join_all(servers.iter().map(Server::shutdown)) => {
            stopped?;
            Ending::Orderly
        }
        _ = signals.next() => Ending::AtOnce,
    };
    let directory = directory.display();
    say(&format!("the data is kept in {directory}; run the demo again to go on with it"));
    Ok(outcome.map(|()| ending)?)
}

/// Shows who leads, until a member fails.
async fn watch(
    servers: &[Server],
    cluster: &ClusterMap,
    directory: &Path,
) -> Result<(), ServerError> {
    let mut changes: SelectAll<_> =
        servers.iter().map(|server| WatchStream::new(server.leadership())).collect();
    let mut failures = stream::FuturesUnordered::from_iter(servers.iter().map(Server::stopped));
    let mut latest = Ballot::ZERO;
    loop {
        let change = tokio::select! {
            Some(change) = changes.next() => change,
            Some(stopped) = failures.next() => return stopped,
            else => return Ok(()),
        };
        // All three report the same change; the first to do so is heard.
        let Leadership { leader: Some(leader), ballot } = change else { continue };
        if ballot <= latest {
            continue;
        }
        let first = latest == Ballot::ZERO;
        latest = ballot;
        say(&format!("{} leads, by ballot {}", cluster.name_of(leader), ballot.round));
        if first {
            say(&introduction(servers, directory));
        }
    }
}

/// What there is and what to try.
fn introduction(servers: &[Server], directory: &Path) -> String {
    let urls: Vec<_> = servers.iter().filter_map(|server| server.client_urls().first()).collect();
    let endpoints: Vec<_> = urls.iter().map(|url| url.address()).collect();
    let program = std::env::current_exe()
        .map_or_else(|_| "paxos-kv".to_owned(), |path| path.display().to_string());
    let members: Vec<_> =
        NAMES.iter().zip(&urls).map(|(name, url)| format!("  {name}  {url}")).collect();
    format!(
        "
{members}
  data in {directory}

Try, in another terminal:

  export ETCDCTL_API=3 ETCDCTL_ENDPOINTS={endpoints}
  etcdctl put greeting hello
  etcdctl get greeting
  etcdctl endpoint status --write-out=table
  etcdctl member list
  {program} status

Ctrl-C ends it.
",
        members = members.join("\n"),
        directory = directory.display(),
        endpoints = endpoints.join(","),
    )
}

/// The three members.
fn configs(directory: &Path, ports: &Ports) -> Result<Vec<ServerConfig>, ConfigError> {
    let loopback = |port| Url::new("http", "127.0.0.1", port);
    let members = NAMES.iter().zip(&ports.peer);
    let members = members.map(|(name, &port)| ((*name).to_owned(), loopback(port)));
    let cluster = ClusterMap::by_name(members, TOKEN)?;
    let configs = NAMES.iter().zip(ports.client.iter().zip(&ports.peer));
    let configs = configs.map(|(name, (&client, &peer))| ServerConfig {
        listen_client_urls: vec![loopback(client)],
        servers_in_process: NAMES.len(),
        ..ServerConfig::member(name, cluster.clone(), directory.join(name), loopback(peer))
    });
    Ok(configs.collect())
}

/// The ports of the last run. A file that is missing or makes no sense costs nothing but them.
fn read_ports(directory: &Path) -> Ports {
    let text = fs::read_to_string(directory.join(PORTS_FILE)).ok();
    text.and_then(|text| toml::from_str(&text).ok()).unwrap_or_default()
}

/// Keeps the ports for the next run. Only a cluster that has started does so: another one may be
/// running on the same data.
fn write_ports(directory: &Path, ports: &Ports) -> Result<(), CommandError> {
    let file = directory.join(PORTS_FILE);
    let text = toml::to_string(ports).expect("two lists of numbers can be written");
    fs::write(&file, text)
        .map_err(|error| CommandError::Io(format!("write {}", file.display()), error))
}

/// Six ports that are free right now: the wanted ones as far as they are.
fn free_ports(wanted: &Ports) -> std::io::Result<Ports> {
    // All are held until all are found, so that none is found twice.
    let mut held = Vec::with_capacity(2 * NAMES.len());
    let mut find = |wanted: Option<&u16>| -> std::io::Result<u16> {
        let bind = |port| TcpListener::bind(("127.0.0.1", port));
        let listener = match wanted.map(|&port| bind(port)) {
            Some(Ok(listener)) => listener,
            _ => bind(0)?,
        };
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    let mut ports = Ports::default();
    for member in 0..NAMES.len() {
        ports.client.push(find(wanted.client.get(member))?);
        ports.peer.push(find(wanted.peer.get(member))?);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_if_they_are_free_and_replaced_if_not() {
        let first = free_ports(&Ports::default()).expect("there are free ports");
        let taken = TcpListener::bind(("127.0.0.1", first.peer[1])).expect("it is free");
        let second = free_ports(&first).expect("there are free ports");
        assert_ne!(second.peer[1], first.peer[1]);
        assert_eq!(second.client.len(), 3);
        drop(taken);
    }

    #[test]
    fn members_keep_their_ids_whatever_their_ports() {
        let ids = |first: u16| {
            let ports = |first: u16| (first..first + 3).collect();
            let ports = Ports { client: ports(first), peer: ports(first + 3) };
            let configs = configs(Path::new("nowhere"), &ports).expect("the ports are different");
            assert_eq!(configs.len(), 3);
            configs[0].cluster.members().iter().map(|member| member.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(1000), ids(2000));
    }

    #[test]
    fn ports_are_remembered_and_nonsense_is_forgotten() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let ports = Ports { client: vec![1, 2, 3], peer: vec![4, 5, 6] };
        write_ports(directory.path(), &ports).expect("it can be written");
        assert_eq!(read_ports(directory.path()), ports);
        fs::write(directory.path().join(PORTS_FILE), "nonsense").expect("it can be written");
        assert_eq!(read_ports(directory.path()), Ports::default());
    }
}
