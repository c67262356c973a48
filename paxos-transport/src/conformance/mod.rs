//! Checks the guarantees of [`Transport`] on any implementation of it, yours too.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use paxos_transport::{MemoryNetwork, conformance};
//!
//! let network = &MemoryNetwork::new(1);
//! let number = &std::cell::Cell::new(0);
//! conformance::run(move |address: Option<String>| async move {
//!     number.set(number.get() + 1);
//!     let address = address.unwrap_or_else(|| format!("address-{}", number.get()));
//!     (network.bind(&*address), address)
//! })
//! .await;
//! # });
//! ```
//!
//! The suite is given a way to bind a transport: at an address that was bound before and has been
//! closed, or at a free one. It panics at the first guarantee that does not hold, and names it. It
//! expects a network without faults of its own. Guarantee 7, bad bytes, depends on what the bytes
//! are, and is for a transport's own tests.

mod calls;
mod harness;
mod losses;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use paxos_core::{
    message::{Lane, Message},
    port::{Event, Transport, TransportError},
    types::{ClusterId, Identity, NodeId, Peer, StoreId},
};

use harness::{
    Bind, Node, PATIENCE, Tracked, accept, admitted, bound, close, cluster, deliver, heartbeat,
    identity, node, peers_of, poll, promise, propose, pulled, refused, value, within,
};

/// What may wait for one peer in one lane, in bytes, at most.
pub const WAITING_BYTES_MAX: usize = 128 << 20;

const MEBIBYTE: usize = 1 << 20;

pub use losses::notices_losses;

/// Runs every check, but that losses are noticed, which not every transport can: [`notices_losses`].
///
/// `bind` makes a transport that listens at the address given, or at a free one, and says where.
/// The futures are all polled by the caller's task.
///
/// # Panics
///
/// If a guarantee does not hold.
pub async fn run<T, F>(bind: impl Fn(Option<String>) -> F)
where
    T: Transport,
    F: Future<Output = (T, String)>,
{
    delivers_whole_and_unchanged(&bind).await;
    calls::sends_to_several_in_order(&bind).await;
    calls::takes_what_has_arrived_up_to_the_limit(&bind).await;
    calls::wakes_whoever_waits(&bind).await;
    calls::says_nothing_more_after_close(&bind).await;
    meets_each_peer_once(&bind).await;
    drops_what_is_for_nobody(&bind).await;
    never_blocks_for_an_absent_peer(&bind).await;
    control_overtakes_bulk(&bind).await;
    refuses_another_cluster(&bind).await;
    refuses_a_wiped_node(&bind).await;
    recovers_when_a_peer_returns(&bind).await;
    follows_the_list_of_peers(&bind).await;
    ends_at_close(&bind).await;
    loses_nothing_to_cancellation(&bind).await;
}

/// Guarantees 1 and 2: of every lane, small and large, few and many.
async fn delivers_whole_and_unchanged<T: Transport>(bind: &impl Bind<T>) {
    let nodes = cluster(bind, 3).await;
    let large = value(MEBIBYTE);
    let messages = [
        poll(1),
        heartbeat(2),
        accept(1, value(0)),
        accept(2, large.clone()),
        propose(Bytes::from(vec![9; 100_000])),
        promise(value(5_000)),
        pulled(3, large),
    ];
    for from in &nodes {
        for to in nodes.iter().filter(|to| to.id() != from.id()) {
            deliver(from, to, &messages).await;
        }
    }
    let many: Vec<_> = (0..1_000)
        .flat_map(|number| [poll(number), accept(number + 1, value(number as usize % 50))])
        .collect();
    deliver(&nodes[0], &nodes[1], &many).await;
    close(nodes).await;
}

/// A peer's data directory is reported once, and before its first message.
async fn meets_each_peer_once<T: Transport>(bind: &impl Bind<T>) {
    let nodes = cluster(bind, 2).await;
    let mut met = 0;
    let mut last = false;
    let all = async {
        let mut number = 0;
        while !last {
            nodes[1].send(NodeId(1), poll(number));
            number += 1;
            let wait = Duration::from_millis(100);
            while let Ok(event) = tokio::time::timeout(wait, nodes[0].event()).await {
                match event {
                    Event::Met { peer, store } => {
                        assert_eq!((peer, store), (NodeId(2), identity(2).store), "who was met");
                        met += 1;
                    }
                    Event::Message { message, .. } => {
                        assert_eq!(met, 1, "a message before its sender was met");
                        last = last || message == poll(2);
                    }
                    Event::Refused { reason, .. } => panic!("guarantee 6: refused: {reason}"),
                    Event::Admitted { peer } => panic!("{peer} was never refused"),
                    Event::Lost { peer } => panic!("guarantee 11: {peer} is lost, and is there"),
                }
            }
        }
    };
    within("guarantee 2: messages arrive between connected nodes", all).await;
    assert_eq!(met, 1, "a peer is met once");
    close(nodes).await;
}

/// Guarantee 3: nobody's message hurts nobody.
async fn drops_what_is_for_nobody<T: Transport>(bind: &impl Bind<T>) {
    let nodes = cluster(bind, 2).await;
    for nobody in [0, 1, 99] {
        nodes[0].send(NodeId(nobody), poll(5));
    }
    deliver(&nodes[0], &nodes[1], &[poll(6)]).await;
    close(nodes).await;
}

/// Guarantees 3 and 4.
async fn never_blocks_for_an_absent_peer<T: Transport>(bind: &impl Bind<T>) {
    let absent = bound(bind, identity(2)).await;
    let (absent_as_peer, absent_address) = (absent.as_peer(), absent.address.clone());
    absent.transport.close().await;
    drop(absent);
    let nodes = [bound(bind, identity(1)).await, bound(bind, identity(3)).await];
    for (this, other) in [(0, 1), (1, 0)] {
        nodes[this].start(vec![absent_as_peer.clone(), nodes[other].as_peer()]).await;
    }
    let tracked = Tracked::new(MEBIBYTE);
    for (lane, count) in [(Lane::Log, 512), (Lane::Bulk, 512)] {
        let before = tracked.alive();
        for number in 1..=count {
            let message = match lane {
                Lane::Log => accept(number, tracked.value()),
                _ => pulled(number, tracked.value()),
            };
            nodes[0].send(NodeId(2), message);
        }
        // What waited in the lane before may have been given up meanwhile.
        let waiting = tracked.alive().saturating_sub(before) * MEBIBYTE;
        assert!(
            waiting <= WAITING_BYTES_MAX,
            "guarantee 4: {waiting} bytes wait for an absent peer in the {lane:?} lane"
        );
    }
    // The others notice nothing.
    deliver(&nodes[0], &nodes[1], &[poll(7)]).await;
    // And the absent one is reached once it is there.
    let (transport, address) = bind(Some(absent_address)).await;
    let returned = node(transport, identity(2), address);
    returned.start(nodes.iter().map(Node::as_peer).collect()).await;
    let wait = async {
        let mut number = 1_000;
        loop {
            number += 1;
            nodes[0].send(NodeId(2), poll(number));
            let event = tokio::time::timeout(Duration::from_millis(100), returned.event()).await;
            if let Ok(Event::Message { from: NodeId(1), .. }) = event {
                return;
            }
        }
    };
    within("guarantee 8: a peer that starts later is connected to", wait).await;
    returned.transport.close().await;
    close(nodes.into()).await;
}

/// Guarantee 5. On a busy machine a heartbeat may come late for want of a processor; a transport
/// that makes it wait for bulk fails every attempt.
async fn control_overtakes_bulk<T: Transport>(bind: &impl Bind<T>) {
    const ATTEMPTS: u64 = 10;
    let nodes = cluster(bind, 2).await;
    deliver(&nodes[0], &nodes[1], &[poll(1), accept(1, value(1)), pulled(1, value(1))]).await;
    let mut waited_behind = Vec::new();
    for attempt in 1..=ATTEMPTS {
        let (before, after) = overtaking(&nodes, attempt).await;
        if before <= after {
            close(nodes).await;
            return;
        }
        waited_behind.push(before);
    }
    panic!("guarantee 5: heartbeats waited behind {waited_behind:?} bulk messages of 24 MiB");
}

/// How many bulk messages came before, and after, a heartbeat that was sent after all of them.
async fn overtaking<T: Transport>(nodes: &[Node<T>], attempt: u64) -> (usize, usize) {
    const BULK: usize = 24;
    let large = value(MEBIBYTE);
    for _ in 0..BULK {
        nodes[0].send(NodeId(2), pulled(1 + attempt, large.clone()));
    }
    nodes[0].send(NodeId(2), heartbeat(attempt));
    let (mut before, mut after, mut overtaken) = (0, 0, false);
    let mut patience = PATIENCE;
    while before + after < BULK || !overtaken {
        let Ok(event) = tokio::time::timeout(patience, nodes[1].event()).await else { break };
        match event {
            Event::Message { message, .. } if message == heartbeat(attempt) => {
                overtaken = true;
                // What is left may have been dropped.
                patience = Duration::from_secs(1);
            }
            Event::Message { .. } if overtaken => after += 1,
            Event::Message { .. } => before += 1,
            _ => {}
        }
    }
    assert!(overtaken, "guarantee 2: a heartbeat never arrived");
    (before, after)
}

/// Guarantee 6: a node of another cluster.
async fn refuses_another_cluster<T: Transport>(bind: &impl Bind<T>) {
    let stranger = Identity { cluster: ClusterId(8), ..identity(3) };
    let nodes = vec![
        bound(bind, identity(1)).await,
        bound(bind, identity(2)).await,
        bound(bind, stranger).await,
    ];
    for node in &nodes {
        node.start(peers_of(node.id(), &nodes)).await;
    }
    refused(&nodes[0], &nodes[2]).await;
    refused(&nodes[2], &nodes[0]).await;
    for (node, other) in [(&nodes[0], &nodes[2]), (&nodes[2], &nodes[0])] {
        let refusals = node.transport.refusals();
        let stands = refusals.iter().filter(|refusal| refusal.peer == other.id()).count();
        assert_eq!(stands, 1, "guarantee 6: a refusal stands: {refusals:?}");
    }
    deliver(&nodes[0], &nodes[1], &[poll(1), accept(1, value(10))]).await;
    deliver(&nodes[1], &nodes[0], &[poll(2), accept(2, value(10))]).await;
    close(nodes).await;
}

/// Guarantee 6: a known node with another data directory.
async fn refuses_a_wiped_node<T: Transport>(bind: &impl Bind<T>) {
    let mut nodes = cluster(bind, 3).await;
    deliver(&nodes[2], &nodes[0], &[poll(1)]).await;
    deliver(&nodes[0], &nodes[2], &[poll(2)]).await;
    let Node { transport, address, .. } = nodes.pop().expect("three nodes");
    transport.close().await;
    drop(transport);
    let wiped = Identity { store: StoreId(999), ..identity(3) };
    let (transport, address) = bind(Some(address)).await;
    let wiped = node(transport, wiped, address);
    wiped.start(nodes.iter().map(Node::as_peer).collect()).await;
    let reason = refused(&nodes[0], &wiped).await;
    assert!(reason.contains("replace"), "guarantee 6: no remedy in {reason:?}");
    let reason = refused(&wiped, &nodes[0]).await;
    assert!(reason.contains("replace"), "guarantee 6: no remedy in {reason:?}");
    deliver(&nodes[0], &nodes[1], &[poll(3), pulled(3, value(10))]).await;
    wiped.transport.close().await;
    let Node { transport, address, .. } = wiped;
    drop(transport);
    let (transport, address) = bind(Some(address)).await;
    let restored = node(transport, identity(3), address);
    restored.start(nodes.iter().map(Node::as_peer).collect()).await;
    admitted(&nodes[0], &restored).await;
    restored.transport.close().await;
    close(nodes).await;
}

/// Guarantee 8.
async fn recovers_when_a_peer_returns<T: Transport>(bind: &impl Bind<T>) {
    let mut nodes = cluster(bind, 2).await;
    for restart in 0..2 {
        deliver(&nodes[0], &nodes[1], &[poll(restart), pulled(restart, value(10))]).await;
        let stopped = nodes.pop().expect("two nodes");
        stopped.transport.close().await;
        let (transport, address) = bind(Some(stopped.address.clone())).await;
        nodes.push(stopped.on(transport, address));
        nodes[1].start(vec![nodes[0].as_peer()]).await;
        let messages = [poll(10 + restart), accept(1, value(10)), pulled(restart, value(10))];
        deliver(&nodes[0], &nodes[1], &messages).await;
        deliver(&nodes[1], &nodes[0], &messages).await;
    }
    close(nodes).await;
}

/// What `update_peers` promises.
async fn follows_the_list_of_peers<T: Transport>(bind: &impl Bind<T>) {
    let nodes = cluster(bind, 3).await;
    let everybody = peers_of(NodeId(1), &nodes);
    deliver(&nodes[2], &nodes[0], &[poll(1)]).await;
    let remaining = vec![nodes[1].as_peer()];
    nodes[0].transport.update_peers(remaining.clone()).expect("a good list");
    let unwanted: Vec<_> = (100..200).map(poll).collect();
    for message in &unwanted {
        nodes[0].send(NodeId(3), message.clone());
        nodes[2].send(NodeId(1), message.clone());
    }
    deliver_without(&nodes[1], &nodes[0], &[poll(2), accept(1, value(5))], &unwanted).await;
    let mut nonsense = remaining;
    nonsense.push(Peer { id: NodeId(3), address: String::new(), store: None });
    let error = nodes[0].transport.update_peers(nonsense).expect_err("an empty address");
    assert!(matches!(error, TransportError::Address { .. }), "{error} instead of an address error");
    deliver_without(&nodes[1], &nodes[0], &[poll(3)], &unwanted).await;
    nodes[0].transport.update_peers(everybody).expect("a good list");
    let both: Vec<_> = unwanted.into_iter().chain([poll(4)]).collect();
    deliver(&nodes[0], &nodes[2], &both).await;
    deliver(&nodes[2], &nodes[0], &both).await;
    close(nodes).await;
}

/// Delivers `messages`, and checks that none of `unwanted` arrives from anybody meanwhile.
async fn deliver_without<T: Transport>(
    from: &Node<T>,
    to: &Node<T>,
    messages: &[Message],
    unwanted: &[Message],
) {
    let mut missing: Vec<_> = messages.to_vec();
    let all = async {
        while !missing.is_empty() {
            missing.iter().for_each(|message| from.send(to.id(), message.clone()));
            let wait = Duration::from_millis(200);
            while let Ok(event) = tokio::time::timeout(wait, to.event()).await {
                let Event::Message { from: sender, message } = event else { continue };
                assert!(!unwanted.contains(&message), "{message:?} of {sender}, which is no peer");
                missing.retain(|other| *other != message);
            }
        }
    };
    within("guarantee 2: messages arrive between connected nodes", all).await;
}

/// What `start`, `close` and `recv` promise about beginning and end.
async fn ends_at_close<T: Transport>(bind: &impl Bind<T>) {
    let nodes = cluster(bind, 2).await;
    let again = nodes[0].transport.start(nodes[0].identity, vec![nodes[1].as_peer()]).await;
    assert!(matches!(again, Err(TransportError::State(_))), "a second start: {again:?}");
    deliver(&nodes[0], &nodes[1], &[poll(1)]).await;
    let waiting = async { while nodes[1].transport.recv().await.is_some() {} };
    let closing = async {
        tokio::task::yield_now().await;
        nodes[1].transport.close().await;
    };
    within("recv ends at close", async { tokio::join!(waiting, closing) }).await;
    assert_eq!(nodes[1].transport.recv().await, None, "after close");
    nodes[1].send(NodeId(1), poll(1));
    within("close may be repeated", nodes[1].transport.close()).await;
    let unstarted = bound(bind, identity(3)).await;
    unstarted.transport.close().await;
    let late = unstarted.transport.start(unstarted.identity, vec![nodes[0].as_peer()]).await;
    assert!(matches!(late, Err(TransportError::State(_))), "a start after close: {late:?}");
    close(nodes).await;
}

/// `recv` is cancel safe.
async fn loses_nothing_to_cancellation<T: Transport>(bind: &impl Bind<T>) {
    let nodes = cluster(bind, 2).await;
    deliver(&nodes[0], &nodes[1], &[poll(0), accept(1, value(0))]).await;
    // One that was sent again may still be under way.
    let count = 300;
    for number in 1..=count {
        nodes[0].send(NodeId(2), poll(number));
    }
    let mut arrived = 0;
    let all = async {
        while arrived < count {
            tokio::select! {
                biased;
                event = nodes[1].event() => {
                    let is_new = |number| (1..=count).contains(&number);
                    if let Event::Message { message: Message::Poll(poll), .. } = event
                        && is_new(poll.number)
                    {
                        arrived += 1;
                    }
                }
                () = tokio::task::yield_now() => {}
            }
        }
    };
    within("a recv that is dropped takes nothing with it", all).await;
    close(nodes).await;
}
