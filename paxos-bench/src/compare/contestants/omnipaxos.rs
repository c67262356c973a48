//! OmniPaxos, as its documents recommend: messages taken out and delivered in batches, ticks by a
//! timer, the decided part of the log read in one go and trimmed as it grows.

use bytes::Bytes;
use omnipaxos::{
    ClusterConfig, OmniPaxos, ServerConfig,
    messages::{
        Message,
        sequence_paxos::{PaxosMessage, PaxosMsg},
    },
    storage::{Entry, NoSnapshot},
    util::LogEntry,
};
use omnipaxos_storage::memory_storage::MemoryStorage;

use crate::Tally;
use crate::compare::{
    CompareError,
    protocol::{Outbox, Protocol},
};

/// Decided entries after which the leader has the log trimmed on all nodes.
const TRIM_EVERY: usize = 16_384;

/// Ticks without a heartbeat until the leader is replaced: 500 ms.
const ELECTION_TICKS: u64 = 50;

#[derive(Clone, Debug)]
pub(in crate::compare) struct Command(Bytes);

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

/// A server of OmniPaxos.
pub(in crate::compare) struct Server {
    paxos: OmniPaxos<Command, MemoryStorage<Command>>,
    pid: u64,
    /// How far the log has been read.
    read: usize,
    trimmed: usize,
    /// Applied and not yet reported.
    applied: Tally,
    outgoing: Vec<Message<Command>>,
}

fn problem(problem: impl std::fmt::Debug) -> CompareError {
    CompareError::Peer { contestant: "omnipaxos", problem: format!("{problem:?}") }
}

impl Server {
    /// Applies what has been decided since the last time, all in one go.
    fn read_decided(&mut self) -> Result<(), CompareError> {
        for entry in self.paxos.read_decided_suffix(self.read).unwrap_or_default() {
            match entry {
                LogEntry::Decided(Command(payload)) => self.applied.count(payload.len()),
                other => return Err(problem(other)),
            }
            self.read += 1;
        }
        Ok(())
    }
}

impl Protocol for Server {
    type Message = Message<Command>;

    fn cluster(nodes: usize) -> Result<Vec<Server>, CompareError> {
        let pids: Vec<u64> = (1..=nodes as u64).collect();
        let server = |pid: u64| {
            let cluster = ClusterConfig {
                configuration_id: 1,
                nodes: pids.clone(),
                ..ClusterConfig::default()
            };
            let server = ServerConfig {
                pid,
                election_tick_timeout: ELECTION_TICKS,
                ..ServerConfig::default()
            };
            let paxos = cluster.build_for_server(server, MemoryStorage::default());
            let paxos = paxos.map_err(problem)?;
            let (applied, outgoing) = (Tally::default(), Vec::new());
            Ok(Server { paxos, pid, read: 0, trimmed: 0, applied, outgoing })
        };
        pids.iter().map(|pid| server(*pid)).collect()
    }

    fn is_leader(&self) -> bool {
        self.paxos.get_current_leader() == Some((self.pid, true))
    }

    fn propose(&mut self, payload: Bytes) -> Result<(), CompareError> {
        // The documented way. Batches by number of entries (`batch_size`) would wait for more.
        self.paxos.append(Command(payload)).map_err(problem)
    }

    fn receive(&mut self, message: Message<Command>) -> Result<(), CompareError> {
        let trims = |message: &PaxosMessage<_>| matches!(message.msg, PaxosMsg::Compaction(_));
        if matches!(&message, Message::SequencePaxos(message) if trims(message)) {
            self.read_decided()?;
        }
        self.paxos.handle_incoming(message);
        Ok(())
    }

    fn tick(&mut self) {
        self.paxos.tick();
    }

    fn advance(&mut self) -> Result<Tally, CompareError> {
        self.read_decided()?;
        if self.read - self.trimmed >= TRIM_EVERY && self.is_leader() {
            // Refused only while a follower lags.
            let to = self.read - TRIM_EVERY / 2;
            if self.paxos.trim(Some(to)).is_ok() {
                self.trimmed = to;
            }
        }
        Ok(std::mem::take(&mut self.applied))
    }

    fn flush(&mut self, outbox: &mut Outbox<Message<Command>>) -> Result<(), CompareError> {
        self.paxos.take_outgoing_messages(&mut self.outgoing);
        for message in self.outgoing.drain(..) {
            outbox.to[message.get_receiver() as usize - 1].push(message);
        }
        Ok(())
    }
}
