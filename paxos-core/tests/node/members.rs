//! Members come, vote, and go, on nodes that serve meanwhile.

use paxos_core::{
    Node,
    node::{ChangeMembersError, NodeError},
    replica::{ChangeRefusal, Halt},
    types::{Change, MemberRole, NodeId},
};

use super::cluster::{Cluster, Ledger};

/// Starts a node that nobody knows yet.
async fn join(cluster: &mut Cluster, id: u64) {
    let (storage, transport) = (cluster.new_disk(id), cluster.network.join(id));
    let node = Node::builder(id, cluster.membership.clone())
        .storage(storage)
        .transport(transport)
        .configure(|config| config.seed = id)
        .joining()
        .start(Ledger::default())
        .await
        .expect("the node starts");
    cluster.nodes.insert(id, node);
}

fn add(node: u64) -> Change {
    let address = format!("node-{node}");
    Change::Add { node: NodeId(node), address, role: MemberRole::Learner }
}

fn promote(node: u64) -> Change {
    Change::Role { node: NodeId(node), role: MemberRole::Voter }
}

#[tokio::test(start_paused = true)]
async fn all_members_are_replaced_while_commands_go_on() {
    let mut cluster = Cluster::start(3).await;
    let mut expected = Vec::new();
    for (gone, by) in [(1, 4), (2, 5), (3, 6)] {
        for _ in 0..20 {
            let command = expected.len() as u64;
            cluster.node(gone).propose(command).await.expect("a response");
            expected.push(command);
        }
        join(&mut cluster, by).await;
        cluster.node(gone).change_members(add(by)).await.expect("a learner");
        // It has caught up once it serves what was acknowledged.
        assert_eq!(cluster.entries(by).await, expected);
        cluster.node(by).change_members(promote(by)).await.expect("a voter");
        let removed = Change::Remove { node: NodeId(gone) };
        let membership = cluster.node(by).change_members(removed).await.expect("three are left");
        assert_eq!(membership.voters().count(), 3);
        let ended = cluster.node(gone).stopped().await;
        assert_eq!(ended, Err(NodeError::Halted(Halt::Removed)));
        cluster.nodes.remove(&gone);
    }
    // And those that are left find each other again after a restart, whatever they are told.
    for id in [4, 5, 6] {
        let node = cluster.nodes.remove(&id).expect("it runs");
        node.shutdown().await.expect("a clean end");
        cluster.start_node(id, Ledger::default()).await;
    }
    for id in [4, 5, 6] {
        assert_eq!(cluster.entries(id).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_cannot_be_made_says_why() {
    let cluster = Cluster::start(3).await;
    let change = |change| cluster.node(2).change_members(change);
    let error = change(promote(7)).await.expect_err("no member");
    assert_eq!(error.to_string(), "node 7 is no member of the cluster");
    change(add(4)).await.expect("a learner that does not run");
    let error = change(promote(4)).await.expect_err("it has nothing");
    assert_eq!(error.to_string(), "node 4 has not caught up: wait until it has, and try again");
    cluster.network.isolate(2);
    let error = change(Change::Window(8)).await.expect_err("nobody hears of it");
    assert_eq!(error, ChangeMembersError::Refused(ChangeRefusal::Unknown));
}
