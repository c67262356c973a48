//! Three real processes, real sockets, real disks: what clients and operators see while servers
//! crash, freeze and come back.

mod common;
#[path = "end_to_end/connections.rs"]
mod connections;
#[path = "end_to_end/leadership.rs"]
mod leadership;
#[path = "end_to_end/members.rs"]
mod members;
#[cfg(target_os = "linux")]
#[path = "end_to_end/memory.rs"]
mod memory;
#[path = "end_to_end/snapshots.rs"]
mod snapshots;

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{Cluster, client, etcdctl, workload::Workload};
use futures::{StreamExt, stream};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// How long service may be away after the leader has crashed, with default timeouts.
const OUTAGE_MAX: Duration = Duration::from_secs(2);

/// How long a server that crashed may take, from its restart on, until the cluster can do without
/// another one.
const REJOIN_MAX: Duration = Duration::from_secs(3);

/// How long a frozen leader stays frozen: long enough for another one.
const FREEZE: Duration = Duration::from_secs(5);

/// Writes to wait for between two failures.
const SOME: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn crashes_and_freezes_lose_nothing_over_tcp() {
    crashes_and_freezes_lose_nothing("http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_and_freezes_lose_nothing_over_quic() {
    crashes_and_freezes_lose_nothing("quic").await;
}

async fn crashes_and_freezes_lose_nothing(scheme: &'static str) {
    let mut cluster = Cluster::start(scheme).await;
    let workload = Workload::start(&cluster.endpoints());
    workload.progress(SOME).await;

    // The leader crashes: service is back soon, by another one.
    let leader = cluster.leader().await;
    let crash = Instant::now();
    cluster.kill(leader);
    let outage = workload.outage(crash).await;
    println!("{scheme}: service was back {outage:?} after the leader had crashed");
    assert!(outage <= OUTAGE_MAX, "service was away for {outage:?}");
    workload.progress(SOME).await;
    cluster.restart(leader);
    let restart = Instant::now();
    cluster.settled().await;
    let rejoined = restart.elapsed();
    println!("{scheme}: the one that crashed was back in the cluster after {rejoined:?}");
    assert!(rejoined <= REJOIN_MAX, "it was away for {rejoined:?}");

    // A follower crashes.
    let follower = (cluster.leader().await + 1) % 3;
    let crash = Instant::now();
    cluster.kill(follower);
    let outage = workload.outage(crash).await;
    println!("{scheme}: service was back {outage:?} after a follower had crashed");
    assert!(outage <= OUTAGE_MAX, "service was away for {outage:?}");
    workload.progress(SOME).await;
    cluster.restart(follower);
    cluster.settled().await;

    // All crash.
    for index in 0..3 {
        cluster.kill(index);
    }
    for index in 0..3 {
        cluster.restart(index);
    }
    workload.progress(SOME).await;
    cluster.settled().await;

    // The leader freezes, and wakes up in a cluster that has another one.
    let leader = cluster.leader().await;
    cluster.pause(leader);
    let frozen = Instant::now();
    let outage = workload.outage(frozen).await;
    println!("{scheme}: service was back {outage:?} after the leader had frozen");
    workload.progress(SOME).await;
    let reads = workload.read_from_frozen(&cluster.servers[leader].endpoint());
    tokio::time::sleep(FREEZE.saturating_sub(frozen.elapsed())).await;
    cluster.unpause(leader);
    for read in reads {
        read.await.expect("the server answers when it has woken up");
    }
    workload.progress(SOME).await;

    cluster.settled().await;
    workload.finish(&cluster.endpoints()).await;
    for index in 0..3 {
        assert!(cluster.terminate(index), "a server did not end cleanly");
    }
}

/// Who has lost what it promised must not vote again under its old name.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_its_data_is_refused_and_the_others_go_on() {
    let mut cluster = Cluster::start("http").await;
    let follower = (cluster.leader().await + 1) % 3;
    cluster.kill(follower);
    cluster.wipe(follower);
    cluster.restart(follower);
    let lost = format!("node {} has lost its data directory", cluster.servers[follower].name);
    cluster.logged(follower, &lost).await;
    cluster.logged((follower + 1) % 3, &lost).await;
    cluster.logged((follower + 1) % 3, "replace it as a new member").await;
    let others = [(follower + 1) % 3, (follower + 2) % 3];
    let endpoints = others.map(|index| cluster.servers[index].endpoint());
    let workload = Workload::start(&endpoints);
    workload.progress(SOME).await;
    workload.finish(&endpoints).await;
}

/// Many times what may wait at once, while nothing can be chosen.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_writes_is_refused_and_memory_stays_bounded() {
    const CONNECTIONS: usize = 8;
    const WRITES: usize = 8000;
    const AT_ONCE: usize = 1200;
    const VALUE_BYTES: usize = 128 << 10;
    /// Half of what is thrown at it.
    const MEMORY_MAX: u64 = 500 << 20;

    let cluster = Cluster::start("http").await;
    let server = cluster.leader().await;
    let endpoint = cluster.servers[server].endpoint();
    let others = [(server + 1) % 3, (server + 2) % 3];
    for index in others {
        cluster.pause(index);
    }
    let value = Arc::new("x".repeat(VALUE_BYTES));
    let channels: Vec<_> = (0..CONNECTIONS).map(|_| client::connect(&endpoint)).collect();
    let writes = (0..WRITES).map(|number| {
        let (channel, value) = (channels[number % CONNECTIONS].clone(), Arc::clone(&value));
        async move { client::put(&channel, &format!("w{number}"), &value).await }
    });
    let results: Vec<_> = stream::iter(writes).buffer_unordered(AT_ONCE).collect().await;
    let refused = results.iter().filter(|result| match result {
        Err(client::Failed(reason)) => reason.contains("too many requests"),
        Ok(_) => false,
    });
    let refused = refused.count();
    let peak = cluster.servers[server].memory_peak();
    println!(
        "{refused} of {WRITES} writes were refused, the peak of memory was {} MiB",
        peak >> 20
    );
    assert!(refused > 0, "everything was taken");
    assert!(peak < MEMORY_MAX, "{} MiB", peak >> 20);

    for index in others {
        cluster.unpause(index);
    }
    cluster.settled().await;
    serves(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_meet_over_tls_without_certificates() {
    let flags = vec!["--peer-auto-tls".to_owned()];
    serves(&Cluster::start_with("https", flags).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_meet_with_certificates_over_tcp_and_quic() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let flags = certificates(directory.path());
    serves(&Cluster::start_with("https", flags.clone()).await).await;
    serves(&Cluster::start_with("quic", flags).await).await;
}

async fn serves(cluster: &Cluster) {
    let workload = Workload::start(&cluster.endpoints());
    workload.progress(SOME).await;
    workload.finish(&cluster.endpoints()).await;
}

/// Makes an authority and a certificate for 127.0.0.1, and the flags that name them.
fn certificates(directory: &Path) -> Vec<String> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority_pem = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let names = ["127.0.0.1".to_owned()];
    let member = CertificateParams::new(names).expect("an address is a name");
    let member_pem = member.signed_by(&key, &issuer).expect("a certificate").pem();
    let files = [
        ("--peer-trusted-ca-file", "authority.pem", authority_pem),
        ("--peer-cert-file", "member.pem", member_pem),
        ("--peer-key-file", "member.key", key.serialize_pem()),
    ];
    let flags = files.map(|(flag, name, pem)| {
        let file = directory.join(name);
        fs::write(&file, pem).expect("it can be written");
        format!("{flag}={}", file.display())
    });
    flags.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcdctl: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn etcdctl_works_over_tcp() {
    let cluster = Cluster::start("http").await;
    etcdctl::exercise(&cluster.endpoints());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcdctl: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn etcdctl_works_over_quic() {
    let cluster = Cluster::start("quic").await;
    etcdctl::exercise(&cluster.endpoints());
}

/// The tests of `cli` ask this server the same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcd: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn a_real_etcd_answers_probes() {
    let etcd = etcdctl::RealEtcd::start().await;
    common::probe::exercise(etcd.client_port);
}

/// A command line for etcd starts this server, or is refused with a reason.
#[test]
#[ignore = "needs etcd: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
fn every_flag_of_a_real_etcd_is_known() {
    let help = etcdctl::etcd_help();
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let names: Vec<_> = flags.filter_map(|flag| flag.split([' ', '=']).next()).collect();
    assert!(names.len() > 80, "only {names:?}");
    let unknown: Vec<_> =
        names.iter().filter(|name| paxos_kv::server::config::find(name).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Shows that what is expected of this server is what etcd does.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs etcdctl and etcd: `cargo test -p paxos-kv --test end_to_end -- --ignored`"]
async fn etcdctl_works_the_same_with_a_real_etcd() {
    let etcd = etcdctl::RealEtcd::start().await;
    etcdctl::exercise(&[etcd.endpoint()]);
}
