//! Server processes, the proxies between them, and what can be done to a server.
//!
//! A server listens for its peers on one address and is known to them by another one, that of its
//! proxy: `--listen-peer-urls` and `--initial-advertise-peer-urls` differ, as behind any NAT.
//! Clients connect directly. A server that ends by itself is an error, unless it was started on a full disk.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::{IpAddr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use paxos_kv::server::config::ClusterMap;
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

use super::{
    company::DESCRIPTORS_MAX,
    faults::effect,
    hosts::Hosts,
    network::Network,
    options::{Setup, Transport},
    ports::free_port,
    tcp,
    tmpfs::Tmpfs,
    udp,
};

/// How long a server may take to end when it is asked to.
const END_MAX: Duration = Duration::from_secs(30);

/// The program in the directory of a run.
const PROGRAM: &str = "paxos-kv";

/// What a server says once it has started.
const READY: &str = "ready to serve client requests";

/// What a server says when its disk has no more room.
const DISK_FULL: &str = "the disk is full";

/// What a server says when its tables wait for room.
const TABLES_WAIT: &str = "no space left: changes wait";

/// What a server says of its log, once there is room again.
const LINES_DROPPED: &str = "lines of the log could not be written";

/// What a server says when it has no place for another client.
const CLIENTS_WAIT: &str = "all places for clients are taken";

/// The directory of all logs in that of a run.
const LOGS: &str = "logs";

/// What a server says at its end if there was no room.
const NO_ROOM: &str = "no space left";

/// A process, as far as there is one.
enum Process {
    Down,
    Running(Child),
    Frozen(Child),
}

/// One server.
struct Server {
    name: String,
    client_port: u16,
    /// Where it listens for its peers.
    peer_port: u16,
    /// Where its peers find it.
    proxy_port: u16,
    process: Process,
    disk: Option<Tmpfs>,
    /// Its disk was full when it was started, or before it was ready.
    started_without_room: bool,
    /// Where in its log it has been started last.
    started_at: usize,
}

/// All servers. Dropping it ends them.
pub(crate) struct Cluster {
    pub(crate) network: Arc<Network>,
    pub(crate) hosts: Hosts,
    servers: Vec<Server>,
    flags: Vec<String>,
    setup: Setup,
    directory: PathBuf,
    /// What all servers log to.
    log_disk: Option<Tmpfs>,
    /// Servers that ended because there was no room.
    ended_without_room: u64,
    _proxies: JoinSet<()>,
}

impl Cluster {
    /// Starts as many servers as `setup` says, with all they leave behind in `directory`.
    pub(crate) async fn start(setup: Setup, directory: &Path) -> io::Result<Cluster> {
        let mut servers = Vec::new();
        for number in 1..=setup.nodes {
            let name = format!("n{number}");
            fs::create_dir(directory.join(&name))?;
            // A majority, so that the cluster as a whole can run out of room. The others have
            // a real disk.
            let wanted = setup.small_disks && number <= setup.nodes / 2 + 1;
            let peer_port = free_port();
            servers.push(Server {
                disk: wanted.then(|| Tmpfs::mount(&directory.join(&name))).transpose()?,
                name,
                client_port: free_port(),
                peer_port,
                proxy_port: if setup.is_direct { peer_port } else { free_port() },
                process: Process::Down,
                started_without_room: false,
                started_at: 0,
            });
        }
        fs::create_dir(directory.join(LOGS))?;
        let log_disk =
            setup.small_disks.then(|| Tmpfs::mount(&directory.join(LOGS))).transpose()?;
        // A copy, so that a build in between does not exchange what is started again.
        fs::copy(program(), directory.join(PROGRAM))?;
        let network = Arc::new(Network::new(setup.nodes));
        let hosts = match setup.packet_filter {
            true => Hosts::separate(setup.nodes, directory)?,
            false => Hosts::Shared,
        };
        let proxies = match setup.is_direct {
            true => {
                hosts.connect()?;
                JoinSet::new()
            }
            false => proxies(&setup, &hosts, &servers, &network).await?,
        };
        let flags = flags(&setup, &hosts, &servers);
        let directory = directory.to_owned();
        let mut cluster = Cluster {
            network,
            hosts,
            servers,
            flags,
            setup,
            directory,
            log_disk,
            ended_without_room: 0,
            _proxies: proxies,
        };
        cluster.restart_all()?;
        Ok(cluster)
    }

    /// Where clients reach each server.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let endpoints = self.servers.iter().enumerate().map(|(index, server)| {
            SocketAddr::from((self.hosts.server(index), server.client_port)).to_string()
        });
        endpoints.collect()
    }

    pub(crate) fn election_timeout(&self) -> Duration {
        self.setup.election_timeout
    }

    pub(crate) fn name(&self, index: usize) -> &str {
        &self.servers[index].name
    }

    /// The servers whose disk can be filled.
    pub(crate) fn with_small_disk(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|&index| self.servers[index].disk.is_some()).collect()
    }

    /// What a server has logged since the beginning.
    pub(crate) fn log(&self, index: usize) -> io::Result<String> {
        fs::read_to_string(log(&self.directory, self.name(index)))
    }

    /// What servers have said of full disks and crowds since the beginning, each with its name.
    pub(crate) fn log_effects(&self) -> io::Result<[(&'static str, u64); 5]> {
        let logs = (0..self.servers.len()).map(|index| self.log(index));
        let logs = logs.collect::<io::Result<Vec<_>>>()?;
        let said = |text| logs.iter().map(|log| log.matches(text).count() as u64).sum();
        Ok([
            (effect::DISKS_FOUND_FULL, said(DISK_FULL)),
            (effect::TABLES_WAITED, said(TABLES_WAIT)),
            (effect::ENDED_WITHOUT_ROOM, self.ended_without_room),
            (effect::LINES_DROPPED, said(LINES_DROPPED)),
            (effect::CLIENTS_WAITED, said(CLIENTS_WAIT)),
        ])
    }

    /// What the proxies and the network have done to packets, each with its name.
    pub(crate) fn network_effects(&self) -> io::Result<Vec<(&'static str, u64)>> {
        Ok([&self.network.effects.list()[..], &self.hosts.effects()?].concat())
    }

    /// Where a server keeps its data.
    pub(crate) fn data(&self, index: usize) -> PathBuf {
        self.directory.join(self.name(index)).join("data")
    }

    /// The process of a server, if it has one.
    pub(crate) fn process(&self, index: usize) -> Option<u32> {
        match &self.servers[index].process {
            Process::Down => None,
            Process::Running(child) | Process::Frozen(child) => Some(child.id()),
        }
    }

    /// Starts every server that is down, on the data it has.
    pub(crate) fn restart_all(&mut self) -> io::Result<()> {
        for (index, server) in self.servers.iter_mut().enumerate() {
            if !matches!(server.process, Process::Down) {
                continue;
            }
            let host = self.hosts.server(index);
            let log = File::options()
                .create(true)
                .append(true)
                .open(log(&self.directory, &server.name))?;
            server.started_at = usize::try_from(log.metadata()?.len()).expect("a short log");
            let client_url = format!("http://{}", SocketAddr::from((host, server.client_port)));
            let listen_url = url(&self.setup, (host, server.peer_port));
            let found_at = found_at(&self.setup, &self.hosts, index);
            let advertised_url = url(&self.setup, (found_at, server.proxy_port));
            let mut command = self.hosts.command(index, "/bin/sh");
            command
                .args(["-c", &format!("ulimit -n {DESCRIPTORS_MAX} && exec \"$0\" \"$@\"")])
                .arg(self.directory.join(PROGRAM))
                .arg("serve");
            if self.setup.logs_elsewhere {
                command.arg("--wal-dir").arg(self.directory.join(format!("{}.wal", server.name)));
            }
            let child = command
                .env_clear()
                .args(["--name", &server.name])
                .arg("--data-dir")
                .arg(self.directory.join(&server.name).join("data"))
                .args(["--listen-peer-urls", &listen_url])
                .args(["--initial-advertise-peer-urls", &advertised_url])
                .args(["--listen-client-urls", &client_url])
                .args(&self.flags)
                // Ctrl-C in a terminal is meant for the test, which then ends the servers.
                .process_group(0)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()?;
            server.process = Process::Running(child);
            server.started_without_room = server.disk.as_ref().is_some_and(|disk| disk.is_full);
        }
        Ok(())
    }

    /// Ends a server as a crash would; one that is down stays so.
    pub(crate) fn kill(&mut self, index: usize) -> io::Result<()> {
        match std::mem::replace(&mut self.servers[index].process, Process::Down) {
            Process::Down => Ok(()),
            // SIGKILL ends a frozen process too.
            Process::Running(mut child) | Process::Frozen(mut child) => {
                child.kill()?;
                child.wait().map(drop)
            }
        }
    }

    /// Stops a server in its tracks.
    pub(crate) fn freeze(&mut self, index: usize) -> io::Result<()> {
        let process = &mut self.servers[index].process;
        if let Process::Running(child) = std::mem::replace(process, Process::Down) {
            kill(pid(&child), Signal::SIGSTOP)?;
            *process = Process::Frozen(child);
        }
        Ok(())
    }

    /// Lets all go on that were stopped.
    pub(crate) fn thaw_all(&mut self) -> io::Result<()> {
        for Server { process, .. } in &mut self.servers {
            match std::mem::replace(process, Process::Down) {
                Process::Frozen(child) => {
                    kill(pid(&child), Signal::SIGCONT)?;
                    *process = Process::Running(child);
                }
                other => *process = other,
            }
        }
        Ok(())
    }

    /// Fills the disk of a server.
    pub(crate) fn fill_disk(&mut self, index: usize) -> io::Result<()> {
        let log = self.log(index)?;
        let server = &mut self.servers[index];
        let is_ready = log.get(server.started_at..).is_some_and(|log| log.contains(READY));
        server.started_without_room |= !is_ready;
        server.disk.as_mut().map_or(Ok(()), Tmpfs::fill)
    }

    /// Fills the disk that all servers log to.
    pub(crate) fn fill_logs(&mut self) -> io::Result<()> {
        self.log_disk.as_mut().map_or(Ok(()), Tmpfs::fill)
    }

    /// Makes room on all disks.
    pub(crate) fn make_room(&mut self) -> io::Result<()> {
        let disks = self.servers.iter_mut().filter_map(|server| server.disk.as_mut());
        let disks = disks.chain(self.log_disk.as_mut());
        disks.filter(|disk| disk.is_full).try_for_each(Tmpfs::make_room)
    }

    /// Notices servers that have ended by themselves.
    ///
    /// # Errors
    ///
    /// If one had no reason to.
    pub(crate) fn check_processes(&mut self) -> Result<(), String> {
        for index in 0..self.servers.len() {
            let ended = self.has_ended(index).map_err(|error| error.to_string())?;
            let Some(status) = ended else { continue };
            let log = self.log(index).map_err(|error| error.to_string())?;
            let last = log.lines().next_back().unwrap_or_default().to_owned();
            if !(self.servers[index].started_without_room && last.to_lowercase().contains(NO_ROOM))
            {
                return Err(format!("{} ended by itself, {status}: {last}", self.name(index)));
            }
            println!("  {} ended without room: {last}", self.name(index));
            self.ended_without_room += 1;
        }
        Ok(())
    }

    /// Whether a server has ended by itself, and how.
    pub(crate) fn has_ended(&mut self, index: usize) -> io::Result<Option<ExitStatus>> {
        let process = &mut self.servers[index].process;
        let Process::Running(child) = process else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            *process = Process::Down;
        }
        Ok(status)
    }

    /// Asks every server to end, and returns what became of it.
    pub(crate) async fn terminate_all(&mut self) -> io::Result<Vec<(String, ExitStatus)>> {
        let all = 0..self.servers.len();
        self.terminate(&all.collect::<Vec<_>>()).await
    }

    /// The same with some of them; those that do not run are left out.
    pub(crate) async fn terminate(
        &mut self,
        indexes: &[usize],
    ) -> io::Result<Vec<(String, ExitStatus)>> {
        let mut ended = Vec::new();
        for &index in indexes {
            let Process::Running(child) = &self.servers[index].process else { continue };
            kill(pid(child), Signal::SIGTERM)?;
        }
        let deadline = tokio::time::Instant::now() + END_MAX;
        for &index in indexes {
            let server = &mut self.servers[index];
            let Process::Running(child) = &mut server.process else { continue };
            loop {
                if let Some(status) = child.try_wait()? {
                    ended.push((server.name.clone(), status));
                    break;
                }
                if tokio::time::Instant::now() > deadline {
                    return Err(io::Error::other(format!("{} does not end", server.name)));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            server.process = Process::Down;
        }
        Ok(ended)
    }

    /// Copies what is on a disk in memory to a directory beside it, before it is gone.
    pub(crate) fn keep_small_disks(&mut self) -> io::Result<()> {
        let mut disks = self.with_small_disk();
        for &index in &disks {
            self.kill(index)?;
        }
        let names = disks.drain(..).map(|index| self.name(index).to_owned());
        for name in names.chain(self.log_disk.is_some().then(|| LOGS.to_owned())) {
            let from = self.directory.join(&name);
            let to = self.directory.join(format!("{name}.kept"));
            let copied = Command::new("cp").arg("-a").args([&from, &to]).status()?;
            if !copied.success() {
                return Err(io::Error::other(format!("{} cannot be copied", from.display())));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.servers.len() {
            if let Err(error) = self.kill(index) {
                eprintln!("{} may still run: {error}", self.servers[index].name);
            }
        }
    }
}

/// The server under test: another build than cargo's, if the variable names one.
fn program() -> PathBuf {
    let named = std::env::var_os("PAXOS_KV_PROGRAM").map(PathBuf::from);
    named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_paxos-kv")))
}

fn log(directory: &Path, name: &str) -> PathBuf {
    directory.join(LOGS).join(format!("{name}.log"))
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a process id fits"))
}

fn url(setup: &Setup, place: (IpAddr, u16)) -> String {
    format!("{}://{}", setup.transport.scheme(), SocketAddr::from(place))
}

/// What all servers are told.
fn flags(setup: &Setup, hosts: &Hosts, servers: &[Server]) -> Vec<String> {
    let flag = |name: &str, value: String| format!("--{name}={value}");
    let election_ms = setup.election_timeout.as_millis();
    vec![
        flag("initial-cluster", initial_cluster(setup, hosts, servers)),
        // A line for each connection of a client that ends: something to write when there is no room.
        flag("log-level", "info,paxos_core::node::board=warn,paxos_kv::server=debug".to_owned()),
        flag("election-timeout", election_ms.to_string()),
        flag("heartbeat-interval", (election_ms / 10).to_string()),
        flag("snapshot-count", setup.checkpoint_slots.to_string()),
        flag("snapshot-bytes", setup.checkpoint_bytes.to_string()),
    ]
}

/// Where the others find a server.
fn found_at(setup: &Setup, hosts: &Hosts, index: usize) -> IpAddr {
    if setup.is_direct { hosts.server(index) } else { hosts.front(index) }
}

fn initial_cluster(setup: &Setup, hosts: &Hosts, servers: &[Server]) -> String {
    let member = |(index, server): (usize, &Server)| {
        format!(
            "{}={}",
            server.name,
            url(setup, (found_at(setup, hosts, index), server.proxy_port))
        )
    };
    servers.iter().enumerate().map(member).collect::<Vec<_>>().join(",")
}

async fn proxies(
    setup: &Setup,
    hosts: &Hosts,
    servers: &[Server],
    network: &Arc<Network>,
) -> io::Result<JoinSet<()>> {
    let places = servers.iter().enumerate();
    let addresses: Vec<_> = places
        .clone()
        .map(|(index, server)| (hosts.server(index), server.peer_port).into())
        .collect();
    match setup.transport {
        Transport::Quic => {
            let mut fronts = Vec::new();
            for (index, server) in places {
                fronts.push(UdpSocket::bind((hosts.front(index), server.proxy_port)).await?);
            }
            udp::relay(fronts, addresses, |pair| hosts.stand(pair), network.clone()).await
        }
        Transport::Tcp => {
            let cluster =
                ClusterMap::parse(&initial_cluster(setup, hosts, servers), "etcd-cluster");
            let cluster = cluster.map_err(io::Error::other)?;
            let indexes: BTreeMap<_, _> = places
                .clone()
                .filter_map(|(index, server)| Some((cluster.named(&server.name)?.id, index)))
                .collect();
            let mut proxies = JoinSet::new();
            for (target, server) in places {
                let listener = TcpListener::bind((hosts.front(target), server.proxy_port)).await?;
                let stands = (0..servers.len()).map(|source| hosts.stand((source, target)));
                let target = tcp::Target {
                    server: target,
                    address: addresses[target],
                    stands: stands.collect(),
                    indexes: indexes.clone(),
                };
                proxies.spawn(tcp::relay(listener, target, network.clone()));
            }
            Ok(proxies)
        }
    }
}
