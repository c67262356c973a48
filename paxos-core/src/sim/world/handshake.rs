//! Who lets whom in. A connection begins with a handshake, in which each side names its disk; a node
//! remembers the disks of its peers, and has nothing to do with one that comes back with another.
//!
//! The rule is the [real one](StoreId::acquaintance), and as in the real node what is known of a peer
//! counts at once and is written down before anything that the peer causes, with no reply waiting for
//! it. When connections are made and lost is not simulated: each message has one.

use super::{Violation, World, id_of};
use crate::{
    port::WriteBatch,
    sim::occurrence::Occurrence,
    types::{Acquaintance, StoreId},
};

impl World<'_> {
    /// The disks of a node and of the one that it is about to send something, if it has not met that
    /// one with another disk.
    pub(super) fn connect(&mut self, node: usize, to: usize) -> Option<[StoreId; 2]> {
        let stores = [node, to].map(|node| self.stations[node].host.disk.store());
        let known = self.stations[node].roster.get(&id_of(to)).copied();
        match stores[1].acquaintance(known) {
            Acquaintance::LostData { .. } => {
                self.seen.add(Occurrence::EmptyNodeRefused);
                None
            }
            Acquaintance::New | Acquaintance::Known => Some(stores),
        }
    }

    /// Whether a message is let in that arrives on a connection between these disks. Each side gets
    /// to know the other by it.
    pub(super) fn shake_hands(
        &mut self,
        from: usize,
        to: usize,
        [theirs, ours]: [StoreId; 2],
    ) -> Result<bool, Violation> {
        let has_store = |world: &Self, node: usize, store| {
            let host = &world.stations[node].host;
            host.is_running() && host.disk.store() == store
        };
        if !has_store(self, to, ours) {
            // The connection has ended with the process.
            return Ok(false);
        }
        let is_sender_there = has_store(self, from, theirs);
        let is_let_in = self.knows(to, from)?
            && self.admit(to, from, theirs)
            && (!is_sender_there || self.admit(from, to, ours));
        Ok(is_let_in)
    }

    /// Whether a node lets in a peer that names this disk.
    fn admit(&mut self, node: usize, peer: usize, store: StoreId) -> bool {
        let station = &mut self.stations[node];
        let peer = id_of(peer);
        match store.acquaintance(station.roster.get(&peer).copied()) {
            Acquaintance::Known => true,
            Acquaintance::LostData { .. } => {
                self.seen.add(Occurrence::EmptyNodeRefused);
                false
            }
            Acquaintance::New => {
                station.roster.insert(peer, store);
                let batch = WriteBatch { peers: [(peer, store)].into(), ..WriteBatch::default() };
                station.host.disk.enqueue(None, batch);
                self.plan_write(node);
                true
            }
        }
    }
}
