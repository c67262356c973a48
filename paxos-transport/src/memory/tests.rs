use std::{collections::BTreeSet, time::Duration};

use paxos_core::{
    message::Poll,
    types::{ClusterId, Slot, StoreId},
};

use super::*;

fn poll(number: u64) -> Message {
    Message::Poll(Poll { number, chosen: Slot::ZERO, leave: None })
}

async fn started(network: &MemoryNetwork, nodes: u64) -> Vec<MemoryTransport> {
    let transports: Vec<_> = (1..=nodes).map(|id| network.join(id)).collect();
    for (id, transport) in (1..).zip(&transports) {
        let node = NodeId(id);
        let identity = Identity { cluster: ClusterId(7), node, store: StoreId(100 + id) };
        let peers = (1..=nodes).filter(|other| *other != id).map(|other| Peer {
            id: NodeId(other),
            address: format!("node-{other}"),
            store: Some(StoreId(100 + other)),
        });
        transport.start(identity, peers.collect()).await.expect("starts");
    }
    transports
}

/// The numbers of the polls that have arrived, once nothing more is on its way.
async fn arrived(transport: &MemoryTransport) -> Vec<u64> {
    let mut numbers = Vec::new();
    let patience = Duration::from_secs(10);
    while let Ok(event) = tokio::time::timeout(patience, transport.recv()).await {
        let Some(Event::Message { message: Message::Poll(poll), .. }) = event else {
            panic!("{event:?} instead of a poll");
        };
        numbers.push(poll.number);
    }
    numbers
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_one_way_and_isolation_is_not() {
    let network = MemoryNetwork::new(1);
    let nodes = started(&network, 3).await;
    network.cut(1, 2);
    nodes[0].send(&[NodeId(2)], &mut vec![poll(1)]);
    nodes[1].send(&[NodeId(1)], &mut vec![poll(2)]);
    assert_eq!(arrived(&nodes[1]).await, []);
    assert_eq!(arrived(&nodes[0]).await, [2]);
    network.heal();
    network.isolate(3);
    nodes[0].send(&[NodeId(3)], &mut vec![poll(3)]);
    nodes[2].send(&[NodeId(1)], &mut vec![poll(4)]);
    nodes[0].send(&[NodeId(2)], &mut vec![poll(5)]);
    assert_eq!(arrived(&nodes[2]).await, []);
    assert_eq!(arrived(&nodes[0]).await, []);
    assert_eq!(arrived(&nodes[1]).await, [5]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_separates_its_groups_only() {
    let network = MemoryNetwork::new(1);
    let nodes = started(&network, 3).await;
    network.partition(&[&[1], &[2, 3]]);
    nodes[0].send(&[NodeId(2)], &mut vec![poll(1)]);
    nodes[2].send(&[NodeId(2)], &mut vec![poll(2)]);
    assert_eq!(arrived(&nodes[1]).await, [2]);
    network.mend(1, 2);
    nodes[0].send(&[NodeId(2)], &mut vec![poll(3)]);
    assert_eq!(arrived(&nodes[1]).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn the_seed_decides_what_is_lost_repeated_and_overtaken() {
    let run = async |seed| {
        let network = MemoryNetwork::new(seed);
        let nodes = started(&network, 2).await;
        network.set_faults(Faults {
            drop_probability: 0.3,
            duplicate_probability: 0.3,
            delay: Duration::ZERO..=Duration::from_millis(100),
        });
        (0..100).for_each(|number| nodes[0].send(&[NodeId(2)], &mut vec![poll(number)]));
        arrived(&nodes[1]).await
    };
    let first = run(1).await;
    let distinct: BTreeSet<_> = first.iter().collect();
    assert!(distinct.len() < 90, "{} of 100 arrived in spite of drops", distinct.len());
    assert!(first.len() > distinct.len() + 5, "some arrived twice");
    assert!(!first.is_sorted(), "some overtook others");
    assert_eq!(run(1).await, first);
    assert_ne!(run(2).await, first);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_takes_its_time() {
    let network = MemoryNetwork::new(1);
    let nodes = started(&network, 2).await;
    let delay = Duration::from_millis(30);
    network.set_faults(Faults { delay: delay..=delay, ..Faults::default() });
    let sent = Instant::now();
    nodes[0].send(&[NodeId(2)], &mut vec![poll(1)]);
    nodes[1].recv().await.expect("it arrives");
    assert!(sent.elapsed() >= delay, "after {:?}", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_an_address_over_cuts_the_earlier_one_off() {
    let network = MemoryNetwork::new(1);
    let nodes = started(&network, 2).await;
    let _second = network.join(2);
    assert_eq!(nodes[1].recv().await, None);
    nodes[1].send(&[NodeId(1)], &mut vec![poll(1)]);
    assert_eq!(nodes[0].recv().await, Some(Event::Lost { peer: NodeId(2) }));
    assert_eq!(arrived(&nodes[0]).await, []);
}

/// Whoever is on the other side of a cut cannot know.
#[tokio::test(start_paused = true)]
async fn a_loss_is_told_to_those_that_are_connected() {
    let network = MemoryNetwork::new(1);
    let mut nodes = started(&network, 3).await;
    network.cut(2, 3);
    drop(nodes.pop());
    assert_eq!(nodes[0].recv().await, Some(Event::Lost { peer: NodeId(3) }));
    for node in &nodes {
        assert_eq!(arrived(node).await, []);
    }
}

/// What a sender has found out about a receiver holds no longer than it is true.
#[tokio::test(start_paused = true)]
async fn whatever_changes_is_noticed_by_the_next_message() {
    let network = MemoryNetwork::new(1);
    let mut nodes = started(&network, 3).await;
    let send = |nodes: &[MemoryTransport], number| {
        nodes[0].send(&[NodeId(2), NodeId(3)], &mut vec![poll(number)]);
    };
    let drops = Faults { drop_probability: 1.0, ..Faults::default() };
    type Change = fn(&MemoryNetwork);
    let (cut, mend): (Change, Change) = (|it| it.cut(1, 2), |it| it.mend(1, 2));
    let (split, isolate): (Change, Change) = (|it| it.partition(&[&[1], &[2]]), |it| it.isolate(2));
    let heal: Change = |it| it.heal();
    for (change, back) in [(cut, mend), (split, heal), (isolate, heal)] {
        send(&nodes, 1);
        change(&network);
        send(&nodes, 2);
        back(&network);
        send(&nodes, 3);
        assert_eq!(arrived(&nodes[1]).await, [1, 3]);
        assert_eq!(arrived(&nodes[2]).await, [1, 2, 3], "the other one notices nothing");
    }
    network.set_faults(drops);
    send(&nodes, 4);
    network.set_faults(Faults::default());
    send(&nodes, 5);
    assert_eq!(arrived(&nodes[1]).await, [5]);
    nodes[1].update_peers(Vec::new()).expect("a good list");
    send(&nodes, 6);
    assert!(!matches!(nodes[1].recv().await, Some(Event::Message { .. })), "from a stranger");
    nodes[2].close().await;
    nodes[2] = network.join(3);
    send(&nodes, 7);
    let identity = Identity { cluster: ClusterId(7), node: NodeId(3), store: StoreId(103) };
    let peer = Peer { id: NodeId(1), address: "node-1".to_owned(), store: Some(StoreId(101)) };
    nodes[2].start(identity, vec![peer]).await.expect("starts");
    send(&nodes, 8);
    assert_eq!(arrived(&nodes[2]).await, [8], "it had not been started");
}
