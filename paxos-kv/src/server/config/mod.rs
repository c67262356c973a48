//! What a server is told at its start.
//!
//! The names, variables and defaults are etcd's. Precedence: flag, environment, file, default. A
//! setting that is unknown or makes no sense is refused with a message that names it and where it
//! was given; one of etcd's without effect here is reported, never dropped silently.

mod cluster;
mod file;
#[cfg(test)]
mod fuzz;
mod given;
mod table;
mod url;

use std::{path::PathBuf, time::Duration};

use paxos_core::limits;

use super::backends;
use crate::store::RequestLimits;

pub use cluster::{ClusterMap, Member};
pub use given::{Given, Named, Origin};
pub use table::{Meaning, SETTINGS, Section, Setting, find};
pub use url::{Url, UrlError};

/// Bytes of the log after which a checkpoint is due, unless said otherwise. A checkpoint copies nothing of the
/// store; a start after a crash checks the log, which takes up several times as much, and replays what is behind
/// the newest.
const CHECKPOINT_BYTES: u64 = 8 << 20;

/// Where a server keeps its log and its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageKind {
    /// In files.
    #[default]
    Redb,
    /// In memory: gone at exit. For tests.
    Memory,
}

/// What carries the messages between members; the scheme of the peer URLs says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTransport {
    /// `http://`: TCP, not encrypted.
    Tcp,
    /// `https://`: TCP with TLS.
    TcpTls(PeerTls),
    /// `quic://`: QUIC, which is always encrypted.
    Quic(PeerTls),
}

/// With which certificates members meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTls {
    /// Self-signed: encrypted, but anybody may claim to be a member.
    SelfSigned,
    /// Signed by the cluster's authority, checked on both sides.
    Mutual {
        /// This member's certificate, PEM.
        certificate: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
        /// The authority, PEM.
        authority: PathBuf,
    },
}

/// The settings of one server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// This member's name; one of `cluster`.
    pub name: String,
    /// The cluster.
    pub cluster: ClusterMap,
    /// Where the state is kept.
    pub data_dir: PathBuf,
    /// Where the log is kept.
    pub log_dir: PathBuf,
    /// Whether the cluster exists: the data directory must hold a member's data already, unless there is
    /// somebody to `join`.
    pub existing: bool,
    /// Where members of an existing cluster serve clients, to be asked by one that joins it. Only a member that
    /// has no data yet asks.
    pub join: Vec<Url>,
    /// Files or memory.
    pub storage: StorageKind,
    /// Where clients are served. Port 0 lets the system choose.
    pub listen_client_urls: Vec<Url>,
    /// Where health and metrics are served, beside `listen_client_urls`. Port 0 lets the system choose.
    pub listen_metrics_urls: Vec<Url>,
    /// Where clients reach this member, as the others are told. Empty for where it listens.
    pub advertise_client_urls: Vec<Url>,
    /// Where the other members connect.
    pub listen_peer_url: Url,
    /// What carries the messages between members.
    pub peer_transport: PeerTransport,
    /// Between two heartbeats of a leader.
    pub heartbeat_interval: Duration,
    /// How long a member waits for its leader.
    pub election_timeout: Duration,
    /// Slots of the log after which a checkpoint is due. A member that has missed less than one
    /// checkpoint's worth of the log gets what it misses, one that has missed more gets a state.
    pub checkpoint_slots: u64,
    /// Bytes of the log after which a checkpoint is due; whatever comes first.
    pub checkpoint_bytes: u64,
    /// What a request may measure.
    pub limits: RequestLimits,
    /// Requests under way on one client connection.
    pub concurrent_streams_max: u32,
    /// Servers that share what this process may open (`ulimit -n`); each keeps what it needs for its peers and
    /// its data, and gives the rest of its share to clients.
    pub servers_in_process: usize,
}

/// Settings that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The file has keys that are no settings.
    #[error(
        "the configuration file {path} has unknown settings: {keys}; `paxos-kv serve --help` \
         lists the known ones"
    )]
    UnknownKeys {
        /// The file.
        path: String,
        /// The keys.
        keys: String,
    },
    /// A value of the wrong kind.
    #[error("{setting} must be {expected}, not {value:?}")]
    Value {
        /// The setting.
        setting: String,
        /// Its value.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// A setting of etcd's that cannot be honoured.
    #[error("{setting} is refused: {remedy}")]
    Refused {
        /// The setting.
        setting: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// A backend that this program has not.
    #[error(
        "{asked_for_by} needs the feature `{feature}` of paxos-kv, without which this program was built: build it \
         with `--features {feature}`, or choose another"
    )]
    NotBuiltIn {
        /// What asks for it.
        asked_for_by: &'static str,
        /// Its feature.
        feature: &'static str,
    },
    /// `--initial-cluster` makes no sense.
    #[error("--initial-cluster: {0}")]
    InitialCluster(String),
    /// Settings that contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

impl ServerConfig {
    /// A cluster of one member named `default`, with its data in `data_dir`, that serves clients
    /// and peers on loopback ports which the system chooses. Change the fields at will.
    #[must_use]
    pub fn single(data_dir: impl Into<PathBuf>) -> ServerConfig {
        let peer_url = Url::new("http", "127.0.0.1", 0);
        let members = [("default".to_owned(), peer_url.clone())];
        let cluster = ClusterMap::by_name(members, "etcd-cluster")
            .expect("one member shares its URL with nobody");
        ServerConfig::member("default", cluster, data_dir, peer_url)
    }

    /// A member of `cluster` with the defaults: data in `data_dir`, clients served on a loopback
    /// port that the system chooses, peers on `listen_peer_url`, over plain TCP.
    #[must_use]
    pub fn member(
        name: &str,
        cluster: ClusterMap,
        data_dir: impl Into<PathBuf>,
        listen_peer_url: Url,
    ) -> ServerConfig {
        let data_dir = data_dir.into();
        ServerConfig {
            name: name.to_owned(),
            cluster,
            log_dir: data_dir.join("log"),
            data_dir,
            existing: false,
            join: Vec::new(),
            storage: StorageKind::Redb,
            listen_client_urls: vec![Url::new("http", "127.0.0.1", 0)],
            listen_metrics_urls: Vec::new(),
            advertise_client_urls: Vec::new(),
            listen_peer_url,
            peer_transport: PeerTransport::Tcp,
            heartbeat_interval: limits::HEARTBEAT_INTERVAL,
            election_timeout: limits::ELECTION_TIMEOUT,
            checkpoint_slots: limits::CHECKPOINT_SLOTS,
            checkpoint_bytes: CHECKPOINT_BYTES,
            limits: RequestLimits::default(),
            concurrent_streams_max: 4096,
            servers_in_process: 1,
        }
    }

    /// How long a request may take before its client is told that it timed out: five seconds and
    /// two elections, as with etcd.
    #[must_use]
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    /// The settings that were given, completed by the defaults.
    ///
    /// # Errors
    ///
    /// The first one that makes no sense.
    pub fn from_given(given: &Given) -> Result<ServerConfig, ConfigError> {
        given.check()?;
        let name = given.text("name").unwrap_or("default").to_owned();
        let listen_peer_url = one_url(given, "listen-peer-urls")?;
        let advertised = advertise_peer_url(given)?;
        let cluster = cluster(given, &name, advertised.as_ref().unwrap_or(&listen_peer_url))?;
        check_own_place(given, &name, &cluster, &listen_peer_url)?;
        let peer_transport = peer_transport(given, &cluster, &listen_peer_url)?;
        let (data_dir, log_dir) = directories(given, &name);
        let config = ServerConfig {
            data_dir,
            log_dir,
            existing: choice(
                given,
                "initial-cluster-state",
                &[("new", false), ("existing", true)],
            )?,
            join: plain_urls(given, "join")?.unwrap_or_default(),
            storage: choice(
                given,
                "storage",
                &[("redb", StorageKind::Redb), ("memory", StorageKind::Memory)],
            )?,
            listen_client_urls: listen_client_urls(given)?,
            listen_metrics_urls: plain_urls(given, "listen-metrics-urls")?.unwrap_or_default(),
            advertise_client_urls: advertise_client_urls(given)?,
            heartbeat_interval: milliseconds(given, "heartbeat-interval")?,
            election_timeout: milliseconds(given, "election-timeout")?,
            checkpoint_slots: within(given, "snapshot-count", 1, u64::MAX)?,
            checkpoint_bytes: within(given, "snapshot-bytes", 1, u64::MAX)?,
            limits: limits(given)?,
            concurrent_streams_max: within(given, "max-concurrent-streams", 1, u32::MAX)?,
            peer_transport,
            ..ServerConfig::member(&name, cluster, "", listen_peer_url)
        };
        backends::check(&config)?;
        config.check_timing(given)?;
        config.check_listeners(given)?;
        if !config.join.is_empty() && !config.existing {
            return Err(ConfigError::Contradiction(format!(
                "{} is for a member that joins a cluster which exists: give it --initial-cluster-state \
                 existing as well",
                given.named("join"),
            )));
        }
        Ok(config)
    }

    /// Name, cluster, data directory and log directory of a member to be, from the same settings
    /// as its server will be given.
    ///
    /// # Errors
    ///
    /// The first one that makes no sense.
    pub fn identity_from_given(
        given: &Given,
    ) -> Result<(String, ClusterMap, PathBuf, PathBuf), ConfigError> {
        let name = given.text("name").unwrap_or("default").to_owned();
        let advertised = advertise_peer_url(given)?;
        let advertised = advertised.unwrap_or_else(|| Url::new("http", "localhost", 2380));
        let cluster = cluster(given, &name, &advertised)?;
        let (data_dir, log_dir) = directories(given, &name);
        Ok((name, cluster, data_dir, log_dir))
    }

    /// The bounds that etcd has.
    fn check_timing(&self, given: &Given) -> Result<(), ConfigError> {
        let (election, heartbeat) = (self.election_timeout, self.heartbeat_interval);
        if election < 5 * heartbeat {
            return Err(ConfigError::Contradiction(format!(
                "{} of {} ms is too short for heartbeats every {} ms: make it at least five times \
                 as long",
                given.named("election-timeout"),
                election.as_millis(),
                heartbeat.as_millis(),
            )));
        }
        Ok(())
    }

    /// Nothing listens where something else does.
    fn check_listeners(&self, given: &Given) -> Result<(), ConfigError> {
        let mut listeners: Vec<(&'static str, &Url)> =
            self.listen_client_urls.iter().map(|url| ("listen-client-urls", url)).collect();
        listeners.extend(self.listen_metrics_urls.iter().map(|url| ("listen-metrics-urls", url)));
        // QUIC has ports of its own.
        if !matches!(self.peer_transport, PeerTransport::Quic(_)) {
            listeners.push(("listen-peer-urls", &self.listen_peer_url));
        }
        for (index, (name, url)) in listeners.iter().enumerate() {
            let others = &listeners[..index];
            if let Some((other, taken)) = others.iter().find(|(_, other)| url.clashes_with(other)) {
                return Err(ConfigError::Contradiction(format!(
                    "{url} of {} is where {taken} of {} listens already: give each a port of its own",
                    given.named(name),
                    given.named(other),
                )));
            }
        }
        Ok(())
    }
}

fn urls(given: &Given, name: &'static str) -> Result<Vec<Url>, ConfigError> {
    let text = given.text(name).unwrap_or_default();
    let refuse = |reason: String| {
        Err(ConfigError::Contradiction(format!("{}: {reason}", given.named(name))))
    };
    match Url::parse_list(text) {
        Ok(urls) if urls.is_empty() => refuse("there is no URL in it".to_owned()),
        Ok(urls) => match (1..urls.len()).find(|&index| urls[..index].contains(&urls[index])) {
            Some(twice) => refuse(format!("{} is given twice", urls[twice])),
            None => Ok(urls),
        },
        Err(error) => refuse(error.to_string()),
    }
}

/// Where a member of this name keeps its data, and its log.
fn directories(given: &Given, name: &str) -> (PathBuf, PathBuf) {
    let data_dir = given.text("data-dir").map_or(format!("{name}.paxos"), str::to_owned);
    let data_dir = PathBuf::from(data_dir);
    let log_dir = given.text("wal-dir").map_or(data_dir.join("log"), PathBuf::from);
    (data_dir, log_dir)
}

fn listen_client_urls(given: &Given) -> Result<Vec<Url>, ConfigError> {
    let given = plain_urls(given, "listen-client-urls")?;
    Ok(given.unwrap_or_else(|| vec![Url::new("http", "localhost", 2379)]))
}

/// The URLs of a setting for clients, if it was given.
fn plain_urls(given: &Given, name: &'static str) -> Result<Option<Vec<Url>>, ConfigError> {
    let Some(_) = given.text(name) else { return Ok(None) };
    let urls = urls(given, name)?;
    match urls.iter().find(|url| url.scheme() != "http") {
        None => Ok(Some(urls)),
        Some(url) => Err(ConfigError::Contradiction(format!(
            "{}: clients are served on http:// only, not on {url}; put a proxy that terminates TLS in \
             front if they need it",
            given.named(name),
        ))),
    }
}

/// What clients are told; nothing for where this member listens.
fn advertise_client_urls(given: &Given) -> Result<Vec<Url>, ConfigError> {
    if given.text("advertise-client-urls").is_some() {
        return urls(given, "advertise-client-urls");
    }
    match listen_client_urls(given)?.into_iter().find(Url::is_unspecified) {
        None => Ok(Vec::new()),
        Some(url) => Err(ConfigError::Contradiction(format!(
            "clients cannot connect to {url} of {}: say with --advertise-client-urls where they \
             reach this member",
            given.named("listen-client-urls"),
        ))),
    }
}

/// A setting that has room for several URLs with etcd, and for one here; the table's default included.
fn one_url(given: &Given, name: &'static str) -> Result<Url, ConfigError> {
    let Some(_) = given.text(name) else { return Ok(Url::new("http", "localhost", 2380)) };
    let mut urls = urls(given, name)?;
    if urls.len() > 1 {
        return Err(ConfigError::Contradiction(format!(
            "{}: a member listens for peers on one URL, not on {}, and has one URL; an address like \
             0.0.0.0 covers all interfaces",
            given.named(name),
            urls.len(),
        )));
    }
    Ok(urls.swap_remove(0))
}

/// The URL of this member for its peers, if it was given.
fn advertise_peer_url(given: &Given) -> Result<Option<Url>, ConfigError> {
    let name = "initial-advertise-peer-urls";
    given.text(name).map(|_| one_url(given, name)).transpose()
}

fn cluster(given: &Given, name: &str, peer_url: &Url) -> Result<ClusterMap, ConfigError> {
    let token = given.text("initial-cluster-token").unwrap_or("etcd-cluster");
    let Some(initial_cluster) = given.text("initial-cluster") else {
        return ClusterMap::parse(&format!("{name}={peer_url}"), token);
    };
    let cluster = ClusterMap::parse(initial_cluster, token)?;
    let Some(member) = cluster.named(name) else {
        let names: Vec<_> = cluster.members().iter().map(|member| member.name.as_str()).collect();
        return Err(ConfigError::Contradiction(format!(
            "{} names no member {name:?}, only {}: correct it or --name",
            given.named("initial-cluster"),
            names.join(", "),
        )));
    };
    let was_said = given.text("initial-advertise-peer-urls").is_some();
    if was_said && *peer_url != member.peer_url {
        return Err(ConfigError::Contradiction(format!(
            "{} differs from the URL of {name} in {}: make them equal",
            given.named("initial-advertise-peer-urls"),
            given.named("initial-cluster"),
        )));
    }
    Ok(cluster)
}

/// A member that listens where another one is said to be has that one's settings or the wrong name.
fn check_own_place(
    given: &Given,
    name: &str,
    cluster: &ClusterMap,
    listen: &Url,
) -> Result<(), ConfigError> {
    match cluster.members().iter().find(|member| member.peer_url == *listen) {
        Some(other) if other.name != name => Err(ConfigError::Contradiction(format!(
            "{listen} of {} is the URL of {} in {}, and this member is called {name}: correct {}",
            given.named("listen-peer-urls"),
            other.name,
            given.named("initial-cluster"),
            given.named("name"),
        ))),
        _ => Ok(()),
    }
}

/// The transport that the scheme of all peer URLs names.
fn peer_transport(
    given: &Given,
    cluster: &ClusterMap,
    listen: &Url,
) -> Result<PeerTransport, ConfigError> {
    let scheme = listen.scheme();
    let mut peers = cluster.members().iter().map(|member| &member.peer_url);
    if let Some(other) = peers.find(|url| url.scheme() != scheme) {
        return Err(ConfigError::Contradiction(format!(
            "the peer URLs {listen} and {other} have different schemes: one cluster speaks one of \
             http://, https:// and quic://"
        )));
    }
    match scheme {
        "http" => Ok(PeerTransport::Tcp),
        "https" => match peer_tls(given)? {
            Some(tls) => Ok(PeerTransport::TcpTls(tls)),
            None => Err(ConfigError::Contradiction(
                "https:// peer URLs need --peer-cert-file, --peer-key-file and \
                 --peer-trusted-ca-file, or --peer-auto-tls"
                    .to_owned(),
            )),
        },
        "quic" => Ok(PeerTransport::Quic(peer_tls(given)?.unwrap_or(PeerTls::SelfSigned))),
        _ => Err(ConfigError::Contradiction(format!(
            "the scheme of {listen} is not one of http:// (TCP), https:// (TCP with TLS) and \
             quic:// (QUIC)"
        ))),
    }
}

fn peer_tls(given: &Given) -> Result<Option<PeerTls>, ConfigError> {
    let automatic = given.switch("peer-auto-tls")?;
    let demanded = given.switch("peer-client-cert-auth")?;
    let file = |name| given.text(name).map(PathBuf::from);
    let files = (file("peer-cert-file"), file("peer-key-file"), file("peer-trusted-ca-file"));
    match files {
        (Some(certificate), Some(key), Some(authority)) => {
            Ok(Some(PeerTls::Mutual { certificate, key, authority }))
        }
        (None, None, None) if demanded => Err(ConfigError::Contradiction(format!(
            "{} needs --peer-cert-file, --peer-key-file and --peer-trusted-ca-file",
            given.named("peer-client-cert-auth"),
        ))),
        (None, None, None) => Ok(automatic.then_some(PeerTls::SelfSigned)),
        _ => Err(ConfigError::Contradiction(
            "--peer-cert-file, --peer-key-file and --peer-trusted-ca-file belong together: give \
             all three"
                .to_owned(),
        )),
    }
}

fn limits(given: &Given) -> Result<RequestLimits, ConfigError> {
    let max = RequestLimits::MAX;
    Ok(RequestLimits {
        request_bytes_max: within(given, "max-request-bytes", 1024, max.request_bytes_max)?,
        txn_operations_max: within(given, "max-txn-ops", 1, max.txn_operations_max)?,
    })
}

fn choice<T: Copy>(
    given: &Given,
    name: &'static str,
    choices: &[(&'static str, T)],
) -> Result<T, ConfigError> {
    let value: String = given.parse(name, "a text")?;
    let found = choices.iter().find(|(choice, _)| *choice == value);
    found.map(|(_, meaning)| *meaning).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
        ConfigError::Value {
            setting: given.named(name).to_string(),
            value,
            expected: names.join(" or "),
        }
    })
}

fn milliseconds(given: &Given, name: &'static str) -> Result<Duration, ConfigError> {
    // etcd's upper bound for the election timeout: 50 s.
    within(given, name, 1, 50_000).map(Duration::from_millis)
}

fn within<T>(given: &Given, name: &'static str, min: T, max: T) -> Result<T, ConfigError>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let value: T = given.parse(name, "a whole number")?;
    if value < min || value > max {
        return Err(ConfigError::Value {
            setting: given.named(name).to_string(),
            value: value.to_string(),
            expected: format!("between {min} and {max}"),
        });
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
