use std::{collections::BTreeMap, io::Write};

use super::*;

const CLUSTER: &str = "a=http://127.0.0.1:1,b=http://127.0.0.1:2,c=http://127.0.0.1:3";

fn gather(flags: &[(&'static str, &str)], environment: &[(&str, &str)]) -> Given {
    try_gather(flags, environment).expect("these can be merged")
}

fn try_gather(
    flags: &[(&'static str, &str)],
    environment: &[(&str, &str)],
) -> Result<Given, ConfigError> {
    let flags: BTreeMap<_, _> =
        flags.iter().map(|&(name, value)| (name, value.to_owned())).collect();
    let environment = environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Given::gather(flags, environment)
}

fn config(flags: &[(&'static str, &str)]) -> Result<ServerConfig, ConfigError> {
    ServerConfig::from_given(&gather(flags, &[]))
}

fn refusal(flags: &[(&'static str, &str)]) -> String {
    config(flags).expect_err("this is refused").to_string()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    file_named("", text)
}

fn file_named(suffix: &str, text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(suffix).tempfile();
    let mut file = file.expect("a temporary file");
    file.write_all(text.as_bytes()).expect("it can be written");
    file
}

#[test]
fn without_any_setting_it_is_a_cluster_of_one_on_the_usual_ports() {
    let config = config(&[]).expect("the defaults work");
    assert_eq!(config.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.paxos"));
    assert_eq!(config.log_dir, PathBuf::from("default.paxos/log"));
    assert_eq!(config.listen_client_urls, [Url::new("http", "localhost", 2379)]);
    assert_eq!(config.listen_peer_url, Url::new("http", "localhost", 2380));
    assert_eq!(config.cluster.members().len(), 1);
    assert_eq!(config.peer_transport, PeerTransport::Tcp);
    assert_eq!(config.request_timeout(), Duration::from_secs(7));
}

/// The table's defaults for help and the fields' defaults for embedders are the same.
#[test]
fn the_defaults_of_the_table_are_those_of_an_embedded_server() {
    let (table, embedded) = (config(&[]).expect("they work"), ServerConfig::single("x"));
    assert_eq!(table.heartbeat_interval, embedded.heartbeat_interval);
    assert_eq!(table.election_timeout, embedded.election_timeout);
    assert_eq!(table.checkpoint_slots, embedded.checkpoint_slots);
    assert_eq!(table.checkpoint_bytes, embedded.checkpoint_bytes);
    assert_eq!(table.limits, embedded.limits);
    assert_eq!(table.concurrent_streams_max, embedded.concurrent_streams_max);
    assert_eq!(table.storage, embedded.storage);
}

#[test]
fn checkpoints_are_due_after_so_many_slots_or_bytes() {
    let given = gather(&[("snapshot-count", "7")], &[("ETCD_SNAPSHOT_BYTES", "1048576")]);
    let config = ServerConfig::from_given(&given).expect("both can be given");
    assert_eq!((config.checkpoint_slots, config.checkpoint_bytes), (7, 1 << 20));
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let file = file("name = \"c\"\ninitial-cluster-token = \"file\"\nsnapshot-count = 7\n");
    let path = file.path().to_str().expect("a readable path");
    let given = gather(
        &[("name", "a"), ("config-file", path)],
        &[("ETCD_NAME", "b"), ("ETCD_INITIAL_CLUSTER_TOKEN", "environment"), ("NAME", "x")],
    );
    assert_eq!(given.text("name"), Some("a"));
    assert_eq!(given.text("initial-cluster-token"), Some("environment"));
    assert_eq!(given.text("snapshot-count"), Some("7"));
    assert_eq!(given.text("data-dir"), None);
}

#[test]
fn the_environment_may_name_the_file_and_nothing_counts_as_not_given() {
    let file = file("name = \"c\"\nlisten-client-urls = [\"http://a:1\", \"http://b:2\"]\n");
    let path = file.path().to_str().expect("a readable path");
    let given = gather(&[], &[("ETCD_CONFIG_FILE", path), ("ETCD_NAME", "")]);
    assert_eq!(given.text("name"), Some("c"));
    assert_eq!(given.text("listen-client-urls"), Some("http://a:1,http://b:2"));
}

#[test]
fn a_file_with_unknown_keys_is_refused_naming_them_all() {
    let file = file("name = \"c\"\nnmae = 1\ndata_dir = \"x\"\n");
    let path = file.path().to_str().expect("a readable path");
    let error = try_gather(&[("config-file", path)], &[]).expect_err("it is refused").to_string();
    assert!(error.contains("data_dir, nmae") && error.contains(path), "{error}");
}

#[test]
fn a_file_that_is_missing_or_malformed_is_refused_with_the_place() {
    let error = try_gather(&[("config-file", "/no/such/file")], &[]).expect_err("it is missing");
    assert!(error.to_string().contains("/no/such/file"), "{error}");
    for (text, reason) in
        [("name = \"c\"\nwhat is this", "line 2"), ("name = 1979-05-27", "name must be a text")]
    {
        let file = file(text);
        let path = file.path().to_str().expect("a readable path");
        let error = try_gather(&[("config-file", path)], &[]).expect_err(text).to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
    }
}

/// What etcd's own sample file looks like.
const YAML: &str = "\
# This is the configuration file for the etcd server.

# Human-readable name for this member.
name: 'c'
data-dir:
snapshot-count: 10000
heartbeat-interval: 50
listen-client-urls: http://localhost:2379
cors:
proxy: 'off'
discovery:
initial-cluster-token: 'etcd-cluster'
strict-reconfig-check: false
client-transport-security:
  cert-file:
  client-cert-auth: false
  auto-tls: false
peer-transport-security:
  cert-file: c.pem
  key-file: k.pem
  trusted-ca-file: a.pem
  client-cert-auth: true
log-outputs: [stderr]
auto-compaction-retention: \"1\"
";

#[test]
fn a_file_may_be_one_of_etcds() {
    for (suffix, before) in [(".yml", ""), (".yaml", "---\n"), (".conf", ""), ("", "---\n")] {
        let file = file_named(suffix, &format!("{before}{YAML}"));
        let path = file.path().to_str().expect("a readable path");
        let given = gather(&[("config-file", path), ("listen-peer-urls", "https://h:1")], &[]);
        assert_eq!(given.text("log-outputs"), Some("stderr"));
        assert_eq!(given.text("discovery"), None);
        let config = ServerConfig::from_given(&given).expect("it makes sense");
        assert_eq!((config.name.as_str(), config.checkpoint_slots), ("c", 10_000));
        assert_eq!(config.heartbeat_interval, Duration::from_millis(50));
        assert_eq!(config.data_dir, PathBuf::from("c.paxos"));
        let PeerTransport::TcpTls(PeerTls::Mutual { certificate, .. }) = config.peer_transport
        else {
            panic!("the certificates are given");
        };
        assert_eq!(certificate, PathBuf::from("c.pem"));
    }
}

#[test]
fn what_a_file_of_etcds_asks_for_is_not_dropped() {
    for (text, reason) in [
        ("client-transport-security:\n  cert-file: x\n", "cert-file in"),
        ("peer-transport-security:\n  allowed-cn: x\n", "peer-cert-allowed-cn in"),
        ("client-transport-security:\n  allowed-hostname: x\n", "client-cert-allowed-hostname in"),
    ] {
        let file = file_named(".yml", text);
        let path = file.path().to_str().expect("a readable path");
        assert!(refusal(&[("config-file", path)]).contains(reason), "{text}");
    }
    for (text, reason) in [
        ("name: a\nnmae: b\n", "unknown settings: nmae"),
        ("peer-transport-security:\n  nmae: b\n", "unknown settings: peer-nmae"),
        ("name: a\n  data-dir: [\n", "line 2"),
        ("name: {a: b}\n", "name must be a text"),
        ("name: a\nname: b\n", "name"),
        ("- name\n", "as YAML"),
        ("name: &a [*a, *a]\n", "as YAML"),
    ] {
        let file = file_named(".yml", text);
        let path = file.path().to_str().expect("a readable path");
        let error = try_gather(&[("config-file", path)], &[]).expect_err(text).to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{text}: {error}");
    }
    let empty = file_named(".yml", "# nothing\n");
    let path = empty.path().to_str().expect("a readable path");
    assert_eq!(gather(&[("config-file", path)], &[]).text("name"), None);
}

#[test]
fn switches_are_those_of_go() {
    let automatic = |value| {
        let flags = [("listen-peer-urls", "https://h:1"), ("peer-auto-tls", value)];
        config(&flags).map(|config| config.peer_transport)
    };
    for value in ["1", "t", "T", "TRUE", "true", "True"] {
        assert_eq!(automatic(value), Ok(PeerTransport::TcpTls(PeerTls::SelfSigned)), "{value}");
        assert!(refusal(&[("auto-tls", value)]).contains("--auto-tls is refused"));
    }
    for value in ["0", "f", "F", "FALSE", "false", "False"] {
        assert!(
            automatic(value).expect_err("it needs them").to_string().contains("--peer-auto-tls")
        );
        assert!(config(&[("auto-tls", value)]).is_ok(), "{value}");
    }
    for name in ["peer-auto-tls", "auto-tls"] {
        assert!(refusal(&[(name, "yes")]).contains("must be true or false, not \"yes\""));
    }
}

#[test]
fn what_is_given_twice_is_named() {
    for (setting, value, twice) in [
        ("listen-client-urls", "http://h:1,http://h:2,http://H:1", "http://h:1 is given twice"),
        (
            "advertise-client-urls",
            "http://[::1]:1,http://[0::1]:1",
            "http://[::1]:1 is given twice",
        ),
        ("initial-cluster", "a=http://h:1,a=http://h:2", "the name a is given twice"),
        ("initial-cluster", "a=http://h:1,b=http://h:1", "given twice, to a and to b"),
    ] {
        let text = refusal(&[(setting, value)]);
        assert!(text.contains(twice) && text.contains(setting), "{text}");
    }
    let taken = [("listen-client-urls", "http://h:1"), ("listen-peer-urls", "http://h:1")];
    let text = refusal(&taken);
    assert!(
        text.contains("--listen-peer-urls is where http://h:1 of --listen-client-urls"),
        "{text}"
    );
    let udp = [("listen-client-urls", "http://h:1"), ("listen-peer-urls", "quic://h:1")];
    assert!(config(&udp).is_ok(), "UDP has ports of its own");
}

/// All three called n1.
#[test]
fn a_member_that_listens_at_the_place_of_another_one_has_the_wrong_name() {
    let member =
        |url| config(&[("initial-cluster", CLUSTER), ("name", "a"), ("listen-peer-urls", url)]);
    assert!(member("http://127.0.0.1:1").is_ok() && member("http://0.0.0.0:7").is_ok());
    let text = member("http://127.0.0.1:2").expect_err("it is that of b").to_string();
    assert!(text.contains("is the URL of b") && text.contains("correct --name"), "{text}");
}

#[test]
fn what_has_no_effect_is_said() {
    let given = gather(
        &[("quota-backend-bytes", "1"), ("listen-client-http-urls", "http://h:1")],
        &[("ETCD_ENABLE_V2", "true"), ("ETCD_NO_SUCH_THING", "1")],
    );
    ServerConfig::from_given(&given).expect("it starts all the same");
    let lines = given.without_effect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("ETCD_ENABLE_V2 has no effect"), "{lines:?}");
    assert!(lines[1].starts_with("--listen-client-http-urls has no effect"), "{lines:?}");
    assert!(lines[2].starts_with("--quota-backend-bytes has no effect"), "{lines:?}");
    assert!(lines[3].starts_with("ETCD_NO_SUCH_THING has no effect"), "{lines:?}");
}

#[test]
fn what_cannot_be_honoured_is_refused_unless_it_is_off() {
    assert!(refusal(&[("cert-file", "x.pem")]).contains("--cert-file is refused"));
    assert!(config(&[("client-cert-auth", "false")]).is_ok());
    assert!(refusal(&[("client-cert-auth", "true")]).contains("http://"));
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_naming_where_it_was_given() {
    assert!(refusal(&[("heartbeat-interval", "fast")]).contains("--heartbeat-interval must be"));
    assert!(refusal(&[("storage", "tape")]).contains("redb or memory"));
    let ten = config(&[("max-request-bytes", "10485760")]).expect("users of etcd raise it so far");
    assert_eq!(ten.limits.request_bytes_max, 10 << 20);
    assert!(refusal(&[("max-request-bytes", "999999999")]).contains("between 1024 and"));
    assert!(refusal(&[("election-timeout", "200")]).contains("five times"));
    assert!(
        refusal(&[("snapshot-bytes", "64M")]).contains("--snapshot-bytes must be a whole number")
    );
    assert!(refusal(&[("snapshot-bytes", "0")]).contains("between 1 and"));
    let given = gather(&[], &[("ETCD_SNAPSHOT_COUNT", "-1")]);
    let error = ServerConfig::from_given(&given).expect_err("it is negative").to_string();
    assert!(error.contains("ETCD_SNAPSHOT_COUNT must be"), "{error}");
}

#[test]
fn the_member_must_be_one_of_the_cluster_with_its_urls() {
    let a = [
        ("initial-cluster", CLUSTER),
        ("name", "a"),
        ("listen-peer-urls", "http://0.0.0.0:1"),
        ("initial-advertise-peer-urls", "http://127.0.0.1:1"),
    ];
    let config = config(&a).expect("a is a member");
    assert_eq!(config.cluster.members().len(), 3);
    assert!(refusal(&[("initial-cluster", CLUSTER), ("name", "d")]).contains("no member \"d\""));
    let mut wrong = a;
    wrong[3].1 = "http://127.0.0.1:2";
    assert!(refusal(&wrong).contains("differs"));
}

#[test]
fn the_scheme_of_the_peer_urls_chooses_the_transport() {
    let transport = |url, more: &[(&'static str, &str)]| {
        let mut flags = vec![("listen-peer-urls", url)];
        flags.extend(more);
        config(&flags).map(|config| config.peer_transport)
    };
    assert_eq!(transport("http://h:1", &[]), Ok(PeerTransport::Tcp));
    assert_eq!(transport("quic://h:1", &[]), Ok(PeerTransport::Quic(PeerTls::SelfSigned)));
    assert_eq!(
        transport("https://h:1", &[("peer-auto-tls", "true")]),
        Ok(PeerTransport::TcpTls(PeerTls::SelfSigned)),
    );
    let files = [("peer-cert-file", "c"), ("peer-key-file", "k"), ("peer-trusted-ca-file", "a")];
    let mutual =
        PeerTls::Mutual { certificate: "c".into(), key: "k".into(), authority: "a".into() };
    assert_eq!(transport("quic://h:1", &files), Ok(PeerTransport::Quic(mutual)));
    let refused = |url, more: &[_]| transport(url, more).expect_err("refused").to_string();
    assert!(refused("https://h:1", &[]).contains("--peer-auto-tls"));
    assert!(refused("https://h:1", &files[..2]).contains("all three"));
    assert!(refused("ftp://h:1", &[]).contains("quic://"));
    assert!(refused("quic://h:1", &[("peer-client-cert-auth", "true")]).contains("needs"));
    let mixed = [("initial-cluster", CLUSTER), ("name", "a"), ("listen-peer-urls", "quic://h:1")];
    assert!(refusal(&mixed).contains("different schemes"));
}

#[test]
fn clients_are_served_on_http_only_and_peers_on_one_url() {
    assert!(refusal(&[("listen-client-urls", "https://h:1")]).contains("proxy"));
    assert!(refusal(&[("listen-peer-urls", "http://h:1,http://h:2")]).contains("one URL"));
    assert!(refusal(&[("listen-client-urls", ",")]).contains("no URL"));
}

#[test]
fn who_listens_everywhere_has_to_say_where_clients_reach_it() {
    let listen = ("listen-client-urls", "http://0.0.0.0:2379");
    assert!(refusal(&[listen]).contains("--advertise-client-urls"));
    let config = config(&[listen, ("advertise-client-urls", "http://10.0.0.1:2379")]);
    let expected = [Url::new("http", "10.0.0.1", 2379)];
    assert_eq!(config.expect("it is said").advertise_client_urls, expected);
}
