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
use paxos_transport::{QuicTransport, TcpTransport, Tls, conformance};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

/// A directory with the files of a node: `authority.pem`, `node.pem` and `node.key`.
fn certificates() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority_certificate = authority.self_signed(&authority_key).expect("signs");
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().expect("a key");
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let node = CertificateParams::new(names).expect("good names");
    let certificate = node.signed_by(&key, &issuer).expect("signs");
    let write = |name: &str, text: String| {
        fs::write(directory.path().join(name), text).expect("writes");
    };
    write("authority.pem", authority_certificate.pem());
    write("node.pem", certificate.pem());
    write("node.key", key.serialize_pem());
    directory
}

fn load(directory: &Path) -> Result<Tls, TransportError> {
    let file = |name| directory.join(name);
    Tls::from_pem_files(file("authority.pem"), file("node.pem"), file("node.key"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_keeps_the_guarantees_with_mutual_tls() {
    let directory = certificates();
    let tls = &load(directory.path()).expect("good files");
    conformance::run(|address: Option<String>| async move {
        let address = address.as_deref().unwrap_or("127.0.0.1:0");
        let transport = TcpTransport::bind(address, tls.clone()).await.expect("a free port");
        let address = transport.local_addr().to_string();
        (transport, address)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_keeps_the_guarantees_with_mutual_tls() {
    let directory = certificates();
    let tls = &load(directory.path()).expect("good files");
    conformance::run(|address: Option<String>| async move {
        let address = address.as_deref().unwrap_or("127.0.0.1:0");
        let transport = QuicTransport::bind(address, tls.clone()).await.expect("a free port");
        let address = transport.local_addr().to_string();
        (transport, address)
    })
    .await;
}

/// Starts two nodes as peers of each other and returns the first refusal that each reports.
async fn refusals(nodes: [(Box<dyn Transport>, String); 2]) -> [String; 2] {
    let addresses = [nodes[0].1.clone(), nodes[1].1.clone()];
    for (index, (transport, _)) in nodes.iter().enumerate() {
        let id = |index| NodeId(index as u64 + 1);
        let (node, other) = (id(index), id(1 - index));
        let identity = Identity { cluster: ClusterId(7), node, store: StoreId(5) };
        let peer = Peer { id: other, address: addresses[1 - index].clone(), store: None };
        transport.start(identity, vec![peer]).await.expect("starts");
    }
    let refusal = async |transport: &dyn Transport| match transport.recv().await {
        Some(Event::Refused { reason, .. }) => reason,
        other => panic!("{other:?} instead of a refusal"),
    };
    let both = async { tokio::join!(refusal(&*nodes[0].0), refusal(&*nodes[1].0)) };
    let (one, two) =
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("both are refused");
    [one, two]
}

async fn tcp(tls: Option<Tls>) -> (Box<dyn Transport>, String) {
    let transport = TcpTransport::bind("127.0.0.1:0", tls).await.expect("a free port");
    let address = transport.local_addr().to_string();
    (Box::new(transport), address)
}

async fn quic(tls: Option<Tls>) -> (Box<dyn Transport>, String) {
    let transport = QuicTransport::bind("127.0.0.1:0", tls).await.expect("a free port");
    let address = transport.local_addr().to_string();
    (Box::new(transport), address)
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
