//! Changes of the membership, on their way into the log.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use paxos_core::{
    node::{ChangeMembersError, NodeError},
    replica::{ChangeRefusal, Halt},
    types::{Change, MemberRole, Membership, NodeId},
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tonic::Status;

use super::{Context, error::change_status};

/// For how long a change waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts at a change that has to wait for its turn.
const TURN_INTERVAL: Duration = Duration::from_millis(50);

/// For how long a new voter may catch up before it is left to the operator to promote it.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(3600);

/// Between two looks whether new voters have caught up.
const CATCH_UP_INTERVAL: Duration = Duration::from_millis(500);

impl Context {
    /// Makes the change that `make` says, given the membership as it is, and returns what follows. Changes are
    /// made one at a time: this one waits while there is another.
    pub(super) async fn change_members(
        &self,
        make: impl Fn(&Membership) -> Result<Change, Status>,
    ) -> Result<Arc<Membership>, Status> {
        let deadline = Instant::now() + TURN_PATIENCE;
        loop {
            // So that it follows on all changes that were answered before.
            self.linearize().await?;
            let membership = self.node().status().membership;
            let change = make(&membership)?;
            let error = match self.node().change_members(change.clone()).await {
                Ok(membership) => return Ok(membership),
                Err(error) => error,
            };
            if is_own_removal(&error, &change, self.node().identity().node) {
                return Ok(Arc::new(membership.changed(&change).expect("it has been made")));
            }
            let has_to_wait = matches!(
                error,
                ChangeMembersError::Refused(ChangeRefusal::Busy | ChangeRefusal::Overtaken)
            );
            if !has_to_wait || deadline <= Instant::now() {
                return Err(change_status(&error, &change));
            }
            sleep(TURN_INTERVAL).await;
        }
    }

    /// Makes a learner a voter as soon as it has caught up.
    pub(super) fn promote_when_ready(&self, node: NodeId) {
        // If nobody takes it, this server is about to stop, and the operator will see a learner.
        let _ = self.promotions().send(node);
    }
}

/// Whether a node has stopped because the change that it was asked for has been made.
fn is_own_removal(error: &ChangeMembersError, change: &Change, own: NodeId) -> bool {
    matches!(error, ChangeMembersError::Stopped(NodeError::Halted(Halt::Removed)))
        && *change == Change::Remove { node: own }
}

/// Promotes learners for which that was asked, each as soon as it has caught up. Runs until it is dropped.
pub(crate) async fn run_promotions(context: Context, mut asked: mpsc::UnboundedReceiver<NodeId>) {
    let mut waiting = BTreeMap::new();
    loop {
        tokio::select! {
            Some(node) = asked.recv() => {
                waiting.insert(node, Instant::now() + CATCH_UP_PATIENCE);
            }
            () = sleep(CATCH_UP_INTERVAL), if !waiting.is_empty() => {}
            else => return,
        }
        let membership = context.node().status().membership;
        let is_learner = |node: &NodeId| membership.role(*node) == Some(MemberRole::Learner);
        waiting.retain(|node, _| is_learner(node));
        for (node, deadline) in waiting.clone() {
            if promote(&context, node).await {
                waiting.remove(&node);
            } else if deadline <= Instant::now() {
                waiting.remove(&node);
                tracing::warn!(
                    member = format!("{:x}", node.0),
                    "a new member has not caught up and stays a learner: when it has, promote it with \
                     `paxos-kv member promote {:x}`, or remove it",
                    node.0
                );
            }
        }
    }
}

/// Whether it is a voter now.
async fn promote(context: &Context, node: NodeId) -> bool {
    let change = Change::Role { node, role: MemberRole::Voter };
    match context.node().change_members(change).await {
        Ok(_) => {
            tracing::info!(
                member = format!("{:x}", node.0),
                "a new member has caught up and votes"
            );
            true
        }
        Err(error) => {
            tracing::debug!(%error, member = format!("{:x}", node.0), "it is not promoted yet");
            false
        }
    }
}
