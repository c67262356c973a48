//! Commands that others have and their leader does not get, although it hears them: the paths to it have come
//! to lose what is large, say, and what is small still passes.
//!
//! Whoever sends a command again, or passes one on, says so beside it in a message of its own, which is small.
//! A leader makes room once a quorum of either phase, without itself, has a command that it has not got for
//! some election timeouts. All of these have got it from whoever proposed it, so the network carries it to
//! them, and they can elect one of themselves. Fewer do not move a leader: if what one node sends is lost
//! wherever it goes, no other leader would get it either. Nor does a command that has arrived, whatever has
//! become of it since; or one on a link over which others that are as large arrive, and that is merely slow.

use std::time::Duration;

use smallvec::SmallVec;

use super::context::Context;
use crate::{
    limits,
    message::{Offered, Propose},
    planted::planted,
    types::{Instant, NodeId, Phase, RequestId},
};

/// What a leader is told of and has not got.
#[derive(Clone, Debug, Default)]
pub(super) struct Unreached {
    offers: Vec<Offer>,
}

/// A command that others have.
#[derive(Clone, Debug)]
struct Offer {
    id: RequestId,
    /// What it measures, with those that went with it.
    bytes: u64,
    by: SmallVec<[NodeId; limits::VOTERS_MAX]>,
    /// When they first said so, or others as large have arrived from them, and when they last said so.
    since: Instant,
    last: Instant,
}

impl Offer {
    /// Nobody has sent it again: it is done, or given up.
    fn is_over(&self, cx: &Context<'_>) -> bool {
        cx.now >= self.last.after(cx.config.election_timeout * limits::UNREACHED_TIMEOUTS)
    }
}

impl Unreached {
    /// A peer says what it has. If there are too many already, those are enough.
    pub(super) fn on_offered(&mut self, from: NodeId, offered: &Offered, cx: &Context<'_>) {
        self.offers.retain(|offer| !offer.is_over(cx));
        let known = self.offers.iter_mut().find(|offer| offer.id == offered.id);
        if let Some(offer) = known {
            (offer.last, offer.bytes) = (cx.now, offered.bytes);
            if !offer.by.contains(&from) {
                offer.by.push(from);
            }
        } else if self.offers.len() < limits::OFFERS_MAX {
            let Offered { id, bytes, .. } = *offered;
            let by = [from].into_iter().collect();
            self.offers.push(Offer { id, bytes, by, since: cx.now, last: cx.now });
        }
    }

    /// Commands have arrived from a peer.
    pub(super) fn on_propose(&mut self, from: NodeId, propose: &Propose, now: Instant) {
        if self.offers.is_empty() {
            return;
        }
        let bytes = propose.bytes();
        let has_come = |id: RequestId| {
            id.client == propose.client
                && propose.commands.iter().any(|(sequence, _)| *sequence == id.sequence)
        };
        self.offers.retain(|offer| !has_come(offer.id));
        let are_as_large = |offer: &&mut Offer| offer.bytes <= bytes && offer.by.contains(&from);
        self.offers.iter_mut().filter(are_as_large).for_each(|offer| offer.since = now);
    }

    /// Since when this leader has not got a command that a quorum of the others have, nor `knows` it from
    /// anywhere else.
    pub(super) fn since(
        &self,
        knows: impl Fn(RequestId) -> bool,
        cx: &Context<'_>,
    ) -> Option<Instant> {
        let is_held = |offer: &&Offer| {
            if offer.is_over(cx) {
                return false;
            }
            let has = |node| node != cx.config.id && offer.by.contains(&node);
            (cx.memberships.are_quorum(&Phase::BOTH, has) || planted!(OfferOfOneSuffices))
                && !knows(offer.id)
        };
        self.offers.iter().filter(is_held).map(|offer| offer.since).min()
    }

    /// For how long a leader is given before it makes room for that.
    pub(super) fn patience(cx: &Context<'_>) -> Duration {
        match planted!(UnreachedLeaderStays) {
            true => Duration::MAX,
            false => cx.config.election_timeout * limits::UNREACHED_TIMEOUTS,
        }
    }

    /// Commands that it keeps in mind.
    pub(super) fn len(&self) -> usize {
        self.offers.len()
    }
}
