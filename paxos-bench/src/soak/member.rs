//! A member of the cluster: a process, its files, and what they take up.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use paxos_kv::proto::etcdserverpb::{RangeRequest, kv_client::KvClient};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::{Request, SoakError, pause};

/// How long a member may take to come back.
const READY_MAX: Duration = Duration::from_secs(600);

/// How long one attempt to read may take.
const ATTEMPT: Duration = Duration::from_secs(2);

/// What a member says when it has put a state in place that it got from another one.
const TAKEN_OVER: &str = "the state machine has taken over a state";

/// One server. Its process ends with it.
pub(crate) struct Member {
    name: String,
    program: PathBuf,
    flags: Vec<String>,
    data: PathBuf,
    log: PathBuf,
    endpoint: String,
    process: Option<(Child, Instant)>,
    /// In the log when its process was started last.
    taken_over_before: usize,
}

impl Member {
    /// So many members that know each other, none of them started.
    pub(crate) fn cluster(
        count: usize,
        request: &Request,
        directory: &Path,
    ) -> Result<Vec<Member>, SoakError> {
        let program = program(request.server.as_ref())?;
        let ports = ports(2 * count)?;
        let (clients, peers) = ports.split_at(count);
        let peer = |port: &u16| format!("{}://127.0.0.1:{port}", request.scheme);
        let names = || (1..=count).map(|number| format!("n{number}"));
        let cluster: Vec<_> =
            names().zip(peers).map(|(name, port)| format!("{name}={}", peer(port))).collect();
        let cluster = cluster.join(",");
        let members = names().zip(clients.iter().zip(peers)).map(|(name, (client, port))| {
            let data = directory.join(&name);
            let mut flags = vec![
                "serve".to_owned(),
                format!("--name={name}"),
                format!("--data-dir={}", data.display()),
                format!("--listen-client-urls=http://127.0.0.1:{client}"),
                format!("--listen-peer-urls={}", peer(port)),
                format!("--initial-cluster={cluster}"),
            ];
            flags.extend(request.server_flags.iter().cloned());
            let log = directory.join(format!("{name}.log"));
            let endpoint = format!("http://127.0.0.1:{client}");
            let (process, program) = (None, program.clone());
            Member { name, program, flags, data, log, endpoint, process, taken_over_before: 0 }
        });
        Ok(members.collect())
    }

    /// A cluster of one, of paxos-kv or of etcd: both have the same flags.
    pub(crate) fn alone(
        name: &str,
        program: PathBuf,
        directory: &Path,
    ) -> Result<Member, SoakError> {
        let [client, peer] = ports(2)?[..] else { unreachable!("two were asked for") };
        let (data, endpoint) = (directory.join(name), format!("http://127.0.0.1:{client}"));
        let peer = format!("http://127.0.0.1:{peer}");
        let serve = (name != "etcd").then(|| "serve".to_owned());
        let flags = [
            format!("--name={name}"),
            format!("--data-dir={}", data.display()),
            format!("--listen-client-urls={endpoint}"),
            format!("--advertise-client-urls={endpoint}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={name}={peer}"),
        ];
        let flags = serve.into_iter().chain(flags).collect();
        let log = directory.join(format!("{name}.log"));
        let name = name.to_owned();
        Ok(Member {
            name,
            program,
            flags,
            data,
            log,
            endpoint,
            process: None,
            taken_over_before: 0,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Where its clients connect.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Starts its process on the data it has.
    pub(crate) fn start(&mut self) -> Result<(), SoakError> {
        self.taken_over_before = self.taken_over();
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(SoakError::io(format!("open {}", self.log.display())))?;
        let began = Instant::now();
        let child = Command::new(&self.program)
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(SoakError::io(format!("start {}", self.program.display())))?;
        self.process = Some((child, began));
        Ok(())
    }

    /// Waits until it answers a linearizable read; returns how long that is after its start. Goes on
    /// where it was if it is dropped.
    pub(crate) async fn ready(&mut self) -> Result<Duration, SoakError> {
        let began = self.process.as_ref().map_or_else(Instant::now, |(_, began)| *began);
        loop {
            if matches!(timeout(ATTEMPT, read(&self.endpoint)).await, Ok(true)) {
                return Ok(began.elapsed());
            }
            if let Some(ended) = self.ended() {
                return Err(ended);
            }
            if began.elapsed() > READY_MAX {
                let (name, seconds) = (self.name.clone(), READY_MAX.as_secs());
                return Err(SoakError::NotReady { name, seconds, last: self.last_line() });
            }
            pause().await;
        }
    }

    /// Ends its process as a crash would.
    pub(crate) fn kill(&mut self) -> Result<(), SoakError> {
        let Some((mut child, _)) = self.process.take() else { return Ok(()) };
        let ended = child.kill().and_then(|()| child.wait());
        ended.map(drop).map_err(SoakError::io(format!("end member {}", self.name)))
    }

    /// What is to be said if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<SoakError> {
        let (child, _) = self.process.as_mut()?;
        let status = child.try_wait().ok().flatten()?.to_string();
        self.process = None;
        Some(SoakError::Ended { name: self.name.clone(), status, last: self.last_line() })
    }

    /// States it has got from other members since its process was started.
    pub(crate) fn states_taken_over(&self) -> usize {
        self.taken_over().saturating_sub(self.taken_over_before)
    }

    fn taken_over(&self) -> usize {
        fs::read_to_string(&self.log).map_or(0, |log| log.matches(TAKEN_OVER).count())
    }

    fn last_line(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().next_back().unwrap_or_default().to_owned()
    }

    /// What its log takes up on the disk.
    pub(crate) fn log_bytes(&self) -> u64 {
        used_bytes(&self.data.join("log"))
    }

    /// What everything of it takes up there.
    pub(crate) fn disk_bytes(&self) -> u64 {
        used_bytes(&self.data)
    }

    /// What its state takes up there.
    pub(crate) fn state_bytes(&self) -> u64 {
        used_bytes(&self.data.join("state.redb"))
    }

    /// Its memory that is in use; 0 while it is away.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let Some((child, _)) = &self.process else { return 0 };
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        1024 * kibibytes.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("member {} may still run: {error}", self.name);
        }
    }
}

/// Connects anew, as a client of its own would.
async fn read(endpoint: &str) -> bool {
    let Ok(endpoint) = Endpoint::from_shared(endpoint.to_owned()) else { return false };
    let connected: Result<Channel, _> = endpoint.connect().await;
    let Ok(channel) = connected else { return false };
    let request = RangeRequest { key: "key".into(), ..RangeRequest::default() };
    KvClient::new(channel).range(request).await.is_ok()
}

/// The program `paxos-kv`: this one, or the one beside this program.
pub(crate) fn program(given: Option<&PathBuf>) -> Result<PathBuf, SoakError> {
    let beside = || {
        let own = std::env::current_exe().unwrap_or_default();
        own.with_file_name("paxos-kv")
    };
    let program = given.cloned().unwrap_or_else(beside);
    match program.is_file() {
        true => Ok(program),
        false => Err(SoakError::NoServer(program.display().to_string())),
    }
}

/// Ports that are free now.
fn ports(count: usize) -> Result<Vec<u16>, SoakError> {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let failed = || SoakError::io("look for free ports on 127.0.0.1");
    let listeners = (0..count).map(|_| bind()).collect::<Result<Vec<_>, _>>().map_err(failed())?;
    let port = |listener: &TcpListener| Ok(listener.local_addr()?.port());
    listeners.iter().map(port).collect::<Result<_, _>>().map_err(failed())
}

/// What a file, or all files of a directory, take up on the disk.
fn used_bytes(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;

    let Ok(metadata) = fs::metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return 512 * metadata.blocks();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| used_bytes(&entry.path())).sum()
}
