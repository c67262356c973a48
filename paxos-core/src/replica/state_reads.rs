//! Pieces of states that have been asked for, and what for.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{
    Replica,
    context::Context,
    effect::{SnapshotId, StateRead, StateReadId, StateSource},
    outbox::Outbox,
    surroundings,
};
use crate::types::{Instant, NodeId};

/// What has been asked of the storage or a snapshot and not answered.
#[derive(Clone, Debug, Default)]
pub(super) struct StateReads {
    pending: BTreeMap<StateReadId, Purpose>,
    issued: StateReadId,
}

/// What a piece of a state is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To make a checkpoint of it.
    Copy,
    /// To send it to a peer.
    Serve(NodeId),
    /// To go on with what was received before the last restart.
    Verify,
}

impl StateReads {
    /// Asks for the next piece.
    pub(super) fn read(
        &mut self,
        purpose: Purpose,
        source: StateSource,
        cx: &mut Context<'_>,
    ) -> StateReadId {
        self.issued.0 += 1;
        let id = self.issued;
        self.pending.insert(id, purpose);
        let bytes_max = cx.config.piece_bytes_max;
        cx.out.effects().state_reads.push(StateRead { id, source, bytes_max });
        id
    }

    /// Nobody reads a snapshot any more, nor waits for what was asked of it last.
    pub(super) fn let_go(
        &mut self,
        snapshot: SnapshotId,
        pending: Option<StateReadId>,
        out: &mut Outbox,
    ) {
        out.effects().let_go.push(snapshot);
        if let Some(id) = pending {
            self.pending.remove(&id);
        }
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }
}

impl<W> Replica<W> {
    /// A piece has been read. Whoever asked for it may not want it any more.
    pub(super) fn on_state_read(&mut self, now: Instant, id: StateReadId, bytes: Bytes) {
        let Some(purpose) = self.state_reads.pending.remove(&id) else { return };
        let cx = &mut surroundings!(self, now);
        match purpose {
            Purpose::Copy => self.checkpoints.on_piece(id, bytes),
            Purpose::Serve(peer) => {
                self.serving.on_piece(peer, id, bytes, &self.checkpoints, cx);
            }
            Purpose::Verify => self.catchup.fetch().on_verified(id, &bytes),
        }
    }
}
