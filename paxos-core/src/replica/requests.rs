//! This node's own commands, from the proposal until they are delivered or given up.
//!
//! They go to the leader, wherever it is, and go again whenever the leader changes or stays silent
//! for too long: then by way of another node too, for the leader may be heard and not hear. That
//! is safe because each has a request id, and the session table lets it have its effect once.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
};

use bytes::Bytes;

use super::{
    context::Context,
    effect::{Refusal, Verdict},
    queue::Queue,
    sessions::SessionTable,
};
use crate::{
    config::Config,
    limits,
    message::{Message, Propose},
    planted::planted,
    types::{Ballot, Batch, ClientId, Instant, NodeId, RequestId},
};

/// Where commands go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// This node leads, at this ballot.
    Here(Ballot),
    /// Another node leads, or knows who does.
    Peer(NodeId, Ballot),
}

/// Commands without a result yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    waiting: BTreeMap<RequestId, Bytes>,
    bytes: usize,
    /// The highest sequence number of this node's own.
    own_highest: u64,
    /// Commands that have not gone to the present target.
    unsent: BTreeSet<RequestId>,
    /// When the others went there, in order; entries of settled commands are passed over.
    sent: VecDeque<(Instant, RequestId)>,
    target: Option<Target>,
    /// Counts the detours taken.
    detours: usize,
}

impl Requests {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Bytes of those that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a command, or says why not.
    pub(super) fn propose(
        &mut self,
        id: RequestId,
        command: Bytes,
        cx: &Context<'_>,
    ) -> Result<(), Refusal> {
        if command.len() > cx.config.command_bytes_max {
            return Err(Refusal::TooLarge);
        }
        let own = self.is_own(id.client, cx);
        let passed = own && id.sequence <= self.own_highest;
        if !id.is_countable() || passed || self.waiting.contains_key(&id) {
            return Err(Refusal::IdUsed);
        }
        let lowest = self.lowest_of(id.client).unwrap_or(id.sequence);
        if self.waiting.len() >= cx.config.outstanding_commands_max
            || self.bytes + command.len() > cx.config.outstanding_bytes_max
            || id.sequence.saturating_sub(lowest) >= limits::SESSION_WINDOW / 2
        {
            return Err(Refusal::Busy);
        }
        if own {
            self.own_highest = id.sequence;
        }
        self.bytes += command.len();
        self.waiting.insert(id, command);
        self.unsent.insert(id);
        let is_refused = planted!(RefusedYetTaken) && self.waiting.len() > 2;
        if is_refused { Err(Refusal::Busy) } else { Ok(()) }
    }

    fn is_own(&self, client: ClientId, cx: &Context<'_>) -> bool {
        client.name == cx.config.id.0
    }

    fn lowest_of(&self, client: ClientId) -> Option<u64> {
        let first = RequestId { client, sequence: 0 };
        let last = RequestId { client, sequence: u64::MAX };
        self.waiting.range(first..=last).next().map(|(id, _)| id.sequence)
    }

    /// The lowest sequence number of the client that may still want a result.
    ///
    /// Of this node's own commands that is known exactly. An embedder's client may have commands
    /// waiting at other nodes too, so there half a session window is allowed for.
    fn open_from(&self, id: RequestId, cx: &Context<'_>) -> u64 {
        if self.is_own(id.client, cx) {
            let lowest = self.lowest_of(id.client).filter(|_| !planted!(OpenRequestsExpired));
            lowest.unwrap_or(id.sequence)
        } else {
            id.sequence.saturating_sub(limits::SESSION_WINDOW / 2).max(1)
        }
    }

    /// Nobody waits for the command any more, or it has been delivered.
    pub(super) fn settle(&mut self, id: RequestId) {
        if let Some(command) = self.waiting.remove(&id) {
            self.bytes -= command.len();
            self.unsent.remove(&id);
        }
    }

    /// Settles what a delivered batch contains.
    pub(super) fn on_delivered(&mut self, batch: &Batch, verdicts: &[(Range<usize>, Verdict)]) {
        if self.waiting.is_empty() {
            return;
        }
        debug_assert_eq!(verdicts.last().map(|last| last.0.end), Some(batch.len()));
        for run in batch.runs() {
            let first = RequestId { client: run.client, sequence: run.first };
            let end = RequestId { client: run.client, sequence: run.end() };
            let settled: Vec<_> = self.waiting.range(first..end).map(|(&id, _)| id).collect();
            for id in settled {
                self.settle(id);
            }
        }
    }

    /// Sends what has not gone to `target` yet, or went so long ago that it may be lost.
    pub(super) fn dispatch(
        &mut self,
        target: Option<Target>,
        sessions: &SessionTable,
        queue: &mut Queue,
        cx: &mut Context<'_>,
    ) {
        if self.target != target {
            self.target = target;
            self.sent.clear();
            self.unsent.extend(self.waiting.keys());
        }
        let Some(target) = target else { return };
        let mut has_overdue = false;
        while let Some(&(at, id)) = self.sent.front()
            && (!self.waiting.contains_key(&id) || self.is_overdue(at, cx))
        {
            self.sent.pop_front();
            if self.waiting.contains_key(&id) {
                self.unsent.insert(id);
                has_overdue = true;
            }
        }
        self.refuse_settled(sessions, cx);
        match target {
            Target::Here(_) => self.enqueue(queue, cx),
            Target::Peer(peer, _) => {
                let detour = has_overdue.then(|| cx.detour(peer, &mut self.detours)).flatten();
                self.forward(peer, detour, cx);
            }
        }
    }

    /// Refuses what would never be delivered, because it was proposed before under the same name.
    ///
    /// That happens to an embedder's clients only: this node's own commands leave the list with
    /// their first delivery.
    fn refuse_settled(&mut self, sessions: &SessionTable, cx: &mut Context<'_>) {
        let embedders = self.unsent.iter().filter(|id| !self.is_own(id.client, cx));
        let refused: Vec<_> =
            embedders.filter_map(|&id| Some((id, sessions.refusal(id)?))).collect();
        for &(id, _) in &refused {
            self.settle(id);
        }
        cx.out.effects().refused.extend(refused);
    }

    fn is_overdue(&self, at: Instant, cx: &Context<'_>) -> bool {
        at.after(cx.config.election_timeout) <= cx.now
    }

    fn enqueue(&mut self, queue: &mut Queue, cx: &mut Context<'_>) {
        for id in std::mem::take(&mut self.unsent) {
            let open_from = self.open_from(id, cx);
            queue.push(id, open_from, self.waiting[&id].clone(), cx.config);
            self.sent.push_back((cx.now, id));
        }
    }

    fn forward(&mut self, peer: NodeId, detour: Option<NodeId>, cx: &mut Context<'_>) {
        while let Some(&first) = self.unsent.first() {
            let mut commands = Vec::new();
            let mut bytes = 0;
            let open_from = self.open_from(first, cx);
            while let Some(&id) = self.unsent.first()
                && id.client == first.client
                && bytes < cx.config.page_bytes_max
                && commands.len() < limits::PAGE_RECORDS_MAX
            {
                self.unsent.remove(&id);
                let command = self.waiting[&id].clone();
                bytes += command.len();
                let is_renamed = planted!(RetryUnderNewId) && detour.is_some();
                let sequence =
                    id.sequence + if is_renamed { limits::SESSION_WINDOW / 4 } else { 0 };
                commands.push((sequence, command));
                self.sent.push_back((cx.now, id));
            }
            let client = first.client;
            let propose = Propose { client, open_from, commands, hops: 0 };
            if let Some(detour) = detour {
                cx.out.send(detour, Message::Propose(propose.clone()));
            }
            cx.out.send(peer, Message::Propose(propose));
        }
    }

    /// When the oldest command has to go again.
    pub(super) fn next_deadline(&self, config: &Config) -> Option<Instant> {
        self.target?;
        self.sent.front().map(|&(at, _)| at.after(config.election_timeout))
    }
}
