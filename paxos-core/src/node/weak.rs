//! A handle that does not keep its node running.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::sync::watch;

use super::{
    error::NodeError,
    handle::{Node, Shared, end_of},
    inside::NodeKey,
    lifecycle::Ended,
};
use crate::port::StateMachine;

/// Stands for a node without keeping it running: for whoever watches over it. Made by [`Node::downgrade`].
pub struct WeakNode<S: StateMachine> {
    shared: Weak<Shared<S>>,
    key: NodeKey,
    ended: watch::Receiver<Ended>,
}

impl<S: StateMachine> Node<S> {
    /// A handle that does not keep the node running.
    #[must_use]
    pub fn downgrade(&self) -> WeakNode<S> {
        let Shared { key, ended, .. } = &*self.shared;
        WeakNode { shared: Arc::downgrade(&self.shared), key: *key, ended: ended.clone() }
    }
}

impl<S: StateMachine> WeakNode<S> {
    /// A handle that counts, unless all of those are gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<Node<S>> {
        self.shared.upgrade().map(|shared| Node { shared })
    }

    /// Returns when the node has stopped, also for want of handles.
    ///
    /// # Errors
    ///
    /// The reason, unless it was shut down or all handles were dropped.
    pub async fn stopped(&self) -> Result<(), NodeError> {
        end_of(self.ended.clone(), self.key).await
    }
}

impl<S: StateMachine> Clone for WeakNode<S> {
    fn clone(&self) -> Self {
        WeakNode { shared: Weak::clone(&self.shared), key: self.key, ended: self.ended.clone() }
    }
}

impl<S: StateMachine> fmt::Debug for WeakNode<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakNode").finish_non_exhaustive()
    }
}
