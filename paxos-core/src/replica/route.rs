//! Each message to the role it concerns.

use super::{
    Proposing, Replica,
    acceptor::{Judgement, Page},
    catchup,
    context::Context,
    effect::Halt,
    fetch::Fetched,
    followers::Followers,
    log_reads::Purpose,
    origin::Target,
    proposer::Leading,
    reader::LeaderView,
    recovery::PhaseOne,
    surroundings,
};
use crate::{
    limits,
    message::{
        Accept, Accepted, Heartbeat, HeartbeatReply, Message, Prepare, Promise, Propose, Pulled,
        PulledState, ReadReply, ReadRequest, Reject, Removed, Watermark,
    },
    planted::planted,
    types::{Ballot, Instant, NodeId, RequestId, Slot, Value},
};

impl<W> Replica<W> {
    /// A message has come in. What this node says to itself does not come in, so nothing that does is its own.
    ///
    /// Anybody may be a member of a membership that this node has yet to learn of, but for those that it knows
    /// to have been removed: they have no say, and are told if they try to lead.
    pub(super) fn receive(&mut self, now: Instant, from: NodeId, message: Message) {
        if from == self.config.id {
            return;
        }
        if !self.memberships.has_removed(from) || planted!(RemovedNodeHeard) {
            self.on_message(now, from, message);
        } else if matches!(message, Message::Poll(_) | Message::Prepare(_)) {
            let version = self.memberships.newest().version();
            self.out.send(from, Message::Removed(Removed { version }));
        }
    }

    /// Takes in what this node has said to itself; `false` if there was nothing.
    pub(super) fn take_in_own(&mut self, now: Instant) -> bool {
        let mut any = false;
        while let Some(message) = self.out.take_to_self() {
            any = true;
            self.on_message(now, self.config.id, message);
        }
        any
    }

    fn on_message(&mut self, now: Instant, from: NodeId, message: Message) {
        if !self.election.is_credible(&message) {
            tracing::warn!(node = %self.config.id, %from, "a ballot that nobody can have reached");
            return;
        }
        if let Message::Accepted(accepted) = &message {
            self.more_follows |= self.on_accepted(now, from, accepted);
            return;
        }
        if let (Message::Propose(propose), Proposing::Leading(leading, _)) =
            (&message, &mut self.proposing)
        {
            leading.unreached().on_propose(from, propose, now);
        }
        // The network may lose messages, so the node may: better than to grow. Its own bring nothing new.
        if from != self.config.id && message.brings_values() && !self.out.admit() {
            return;
        }
        self.more_follows = true;
        match message {
            Message::Poll(poll) => {
                let leading = match &self.proposing {
                    Proposing::Leading(leading, _) => Some(leading.ballot()),
                    _ => None,
                };
                let chosen = self.learner.chosen().slot;
                self.catchup.on_peer(from, poll.chosen);
                // Whoever lacks what is compacted here cannot lead with this node's promise.
                let is_far_behind = poll.chosen < self.acceptor.log().floor();
                let promises = self.can_write(now) && !is_far_behind;
                let cx = &mut surroundings!(self, now);
                self.election.on_poll(from, &poll, leading, promises, chosen, cx);
            }
            Message::PollReply(reply) => {
                self.catchup.on_peer(from, reply.chosen);
                let cx = &mut surroundings!(self, now);
                self.handovers.on_poll_reply(from, &reply, cx);
                if let Some(ballot) = self.election.on_poll_reply(from, &reply, cx) {
                    self.campaign(now, ballot);
                }
            }
            Message::Prepare(prepare) => self.on_prepare(now, from, prepare),
            Message::Promise(promise) => self.on_promise(now, from, promise),
            Message::Accept(accept) => self.on_accept(now, from, accept),
            Message::Accepted(_) => unreachable!("taken in above"),
            Message::Reject(reject) => self.on_reject(now, &reject),
            Message::Chosen(chosen) => {
                self.follow(now, from, chosen.ballot, chosen.chosen);
            }
            Message::Heartbeat(heartbeat) => self.on_heartbeat(now, from, &heartbeat),
            Message::HeartbeatReply(reply) => self.on_heartbeat_reply(now, from, &reply),
            Message::Compare(compare) => self.on_compare(now, from, compare.at),
            Message::Compared(compared) => self.on_compared(from, &compared),
            Message::StateDigest(digest) => self.on_digest(from, digest),
            Message::Reconfigure(asked) => self.on_reconfigure(now, from, &asked),
            Message::ChangeRefused(refused) => self.on_change_refused(now, &refused),
            Message::Removed(removed) => {
                let newest = self.memberships.newest();
                // Whoever knows of it itself, and misses a few slots still, would not get them any more.
                let is_so =
                    removed.version > newest.version() || newest.has_removed(self.config.id);
                self.out.halt(is_so.then_some(Halt::Removed));
            }
            Message::Join => self.on_join(from),
            Message::Joined(joined) => self.on_joined(from, &joined),
            Message::Sound(sound) => self.on_sound(now, from, sound),
            Message::Sounded(sounded) => self.on_sounded(now, from, sounded),
            Message::TakeOver(told) => self.on_take_over(now, from, told),
            Message::Pull(pull) => {
                let cx = &mut surroundings!(self, now);
                if !catchup::serve(from, &pull, &self.learner, &self.acceptor, cx) {
                    self.read_log(Purpose::Pull(from, pull));
                }
            }
            Message::Pulled(pulled) => self.on_pulled(now, from, pulled),
            Message::PullState(pull) => {
                let (checkpoints, reads) = (&mut self.checkpoints, &mut self.state_reads);
                let cx = &mut surroundings!(self, now);
                self.serving.on_request(from, &pull, checkpoints, &self.learner, reads, cx);
            }
            Message::PulledState(piece) => self.on_pulled_state(now, from, piece),
            Message::Propose(propose) => self.on_propose(propose),
            Message::Offered(offered) => {
                let cx = &surroundings!(self, now);
                if let Proposing::Leading(leading, _) = &mut self.proposing
                    && leading.ballot() == offered.ballot
                {
                    leading.unreached().on_offered(from, &offered, cx);
                }
            }
            Message::Read(request) => self.on_read(from, &request),
            Message::ReadReply(reply) => self.on_read_reply(reply),
        }
    }

    /// A ballot above this node's own has come up: it neither leads nor tries to any more.
    fn yield_to(&mut self, now: Instant, ballot: Ballot) {
        self.election.note_ballot(ballot);
        let own = match &self.proposing {
            Proposing::Not => return,
            Proposing::Preparing(preparing) => preparing.ballot(),
            Proposing::Leading(leading, _) => leading.ballot(),
        };
        if ballot > own && !planted!(HigherBallotIgnored) {
            self.step_down(now);
        }
    }

    /// A slot is chosen with another value than this leader proposed: only a higher ballot can have
    /// done that. A leader that went on would send its followers a watermark over a slot at which
    /// they have accepted the wrong value, at its own ballot.
    fn yield_to_chosen(&mut self, now: Instant, slot: Slot, value: &Value) {
        if let Proposing::Leading(leading, _) = &self.proposing
            && leading.has_proposed_another(slot, value)
            && !planted!(StaleLeaderVouches)
        {
            tracing::info!(node = %self.config.id, %slot, "a higher ballot has chosen a value");
            self.step_down(now);
        }
    }

    fn on_prepare(&mut self, now: Instant, from: NodeId, prepare: Prepare) {
        if self.disk_full || !prepare.ballot.is_proposable() || prepare.from.0 == 0 {
            return;
        }
        self.yield_to(now, prepare.ballot);
        let chosen = self.learner.chosen().slot;
        let page = self.acceptor.prepare(from, &prepare, chosen, &mut surroundings!(self, now));
        if page != Page::Refused {
            self.election.on_prepare(&prepare, &mut surroundings!(self, now));
        }
        if page == Page::OnDisk {
            self.read_log(Purpose::Promise(from, prepare));
        }
    }

    fn on_promise(&mut self, now: Instant, from: NodeId, promise: Promise) {
        let Proposing::Preparing(preparing) = &mut self.proposing else { return };
        if from != self.config.id {
            self.catchup.on_peer(from, promise.chosen);
        }
        let (acceptor, learner) = (&mut self.acceptor, &self.learner);
        let cx = &mut surroundings!(self, now);
        let adopt = |slot, value, cx: &mut Context<'_>| {
            if slot > learner.chosen().slot {
                acceptor.record_chosen(slot, value, cx.out);
            }
        };
        match preparing.on_promise(from, promise, adopt, cx) {
            PhaseOne::Waiting => {}
            PhaseOne::Behind(floor) => {
                tracing::info!(node = %self.config.id, %from, %floor, "behind a peer's floor");
                self.step_down(now);
            }
            PhaseOne::Elected(reported) => {
                let difference = self.learner.advance(&self.acceptor, &mut self.memberships);
                self.differs(now, difference);
                let chosen = self.learner.chosen().slot;
                let cx = &mut surroundings!(self, now);
                let leading = Leading::begin(reported, chosen, cx);
                let promised = self.acceptor.promised();
                assert_eq!(leading.ballot(), promised, "whoever promises more does not lead");
                self.proposing = Proposing::Leading(Box::new(leading), Followers::begin(cx));
                self.election.won();
                // The peers have to learn of their leader at once.
                self.tick(now);
            }
        }
    }

    /// Something came from a leader. Returns whether it may be followed.
    fn follow(&mut self, now: Instant, from: NodeId, ballot: Ballot, chosen: Watermark) -> bool {
        let owner = ballot.is_proposable() && ballot.node == from;
        if !owner || self.acceptor.judge(from, ballot, &mut self.out) == Judgement::Outdated {
            return false;
        }
        if from != self.config.id {
            self.yield_to(now, ballot);
            self.election.on_leader(ballot, &mut surroundings!(self, now));
            self.catchup.on_peer(from, chosen.slot);
            let difference = self.learner.on_watermark(ballot, chosen);
            self.differs(now, difference);
            assert!(
                matches!(self.proposing, Proposing::Not),
                "{from} is followed at {ballot}, and this node has promised a ballot of its own"
            );
        }
        true
    }

    fn on_accept(&mut self, now: Instant, from: NodeId, accept: Accept) {
        if self.disk_full || accept.slot.0 == 0 {
            return;
        }
        if self.follow(now, from, accept.ballot, accept.chosen) {
            let difference = self.learner.advance(&self.acceptor, &mut self.memberships);
            self.differs(now, difference);
            let chosen = self.learner.chosen().slot;
            self.acceptor.accept(from, accept, chosen, &mut surroundings!(self, now));
        }
    }

    /// Counts a vote; says whether it makes anything chosen.
    fn on_accepted(&mut self, now: Instant, from: NodeId, accepted: &Accepted) -> bool {
        let Proposing::Leading(leading, followers) = &mut self.proposing else { return false };
        if accepted.ballot == leading.ballot() {
            followers.on_answer(from, now);
        }
        leading.on_accepted(from, accepted, &self.memberships, &mut self.learner, now)
    }

    fn on_reject(&mut self, now: Instant, reject: &Reject) {
        if reject.promised > reject.ballot && reject.promised.is_proposable() {
            self.yield_to(now, reject.promised);
        }
    }

    fn on_heartbeat(&mut self, now: Instant, from: NodeId, heartbeat: &Heartbeat) {
        if self.follow(now, from, heartbeat.ballot, heartbeat.chosen) {
            // The answer is to say what has been learned from it.
            let difference = self.learner.advance(&self.acceptor, &mut self.memberships);
            self.differs(now, difference);
            let reply = HeartbeatReply {
                ballot: heartbeat.ballot,
                round: heartbeat.round,
                chosen: self.learner.chosen(),
                highest_accepted: self.acceptor.log().highest(),
                can_write: self.can_write(now),
            };
            self.out.send(from, Message::HeartbeatReply(reply));
        }
    }

    fn on_heartbeat_reply(&mut self, now: Instant, from: NodeId, reply: &HeartbeatReply) {
        self.catchup.on_peer(from, reply.chosen.slot);
        self.differs(now, self.learner.compare(from, reply.chosen));
        if let Proposing::Leading(leading, followers) = &mut self.proposing
            && reply.ballot == leading.ballot()
            && let Some(since) = followers.on_reply(from, reply, now)
        {
            let cx = &mut surroundings!(self, now);
            let highest = reply.highest_accepted;
            leading.on_peer_lacks(from, highest, since, &self.learner, cx);
        }
    }

    fn on_pulled(&mut self, now: Instant, from: NodeId, pulled: Pulled) {
        if self.disk_full || self.memberships.are_unknown() {
            return;
        }
        let values = self.catchup.on_pulled(from, pulled, &self.learner);
        if !values.is_empty() {
            for (slot, value) in values {
                self.yield_to_chosen(now, slot, &value);
                self.acceptor.record_chosen(slot, value, &mut self.out);
            }
            self.catchup.on_recorded(self.out.last_write());
        }
    }

    /// A piece of a state. Whoever leads, or is about to, needs the log as it is.
    fn on_pulled_state(&mut self, now: Instant, from: NodeId, piece: PulledState) {
        let is_away = self.disk_full || self.checkpoints.is_unsettled(&self.learner);
        if is_away || !matches!(self.proposing, Proposing::Not) {
            return;
        }
        let cx = &mut surroundings!(self, now);
        self.checkpoints.abandon(&mut self.state_reads, cx.out);
        let fetched = self.catchup.on_pulled_state(from, piece, &self.learner, cx);
        if let Some(Fetched { checkpoint, sessions, memberships }) = fetched {
            tracing::info!(node = %self.config.id, %from, slot = %checkpoint.at.slot, "takes over a state");
            self.learner.install(checkpoint.at, sessions);
            self.memberships.install(memberships);
            self.origin.on_installed(self.learner.sessions());
            self.notice_life_of_checkpoint();
            self.checkpoints.install(checkpoint, self.acceptor.log_mut(), &mut self.out);
        }
    }

    /// Commands of another node: queued here, or passed on to the leader this node follows.
    fn on_propose(&mut self, propose: Propose) {
        let Propose { client, open_from, commands, hops } = propose;
        match self.target() {
            Some(Target::Here(_)) => {
                let sessions = self.learner.sessions();
                let sound = commands.into_iter().filter(|(sequence, command)| {
                    let id = RequestId { client, sequence: *sequence };
                    id.is_countable()
                        && open_from <= id.sequence
                        && command.len() <= limits::COMMAND_BYTES_MAX
                        && !sessions.is_settled(id)
                });
                self.queue.push(client, open_from, sound, &self.config);
            }
            Some(target @ Target::Peer(leader, _)) if hops == 0 && leader.0 != client.name => {
                let propose = Propose { client, open_from, commands, hops: 1 };
                target.offer(&propose, &mut self.out);
                self.out.send(leader, Message::Propose(propose));
            }
            _ => {}
        }
    }

    /// Another node's reads: confirmed here, or passed on to the leader this node follows.
    fn on_read(&mut self, from: NodeId, request: &ReadRequest) {
        match (&self.proposing, self.election.target()) {
            (Proposing::Leading(leading, followers), _) => {
                let view = LeaderView::of(leading, followers, &self.learner);
                self.reader.on_request(from, request, view);
            }
            (_, Some(Target::Peer(leader, _))) if request.hops == 0 && leader != from => {
                self.out.send(leader, Message::Read(ReadRequest { hops: 1, ..request.clone() }));
            }
            _ => {}
        }
    }

    fn on_read_reply(&mut self, reply: ReadReply) {
        if reply.client == self.client() {
            self.reader.on_reply(reply.number, reply.index);
            return;
        }
        // Not back to itself: that would be the answer to a read of an earlier life, for ever.
        let client = NodeId(reply.client.name);
        if self.memberships.peers().contains(&client) {
            self.out.send(client, Message::ReadReply(reply));
        }
    }
}
