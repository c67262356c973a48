//! Changing who the members of the cluster are.

use std::{sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::{error::ChangeMembersError, handle::Node, request::Request};
use crate::{
    port::{StateMachine, Transport},
    replica::{ChangeOutcome, ChangeRefusal},
    types::{Change, Membership, NodeId, Peer},
};

/// A change that is asked for.
pub(super) struct AskedChange {
    pub(super) change: Change,
    pub(super) timeout: Duration,
    pub(super) reply: oneshot::Sender<ChangeOutcome>,
}

/// From now on these are talked to; returns their ids.
pub(super) fn talk_to(peers: Vec<Peer>, transport: &dyn Transport) -> Vec<NodeId> {
    let ids: Vec<_> = peers.iter().map(|peer| peer.id).collect();
    tracing::info!(?ids, "the peers are");
    if let Err(error) = transport.update_peers(peers) {
        tracing::error!(%error, "the transport goes on with the peers that it has: correct the address");
    }
    ids
}

impl<S: StateMachine> Node<S> {
    /// Changes the membership of the cluster, on any node: one change at a time, without a stop. Returns the
    /// new membership once it decides what comes next.
    ///
    /// A node that is to join is started with [`NodeBuilder::joining`](super::NodeBuilder::joining), is added
    /// as a [`Learner`](crate::types::MemberRole::Learner), and made a
    /// [`Voter`](crate::types::MemberRole::Voter) when it has caught up. A node that is removed ends with
    /// [`Halt::Removed`](crate::replica::Halt::Removed).
    ///
    /// # Errors
    ///
    /// If the change makes no sense, another is under way or came first, or the cluster could not go on with it;
    /// [`ChangeRefusal::Unknown`] if its outcome is not known in time: the membership in
    /// [`status`](Node::status) tells later.
    pub async fn change_members(
        &self,
        change: Change,
    ) -> Result<Arc<Membership>, ChangeMembersError> {
        let (reply, outcome) = oneshot::channel();
        let timeout = self.shared.limits.request_timeout;
        let asked = AskedChange { change, timeout, reply };
        // If nobody takes it, the node has ended.
        drop(self.shared.requests.send(Request::ChangeMembers(asked)));
        match outcome.await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(ChangeMembersError::Stopped(self.end_reason().await)),
        }
    }
}

impl From<ChangeRefusal> for ChangeMembersError {
    fn from(refusal: ChangeRefusal) -> ChangeMembersError {
        ChangeMembersError::Refused(refusal)
    }
}
