//! Proposals, on any node, once.

use std::{io, time::Duration};

use paxos_core::{
    Node,
    node::{NodeError, ProposeError},
    port::StateMachine,
    types::{ClientId, Membership, RequestId, Slot},
};
use paxos_storage::MemoryStorage;
use paxos_transport::MemoryNetwork;
use tokio::time::Instant;

use super::cluster::{Cluster, Ledger};

#[tokio::test(start_paused = true)]
async fn every_node_takes_proposals_and_holds_them_all_in_the_same_order() {
    for size in [1, 3, 5] {
        let cluster = Cluster::start(size).await;
        let mut proposals = tokio::task::JoinSet::new();
        for command in 0..50 {
            let node = cluster.node(command % size + 1).clone();
            proposals.spawn(async move { node.propose(command).await });
        }
        let mut responses = Vec::new();
        while let Some(response) = proposals.join_next().await {
            responses.push(response.expect("no panic").expect("a response"));
        }
        responses.sort_unstable();
        assert_eq!(responses, (1..=50).collect::<Vec<_>>(), "each command has a place of its own");
        let mut entries = cluster.entries(1).await;
        for id in 2..=size {
            assert_eq!(cluster.entries(id).await, entries);
        }
        entries.sort_unstable();
        assert_eq!(entries, (0..50).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_its_responses_in_order() {
    let cluster = Cluster::start(3).await;
    for id in 1..=3 {
        let commands = (0..100).map(|command| id * 1000 + command).collect();
        let responses = cluster.node(id).propose_batch(commands).await.expect("responses");
        let first = (usize::try_from(id).expect("small") - 1) * 100 + 1;
        assert_eq!(responses, (first..first + 100).collect::<Vec<_>>());
    }
    let expected: Vec<_> = (1..=3).flat_map(|id| (0..100).map(move |n| id * 1000 + n)).collect();
    assert_eq!(cluster.entries(2).await, expected);
    assert_eq!(cluster.node(1).propose_batch(Vec::new()).await, Ok(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_request_id_of_ones_own_has_effect_once_on_whichever_node_it_is_proposed() {
    let cluster = Cluster::start(3).await;
    let client = ClientId { name: 1000, epoch: 1 };
    let first = RequestId { client, sequence: 1 };
    assert_eq!(cluster.node(1).propose_as(first, 7).await, Ok(1));
    for id in 1..=3 {
        // A node that has yet to apply the command has its response, too.
        cluster.node(id).linearize().await.expect("a quorum runs");
        let again = cluster.node(id).propose_as(first, 7).await;
        assert_eq!(again, Err(ProposeError::AlreadyApplied));
    }
    let newer = RequestId { client: ClientId { epoch: 2, ..client }, sequence: 1 };
    assert_eq!(cluster.node(2).propose_as(newer, 8).await, Ok(2));
    let older = RequestId { client, sequence: 2 };
    assert_eq!(cluster.node(3).propose_as(older, 9).await, Err(ProposeError::Expired));
    assert_eq!(cluster.entries(3).await, [7, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_request_id_that_waits_or_cannot_be_is_refused() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    cluster.network.isolate(leader);
    let node = cluster.node(leader);
    let id = RequestId { client: ClientId { name: 1000, epoch: 1 }, sequence: 1 };
    let (first, second) = tokio::join!(node.propose_as(id, 7), node.propose_as(id, 7));
    assert_eq!(first, Err(ProposeError::UnknownOutcome));
    assert_eq!(second, Err(ProposeError::IdUsed));
    let of_a_node = RequestId { client: ClientId { name: 2, epoch: 1 }, sequence: 1 };
    assert_eq!(node.propose_as(of_a_node, 7).await, Err(ProposeError::InvalidId));
    // There is none after the last one, which would be "the next" to the one before.
    for sequence in [0, u64::MAX] {
        let uncountable = RequestId { sequence, ..id };
        assert_eq!(node.propose_as(uncountable, 7).await, Err(ProposeError::InvalidId));
    }
}

#[tokio::test(start_paused = true)]
async fn a_proposal_without_a_quorum_ends_at_its_deadline_with_its_outcome_unknown() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    cluster.network.isolate(leader);
    let start = Instant::now();
    let patience = Duration::from_millis(700);
    let result = cluster.node(leader).propose_within(1, patience).await;
    assert_eq!(result, Err(ProposeError::UnknownOutcome));
    let overdue = start.elapsed() - patience;
    assert!(overdue < Duration::from_millis(5), "{overdue:?} late");
    let waiting = cluster.node(leader).status().outstanding;
    assert_eq!(waiting, 0, "nothing is kept of it");
}

/// Commands of any size.
struct Blobs(usize);

impl StateMachine for Blobs {
    type Command = Vec<u8>;
    type Response = ();
    type Snapshot = u64;

    fn apply(&mut self, _slot: Slot, commands: Vec<Vec<u8>>) -> Vec<()> {
        commands.into_iter().map(|command| self.0 += command.len()).collect()
    }

    fn snapshot(&self) -> u64 {
        self.0 as u64
    }

    fn restore(&mut self, _: Slot, bytes: u64) -> io::Result<()> {
        self.0 = usize::try_from(bytes).expect("in memory");
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_over_the_limit_is_refused_and_one_just_below_passes() {
    let node = Node::builder(1, Membership::new([(1, "here")]).expect("a membership"))
        .storage(MemoryStorage::new())
        .transport(MemoryNetwork::new(1).bind("here"))
        .start(Blobs(0))
        .await
        .expect("the node starts");
    let limit = paxos_core::limits::COMMAND_BYTES_MAX;
    assert_eq!(node.propose(vec![1; limit]).await, Err(ProposeError::TooLarge));
    let batch = vec![vec![1; limit]];
    assert_eq!(node.propose_batch(batch).await, Err(ProposeError::TooLarge));
    // Its encoding has a length in front.
    assert_eq!(node.propose(vec![1; limit - 4]).await, Ok(()));
    assert_eq!(node.read(|blobs| blobs.0).await, Ok(limit - 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_run_on_several_threads_with_a_state_machine_that_blocks() {
    let membership = Membership::new((1..=3).map(|id| (id, format!("node-{id}"))));
    let membership = membership.expect("a membership");
    let network = MemoryNetwork::new(1);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        let builder = Node::builder(id, membership.clone())
            .storage(MemoryStorage::new())
            .transport(network.join(id))
            .blocking_state_machine();
        nodes.push(builder.start(Ledger::default()).await.expect("the node starts"));
    }
    let mut writers = tokio::task::JoinSet::new();
    for (number, node) in (0..).zip(&nodes) {
        for command in number * 100..number * 100 + 100 {
            let node = node.clone();
            writers.spawn(async move { node.propose(command).await });
        }
    }
    while let Some(response) = writers.join_next().await {
        assert!(response.expect("no panic").is_ok());
    }
    for node in &nodes {
        let mut entries = node.read(|ledger| ledger.entries.clone()).await.expect("a quorum runs");
        entries.sort_unstable();
        assert_eq!(entries, (0..300).collect::<Vec<_>>());
    }
    for node in &nodes {
        assert_eq!(node.shutdown().await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn one_task_keeps_many_commands_in_flight_and_each_has_its_own_answer() {
    let cluster = Cluster::start_with(3, |config| config.outstanding_commands_max = 100).await;
    let leader = cluster.leader_of(1).await;
    let node = cluster.node(leader);
    let mut submitted: Vec<_> = (1..=101).map(|command| node.submit(command)).collect();
    let beyond = submitted.pop().expect("one too many");
    assert_eq!(beyond.await, Err(ProposeError::Busy));
    for (position, submitted) in (1..).zip(submitted) {
        assert_eq!(submitted.await, Ok(position));
    }
    // One that is not waited for has effect all the same.
    drop(node.submit(102));
    assert_eq!(node.propose(103).await, Ok(102));
    cluster.network.isolate(leader);
    let in_vain = node.submit(104);
    assert_eq!(node.shutdown().await, Ok(()));
    let ended = Err(ProposeError::Stopped(NodeError::ShutDown));
    assert_eq!((in_vain.await, node.submit(105).await), (ended.clone(), ended));
}
