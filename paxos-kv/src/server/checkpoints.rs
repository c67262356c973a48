//! Tells in the log how far this member's checkpoints and the floor of its log have come.
//!
//! States on their way to or from other members are told of by the replica itself, as they go.

use std::time::Duration;

use paxos_core::node::Node;

use crate::store::Store;

/// Between two looks: a checkpoint is due every few seconds under full load, and one line of several is
/// enough.
const INTERVAL: Duration = Duration::from_secs(10);

/// One line for a checkpoint that is newer than the one that was told last, at most every [`INTERVAL`].
/// Runs until it is dropped.
pub(super) async fn run(node: Node<Store>) {
    let mut told = node.status().checkpoint;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let status = node.status();
        if status.checkpoint == told {
            continue;
        }
        told = status.checkpoint;
        tracing::info!(
            checkpoint = %status.checkpoint,
            floor = %status.floor,
            applied = %status.applied,
            states_sent = status.states_sent,
            states_taken_over = status.states_taken_over,
            "a checkpoint: the log up to the floor is gone"
        );
    }
}
