//! Certificates: members with those of one authority meet, everybody else is refused.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use paxos_core::{
    port::{Event, Transport, TransportError},
    types::{ClusterId, Identity, NodeId, Peer, StoreId},
};
use paxos_transport::{Tls, conformance};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;

use crate::bound::{self, Any, any};

/// Signs the certificates of a cluster.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = parameters.self_signed(&key).expect("signs").pem();
        Authority { issuer: Issuer::new(parameters, key), pem }
    }

    /// Writes the files of a node, with these names in its certificate: `authority.pem`, `node.pem`
    /// and `node.key`.
    fn write(&self, directory: &Path, hosts: &[&str], uris: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut node = CertificateParams::new(hosts).expect("good names");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("a good name"));
        node.subject_alt_names.extend(uris.iter().map(uri));
        self.sign(directory, node);
    }

    fn sign(&self, directory: &Path, node: CertificateParams) {
        let key = KeyPair::generate().expect("a key");
        let certificate = node.signed_by(&key, &self.issuer).expect("signs").pem();
        let texts = [("authority", &self.pem), ("node", &certificate)];
        for (name, text) in texts {
            fs::write(directory.join(format!("{name}.pem")), text).expect("writes");
        }
        fs::write(directory.join("node.key"), key.serialize_pem()).expect("writes");
    }

    fn files(&self, hosts: &[&str], uris: &[&str]) -> TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        self.write(directory.path(), hosts, uris);
        directory
    }
}

const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];

/// The files of a node whose authority has signed no other.
fn certificates() -> TempDir {
    Authority::new().files(&HOSTS, &[])
}

fn load(directory: &Path) -> Result<Tls, TransportError> {
    let file = |name| directory.join(name);
    Tls::from_pem_files(file("authority.pem"), file("node.pem"), file("node.key"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_keeps_the_guarantees_with_mutual_tls() {
    let directory = certificates();
    let tls = load(directory.path()).expect("good files");
    conformance::run(|address| bound::tcp(address, Some(tls.clone()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_keeps_the_guarantees_with_mutual_tls() {
    let directory = certificates();
    let tls = load(directory.path()).expect("good files");
    conformance::run(|address| bound::quic(address, Some(tls.clone()))).await;
}

/// Starts two nodes as peers of each other and returns the first refusal that each reports.
async fn refusals(nodes: [Any; 2]) -> [String; 2] {
    let addresses = [nodes[0].1.clone(), nodes[1].1.clone()];
    for (index, (transport, _)) in nodes.iter().enumerate() {
        let id = |index| NodeId(index as u64 + 1);
        let (node, other) = (id(index), id(1 - index));
        let identity = Identity { cluster: ClusterId(7), node, store: StoreId(5) };
        let peer = Peer { id: other, address: addresses[1 - index].clone(), store: None };
        transport.start(identity, vec![peer]).await.expect("starts");
    }
    let refusal = async |transport: &dyn Transport| {
        loop {
            match transport.recv().await {
                Some(Event::Refused { reason, .. }) => return reason,
                // The one who is refused may find nothing wrong with the other.
                Some(Event::Met { .. }) => {}
                other => panic!("{other:?} instead of a refusal"),
            }
        }
    };
    let both = async { tokio::join!(refusal(&*nodes[0].0), refusal(&*nodes[1].0)) };
    let (one, two) =
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("both are refused");
    [one, two]
}

async fn tcp(tls: Option<Tls>) -> Any {
    any(bound::tcp(None, tls).await)
}

async fn quic(tls: Option<Tls>) -> Any {
    any(bound::quic(None, tls).await)
}

#[tokio::test]
async fn nodes_of_two_authorities_refuse_each_other() {
    let directories = [certificates(), certificates()];
    let one = || load(directories[0].path()).expect("good files");
    let two = || load(directories[1].path()).expect("good files");
    for reason in refusals([tcp(Some(one())).await, tcp(Some(two())).await]).await {
        assert!(reason.contains("certificates of one authority"), "{reason}");
    }
    for reason in refusals([quic(Some(one())).await, quic(Some(two())).await]).await {
        assert!(reason.contains("certificates of one authority"), "{reason}");
    }
}

#[tokio::test]
async fn a_node_without_certificates_is_refused_by_one_with() {
    let directory = certificates();
    let tls = || load(directory.path()).expect("good files");
    for reason in refusals([quic(Some(tls())).await, quic(None).await]).await {
        assert!(reason.contains("certificates of one authority"), "{reason}");
    }
    for reason in refusals([tcp(Some(tls())).await, tcp(None).await]).await {
        assert!(reason.contains("TLS"), "{reason}");
    }
}

/// Whatever else the authority has signed is no other node.
#[tokio::test]
async fn a_certificate_is_worth_nothing_to_another_node_than_its_own() {
    let authority = Authority::new();
    let own = authority.files(&HOSTS, &["urn:paxos:node:1"]);
    let of_node = authority.files(&HOSTS, &["urn:paxos:node:3"]);
    let of_host = authority.files(&["10.0.0.3"], &[]);
    let tls = |directory: &TempDir| Some(load(directory.path()).expect("good files"));
    for (other, text) in [(&of_node, "is that of urn:paxos:node:3"), (&of_host, "the host of its")]
    {
        for reason in refusals([tcp(tls(&own)).await, tcp(tls(other)).await]).await {
            assert!(reason.contains(text), "{reason}");
        }
        for reason in refusals([quic(tls(&own)).await, quic(tls(other)).await]).await {
            assert!(reason.contains(text), "{reason}");
        }
    }
}

#[tokio::test]
async fn certificates_and_errors_go_by_the_names_of_nodes() {
    let names = || [(NodeId(1), "left".to_owned()), (NodeId(2), "right".to_owned())];
    let authority = Authority::new();
    let bind = async |uri: &str| {
        let directory = authority.files(&HOSTS, &[uri]);
        let tls = load(directory.path()).expect("good files");
        let (transport, address) = bound::tcp(None, Some(tls)).await;
        any((transport.with_names(names()), address))
    };
    let pair = [bind("urn:paxos:name:left").await, bind("urn:paxos:name:left").await];
    for reason in refusals(pair).await {
        let text = "certificate that node right shows is that of urn:paxos:name:left";
        assert!(reason.contains(text), "{reason}");
    }
}

#[tokio::test]
async fn one_that_has_run_out_gets_the_remedy_for_it() {
    let authority = Authority::new();
    let own = authority.files(&HOSTS, &[]);
    let expired = tempfile::tempdir().expect("a directory");
    let mut parameters = CertificateParams::new(HOSTS.map(str::to_owned)).expect("good names");
    parameters.not_after = rcgen::date_time_ymd(2020, 1, 1);
    authority.sign(expired.path(), parameters);
    let tls = |directory: &TempDir| Some(load(directory.path()).expect("good files"));
    for reason in refusals([tcp(tls(&own)).await, tcp(tls(&expired)).await]).await {
        assert!(reason.contains("renew the certificate"), "{reason}");
    }
    for reason in refusals([quic(tls(&own)).await, quic(tls(&expired)).await]).await {
        assert!(reason.contains("renew the certificate"), "{reason}");
    }
}

/// A new authority, and a certificate by it: as good as any other new certificate, and easier to tell
/// from the one before.
#[tokio::test]
async fn files_that_have_changed_are_read_without_a_restart() {
    let (before, after) = (Authority::new(), Authority::new());
    let directory = before.files(&HOSTS, &[]);
    let tls = || Some(load(directory.path()).expect("good files"));
    let running = [tcp(tls()).await, quic(tls()).await];
    after.write(directory.path(), &HOSTS, &[]);
    let renewed = [tcp(tls()).await, quic(tls()).await];
    for ((one, one_address), (two, two_address)) in running.into_iter().zip(renewed) {
        let peer = |id, address| Peer { id: NodeId(id), address, store: None };
        for (node, transport, peer) in
            [(1, &one, peer(2, two_address)), (2, &two, peer(1, one_address))]
        {
            let identity =
                Identity { cluster: ClusterId(7), node: NodeId(node), store: StoreId(node) };
            transport.start(identity, vec![peer]).await.expect("starts");
        }
        let met = async {
            while !matches!(one.recv().await.expect("open"), Event::Met { .. }) {}
            while !matches!(two.recv().await.expect("open"), Event::Met { .. }) {}
        };
        tokio::time::timeout(Duration::from_secs(20), met).await.expect("they meet");
    }
}

/// Made by `openssl x509 -req` without extensions.
const OF_VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBGjCBwQIUXlIYESWiQOIPNUBZNoPO/3t4npkwCgYIKoZIzj0EAwIwDzENMAsG
A1UEAwwEbm9kZTAgFw0yNjExMjcyMDU5MTlaGA8yMTI2MTEwMzIwNTkxOVowDzEN
MAsGA1UEAwwEbm9kZTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABMZC8OLgJFnm
rR53soNky0Hw5UbGUYV6DY9nmRlJo6fk+Ihofrrl7okQAGKH4Ir+Fe2HEg9aCj2t
LCW7zNLe10gwCgYIKoZIzj0EAwIDSAAwRQIhAKsXdx4LM7bGOVTyfKLg5Kz1oxvq
6bRp8IrYfkOq7Tu6AiBHNo7nMb1A2yEx52LqgjCm1HsPH1v2GTj727Gu+tcFPQ==
-----END CERTIFICATE-----
";

#[test]
fn a_certificate_of_version_1_gets_the_remedy_for_it() {
    let directory = certificates();
    let path = directory.path().join("node.pem");
    fs::write(&path, OF_VERSION_1).expect("writes");
    let error = load(directory.path()).expect_err("no names in it").to_string();
    assert!(error.contains(&*path.to_string_lossy()), "{error}");
    assert!(error.contains("make one of version 3") && error.contains("subjectAltName"), "{error}");
}

#[test]
fn files_that_do_not_work_are_named_with_the_remedy() {
    let directory = certificates();
    let path = |name: &str| directory.path().join(name);
    let good = || (path("authority.pem"), path("node.pem"), path("node.key"));
    fs::write(path("nonsense"), "nothing of the kind").expect("writes");
    let other = certificates();
    let load = |(authority, certificate, key): (PathBuf, PathBuf, PathBuf)| {
        Tls::from_pem_files(authority, certificate, key).expect_err("a bad file").to_string()
    };
    for bad in [path("missing"), path("nonsense")] {
        let (authority, certificate, key) = good();
        for files in [
            (bad.clone(), certificate.clone(), key.clone()),
            (authority.clone(), bad.clone(), key),
            (authority, certificate, bad.clone()),
        ] {
            let error = load(files);
            assert!(error.contains(&*bad.to_string_lossy()), "{error}");
            assert!(error.contains("PEM format"), "{error}");
        }
    }
    let (authority, certificate, _) = good();
    let error = load((authority, certificate, other.path().join("node.key")));
    assert!(error.contains("made together"), "{error}");
}
