//! This node's own commands, from the proposal to the answer.
//!
//! A command is held here and nowhere else: its bytes until it is delivered, whoever waits for it
//! until it is applied or its deadline has passed. The commands of a client lie side by side in the
//! order of their sequence numbers (see [`window`](super::window)), so that whatever happens to a run
//! of them costs no look-ups.

mod dispatch;

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    time::Duration,
};

use super::{
    effect::{Outcome, Proposal, Refusal, Verdict},
    outbox::Outbox,
    sessions::SessionTable,
    window::{OpenCommand, Window},
};
use crate::{
    config::Config,
    limits,
    message::{Message, Propose},
    planted::planted,
    types::{Ballot, Batch, ClientId, Instant, NodeId, RequestId, Slot, earliest},
};

/// How much later than its deadline a waiter may be let go: the deadlines of so long are looked
/// through together.
const DEADLINE_GRANULARITY: Duration = Duration::from_millis(1);

/// Where commands go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// This node leads, at this ballot.
    Here(Ballot),
    /// Another node leads, or knows who does.
    Peer(NodeId, Ballot),
}

impl Target {
    /// Says to the leader itself that it should have got these commands.
    pub(super) fn offer(self, propose: &Propose, out: &mut Outbox) {
        if let Target::Peer(leader, ballot) = self
            && leader == ballot.node
            && let Some(offered) = propose.offered(ballot)
        {
            out.send(leader, Message::Offered(offered));
        }
    }
}

/// Commands without an answer, and answers that nobody has fetched yet.
#[derive(Clone, Debug)]
pub(super) struct Origin<W> {
    /// Those that this node numbers.
    own: Window<W>,
    /// Those of embedders' clients.
    others: BTreeMap<ClientId, Window<W>>,
    /// How many there are, and the bytes of those not delivered yet.
    open: usize,
    bytes: usize,
    /// The windows' spreads together.
    spread: usize,
    /// No deadline is earlier.
    earliest: Option<Instant>,
    target: Option<Target>,
    /// Counts the ways taken by other nodes than the leader.
    ways_taken: usize,
    /// What has been delivered and waits for the state machine, in the order of slots.
    in_application: VecDeque<Part>,
    answers: Vec<(W, Outcome)>,
}

/// Consecutive commands of one client within a slot.
#[derive(Clone, Debug)]
struct Part {
    slot: Slot,
    client: ClientId,
    sequences: Range<u64>,
    /// Where the first of them stands in the batch.
    index: usize,
}

impl<W> Origin<W> {
    /// Nothing is proposed yet; `client` is this node in this life.
    pub(super) fn new(client: ClientId) -> Origin<W> {
        Origin {
            own: Window::new(client, 1),
            others: BTreeMap::new(),
            open: 0,
            bytes: 0,
            spread: 0,
            earliest: None,
            target: None,
            ways_taken: 0,
            in_application: VecDeque::new(),
            answers: Vec::new(),
        }
    }

    /// The client under whose name this node numbers its commands.
    pub(super) fn client(&self) -> ClientId {
        self.own.client()
    }

    /// How many have no answer.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Bytes of those that have not been delivered.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Places taken up, those between open commands included.
    pub(super) fn spread(&self) -> usize {
        self.spread
    }

    /// What has become of proposals since this was asked last.
    pub(super) fn answers(&mut self) -> std::vec::Drain<'_, (W, Outcome)> {
        self.answers.drain(..)
    }

    /// Takes a command, or answers why not: `refuses_work` says why the node takes none, if so.
    pub(super) fn propose(
        &mut self,
        proposal: Proposal<W>,
        refuses_work: Option<Refusal>,
        config: &Config,
    ) {
        let Proposal { id, command, deadline, waiter } = proposal;
        let id = id.unwrap_or(RequestId { client: self.client(), sequence: self.own.end() });
        if let Some(refusal) = refuses_work.or_else(|| self.refusal(id, command.len(), config)) {
            self.refuse(waiter, refusal);
            return;
        }
        let RequestId { client, sequence } = id;
        let window = if client == self.own.client() {
            &mut self.own
        } else {
            self.others.entry(client).or_insert_with(|| Window::new(client, sequence))
        };
        let before = window.spread();
        self.bytes += command.len();
        window.insert(sequence, OpenCommand { command, waiter, deadline, is_delivered: false });
        self.spread += window.spread() - before;
        self.open += 1;
        assert!(
            self.open <= config.outstanding_commands_max
                && self.bytes <= config.outstanding_bytes_max,
            "{} commands of {} bytes are open, beyond their bounds",
            self.open,
            self.bytes
        );
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
    }

    /// Answers that a command was not taken.
    fn refuse(&mut self, waiter: W, refusal: Refusal) {
        self.answers.push((waiter, Outcome::Refused(refusal)));
    }

    /// Why a command is not taken, if it is not.
    fn refusal(&self, id: RequestId, bytes: usize, config: &Config) -> Option<Refusal> {
        if bytes > config.command_bytes_max {
            return Some(Refusal::TooLarge);
        }
        let RequestId { client, sequence } = id;
        let window = self.window(client);
        let is_used = if client.name == self.client().name {
            client != self.client() || sequence < self.own.end()
        } else {
            window.is_some_and(|window| window.contains(sequence))
        };
        if is_used || !id.is_countable() {
            return Some(Refusal::IdUsed);
        }
        let spread = window.map_or(1, |window| window.spread_with(sequence));
        let others = self.spread - window.map_or(0, Window::spread);
        let is_busy = self.open >= config.outstanding_commands_max
            || self.bytes + bytes > config.outstanding_bytes_max && !planted!(OpenBytesUnbounded)
            || spread > limits::SESSION_WINDOW / 2
            || others as u64 + spread > limits::OPEN_SPREAD_MAX;
        is_busy.then_some(Refusal::Busy)
    }

    fn window(&self, client: ClientId) -> Option<&Window<W>> {
        if client == self.own.client() { Some(&self.own) } else { self.others.get(&client) }
    }

    fn window_mut(&mut self, client: ClientId) -> Option<&mut Window<W>> {
        if client == self.own.client() { Some(&mut self.own) } else { self.others.get_mut(&client) }
    }

    /// Takes note of what a slot contains: what has its effect waits for the state machine, what has
    /// had it before or never will is answered.
    pub(super) fn on_delivered(
        &mut self,
        slot: Slot,
        batch: &Batch,
        verdicts: &[(Range<usize>, Verdict)],
    ) {
        if self.open == 0 {
            return;
        }
        let mut verdicts = verdicts.iter().peekable();
        let mut start = 0;
        for run in batch.runs() {
            let end = start + run.count as usize;
            while let Some((covered, verdict)) = verdicts.peek()
                && covered.start < end
            {
                let index = covered.start.max(start);
                let first = run.first + (index - start) as u64;
                let sequences = first..first + (covered.end.min(end) - index) as u64;
                self.on_verdict(Part { slot, client: run.client, sequences, index }, *verdict);
                if covered.end > end {
                    break;
                }
                verdicts.next();
            }
            start = end;
        }
    }

    fn on_verdict(&mut self, part: Part, verdict: Verdict) {
        let refusal = match verdict {
            Verdict::Fresh => return self.await_application(part),
            Verdict::Duplicate => Refusal::AlreadyApplied,
            Verdict::Expired => Refusal::Expired,
        };
        for sequence in part.sequences {
            let id = RequestId { client: part.client, sequence };
            if let Some(entry) = self.take_if(id, |entry| !entry.is_delivered) {
                self.refuse(entry.waiter, refusal);
            }
        }
        self.trim(part.client);
    }

    fn await_application(&mut self, part: Part) {
        let Some(window) = self.window_mut(part.client) else { return };
        let (mut bytes, mut is_awaited) = (0, false);
        for sequence in part.sequences.clone() {
            if let Some(entry) = window.get_mut(sequence).filter(|entry| !entry.is_delivered) {
                entry.is_delivered = true;
                bytes += std::mem::take(&mut entry.command).len();
                is_awaited = true;
            }
        }
        self.bytes -= bytes;
        let last = self.in_application.back().map_or(Slot::ZERO, |last| last.slot);
        assert!(part.slot >= last, "slot {} is delivered after slot {last}", part.slot);
        if is_awaited {
            self.in_application.push_back(part);
        }
    }

    /// The state machine has applied every slot up to this one: whoever waits for a command in
    /// them has an answer.
    pub(super) fn on_applied(&mut self, slot: Slot) {
        while let Some(part) = self.in_application.pop_front_if(|part| part.slot <= slot) {
            let Part { slot, client, sequences, index } = part;
            for (index, sequence) in (index..).zip(sequences) {
                let id = RequestId { client, sequence };
                if let Some(entry) = self.take_if(id, |entry| entry.is_delivered) {
                    self.answers.push((entry.waiter, Outcome::Applied { slot, index }));
                }
            }
            self.trim(client);
        }
    }

    /// The session table is as of a checkpoint now, and slots up to there are never delivered: what has
    /// had its effect in one of them is answered, without the response.
    pub(super) fn on_installed(&mut self, sessions: &SessionTable) {
        for client in self.clients() {
            let Some(window) = self.window(client) else { continue };
            for sequence in window.first()..window.end() {
                let id = RequestId { client, sequence };
                let Some(refusal) = sessions.refusal(id) else { continue };
                let Some(entry) = self.take_if(id, |entry| !entry.is_delivered) else { continue };
                let is_own = client == self.own.client();
                let outcome = if is_own { Outcome::Unknown } else { Outcome::Refused(refusal) };
                self.answers.push((entry.waiter, outcome));
            }
            self.trim(client);
        }
    }

    /// This node goes by another epoch, as a later one is known than that which it had: so nothing that it
    /// has proposed and that is not delivered can have effect, and goes again under a number of the new one.
    pub(super) fn go_by(&mut self, epoch: u64) {
        let client = ClientId { epoch, ..self.client() };
        let mut former = std::mem::replace(&mut self.own, Window::new(client, 1));
        for sequence in former.first()..former.end() {
            if let Some(entry) = former.take_if(sequence, |entry| !entry.is_delivered) {
                self.own.insert(self.own.end(), entry);
            }
        }
        former.trim();
        // What is delivered waits for the state machine under the name that it was chosen under.
        if former.spread() > 0 {
            self.others.insert(former.client(), former);
        }
        self.spread = self.own.spread() + self.others.values().map(Window::spread).sum::<usize>();
    }

    /// Lets those go whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.earliest.is_none_or(|earliest| now < earliest.after(DEADLINE_GRANULARITY)) {
            return;
        }
        let (answers, open, bytes) = (&mut self.answers, &mut self.open, &mut self.bytes);
        let mut expired = |entry: OpenCommand<W>| {
            *open -= 1;
            *bytes -= entry.command.len();
            let outcome = if planted!(RefusedYetTaken) {
                Outcome::Refused(Refusal::Busy)
            } else {
                Outcome::Unknown
            };
            answers.push((entry.waiter, outcome));
        };
        let windows = std::iter::once(&mut self.own).chain(self.others.values_mut());
        self.earliest = windows.filter_map(|window| window.expire(now, &mut expired)).min();
        self.clients().into_iter().for_each(|client| self.trim(client));
    }

    /// Whether there is little room for more.
    pub(super) fn is_crowded(&self, config: &Config) -> bool {
        let is_near = |count: usize, max: usize| count >= max - max / 4;
        is_near(self.open, config.outstanding_commands_max)
            || is_near(self.bytes, config.outstanding_bytes_max)
    }

    /// Gives back the places of those that nobody waits for any more, as at their deadlines. What has gone to the
    /// leader may have effect all the same; what is delivered is about to be applied, and has no bytes any more.
    pub(super) fn let_go(&mut self, has_gone: impl Fn(&W) -> bool) {
        for client in self.clients() {
            let Some(window) = self.window(client) else { continue };
            for sequence in window.first()..window.end() {
                let id = RequestId { client, sequence };
                self.take_if(id, |entry| !entry.is_delivered && has_gone(&entry.waiter));
            }
            self.trim(client);
        }
    }

    /// All that have commands here.
    fn clients(&self) -> Vec<ClientId> {
        self.others.keys().copied().chain([self.client()]).collect()
    }

    /// Takes out the command that meets the condition; [`trim`](Origin::trim) has to follow.
    fn take_if(
        &mut self,
        id: RequestId,
        condition: impl FnOnce(&mut OpenCommand<W>) -> bool,
    ) -> Option<OpenCommand<W>> {
        let entry = self.window_mut(id.client)?.take_if(id.sequence, condition)?;
        self.open -= 1;
        self.bytes -= entry.command.len();
        Some(entry)
    }

    /// Forgets the places of a client's answered commands, and a client without open ones.
    fn trim(&mut self, client: ClientId) {
        let Some(window) = self.window_mut(client) else { return };
        let before = window.spread();
        window.trim();
        let after = window.spread();
        self.spread -= before - after;
        assert!(self.open > 0 || self.bytes == 0, "nothing is open and has {} bytes", self.bytes);
        if after == 0 {
            self.others.remove(&client);
        }
    }

    /// How long what has gone to the leader may be without an answer. Where most of what went after it has one, it
    /// was lost, and takes up more places every moment: it goes again before it leaves none to others.
    fn patience(&self, window: &Window<W>, config: &Config) -> Duration {
        let has_gaps =
            window.spread() > limits::SPREAD_WITH_GAPS && self.open < window.spread() / 2;
        if has_gaps { config.heartbeat_interval } else { config.election_timeout }
    }

    /// When the oldest command has to go again, or the first waiter is let go.
    pub(super) fn next_deadline(&self, config: &Config) -> Option<Instant> {
        if self.open == 0 {
            return None;
        }
        let windows = std::iter::once(&self.own).chain(self.others.values());
        let resends = windows.filter_map(|window| {
            Some(window.first_sent_at()?.after(self.patience(window, config)))
        });
        let resend = resends.min().filter(|_| self.target.is_some());
        let expiry = self.earliest.map(|earliest| earliest.after(DEADLINE_GRANULARITY));
        earliest([expiry, resend])
    }
}
