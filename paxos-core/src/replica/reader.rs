//! Reads. A linearizable one is confirmed by a quorum, and returns a state at least as new as every write that
//! was acknowledged before it began:
//!
//! 1. When it reaches the leader, its index is fixed: the chosen watermark, or the last slot that
//!    phase 1 recovered if that is higher. Every acknowledged write lies at or below.
//! 2. A round of heartbeats that *begins after* the read arrived is answered by a quorum: no other
//!    leader can have had anything chosen before that. All waiting reads share the round.
//! 3. The node that reads has delivered the index.
//!
//! A follower asks the leader for steps 1 and 2, once for all its waiting reads, and serves them
//! from its own state.
//!
//! A read at a known slot takes step 3 alone, and one that is local none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    context::Context, followers::Followers, learner::Learner, origin::Target, outbox::Outbox,
    proposer::Leading,
};
use crate::{
    config::Config,
    limits,
    message::{Message, ReadReply, ReadRequest},
    planted::planted,
    types::{ClientId, Instant, NodeId, ReadMode, Slot},
};

/// Reads on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    /// This node's reads that somebody still waits for; the lists below may name others too.
    alive: BTreeSet<u64>,
    /// Reads given up since the lists were last cleared of them.
    given_up: usize,
    /// Not sent anywhere yet.
    gathering: Vec<u64>,
    /// Sent to the leader.
    asked: Option<Asked>,
    /// At the leader: the round that confirms the read, and its index.
    confirming: VecDeque<(u64, Slot, Reading)>,
    /// Waiting for nothing but that their index is delivered.
    indexed: BTreeMap<Slot, Vec<u64>>,
    /// Counts the ways taken by other nodes, when the leader did not answer.
    ways_taken: usize,
}

#[derive(Clone, Debug)]
struct Asked {
    number: u64,
    reads: Vec<u64>,
    /// Where the request went last, and when.
    target: Option<Target>,
    at: Instant,
}

#[derive(Clone, Debug)]
enum Reading {
    Own(u64),
    Peer { via: NodeId, client: ClientId, number: u64 },
}

/// What the leader adds to a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaderView {
    /// The round that confirms a read that arrives now: the next one.
    confirmed_by: u64,
    /// The index of a read that arrives now.
    index: Slot,
}

impl LeaderView {
    pub(super) fn of(leading: &Leading, followers: &Followers, learner: &Learner) -> LeaderView {
        let (chosen, recovered) = (learner.chosen().slot, leading.recovered_last());
        LeaderView {
            confirmed_by: followers.round() + 1 - u64::from(planted!(RoundReused)),
            index: if planted!(ReadBeforeRecovered) { chosen } else { chosen.max(recovered) },
        }
    }
}

impl Reader {
    /// Reads of this node that wait.
    pub(super) fn len(&self) -> usize {
        self.alive.len()
    }

    /// Whether there is nothing to do.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.alive.is_empty()
            && self.gathering.is_empty()
            && self.asked.is_none()
            && self.confirming.is_empty()
            && self.indexed.is_empty()
    }

    /// Takes a read of this node's own, or refuses it because too many wait; one that waits for nothing is
    /// always served.
    pub(super) fn read(&mut self, number: u64, mode: ReadMode, out: &mut Outbox) {
        if self.alive.len() >= limits::READS_MAX && mode != ReadMode::Local {
            out.effects().reads_refused.push(number);
            return;
        }
        self.alive.insert(number);
        match mode {
            ReadMode::Quorum => self.gathering.push(number),
            ReadMode::AtLeast(slot) => self.indexed.entry(slot).or_default().push(number),
            ReadMode::Local => self.indexed.entry(Slot::ZERO).or_default().push(number),
        }
    }

    /// Nobody waits for the read any more. The lists are cleared of such reads once there are many:
    /// clients that give up and ask again may outrun a leader that finds no quorum.
    pub(super) fn give_up(&mut self, number: u64) {
        self.given_up += usize::from(self.alive.remove(&number));
        if self.given_up >= limits::READS_MAX {
            self.given_up = 0;
            self.clear_given_up();
        }
    }

    fn clear_given_up(&mut self) {
        let alive = &self.alive;
        self.gathering.retain(|number| alive.contains(number));
        if let Some(asked) = &mut self.asked {
            asked.reads.retain(|number| alive.contains(number));
        }
        self.confirming.retain(|(_, _, reading)| match reading {
            Reading::Own(number) => alive.contains(number),
            Reading::Peer { .. } => true,
        });
        self.indexed.retain(|_, reads| {
            reads.retain(|number| alive.contains(number));
            !reads.is_empty()
        });
    }

    /// Reads in the lists, given up or not, the peers' included.
    pub(super) fn listed(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |asked| asked.reads.len());
        let indexed: usize = self.indexed.values().map(Vec::len).sum();
        self.gathering.len() + asked + self.confirming.len() + indexed
    }

    /// Takes a peer's read at the leader. What exceeds the bound is dropped; the peer asks again.
    pub(super) fn on_request(&mut self, via: NodeId, request: &ReadRequest, leader: LeaderView) {
        if self.confirming.len() < 2 * limits::READS_MAX {
            let (client, number) = (request.client, request.number);
            self.await_round(leader, Reading::Peer { via, client, number });
        }
    }

    /// At the leader: a read waits for the next round, behind those that wait for an earlier one.
    fn await_round(&mut self, leader: LeaderView, reading: Reading) {
        let last = self.confirming.back().map_or(0, |&(needed, _, _)| needed);
        assert!(last <= leader.confirmed_by, "a read waits for round {last}, of an earlier leader");
        self.confirming.push_back((leader.confirmed_by, leader.index, reading));
    }

    /// Takes the leader's answer.
    pub(super) fn on_reply(&mut self, number: u64, index: Slot) {
        if let Some(asked) =
            self.asked.take_if(|asked| asked.number == number || planted!(AnswerToAnotherRead))
        {
            self.indexed.entry(index).or_default().extend(asked.reads);
        }
    }

    /// Sends waiting reads on their way: into the leader's next round here, or to `target`.
    pub(super) fn dispatch(
        &mut self,
        target: Option<Target>,
        leader: Option<LeaderView>,
        client: ClientId,
        numbers: &mut u64,
        cx: &mut Context<'_>,
    ) {
        if let Some(leader) = leader {
            let asked = self.asked.take().into_iter().flat_map(|asked| asked.reads);
            let gathered = std::mem::take(&mut self.gathering);
            asked.chain(gathered).for_each(|read| self.await_round(leader, Reading::Own(read)));
            return;
        }
        if self.asked.is_none() && !self.gathering.is_empty() && target.is_some() {
            *numbers += 1;
            let reads = std::mem::take(&mut self.gathering);
            self.asked = Some(Asked { number: *numbers, reads, target: None, at: cx.now });
        }
        self.ask(target, client, cx);
    }

    /// Sends the request for the reads that were asked for last, unless it has just gone to this
    /// target. It keeps its number, however often it goes: an answer that takes longer than the
    /// patience of this node is still an answer.
    fn ask(&mut self, target: Option<Target>, client: ClientId, cx: &mut Context<'_>) {
        let Some(asked) = &mut self.asked else { return };
        let overdue = asked.at.after(cx.config.retransmit_timeout) <= cx.now;
        if asked.target == target && !overdue {
            return;
        }
        asked.reads.retain(|number| self.alive.contains(number));
        if asked.reads.is_empty() {
            self.asked = None;
            return;
        }
        (asked.target, asked.at) = (target, cx.now);
        let Some(Target::Peer(peer, _)) = target else { return };
        let request = ReadRequest { client, number: asked.number, hops: 0 };
        let way = overdue.then(|| cx.another_way(peer, &mut self.ways_taken));
        if let Some(via) = way.flatten() {
            cx.out.send(via, Message::Read(request.clone()));
        }
        cx.out.send(peer, Message::Read(request));
    }

    /// At the leader: begins a round of heartbeats if reads wait for one, and goes on with those that
    /// one has confirmed. One round at a time: reads that arrive meanwhile share the next.
    pub(super) fn confirm(
        &mut self,
        leading: &mut Leading,
        followers: &mut Followers,
        learner: &Learner,
        cx: &mut Context<'_>,
    ) {
        let is_idle = followers.confirmed_round(cx) == followers.round();
        if is_idle && self.wants_round(followers.round()) {
            leading.beat(followers, learner, cx);
        }
        self.on_confirmed(followers.confirmed_round(cx), learner.chosen().slot, cx);
    }

    /// Whether a read waits for a round that has not begun.
    fn wants_round(&self, round: u64) -> bool {
        self.confirming.back().is_some_and(|&(needed, _, _)| needed > round)
    }

    /// A quorum has answered `round`: serves what waited for it or an earlier one. An index that phase 1 has
    /// recovered is told only once it is chosen: if another leader comes before, the slot may stay empty for
    /// as long as nobody proposes, and who waited for it would wait as long.
    fn on_confirmed(&mut self, round: u64, chosen: Slot, cx: &mut Context<'_>) {
        let is_due = |&mut (needed, index, _): &mut (u64, Slot, Reading)| {
            (needed <= round || planted!(ReadUnconfirmed)) && index <= chosen
        };
        while let Some((_, index, reading)) = self.confirming.pop_front_if(is_due) {
            match reading {
                Reading::Own(number) => self.indexed.entry(index).or_default().push(number),
                Reading::Peer { via, client, number } => {
                    let reply = ReadReply { client, number, index };
                    cx.out.send(via, Message::ReadReply(reply));
                }
            }
        }
    }

    /// This node does not lead any more: its own reads start over, the peers ask again.
    pub(super) fn on_deposed(&mut self) {
        let is_asked = self.asked.is_some();
        for (_, _, reading) in self.confirming.drain(..) {
            if let Reading::Own(number) = reading {
                assert!(!is_asked, "read {number} waits here, and others at another leader");
                self.gathering.push(number);
            }
        }
    }

    /// Reads whose index has been delivered.
    pub(super) fn take_ready(&mut self, delivered: Slot) -> Vec<u64> {
        let mut ready = Vec::new();
        while let Some(reads) = self.indexed.first_entry()
            && (*reads.key() <= delivered || planted!(ReadBeforeApplied))
        {
            ready.extend(reads.remove());
        }
        ready.retain(|number| self.alive.remove(number));
        ready
    }

    #[inline]
    pub(super) fn next_deadline(&self, config: &Config) -> Option<Instant> {
        self.asked.as_ref().map(|asked| asked.at.after(config.retransmit_timeout))
    }
}
