//! What the cluster replicates, and what comes of it.

use bytes::{Bytes, BytesMut};
use paxos_core::port::{Codec, CodecError};
use prost::Message;

use super::{KvError, RequestLimits, validate};
use crate::proto::{
    etcdserverpb::{CompactionResponse, DeleteRangeResponse, PutResponse, TxnResponse},
    paxoskv,
};

/// A request that may change the store: what is proposed.
pub use crate::proto::paxoskv::command::Request as Command;

/// What a member says of itself when it starts.
pub use crate::proto::paxoskv::MemberAttributes;

/// What a command did. Headers carry the revision only: who answers is known to the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// Of [`Command::Put`].
    Put(PutResponse),
    /// Of [`Command::DeleteRange`].
    DeleteRange(DeleteRangeResponse),
    /// Of [`Command::Txn`].
    Txn(TxnResponse),
    /// Of [`Command::Compact`].
    Compact(CompactionResponse),
    /// Of [`Command::MemberAttributes`].
    MemberAttributes,
}

impl Command {
    /// Checks what can be checked without the store, its size included: to be called before it is
    /// proposed, so that nonsense does not take up a place in the log. The limits are the server's
    /// own; the store accepts everything up to [`RequestLimits::MAX`].
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in etcd's order.
    pub fn validate(&self, limits: RequestLimits) -> Result<(), KvError> {
        match self {
            Command::Put(request) => validate::put(request)?,
            Command::DeleteRange(request) => validate::delete_range(request)?,
            Command::Txn(request) => validate::txn(request, limits)?,
            Command::Compact(_) | Command::MemberAttributes(_) => (),
        }
        if self.encoded_len() > limits.request_bytes_max {
            return Err(KvError::RequestTooLarge);
        }
        Ok(())
    }
}

impl Codec for Command {
    fn encode(&self) -> Result<Bytes, CodecError> {
        let mut buffer = BytesMut::with_capacity(self.encoded_len());
        Command::encode(self, &mut buffer);
        Ok(buffer.freeze())
    }

    fn decode(bytes: &[u8]) -> Result<Command, CodecError> {
        let malformed = |reason: String| CodecError::Malformed(reason);
        let command =
            paxoskv::Command::decode(bytes).map_err(|error| malformed(error.to_string()))?;
        command.request.ok_or_else(|| malformed("a kind of command that is not known".to_owned()))
    }
}
