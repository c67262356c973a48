//! Every setting of the server, once: the flag, the environment variable, the key in the file, the
//! default and the help all come from this table.
//!
//! The names are etcd's, so that a command line for etcd starts this server too. What etcd has and
//! this server does not need is accepted and said to have no effect; what would leave the operator
//! with less protection than asked for is refused.

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is used.
    Used,
    /// It is etcd's and has no effect here, for this reason.
    NoEffect(&'static str),
    /// It is etcd's and cannot be honoured; ignoring it would surprise. With this remedy.
    Refused(&'static str),
}

/// Under which heading the help lists a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// This member and its disk.
    Member,
    /// Who belongs to the cluster.
    Cluster,
    /// Certificates.
    Security,
    /// What clients may ask for at once.
    RequestLimits,
    /// What is logged.
    Logging,
    /// Everything without effect.
    Compatibility,
}

impl Section {
    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Section::Member => "Member",
            Section::Cluster => "Cluster",
            Section::Security => "Security between members",
            Section::RequestLimits => "Request limits",
            Section::Logging => "Logging",
            Section::Compatibility => "Accepted for compatibility",
        }
    }
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The flag without its dashes, and the key in the file.
    pub name: &'static str,
    /// What it is when nobody says.
    pub default: &'static str,
    /// What to put into the help for its value; empty for a switch.
    pub value_name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What becomes of it.
    pub meaning: Meaning,
    /// Where the help lists it.
    pub section: Section,
}

impl Setting {
    /// Whether it is on or off and may be given without a value.
    #[must_use]
    pub fn is_switch(&self) -> bool {
        self.value_name.is_empty()
    }

    /// Its environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.replace('-', "_").to_uppercase())
    }
}

/// The setting of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

const fn used(
    section: Section,
    name: &'static str,
    value_name: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, default, value_name, help, meaning: Meaning::Used, section }
}

const fn no_effect(
    name: &'static str,
    value_name: &'static str,
    default: &'static str,
    why: &'static str,
) -> Setting {
    let meaning = Meaning::NoEffect(why);
    Setting { name, default, value_name, help: why, meaning, section: Section::Compatibility }
}

const fn refused(
    name: &'static str,
    value_name: &'static str,
    default: &'static str,
    remedy: &'static str,
) -> Setting {
    let meaning = Meaning::Refused(remedy);
    Setting { name, default, value_name, help: remedy, meaning, section: Section::Compatibility }
}

use Section::{Cluster, Logging, Member, RequestLimits, Security};

const NO_CLIENT_TLS: &str =
    "TLS towards clients is not available: listen on http:// behind a proxy that terminates TLS";
const NO_DISCOVERY: &str = "discovery is not available: list the members in --initial-cluster";
const NO_COMPACTION: &str = "history is compacted by the Compact request only";
const NO_AUTH: &str = "users and roles are not available";
const NO_V2: &str = "there is no v2 API";
const NO_TRACING: &str = "traces are not exported";
const NO_ROTATION: &str = "the log goes to standard error, whose reader rotates it";
const COMPARED_ALWAYS: &str = "members compare what they chose all the time";
const SHARED_CLIENT_URLS: &str = "gRPC and HTTP share the client URLs";
const NO_CLIENT_CERTIFICATE: &str =
    "a member shows one certificate, --peer-cert-file, whoever dials";
const NO_DEFRAGMENTATION: &str = "the database needs no defragmentation";
const PEER_TIMEOUTS: &str = "members give up on each other by their own timeouts";
const TLS_VERSIONS: &str = "members speak TLS 1.2 and 1.3";
const IGNORED_BY_ETCD: &str = "etcd ignores it too";
const OWN_PEER_CHECK: &str =
    "a member is believed whose certificate names the host of its peer URL";

/// All of them.
#[rustfmt::skip] // A line for each reads as the table that it is.
pub static SETTINGS: &[Setting] = &[
    used(Member, "name", "NAME", "default", "Name of this member, unique in the cluster"),
    used(Member, "data-dir", "DIR", "${name}.paxos", "Directory of this member's data"),
    used(Member, "wal-dir", "DIR", "${data-dir}/log", "Directory of the log, to put it on a disk of its own"),
    used(Member, "storage", "redb|memory", "redb", "Where log and state are kept; memory forgets them at exit"),
    used(Member, "listen-client-urls", "URLS", "http://localhost:2379", "Where clients are served, separated by commas"),
    used(Member, "listen-metrics-urls", "URLS", "", "Where /health, /livez, /readyz and /metrics are served beside the client URLs, with connections of their own"),
    used(Member, "listen-peer-urls", "URL", "http://localhost:2380", "Where the other members connect; http:// is TCP, https:// TCP with TLS, quic:// QUIC"),
    used(Member, "heartbeat-interval", "MS", "100", "Milliseconds between two heartbeats of the leader; one that misses three may be replaced"),
    used(Member, "election-timeout", "MS", "1000", "Milliseconds without a leader before a new one is elected, at most: sooner where it has been heard steadily, and at once where its process has ended"),
    used(Member, "snapshot-count", "N", "100000", "Log slots after which a checkpoint is due; what is behind two of them is deleted, and a member that needs it gets a state"),
    used(Member, "snapshot-bytes", "BYTES", "8388608", "Log bytes after which a checkpoint is due, whatever comes first"),
    used(Member, "config-file", "FILE", "", "TOML file, or one in etcd's YAML, with these settings by the same names; flags and environment come first"),
    used(Cluster, "initial-cluster", "NAME=URL,…", "${name}=${initial-advertise-peer-urls}", "All members of the cluster with their peer URLs; the same on each"),
    used(Cluster, "initial-advertise-peer-urls", "URLS", "${listen-peer-urls}", "This member's peer URLs as the others reach it; as in --initial-cluster"),
    used(Cluster, "advertise-client-urls", "URLS", "${listen-client-urls}", "This member's client URLs as clients reach it"),
    used(Cluster, "initial-cluster-token", "TOKEN", "etcd-cluster", "Keeps clusters apart that share a network; the same on each member"),
    used(Cluster, "initial-cluster-state", "new|existing", "new", "'existing' refuses to start without data, unless --join says whom to ask"),
    used(Cluster, "join", "URLS", "", "Client URLs of members, for one that was added and has no data yet: `paxos-kv member add` prints them"),
    used(Security, "peer-auto-tls", "", "false", "Use a self-signed certificate: encrypted, but any member is believed"),
    used(Security, "peer-cert-file", "FILE", "", "Certificate of this member, PEM"),
    used(Security, "peer-key-file", "FILE", "", "Its private key, PEM"),
    used(Security, "peer-trusted-ca-file", "FILE", "", "Certificate authority of the members, PEM"),
    used(Security, "peer-client-cert-auth", "", "false", "Demand certificates of members that connect; always so with --peer-trusted-ca-file"),
    used(RequestLimits, "max-txn-ops", "N", "128", "Operations in one transaction"),
    used(RequestLimits, "max-request-bytes", "BYTES", "1572864", "Size of one request"),
    used(RequestLimits, "max-concurrent-streams", "N", "4096", "Requests under way on one client connection"),
    used(Logging, "log-level", "LEVEL", "info", "debug, info, warn or error; or a filter like info,paxos_core=debug"),
    no_effect("quota-backend-bytes", "BYTES", "0", "the size of the database is not limited"),
    no_effect("auto-compaction-retention", "N", "0", NO_COMPACTION),
    no_effect("auto-compaction-mode", "MODE", "periodic", NO_COMPACTION),
    no_effect("initial-election-tick-advance", "", "true", "the first election never waits longer than a later one"),
    no_effect("max-snapshots", "N", "5", "no snapshot files accumulate"),
    no_effect("max-wals", "N", "5", "no log files accumulate"),
    no_effect("backend-bbolt-freelist-type", "TYPE", "map", "the database is not bbolt"),
    no_effect("backend-batch-interval", "TIME", "", "commits are batched by load"),
    no_effect("backend-batch-limit", "N", "0", "commits are batched by load"),
    no_effect("grpc-keepalive-min-time", "TIME", "5s", "clients may ping as often as they like"),
    no_effect("grpc-keepalive-interval", "TIME", "2h", "clients are pinged every 30 s"),
    no_effect("grpc-keepalive-timeout", "TIME", "20s", "a client has 20 s to answer a ping"),
    no_effect("socket-reuse-port", "", "false", "ports are not shared"),
    no_effect("socket-reuse-address", "", "false", "addresses are always reused"),
    no_effect("strict-reconfig-check", "", "true", "changes that would lose the quorum are always refused"),
    no_effect("pre-vote", "", "true", "a member always asks the others before it stands for election"),
    no_effect("discovery-fallback", "HOW", "proxy", NO_DISCOVERY),
    no_effect("discovery-proxy", "URL", "", NO_DISCOVERY),
    no_effect("discovery-srv-name", "NAME", "", NO_DISCOVERY),
    no_effect("enable-v2", "", "false", NO_V2),
    no_effect("v2-deprecation", "PHASE", "not-yet", NO_V2),
    no_effect("proxy", "MODE", "off", NO_V2),
    no_effect("proxy-failure-wait", "MS", "5000", NO_V2),
    no_effect("proxy-refresh-interval", "MS", "30000", NO_V2),
    no_effect("proxy-dial-timeout", "MS", "1000", NO_V2),
    no_effect("proxy-write-timeout", "MS", "5000", NO_V2),
    no_effect("proxy-read-timeout", "MS", "0", NO_V2),
    no_effect("experimental-enable-v2v3", "PREFIX", "", NO_V2),
    no_effect("self-signed-cert-validity", "YEARS", "1", "a new self-signed certificate is made at every start"),
    no_effect("cipher-suites", "LIST", "", "only the safe suites of TLS 1.2 and 1.3 are offered"),
    no_effect("tls-max-version", "VERSION", "", TLS_VERSIONS),
    no_effect("peer-client-cert-file", "FILE", "", NO_CLIENT_CERTIFICATE),
    no_effect("peer-client-key-file", "FILE", "", NO_CLIENT_CERTIFICATE),
    no_effect("client-cert-file", "FILE", "", "the server is no client of its own"),
    no_effect("client-key-file", "FILE", "", "the server is no client of its own"),
    no_effect("enable-grpc-gateway", "", "true", "no JSON gateway is served"),
    no_effect("listen-client-http-urls", "URLS", "", SHARED_CLIENT_URLS),
    no_effect("raft-read-timeout", "TIME", "5s", PEER_TIMEOUTS),
    no_effect("raft-write-timeout", "TIME", "5s", PEER_TIMEOUTS),
    no_effect("cors", "ORIGINS", "*", "no browser API is served"),
    no_effect("host-whitelist", "HOSTS", "*", "no browser API is served"),
    no_effect("auth-token", "TYPE", "simple", NO_AUTH),
    no_effect("bcrypt-cost", "N", "10", NO_AUTH),
    no_effect("auth-token-ttl", "SECONDS", "300", NO_AUTH),
    no_effect("enable-pprof", "", "false", "profile the process from outside"),
    no_effect("metrics", "LEVEL", "basic", "there is one set of metrics"),
    no_effect("logger", "NAME", "zap", "there is one logger"),
    no_effect("log-outputs", "OUTPUTS", "default", "the log goes to standard error"),
    no_effect("log-output", "OUTPUT", "default", "the log goes to standard error"),
    no_effect("log-format", "FORMAT", "json", "there is one format"),
    no_effect("log-package-levels", "LEVELS", "", "use --log-level with a filter"),
    no_effect("debug", "", "false", "use --log-level debug"),
    no_effect("enable-log-rotation", "", "false", NO_ROTATION),
    no_effect("log-rotation-config-json", "JSON", "", NO_ROTATION),
    no_effect("experimental-enable-distributed-tracing", "", "false", NO_TRACING),
    no_effect("experimental-distributed-tracing-address", "ADDRESS", "localhost:4317", NO_TRACING),
    no_effect("experimental-distributed-tracing-service-name", "NAME", "etcd", NO_TRACING),
    no_effect("experimental-distributed-tracing-instance-id", "ID", "", NO_TRACING),
    no_effect("experimental-distributed-tracing-sampling-rate", "N", "0", NO_TRACING),
    no_effect("experimental-initial-corrupt-check", "", "false", COMPARED_ALWAYS),
    no_effect("experimental-corrupt-check-time", "TIME", "0s", COMPARED_ALWAYS),
    no_effect("experimental-compact-hash-check-enabled", "", "false", COMPARED_ALWAYS),
    no_effect("experimental-compact-hash-check-time", "TIME", "1m", COMPARED_ALWAYS),
    no_effect("experimental-backend-bbolt-freelist-type", "TYPE", "array", "the database is not bbolt"),
    no_effect("experimental-enable-lease-checkpoint", "", "false", "leases are not available"),
    no_effect("experimental-enable-lease-checkpoint-persist", "", "false", "leases are not available"),
    no_effect("experimental-compaction-sleep-interval", "TIME", "10ms", "compaction chooses its own pace"),
    no_effect("experimental-compaction-batch-limit", "N", "1000", "compaction chooses its own batches"),
    no_effect("experimental-watch-progress-notify-interval", "TIME", "10m", "watches are not available"),
    no_effect("experimental-warning-apply-duration", "TIME", "100ms", "slow requests are not logged"),
    no_effect("experimental-warning-unary-request-duration", "TIME", "300ms", "slow requests are not logged"),
    no_effect("experimental-downgrade-check-time", "TIME", "5s", "a cluster is not downgraded"),
    no_effect("experimental-memory-mlock", "", "false", "pages are not locked into memory"),
    no_effect("experimental-max-learners", "N", "1", "members do not change"),
    no_effect("experimental-snapshot-catchup-entries", "N", "5000", "two checkpoints' worth of the log are kept: see --snapshot-count"),
    no_effect("experimental-wait-cluster-ready-timeout", "TIME", "5s", "requests are taken at once, and wait for a leader"),
    no_effect("experimental-stop-grpc-service-on-defrag", "", "false", NO_DEFRAGMENTATION),
    no_effect("experimental-txn-mode-write-with-shared-buffer", "", "true", "reads never share a buffer with writes"),
    no_effect("experimental-bootstrap-defrag-threshold-megabytes", "MB", "0", NO_DEFRAGMENTATION),
    no_effect("unsafe-no-fsync", "", "false", "every acknowledged write is synced; use --storage memory for a test"),
    no_effect("cluster-active-size", "", "false", IGNORED_BY_ETCD),
    no_effect("cluster-remove-delay", "", "false", IGNORED_BY_ETCD),
    no_effect("cluster-sync-interval", "", "false", IGNORED_BY_ETCD),
    no_effect("config", "", "false", IGNORED_BY_ETCD),
    no_effect("force", "", "false", IGNORED_BY_ETCD),
    no_effect("max-result-buffer", "", "false", IGNORED_BY_ETCD),
    no_effect("max-retry-attempts", "", "false", IGNORED_BY_ETCD),
    no_effect("peer-heartbeat-interval", "", "false", IGNORED_BY_ETCD),
    no_effect("peer-election-timeout", "", "false", IGNORED_BY_ETCD),
    no_effect("retry-interval", "", "false", IGNORED_BY_ETCD),
    no_effect("snapshot", "", "false", IGNORED_BY_ETCD),
    no_effect("v", "", "false", IGNORED_BY_ETCD),
    no_effect("vv", "", "false", IGNORED_BY_ETCD),
    refused("tls-min-version", "VERSION", "TLS1.2", TLS_VERSIONS),
    refused("ca-file", "FILE", "", NO_CLIENT_TLS),
    refused("client-cert-allowed-cn", "NAME", "", NO_CLIENT_TLS),
    refused("peer-ca-file", "FILE", "", "use --peer-trusted-ca-file"),
    refused("cert-file", "FILE", "", NO_CLIENT_TLS),
    refused("key-file", "FILE", "", NO_CLIENT_TLS),
    refused("client-cert-auth", "", "false", NO_CLIENT_TLS),
    refused("client-crl-file", "FILE", "", NO_CLIENT_TLS),
    refused("client-cert-allowed-hostname", "NAME", "", NO_CLIENT_TLS),
    refused("trusted-ca-file", "FILE", "", NO_CLIENT_TLS),
    refused("auto-tls", "", "false", NO_CLIENT_TLS),
    refused("peer-cert-allowed-cn", "NAME", "", OWN_PEER_CHECK),
    refused("peer-cert-allowed-hostname", "NAME", "", OWN_PEER_CHECK),
    refused("peer-crl-file", "FILE", "", "revocation lists are not read: change the certificate authority instead"),
    refused("experimental-peer-skip-client-san-verification", "", "false", "a certificate has to name the host of its member's peer URL"),
    refused("peer-skip-client-san-verification", "", "false", "a certificate has to name the host of its member's peer URL"),
    refused("discovery", "URL", "", NO_DISCOVERY),
    refused("discovery-srv", "DOMAIN", "", NO_DISCOVERY),
    refused("force-new-cluster", "", "false", "a member cannot be made a cluster of its own: start a new cluster and copy the keys"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_switches_have_a_default() {
        let mut names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for setting in SETTINGS.iter().filter(|setting| setting.is_switch()) {
            assert!(["true", "false"].contains(&setting.default), "{}", setting.name);
        }
    }

    #[test]
    fn the_variable_is_the_name_in_capitals() {
        let setting = find("initial-cluster").expect("it is in the table");
        assert_eq!(setting.variable(), "ETCD_INITIAL_CLUSTER");
    }
}
