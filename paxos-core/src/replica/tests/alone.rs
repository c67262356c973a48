//! One replica among peers that say what the test says, for what a whole cluster seldom does.

use super::*;
use crate::{
    message::{HeartbeatReply, Poll},
    types::{BatchBuilder, ClientId},
};

/// Node 1 of three. Its disk is as slow as the test wants.
#[derive(Clone)]
pub(super) struct Alone {
    pub(super) replica: Replica,
    pub(super) now: Instant,
    issued: WriteId,
}

impl Alone {
    pub(super) fn new(adjust: impl FnOnce(&mut Config, &mut Recovered)) -> Alone {
        Alone::with_state(None, adjust)
    }

    /// With a state machine that keeps itself, if it is durable up to some slot.
    pub(super) fn with_state(
        durable: Option<Slot>,
        adjust: impl FnOnce(&mut Config, &mut Recovered),
    ) -> Alone {
        Alone::begin(adjust, |recovered| {
            // What is recovered has its state, too.
            durable.or(Some(recovered.checkpoint.at.slot).filter(|slot| slot.0 > 0))
        })
    }

    /// With a state in memory: what is recovered of one is in the storage.
    pub(super) fn in_memory(adjust: impl FnOnce(&mut Config, &mut Recovered)) -> Alone {
        Alone::begin(adjust, |_| None)
    }

    fn begin(
        adjust: impl FnOnce(&mut Config, &mut Recovered),
        durable: impl FnOnce(&Recovered) -> Option<Slot>,
    ) -> Alone {
        let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
        let mut config = Config::new(NodeId(1), membership);
        let mut recovered = recovered(NodeId(1));
        adjust(&mut config, &mut recovered);
        let durable = durable(&recovered);
        let replica = Replica::new(config, recovered, durable, Instant::ZERO).expect("sound");
        Alone { replica, now: Instant::ZERO, issued: WriteId(0) }
    }

    /// Has nothing, and follows node 2.
    pub(super) fn following(adjust: impl FnOnce(&mut Config)) -> Alone {
        Alone::new(|config, _| adjust(config)).follow()
    }

    /// As [`following`](Alone::following), with a state machine that keeps itself.
    pub(super) fn following_on_disk(adjust: impl FnOnce(&mut Config)) -> Alone {
        Alone::with_state(Some(Slot::ZERO), |config, _| adjust(config)).follow()
    }

    fn follow(mut self) -> Alone {
        self.hear(2, heartbeat(0));
        self
    }

    /// Leads, with node 2's promise, and has proposed nothing.
    pub(super) fn leading(adjust: impl FnOnce(&mut Config)) -> (Alone, Ballot) {
        let mut alone = Alone::new(|config, _| adjust(config));
        let ballot = alone.prepare();
        alone.hear(2, promise(ballot, vec![]));
        assert_eq!(alone.role(), Role::Leading);
        (alone, ballot)
    }

    pub(super) fn step(&mut self, input: Input) -> Effects {
        let mut effects = self.replica.step(self.now, input);
        effects.address([NodeId(2), NodeId(3)].into_iter());
        self.replica.check_invariants();
        self.issued = effects.persist.as_ref().map_or(self.issued, |(id, _)| *id);
        effects
    }

    pub(super) fn hear(&mut self, from: u64, message: Message) -> Effects {
        self.step(Input::Message { from: NodeId(from), message })
    }

    /// The disk has done everything.
    pub(super) fn persist(&mut self) -> Effects {
        self.step(Input::Persisted(self.issued))
    }

    pub(super) fn wait(&mut self, time: Duration) -> Effects {
        self.now = self.now.after(time);
        self.step(Input::Tick)
    }

    pub(super) fn propose(&mut self, id: RequestId, size: usize) -> Effects {
        self.step(proposal(self.now, id, Bytes::from(vec![7; size])))
    }

    /// Proposes what nobody waits for after this time.
    pub(super) fn propose_within(&mut self, id: RequestId, size: usize, time: Duration) {
        let (command, deadline) = (Bytes::from(vec![7; size]), self.now.after(time));
        self.step(Input::Propose(Proposal { id: Some(id), command, deadline, waiter: id }));
    }

    /// What has become of proposals since it was asked last.
    pub(super) fn answers(&mut self) -> Vec<(RequestId, Outcome)> {
        self.replica.answers().collect()
    }

    pub(super) fn role(&self) -> Role {
        self.replica.status(self.now).role
    }

    /// Time until it wants to be woken.
    pub(super) fn deadline(&self) -> Duration {
        self.replica.next_deadline().expect("a deadline").since(self.now)
    }

    /// Polls, as soon as it wants to.
    pub(super) fn poll(&mut self) -> Poll {
        let effects = self.wait(self.deadline());
        let poll = sent_to(&effects, 2).into_iter().find_map(|message| match message {
            Message::Poll(poll) => Some(poll),
            _ => None,
        });
        poll.expect("it polls")
    }

    /// Has node 2 grant its poll, and its own promise made durable; returns the ballot.
    pub(super) fn prepare(&mut self) -> Ballot {
        let poll = self.poll();
        self.granted(&poll)
    }

    pub(super) fn granted(&mut self, poll: &Poll) -> Ballot {
        let effects = self.hear(2, poll_reply(poll, true, None));
        self.persist();
        let promised = effects.persist.and_then(|(_, batch)| batch.promised);
        promised.expect("its own promise")
    }
}

/// Whom a candidate asks for a page, and the slot it begins with.
pub(super) fn prepares(effects: &Effects) -> Vec<(u64, u64)> {
    let prepare = |(to, message): &(NodeId, Message)| match message {
        Message::Prepare(prepare) => Some((to.0, prepare.from.0)),
        _ => None,
    };
    effects.send.iter().filter_map(prepare).collect()
}

/// A ballot of node 2.
pub(super) fn ballot(round: u64) -> Ballot {
    Ballot { round, node: NodeId(2) }
}

/// A request of the client `name`, which is a node if it is below 4.
pub(super) fn request(name: u64, sequence: u64) -> RequestId {
    RequestId { client: ClientId { name, epoch: 1 }, sequence }
}

/// A command of `size` bytes, alone in its batch.
pub(super) fn value(sequence: u64, size: usize) -> Value {
    let mut builder = BatchBuilder::default();
    builder.push(request(2, sequence), 1, Bytes::from(vec![7; size]));
    Value::Batch(builder.build().expect("a command"))
}

/// Node 2 proposes `value`, and says that slots up to `chosen` are chosen.
pub(super) fn accept(slot: u64, value: Value, chosen: u64) -> Message {
    let chosen = noops(chosen);
    Message::Accept(Accept { ballot: ballot(1), slot: Slot(slot), value, chosen })
}

/// Node 2 leads, and says that slots up to `chosen` are chosen.
pub(super) fn heartbeat(chosen: u64) -> Message {
    Message::Heartbeat(Heartbeat { ballot: ballot(1), round: 1, chosen: noops(chosen) })
}

/// The watermark of a log of `count` noops.
pub(super) fn noops(count: u64) -> Watermark {
    let chain = |hash, slot| crate::replica::learner::chain(hash, Slot(slot), &Value::Noop);
    Watermark { slot: Slot(count), hash: (1..=count).fold(0, chain) }
}

/// The memberships of a log that has always had the same three voters.
pub(super) fn memberships() -> Bytes {
    let membership = Membership::new([(1, ""), (2, ""), (3, "")]).expect("three");
    crate::replica::membership::Memberships::new(NodeId(1), membership).encode()
}

pub(super) fn poll_reply(poll: &Poll, granted: bool, leader: Option<Ballot>) -> Message {
    let (promised, chosen) = (Ballot::ZERO, Slot::ZERO);
    Message::PollReply(PollReply { number: poll.number, granted, promised, leader, chosen })
}

/// A promise for the slots from 1 on, of an acceptor that knows nothing to be chosen.
pub(super) fn promise(ballot: Ballot, records: Vec<Record>) -> Message {
    let (from, chosen, floor) = (Slot(1), Slot::ZERO, Slot::ZERO);
    Message::Promise(Promise { ballot, from, records, next: None, chosen, floor })
}

pub(super) fn accepted(ballot: Ballot, slot: u64) -> Message {
    Message::Accepted(Accepted { ballot, first: Slot(slot), last: Slot(slot) })
}

pub(super) fn heartbeat_reply(ballot: Ballot, round: u64, highest_accepted: u64) -> Message {
    let (chosen, highest_accepted) = (Watermark::default(), Slot(highest_accepted));
    Message::HeartbeatReply(HeartbeatReply {
        ballot,
        round,
        chosen,
        highest_accepted,
        can_write: true,
    })
}

/// What of `effects` goes to `to`.
pub(super) fn sent_to(effects: &Effects, to: u64) -> Vec<Message> {
    let sent = effects.send.iter().filter(|(peer, _)| *peer == NodeId(to));
    sent.map(|(_, message)| message.clone()).collect()
}
