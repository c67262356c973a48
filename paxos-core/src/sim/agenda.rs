//! What is going to happen, in order of time and then of planning.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use super::{disk::Damage, network::Parcel};
use crate::{
    message::Record,
    replica::{LogReadId, StateRead},
};

/// Something that is going to happen. `life` is the incarnation of the process it belongs to: it
/// comes to nothing if that is gone.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A message arrives.
    Arrival(Parcel),
    /// A process is told that a peer is lost.
    Lost { node: usize, life: u64, peer: usize },
    /// A process looks into its inbox.
    Wake { node: usize, life: u64 },
    /// A deadline of a replica may be due.
    Tick { node: usize, life: u64 },
    /// A process tries to connect to its peers.
    Dial { node: usize, life: u64 },
    /// A node comes that is to join.
    Join { node: usize, rng: fastrand::Rng },
    /// A write ends.
    Written { node: usize, life: u64 },
    /// Records come back from the log.
    LogRead { node: usize, life: u64, id: LogReadId, records: Result<Vec<Record>, Damage> },
    /// A piece of a state comes back.
    StateRead { node: usize, life: u64, read: StateRead },
    /// The state machine has done something.
    Worked { node: usize, life: u64 },
    /// A process is gone in the midst of a write, and starts again later.
    CrashInWrite { node: usize, life: u64, rng: fastrand::Rng },
    /// The power of a machine fails while its log hangs.
    PowerFails { node: usize, life: u64, rng: fastrand::Rng },
    /// A node starts again, and crashes in the midst of that this many times.
    Restart { node: usize, relapses: u32, rng: fastrand::Rng },
    /// A disk is as fast as before, and has room.
    DiskRecovers { node: usize },
    /// A clock runs at its speed again.
    ClockRecovers { node: usize },
    /// A node crashes if it takes part in the transfer of a state, or when it next may.
    Interrupt { node: usize, until: Duration, rng: fastrand::Rng },
    /// A machine is suspended until then.
    Suspend { node: usize, until: Duration },
    /// Whoever leads, but for one node, crashes and starts again then.
    LeaderCrashes { spared: usize, restart_at: Duration, rng: fastrand::Rng },
    /// A client reads at a node.
    Read { node: usize },
    /// A fault strikes.
    Fault,
    /// A client acts.
    Client,
}

impl Happening {
    /// The node to whose process it happens.
    fn process_at(&self) -> Option<usize> {
        match *self {
            Happening::Lost { node, .. }
            | Happening::Wake { node, .. }
            | Happening::Tick { node, .. }
            | Happening::Dial { node, .. }
            | Happening::Written { node, .. }
            | Happening::LogRead { node, .. }
            | Happening::StateRead { node, .. }
            | Happening::Worked { node, .. }
            | Happening::CrashInWrite { node, .. }
            | Happening::PowerFails { node, .. } => Some(node),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Entry {
    at: Duration,
    number: u64,
    happening: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The queue of happenings.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: BinaryHeap<Reverse<Entry>>,
    planned: u64,
}

impl Agenda {
    /// Plans something.
    pub(super) fn plan(&mut self, at: Duration, happening: Happening) {
        self.planned += 1;
        self.entries.push(Reverse(Entry { at, number: self.planned, happening }));
    }

    /// What was planned for the processes that a node has had comes to nothing.
    pub(super) fn forget_lives(&mut self, node: usize) {
        self.entries.retain(|Reverse(entry)| entry.happening.process_at() != Some(node));
    }

    /// The next thing to happen, if it happens by `end`.
    pub(super) fn next(&mut self, end: Duration) -> Option<(Duration, Happening)> {
        if self.entries.peek()?.0.at > end {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| (entry.at, entry.happening))
    }
}
