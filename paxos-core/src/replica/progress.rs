//! What follows from what has come in, in the order of the roles.

use super::{
    Input, Proposing, Replica, Task, WriteId, context::Context, log_reads::Purpose, origin::Target,
    reader::LeaderView, surroundings,
};
use crate::{
    limits,
    planted::planted,
    types::{Instant, Slot, Value},
};

/// Whether more than answers may follow from an input, as far as its kind says. Of the kinds that come
/// most often each input is looked at: all roles would have to look for work after every one of them.
pub(super) fn may_follow<W>(input: &Input<W>) -> bool {
    !matches!(
        input,
        Input::Message { .. } | Input::Persisted(_) | Input::Applied { .. } | Input::Digested(_)
    )
}

impl<W> Replica<W> {
    /// Writes up to `id` are durable. The answers that have waited for that leave; more follows only
    /// if the disk was behind and has caught up, or the next page of missing slots has waited for it.
    pub(super) fn on_persisted(&mut self, now: Instant, id: WriteId) {
        let released = self.out.on_persisted(id, now);
        if released.has_promised {
            self.election.on_promised(&mut surroundings!(self, now));
        }
        let floor = self.acceptor.log().floor();
        let is_waited_for = self.catchup.is_flowing() || self.checkpoints.waits_for_disk(floor);
        self.more_follows |= released.has_caught_up || is_waited_for;
    }

    /// The state machine has applied every slot up to `slot`, and up to `durable` so that it survives
    /// a crash. More follows if it may be given the next ones, or if these were the last of a node that has been
    /// removed.
    pub(super) fn on_applied(&mut self, slot: Slot, durable: Option<Slot>) {
        self.origin.on_applied(slot);
        self.learner.on_applied(slot);
        self.checkpoints.on_durable(durable);
        let is_waited_for = self.checkpoints.waits_for_state();
        let is_over = self.memberships.is_removed_after(slot);
        self.more_follows |=
            self.learner.delivered() < self.learner.chosen().slot || is_waited_for || is_over;
    }

    /// Goes on until nothing follows any more from what has come in, or from a deadline that has
    /// passed; what this node says to itself meanwhile is taken in, too.
    pub(super) fn go_on(&mut self, now: Instant) {
        if !self.more_follows && self.due.is_none_or(|due| due > now) {
            return;
        }
        self.tick(now);
        loop {
            self.progress(now);
            if !self.take_in_own(now) {
                break;
            }
        }
        self.announce(now);
        self.more_follows = false;
        self.due = self.earliest_deadline();
    }

    /// Whatever follows from what has come in.
    fn progress(&mut self, now: Instant) {
        self.advance(now);
        self.keep_membership(now);
        self.deliver();
        self.keep_checkpoints(now);
        self.pursue_change(now);
        self.pursue_handover(now);
        let target = self.target();
        let cx = &mut surroundings!(self, now);
        self.origin.dispatch(target, self.learner.sessions(), &mut self.queue, cx);
        if let Proposing::Leading(leading, _) = &mut self.proposing {
            let waits = self.handovers.holds_up(leading.ballot());
            leading.propose(waits, &mut self.acceptor, &self.learner, &mut self.queue, cx);
        }
        if !self.reader.is_idle() {
            self.read(now, target);
        }
        self.ask_to_join(now);
        if self.refuses_work().is_none() && !self.memberships.are_unknown() {
            let cx = &mut surroundings!(self, now);
            let reads = &mut self.state_reads;
            self.catchup.pull(&self.learner, &self.acceptor, &mut self.numbers, reads, cx);
        }
        let (chosen, persisted) = (self.learner.chosen().slot, self.out.persisted());
        self.acceptor.log_mut().evict(chosen, persisted, self.config.cache_bytes_max);
    }

    /// Sends reads on their way, and goes on with those that have come back.
    fn read(&mut self, now: Instant, target: Option<Target>) {
        let client = self.client();
        let cx = &mut surroundings!(self, now);
        let leader = match &self.proposing {
            Proposing::Leading(leading, followers) => {
                Some(LeaderView::of(leading, followers, &self.learner))
            }
            _ => None,
        };
        self.reader.dispatch(target, leader, client, &mut self.numbers, cx);
        if let Proposing::Leading(leading, followers) = &mut self.proposing {
            self.reader.confirm(leading, followers, &self.learner, cx);
        }
        // A state that waits to be put in place has not been delivered.
        let is_restoring = self.checkpoints.is_restoring() && !planted!(ReadBeforeRestored);
        let delivered = if is_restoring { Slot::ZERO } else { self.learner.delivered() };
        let ready = self.reader.take_ready(delivered);
        cx.out.effects().reads_ready.extend(ready);
    }

    /// Takes note of what has been chosen.
    fn advance(&mut self, now: Instant) {
        let before = self.learner.chosen().slot;
        let difference = self.learner.advance(&self.acceptor, &mut self.memberships);
        self.differs(now, difference);
        if let Proposing::Leading(leading, _) = &mut self.proposing {
            for slot in before.next().through(self.learner.chosen().slot) {
                if let Some((_, Value::Batch(batch))) = self.acceptor.log().get(slot) {
                    leading.announcer().on_chosen(batch, &surroundings!(self, now));
                }
            }
        }
    }

    /// Where this node's commands and reads go.
    pub(super) fn target(&self) -> Option<Target> {
        match &self.proposing {
            Proposing::Not => self.election.target(),
            Proposing::Preparing(_) => None,
            Proposing::Leading(leading, _) => Some(Target::Here(leading.ballot())),
        }
    }

    /// Hands chosen slots to the state machine, as fast as it applies them.
    fn deliver(&mut self) {
        while self.wants_delivery() {
            let slot = self.learner.delivered().next();
            match self.acceptor.log().get(slot) {
                Some((_, value)) => {
                    let value = value.clone();
                    self.deliver_value(value);
                }
                None => {
                    self.read_log(Purpose::Deliver);
                    return;
                }
            }
        }
    }

    /// Whether the state machine may be given the next slot.
    pub(super) fn wants_delivery(&self) -> bool {
        self.learner.wants_delivery(self.config.delivery_bytes_max)
            && !self.checkpoints.is_restoring()
    }

    pub(super) fn deliver_value(&mut self, value: Value) {
        let delivery = self.learner.deliver(value, &self.memberships);
        if let Value::Batch(batch) = &delivery.value {
            self.origin.on_delivered(delivery.slot, batch, &delivery.verdicts);
            self.queue.on_delivered(batch, &self.config);
            let name = self.config.id.0;
            for run in batch.runs().iter().filter(|run| run.client.name == name) {
                self.notice_life(run.client.epoch);
            }
        }
        let slot = delivery.slot;
        self.checkpoints.on_slot(delivery.value.encoded_len());
        self.out.effects().tasks.push(Task::Apply(delivery));
        self.ask_for_digest(slot);
        let (is_read, is_fetching) =
            (self.serving.is_reading_checkpoint(), self.catchup.is_fetching());
        let (learner, config) = (&self.learner, &self.config);
        if self.checkpoints.on_delivered(learner, is_read, is_fetching, config, &mut self.out) {
            self.catchup.fetch().forget();
        }
    }

    /// The log has commands that this node has proposed in some life. If its data directory knows nothing of
    /// that, it was put back from an older copy. After a later one nothing has effect any more under this
    /// life's name, so it takes one that comes after all.
    fn notice_life(&mut self, epoch: u64) {
        let own = self.client().epoch;
        if epoch == own || epoch <= self.last_incarnation {
            return;
        }
        if !std::mem::replace(&mut self.is_older_copy, true) {
            tracing::error!(
                node = %self.config.id,
                "the data directory was put back from an older copy: the log has commands that this node \
                 proposed after it, and votes that others count on may be forgotten; replace this member"
            );
        }
        if epoch > own && !planted!(OlderCopyUnnoticed) {
            let step = self.rng.u64(1..=limits::INCARNATION_STEP_MAX);
            self.origin.go_by(epoch.saturating_add(step));
        }
    }

    /// As [`notice_life`](Replica::notice_life), of a log that begins with a checkpoint.
    pub(super) fn notice_life_of_checkpoint(&mut self) {
        if let Some(epoch) = self.learner.sessions().epoch(self.config.id.0) {
            self.notice_life(epoch);
        }
    }

    /// Goes on with checkpoints, this node's own and those that others fetch.
    fn keep_checkpoints(&mut self, now: Instant) {
        let floor_max = self.serving.floor_max(&self.checkpoints, &self.config);
        let (log, reads) = (self.acceptor.log_mut(), &mut self.state_reads);
        let cx = &mut surroundings!(self, now);
        self.serving.expire(reads, cx);
        self.checkpoints.go_on(&self.learner, log, floor_max, reads, cx);
    }

    /// Announces to the peers what has been chosen, unless an Accept of this step says so anyway.
    fn announce(&mut self, now: Instant) {
        let cx = &mut surroundings!(self, now);
        if let Proposing::Leading(leading, _) = &mut self.proposing {
            let ballot = leading.ballot();
            leading.announcer().announce(ballot, self.learner.chosen(), cx);
        }
    }
}
