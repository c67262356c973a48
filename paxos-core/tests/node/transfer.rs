//! The leadership goes to another node while clients go on.

use std::time::Duration;

use paxos_core::{node::TransferError, replica::TransferRefusal, types::NodeId};
use tokio::time::Instant;

use super::cluster::Cluster;

/// Far below an election timeout: that of a few messages.
const AT_ONCE: Duration = Duration::from_millis(50);

#[tokio::test(start_paused = true)]
async fn the_node_that_is_named_leads_and_no_command_fails() {
    let cluster = Cluster::start(3).await;
    cluster.node(1).propose(0).await.expect("a response");
    let mut leader = cluster.leader_of(1).await;
    for round in 1..=20 {
        let to = cluster.other_than(leader);
        let began = Instant::now();
        let (transfer, one, two, three) = tokio::join!(
            cluster.node(leader).transfer_leadership(NodeId(to)),
            cluster.node(1).propose(3 * round),
            cluster.node(2).propose(3 * round + 1),
            cluster.node(3).propose(3 * round + 2),
        );
        assert_eq!(transfer, Ok(NodeId(to)));
        assert!(one.is_ok() && two.is_ok() && three.is_ok(), "{one:?} {two:?} {three:?}");
        assert!(began.elapsed() < AT_ONCE, "round {round} took {:?}", began.elapsed());
        let status = cluster.node(to).status();
        assert_eq!((status.leader, status.handing_over_to), (Some(NodeId(to)), None));
        leader = to;
    }
    assert_eq!(cluster.entries(1).await.len(), 61);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_is_refused_with_a_reason() {
    let cluster = Cluster::start(3).await;
    cluster.node(1).propose(0).await.expect("a response");
    let leader = cluster.leader_of(1).await;
    let other = cluster.other_than(leader);
    let refused = |refusal| Err(TransferError::Refused(refusal));
    let transfer = |node, to| cluster.node(node).transfer_leadership(NodeId(to));
    let leads = Some(NodeId(leader));
    assert_eq!(
        transfer(other, leader).await,
        refused(TransferRefusal::NotLeading { leader: leads })
    );
    assert_eq!(transfer(leader, 9).await, refused(TransferRefusal::NotAMember(NodeId(9))));
    cluster.network.isolate(other);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(transfer(leader, other).await, refused(TransferRefusal::Silent(NodeId(other))));
    cluster.node(leader).propose(1).await.expect("two of three go on");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_shut_down_hands_over_first() {
    let mut cluster = Cluster::start(3).await;
    cluster.node(1).propose(0).await.expect("a response");
    let leader = cluster.leader_of(1).await;
    let other = cluster.other_than(leader);
    let (ended, answer, began) =
        tokio::join!(cluster.node(leader).shutdown(), cluster.node(other).propose(1), async {
            Instant::now()
        });
    assert_eq!((ended, answer), (Ok(()), Ok(2)));
    cluster.nodes.remove(&leader);
    cluster.node(other).propose(2).await.expect("somebody leads");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

/// It need not wait for anybody.
#[tokio::test(start_paused = true)]
async fn a_node_without_others_ends_at_once() {
    let cluster = Cluster::start(1).await;
    cluster.node(1).propose(0).await.expect("a response");
    let began = Instant::now();
    assert_eq!(cluster.node(1).shutdown().await, Ok(()));
    assert!(began.elapsed() < AT_ONCE);
}
