//! Guarantee 11.

use std::time::Duration;

use paxos_core::{
    port::{Event, Transport},
    types::NodeId,
};

use super::harness::{Bind, Node, accept, close, cluster, deliver, peers_of, poll, value, within};

/// How long nothing happens where nothing has to: several times what it takes to notice a loss.
const CALM: Duration = Duration::from_millis(400);

/// How long to wait for what is there.
const AT_ONCE: Duration = Duration::from_millis(1);

const NOBODY: NodeId = NodeId(99);

/// Checks that a peer that is closed is reported as lost, once, behind what it has said, and again after it has
/// come back; and that nobody is reported who is merely silent. For a transport that can tell whether
/// somebody listens.
///
/// Takes what [`run`](super::run) does.
///
/// # Panics
///
/// If it is not so.
pub async fn notices_losses<T, F>(bind: impl Fn(Option<String>) -> F)
where
    T: Transport,
    F: Future<Output = (T, String)>,
{
    reports_each_loss(&bind).await;
}

async fn reports_each_loss<T: Transport>(bind: &impl Bind<T>) {
    let mut nodes = cluster(bind, 3).await;
    for life in 1..=2 {
        all_talk(&nodes, life).await;
        nothing_more_comes(&nodes, NOBODY).await;
        let stopped = nodes.pop().expect("three nodes");
        stopped.send(NodeId(1), accept(10 + life, value(100_000)));
        stopped.transport.close().await;
        for node in &nodes {
            let lost = async {
                loop {
                    match node.event().await {
                        Event::Lost { peer } if peer == stopped.id() => return,
                        Event::Lost { peer } => panic!("guarantee 11: {peer} is there"),
                        _ => {}
                    }
                }
            };
            within("guarantee 11: a peer that is closed is lost", lost).await;
        }
        nothing_more_comes(&nodes, stopped.id()).await;
        let (transport, address) = bind(Some(stopped.address.clone())).await;
        nodes.push(stopped.on(transport, address));
        nodes[2].start(peers_of(NodeId(3), &nodes)).await;
    }
    close(nodes).await;
}

/// Each hears each other.
async fn all_talk<T: Transport>(nodes: &[Node<T>], life: u64) {
    for from in nodes {
        for to in nodes.iter().filter(|to| to.id() != from.id()) {
            deliver(from, to, &[poll(10 * life + from.id().0), accept(life, value(10))]).await;
        }
    }
}

/// For a while nobody is lost, or lost again, and whoever is says nothing.
async fn nothing_more_comes<T: Transport>(nodes: &[Node<T>], lost: NodeId) {
    tokio::time::sleep(CALM).await;
    for node in nodes {
        while let Ok(event) = tokio::time::timeout(AT_ONCE, node.event()).await {
            match event {
                Event::Lost { peer } => panic!("guarantee 11: {peer} is lost, or lost again"),
                Event::Message { from, .. } => {
                    assert_ne!(
                        from, lost,
                        "guarantee 11: a loss comes behind all that came before"
                    );
                }
                _ => {}
            }
        }
    }
}
