//! What is chosen, as an onlooker sees it who knows every disk: a value is chosen in a slot once a
//! phase-2 quorum of acceptors has durably accepted it at one ballot. Whatever a replica says,
//! writes or delivers is held against that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use xxhash_rust::xxh3::xxh3_64;

use super::{
    check::{Check, Violation, ensure},
    occurrence::{Occurrence, Occurrences},
    transcript,
};
use crate::{
    message::{Accept, Accepted, Compared, Message, Promise, Watermark},
    port::{Checkpoint, Image, StateHasher, WriteBatch},
    replica::SessionTable,
    types::{Ballot, Membership, NodeId, Phase, Slot, Value},
};

/// The check that fails here, unless it says otherwise.
const CHECK: Check = Check::Log;

/// The onlooker's knowledge of the log.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The memberships that have effect, and the first slot that each governs.
    memberships: Vec<(Slot, Arc<Membership>)>,
    /// Who was a member and is none any more.
    removed: BTreeSet<NodeId>,
    /// What each node has durably promised.
    promised: BTreeMap<NodeId, Ballot>,
    /// What was proposed: one value per slot and ballot.
    proposals: BTreeMap<(Slot, Ballot), Value>,
    /// Who was sent it.
    asked: BTreeSet<(Slot, Ballot, NodeId)>,
    /// The highest ballot at which something was proposed per slot.
    newest: BTreeMap<Slot, Ballot>,
    votes: BTreeMap<(Slot, Ballot), BTreeSet<NodeId>>,
    /// The value of each chosen slot and the lowest ballot known to have chosen it.
    chosen: BTreeMap<Slot, (Ballot, Value)>,
    /// Every slot up to here is chosen.
    prefix: Slot,
    /// The hash of the chosen prefix, as the first replica reported it.
    hashes: BTreeMap<Slot, u64>,
    /// The session table as of the chosen prefix, and a digest of it for each slot.
    sessions: SessionTable,
    session_digests: BTreeMap<Slot, u64>,
}

impl Ledger {
    /// Nothing is proposed yet.
    pub(super) fn new(membership: &Membership, sessions_bytes_max: usize) -> Ledger {
        Ledger {
            memberships: vec![(Slot::ZERO, Arc::new(membership.clone()))],
            removed: BTreeSet::new(),
            promised: BTreeMap::new(),
            proposals: BTreeMap::new(),
            asked: BTreeSet::new(),
            newest: BTreeMap::new(),
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            prefix: Slot::ZERO,
            hashes: BTreeMap::new(),
            sessions: SessionTable::restore(&Checkpoint::default(), membership, sessions_bytes_max)
                .expect("an empty table"),
            session_digests: BTreeMap::new(),
        }
    }

    /// The membership that was chosen last.
    pub(super) fn newest_membership(&self) -> &Arc<Membership> {
        &self.memberships.last().expect("there is a first one").1
    }

    /// Who was a member and is none any more.
    pub(super) fn removed(&self) -> &BTreeSet<NodeId> {
        &self.removed
    }

    /// The membership of a version.
    pub(super) fn membership(&self, version: u64) -> Option<&Arc<Membership>> {
        self.memberships.get(usize::try_from(version).ok()?).map(|(_, membership)| membership)
    }

    /// The membership that decides a slot: what is chosen a window before it is known by the time that
    /// anybody proposes there.
    fn governing(&self, slot: Slot) -> &Membership {
        let mut newest_first = self.memberships.iter().rev();
        &newest_first.find(|(from, _)| *from <= slot).expect("the first one governs slot 0").1
    }

    /// A membership is chosen: it governs a window later, if it follows on one that governs already.
    fn note_membership(&mut self, slot: Slot, next: &Arc<Membership>) -> Result<(), Violation> {
        let (from, newest) = self.memberships.last().expect("there is a first one");
        if next.version() == newest.version() + 1 && *from <= slot {
            let from = slot.plus(newest.window());
            let removed = newest.members().map(|(id, _)| id).filter(|id| !next.is_member(*id));
            self.removed.extend(removed);
            self.memberships.push((from, Arc::clone(next)));
            self.sessions.on_membership(next);
            let again = next.members().find(|(id, _)| self.removed.contains(id));
            ensure!(again.is_none(), "slot {slot} makes {again:?} a member again, who was removed");
        }
        Ok(())
    }

    /// Every slot up to here is chosen.
    pub(super) fn prefix(&self) -> Slot {
        self.prefix
    }

    /// Checks a message that leaves `from`, whose disk holds `disk`.
    pub(super) fn sent(
        &mut self,
        from: NodeId,
        to: NodeId,
        message: &Message,
        disk: &Image,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        match message {
            Message::Prepare(prepare) => {
                let ballot = prepare.ballot;
                ensure!(ballot.node == from, "node {from} prepares ballot {ballot} of another");
                ensure!(
                    disk.promised >= ballot,
                    "node {from} sends a Prepare of ballot {ballot} that its own acceptor has not \
                     durably promised"
                );
            }
            Message::Promise(promise) => self.sent_promise(from, promise, disk)?,
            Message::Accept(accept) => self.sent_accept(from, to, accept, disk, seen)?,
            Message::Accepted(accepted) => self.sent_accepted(from, accepted, disk)?,
            Message::Reject(reject) => {
                let (ballot, promised) = (reject.ballot, reject.promised);
                ensure!(
                    promised > ballot,
                    "node {from} rejects {ballot} for its promise {promised}"
                );
            }
            Message::Chosen(up_to) => self.told_watermark(from, up_to.chosen)?,
            Message::Heartbeat(heartbeat) => {
                let ballot = heartbeat.ballot;
                ensure!(ballot.node == from, "node {from} leads with ballot {ballot} of another");
                self.told_watermark(from, heartbeat.chosen)?;
            }
            Message::HeartbeatReply(reply) => self.told_watermark(from, reply.chosen)?,
            Message::Compare(compare) => self.told_watermark(from, compare.at)?,
            Message::Compared(Compared { slot, hash }) => {
                self.told_watermark(from, Watermark { slot: *slot, hash: *hash })?;
            }
            Message::Poll(poll) => self.told_chosen(from, poll.chosen)?,
            Message::PollReply(reply) => self.told_chosen(from, reply.chosen)?,
            Message::Joined(joined) => self.told_chosen(from, joined.chosen)?,
            Message::Pulled(pulled) => {
                self.told_chosen(from, pulled.chosen)?;
                for (slot, value) in &pulled.values {
                    self.check_chosen(from, "teaches", *slot, value)?;
                }
            }
            Message::PulledState(piece) => self.told_watermark(from, piece.at)?,
            // A new leader's read index may be a slot that it has yet to see chosen.
            Message::ReadReply(_)
            | Message::StateDigest(_)
            | Message::Reconfigure(_)
            | Message::ChangeRefused(_)
            | Message::Removed(_)
            | Message::Join
            | Message::Offered(_)
            | Message::Sound(_)
            | Message::Sounded(_)
            | Message::TakeOver(_)
            | Message::Pull(_)
            | Message::PullState(_)
            | Message::Propose(_)
            | Message::Read(_) => {}
        }
        Ok(())
    }

    fn sent_accept(
        &mut self,
        from: NodeId,
        to: NodeId,
        accept: &Accept,
        disk: &Image,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        let (slot, ballot) = (accept.slot, accept.ballot);
        ensure!(ballot.node == from, "node {from} proposes at ballot {ballot} of another");
        ensure!(
            disk.promised >= ballot,
            "node {from} proposes at ballot {ballot}, which its own acceptor has not durably promised"
        );
        let membership = self.governing(slot);
        let has_promised =
            |voter: &NodeId| self.promised.get(voter).is_some_and(|promised| *promised >= ballot);
        let promises = membership.voters().filter(has_promised).count();
        ensure!(
            promises >= membership.quorum_size(Phase::One),
            "node {from} proposes at ballot {ballot} in slot {slot} with the promises of {promises} of its voters"
        );
        ensure!(
            membership.is_voter(from) || self.newest_membership().is_voter(from),
            "node {from} proposes in slot {slot}, where it does not vote, nor anywhere later"
        );
        ensure!(
            slot <= accept.chosen.slot.plus(membership.window()),
            "node {from} proposes in slot {slot} with {} chosen; there the window is {}",
            accept.chosen.slot,
            membership.window()
        );
        self.told_watermark(from, accept.chosen)?;
        if !self.asked.insert((slot, ballot, to)) {
            seen.add(Occurrence::AcceptRepeated);
        }
        self.propose(slot, ballot, &accept.value, seen)
    }

    /// A value is proposed, by an Accept or by the leader's own vote.
    fn propose(
        &mut self,
        slot: Slot,
        ballot: Ballot,
        value: &Value,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        if let Some(known) = self.proposals.get(&(slot, ballot)) {
            ensure!(
                known == value,
                "slot {slot} has two values at ballot {ballot}: {} and {}",
                transcript::value(known),
                transcript::value(value)
            );
            return Ok(());
        }
        let newest = self.newest.entry(slot).or_default();
        let earlier = *newest;
        *newest = earlier.max(ballot);
        if *value == Value::Noop {
            let mut above = self.newest.range(slot.next()..);
            if above.any(|(_, &other)| other < ballot) {
                seen.add(Occurrence::HoleFilled);
            }
        } else if earlier > Ballot::ZERO && earlier < ballot {
            seen.add(Occurrence::ValueRecovered);
        }
        if let Some((at, chosen)) = self.chosen.get(&slot) {
            ensure!(
                ballot < *at || chosen == value,
                "ballot {ballot} proposes {} in slot {slot}, where {} is chosen at {at}",
                transcript::value(value),
                transcript::value(chosen)
            );
        }
        self.proposals.insert((slot, ballot), value.clone());
        Ok(())
    }

    /// A promise must be durable, and report every older vote in its range.
    fn sent_promise(
        &mut self,
        from: NodeId,
        promise: &Promise,
        disk: &Image,
    ) -> Result<(), Violation> {
        let ballot = promise.ballot;
        ensure!(
            disk.promised >= ballot,
            "node {from} sends a promise of {ballot}, but durable is {}",
            disk.promised
        );
        self.told_chosen(from, promise.chosen)?;
        let reported: BTreeMap<_, _> =
            promise.records.iter().map(|record| (record.slot, record)).collect();
        let in_order = promise.records.windows(2).all(|pair| pair[0].slot < pair[1].slot);
        ensure!(in_order, "the records in a promise of node {from} are out of order");
        for record in &promise.records {
            if record.slot <= promise.chosen || record.ballot == Ballot::CHOSEN {
                self.check_chosen(from, "promises as chosen", record.slot, &record.value)?;
            }
        }
        let end = promise.next.unwrap_or(Slot(u64::MAX));
        if promise.from >= end {
            return Ok(());
        }
        if promise.floor < promise.from {
            // What it has voted for and compacted since is in the report all the same.
            for slot in promise.from.through(disk.floor.min(end.previous())) {
                let mut votes = self.votes.range((slot, Ballot::ZERO)..(slot, ballot));
                ensure!(
                    reported.contains_key(&slot)
                        || !votes.any(|(_, voters)| voters.contains(&from)),
                    "node {from} promises {ballot} without its vote in slot {slot}, which is compacted"
                );
            }
        } else {
            return Ok(());
        }
        let votes = disk.records.range(promise.from..end).map(|(_, record)| record);
        for vote in votes.filter(|record| record.ballot < ballot) {
            let known = reported.get(&vote.slot);
            ensure!(
                known.is_some_and(|known| known.ballot >= vote.ballot),
                "node {from} promises {ballot} without its vote {} = {} at {}",
                vote.slot,
                transcript::value(&vote.value),
                vote.ballot
            );
        }
        Ok(())
    }

    /// Checks a batch that becomes durable at `node`, whose disk held `before`.
    pub(super) fn written(
        &mut self,
        node: NodeId,
        batch: &WriteBatch,
        before: &Image,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        let promised = batch.promised.unwrap_or(before.promised);
        ensure!(
            promised >= before.promised,
            "the promise of node {node} falls from {} to {promised}",
            before.promised
        );
        // A leader may go on with a promise that was given and has been lost with its disk.
        let given = self.promised.entry(node).or_default();
        *given = promised.max(*given);
        let mut records = BTreeMap::new();
        for record in &batch.records {
            let (slot, ballot) = (record.slot, record.ballot);
            if let Some(earlier) = records.insert(slot, record).or(before.records.get(&slot)) {
                ensure!(
                    ballot >= earlier.ballot,
                    "node {node} overwrites its vote in slot {slot} at {} by one at {ballot}",
                    earlier.ballot
                );
            }
            if ballot == Ballot::CHOSEN {
                self.check_chosen(node, "writes as chosen", slot, &record.value)?;
                continue;
            }
            ensure!(
                ballot.is_proposable() && ballot <= promised,
                "node {node} votes at {ballot} in slot {slot}, promised is {promised}"
            );
            self.vote(node, slot, ballot, &record.value, seen)?;
        }
        let chosen = batch.chosen.unwrap_or(before.chosen);
        ensure!(
            chosen.slot >= before.chosen.slot,
            "the watermark of node {node} falls from {} to {}",
            before.chosen.slot,
            chosen.slot
        );
        self.written_checkpoint(node, batch, before, seen)?;
        let floor = batch.floor.unwrap_or(before.floor);
        for slot in before.chosen.slot.max(floor).next().through(chosen.slot) {
            let record = records.get(&slot).copied().or(before.records.get(&slot));
            let Some(record) = record else {
                let what =
                    format!("writes watermark {} without a record of slot {slot}", chosen.slot);
                return Err(Violation::of(CHECK, format!("node {node} {what}")));
            };
            self.check_chosen(node, "keeps below its watermark", slot, &record.value)?;
        }
        self.told_watermark(node, chosen)
    }

    /// A checkpoint is of what is chosen, has the sessions and the state as of its slot, and is no older
    /// than the one before; the floor is at or below it.
    fn written_checkpoint(
        &mut self,
        node: NodeId,
        batch: &WriteBatch,
        before: &Image,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        let checkpoint = batch.checkpoint.as_ref().unwrap_or(&before.checkpoint);
        let Watermark { slot, hash: _ } = checkpoint.at;
        if batch.checkpoint.is_some() {
            ensure!(
                slot >= before.checkpoint.at.slot,
                "node {node} puts a checkpoint of slot {slot} in place of one of {}",
                before.checkpoint.at.slot
            );
            self.told_watermark(node, checkpoint.at)?;
            let sessions = xxh3_64(&checkpoint.sessions);
            ensure!(
                self.session_digests.get(&slot) == Some(&sessions),
                "the checkpoint of node {node} has other sessions than those as of slot {slot}"
            );
            seen.add(match checkpoint.state {
                Some(_) => Occurrence::CheckpointWritten,
                None => Occurrence::CheckpointOfDisk,
            });
            if batch.chosen.is_some_and(|chosen| chosen.slot == slot && batch.floor == Some(slot)) {
                seen.add(Occurrence::CheckpointInstalled);
            }
        }
        if let Some(state) = checkpoint.state.filter(|_| batch.checkpoint.is_some()) {
            let mut states = before.states.clone();
            states.apply(batch, &before.checkpoint);
            let mut found = StateHasher::default();
            found.update(&states.read(slot, 0, usize::MAX));
            ensure!(
                found.summary() == state,
                "the state of node {node} as of slot {slot} is {:?}, its checkpoint says {state:?}",
                found.summary()
            );
        }
        if let Some(floor) = batch.floor {
            seen.add(Occurrence::FloorRaised);
            ensure!(
                before.floor <= floor && floor <= slot,
                "node {node} compacts up to slot {floor}, after {}, with a checkpoint of slot {slot}",
                before.floor
            );
        }
        Ok(())
    }

    fn vote(
        &mut self,
        node: NodeId,
        slot: Slot,
        ballot: Ballot,
        value: &Value,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        self.propose(slot, ballot, value, seen)?;
        self.votes.entry((slot, ballot)).or_default().insert(node);
        let (membership, votes) = (self.governing(slot), &self.votes[&(slot, ballot)]);
        let count = votes.iter().filter(|voter| membership.is_voter(**voter)).count();
        if count < membership.quorum_size(Phase::Two) {
            return Ok(());
        }
        let known = self.chosen.get(&slot);
        if known.is_some_and(|(at, chosen)| *at <= ballot && chosen == value) {
            return Ok(());
        }
        self.choose(slot, ballot, value, seen)
    }

    /// A quorum has voted at a ballot that has not been known to choose.
    fn choose(
        &mut self,
        slot: Slot,
        ballot: Ballot,
        value: &Value,
        seen: &mut Occurrences,
    ) -> Result<(), Violation> {
        if let Some((at, chosen)) = self.chosen.get(&slot) {
            ensure!(
                chosen == value,
                "slot {slot} chose {} at {at} and chooses {} at {ballot}",
                transcript::value(chosen),
                transcript::value(value)
            );
        } else if slot > self.prefix.next() {
            seen.add(Occurrence::ChosenOutOfOrder);
        }
        self.chosen.insert(slot, (ballot, value.clone()));
        while let Some((_, value)) = self.chosen.get(&self.prefix.next()) {
            self.prefix = self.prefix.next();
            let (batch, membership) = match value {
                Value::Batch(batch) => (Some(batch), None),
                Value::Noop => (None, None),
                Value::Reconfigure(change) => (None, Some(Arc::clone(change.membership()))),
            };
            let (bytes, epoch) = (self.sessions.bytes(), self.sessions.forgotten_epoch());
            self.sessions.take_in(self.prefix, batch);
            if let Some(membership) = membership {
                self.note_membership(self.prefix, &membership)?;
            }
            if self.sessions.forgotten_epoch() > epoch {
                seen.add(Occurrence::ClientForgotten);
            } else if self.sessions.bytes() < bytes {
                seen.add(Occurrence::RangesForgotten);
            }
            self.session_digests.insert(self.prefix, xxh3_64(&self.sessions.encode()));
        }
        let later = self.proposals.range((slot, ballot)..(slot.next(), Ballot::ZERO));
        for (&(_, later), other) in later {
            ensure!(
                other == value,
                "slot {slot} chooses {} at {ballot}, but ballot {later} has proposed {}",
                transcript::value(value),
                transcript::value(other)
            );
        }
        Ok(())
    }

    /// Checks that `node` rightly takes `value` for chosen.
    pub(super) fn check_chosen(
        &self,
        node: NodeId,
        verb: &str,
        slot: Slot,
        value: &Value,
    ) -> Result<(), Violation> {
        let known = self.chosen.get(&slot).map(|(_, chosen)| chosen);
        let truth = || match known {
            Some(chosen) => format!("{} is chosen", transcript::value(chosen)),
            None => "nothing is chosen yet".to_owned(),
        };
        ensure!(
            known == Some(value),
            "node {node} {verb} {} in slot {slot}, where {}",
            transcript::value(value),
            truth()
        );
        Ok(())
    }

    fn told_chosen(&self, node: NodeId, watermark: Slot) -> Result<(), Violation> {
        ensure!(
            watermark <= self.prefix,
            "node {node} takes every slot up to {watermark} for chosen; only {} are",
            self.prefix
        );
        Ok(())
    }

    fn told_watermark(&mut self, node: NodeId, watermark: Watermark) -> Result<(), Violation> {
        self.told_chosen(node, watermark.slot)?;
        let hash = *self.hashes.entry(watermark.slot).or_insert(watermark.hash);
        ensure!(
            hash == watermark.hash,
            "node {node} has another hash of the chosen prefix up to slot {}",
            watermark.slot
        );
        Ok(())
    }

    /// A vote must be durable before anyone hears of it. Of a chosen slot the record of any vote
    /// will do, for its value is the only one that can be voted for.
    fn sent_accepted(
        &self,
        from: NodeId,
        accepted: &Accepted,
        disk: &Image,
    ) -> Result<(), Violation> {
        let ballot = accepted.ballot;
        ensure!(disk.promised >= ballot, "node {from} votes at {ballot}, not promised durably");
        let (first, last) = (accepted.first, accepted.last);
        ensure!(first <= last, "node {from} votes for the empty range {first}..{last}");
        for slot in first.max(disk.floor.next()).through(last) {
            let durable = disk.records.get(&slot);
            ensure!(
                durable.is_some_and(|record| {
                    record.ballot >= ballot
                        || self.check_chosen(from, "keeps", slot, &record.value).is_ok()
                }),
                "node {from} says it accepted slot {slot} at {ballot}, but that is not durable"
            );
        }
        Ok(())
    }
}
