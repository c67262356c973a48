//! Counts, and has snapshots so that the log may end.

use std::{io::Cursor, sync::Arc};

use ::openraft::{
    Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, Snapshot, SnapshotMeta,
    StorageError, StorageIOError, StoredMembership, impls::EmptyNode, storage::RaftStateMachine,
};

use super::Types;
use crate::{Tally, compare::applied::Applied};

type Membership = StoredMembership<u64, EmptyNode>;

/// The state machine.
pub(super) struct Machine {
    applied: Arc<Applied>,
    state: State,
    snapshot: Option<State>,
}

/// Also what a snapshot holds.
#[derive(Clone, Default)]
struct State {
    tally: Tally,
    last: Option<LogId<u64>>,
    membership: Membership,
}

impl State {
    fn snapshot(&self) -> Snapshot<Types> {
        let meta = SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
            snapshot_id: self.last.map_or(0, |last| last.index).to_string(),
        };
        let numbers = [self.tally.commands, self.tally.bytes].map(u64::to_le_bytes).concat();
        Snapshot { meta, snapshot: Box::new(Cursor::new(numbers)) }
    }
}

impl Machine {
    pub(super) fn new(applied: Arc<Applied>) -> Machine {
        Machine { applied, state: State::default(), snapshot: None }
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, Membership), StorageError<u64>> {
        Ok((self.state.last, self.state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut tally = Tally::default();
        let mut count = 0;
        for entry in entries {
            count += 1;
            self.state.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Normal(payload) => tally.count(payload.len()),
                EntryPayload::Membership(membership) => {
                    self.state.membership = Membership::new(Some(entry.log_id), membership);
                }
                EntryPayload::Blank => {}
            }
        }
        self.state.tally += tally;
        self.applied.add(tally);
        Ok(vec![(); count])
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.snapshot = Some(self.state.clone());
        Builder(self.state.clone())
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, EmptyNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let numbers: Vec<u64> = snapshot
            .into_inner()
            .as_chunks()
            .0
            .iter()
            .map(|number| u64::from_le_bytes(*number))
            .collect();
        let &[commands, bytes] = numbers.as_slice() else {
            let malformed = std::io::Error::other("a snapshot is two numbers");
            return Err(StorageIOError::read_snapshot(Some(meta.signature()), &malformed).into());
        };
        let before = self.state.tally;
        self.applied
            .add(Tally { commands: commands - before.commands, bytes: bytes - before.bytes });
        self.state = State {
            tally: Tally { commands, bytes },
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
        self.snapshot = Some(self.state.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<u64>> {
        Ok(self.snapshot.as_ref().map(State::snapshot))
    }
}

/// Makes the snapshot of a moment.
pub(super) struct Builder(State);

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<u64>> {
        Ok(self.0.snapshot())
    }
}
