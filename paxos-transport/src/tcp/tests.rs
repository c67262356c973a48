//! What comes over a socket that no node of ours would send.

use tokio::task::JoinSet;

use paxos_core::{
    limits,
    types::{ClusterId, StoreId},
};

use super::*;
use crate::{
    frame::{
        PREFIX_BYTES, framed, framed_for,
        tests::{accept, batch, body_of, poll},
    },
    handshake::{self, MAGIC, VERSION},
    roster::Roster,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn identity(node: u64) -> Identity {
    Identity { cluster: ClusterId(7), node: NodeId(node), store: StoreId(100 + node) }
}

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Nodes 1 and 2, which talk to each other, with an address for a third that is one of us.
struct Cluster {
    nodes: [TcpTransport; 2],
    third: TcpListener,
}

impl Cluster {
    async fn start(settings: Settings) -> Cluster {
        let bind = || TcpTransport::bind_with("127.0.0.1:0", None, settings);
        let nodes = [bind().await.expect("binds"), bind().await.expect("binds")];
        let third = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let addresses =
            [nodes[0].local_addr(), nodes[1].local_addr(), third.local_addr().expect("bound")];
        let peers: Vec<_> = (1..)
            .zip(addresses)
            .map(|(id, address)| Peer {
                id: NodeId(id),
                address: address.to_string(),
                store: Some(StoreId(100 + id)),
            })
            .collect();
        for (id, node) in (1..).zip(&nodes) {
            node.start(identity(id), peers.clone()).await.expect("starts");
        }
        let cluster = Cluster { nodes, third };
        cluster.goes_on(1).await;
        cluster
    }

    /// A connection to node 1 without a word said.
    async fn stranger(&self) -> TcpStream {
        TcpStream::connect(self.nodes[0].local_addr()).await.expect("it listens")
    }

    /// A connection to node 1 that node 3 has made.
    async fn member(&self) -> TcpStream {
        let mut stream = self.stranger().await;
        let peer = Peer {
            id: NodeId(1),
            address: self.nodes[0].local_addr().to_string(),
            store: Some(StoreId(101)),
        };
        let roster = Roster::new(identity(3), Default::default(), &[peer], Default::default());
        let met = handshake::dial(&mut stream, &roster, (NodeId(1), Lane::Log), None);
        within("the handshake", met).await.expect("welcome");
        stream
    }

    /// Nodes 1 and 2 still talk.
    async fn goes_on(&self, number: u64) {
        let arrives = async {
            loop {
                self.nodes[1].send(&[NodeId(1)], &mut vec![poll(number)]);
                let event = self.nodes[0].recv();
                let event = tokio::time::timeout(Duration::from_millis(100), event).await;
                let expected = Event::Message { from: NodeId(2), message: poll(number) };
                if event.is_ok_and(|event| event == Some(expected)) {
                    return;
                }
            }
        };
        within("a message of node 2 to node 1", arrives).await;
    }

    /// The next refusal that node 1 reports.
    async fn refusal(&self) -> (Option<NodeId>, String) {
        let refused = async {
            loop {
                let event = self.nodes[0].recv().await.expect("open");
                if let Event::Refused { peer, reason } = event {
                    return (peer, reason);
                }
            }
        };
        within("a refusal", refused).await
    }
}

/// Waits until the other side hangs up.
async fn hung_up(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // With a reset, if something was not read.
    let _ = within("the connection is closed", stream.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn a_bad_frame_ends_its_connection_and_nothing_else() {
    let cluster = Cluster::start(Settings::default()).await;
    let too_large = u32::try_from(limits::MESSAGE_BYTES_MAX + 1).expect("fits").to_le_bytes();
    let mut damaged = framed(b"a message");
    *damaged.last_mut().expect("not empty") ^= 1;
    let no_message = framed(b"well framed, and no message");
    let of_another = framed_for(1, &body_of(&poll(1)));
    let bad: [&[u8]; 5] = [&too_large, &damaged, &no_message, &of_another, &[0xff; 1000]];
    for (number, bytes) in (2..).zip(bad) {
        let mut member = cluster.member().await;
        member.write_all(bytes).await.expect("it is connected");
        hung_up(&mut member).await;
        cluster.goes_on(number).await;
    }
}

#[tokio::test]
async fn a_frame_cut_short_ends_its_connection_and_nothing_else() {
    let cluster = Cluster::start(Settings::default()).await;
    let frame = framed(b"a message");
    for end in [1, PREFIX_BYTES, frame.len() - 1] {
        let mut member = cluster.member().await;
        member.write_all(&frame[..end]).await.expect("it is connected");
        member.shutdown().await.expect("it is connected");
        hung_up(&mut member).await;
    }
    cluster.goes_on(2).await;
}

#[tokio::test]
async fn garbage_instead_of_a_handshake_is_refused() {
    let cluster = Cluster::start(Settings::default()).await;
    let mut stranger = cluster.stranger().await;
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it is connected");
    hung_up(&mut stranger).await;
    let (peer, reason) = cluster.refusal().await;
    assert_eq!(peer, None);
    assert!(reason.contains("does not speak this protocol"), "{reason}");
    // The magic, and nonsense behind it.
    let hello = framed(&[0xff; 50]);
    for bytes in [&hello[..], &[0xff; 300], &[]] {
        let mut stranger = cluster.stranger().await;
        let preamble = [&MAGIC[..], &VERSION.to_le_bytes(), bytes].concat();
        stranger.write_all(&preamble).await.expect("it is connected");
        stranger.shutdown().await.expect("it is connected");
        hung_up(&mut stranger).await;
    }
    cluster.goes_on(2).await;
}

#[tokio::test]
async fn another_version_is_told_so() {
    let cluster = Cluster::start(Settings::default()).await;
    let mut newer = cluster.stranger().await;
    let words = [&MAGIC[..], &7u16.to_le_bytes(), b"whatever version 7 says next"].concat();
    newer.write_all(&words).await.expect("it is connected");
    newer.shutdown().await.expect("it is connected");
    let mut answer = Vec::new();
    within("an answer", newer.read_to_end(&mut answer)).await.expect("a clean end");
    assert_eq!(answer[..MAGIC.len()], MAGIC);
    assert_eq!(answer[MAGIC.len()..][..2], VERSION.to_le_bytes());
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("run the same version"), "{text}");
    let (peer, reason) = cluster.refusal().await;
    assert_eq!(peer, None);
    assert!(reason.contains("version 7 meets version 3"), "{reason}");
}

/// Node 1 dials what it takes for node 3, and finds another version there.
#[tokio::test]
async fn another_version_is_recognised_when_dialled() {
    let cluster = Cluster::start(Settings::default()).await;
    let answer = [&MAGIC[..], &9u16.to_le_bytes(), b"whatever version 9 says next"].concat();
    let third = async {
        loop {
            let (mut stream, _) = cluster.third.accept().await.expect("a connection");
            let mut hello = [0; 8];
            stream.read_exact(&mut hello).await.expect("a preamble");
            stream.write_all(&answer).await.expect("it is connected");
        }
    };
    let (peer, reason) = tokio::select! {
        refusal = cluster.refusal() => refusal,
        () = third => unreachable!("it accepts for ever"),
    };
    assert_eq!(peer, Some(NodeId(3)));
    assert!(reason.contains("version 9 meets version 3"), "{reason}");
}

#[tokio::test]
async fn silent_strangers_do_not_keep_members_out() {
    let settings = Settings {
        handshake_deadline: Duration::from_secs(3600),
        handshakes_max: 8,
        handshake_grace: Duration::from_millis(100),
    };
    let cluster = Cluster::start(settings).await;
    let address = cluster.nodes[0].local_addr();
    let mut silent = JoinSet::new();
    for _ in 0..40 {
        // Each comes back as soon as it is sent away.
        silent.spawn(async move {
            loop {
                let mut stream = TcpStream::connect(address).await.expect("it listens");
                hung_up(&mut stream).await;
            }
        });
    }
    // All of them stand in line already.
    tokio::time::sleep(settings.handshake_grace).await;
    cluster.member().await;
    cluster.goes_on(2).await;
    assert_eq!(silent.len(), 40);
    assert!(silent.try_join_next().is_none(), "all of them are still at it");
}

/// Whoever says first that he is a peer, from wherever.
#[tokio::test]
async fn a_stranger_who_comes_first_does_not_take_a_members_place() {
    let bind = || TcpTransport::bind("127.0.0.1:0", None);
    let nodes = [bind().await.expect("binds"), bind().await.expect("binds")];
    let peers: Vec<_> = (1..)
        .zip(&nodes)
        .map(|(id, node)| Peer {
            id: NodeId(id),
            address: node.local_addr().to_string(),
            store: None,
        })
        .collect();
    nodes[0].start(identity(1), peers.clone()).await.expect("starts");
    let mut stream = TcpStream::connect(nodes[0].local_addr()).await.expect("it listens");
    let impostor = Identity { store: StoreId(999), ..identity(2) };
    let roster = Roster::new(impostor, Default::default(), &peers[..1], Default::default());
    let dialled = handshake::dial(&mut stream, &roster, (NodeId(1), Lane::Control), None);
    within("the handshake", dialled).await.expect("nothing speaks against it");
    stream.write_all_buf(&mut batch(&[poll(666)])).await.expect("it is connected");
    tokio::time::sleep(Duration::from_millis(100)).await;
    nodes[1].start(identity(2), peers).await.expect("starts");
    let met = within("an event", nodes[0].recv()).await;
    assert_eq!(met, Some(Event::Met { peer: NodeId(2), store: StoreId(102) }));
    hung_up(&mut stream).await;
    let arrives = async {
        loop {
            nodes[1].send(&[NodeId(1)], &mut vec![poll(1)]);
            let event = tokio::time::timeout(Duration::from_millis(100), nodes[0].recv()).await;
            let Ok(Some(Event::Message { message, .. })) = event else { continue };
            assert_eq!(message, poll(1), "the impostor's is not heard");
            return;
        }
    };
    within("a message of the member", arrives).await;
}

#[tokio::test]
async fn who_cannot_be_found_at_his_address_is_told_so_in_the_log() {
    let settings =
        Settings { handshake_deadline: Duration::from_millis(300), ..Settings::default() };
    let node = TcpTransport::bind_with("127.0.0.1:0", None, settings).await.expect("binds");
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("binds").local_addr();
    let address = nobody.expect("bound").to_string();
    let peer = Peer { id: NodeId(2), address, store: None };
    node.start(identity(1), vec![peer]).await.expect("starts");
    let address = node.local_addr().to_string();
    let roster = [Peer { id: NodeId(1), address: address.clone(), store: None }];
    let roster = Roster::new(identity(2), Default::default(), &roster, Default::default());
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let dialled = handshake::dial(&mut stream, &roster, (NodeId(1), Lane::Control), None);
    within("the handshake", dialled).await.expect("nothing speaks against it");
    let Some(Event::Refused { peer, reason }) = within("an event", node.recv()).await else {
        panic!("no refusal");
    };
    assert_eq!(peer, Some(NodeId(2)));
    assert!(reason.contains("node 2 is not found at its address"), "{reason}");
}

#[tokio::test]
async fn a_newer_connection_of_a_peer_replaces_the_older() {
    let cluster = Cluster::start(Settings::default()).await;
    let mut older = cluster.member().await;
    let mut newer = cluster.member().await;
    hung_up(&mut older).await;
    let mut batch = batch(&[poll(77)]);
    newer.write_all_buf(&mut batch).await.expect("it is connected");
    let expected = Event::Message { from: NodeId(3), message: poll(77) };
    let arrives = async { while cluster.nodes[0].recv().await != Some(expected.clone()) {} };
    within("the message of the newer connection", arrives).await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_dropped_and_the_connection_stays() {
    let cluster = Cluster::start(Settings::default()).await;
    cluster.nodes[1].send(&[NodeId(1)], &mut vec![accept(limits::MESSAGE_BYTES_MAX)]);
    cluster.nodes[1].send(&[NodeId(1)], &mut vec![accept(10)]);
    let arrives = async {
        loop {
            match cluster.nodes[0].recv().await.expect("open") {
                Event::Message { message, .. } if message == accept(10) => return,
                Event::Message { message: Message::Accept(_), .. } => panic!("over the limit"),
                _ => {}
            }
        }
    };
    within("the small message", arrives).await;
}

#[tokio::test]
async fn a_slow_receiver_slows_the_sender_down() {
    let cluster = Cluster::start(Settings::default()).await;
    let mut member = cluster.member().await;
    let mut sent = 0;
    let stall = Duration::from_millis(500);
    loop {
        let mut batch = batch(&[accept(1 << 20)]);
        match tokio::time::timeout(stall, member.write_all_buf(&mut batch)).await {
            Ok(written) => written.expect("it is connected"),
            Err(_) => break,
        }
        sent += 1;
        assert!(sent < 200, "{sent} MiB went out and nobody takes them in");
    }
    // The others have room of their own.
    cluster.goes_on(2).await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_an_error_with_the_address() {
    let first = TcpTransport::bind("127.0.0.1:0", None).await.expect("binds");
    let address = first.local_addr().to_string();
    let error = TcpTransport::bind(&address, None).await.expect_err("taken").to_string();
    assert!(error.contains(&address), "{error}");
}

#[tokio::test]
async fn a_dropped_transport_gives_its_port_back_at_once() {
    let Cluster { nodes: [first, _second], third: _third } =
        Cluster::start(Settings::default()).await;
    let address = first.local_addr().to_string();
    drop(first);
    let again = async {
        while TcpTransport::bind(&address, None).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let at_once = crate::outgoing::FLUSH_MAX / 2;
    tokio::time::timeout(at_once, again).await.expect("the port is free");
}
