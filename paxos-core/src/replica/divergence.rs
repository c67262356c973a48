//! Whose log is another one than that of the others.
//!
//! Nodes with equal watermarks have chosen the same values, and the hash of the chosen prefix shows it:
//! followers compare their leader's with their own, and the leader theirs. A difference means that one of
//! the two has lost or damaged its log, unnoticed. It does not say which: so whoever finds one asks all
//! others what they have at that slot. **Who differs from a quorum stops**, and whoever agrees with a quorum
//! goes on: one damaged leader stops itself and nobody else. Where nobody has a quorum, nobody can be told
//! to be right, and all stop.

use smallvec::SmallVec;

use super::{
    Replica,
    context::Context,
    effect::Halt,
    learner::{Difference, Learner},
    surroundings,
};
use crate::{
    limits,
    message::{Compare, Compared, Message, Watermark},
    planted::planted,
    types::{Instant, NodeId},
};

/// A difference that has been found.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    /// What this node has chosen.
    own: Watermark,
    /// What each node has there, as far as it has said, this one included.
    said: SmallVec<[(NodeId, u64); limits::VOTERS_MAX]>,
    /// Whoever has not said by then has passed the slot long ago, or has yet to come there.
    expires_at: Instant,
}

/// What the others say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Not enough have said.
    Open,
    /// A quorum has what this node has.
    Right,
    /// A quorum has something else, or no quorum has one and the same.
    Wrong,
}

impl Doubt {
    /// Begins with what this node and `from` have, and asks the others.
    fn begin(difference: Difference, cx: &mut Context<'_>) -> Doubt {
        let Difference { own, from, hash } = difference;
        assert_ne!(own.hash, hash, "a difference");
        cx.broadcast(Message::Compare(Compare { at: own }));
        let said = [(cx.config.id, own.hash), (from, hash)].into_iter().collect();
        Doubt { own, said, expires_at: cx.now.after(cx.config.retransmit_timeout) }
    }

    /// A node says what it has.
    fn on_said(&mut self, from: NodeId, hash: u64) {
        if self.said.iter().all(|(node, _)| *node != from) {
            self.said.push((from, hash));
        }
    }

    fn finding(&self, voters: usize) -> Finding {
        finding(self.own.hash, self.said.iter().map(|(_, hash)| *hash), voters)
    }
}

/// What it means for a node with the hash `own` that these are what some of so many members have.
pub(super) fn finding(
    own: u64,
    said: impl Iterator<Item = u64> + Clone,
    members: usize,
) -> Finding {
    let of = |hash: u64| said.clone().filter(|said| *said == hash).count();
    let Some(most) = said.clone().max_by_key(|hash| of(*hash)) else { return Finding::Open };
    if of(most) > members / 2 {
        return if most == own { Finding::Right } else { Finding::Wrong };
    }
    if said.count() == members { Finding::Wrong } else { Finding::Open }
}

impl<W> Replica<W> {
    /// Takes note of a difference, unless one is being looked into.
    pub(super) fn differs(&mut self, now: Instant, difference: Option<Difference>) {
        let Some(difference) = difference else { return };
        if !self.memberships.newest().is_member(difference.from) {
            return;
        }
        if planted!(WhoeverHearsStops) {
            return self.out.halt(Some(Halt::Diverged { slot: difference.own.slot }));
        }
        self.doubt.take_if(|doubt| doubt.expires_at <= now);
        if self.doubt.is_none() {
            let Difference { own, from, .. } = difference;
            tracing::error!(
                node = %self.config.id, %from, slot = %own.slot,
                "the chosen log differs; the others are asked who is right"
            );
            self.doubt = Some(Doubt::begin(difference, &mut surroundings!(self, now)));
            self.judge_doubt();
        }
    }

    /// Another node has found a difference.
    pub(super) fn on_compare(&mut self, now: Instant, from: NodeId, at: Watermark) {
        let Some(own) = self.learner.watermark_at(at.slot) else { return };
        let Watermark { slot, hash } = own;
        self.out.send(from, Message::Compared(Compared { slot, hash }));
        self.differs(now, Learner::difference(own, from, at.hash));
    }

    /// Another node says what it has.
    pub(super) fn on_compared(&mut self, from: NodeId, compared: &Compared) {
        let is_member = self.memberships.newest().is_member(from);
        let doubt = self.doubt.as_mut().filter(|doubt| doubt.own.slot == compared.slot);
        if let Some(doubt) = doubt.filter(|_| is_member) {
            doubt.on_said(from, compared.hash);
            self.judge_doubt();
        }
    }

    fn judge_doubt(&mut self) {
        let Some(doubt) = &self.doubt else { return };
        match doubt.finding(self.memberships.newest().members().count()) {
            Finding::Open => {}
            Finding::Right => self.doubt = None,
            Finding::Wrong => self.out.halt(Some(Halt::Diverged { slot: doubt.own.slot })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Slot;

    #[test]
    fn a_quorum_decides_and_where_there_is_none_nobody_is_right() {
        for (voters, said, expected) in [
            (3, &[1, 2][..], Finding::Open),
            (3, &[1, 2, 1], Finding::Right),
            (3, &[1, 2, 2], Finding::Wrong),
            (3, &[1, 2, 3], Finding::Wrong),
            (2, &[1, 2], Finding::Wrong),
            (4, &[1, 2, 1], Finding::Open),
            (4, &[1, 2, 1, 1], Finding::Right),
            (4, &[1, 2, 2, 1], Finding::Wrong),
            (5, &[1, 2, 2], Finding::Open),
            (5, &[1, 2, 2, 2], Finding::Wrong),
            (5, &[1, 2, 1, 1], Finding::Right),
        ] {
            let own = Watermark { slot: Slot(7), hash: 1 };
            let (mut nodes, expires_at) = (1.., Instant::ZERO);
            let mut doubt = Doubt { own, said: SmallVec::new(), expires_at };
            for (node, &hash) in nodes.by_ref().zip(said) {
                doubt.on_said(NodeId(node), hash);
                doubt.on_said(NodeId(node), 1);
            }
            assert_eq!(doubt.finding(voters), expected, "{said:?} of {voters}");
        }
    }
}
