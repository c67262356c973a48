//! Clusters of real server processes, and what tests do to them.

pub(crate) mod client;
pub(crate) mod etcdctl;
pub(crate) mod frames;
pub(crate) mod ports;
pub(crate) mod probe;
pub(crate) mod workload;

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use self::{client::Failed, ports::free_port};

/// Servers that begin a cluster; those that come later join it.
const FOUNDERS: usize = 3;

/// How long a cluster may take to come up on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Clusters are run one after the other: each measures times.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A server process.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) client_port: u16,
    pub(crate) peer_port: u16,
    /// Where it listens for peers, if that is not where its settings say that they find it.
    pub(crate) moved_to: Option<u16>,
    child: Option<Child>,
}

impl Server {
    /// One that does not run, on ports of its own.
    fn numbered(number: usize) -> Server {
        let name = format!("n{number}");
        let (client_port, peer_port) = (free_port(), free_port());
        Server { name, client_port, peer_port, moved_to: None, child: None }
    }

    /// Where its clients connect.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// The most memory it has had, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory_peak(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// The memory it has now, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self) -> u64 {
        self.status("VmRSS:")
    }

    #[cfg(target_os = "linux")]
    fn status(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the server runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        1024 * kibibytes.and_then(|number| number.parse::<u64>().ok()).expect("a number of kB")
    }

    fn pid(&self) -> Pid {
        let id = self.child.as_ref().expect("the server runs").id();
        Pid::from_raw(i32::try_from(id).expect("a process id fits"))
    }
}

/// Three server processes and their directory.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    scheme: &'static str,
    flags: Vec<String>,
    /// Each listens on all addresses, and is known to its peers by one, of IPv6 the first.
    everywhere: bool,
    /// What each server may open, if it is less than what this process may.
    pub(crate) descriptors_max: Option<u32>,
    directory: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts three servers whose peer URLs have this scheme, with default timeouts.
    pub(crate) async fn start(scheme: &'static str) -> Cluster {
        Cluster::start_with(scheme, Vec::new()).await
    }

    /// The same with more flags, the same for all three.
    pub(crate) async fn start_with(scheme: &'static str, flags: Vec<String>) -> Cluster {
        let mut cluster = Cluster::stopped(scheme, flags).await;
        cluster.start_all().await;
        cluster
    }

    /// The same, none of them started yet.
    pub(crate) async fn stopped(scheme: &'static str, flags: Vec<String>) -> Cluster {
        let turn = ONE_AT_A_TIME.lock().await;
        let servers = (1..=FOUNDERS).map(Server::numbered);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let servers = servers.collect();
        Cluster {
            servers,
            scheme,
            flags,
            everywhere: false,
            descriptors_max: None,
            directory,
            _turn: turn,
        }
    }

    /// Starts three servers that listen on all addresses.
    pub(crate) async fn start_everywhere(scheme: &'static str) -> Cluster {
        let mut cluster = Cluster::stopped(scheme, Vec::new()).await;
        cluster.everywhere = true;
        cluster.start_all().await;
        cluster
    }

    /// Starts all that begin it, and waits until it has settled.
    pub(crate) async fn start_all(&mut self) {
        (0..FOUNDERS).for_each(|index| self.restart(index));
        self.settled().await;
    }

    /// One more server, which joins the cluster when it is started; returns its index.
    pub(crate) fn newcomer(&mut self) -> usize {
        self.servers.push(Server::numbered(self.servers.len() + 1));
        self.servers.len() - 1
    }

    /// As `--initial-cluster` wants it.
    pub(crate) fn initial_cluster(&self) -> String {
        self.cluster_of(self.servers.len())
    }

    fn cluster_of(&self, count: usize) -> String {
        let members = (0..count)
            .map(|index| format!("{}={}", self.servers[index].name, self.peer_url(index)));
        members.collect::<Vec<_>>().join(",")
    }

    /// Where its peers find a server.
    pub(crate) fn peer_url(&self, index: usize) -> String {
        let host = if self.everywhere && index == 0 { "[::1]" } else { "127.0.0.1" };
        format!("{}://{host}:{}", self.scheme, self.servers[index].peer_port)
    }

    /// Starts a server that does not run, on the data it has.
    pub(crate) fn restart(&mut self, index: usize) {
        let peers = self.cluster_of(FOUNDERS.max(index + 1));
        let join =
            self.servers[..FOUNDERS].iter().map(|server| format!("http://{}", server.endpoint()));
        let join = join.collect::<Vec<_>>().join(",");
        let joins = ["--initial-cluster-state", "existing", "--join", &join];
        let joins = if index < FOUNDERS { &[][..] } else { &joins };
        let advertised = self.peer_url(index);
        let host = if self.everywhere { "0.0.0.0" } else { "127.0.0.1" };
        let log = File::options().create(true).append(true).open(self.log(index));
        let log = log.expect("the log can be written");
        let data = self.data(index);
        let server = &mut self.servers[index];
        assert!(server.child.is_none(), "{} runs already", server.name);
        let client_url = format!("http://{host}:{}", server.client_port);
        let peer_port = server.moved_to.unwrap_or(server.peer_port);
        let reached = format!("http://127.0.0.1:{}", server.client_port);
        let limit =
            self.descriptors_max.map_or("true".to_owned(), |max| format!("ulimit -n {max}"));
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("{limit} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_paxos-kv"))
            .env_clear()
            .args(["serve", "--name", &server.name])
            .arg("--data-dir")
            .arg(data)
            .args(["--initial-cluster", &peers])
            .args(["--listen-peer-urls", &format!("{}://{host}:{}", self.scheme, peer_port)])
            .args(["--initial-advertise-peer-urls", &advertised])
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &reached])
            .args(joins)
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the server can be started");
        server.child = Some(child);
    }

    /// Where a server keeps its data.
    pub(crate) fn data(&self, index: usize) -> PathBuf {
        self.directory.path().join(&self.servers[index].name)
    }

    /// Loses what a server that does not run has on its disk.
    pub(crate) fn wipe(&self, index: usize) {
        fs::remove_dir_all(self.data(index)).expect("it has data");
    }

    /// How many lines with this text a server has logged.
    pub(crate) fn lines(&self, index: usize, text: &str) -> usize {
        let log = fs::read_to_string(self.log(index)).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until a server has logged a line with this text.
    pub(crate) async fn logged(&self, index: usize, text: &str) {
        self.logged_after(index, text, 0).await;
    }

    /// Waits until a server has logged more lines with this text than so many.
    pub(crate) async fn logged_after(&self, index: usize, text: &str, before: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.lines(index, text) <= before {
            assert!(Instant::now() < deadline, "no line with {text:?} is logged");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until any server has.
    pub(crate) async fn logged_by_any(&self, text: &str) {
        let servers = (0..self.servers.len()).map(|index| Box::pin(self.logged(index, text)));
        futures::future::select_all(servers).await;
    }

    fn log(&self, index: usize) -> PathBuf {
        self.directory.path().join(format!("{}.log", self.servers[index].name))
    }

    /// Ends a server as a crash would.
    pub(crate) fn kill(&mut self, index: usize) {
        let server = &mut self.servers[index];
        kill(server.pid(), Signal::SIGKILL).expect("the server runs");
        let mut child = server.child.take().expect("the server runs");
        child.wait().expect("it can be waited for");
    }

    /// Asks a server to end and returns whether it did so without an error.
    pub(crate) fn terminate(&mut self, index: usize) -> bool {
        let server = &mut self.servers[index];
        kill(server.pid(), Signal::SIGTERM).expect("the server runs");
        let mut child = server.child.take().expect("the server runs");
        child.wait().expect("it can be waited for").success()
    }

    /// Waits until a server ends by itself, and returns whether it did so without an error.
    pub(crate) async fn ended(&mut self, index: usize) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let server = &mut self.servers[index];
        loop {
            let child = server.child.as_mut().expect("the server runs");
            if let Some(status) = child.try_wait().expect("it can be waited for") {
                server.child = None;
                return status.success();
            }
            assert!(Instant::now() < deadline, "{} does not end", server.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops a server in its tracks.
    pub(crate) fn pause(&self, index: usize) {
        kill(self.servers[index].pid(), Signal::SIGSTOP).expect("the server runs");
    }

    /// Lets it go on.
    pub(crate) fn unpause(&self, index: usize) {
        kill(self.servers[index].pid(), Signal::SIGCONT).expect("the server runs");
    }

    /// The endpoints of all servers.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.servers.iter().map(Server::endpoint).collect()
    }

    /// Waits until all servers that run agree on a leader among them, and returns its index.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.agreed_leader().await {
                return leader;
            }
            assert!(Instant::now() < deadline, "no leader within {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every server that runs knows the leader, has caught up with it, and is listed with
    /// its client URL.
    pub(crate) async fn settled(&self) {
        let deadline = Instant::now() + PATIENCE;
        self.leader().await;
        let mut chosen = 0;
        for server in self.servers.iter().filter(|server| server.child.is_some()) {
            while let Err(reason) = is_settled(&server.endpoint(), &mut chosen).await {
                assert!(Instant::now() < deadline, "{} does not settle: {reason}", server.name);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    async fn agreed_leader(&self) -> Option<usize> {
        let mut ids = Vec::new();
        let mut leaders = Vec::new();
        for (index, server) in self.servers.iter().enumerate() {
            if server.child.is_none() {
                continue;
            }
            let status = client::status(&server.endpoint()).await.ok()?;
            ids.push((status.header?.member_id, index));
            leaders.push(status.leader);
        }
        let first = *leaders.first()?;
        let agreed = leaders.iter().all(|&leader| leader == first);
        let (_, index) = ids.into_iter().find(|&(id, _)| id == first)?;
        agreed.then_some(index)
    }
}

/// Whether a server has applied all that was `chosen` and lists all members as started; raises
/// `chosen` to what it knows itself.
async fn is_settled(endpoint: &str, chosen: &mut u64) -> Result<(), String> {
    let status = client::status(endpoint).await.map_err(|Failed(reason)| reason)?;
    *chosen = (*chosen).max(status.raft_index);
    if status.raft_applied_index < *chosen {
        return Err(format!("{} of {chosen} slots are applied", status.raft_applied_index));
    }
    let members = client::members(endpoint).await.map_err(|Failed(reason)| reason)?;
    match members.iter().find(|member| member.client_urls.is_empty()) {
        Some(member) => Err(format!("member {:x} is not listed as started", member.id)),
        None => Ok(()),
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.servers.len() {
            if let Some(mut child) = self.servers[index].child.take() {
                // A paused process is killed all the same.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            for index in 0..self.servers.len() {
                let log = fs::read_to_string(self.log(index)).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let tail = &lines[lines.len().saturating_sub(40)..];
                eprintln!("--- {}\n{}", self.servers[index].name, tail.join("\n"));
            }
        }
    }
}
