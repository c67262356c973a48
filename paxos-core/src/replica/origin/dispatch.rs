//! How this node's own commands get to the leader, wherever it is.
//!
//! They go again whenever the leader changes or stays silent for too long: then by way of another node
//! too, for the link to the leader may work in one direction only. That is safe because each has a
//! request id, and the session table lets it have its effect once. And the leader is told of the first, lest
//! it notice nothing of what is lost on every way (see [`unreached`](super::super::unreached)).

use std::ops::Range;

use bytes::Bytes;

use super::{
    super::{context::Context, queue::Queue, sessions::SessionTable, window::Window},
    Origin, Target,
};
use crate::{
    config::Config,
    limits,
    message::{Message, Propose},
    planted::planted,
    types::{ClientId, RequestId},
};

impl<W> Origin<W> {
    /// Sends what has not gone to `target` yet, or went so long ago that it may be lost.
    pub(in super::super) fn dispatch(
        &mut self,
        target: Option<Target>,
        sessions: &SessionTable,
        queue: &mut Queue,
        cx: &mut Context<'_>,
    ) {
        if self.target != target {
            self.target = target;
            self.own.forget_sent();
            self.others.values_mut().for_each(Window::forget_sent);
        }
        let Some(target) = target.filter(|_| self.open > 0) else { return };
        let patience = self.patience(&self.own, cx.config);
        while let Some((range, is_overdue)) = self.own.next_due(cx.now, patience) {
            self.send(self.client(), range, is_overdue, target, queue, cx);
        }
        if self.others.is_empty() {
            return;
        }
        for client in self.others.keys().copied().collect::<Vec<_>>() {
            let Some(window) = self.others.get(&client) else { continue };
            let patience = self.patience(window, cx.config);
            while let Some(window) = self.others.get_mut(&client)
                && let Some((range, is_overdue)) = window.next_due(cx.now, patience)
            {
                self.refuse_settled(client, range.clone(), sessions);
                self.send(client, range, is_overdue, target, queue, cx);
            }
        }
    }

    /// Refuses what would never be delivered, because it was proposed before under the same name.
    ///
    /// That happens to an embedder's clients only: a node's own commands are numbered once.
    fn refuse_settled(&mut self, client: ClientId, range: Range<u64>, sessions: &SessionTable) {
        assert!(client != self.client(), "a node's own commands are numbered once");
        for sequence in range {
            let id = RequestId { client, sequence };
            if let Some(refusal) = sessions.refusal(id)
                && let Some(entry) = self.take_if(id, |entry| !entry.is_delivered)
            {
                self.refuse(entry.waiter, refusal);
            }
        }
        self.trim(client);
    }

    /// Sends those of a range that have not been delivered.
    fn send(
        &mut self,
        client: ClientId,
        range: Range<u64>,
        is_overdue: bool,
        target: Target,
        queue: &mut Queue,
        cx: &mut Context<'_>,
    ) {
        let via = match target {
            Target::Peer(peer, _) if is_overdue => cx.another_way(peer, &mut self.ways_taken),
            _ => None,
        };
        let Some(window) = self.window(client) else { return };
        let commands = window.undelivered(range);
        let mut commands = commands
            .map(|(at, entry)| {
                let is_renamed = planted!(RetryUnderNewId) && via.is_some();
                let at = if is_renamed { at + limits::SESSION_WINDOW / 4 } else { at };
                (at, &entry.command)
            })
            .peekable();
        let Some(&(first, _)) = commands.peek() else { return };
        let open_from = self.open_from(RequestId { client, sequence: first });
        assert!(
            open_from <= first,
            "{client}#{first} is open, and would be given up by its message"
        );
        let peer = match target {
            Target::Here(_) => return queue.push(client, open_from, commands, cx.config),
            Target::Peer(peer, _) => peer,
        };
        let mut is_untold = is_overdue;
        while commands.peek().is_some() {
            let commands = page(&mut commands, cx.config);
            let propose = Propose { client, open_from, commands, hops: 0 };
            if std::mem::take(&mut is_untold) {
                target.offer(&propose, cx.out);
            }
            if let Some(via) = via {
                cx.out.send(via, Message::Propose(propose.clone()));
            }
            cx.out.send(peer, Message::Propose(propose));
        }
    }

    /// The lowest sequence number of the client that may still want an answer.
    ///
    /// Of this node's own commands that is known exactly. An embedder's client may have commands
    /// waiting at other nodes too, so there half a session window is allowed for.
    fn open_from(&self, id: RequestId) -> u64 {
        if id.client == self.client() {
            if planted!(OpenRequestsExpired) { id.sequence } else { self.own.first() }
        } else {
            id.sequence.saturating_sub(limits::SESSION_WINDOW / 2).max(1)
        }
    }
}

/// The next commands that fit into one message.
fn page<'a>(
    commands: &mut impl Iterator<Item = (u64, &'a Bytes)>,
    config: &Config,
) -> Vec<(u64, Bytes)> {
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < config.page_bytes_max
        && page.len() < limits::PAGE_RECORDS_MAX
        && let Some((sequence, command)) = commands.next()
    {
        bytes += command.len();
        page.push((sequence, command.clone()));
    }
    assert!(!page.is_empty(), "a page takes a command, however large");
    page
}
