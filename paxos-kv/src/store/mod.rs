//! The replicated key-value store: keys with all their revisions, as etcd keeps them.
//!
//! What it guarantees:
//!
//! - **The same commands give the same state and the same answers on every node**, whichever version of
//!   the program it runs (`rules`). There is no clock, no chance and no hash order in it.
//! - **The state on disk is that of exactly the slots up to [`durable`](StateMachine::durable)**:
//!   both are committed in one transaction.
//! - **Reads never wait for writes and see one moment**: a [`Reader`] answers from a snapshot that
//!   stays complete while commands are applied.
//! - **Opening does not scan the data.** The latest value of a key is one look-up.
//! - **What has rotted on disk is not served**: whoever reads it ends the store (`blocks`).
//! - **Members whose states differ find out**: equal states have equal digests (`sums`).
//! - **An idle store writes nothing.**
//!
//! ```text
//! apply ──► active layer ──(full, compaction, flush)──► frozen layer ──(one transaction)──► tables
//! reads ◄────────┴───────────────────────────────────────────┴───────────────────────────────┘
//! ```
//!
//! Commands change memory only. A thread of its own moves what has gathered into the tables, in one
//! durable transaction of some megabytes, so that applying waits for a disk only when it outruns
//! it. What a crash loses of the layers, the log replays.
//!
//! A peer that has missed too much is sent the state, which it puts in place of its own, whole or
//! not at all (`snapshot`).
//!
//! Compaction takes effect with its command; what it makes superfluous leaves the tables in the
//! background, some thousand rows to a transaction, so that it delays nobody.

pub(crate) mod allowance;
mod answer;
mod blocks;
mod command;
#[cfg(test)]
mod corpus;
mod disk;
mod error;
pub(crate) mod export;
mod failure;
pub(crate) mod feed;
mod flusher;
pub(crate) mod import;
mod layer;
pub(crate) mod lease;
mod monitor;
mod past;
mod patient;
mod read;
mod reader;
mod rules;
mod small;
mod snapshot;
mod sort;
mod sums;
#[cfg(test)]
mod tests;
pub mod validate;
pub(crate) mod version;
mod view;
mod write;

use std::{io, path::PathBuf};

use paxos_core::{
    port::{Snapshot, StateMachine},
    types::Slot,
};

pub use answer::Answer;
pub use command::{
    Author, Command, Envelope, ExpireLease, MemberAttributes, NoteLeases, RemainingTime,
    RenewLeases, Response,
};
pub use disk::Owner;
pub use error::{KvError, StoreError};
pub use monitor::Monitor;
pub use reader::Reader;
pub use rules::Rules;
pub use snapshot::StoreSnapshot;
pub use validate::{RequestLimits, is_read_only};

use flusher::Shared;
use sums::Sums;

/// Where the tables are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In a file, made if there is none.
    Redb {
        /// The file.
        file: PathBuf,
        /// Whose state it is. That of anybody else is refused.
        owner: Owner,
    },
    /// In memory, and gone with the store.
    Memory,
}

/// How far the store has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The revision of the last change.
    pub(crate) revision: i64,
    /// Revisions below cannot be read; −1 before the first compaction.
    pub(crate) compacted: i64,
    /// The last slot applied.
    pub(crate) applied: Slot,
    /// What the state adds up to. A state of a version that had none has none either.
    pub(crate) sums: Option<Sums>,
    /// By which new commands are to be carried out.
    pub(crate) rules: Rules,
}

impl Head {
    /// Of a store that nothing has happened to.
    const FRESH: Head = Head {
        revision: 1,
        compacted: -1,
        applied: Slot::ZERO,
        sums: Some(Sums { rows: 0, changes: 0 }),
        rules: Rules::FIRST,
    };
}

/// The state machine.
///
/// Dropping it loses what is not in the tables yet; [`flush`](StateMachine::flush) brings it there.
pub struct Store {
    shared: Shared,
}

impl Store {
    /// Opens a store, or starts one at revision 1.
    ///
    /// # Errors
    ///
    /// If its file is in use, damaged, of a newer version or another member, or cannot be read.
    pub fn open(backend: Backend) -> Result<Store, StoreError> {
        Ok(Store { shared: Shared::open(backend, flusher::Limits::default())? })
    }

    /// A handle that reads, from any thread, for as long as it likes.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.shared.reader()
    }

    /// A handle that tells how the store does, and hurries it at the end.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.shared.monitor()
    }
}

impl StateMachine for Store {
    type Command = Envelope;
    type Response = Result<Answer, KvError>;
    type Snapshot = StoreSnapshot;

    /// Waits while a full disk leaves no place for more. Of a store that has failed nothing comes: to go on
    /// would be to answer otherwise than the other nodes.
    fn apply(&mut self, slot: Slot, commands: Vec<Envelope>) -> Vec<Self::Response> {
        let mut counted = Vec::new();
        let answers = self.shared.apply(slot, |view, head| {
            let execute = |envelope| write::execute(view, head, slot, envelope, &mut counted);
            commands.into_iter().map(execute).collect()
        });
        self.shared.tell(counted);
        // The reason is told by `failure`.
        answers.unwrap_or_default()
    }

    /// Brings what has gathered in memory into the tables first, which takes as long as a
    /// [`flush`](StateMachine::flush): it is asked for when a peer has missed too much, and rarely.
    /// Why it could not, its reader says.
    fn snapshot(&self) -> StoreSnapshot {
        StoreSnapshot::of(self.shared.snapshot())
    }

    /// Durable when it returns. Readers go on meanwhile, and see the one state or the other.
    ///
    /// # Panics
    ///
    /// If `slot` has been applied already.
    fn restore(&mut self, slot: Slot, snapshot: StoreSnapshot) -> io::Result<()> {
        let restored = self.shared.restore(slot, snapshot.into_reader()?);
        self.shared.renew_all_leases();
        restored
    }

    fn durable(&self) -> Option<Slot> {
        Some(self.shared.durable())
    }

    fn digest(&self) -> Option<u64> {
        self.shared.digest()
    }

    /// If there is no room, the next start takes what is missing from the log.
    fn flush(&mut self) {
        if let Err(error @ StoreError::Full { .. }) = self.shared.flush() {
            tracing::warn!(%error, "the next start replays what is not in the tables");
        }
    }

    /// The tables cannot be read or written. The text names the file and the remedy.
    fn failure(&self) -> Option<String> {
        self.shared.failure().map(|error| error.to_string())
    }
}
