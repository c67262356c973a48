//! What a node may choose for itself.

use std::time::Duration;

use crate::{
    limits,
    types::{Membership, NodeId},
};

/// The settings of one replica. The defaults stand, with their reasons, in [`limits`].
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// Who begins the cluster, this node included. The same on every node, and of interest only at the very first
    /// start: what becomes of it later is in the log. Where the members are reached is taken from here until the
    /// first change, and then from the log, too. Of a node that [joins](Config::joins), the members that
    /// it can ask.
    pub membership: Membership,
    /// The node has nothing, and is going to be made a member of a cluster that exists. It waits until it
    /// hears from that.
    pub joins: bool,
    /// Decides every random choice of the replica.
    pub seed: u64,
    /// Between two heartbeats of a leader.
    pub heartbeat_interval: Duration,
    /// How long a follower waits for its leader before it asks the others, at most, and at first: from then on
    /// for twice as long as it has heard nothing of late, but three heartbeats at least. A leader without
    /// answers from a quorum steps down after this time.
    pub election_timeout: Duration,
    /// How long an unanswered request waits before it is sent again.
    pub retransmit_timeout: Duration,
    /// How long a gap in the log may stay before it is pulled.
    pub gap_patience: Duration,
    /// Commands of one batch, in bytes.
    pub batch_bytes_max: usize,
    /// Commands of one batch.
    pub batch_commands_max: usize,
    /// One command, in bytes.
    pub command_bytes_max: usize,
    /// This node's commands without a result yet, in bytes.
    pub outstanding_bytes_max: usize,
    /// This node's commands without a result yet.
    pub outstanding_commands_max: usize,
    /// Commands that wait at the leader for a slot, in bytes.
    pub queue_bytes_max: usize,
    /// What is remembered of requests that have had their effect, of all clients but the nodes, in bytes
    /// as encoded. **The same on every node, for as long as the log lives**: it decides which requests have
    /// become too old to be applied. A node refuses to start from a checkpoint, or to take one over, that
    /// was made with another one.
    pub sessions_bytes_max: usize,
    /// Requests known to wait for a slot, or to be in one that is not delivered yet, as ranges.
    pub pending_ranges_max: usize,
    /// Values proposed and not chosen, in bytes, beside the window in slots.
    pub window_bytes_max: usize,
    /// Bytes on their way to the disk; beyond it this node takes in nothing more until the disk has
    /// caught up.
    pub backlog_bytes_max: usize,
    /// Values of chosen slots kept in memory, in bytes.
    pub cache_bytes_max: usize,
    /// Bytes delivered to the state machine and not yet applied.
    pub delivery_bytes_max: usize,
    /// Values in one message that carries several, in bytes, unless a single one is larger.
    pub page_bytes_max: usize,
    /// One piece of a state that is copied or sent, in bytes.
    pub piece_bytes_max: usize,
    /// Slots of the log after which a checkpoint is due, if the log has grown by as much as the state
    /// takes. The same on every node, so that one can go on with a state from another.
    pub checkpoint_slots: u64,
    /// Bytes of the log after which a checkpoint is due, as above; whatever comes first.
    pub checkpoint_bytes: u64,
    /// Slots after which nodes compare the digests of their states, if the state machine gives any. The same
    /// on every node.
    pub digest_slots: u64,
}

/// Settings that cannot work together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The node is not part of the cluster.
    #[error(
        "node {0} is no voter of the cluster: add it to the membership, correct its id, or have it join if the \
         cluster exists already"
    )]
    NotAVoter(NodeId),
    /// A follower would miss its leader between two heartbeats.
    #[error(
        "an election timeout of {election:?} is too short for heartbeats every {heartbeat:?}: \
         make it at least three times as long"
    )]
    ElectionTimeout {
        /// The election timeout.
        election: Duration,
        /// The heartbeat interval.
        heartbeat: Duration,
    },
    /// A command that is within its limit would find no room, and its proposal never an answer.
    #[error(
        "{name} of {value} has no room for a command of command_bytes_max, {command_bytes_max}: raise the one \
         or lower the other"
    )]
    Room {
        /// The field.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The largest command.
        command_bytes_max: usize,
    },
    /// A limit is zero or above what the protocol allows.
    #[error("{name} must be between 1 and {max}, not {value}")]
    Limit {
        /// The field.
        name: &'static str,
        /// Its value.
        value: usize,
        /// The largest value allowed.
        max: usize,
    },
}

impl Config {
    /// The defaults for node `id` of `membership`, seeded with the node's id.
    #[must_use]
    pub fn new(id: NodeId, membership: Membership) -> Config {
        Config {
            id,
            membership,
            joins: false,
            seed: id.0,
            heartbeat_interval: limits::HEARTBEAT_INTERVAL,
            election_timeout: limits::ELECTION_TIMEOUT,
            retransmit_timeout: limits::RETRANSMIT_TIMEOUT,
            gap_patience: limits::GAP_PATIENCE,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            batch_commands_max: limits::BATCH_COMMANDS_MAX,
            command_bytes_max: limits::COMMAND_BYTES_MAX,
            outstanding_bytes_max: limits::OUTSTANDING_BYTES_MAX,
            outstanding_commands_max: limits::OUTSTANDING_COMMANDS_MAX,
            queue_bytes_max: limits::QUEUE_BYTES_MAX,
            sessions_bytes_max: limits::SESSIONS_BYTES_MAX,
            pending_ranges_max: limits::PENDING_RANGES_MAX,
            window_bytes_max: limits::WINDOW_BYTES_MAX,
            backlog_bytes_max: limits::BACKLOG_BYTES_MAX,
            cache_bytes_max: limits::CACHE_BYTES_MAX,
            delivery_bytes_max: limits::DELIVERY_BYTES_MAX,
            page_bytes_max: limits::PAGE_BYTES_MAX,
            piece_bytes_max: limits::PAGE_BYTES_MAX,
            checkpoint_slots: limits::CHECKPOINT_SLOTS,
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
            digest_slots: limits::DIGEST_SLOTS,
        }
    }

    /// Whether the largest command finds room wherever commands wait. Not part of [`check`](Config::check): who
    /// drives a replica may know that its commands are smaller than the limit.
    ///
    /// # Errors
    ///
    /// The first place in which it finds none.
    pub fn check_room(&self) -> Result<(), ConfigError> {
        let command_bytes_max = self.command_bytes_max;
        let places = [
            ("outstanding_bytes_max", self.outstanding_bytes_max),
            ("queue_bytes_max", self.queue_bytes_max),
        ];
        match places.into_iter().find(|(_, value)| *value < command_bytes_max) {
            Some((name, value)) => Err(ConfigError::Room { name, value, command_bytes_max }),
            None => Ok(()),
        }
    }

    /// How long a write may take before the disk is taken to hang.
    pub(crate) fn disk_patience(&self) -> Duration {
        limits::DISK_SILENT_TIMEOUTS * self.election_timeout
    }

    /// The membership that a node begins with: a node that joins has no say in it, whoever is named.
    pub(crate) fn first_membership(&self) -> Result<Membership, ConfigError> {
        if self.joins {
            return Ok(self.membership.without(self.id));
        }
        let membership = self.membership.clone();
        if membership.is_voter(self.id) {
            Ok(membership)
        } else {
            Err(ConfigError::NotAVoter(self.id))
        }
    }

    /// Checks the settings against each other and against the limits of the protocol.
    ///
    /// # Errors
    ///
    /// The first contradiction found.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (election, heartbeat) = (self.election_timeout, self.heartbeat_interval);
        if heartbeat.is_zero() || election < heartbeat * 3 {
            return Err(ConfigError::ElectionTimeout { election, heartbeat });
        }
        let limits = [
            ("batch_bytes_max", self.batch_bytes_max, limits::COMMAND_BYTES_MAX),
            ("batch_commands_max", self.batch_commands_max, limits::OUTSTANDING_COMMANDS_MAX),
            ("command_bytes_max", self.command_bytes_max, limits::COMMAND_BYTES_MAX),
            ("outstanding_bytes_max", self.outstanding_bytes_max, usize::MAX),
            (
                "outstanding_commands_max",
                self.outstanding_commands_max,
                usize::try_from(limits::SESSION_WINDOW).expect("the window fits"),
            ),
            ("queue_bytes_max", self.queue_bytes_max, usize::MAX),
            ("sessions_bytes_max", self.sessions_bytes_max, limits::SESSIONS_BYTES_MAX),
            ("pending_ranges_max", self.pending_ranges_max, usize::MAX),
            ("window_bytes_max", self.window_bytes_max, limits::WINDOW_BYTES_MAX),
            ("backlog_bytes_max", self.backlog_bytes_max, usize::MAX),
            ("cache_bytes_max", self.cache_bytes_max, usize::MAX),
            ("delivery_bytes_max", self.delivery_bytes_max, usize::MAX),
            ("page_bytes_max", self.page_bytes_max, limits::PAGE_BYTES_MAX),
            ("piece_bytes_max", self.piece_bytes_max, limits::PAGE_BYTES_MAX),
        ];
        for (name, value) in [
            ("checkpoint_slots", self.checkpoint_slots),
            ("checkpoint_bytes", self.checkpoint_bytes),
            ("digest_slots", self.digest_slots),
        ] {
            if value == 0 {
                return Err(ConfigError::Limit { name, value: 0, max: usize::MAX });
            }
        }
        for (name, value, max) in limits {
            if value == 0 || value > max {
                return Err(ConfigError::Limit { name, value, max });
            }
        }
        Ok(())
    }
}
