use std::time::Instant;

use paxos_core::types::{ClusterId, StoreId};

use super::*;
use crate::frame::tests::poll;

const PATIENCE: Duration = Duration::from_secs(20);

async fn started(binds: &[&str]) -> Vec<QuicTransport> {
    let mut nodes = Vec::new();
    for bind in binds {
        nodes.push(QuicTransport::bind(bind, None).await.expect("binds"));
    }
    let peers: Vec<_> = (1..)
        .zip(&nodes)
        .map(|(id, node)| {
            let address = node.local_addr().to_string();
            Peer { id: NodeId(id), address, store: Some(StoreId(100 + id)) }
        })
        .collect();
    for (id, node) in (1..).zip(&nodes) {
        let (store, cluster) = (StoreId(100 + id), ClusterId(7));
        let identity = Identity { cluster, node: NodeId(id), store };
        node.start(identity, peers.clone()).await.expect("starts");
    }
    nodes
}

async fn hears(node: &QuicTransport, from: u64, speaker: &QuicTransport, to: u64) {
    let message = poll(1);
    let hears = async {
        loop {
            speaker.send(&[NodeId(to)], &mut vec![message.clone()]);
            let event = tokio::time::timeout(Duration::from_millis(100), node.recv()).await;
            let expected = Event::Message { from: NodeId(from), message: message.clone() };
            if event.is_ok_and(|event| event == Some(expected)) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, hears).await.expect("they meet");
}

#[tokio::test]
async fn nodes_of_both_families_reach_each_other() {
    let nodes = started(&["127.0.0.1:0", "[::1]:0"]).await;
    hears(&nodes[0], 2, &nodes[1], 1).await;
    hears(&nodes[1], 1, &nodes[0], 2).await;
    for node in nodes {
        node.close().await;
    }
}

/// Who has not said who he is may send a handshake, and no more.
#[tokio::test]
async fn strangers_begin_no_stream_beside_that_of_the_handshake() {
    let [node] = <[_; 1]>::try_from(started(&["127.0.0.1:0"]).await).expect("one");
    let configs = Configs::new(Tls::self_signed().expect("a certificate")).expect("they work");
    let endpoint = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).expect("a port");
    let client = configs.client().await.expect("they work");
    let connecting = endpoint.connect_with(client, node.local_addr(), "127.0.0.1");
    let stranger = connecting.expect("an address").await.expect("anybody may connect");
    let (mut stream, _recv) = stranger.open_bi().await.expect("that of the handshake");
    stream.write_all(b"paxos").await.expect("the beginning of a handshake");
    let moment = Duration::from_millis(300);
    tokio::time::timeout(moment, stranger.open_uni()).await.expect_err("no other stream");
}

/// Whatever their connections are in the middle of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_closed_together_soon_after_the_start_leave_their_ports_free() {
    for milliseconds in (0..40).step_by(5) {
        let nodes = started(&["127.0.0.1:0"; 3]).await;
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        futures::future::join_all(nodes.iter().map(Transport::close)).await;
        let closed = Instant::now();
        for node in &nodes {
            while UdpSocket::bind(node.local_addr()).is_err() {
                let taken = closed.elapsed();
                assert!(
                    taken < Duration::from_millis(100),
                    "{milliseconds} ms: taken for {taken:?}"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}
