//! A few nodes on the transport under test, and what they say to each other.

use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use paxos_core::{
    message::{Accept, Heartbeat, Message, Poll, Promise, Propose, Pulled, Record, Watermark},
    port::{Event, Transport},
    types::{
        Ballot, BatchBuilder, ClientId, ClusterId, Identity, NodeId, Peer, RequestId, Slot,
        StoreId, Value,
    },
};

/// How long anything may take that has to happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// How long to wait for an answer before saying it again.
const AGAIN: Duration = Duration::from_millis(100);

/// The cluster that the nodes belong to.
pub(super) const CLUSTER: ClusterId = ClusterId(7);

/// Binds a transport: at a given address, or at a free one.
pub(super) trait Bind<T>: Fn(Option<String>) -> Self::Bound {
    type Bound: Future<Output = (T, String)>;
}

impl<T, F: Fn(Option<String>) -> B, B: Future<Output = (T, String)>> Bind<T> for F {
    type Bound = B;
}

/// A node of the suite.
#[derive(Debug)]
pub(super) struct Node<T> {
    pub(super) transport: T,
    pub(super) identity: Identity,
    pub(super) address: String,
    /// What it has ever sent by [`deliver`]: repeated, it may come at any later time.
    sent: Mutex<Vec<Message>>,
}

impl<T: Transport> Node<T> {
    /// The node on another transport, as after a restart.
    pub(super) fn on(self, transport: T, address: String) -> Node<T> {
        Node { transport, address, ..self }
    }

    fn sent(&self) -> MutexGuard<'_, Vec<Message>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn id(&self) -> NodeId {
        self.identity.node
    }

    /// As the others know it.
    pub(super) fn as_peer(&self) -> Peer {
        Peer { id: self.id(), address: self.address.clone(), store: None }
    }

    pub(super) async fn start(&self, peers: Vec<Peer>) {
        self.transport.start(self.identity, peers).await.expect("a transport starts");
    }

    /// Sends one message to one node.
    pub(super) fn send(&self, to: NodeId, message: Message) {
        self.transport.send(&[to], &mut vec![message]);
    }

    /// The next event.
    pub(super) async fn event(&self) -> Event {
        self.transport.recv().await.expect("no end before close")
    }
}

pub(super) fn identity(node: u64) -> Identity {
    Identity { cluster: CLUSTER, node: NodeId(node), store: StoreId(100 + node) }
}

/// A node that listens and has not been started.
pub(super) async fn bound<T: Transport>(bind: &impl Bind<T>, identity: Identity) -> Node<T> {
    let (transport, address) = bind(None).await;
    node(transport, identity, address)
}

/// A node on `transport`.
pub(super) fn node<T>(transport: T, identity: Identity, address: String) -> Node<T> {
    Node { transport, identity, address, sent: Mutex::default() }
}

/// Nodes 1 to `count`, started, each with all others as peers.
pub(super) async fn cluster<T: Transport>(bind: &impl Bind<T>, count: u64) -> Vec<Node<T>> {
    let mut nodes = Vec::new();
    for node in 1..=count {
        nodes.push(bound(bind, identity(node)).await);
    }
    for node in &nodes {
        node.start(peers_of(node.id(), &nodes)).await;
    }
    nodes
}

/// Every node but `node`, as peers.
pub(super) fn peers_of<T: Transport>(node: NodeId, nodes: &[Node<T>]) -> Vec<Peer> {
    nodes.iter().filter(|other| other.id() != node).map(Node::as_peer).collect()
}

pub(super) async fn close<T: Transport>(nodes: Vec<Node<T>>) {
    for node in nodes {
        node.transport.close().await;
    }
}

/// Fails with `what` if `future` takes too long.
pub(super) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Sends `messages` from one node to another until each has arrived, and checks that nothing else
/// does. A message may be lost, so what is missing is sent again.
pub(super) async fn deliver<T: Transport>(from: &Node<T>, to: &Node<T>, messages: &[Message]) {
    from.sent().extend_from_slice(messages);
    let mut missing: Vec<&Message> = messages.iter().collect();
    let all = async {
        while !missing.is_empty() {
            missing.iter().for_each(|message| from.send(to.id(), (*message).clone()));
            while let Ok(event) = tokio::time::timeout(AGAIN, to.event()).await {
                let Event::Message { from: sender, message } = event else { continue };
                if sender != from.id() {
                    continue;
                }
                assert!(
                    messages.contains(&message)
                        || from.sent().contains(&message)
                        || is_filler(&message),
                    "guarantee 1: {sender} never sent {message:?}"
                );
                missing.retain(|other| **other != message);
                if missing.is_empty() {
                    return;
                }
            }
        }
    };
    within("guarantee 2: messages arrive between connected nodes", all).await;
}

/// Polls numbered from here on say nothing and belong to no check.
const FILLER: u64 = 1 << 40;

fn is_filler(message: &Message) -> bool {
    matches!(message, Message::Poll(poll) if poll.number >= FILLER)
}

/// Keeps both nodes talking until `find` finds what it waits for among the events of `node`. Fails with
/// `what` if that takes too long.
async fn talk_until<T: Transport, R>(
    node: &Node<T>,
    other: &Node<T>,
    what: &str,
    find: impl Fn(Event) -> Option<R>,
) -> R {
    let filler = poll(FILLER);
    let wait = async {
        loop {
            node.send(other.id(), filler.clone());
            other.send(node.id(), filler.clone());
            while let Ok(event) = tokio::time::timeout(AGAIN, node.event()).await {
                if let Some(found) = find(event) {
                    return found;
                }
            }
        }
    };
    within(what, wait).await
}

/// Waits until `node` reports that it, or the other, is refused. Returns the reason.
pub(super) async fn refused<T: Transport>(node: &Node<T>, other: &Node<T>) -> String {
    talk_until(node, other, "guarantee 6: both sides report a refusal", |event| match event {
        Event::Refused { peer, reason } if peer == Some(other.id()) => Some(reason),
        // What is still there of its predecessor's was sent by a peer.
        Event::Message { from, message } if from == other.id() && is_filler(&message) => {
            panic!("guarantee 6: {message:?} of a stranger")
        }
        _ => None,
    })
    .await
}

/// Waits until `node` reports that the other is refused no longer.
pub(super) async fn admitted<T: Transport>(node: &Node<T>, other: &Node<T>) {
    let admitted = Event::Admitted { peer: other.id() };
    let what = "guarantee 6: a refusal ends, and that is reported";
    talk_until(node, other, what, |event| (event == admitted).then_some(())).await;
    assert_eq!(node.transport.refusals(), [], "guarantee 6: nobody is refused any longer");
}

/// A control message.
pub(super) fn poll(number: u64) -> Message {
    Message::Poll(Poll { number, chosen: Slot(number), leave: None })
}

/// Another.
pub(super) fn heartbeat(round: u64) -> Message {
    let chosen = Watermark { slot: Slot(3), hash: u64::MAX };
    Message::Heartbeat(Heartbeat { ballot: Ballot { round: 1, node: NodeId(1) }, round, chosen })
}

/// A value with a command of `bytes`.
pub(super) fn value(bytes: usize) -> Value {
    let mut builder = BatchBuilder::default();
    let id = RequestId { client: ClientId { name: 1, epoch: 1 }, sequence: 1 };
    let command: Vec<u8> = (0..bytes).map(|index| (index % 251) as u8).collect();
    builder.push(id, 1, command);
    Value::Batch(builder.build().expect("one command"))
}

/// A message of the log lane.
pub(super) fn accept(slot: u64, value: Value) -> Message {
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let chosen = Watermark { slot: Slot(slot - 1), hash: 5 };
    Message::Accept(Accept { ballot, slot: Slot(slot), value, chosen })
}

/// Another.
pub(super) fn propose(command: Bytes) -> Message {
    let client = ClientId { name: 1, epoch: 2 };
    Message::Propose(Propose { client, open_from: 1, commands: vec![(1, command)], hops: 0 })
}

/// A message of the bulk lane.
pub(super) fn pulled(number: u64, value: Value) -> Message {
    let values = vec![(Slot(1), Value::Noop), (Slot(2), value)];
    Message::Pulled(Pulled { number, values, chosen: Slot(2), floor: Slot::ZERO })
}

/// Another.
pub(super) fn promise(value: Value) -> Message {
    let ballot = Ballot { round: 4, node: NodeId(2) };
    let record = |slot, value| Record { slot: Slot(slot), ballot, value };
    Message::Promise(Promise {
        ballot,
        from: Slot(1),
        records: vec![record(1, value.clone()), record(2, Value::Noop), record(3, value)],
        next: None,
        chosen: Slot(1),
        floor: Slot::ZERO,
    })
}

/// Makes values that know how many of them are still held by somebody.
#[derive(Debug)]
pub(super) struct Tracked {
    encoded: Bytes,
    alive: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct TrackedBytes {
    encoded: Bytes,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for TrackedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.encoded
    }
}

impl Drop for TrackedBytes {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Tracked {
    pub(super) fn new(bytes: usize) -> Tracked {
        Tracked { encoded: value(bytes).encoded(), alive: Arc::default() }
    }

    pub(super) fn value(&self) -> Value {
        self.alive.fetch_add(1, Ordering::SeqCst);
        let (encoded, alive) = (self.encoded.clone(), self.alive.clone());
        let bytes = Bytes::from_owner(TrackedBytes { encoded, alive });
        Value::decode(bytes).expect("an encoded value")
    }

    /// How many there are.
    pub(super) fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }
}
