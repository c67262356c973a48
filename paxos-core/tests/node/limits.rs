//! Overload is refused, and ends.

use std::time::Duration;

use paxos_core::{
    limits::READS_MAX,
    node::{ProposeError, ReadError},
};

use super::cluster::Cluster;

const OUTSTANDING: usize = 64;

#[tokio::test(start_paused = true)]
async fn a_flood_of_proposals_is_refused_beyond_the_limit_and_service_recovers() {
    let cluster = Cluster::start_with(3, |config| {
        config.outstanding_commands_max = OUTSTANDING;
        config.batch_commands_max = OUTSTANDING;
    })
    .await;
    let leader = cluster.leader_of(1).await;
    cluster.network.isolate(leader);
    let mut proposals = tokio::task::JoinSet::new();
    for command in 0..5000 {
        let node = cluster.node(leader).clone();
        let patience = Duration::from_secs(1);
        proposals.spawn(async move { node.propose_within(command, patience).await });
    }
    let (mut busy, mut unknown) = (0, 0);
    while let Some(result) = proposals.join_next().await {
        match result.expect("no panic") {
            Err(ProposeError::Busy) => busy += 1,
            Err(ProposeError::UnknownOutcome) => unknown += 1,
            other => panic!("{other:?} without a quorum"),
        }
    }
    assert_eq!((busy, unknown), (5000 - OUTSTANDING, OUTSTANDING));
    cluster.network.heal();
    assert!(cluster.node(leader).propose(5001).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn commands_between_the_handles_and_the_driver_are_bounded_in_bytes() {
    let cluster = Cluster::start_with(1, |config| {
        (config.outstanding_bytes_max, config.command_bytes_max) = (1 << 16, 1 << 16);
    })
    .await;
    // Tasks on this thread do not run before the first await, so everything queues up.
    let mut taken = 0;
    let mut waiting = Vec::new();
    for command in 0..5000 {
        let mut proposal = Box::pin(cluster.node(1).propose(command));
        match futures::poll!(proposal.as_mut()) {
            std::task::Poll::Pending => {
                taken += 1;
                waiting.push(proposal);
            }
            std::task::Poll::Ready(result) => assert_eq!(result, Err(ProposeError::Busy)),
        }
    }
    assert!((1..=1 << 8).contains(&taken), "{taken} commands of 256 bytes and more in 64 KiB");
    for proposal in waiting {
        assert!(proposal.await.is_ok());
    }
    assert!(cluster.node(1).propose(5001).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_slow_disk_is_bounded_in_bytes_and_service_recovers() {
    let cluster = Cluster::start_with(1, |config| config.backlog_bytes_max = 300).await;
    let node = cluster.node(1);
    assert_eq!(node.propose(0).await, Ok(1));
    cluster.disks[&1].hold_writes();
    let mut taken = vec![0];
    for command in 1..100 {
        match node.propose_within(command, Duration::from_millis(10)).await {
            Err(ProposeError::UnknownOutcome) => taken.push(command),
            result => {
                assert_eq!(result, Err(ProposeError::Busy));
                break;
            }
        }
    }
    assert!((2..100).contains(&taken.len()), "{taken:?}");
    assert!(node.status().is_disk_behind);
    cluster.disks[&1].release_writes();
    assert_eq!(node.linearize().await, Ok(()));
    assert!(node.propose(100).await.is_ok());
    taken.push(100);
    assert_eq!(cluster.entries(1).await, taken);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_reads_is_refused_beyond_the_limit() {
    let cluster = Cluster::start_with(3, |config| config.outstanding_commands_max = 4096).await;
    let leader = cluster.leader_of(1).await;
    cluster.network.isolate(leader);
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..3 * READS_MAX {
        let node = cluster.node(leader).clone();
        reads.spawn(async move { node.linearize_within(Duration::from_secs(1)).await });
    }
    let mut timed_out = 0;
    while let Some(result) = reads.join_next().await {
        match result.expect("no panic") {
            Err(ReadError::Timeout) => timed_out += 1,
            Err(ReadError::Busy) => (),
            other => panic!("{other:?} without a quorum"),
        }
    }
    assert!((1..=READS_MAX).contains(&timed_out), "{timed_out} waited");
    cluster.network.heal();
    assert_eq!(cluster.node(leader).linearize().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn reads_between_the_handles_and_the_state_machine_are_bounded() {
    let cluster = Cluster::start_with(1, |config| config.outstanding_commands_max = 65_536).await;
    let mut waiting = Vec::new();
    for _ in 0..3 * READS_MAX {
        let mut read = Box::pin(cluster.node(1).linearize());
        match futures::poll!(read.as_mut()) {
            std::task::Poll::Pending => waiting.push(read),
            std::task::Poll::Ready(result) => assert_eq!(result, Err(ReadError::Busy)),
        }
    }
    assert_eq!(waiting.len(), READS_MAX);
    for read in waiting {
        assert_eq!(read.await, Ok(()));
    }
    assert_eq!(cluster.node(1).linearize().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn readers_that_go_away_make_room_for_others() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader_of(1).await;
    cluster.network.isolate(leader);
    let node = cluster.node(leader);
    for _ in 0..READS_MAX {
        let mut read = Box::pin(node.linearize_within(Duration::from_secs(600)));
        assert!(futures::poll!(read.as_mut()).is_pending());
    }
    assert_eq!(node.linearize().await, Err(ReadError::Busy));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.linearize_within(Duration::from_secs(1)).await, Err(ReadError::Timeout));
}

#[tokio::test(start_paused = true)]
async fn callers_that_go_away_leave_nothing_behind() {
    let cluster =
        Cluster::start_with(3, |config| config.outstanding_commands_max = OUTSTANDING).await;
    let leader = cluster.leader_of(1).await;
    cluster.network.isolate(leader);
    let node = cluster.node(leader);
    let patience = Duration::from_millis(100);
    for command in 0..OUTSTANDING as u64 {
        // The proposal has ten minutes, its caller a moment.
        let proposal = node.propose_within(command, Duration::from_secs(600));
        assert!(tokio::time::timeout(patience, proposal).await.is_err());
    }
    // They make room as soon as others need it, and at their deadlines all the same.
    let in_vain = node.propose_within(99, patience).await;
    assert_eq!(in_vain, Err(ProposeError::UnknownOutcome));
    tokio::time::sleep(Duration::from_secs(601)).await;
    assert_eq!(node.status().outstanding, 0);
    cluster.network.heal();
    assert!(node.propose(100).await.is_ok());
}
