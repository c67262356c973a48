//! raft-rs, as its example `five_mem_node` drives it, in batches: what has gathered is one proposal
//! of many entries and one pass over the `Ready`.
//!
//! With the codec of `protobuf`, whose entries share their bytes; that of `prost` copies them.

use bytes::Bytes;
use raft::{
    Config, INVALID_ID, RawNode, StateRole,
    eraftpb::{Entry, Message, MessageType},
    storage::MemStorage,
};

use crate::Tally;
use crate::compare::{
    CompareError,
    protocol::{Outbox, Protocol},
};

/// Ticks without a heartbeat until the leader is replaced: 500 ms at least.
const ELECTION_TICKS: usize = 50;

/// Ticks between two heartbeats: 50 ms.
const HEARTBEAT_TICKS: usize = 5;

/// Entries in one message, in bytes. TiKV has 1 MiB for the sake of its network; here nothing is gained
/// by splitting, which costs 4096 commands of 4 KiB nearly half as much again.
const APPEND_BYTES_MAX: u64 = 16 << 20;

/// Messages on their way to one follower: TiKV's default.
const APPENDS_IN_FLIGHT_MAX: usize = 256;

/// Applied entries after which a node compacts its log, to half of them or what a follower lacks.
const COMPACT_EVERY: u64 = 16_384;

/// One node.
pub(in crate::compare) struct Peer {
    raft: RawNode<MemStorage>,
    /// Proposed and not yet given to Raft.
    proposals: Vec<Entry>,
    outgoing: Vec<Message>,
    /// Applied and not yet reported.
    applied: Tally,
    last_applied: u64,
    compacted: u64,
}

fn problem(problem: impl std::fmt::Display) -> CompareError {
    CompareError::Peer { contestant: "raft-rs", problem: problem.to_string() }
}

impl Peer {
    fn new(id: u64, ids: &[u64]) -> Result<Peer, CompareError> {
        let config = Config {
            id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            max_size_per_msg: APPEND_BYTES_MAX,
            max_inflight_msgs: APPENDS_IN_FLIGHT_MAX,
            // Followers hear of a commit with the next entries, or the next heartbeat: with one
            // command in flight a third of the time is saved.
            skip_bcast_commit: true,
            batch_append: true,
            pre_vote: true,
            check_quorum: true,
            ..Config::default()
        };
        let storage = MemStorage::new_with_conf_state((ids.to_vec(), vec![]));
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft = RawNode::new(&config, storage, &logger).map_err(problem)?;
        Ok(Peer {
            raft,
            proposals: Vec::new(),
            outgoing: Vec::new(),
            applied: Tally::default(),
            last_applied: 0,
            compacted: 0,
        })
    }

    /// Gives Raft what has been proposed, and carries out what it asks for.
    fn work(&mut self) -> Result<(), CompareError> {
        if !self.proposals.is_empty() {
            let mut message = Message { from: self.raft.raft.id, ..Message::default() };
            message.set_msg_type(MessageType::MsgPropose);
            message.set_entries(std::mem::take(&mut self.proposals).into());
            self.raft.step(message).map_err(problem)?;
        }
        while self.raft.has_ready() {
            let mut ready = self.raft.ready();
            self.outgoing.append(&mut ready.take_messages());
            self.apply(ready.take_committed_entries());
            let store = self.raft.store().clone();
            store.wl().append(ready.entries()).map_err(problem)?;
            if let Some(state) = ready.hs() {
                store.wl().set_hardstate(state.clone());
            }
            self.outgoing.append(&mut ready.take_persisted_messages());
            let mut light = self.raft.advance(ready);
            if let Some(commit) = light.commit_index() {
                store.wl().mut_hard_state().commit = commit;
            }
            self.outgoing.append(&mut light.take_messages());
            self.apply(light.take_committed_entries());
            self.raft.advance_apply();
        }
        self.compact()
    }

    fn apply(&mut self, committed: Vec<Entry>) {
        for entry in committed {
            self.last_applied = entry.index;
            // A new leader's own entry has no context.
            if !entry.context.is_empty() {
                self.applied.count(entry.data.len());
            }
        }
    }

    fn compact(&mut self) -> Result<(), CompareError> {
        if self.last_applied - self.compacted >= COMPACT_EVERY {
            // A leader keeps what a follower lacks.
            let matched = self.raft.raft.prs().iter().map(|(_, progress)| progress.matched).min();
            let needed = matched.filter(|_| self.is_leader()).unwrap_or(u64::MAX);
            self.compacted = needed.min(self.last_applied - COMPACT_EVERY / 2);
            self.raft.store().wl().compact(self.compacted).map_err(problem)?;
        }
        Ok(())
    }
}

/// Marks a command, which may be empty, as a new leader's own entry is.
const COMMAND: Bytes = Bytes::from_static(b"c");

impl Protocol for Peer {
    type Message = Message;

    fn cluster(nodes: usize) -> Result<Vec<Peer>, CompareError> {
        let ids: Vec<u64> = (1..=nodes as u64).collect();
        ids.iter().map(|id| Peer::new(*id, &ids)).collect()
    }

    fn is_leader(&self) -> bool {
        self.raft.raft.state == StateRole::Leader && self.raft.raft.leader_id != INVALID_ID
    }

    fn propose(&mut self, payload: Bytes) -> Result<(), CompareError> {
        self.proposals.push(Entry { data: payload, context: COMMAND, ..Entry::default() });
        Ok(())
    }

    fn receive(&mut self, message: Message) -> Result<(), CompareError> {
        self.raft.step(message).map_err(problem)
    }

    fn tick(&mut self) {
        self.raft.tick();
    }

    fn advance(&mut self) -> Result<Tally, CompareError> {
        self.work()?;
        Ok(std::mem::take(&mut self.applied))
    }

    fn flush(&mut self, outbox: &mut Outbox<Message>) -> Result<(), CompareError> {
        self.work()?;
        for message in self.outgoing.drain(..) {
            outbox.to[message.to as usize - 1].push(message);
        }
        Ok(())
    }
}
