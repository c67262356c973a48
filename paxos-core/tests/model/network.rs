//! A network that loses, repeats, delays and reorders as it likes.
//!
//! What was ever sent is there for ever. So a message may arrive any number of times, at any time
//! after it was sent, or never: nothing else has to be said of loss.

use std::{collections::BTreeMap, sync::Arc};

use paxos_core::{message::Message, types::NodeId};

use super::digest::digest;

#[derive(Debug)]
pub(crate) struct Envelope {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    envelopes: BTreeMap<u64, Arc<Envelope>>,
    /// Of the set, whatever the order in which it has grown.
    digest: u64,
}

impl Network {
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn envelopes(&self) -> impl Iterator<Item = (u64, &Arc<Envelope>)> {
        self.envelopes.iter().map(|(&digest, envelope)| (digest, envelope))
    }

    pub(crate) fn contains(&self, digest: u64) -> bool {
        self.envelopes.contains_key(&digest)
    }

    pub(crate) fn get(&self, digest: u64) -> &Envelope {
        &self.envelopes[&digest]
    }

    pub(crate) fn insert(&mut self, digest: u64, envelope: &Arc<Envelope>) {
        if self.envelopes.insert(digest, Arc::clone(envelope)).is_none() {
            self.digest = self.digest.wrapping_add(digest);
        }
    }
}

impl Envelope {
    pub(crate) fn digest(&self) -> u64 {
        digest(self, &[])
    }
}
