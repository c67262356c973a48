//! Handing the leadership over.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{error::TransferError, handle::Node, request::Request};
use crate::{
    port::StateMachine,
    replica::{TransferOutcome, TransferRefusal},
    types::NodeId,
};

/// A transfer that is asked for.
pub(super) struct AskedTransfer {
    /// Who is to lead, if not just anybody.
    pub(super) to: Option<NodeId>,
    pub(super) timeout: Duration,
    pub(super) reply: oneshot::Sender<TransferOutcome>,
}

impl<S: StateMachine> Node<S> {
    /// Hands the leadership over to another node, or to whichever has most if `to` is `None`; returns who leads
    /// then. No request fails by it: what comes meanwhile waits for a few round trips and writes, not for an
    /// election timeout.
    ///
    /// Only the leader can. It gives the leadership up only to a node that has everything and would be elected,
    /// and goes on leading if that has not taken over within two election timeouts. The node that leads already
    /// is a node like any other: to name it changes nothing.
    ///
    /// # Errors
    ///
    /// If this node does not lead, the other one could not, or does not take over in time; see
    /// [`TransferRefusal`].
    pub async fn transfer_leadership(
        &self,
        to: impl Into<Option<NodeId>>,
    ) -> Result<NodeId, TransferError> {
        let (reply, outcome) = oneshot::channel();
        let timeout = self.shared.limits.request_timeout;
        let asked = AskedTransfer { to: to.into(), timeout, reply };
        // If nobody takes it, the node has ended.
        drop(self.shared.requests.send(Request::TransferLeadership(asked)));
        match outcome.await {
            Ok(outcome) => Ok(outcome?.node),
            Err(_) => Err(TransferError::Stopped(self.end_reason().await)),
        }
    }
}

impl From<TransferRefusal> for TransferError {
    fn from(refusal: TransferRefusal) -> TransferError {
        TransferError::Refused(refusal)
    }
}
