//! How much time a candidacy is given: by the candidate itself, and by those that are to promise.
//!
//! A promise takes a write of the candidate and one of the acceptor, and each may have to wait for another
//! that is under way. A disk that takes an election timeout or two for a write is slow and not broken. So a
//! candidate waits for as long as such disks need, and twice as long each time that it has failed: disks
//! that are slower yet have somebody elected in the end. And an acceptor leaves a candidate the time that
//! its promise takes to be written, and an election timeout from then on. Meanwhile it neither polls nor
//! grants polls of others, for a higher ballot would begin all over again. A candidate that pages through a
//! promise asks for something new, and has as long again.
//!
//! None that has died holds up the others for longer: a write ends, or the disk counts as one that hangs.
//! Nor does one that is alive and not elected in all that time. Those that have promised it and have waited
//! are too few to elect another by themselves, or it would have its quorum.

use std::time::Duration;

use super::context::Context;
use crate::{
    limits,
    message::Prepare,
    planted::planted,
    types::{Instant, NodeId},
};

/// How long a candidacy goes on without a sign of progress.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(pub(super) Duration);

/// The candidacies that a node knows of.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidacies {
    /// Its own that have come to nothing since it led or followed anybody.
    failed: u32,
    /// What it has last been asked to promise, by itself perhaps, and since when that candidate has had
    /// what it needs of this node.
    asked: Option<(Prepare, Instant)>,
}

impl Candidacies {
    /// How long this node's next candidacy goes on without a sign of progress.
    pub(super) fn patience(&self, cx: &Context<'_>) -> Patience {
        if planted!(CandidacyImpatient) {
            return Patience(cx.config.election_timeout);
        }
        Patience(limits::CANDIDACY_TIMEOUTS * self.prolonged(cx))
    }

    /// How long this node waits once its candidacy has failed, at least; at most three times as long.
    pub(super) fn pause(&self, cx: &Context<'_>) -> Duration {
        self.prolonged(cx) / 8
    }

    /// An election timeout, doubled by every failure.
    fn prolonged(&self, cx: &Context<'_>) -> Duration {
        let doublings = self.failed.min(limits::CANDIDACY_DOUBLINGS_MAX);
        let doublings = if planted!(PatienceFixed) { 0 } else { doublings };
        cx.config.election_timeout * (1 << doublings)
    }

    /// This node's candidacy has come to nothing.
    pub(super) fn on_failed(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }

    /// Somebody leads.
    pub(super) fn on_leader(&mut self) {
        *self = Candidacies::default();
    }

    /// This node promises what it is asked for. Says whether that is anything new.
    pub(super) fn on_prepare(&mut self, prepare: &Prepare, now: Instant) -> bool {
        let is_new = self.asked.as_ref().is_none_or(|(asked, _)| asked != prepare);
        if is_new {
            self.asked = Some((prepare.clone(), now));
        }
        is_new
    }

    /// What this node has promised has become durable, and leaves.
    pub(super) fn on_promised(&mut self, now: Instant) {
        if let Some((_, since)) = &mut self.asked {
            *since = now;
        }
    }

    /// A peer is gone: if it is the candidate, it needs no more time. Says whether it was.
    pub(super) fn on_lost(&mut self, peer: NodeId) -> bool {
        self.asked.take_if(|(asked, _)| asked.ballot.node == peer).is_some()
    }

    /// Whether a candidate is being given time, and it is not `from`, which has given up if it polls.
    pub(super) fn has_rival(&self, from: NodeId, cx: &Context<'_>) -> bool {
        let is_recent = |(asked, since): &(Prepare, Instant)| {
            asked.ballot.node != from && cx.now.since(*since) < cx.config.election_timeout
        };
        (cx.writes_promise() || self.asked.as_ref().is_some_and(is_recent))
            && !planted!(RivalsGranted)
    }
}
